"""`grafos artifacts`: what a run left, and whether it is what the cell signed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from grafos_cli.taught import new_command_app, taught, terminal_of
from grafos_core.errors import GrafosError

if TYPE_CHECKING:
    from collections.abc import Collection

    from grafos_cli.order_checks import Check
    from grafos_cli.terminal import Terminal
    from grafos_core.receipts import RunReceipt
    from grafos_scheduler.messages import Artifacts

app = new_command_app()


@app.command(
    cls=taught(
        examples=(
            "grafos artifacts RUN_ID",
            "grafos artifacts RUN_ID --verify",
            "grafos artifacts RUN_ID --download results/",
        ),
        next="grafos runs ls",
    ),
)
def artifacts(
    ctx: typer.Context,
    run_id: Annotated[str, typer.Argument(metavar="RUN_ID", help="as deploy run and runs ls print it")],
    folder: Annotated[
        str, typer.Argument(metavar="DIR", help="with --download: where to; default: a folder named like the run")
    ] = "",
    download: Annotated[  # noqa: FBT002 - a flag of the command line
        bool, typer.Option("--download", help="write response.json, output.b64, log.txt and receipt.json")
    ] = False,
    verify: Annotated[  # noqa: FBT002 - a flag of the command line
        bool, typer.Option("--verify", help="check the receipt's signature up to the pinned CA, and every hash")
    ] = False,
) -> None:
    """Fetches what a run left: its response, its output bytes, its log, and the receipt that its cell signed.

    Works from the archive when the cell is gone.
    """
    from grafos_cli.everywhere import Everywhere
    from grafos_cli.fabric import open_default
    from grafos_cli.fictional import emulated_cells
    from grafos_cli.gathering import find_artifacts
    from grafos_cli.project import project_folder

    terminal = terminal_of(ctx)
    if folder and not download:
        raise GrafosError("usage", f"{folder} is one word too many", next=f"to write files there: --download {folder}")
    fabric, project = open_default(terminal), project_folder()
    left, source = find_artifacts(Everywhere(fabric, project, terminal), run_id)
    checked: tuple[RunReceipt, list[Check]] | None = None
    if verify:
        from grafos_cli.verification import verify as verify_receipt

        checked = verify_receipt(left, fabric, project)
    files = _download(left, Path(folder or run_id)) if download else []
    _show(Shown(left, source, checked, files, emulated_cells(fabric)), terminal)


class Shown(NamedTuple):
    """What is told of a run's artifacts. ``emulated`` are the cells of emulators, whose money is fictional."""

    left: Artifacts
    source: str
    checked: tuple[RunReceipt, list[Check]] | None
    files: list[str]
    emulated: Collection[str]


def _show(shown: Shown, terminal: Terminal) -> None:
    import msgspec

    from grafos_cli.runs import run_facts
    from grafos_cli.tables import facts

    left, source, checked, files, emulated = shown
    text = facts([*run_facts(left.run, emulated), ("known from", source)], terminal)
    text += f"\nresponse.json  {left.response_json or '(none)'}\noutput.b64     {left.output_b64 or '(none)'}\n"
    if left.log:
        text += "log            " + left.log.rstrip().replace("\n", "\n               ") + "\n"
    if checked:
        sign = terminal.paint("green", "verified")
        text += "\n" + "".join(f"{sign}  {check.name:<9}  {check.how}\n" for check in checked[1])
    text += "".join(f"wrote {file}\n" for file in files)
    document: dict[str, object] = {
        "run": msgspec.to_builtins(left.run),
        "source": source,
        "response": msgspec.json.decode(left.response_json) if left.response_json else None,
        "output_b64": left.output_b64,
        "log": left.log,
        "files": files,
    }
    if checked:
        document["receipt"] = msgspec.to_builtins(checked[0])
        document["verified"] = [check._asdict() for check in checked[1]]
    terminal.emit(document, text)


def _download(left: Artifacts, folder: Path) -> list[str]:
    """Writes the files; ``config_invalid`` for a folder that cannot be written."""
    import msgspec

    contents = {
        "response.json": left.response_json.encode(),
        "output.b64": left.output_b64.encode(),
        "log.txt": left.log.encode(),
        "receipt.json": msgspec.json.format(msgspec.json.encode(left.receipt), indent=1),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in contents.items():
            (folder / name).write_bytes(data)
    except OSError as error:
        raise GrafosError(
            "config_invalid",
            f"The artifacts cannot be written to {folder}",
            why=error.strerror or str(error),
            next="name another folder: --download DIR",
        ) from error
    return [str(folder / name) for name in contents]
