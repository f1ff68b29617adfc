"""`grafos admin attestation-roots`: what the orchestrator verifies the clouds' word for their machines with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grafos_cli.taught import new_group, taught, terminal_of

if TYPE_CHECKING:
    from grafos_cli.terminal import Terminal
    from grafos_scheduler.enrolment_messages import AttestationRoots, AttestationRootsView
    from grafos_stacks.orchestrators import OrchestratorHome

FILE_BYTES_MAX = 512 * 1024
"""As much as an orchestrator takes at once."""
NONE = "none"

app = new_group(
    help="What a cloud's word for its machines is verified with, where they enrol without a secret (--keyless).",
    examples=(
        "grafos admin attestation-roots list",
        "grafos admin attestation-roots set gcp --file certs.json --source https://www.googleapis.com/oauth2/v1/certs",
    ),
    next="grafos admin attestation-roots list",
)


@app.command(
    "list",
    cls=taught(
        examples=("grafos admin attestation-roots list", "grafos admin attestation-roots list --json | jq '.roots[0]'"),
        next="grafos admin attestation-roots set gcp --file FILE",
        streams="roots",
    ),
)
def list_roots(ctx: typer.Context) -> None:
    """Lists what the orchestrator has of each cloud: how many, from where, of which day, and who set them."""
    import msgspec

    from grafos_cli.tables import table
    from grafos_connectors.registry import PROVIDERS
    from grafos_stacks.records import OPERATOR

    terminal = terminal_of(ctx)
    with known_home(terminal).client(OPERATOR) as client:
        found = [client.attestation_roots(provider) for provider in PROVIDERS]
    rows = [
        [one.provider, str(len(one.names)), one.dated or NONE, one.set_by or NONE, one.source, one.why_empty or "-"]
        for one in found
    ]
    text = table(("CLOUD", "ROOTS", "DATED", "SET BY", "SOURCE", "WHY NONE"), rows, terminal, " r", spare=("WHY NONE",))
    terminal.emit({"roots": [msgspec.to_builtins(one) for one in found]}, text)


@app.command(
    "set",
    cls=taught(
        examples=(
            "grafos admin attestation-roots set azure --file azure-roots.json",
            "grafos admin attestation-roots set gcp --file certs.json --source URL --dated 2026-11-21",
        ),
        next="grafos cloud provision gcp --keyless",
    ),
)
def set_roots(
    ctx: typer.Context,
    provider: Annotated[str, typer.Argument(metavar="PROVIDER", help="aws, azure or gcp")],
    file: Annotated[str, typer.Option(metavar="FILE", help="JSON: PEM by name, or that as pems with source and dated")],
    source: Annotated[
        str, typer.Option(metavar="TEXT", help="where they were taken from, if the file says nothing")
    ] = "",
    dated: Annotated[str, typer.Option(metavar="DAY", help="when, as 2026-11-21, if the file says nothing")] = "",
) -> None:
    """Sets what a cloud's word is verified with, in place of all that was set before; nothing is ever fetched.

    Names are a region's on aws, key ids on gcp, any on azure. Google's keys change every few days, and are published as
    such a file. An emulated cloud writes its own to identity-roots/ in its state folder.
    """
    import msgspec

    from grafos_cli.accounts import provider_named
    from grafos_cli.tables import facts
    from grafos_stacks.records import OPERATOR

    terminal = terminal_of(ctx)
    provider_named(provider)
    given = _read(Path(file), source, dated)
    with known_home(terminal).client(OPERATOR) as client:
        view = client.set_attestation_roots(provider, given)
    terminal.emit({"roots": msgspec.to_builtins(view)}, facts(_told(view), terminal))


def _told(view: AttestationRootsView) -> list[tuple[str, str]]:
    return [
        ("cloud", view.provider),
        ("roots", ", ".join(view.names)),
        ("source", f"{view.source}, {view.dated}"),
        ("set by", view.set_by),
    ]


def known_home(terminal: Terminal) -> OrchestratorHome:
    """The fabric's orchestrator; ``not_found`` if it has none."""
    from grafos_cli.fabric import open_default
    from grafos_stacks.orchestrators import OrchestratorHome

    home = OrchestratorHome(open_default(terminal))
    home.known()
    return home


def _read(file: Path, source: str, dated: str) -> AttestationRoots:
    """What the file holds, with what the flags say where it is silent; ``config_invalid`` or ``usage``."""
    import msgspec

    from grafos_core.errors import GrafosError
    from grafos_scheduler.enrolment_messages import AttestationRoots

    try:
        with file.open("rb") as opened:
            held: dict[str, Any] = msgspec.json.decode(opened.read(FILE_BYTES_MAX), type=dict[str, Any])
    except (OSError, msgspec.DecodeError) as error:
        raise GrafosError(
            "config_invalid", "the roots cannot be read", where=str(file), why=str(error), next="name a file of JSON"
        ) from error
    document = held if "pems" in held else {"pems": held}
    document |= {name: word for name, word in (("source", source), ("dated", dated)) if word}
    if missing := [name for name in ("source", "dated") if not document.get(name)]:
        raise GrafosError(
            "usage",
            f"nothing says where the roots come from and when: {' and '.join(missing)}",
            where=str(file),
            next="add --source URL --dated YYYY-MM-DD",
        )
    known = {name: document[name] for name in ("source", "dated", "pems")}
    try:
        return msgspec.convert(known, AttestationRoots)
    except msgspec.ValidationError as error:
        raise GrafosError(
            "config_invalid",
            "the file does not hold roots",
            where=str(file),
            why=str(error),
            next='write it like {"source": "https://…", "dated": "2026-11-21", "pems": {"name": "-----BEGIN …"}}',
        ) from error
