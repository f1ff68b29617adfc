"""`grafos admin`: the people who work with the fabric's orchestrator without being its operator."""

from __future__ import annotations

import ipaddress
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from grafos_cli.taught import taught, terminal_of

if TYPE_CHECKING:
    from grafos_cli.terminal import Terminal
    from grafos_scheduler.account_messages import AccountView
    from grafos_stacks.orchestrators import OrchestratorHome

LASTS = "1h"
INVITE = taught(
    examples=(
        "grafos admin invite --tenant acme",
        "grafos admin invite --tenant acme --name bea --out invitation.txt --for 8h",
    ),
    next="grafos admin list-accounts",
)
LIST = taught(
    examples=("grafos admin list-accounts", "grafos admin list-accounts --json | jq -r '.accounts[].name'"),
    next="grafos admin revoke-account --tenant acme --name bea",
    streams="accounts",
)
REVOKE = taught(
    examples=(
        "grafos admin revoke-account --tenant acme --name bea",
        "grafos admin revoke-account --tenant acme --name bea --yes",
    ),
    next="grafos admin list-accounts",
)

TenantName = Annotated[str, typer.Option("--tenant", metavar="NAME", help="the tenant at whose cost the person runs")]
PersonName = Annotated[
    str,
    typer.Option("--name", metavar="NAME", help="how the person is called within the tenant; default: as the tenant"),
]


def invite(
    ctx: typer.Context,
    tenant: TenantName,
    name: PersonName = "",
    out: Annotated[
        str, typer.Option(metavar="FILE", help="write it there, for you alone to read; default: print it")
    ] = "",
    lasts: Annotated[str, typer.Option("--for", metavar="TIME", help="how long it may be used: 15m, 8h, 1d")] = LASTS,
) -> None:
    """Invites one person to work with the orchestrator as one of a tenant: one line, for one use, soon.

    Hand it over in a way that nobody else sees: whoever signs in with it first is that person, by
    `grafos account login FILE`. What that person runs is at the tenant's cost, within its budget and its quota.
    """
    from grafos_cli.moments import moment_text
    from grafos_cli.sizes import read_duration
    from grafos_cli.tables import facts
    from grafos_core import invitations
    from grafos_core.ids import check_name
    from grafos_scheduler.account_messages import InvitationAsked
    from grafos_stacks.records import OPERATOR

    terminal = terminal_of(ctx)
    check_name("tenant", tenant)
    name = check_name("name", name or tenant)
    valid_s = _within(read_duration("--for", lasts))
    home = _home(terminal)
    with home.client(OPERATOR) as client:
        granted = client.invite(InvitationAsked(tenant, name, valid_s))
    url = home.known().url
    if _is_of_this_machine(url):
        terminal.note(f"note: {url} can be reached from this machine alone")
    line = invitations.written(
        invitations.Invitation(
            url, granted.ca_pem, granted.token, home.fabric_id, tenant, name, granted.made_at, granted.valid_until
        )
    )
    if out:
        _write(Path(out), line)
    until = moment_text(granted.valid_until)
    told = [("account", f"{tenant}/{name}"), ("for one use", f"until {until}"), ("written to", out)]
    then = f"\nOn the other machine:  grafos account login {Path(out).name}\n"
    text = facts(told, terminal) + then if out else f"{line}\n"
    document = {
        "tenant": tenant,
        "name": name,
        "lapses_at": granted.valid_until,
        "file": out,
        "invitation": "" if out else line,
    }
    terminal.emit(document, text)


def list_accounts(ctx: typer.Context) -> None:
    """Lists the people of all tenants of the orchestrator, and the invitations that nobody used yet."""
    import msgspec

    from grafos_cli.moments import when_text
    from grafos_cli.tables import table
    from grafos_stacks.records import OPERATOR

    terminal = terminal_of(ctx)
    with _home(terminal).client(OPERATOR) as client:
        found = client.accounts()
    now = time.time()
    rows = [
        [
            view.tenant,
            view.name,
            f"signed in {when_text(view.since, now)}"
            if view.since
            else f"invited, lapses {when_text(view.lapses_at, now)}",
            view.invited_by or "-",
            "yes" if view.signing_key_pem else "no",
        ]
        for view in found
    ]
    head = ("TENANT", "NAME", "STATE", "INVITED BY", "SIGNS")
    text = table(head, rows, terminal, spare=("INVITED BY",)) if rows else "No account.\n"
    terminal.emit({"accounts": [msgspec.to_builtins(_told(view)) for view in found]}, text)


def revoke_account(
    ctx: typer.Context,
    tenant: TenantName,
    name: PersonName = "",
    yes: Annotated[bool, typer.Option("--yes", help="agree without being asked")] = False,  # noqa: FBT002
) -> None:
    """Puts a person out: the key is worth nothing from then on. An unused invitation is taken back.

    What the person has running goes on, at the tenant's cost; `grafos runs cancel` ends it.
    """
    import msgspec

    from grafos_stacks.records import OPERATOR

    terminal = terminal_of(ctx)
    name = name or tenant
    home = _home(terminal)
    home.known()
    if not yes:
        terminal.confirm(f"Put {name} of tenant {tenant} out?", "--yes")
    with home.client(OPERATOR) as client:
        view = client.remove_account(tenant, name)
    what = f"{tenant}/{name} is out; the key is worth nothing."
    text = what if view.key_sha256 else f"{tenant}/{name} is not in, and no invitation for that name counts any more."
    terminal.emit({"account": msgspec.to_builtins(_told(view))}, f"{text}\n")


def _home(terminal: Terminal) -> OrchestratorHome:
    from grafos_cli.fabric import open_default
    from grafos_stacks.orchestrators import OrchestratorHome

    return OrchestratorHome(open_default(terminal))


def _told(view: AccountView) -> AccountView:
    """Without what only a program that verifies orders needs."""
    from msgspec.structs import replace

    return replace(view, proof=None)


def _within(seconds: float) -> float:
    from grafos_core.errors import GrafosError
    from grafos_scheduler.account_messages import INVITED_S_MAX

    if not 0 < seconds <= INVITED_S_MAX:
        raise GrafosError(
            "usage", "An invitation lasts a day at most", where="--for", next="write it like 15m, 8h or 1d"
        )
    return seconds


def _is_of_this_machine(url: str) -> bool:
    try:
        return ipaddress.ip_address(urlsplit(url).hostname or "").is_loopback
    except ValueError:
        return False


def _write(file: Path, line: str) -> None:
    """A private file that was not there; ``config_invalid``."""
    from grafos_core.errors import GrafosError
    from grafos_core.paths import write_private_once

    try:
        written = write_private_once(file.absolute(), line.encode() + b"\n")
    except OSError as error:
        written, why = False, error.strerror or str(error)
    else:
        why = "" if written else "there is such a file already"
    if not written:
        raise GrafosError(
            "config_invalid",
            "The invitation cannot be written",
            where=str(file),
            why=why,
            next="name another file: --out",
        )
