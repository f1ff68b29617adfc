"""`grafos completion SHELL`, and the words that a shell asks for: commands, flags, and names that lie on this disk.

Typer's scripts call `grafos` with a variable set; ``main`` then hands over to ``answer_shell``. Cell ids come from the
fabric's folder, regions from the price tables, run ids from the runs that were brought home: no network is asked, and
nothing heavy is imported.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from grafos_cli import catalog
from grafos_cli.flags import read_flags
from grafos_cli.help_topics import TOPICS
from grafos_cli.settings import named
from grafos_cli.taught import RootGroup, new_command_app, taught, terminal_of
from grafos_core.errors import GrafosError
from grafos_core.paths import data_home

app = new_command_app()

SHELLS = ("bash", "zsh", "fish", "powershell")
FABRIC = "default"
NAMES_MAX = 1000
"""Of cells and runs; nobody reads more."""


@app.command(
    cls=taught(
        examples=(
            'eval "$(grafos completion bash)"',
            "grafos completion zsh > ~/.zfunc/_grafos",
            "grafos completion fish > ~/.config/fish/completions/grafos.fish",
        ),
        next="grafos config show",
    ),
)
def completion(
    ctx: typer.Context,
    shell: Annotated[str, typer.Argument(metavar="SHELL", help="bash, zsh, fish or powershell")],
) -> None:
    """Prints the script by which a shell completes commands, flags, cell ids, run ids and regions.

    For PowerShell: grafos completion powershell >> $PROFILE. Only files on this machine are read.
    """
    from typer._completion_shared import get_completion_script

    from grafos_cli.main import COMPLETE_VARIABLE
    from grafos_cli.nearness import nearest

    if shell not in SHELLS:
        match = nearest(shell, list(SHELLS))
        raise GrafosError(
            "usage",
            f"There is no completion for {shell[:60]!r}",
            why=f"did you mean {match!r}?" if match else f"there are {', '.join(SHELLS)}",
            next=f"grafos completion {match or 'bash'}",
        )
    script = get_completion_script(prog_name="grafos", complete_var=COMPLETE_VARIABLE, shell=shell)
    terminal_of(ctx).emit({"shell": shell, "script": script}, script)


def answer_shell(instruction: str) -> int:
    """What the shell's script asked for, on stdout; the exit code. A line that cannot be completed gets no word."""
    from typer._completion_classes import completion_init

    kind, _, shell = instruction.partition("_")
    if kind != "complete" or shell not in (*SHELLS, "pwsh"):
        sys.stderr.write(f"There is no completion request {instruction[:40]!r}; see: grafos completion --help\n")
        return 2
    completion_init()
    try:
        answer = _shell(shell).complete()
    except (GrafosError, typer.TyperException):  # a word before is none; the command itself will tell
        return 1
    sys.stdout.write(f"{answer}\n")
    return 0


def _shell(name: str) -> Any:
    """Typer's class of that shell, with our global flags and the names that lie on this disk, and without help beside
    the words, for which it would import rich."""
    from typer._click import shell_completion as typers

    base: Any = typers.get_completion_class(name)

    class Ours(base):  # type: ignore[misc]  # typer's class, known only by its name
        def get_completions(self, args: list[str], incomplete: str) -> list[Any]:
            words = _words_for(typers, self.cli, args, incomplete)
            return [typers.CompletionItem(word) for word in words]

    return Ours(RootGroup(name="grafos", rich_markup_mode=None), {}, "grafos", "")


def _words_for(typers: Any, root: RootGroup, args: list[str], begun: str) -> list[str]:
    """The words that may stand where ``begun`` stands, after ``args``."""
    if args[-1:] == ["--color"]:
        return sorted(word for word in named("color").choices if word.startswith(begun))
    if args[-1:] == ["help"] and len(args) == 1:
        args, topics = [], [*TOPICS]
    else:
        topics = []
    _, args = read_flags(args)
    ctx = typers._resolve_context(root, {}, "grafos", args)  # noqa: SLF001 - typer has no public seam here
    place, begun = typers._resolve_incomplete(ctx, args, begun)  # noqa: SLF001 - as above
    known = NAMES.get(getattr(place, "name", "") or "") if hasattr(place, "param_type_name") else None
    words = known() if known else [item.value for item in place.shell_complete(ctx, begun)] + topics
    if begun.startswith("-"):
        words = [*words, *catalog.global_flags()]
    return sorted({word for word in words if word.startswith(begun)})


def _cell_ids() -> list[str]:
    return _names_in(data_home() / FABRIC / "cells")


def _run_ids() -> list[str]:
    return _names_in(data_home() / FABRIC / "runs")


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))[:NAMES_MAX]
    except OSError:
        return []


def _regions() -> list[str]:
    """The regions of the price tables: the one that ships with grafos, and what was read from the clouds since."""
    found = set()
    spec = importlib.util.find_spec("grafos_connectors")
    for place in spec.submodule_search_locations or () if spec else ():
        lines = (Path(place) / "pricing" / "seed.csv").read_text(encoding="utf-8").splitlines()
        head, *rows = [line.split(",") for line in lines if line and not line.startswith("#")]
        found |= {row[head.index("region")] for row in rows}
    try:
        kept = json.loads((data_home() / "prices.json").read_bytes())
        found |= {str(row["region"]) for row in kept["rows"]}
    except (OSError, ValueError, LookupError, TypeError):
        pass  # never refreshed, or of another shape: the shipped rows are enough to help
    return sorted(found)


NAMES: dict[str, Callable[[], list[str]]] = {
    "cell_id": _cell_ids,
    "lang": lambda: ["c", "rust", "wat", "zig"],
    "provider": lambda: ["aws", "azure", "gcp", "local"],
    "region": _regions,
    "run_id": _run_ids,
    "shell": lambda: list(SHELLS),
}
"""What the values of options and arguments of these names may be."""
