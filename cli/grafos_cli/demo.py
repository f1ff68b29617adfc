"""`grafos demo`: the README's commands, one by one, as a person would type them, on an emulated cloud.

Every command is run for real, in a process of its own, in a fresh project with a fresh fabric below the repository's
ignored folder. Whatever happens, nothing of it keeps running.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from grafos_cli.taught import new_command_app, taught, terminal_of

if TYPE_CHECKING:
    from pathlib import Path

app = new_command_app()


@app.command(
    cls=taught(examples=("grafos demo", "grafos demo --keep"), next="grafos dev up"),
)
def demo(
    ctx: typer.Context,
    keep: Annotated[bool, typer.Option("--keep", help="keep the demo's folder, to look around")] = False,  # noqa: FBT002
) -> None:
    """Shows the whole path on three emulated clouds, without any account, in a minute or two.

    One module runs on all three under one budget; each answer is signed by its cell; everything is taken down with
    proof. The program is in Rust; where there is none, its twin in Zig runs.
    """
    from grafos_cli.showing import Show, closing_document, closing_text

    terminal = terminal_of(ctx)
    show = Show(_repository(), terminal)
    closing = show.play()
    if not keep:
        show.remove_folder()
    elif not terminal.json:
        terminal.note(f"kept: {show.folder}")
    terminal.emit(closing_document(closing), closing_text(closing, terminal))


def _repository() -> Path:
    """The clone around the current folder, since the demo runs its recipe."""
    from pathlib import Path

    from grafos_cli.showing import RECIPE
    from grafos_core.errors import GrafosError

    here = Path.cwd().resolve()
    for folder in (here, *here.parents):
        if (folder / RECIPE / "grafos.toml").is_file():
            return folder
    raise GrafosError(
        "usage",
        "The demo runs a recipe of the repository, and there is none around this folder",
        where=str(here),
        next="go to a clone of grafos, then: make demo",
    )
