"""The blobs that boot diagnostics points to: the text of a machine's serial console, behind a ticket in the query."""

from __future__ import annotations

from urllib.parse import parse_qs

from grafos_emulators.azure.account import AzureAccount
from grafos_emulators.azure.machines import SERIAL_PREFIX
from grafos_emulators.http import Request, Response

_XML = {"content-type": "application/xml", "x-ms-error-code": "AuthenticationFailed"}


def answer(account: AzureAccount, request: Request) -> Response:
    """The log as it is now. A wrong ticket, or none, is refused as blob storage refuses it: 403 and no more."""
    vm_id, _, name = request.path.removeprefix(SERIAL_PREFIX).partition("/")
    sent = parse_qs(request.query).get("sig", [""])[0]
    with account.world.lock:
        machine = account.launched.get(vm_id)
        ticket = machine.runtime.get("ticket", "") if machine else ""
        if ticket and sent == ticket:
            if name != "serialconsole.log" or request.method not in {"GET", "HEAD"}:
                return Response(404)  # there is no screenshot of a machine without a screen
            return Response(200, account.world.console(vm_id), {"content-type": "text/plain; charset=utf-8"})
    return Response(403, b"<Error><Code>AuthenticationFailed</Code></Error>", _XML)
