"""`grafos fabric console`: a link that signs a browser in to the web console of the fabric's orchestrator."""

from __future__ import annotations

from typing import Annotated

import typer

from grafos_cli.taught import taught, terminal_of

CONSOLE = taught(
    examples=("grafos fabric console", "grafos fabric console --open", "grafos fabric console --json | jq -r .url"),
    next="grafos provider list",
)


def console(
    ctx: typer.Context,
    open_it: Annotated[  # noqa: FBT002 - a flag of the command line
        bool, typer.Option("--open", help="open it in this machine's browser")
    ] = False,
) -> None:
    """Prints a link to the web console: fleet, readiness, costs and security events, live.

    It signs one browser in, once, within two minutes, for eight hours at most. A browser does not know the
    orchestrator's CA and will say so: compare the fingerprint of the certificate that it shows with the one below.
    """
    from grafos_cli.fabric import open_default
    from grafos_cli.moments import moment_text
    from grafos_cli.tables import facts
    from grafos_stacks.orchestrators import OrchestratorHome
    from grafos_stacks.records import OPERATOR

    terminal = terminal_of(ctx)
    home = OrchestratorHome(open_default(terminal))
    url = home.known().url
    with home.client(OPERATOR) as client:
        link = client.make_console_link()
    document = {
        "url": f"{url}{link.path}#{link.code}",
        "code": link.code,
        "expires_at": link.valid_until,
        "certificate_sha256": link.certificate_sha256,
        "ca_file": str(home.ca_file),
    }
    told = [
        ("console", document["url"]),
        ("for", f"one browser, once, until {moment_text(link.valid_until, seconds=True)}"),
        ("certificate", f"SHA-256 {_as_browsers_write(link.certificate_sha256)}"),
        ("its CA", str(home.ca_file)),
    ]
    terminal.emit(document, facts([(name, str(value)) for name, value in told], terminal))
    if open_it:
        _open(str(document["url"]))


def _as_browsers_write(fingerprint: str) -> str:
    digits = fingerprint.upper()
    return ":".join(digits[at : at + 2] for at in range(0, len(digits), 2))


def _open(url: str) -> None:
    import webbrowser

    from grafos_core.errors import GrafosError

    if not webbrowser.open(url):
        raise GrafosError("tool_missing", "No browser could be opened here", next="open the link above by hand")
