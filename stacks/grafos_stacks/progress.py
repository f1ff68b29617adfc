"""What a long command tells while it works; whoever listens draws it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

BEGUN, WAITING, DONE = "begun", "waiting", "done"


class Step(NamedTuple):
    """``name`` stays the same through a step's life, ``state`` is begun, waiting or done, ``elapsed_s`` its age."""

    name: str
    state: str
    elapsed_s: float
    note: str = ""


Progress = Callable[[Step], object]


def unheard(step: Step) -> None:
    """For callers that do not listen."""
