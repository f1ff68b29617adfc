"""`grafos account`: your account at the orchestrator of somebody else's fabric."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grafos_cli.taught import new_group, taught, terminal_of

if TYPE_CHECKING:
    from grafos_core.guest import Guest
    from grafos_core.invitations import Invitation
    from grafos_scheduler.account_messages import AccountShown
    from grafos_stacks.orchestrators import OrchestratorHome

STDIN = "-"
app = new_group(
    help="Your account at somebody else's orchestrator: sign in by invitation, and sign what you run.",
    examples=("grafos account login invitation.txt", "grafos account show"),
    next="grafos account login invitation.txt",
)


@app.command(
    "login",
    cls=taught(
        examples=("grafos account login invitation.txt", "grafos account login - < invitation.txt"),
        next="grafos account verify",
    ),
)
def login(
    ctx: typer.Context,
    invitation: Annotated[
        str, typer.Argument(metavar="FILE", help="the invitation that an operator handed you; - reads it from stdin")
    ],
) -> None:
    """Signs in at an orchestrator with an invitation, which is for one use.

    A key is made here that never leaves this machine, and exchanged for a certificate; the orchestrator's CA is pinned
    by the invitation. From then on deploy, runs and artifacts work there. A fabric of your own stays as it is.
    """
    import time

    from grafos_cli.tables import facts
    from grafos_stacks.account_home import sign_in_with

    terminal = terminal_of(ctx)
    given = _invitation(invitation)
    guest = sign_in_with(given, time.time())
    account = guest.account
    told = [
        ("account", account.text),
        ("fabric", account.fabric),
        ("orchestrator", given.url),
        ("home", str(guest.home)),
    ]
    text = "\nYou are signed in. Sign what you run, so that nobody else can order at your tenant's cost:\n"
    document = {"account": _who(guest), "url": given.url, "home": str(guest.home)}
    terminal.emit(document, facts(told, terminal) + f"{text}\n  grafos account verify\n")


@app.command(
    "show", cls=taught(examples=("grafos account show", "grafos account show --json"), next="grafos account verify")
)
def show(ctx: typer.Context) -> None:
    """Shows who you are at the orchestrator, what you may do there, and what your tenant has left.

    Your credentials end when you stay away for as long as it says; use in the second half of that time renews them.
    """
    import msgspec

    from grafos_cli.moments import moment_text
    from grafos_cli.tables import facts
    from grafos_core.money import format_cents
    from grafos_stacks.orchestrators import OrchestratorHome
    from grafos_stacks.records import tenant_name

    terminal = terminal_of(ctx)
    guest = _signed_in()
    home, who = OrchestratorHome(guest), tenant_name(guest.account.tenant)
    with home.client(who) as client:
        shown = client.account()
    record, tenant, ends_at = home.known(), shown.tenant, home.ends_at(who)
    left = tenant.budget_micro_cents - tenant.held_micro_cents - tenant.spent_micro_cents
    told = [
        ("account", guest.account.text),
        ("fabric", guest.account.fabric),
        ("orchestrator", f"{record.name} at {record.url}"),
        ("invited by", shown.account.invited_by),
        ("budget", f"{format_cents(left)} left of {format_cents(tenant.budget_micro_cents)}, for the whole tenant"),
        ("rights", ", ".join(shown.rights)),
        ("signing key", _signing_text(shown)),
        ("credentials", f"until {moment_text(ends_at)}; they are renewed by use"),
    ]
    document = {
        "account": _who(guest),
        "orchestrator": {"name": record.name, "url": record.url},
        "invited_by": shown.account.invited_by,
        "tenant": msgspec.to_builtins(tenant),
        "rights": shown.rights,
        "signing_key": fingerprint_of(shown.account.signing_key_pem),
        "verified_at": shown.account.verified_at,
        "signs": shown.signs,
        "ends_at": ends_at,
    }
    terminal.emit(document, facts(told, terminal))


@app.command(
    "verify",
    cls=taught(
        examples=("grafos account verify", "grafos account verify --tenant acme"),
        next="grafos deploy run --provider any",
    ),
)
def verify(
    ctx: typer.Context,
    tenant: Annotated[
        str, typer.Option(metavar="NAME", help="of the orchestrator of a fabric of your own: which tenant")
    ] = "",
) -> None:
    """Makes your signing key and registers it, by a proof that you have it, bound to your certificate.

    From then on each run that you ask for is signed, and the orchestrator runs nothing at your tenant's cost that none
    of its people signed. The key is a file that only you can read. Asked again, the outcome is the same.
    """
    from grafos_cli.moments import moment_text
    from grafos_cli.tables import facts
    from grafos_stacks.records import tenant_name

    terminal = terminal_of(ctx)
    home, named = _account_of(tenant)
    view = home.verify(tenant_name(named))
    found = fingerprint_of(view.signing_key_pem)
    told = [
        ("account", f"{view.tenant}/{view.name}"),
        ("signing key", found),
        ("registered", moment_text(view.verified_at)),
    ]
    text = f"\nWhatever runs at the cost of tenant {view.tenant} is signed from now on, by each of its people.\n"
    document = {
        "account": {"tenant": view.tenant, "name": view.name},
        "signing_key": found,
        "verified_at": view.verified_at,
    }
    terminal.emit(document, facts(told, terminal) + text)


@app.command(
    "logout",
    cls=taught(
        examples=("grafos account logout", "grafos account logout --forget"),
        next="grafos account login invitation.txt",
    ),
)
def logout(
    ctx: typer.Context,
    forget: Annotated[  # noqa: FBT002 - a flag of the command line
        bool, typer.Option("--forget", help="remove what is here without telling the orchestrator")
    ] = False,
) -> None:
    """Signs out: the orchestrator forgets your key at once, and all that was kept of it here is removed.

    What you have running goes on. To come back you need a fresh invitation. With --forget the key is removed here
    alone, for an orchestrator that cannot be reached: tell its operator.
    """
    from grafos_stacks.account_home import forget_account, sign_out

    terminal = terminal_of(ctx)
    if forget:
        forget_account()
        text = "Removed here; the orchestrator was not told. Its operator can: grafos admin revoke-account\n"
        terminal.emit({"account": None, "revoked": False}, text)
        return
    guest = _signed_in()
    try:
        counted = sign_out(guest)
    except Exception as error:
        _hint_at_forgetting(error)
        raise
    text = f"Signed out of {guest.account.fabric}; your key is worth nothing there any more.\n"
    if not counted:
        text = f"Signed out of {guest.account.fabric}; your credentials were worth nothing there before.\n"
    terminal.emit({"account": _who(guest), "revoked": True}, text)


def fingerprint_of(key_pem: str) -> str:
    """By which people tell one signing key from another; empty for none."""
    from grafos_core import trust

    return trust.key_sha256(trust.public_key_from_pem(key_pem))[:32] if key_pem else ""


def _signed_in() -> Guest:
    from grafos_core.errors import GrafosError
    from grafos_core.guest import open_guest

    guest = open_guest()
    if guest is None:
        raise GrafosError(
            "credentials_missing",
            "You are not signed in to anybody's orchestrator",
            next="ask its operator for an invitation (grafos admin invite), then: grafos account login FILE",
        )
    return guest


def _account_of(tenant: str) -> tuple[OrchestratorHome, str]:
    """Where to register a key, and for which tenant: the account that is signed in, else the fabric of one's own."""
    from grafos_cli.opening import open_own
    from grafos_core.guest import has_own_fabric, open_guest
    from grafos_stacks.orchestrators import DEFAULT_TENANT, OrchestratorHome

    guest = open_guest()
    if guest is not None and tenant in ("", guest.account.tenant):
        return OrchestratorHome(guest), guest.account.tenant
    home = OrchestratorHome(open_own()) if has_own_fabric() else None
    if home is None or home.record() is None:
        return OrchestratorHome(_signed_in()), tenant
    return home, tenant or DEFAULT_TENANT


