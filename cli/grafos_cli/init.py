"""`grafos init`: from nothing to the first answer of a tasklet, on this machine, without an account.

Each command is shown as a person would type it, and run in a process of its own; so whoever reads along can go on.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grafos_cli.taught import new_command_app, taught, terminal_of
from grafos_core.errors import GrafosError

if TYPE_CHECKING:
    from pathlib import Path

    from grafos_cli.terminal import Terminal

app = new_command_app()

PREFERRED = ("rust", "zig", "wat")
"""The first whose compiler is here is taken; WAT needs none."""


@app.command(
    cls=taught(
        examples=("grafos init", "grafos init photos --lang zig"),
        next="grafos dev watch",
    ),
)
def init(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="the program's name, and that of its folder here")] = (
        "hello"
    ),
    lang: Annotated[
        str, typer.Option(metavar="NAME", help="rust, zig, c or wat; default: the first of rust, zig, wat that is here")
    ] = "",
) -> None:
    """Makes a program, starts a fabric on this machine, builds the program and runs it: the first answer in a minute.

    Nothing is asked and no account is needed. The fabric keeps running until grafos dev down in the new folder. When a
    step fails, what was made stays, and the step can be repeated by itself.
    """
    from grafos_cli.project import current_folder

    terminal = terminal_of(ctx)
    here, began = current_folder(), time.monotonic()
    language = lang or _language_here(here)
    steps = [
        (here, ("new", name, "--lang", language)),
        (here / name, ("dev", "up")),
        (here / name, ("tasklet", "build")),
        (here / name, ("deploy", "run", "--provider", "local")),
    ]
    documents = [_perform(folder, words, terminal) for folder, words in steps]
    took_s = time.monotonic() - began
    document = {
        "program": name,
        "language": language,
        "folder": str(here / name),
        "commands": [" ".join(("grafos", *words)) for _, words in steps],
        "took_s": round(took_s, 3),
    }
    terminal.emit({**document, **_answer_of(documents[-1])}, "")
    terminal.note(f"\nThat took {took_s:.1f} s. Next: cd {name} && grafos dev watch; to end: grafos dev down")


def _language_here(folder: Path) -> str:
    """The preferred language whose compiler is on this machine."""
    from importlib import import_module

    for language in PREFERRED[:-1]:
        try:
            import_module(f"grafos_cli.languages.{language}").find(folder)
        except GrafosError:
            continue
        return language
    return PREFERRED[-1]


def _perform(folder: Path, words: tuple[str, ...], terminal: Terminal) -> dict[str, Any]:
    """Runs one command to its end; its document for programs. A failure is that command's own."""
    command = [sys.executable, "-P", "-m", "grafos_cli", *words]
    if not terminal.json:
        terminal.note(terminal.paint_note("bold", f"\n$ grafos {' '.join(words)}"))
        if code := subprocess.run(command, cwd=folder, check=False).returncode:
            raise typer.Exit(code)  # it has told why, in the same shape
        return {}
    done = subprocess.run([*command, "--json"], cwd=folder, capture_output=True, text=True, check=False)
    document: dict[str, Any] = json.loads(done.stdout)
    if "error" in document:
        raise GrafosError.from_wire(document["error"])
    return document


def _answer_of(document: dict[str, Any]) -> dict[str, Any]:
    return {"run_id": document.get("run_id", ""), "response": document.get("response")}
