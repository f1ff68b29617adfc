"""The page of reference that is made from the commands themselves: `docs/reference/commands.md`."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from grafos_cli import catalog
from grafos_cli.describe import commands

HEAD = """\
# Commands

Made from the commands themselves; a test holds that it is current. What is true of all of them, exit codes for one,
stands in [the command line](cli.md).
"""


def page() -> str:
    """The whole page, as Markdown."""
    parts = [HEAD, "## Options of every command\n", _options(catalog.GLOBAL_OPTIONS)]
    for group, members in groupby(commands(), key=lambda one: str(one["group"])):
        parts.append(f"## {group}\n")
        parts += [_section(one) for one in members]
    return "\n".join(parts)


def _section(one: Mapping[str, Any]) -> str:
    named = [each["name"] if each["required"] else f"[{each['name']}]" for each in one["arguments"]]
    usage = " ".join([one["command"], *named, *(["[OPTIONS]"] if one["options"] else [])])
    lines = [f"### {one['command']}", "", one["summary"]]
    lines += ["", one["more"]] if one["more"] else []
    lines += ["", "```sh", *one["examples"], "```", "", f"Usage: `{usage}`"]
    rows = [(_named(each), _told(each)) for each in (*one["arguments"], *one["options"])]
    lines += ["", _options(rows).rstrip()] if rows else []
    lines += ["", f"Next: `{one['next']}`", ""]
    return "\n".join(lines)


def _named(parameter: Mapping[str, Any]) -> str:
    name, takes = str(parameter["name"]), parameter["takes"]
    return f"{name} {takes}".strip() if name.startswith("-") else name


def _told(parameter: Mapping[str, Any]) -> str:
    notes = ["required"] if parameter["required"] else []
    notes += [f"default: {parameter['default']}"] if parameter["default"] else []
    notes += ["may be given several times"] if parameter["many"] else []
    return str(parameter["help"]) + (f" ({'; '.join(notes)})" if notes else "")


def _options(rows: Any) -> str:
    lines = ["| option or argument | what it is |", "|---|---|"]
    lines += [f"| `{name.replace('|', '/')}` | {told.replace('|', '/')} |" for name, told in rows]
    return "\n".join(lines) + "\n"
