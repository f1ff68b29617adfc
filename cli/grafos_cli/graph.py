"""The order in which the tasklets of a program run: each after those that it needs, and whatever can at once.

All of it is pure: names and states in, names out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

WAITING, GOING, DONE, FAILED = "waiting", "going", "done", "failed"
"""Where a tasklet of a program stands: one that waits begins when all that it needs is done."""


class Fault(NamedTuple):
    """What is wrong with what a tasklet needs, and how it is mended."""

    tasklet: str
    what: str
    next: str


def fault_in(needs: Mapping[str, Sequence[str]]) -> Fault | None:
    """What keeps these tasklets from being a program, each with the names of those that it needs."""
    for name, wanted in needs.items():
        for other in wanted:
            if other == name:
                return Fault(name, f"{name} needs itself", "take it out of its needs")
            if other not in needs:
                return Fault(name, f"{name} needs {other[:60]!r}, which is none of the tasklets", "mend the name")
    ring = _ring_in(needs)
    if ring:
        said = " -> ".join((*ring, ring[0]))
        return Fault(ring[0], f"the tasklets need each other in a ring: {said}", "break the ring")
    return None


def can_begin(needs: Mapping[str, Sequence[str]], states: Mapping[str, str]) -> list[str]:
    """Those that wait for nothing any more, in the order of the program. After a failure nothing more begins."""
    if FAILED in states.values():
        return []
    return [
        name
        for name, wanted in needs.items()
        if states[name] == WAITING and all(states[other] == DONE for other in wanted)
    ]


def last_ones(needs: Mapping[str, Sequence[str]]) -> list[str]:
    """Those that no other needs: what they leave is what the program leaves."""
    wanted = {other for others in needs.values() for other in others}
    return [name for name in needs if name not in wanted]


def _ring_in(needs: Mapping[str, Sequence[str]]) -> list[str]:
    """Tasklets of which each needs the next, and the last the first."""
    left = dict(needs)
    while free := [name for name, wanted in left.items() if not any(other in left for other in wanted)]:
        for name in free:
            del left[name]
    if not left:
        return []
    walked = [next(iter(left))]
    while (after := _first_in(left[walked[-1]], left)) not in walked:
        walked.append(after)
    return walked[walked.index(after) :]


def _first_in(names: Iterable[str], among: Mapping[str, object]) -> str:
    return next(name for name in names if name in among)
