"""`grafos describe`: every command with its arguments and options, for programs, and for the page made from it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from grafos_cli import catalog
from grafos_cli.nearness import nearest
from grafos_cli.taught import new_command_app, root_command, taught, terminal_of
from grafos_core.errors import GrafosError

app = new_command_app()


@app.command(
    cls=taught(
        examples=(
            "grafos describe",
            "grafos describe --json | jq -r '.commands[].command'",
            "grafos describe --schema 'runs ls'",
        ),
        next="grafos doctor",
        streams="commands",
    ),
)
def describe(
    ctx: typer.Context,
    markdown: Annotated[bool, typer.Option("--markdown", help="as the page of the documentation")] = False,  # noqa: FBT002
    schema: Annotated[
        str, typer.Option(metavar="COMMAND", help="the JSON Schema of what that command prints with --json: 'runs ls'")
    ] = "",
) -> None:
    """Lists every command with what it does; with --json also arguments, options, examples, exit codes."""
    from grafos_cli.help_topics import EXIT_CODES
    from grafos_cli.tables import table

    terminal = terminal_of(ctx)
    if markdown:
        from grafos_cli.reference import page

        text = page()
        terminal.emit({"markdown": text}, text)
        return
    found = list(commands())
    if schema:
        told = _schema_of(schema, [one["command"] for one in found])
        terminal.emit({"schema": told}, json.dumps(told, indent=1))
        return
    document = {
        "commands": found,
        "global_options": [{"option": option, "meaning": meaning} for option, meaning in catalog.GLOBAL_OPTIONS],
        "exit_codes": [{"exit_code": code, "meaning": meaning} for code, meaning in EXIT_CODES],
    }
    rows = [[one["command"], one["summary"]] for one in found]
    terminal.emit(document, table(("COMMAND", "WHAT IT DOES"), rows, terminal))


def _schema_of(words: str, known: list[str]) -> dict[str, Any]:
    from grafos_cli.schemas import document_of

    command = f"grafos {words.removeprefix('grafos ')}"
    if command not in known:
        match = nearest(command, known)
        raise GrafosError(
            "usage",
            f"There is no command {words[:60]!r}",
            why=f"did you mean {match.removeprefix('grafos ')!r}?" if match else "",
            next="grafos describe lists every command",
        )
    return document_of(command)


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
