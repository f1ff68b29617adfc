"""`grafos tasklet`: from sources to modules."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from grafos_cli.taught import new_group, taught, terminal_of

app = new_group(
    help="Builds the tasklets of a program to WASM, the same bytes wherever they are built.",
    examples=("grafos tasklet build", "grafos tasklet build cookbook/png-metadata"),
    next="grafos tasklet build",
)


@app.command(
    "build",
    cls=taught(
        examples=(
            "grafos tasklet build",
            "grafos tasklet build cookbook/png-metadata",
            "grafos tasklet build --json | jq -r '.tasklets[].module_sha256'",
        ),
        next="grafos validate",
    ),
)
def build(
    ctx: typer.Context,
    program: Annotated[
        str, typer.Argument(metavar="PROGRAM", help="folder with a grafos.toml; default: the one around here")
    ] = "",
) -> None:
    """Compiles every tasklet that grafos.toml declares and prints its module_sha256.

    Modules are stored as .grafos/tasklets/<sha256>.wasm in the program's folder.
    """
    from grafos_cli import building
    from grafos_cli.manifest import load_program
    from grafos_cli.project import program_folder
    from grafos_cli.steps import show_steps
    from grafos_cli.tables import table

    terminal = terminal_of(ctx)
    what = load_program(program_folder(program))
    rows, documents = [], []
    for tasklet in what.tasklets:
        terminal.note(f"building {tasklet.name} ({what.language}) …")
        began = time.monotonic()
        with show_steps(terminal, waiting=f"building {tasklet.name}") as steps:
            built = building.build_tasklet(what, tasklet, steps.note)
        rows.append([tasklet.name, built.module_sha256, f"{built.size_bytes:,}", f"{time.monotonic() - began:.1f} s"])
        path = building.module_path(what.folder, built.module_sha256)
        documents.append(
            {
                "name": tasklet.name,
                "module_sha256": built.module_sha256,
                "source_sha256": built.source_sha256,
                "toolchain": built.toolchain,
                "size_bytes": built.size_bytes,
                "path": str(path),
            }
        )
    text = table(("TASKLET", "MODULE_SHA256", "BYTES", "TOOK"), rows, terminal, "  rr", spare=("TOOK", "BYTES"))
    terminal.emit({"program": what.name, "tasklets": documents}, text)
