"""Holds what a command printed with `--json` or `--stream` against its schema: nothing missing, nothing unknown."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any

import jsonschema

from grafos_cli.describe import commands
from grafos_cli.schemas import document_of, entry_of

WITH_VALUE = ("--color", "--fabric")
BARE = {"grafos deploy": "grafos deploy run"}
"""Nouns that mean a verb where none is said."""


def hold(words: Sequence[str], out: str) -> None:
    """Raises when a document is not what its command promises. Help and version are no command's documents."""
    machine = {"--json", "--stream"} & set(words)
    if not machine or not out or {"--help", "-h", "--version", "-V", "help"} & set(words):
        return
    command = command_of(words)
    if "--stream" in words and command and not out.startswith('{"schema_version": 1, "error"'):
        for line in out.splitlines():
            _stream_checker(command).validate(json.loads(line))
    elif {"-f", "--follow"} & set(words):
        for line in out.splitlines():
            _line_checker(command).validate(json.loads(line))
    elif command == "grafos dev watch":
        for line in out.splitlines() if out.startswith('{"') else [out]:
            _checker(command).validate(json.loads(line))
    else:
        _checker(command).validate(json.loads(out))


def command_of(words: Sequence[str]) -> str:
    """The command that these words call, or nothing for one that does not exist."""
    plain = [word for number, word in enumerate(words) if not word.startswith("-") and _is_free(words, number)]
    known = _known()
    for depth in range(min(3, len(plain)), 0, -1):
        if (path := " ".join(("grafos", *plain[:depth]))) in known:
            return path
    return BARE.get(" ".join(("grafos", *plain[:1])), "")


def _is_free(words: Sequence[str], number: int) -> bool:
    """Whether the word is no value of a global option, which may stand before the command."""
    return not number or words[number - 1] not in WITH_VALUE


@functools.cache
def _known() -> dict[str, str]:
    """Every command, with the list that it streams."""
    return {one["command"]: one["streams"] for one in commands()}


@functools.cache
def _checker(command: str) -> Any:
    # An unknown command prints an error, which has the same shape everywhere.
    return jsonschema.Draft202012Validator(
        document_of(command or "grafos about"), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )


@functools.cache
def _stream_checker(command: str) -> Any:
    return jsonschema.Draft202012Validator(entry_of(command, _known()[command]))


@functools.cache
def _line_checker(command: str) -> Any:
    """For what a command that follows prints, a line each: its last shape, or an error."""
    line, error = document_of(command)["anyOf"][-2:]
    return jsonschema.Draft202012Validator({"anyOf": [line, error]})
