"""Prose fits its terminal; a command is one piece, so that whoever copies it has all of it."""

from __future__ import annotations

import re
import textwrap

_COMMAND = re.compile(
    r"(?:^|(?<=[\s`(]))(?:grafos|sudo|apt|apt-get|aws|az|cargo|cd|chmod|cp|curl|eval|export|gcloud|kill -9|make live"
    r"|make demo|mv|pip|rm|rustup|zig) .*"
)
"""From a program's name to the end of its piece."""
_PIECES = re.compile(r"(?<=[,;]) +| {2,}")
"""Where one piece of a sentence ends and the next begins; commands hold no such place."""
_GLUE = "\N{NO-BREAK SPACE}"


def wrapped(text: str, width: int | None, *, has_commands: bool = False) -> list[str]:
    """The lines of ``text`` for a space of ``width`` columns; None is endless. What has lines of its own, as the words
    of a compiler, keeps them. With ``has_commands`` no command is broken, however long it is."""
    lines = text.rstrip().splitlines()
    if width is None or (len(lines) > 1 and not has_commands):
        return lines
    return [piece for line in lines for piece in _filled(line, width, has_commands=has_commands)]


def paragraphs(text: str, width: int | None) -> list[str]:
    """The lines of a text whose paragraphs have an empty line between them; None leaves its lines as they are."""
    if width is None:
        return text.strip().splitlines()
    filled = [wrapped(" ".join(each.split()), width) for each in text.strip().split("\n\n")]
    return [line for each in filled for line in (*each, "")][:-1]


def _filled(line: str, width: int, *, has_commands: bool) -> list[str]:
    if len(line) <= width:
        return [line]
    glued = _glued(line) if has_commands else line
    filled = textwrap.wrap(glued, width, break_long_words=False, break_on_hyphens=False)
    return [each.replace(_GLUE, " ") for each in filled]


def _glued(line: str) -> str:
    """The line with each command in it made one word."""
    return " ".join(
        _COMMAND.sub(lambda found: found[0].replace(" ", _GLUE), piece) for piece in _PIECES.split(line) if piece
    )
