"""`grafos describe`: every command with its arguments and options, for programs, and for the page made from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from grafos_cli import catalog
from grafos_cli.taught import new_command_app, root_command, taught, terminal_of

app = new_command_app()


@app.command(
    cls=taught(
        examples=("grafos describe", "grafos describe --json | jq -r '.commands[].command'"),
        next="grafos doctor",
        streams="commands",
    ),
)
def describe(
    ctx: typer.Context,
    markdown: Annotated[bool, typer.Option("--markdown", help="as the page of the documentation")] = False,  # noqa: FBT002
) -> None:
    """Lists every command with what it does; with --json also arguments, options, examples, exit codes."""
    from grafos_cli.help_topics import EXIT_CODES
    from grafos_cli.tables import table

    terminal = terminal_of(ctx)
    if markdown:
        from grafos_cli.reference import page

        terminal.emit({"markdown": page()}, page())
        return
    found = list(commands())
    document = {
        "commands": found,
        "global_options": [{"option": option, "meaning": meaning} for option, meaning in catalog.GLOBAL_OPTIONS],
        "exit_codes": [{"exit_code": code, "meaning": meaning} for code, meaning in EXIT_CODES],
    }
    rows = [[one["command"], one["summary"]] for one in found]
    terminal.emit(document, table(("COMMAND", "WHAT IT DOES"), rows, terminal))


def commands() -> Iterator[dict[str, Any]]:
    """Every command that does something, in the order of the first page of help."""
    root = root_command()
    for noun in catalog.NOUNS:
        yield from _below(f"grafos {noun.name}", root.get_command(typer.Context(root), noun.name), noun.group)


def _below(path: str, command: Any, group: str) -> Iterator[dict[str, Any]]:
    verbs = getattr(command, "commands", None)
    if verbs:
        for name, child in verbs.items():
            yield from _below(f"{path} {name}", child, group)
        return
    summary, _, more = (command.help or "").strip().partition("\n\n")
    yield {
        "command": path,
        "group": group,
        "summary": " ".join(summary.split()),
        "more": " ".join(more.split()),
        "examples": list(command.examples),
        "next": command.next_command,
        "streams": command.streams,
        "arguments": [_parameter(one) for one in command.params if one.param_type_name == "argument"],
        "options": [_parameter(one) for one in command.params if one.param_type_name == "option"],
    }


def _parameter(parameter: Any) -> dict[str, Any]:
    option = parameter.param_type_name == "option"
    return {
        "name": parameter.opts[0] if option else parameter.metavar,
        "takes": "" if getattr(parameter, "is_flag", False) else (parameter.metavar or "TEXT"),
        "required": bool(parameter.required),
        "many": bool(parameter.multiple if option else parameter.nargs == -1),
        "default": _plain(parameter.default),
        "help": parameter.help or "",
    }


def _plain(default: object) -> str:
    return "" if default in (None, False, "") else str(default)
