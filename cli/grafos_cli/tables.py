"""Plain tables for people: aligned columns, a head, nothing to draw around them."""

from __future__ import annotations

from collections.abc import Sequence

from grafos_cli.terminal import Terminal


def table(head: Sequence[str], rows: Sequence[Sequence[str]], terminal: Terminal, right: str = "") -> str:
    """The rows below the head; ``right`` has an r for each column that is aligned to the right, else any sign."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    right = right.ljust(len(head))

    def line(row: Sequence[str]) -> str:
        cells = [
            text.rjust(width) if side == "r" else text.ljust(width)
            for text, width, side in zip(row, widths, right, strict=True)
        ]
        return "  ".join(cells).rstrip()

    return "\n".join([terminal.paint("dim", line(head)), *(line(row) for row in rows)]) + "\n"


def facts(entries: Sequence[tuple[str, str]], terminal: Terminal) -> str:
    """Label and value, one pair a line."""
    width = max(len(label) for label, _ in entries)
    return "".join(f"{terminal.paint('dim', label.ljust(width))}  {value}".rstrip() + "\n" for label, value in entries)
