"""What `--follow` does: look again and again, show what is new, each line once, until Ctrl-C.

A look that fails because somebody does not answer is a remark, and the next one goes on where the last good one was:
what was shown is known from what was seen, never from a place in a stream that a lost connection would lose.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Generic, NamedTuple, TypeVar

import typer

from grafos_cli.interrupts import was_pressed
from grafos_core.errors import INTERRUPTED, GrafosError

if TYPE_CHECKING:
    from grafos_cli.terminal import Terminal

Entry = TypeVar("Entry")

LOOK_EVERY_S = 1.0
"""At schedulers and journals on this machine or near it."""
FILE_EVERY_S = 0.2
"""At files on this disk: soon enough that a person calls it at once."""
CONSOLE_EVERY_S = 5.0
"""At a cloud's console, which is seconds behind anyway; clouds count the questions."""

FollowFlag = Annotated[bool, typer.Option("--follow", "-f", help="then go on with what comes, until Ctrl-C")]


class Looked(NamedTuple, Generic[Entry]):
    """What a look found that is new; ``over`` when nothing more can come."""

    fresh: Sequence[Entry]
    over: bool = False


def follow(
    look: Callable[[], Looked[Entry]],
    every_s: float,
    note: Callable[[str], object],
    sleep: Callable[[float], object] = time.sleep,
) -> Iterator[Entry]:
    """Each new entry of every look. The first look may fail; later ones that may be repeated are, and that is told
    once for each time that somebody falls silent."""
    looked, silent = look(), False
    while True:
        yield from looked.fresh
        if looked.over:
            return
        sleep(every_s)
        try:
            looked = look()
        except GrafosError as error:
            if not error.retryable or error.code == "interrupted":
                raise
            if not silent:
                note(f"note: {error.what}; trying again until it answers")
            looked, silent = Looked(()), True
        else:
            if silent:
                note("note: it answers again")
            silent = False


@contextlib.contextmanager
def until_stopped(terminal: Terminal, words: str = "stopped following; what is followed goes on") -> Iterator[None]:
    """Inside, Ctrl-C is the way to end: no error is told but ``words``, and the exit code says that it was stopped."""
    try:
        yield
    except BaseException:
        if not was_pressed():
            raise
        terminal.note(f"\n{words}")
        raise typer.Exit(INTERRUPTED) from None


def whole_lines(text: str) -> list[str]:
    """The lines of ``text`` that have come to their end; the last one may be still on its way."""
    return [line.rstrip("\r\n") for line in text.splitlines(keepends=True) if line.endswith(("\n", "\r"))]


def newer_lines(before: Sequence[str], now: Sequence[str]) -> Sequence[str]:
    """What of ``now`` came after ``before``, when both are what was last said, each cut off at its beginning.

    ``now`` begins somewhere in ``before``, perhaps in the midst of a line; the earliest such place counts, so that
    no line is shown twice. A view that is older than the last one has nothing new.
    """
    if not now:
        return ()
    rest = list(now[1:])
    for start in range(len(before)):
        there = before[start + 1 : start + len(now)]
        if before[start].endswith(now[0]) and there == rest[: len(there)]:
            return now[len(before) - start :]
    return now


class Console:
    """The lines of a console that is only ever seen as its last part."""

    def __init__(self, read: Callable[[], str]) -> None:
        self._read = read
        self._seen: list[str] = []

    def look(self) -> Looked[str]:
        """The lines since the last look."""
        fresh = newer_lines(self._seen, lines := whole_lines(self._read()))
        if fresh:  # an older view must not replace what is known
            self._seen = lines
        return Looked(fresh)


class LogFile:
    """The lines of a file that grows; one that was replaced or cut is read from its beginning."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._inode = 0

    def look(self) -> list[str]:
        """The whole lines since the last look; none while the file is not there."""
        try:
            with self._path.open("rb") as file:
                file.seek(0, 2)
                if (inode := os.fstat(file.fileno()).st_ino) != self._inode or file.tell() < self._offset:
                    self._inode, self._offset = inode, 0
                file.seek(self._offset)
                said = file.read()
        except OSError:
            return []
        whole = said[: said.rfind(b"\n") + 1]
        self._offset += len(whole)
        return whole.decode(errors="replace").splitlines()