def _invitation(source: str) -> Invitation:
    """What the file says, or stdin. The line itself is not taken: whoever lists processes would see it."""
    import sys

    from grafos_core import invitations
    from grafos_core.errors import GrafosError

    if source.startswith(invitations.MARK):
        raise GrafosError(
            "usage",
            "An invitation is a secret, and a command line can be seen by others",
            next="put it into a file: grafos account login FILE; or paste it into: grafos account login -",
        )
    try:
        if source == STDIN:
            return invitations.read(sys.stdin.readline(invitations.LINE_CHARACTERS_MAX + 1))
        with Path(source).open(encoding="utf-8", errors="replace") as file:
            return invitations.read(file.read(invitations.LINE_CHARACTERS_MAX + 1))
    except OSError as error:
        raise GrafosError(
            "usage",
            f"The invitation {source[:200]} cannot be read",
            why=error.strerror or str(error),
            next="name a file",
        ) from error


def _hint_at_forgetting(error: Exception) -> None:
    from grafos_core.errors import GrafosError

    if isinstance(error, GrafosError) and error.code == "scheduler_unreachable":
        error.next = "try again when it answers, or remove your key here alone: grafos account logout --forget"


def _who(guest: Guest) -> dict[str, str]:
    account = guest.account
    return {"fabric": account.fabric, "tenant": account.tenant, "name": account.name}


def _signing_text(shown: AccountShown) -> str:
    if shown.account.signing_key_pem:
        return f"{fingerprint_of(shown.account.signing_key_pem)}; your runs are signed"
    return "none; the tenant's runs must be signed: grafos account verify" if shown.signs else "none"
