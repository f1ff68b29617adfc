"""`grafos new`: the folder of a program that builds, checks and runs as it is."""

from __future__ import annotations

from typing import Annotated

import typer

from grafos_cli.taught import new_command_app, taught, terminal_of

app = new_command_app()


@app.command(
    cls=taught(
        examples=(
            "grafos new photos",
            "grafos new photos --lang zig",
        ),
        next="grafos tasklet build",
    ),
)
def new(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="the program's name, and that of its folder here")],
    lang: Annotated[str, typer.Option(metavar="NAME", help="what its tasklets are written in: rust, zig, c or wat")] = (
        "rust"
    ),
) -> None:
    """Makes a folder with a program of one tasklet: its manifest, its source with tests, and an input to run it with.

    A program in Rust carries its own copy of our crates below vendor/, so that it builds offline.
    """
    from grafos_cli.project import current_folder
    from grafos_cli.scaffolding import make_program

    terminal = terminal_of(ctx)
    made = make_program(current_folder(), name, lang)
    files = sorted(path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file())
    shown = [line for line in files if not line.startswith("vendor/")]
    terminal.emit(
        {"program": name, "language": lang, "folder": str(made), "files": files},
        "\n".join(f"{name}/{line}" for line in shown),
    )
    terminal.note(f"next: cd {name} && grafos tasklet build")
