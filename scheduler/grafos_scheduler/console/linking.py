"""What the route of sign-in links does, and what the audit log says of links."""

from __future__ import annotations

import hashlib
import logging

from grafos_core.audit_chain import AuditKind
from grafos_scheduler.console.messages import ConsoleLink
from grafos_scheduler.console.paths import SIGN_IN
from grafos_scheduler.events import Witnessed
from grafos_scheduler.handlers import Request, Services

log = logging.getLogger("grafos.security")


async def make_link(services: Services, request: Request) -> ConsoleLink:
    """A link for the operator who asks."""
    caller, now = request.who, services.shell.clock.now()
    code, valid_until = services.sessions.make_link(caller.name, caller.key_sha256, caller.not_after, now)
    await services.shell.handle(
        _event(AuditKind.CONSOLE_LINK_MADE, caller.text, caller.name, request.client), by=caller.text
    )
    log.info("operator %s at %s made a sign-in link for the console", caller.name, request.client)
    return ConsoleLink(SIGN_IN, code, valid_until, hashlib.sha256(services.credentials.server_der).hexdigest())


async def note_opened(services: Services, operator: str, client: str) -> None:
    """A link was used."""
    log.warning("operator %s signed in to the console by link, from %s", operator, client)
    who = f"operator/{operator}"
    await services.shell.handle(_event(AuditKind.CONSOLE_OPENED, who, operator, client), by=who)


def _event(kind: AuditKind, who: str, subject: str, client: str) -> Witnessed:
    return Witnessed(kind, who, subject, details=(("from", client),))
