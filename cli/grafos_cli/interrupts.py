"""Ctrl-C: the first stops safely and says how to go on, the second leaves at once, with the command that goes on.
SIGTERM counts as Ctrl-C, and so does SIGHUP, of a terminal that was closed, unless whoever started this ignores it.

Stopping is safe anywhere because whatever changes the world writes its intent down first: the first signal raises
``KeyboardInterrupt`` where the program stands, and the next command continues or undoes.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from grafos_core.errors import INTERRUPTED, GrafosError

SHOW_CURSOR = b"\x1b[?25h\n"
"""A display that was being redrawn had hidden it, and gets no chance to clean up."""


class _Presses:
    """How often the person asked to stop."""

    count = 0
    parting = b""
    """What the second press leaves on stderr: the command that goes on from there."""


def install() -> None:
    """Takes over SIGINT, SIGTERM and SIGHUP of this process."""

    def pressed(_number: int, _frame: FrameType | None) -> None:
        _Presses.count += 1
        if _Presses.count > 1:
            if os.isatty(2):
                os.write(2, SHOW_CURSOR)
            if _Presses.parting:
                os.write(2, _Presses.parting)
            os._exit(INTERRUPTED)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, pressed)
    signal.signal(signal.SIGTERM, pressed)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup means that it goes on
        signal.signal(signal.SIGHUP, pressed)


def was_pressed() -> bool:
    """Whether the person asked to stop."""
    return _Presses.count > 0


def interrupted(what: str = "Stopped before it was finished", next: str = "") -> GrafosError:
    """The error that a stopped command ends with."""
    return GrafosError("interrupted", what, next=next)


@contextmanager
def resumable(what: str, next: str) -> Iterator[None]:
    """Inside, Ctrl-C ends the command with what is true now and the command that goes on from there; twice, at once."""
    with parting(f"{what}; next: {next}"):
        try:
            yield
        except KeyboardInterrupt:
            raise interrupted(what, next) from None


@contextmanager
def parting(words: str) -> Iterator[None]:
    """Inside, whoever presses twice leaves with this line; also once the first press has left the block, until what it
    says is on the screen."""
    before, _Presses.parting = _Presses.parting, f"{words}\n".encode()
    try:
        yield
    finally:
        if not was_pressed():
            _Presses.parting = before
