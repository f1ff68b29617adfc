"""The nouns of the command line, and the first page of help.

The page is plain text from this table: it needs no argument parser, so `grafos --help` answers at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from grafos_cli.wrapping import wrapped


class Noun(NamedTuple):
    """One first word after `grafos`; its module is imported when somebody uses it."""

    name: str
    module: str
    group: str
    summary: str


NOUNS = (
    Noun("demo", "grafos_cli.demo", "Start here", "the whole path on emulated clouds, in about a minute"),
    Noun("init", "grafos_cli.init", "Start here", "from nothing to the first answer, on this machine"),
    Noun("doctor", "grafos_cli.doctor", "Start here", "what is in order here, what is not, and what to do about it"),
    Noun("new", "grafos_cli.new", "Programs", "make the folder of a new program"),
    Noun("tasklet", "grafos_cli.tasklet", "Programs", "build the tasklets of a program to WASM"),
    Noun("validate", "grafos_cli.validate", "Programs", "check a program or a module, without network"),
    Noun("deploy", "grafos_cli.deploy", "Programs", "run a program, or a tasklet of it, on cells"),
    Noun("service", "grafos_cli.service", "Programs", "modules that serve on several cells, and the way to them"),
    Noun("artifacts", "grafos_cli.artifacts", "Programs", "fetch what a run left, and verify who signed it"),
    Noun("runs", "grafos_cli.runs", "Programs", "list runs and what they cost"),
    Noun("lease", "grafos_cli.lease", "Programs", "memory of a cell that your runs share"),
    Noun("events", "grafos_cli.events", "Fabric", "what happened to cells and runs; -f goes on with what comes"),
    Noun("dev", "grafos_cli.dev", "Fabric", "a fabric on this machine"),
    Noun("cloud", "grafos_cli.cloud", "Fabric", "cells on a cloud: provision, list, tear down"),
    Noun("fabric", "grafos_cli.fabric", "Fabric", "your fabric: its key, its money, its orchestrator, its cells"),
    Noun(
        "provider", "grafos_cli.provider", "Fabric", "which providers have cells that are ready, and what others lack"
    ),
    Noun("account", "grafos_cli.account", "Fabric", "your account at somebody else's orchestrator"),
    Noun("admin", "grafos_cli.admin", "Fabric", "what only the operator does: tenants, fences, certificates"),
    Noun("emulate", "grafos_cli.emulate", "Fabric", "emulated clouds on this machine, no account needed"),
    Noun("about", "grafos_cli.about", "The command itself", "versions, folders and settings, for a report of trouble"),
    Noun("config", "grafos_cli.config", "The command itself", "settings, and who says so"),
    Noun("completion", "grafos_cli.completion", "The command itself", "words that your shell completes"),
    Noun("describe", "grafos_cli.describe", "The command itself", "every command and option, for programs"),
)

GLOBAL_OPTIONS = (
    ("--json", "one JSON document on stdout, for programs"),
    ("--stream", "of a list: one JSON document a line for each entry"),
    ("--wide", "every column of a table"),
    ("--color WHEN", "auto, always or never; --no-color is never"),
    ("--fabric HOST:PORT", "ask only the scheduler at this address"),
    ("--debug", "show the traceback of an unexpected error"),
    ("--version, -V", "print the version"),
    ("--help, -h", "this text; works after every command"),
)

EXAMPLES = (
    ("grafos demo", "see all of it, without an account"),
    ("grafos dev up", "start a fabric on this machine"),
    ("grafos deploy run --provider local", "run the program of this folder on it"),
)

DOCS = "docs/reference/commands.md"
"""The page made from the commands, in the documentation."""

MEANING_WIDTH_MIN = 20
"""Columns; what is told beside a name is no narrower, on however narrow a terminal."""

TOPICS = "exit-codes, environment, config, errors"

NEXT = "grafos demo"


def noun(name: str) -> Noun | None:
    """The noun of that name, if there is one."""
    return next((entry for entry in NOUNS if entry.name == name), None)


def global_flags() -> list[str]:
    """The flags that every command takes, without their values."""
    return [*(name.split()[0].rstrip(",") for name, _ in GLOBAL_OPTIONS), "--no-color"]


def rows(entries: Sequence[tuple[str, str]], width_max: int | None = None) -> list[str]:
    """Two columns, indented by two, the first as wide as its longest entry, both together in ``width_max``."""
    width = max(len(left) for left, _ in entries)
    room = None if width_max is None else max(MEANING_WIDTH_MIN, width_max - width - 4)
    lines = []
    for left, right in entries:
        first, *more = wrapped(right, room) or [""]
        lines.append(f"  {left:<{width}}  {first}".rstrip())
        lines += [f"  {'':<{width}}  {line}" for line in more]
    return lines


def root_help(width_max: int | None = None) -> str:
    """The first page: examples, nouns by task, global options, the next command."""
    lines = ["grafos turns cloud accounts into one fabric and runs WASM programs on it.", ""]
    lines += ["Examples:", *rows(EXAMPLES, width_max), "", "Usage: grafos COMMAND [OPTIONS]", ""]
    width = max(len(entry.name) for entry in NOUNS)
    for group in dict.fromkeys(entry.group for entry in NOUNS):
        members = [(f"{entry.name:<{width}}", entry.summary) for entry in NOUNS if entry.group == group]
        lines += [f"{group}:", *rows(members, width_max), ""]
    lines += ["Options:", *rows(GLOBAL_OPTIONS, width_max), ""]
    lines += [f"More: grafos help TOPIC, of {TOPICS}", "", f"Next: {NEXT}"]
    return "\n".join(lines) + "\n"
