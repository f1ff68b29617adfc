"""Plain tables for people: aligned columns, a head, nothing to draw around them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from grafos_cli.terminal import Terminal
from grafos_cli.wrapping import wrapped

GAP = "  "
PROSE_WIDTH_MIN = 20
"""Columns; in less than that sentences are harder to read than lines that the terminal breaks."""
_ARM_PREFIX = re.compile(r"/subscriptions/[^/]+/(?:resourceGroups/[^/]+/providers/[^/]+/)?")


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    terminal: Terminal,
    right: str = "",
    spare: Sequence[str] = (),
) -> str:
    """The rows below the head; ``right`` has an r for each column that is aligned to the right, else any sign.

    On a terminal that is too narrow the ``spare`` columns are left out, one after the other, until the rest fits; if it
    never does, what the last column says goes on in lines below.
    """
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    right = right.ljust(len(head))
    shown = _that_fit(head, widths, terminal.width_max, spare)

    *before, last = shown
    margin = sum(widths[column] + len(GAP) for column in before)
    room = None if terminal.width_max is None else max(PROSE_WIDTH_MIN, terminal.width_max - margin)

    def lines(row: Sequence[str]) -> list[str]:
        cells = [_aligned(row[column], widths[column], right[column]) + GAP for column in before]
        first, *more = wrapped(_aligned(row[last], widths[last], right[last]), room, has_commands=True) or [""]
        return [("".join(cells) + first).rstrip(), *(" " * margin + line for line in more)]

    body = [line for row in rows for line in lines(row)]
    return "\n".join([*(terminal.paint("dim", line) for line in lines(head)), *body]) + "\n"


def with_code(state: str, code: str) -> str:
    """A state, with the code where that says more."""
    return f"{state} ({code})" if code not in ("", state) else state


def _aligned(text: str, width: int, side: str) -> str:
    return text.rjust(width) if side == "r" else text.ljust(width)


def _that_fit(head: Sequence[str], widths: Sequence[int], width_max: int | None, spare: Sequence[str]) -> list[int]:
    """The columns to show."""
    shown = list(range(len(head)))
    for name in spare:
        if width_max is None or sum(widths[column] for column in shown) + len(GAP) * (len(shown) - 1) <= width_max:
            break
        shown.remove(head.index(name))
    return shown


def facts(entries: Sequence[tuple[str, str]], terminal: Terminal) -> str:
    """Label and value, one pair a line."""
    width = max((len(label) for label, _ in entries), default=0)
    return "".join(f"{terminal.paint('dim', label.ljust(width))}  {value}".rstrip() + "\n" for label, value in entries)


def short_id(cloud_id: str) -> str:
    """A cloud's id as people read it: Azure's begins with two hundred characters that are the same for all. Documents
    have it whole."""
    return _ARM_PREFIX.sub("", cloud_id, count=1)
