"""`grafos fabric init` and `grafos fabric claim`: a fabric with an orchestrator on a machine of one's own."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grafos_cli.taught import taught, terminal_of

if TYPE_CHECKING:
    from grafos_core.fabric import Fabric
    from grafos_stacks.orchestrators import OrchestratorHome, OrchestratorRecord

BIND = "127.0.0.1:8443"
INIT = taught(
    examples=("grafos fabric init", "grafos fabric init --bind 203.0.113.7:8443 --provider gcp --provider azure"),
    next="grafos fabric claim https://127.0.0.1:8443",
)
CLAIM = taught(
    examples=(
        "grafos fabric claim https://127.0.0.1:8443",
        "grafos fabric claim https://203.0.113.7:8443 --secret-file claim-secret",
    ),
    next="grafos cloud bootstrap-cell --provider gcp --cell-id gcp-1",
)


def init(
    ctx: typer.Context,
    bind: Annotated[
        str, typer.Option(metavar="ADDR:PORT", help="where the orchestrator shall answer; its cells dial it there")
    ] = BIND,
    provider: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="whose cells it takes; repeatable; default: aws, azure, gcp"),
    ] = None,
    folder: Annotated[
        str, typer.Option(metavar="DIR", help="where the orchestrator shall keep its state and its keys")
    ] = "orchestrator",
    replace: Annotated[  # noqa: FBT002 - a flag of the command line
        bool, typer.Option("--replace", help="for one in place of the orchestrator that the fabric has")
    ] = False,
) -> None:
    """Makes the fabric's key and ledger, and prints how to start an orchestrator for it on a machine of yours.

    What is there already stays. The secret that the orchestrator is claimed with is a file that only you can read; copy
    it to the orchestrator's machine if that is another one.
    """
    from grafos_cli.opening import open_own
    from grafos_cli.tables import facts
    from grafos_stacks.orchestrators import OrchestratorHome

    terminal = terminal_of(ctx)
    fabric = open_own(terminal.note)
    home = OrchestratorHome(fabric)
    told = [("fabric", f"{fabric.name} ({fabric.id})"), ("home", str(fabric.home))]
    document = {"fabric": {"name": fabric.name, "id": fabric.id, "home": str(fabric.home)}}
    if (record := home.record()) and not replace:
        told.append(("orchestrator", f"{record.name} at {record.url}"))
        text = "\nA cell joins it with:  grafos cloud bootstrap-cell --provider NAME --cell-id ID\n"
        terminal.emit({**document, **_of(record), "secret_file": "", "command": []}, facts(told, terminal) + text)
        return
    command = _command(fabric, home, _address(bind), provider or [], Path(folder).absolute())
    home.make_secret()
    told.append(("claim secret", f"{home.secret_file} (0600, for one claim)"))
    more = " --replace" if record else ""
    text = (
        f"\nStart the orchestrator on the machine that cells shall reach, with a copy of that secret:\n\n"
        f"  {shlex.join(command)}\n\nThen take possession of it:\n\n  grafos fabric claim https://{bind}{more}\n"
    )
    made = {
        "orchestrator": _of(record)["orchestrator"] if record else None,
        "secret_file": str(home.secret_file),
        "command": command,
    }
    terminal.emit({**document, **made}, facts(told, terminal) + text)


def claim(
    ctx: typer.Context,
    url: Annotated[str, typer.Argument(metavar="URL", help="https://ADDR:PORT, where it answers")],
    secret_file: Annotated[
        str, typer.Option(metavar="FILE", help="the secret that it was started with; default: what fabric init made")
    ] = "",
    replace: Annotated[  # noqa: FBT002 - a flag of the command line
        bool,
        typer.Option("--replace", help="in place of the orchestrator that the fabric has, of which nothing is asked"),
    ] = False,
) -> None:
    """Takes possession of an orchestrator: proves both sides to each other, pins its CA, creates the tenant `default`.

    That tenant may spend 2,000 cents there, over all providers together. The fabric's ledger moves there with all that
    it holds, and is closed here. Asked again, the outcome is the same, and what was cut short is gone on with; an
    orchestrator that got another address is known by its CA.

    A home that has nothing but the fabric's key (grafos fabric key import) gets into an orchestrator that the fabric
    claimed before, and works with the ledger that is there. The home before is out at once.
    """
    from grafos_cli.ledger_home import ledger_document, ledger_text
    from grafos_cli.opening import open_own
    from grafos_cli.tables import facts
    from grafos_stacks.claiming import take_orchestrator
    from grafos_stacks.ledger_moves import check_ledger_is_here, move_ledger
    from grafos_stacks.lost_ledger import catch_up_ledger

    terminal = terminal_of(ctx)
    fabric = open_own(terminal.note)
    secret = Path(secret_file) if secret_file else None
    if replace:
        check_ledger_is_here(fabric)
    record = take_orchestrator(fabric, url.rstrip("/"), secret, replace=replace)
    place = move_ledger(fabric)
    for note in catch_up_ledger(fabric):
        terminal.note(note)
    told = [
        ("orchestrator", f"{record.name} at {record.url}"),
        ("fabric", f"{fabric.name} ({fabric.id})"),
        ("ledger", ledger_text(place)),
    ]
    text = "\nIt obeys this fabric. A cell joins with:  grafos cloud bootstrap-cell --provider NAME --cell-id ID\n"
    document = {**_of(record), "fabric": {"name": fabric.name, "id": fabric.id}, "ledger": ledger_document(place)}
    terminal.emit(document, facts(told, terminal) + text)


def _of(record: OrchestratorRecord) -> dict[str, object]:
    import msgspec

    return {"orchestrator": msgspec.to_builtins(record)}


def _address(bind: str) -> str:
    """An IP address and a port, as the orchestrator takes them; ``usage``."""
    import ipaddress

    from grafos_core.errors import GrafosError

    host, _, port = bind.rpartition(":")
    try:
        ipaddress.ip_address(host.strip("[]"))
        if not 0 < int(port) <= 65535:
            raise ValueError(f"{port} is no port")
    except ValueError as error:
        raise GrafosError(
            "usage",
            f"{bind[:60]!r} is no address and port",
            where="--bind",
            why=str(error),
            next=f"write it like {BIND}",
        ) from error
    return bind


def _command(fabric: Fabric, home: OrchestratorHome, bind: str, providers: list[str], folder: Path) -> list[str]:
    """What starts the orchestrator."""
    from grafos_core.ids import check_name

    named = [word for name in providers for word in ("--provider", check_name("provider", name))]
    return [
        *("grafos-scheduler", "--mode", "orchestrator", "--auth-mode", "mtls+token", "--bind", bind, *named),
        *("--state", str(folder / "state"), "--trust", str(folder / "trust")),
        *("--fabric", str(fabric.id), "--claim-secret-file", str(home.secret_file)),
    ]
