"""Whether what several processes were told of shared words can have happened one after the other.

A history is *linearizable* (Herlihy and Wing, 1990) when each operation can be given one moment between its call and
its return so that all answers come out. Words are judged one by one, which is enough: linearizability is local. The
search is that of Wing and Gong (1993) with Lowe's memory of what was tried (2017): a set of operations that are done,
and the word's value then, is looked at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

U64 = 2**64 - 1
NEVER = 1 << 60
"""The return of an operation that may still happen."""

READ, WRITE, COMPARE_EXCHANGE, FETCH_ADD = "read", "write", "compare_exchange", "fetch_add"


class Operation(NamedTuple):
    """``called`` and ``returned`` are places in one order of all calls and returns. ``found`` is what it told of the
    word as it was (None for a write). ``is_sure``: it was answered; one that was not has happened before ``returned``,
    or never."""

    word: int
    kind: str
    called: int
    returned: int
    value: int = 0
    new: int = 0
    found: int | None = None
    is_sure: bool = True


def is_linearizable(history: Iterable[Operation], initially: int = 0) -> bool:
    """Whether there is an order for each word, which all hold ``initially`` at first."""
    by_word: defaultdict[int, list[Operation]] = defaultdict(list)
    for operation in history:
        by_word[operation.word].append(operation)
    return all(_can_be_ordered(operations, initially) for operations in by_word.values())


def _can_be_ordered(operations: list[Operation], initially: int) -> bool:
    operations = sorted(operations, key=lambda operation: operation.called)
    sure = sum(1 << at for at, operation in enumerate(operations) if operation.is_sure)
    seen: set[tuple[int, int]] = set()
    open_ = [(0, initially)]
    while open_:
        done, value = open_.pop()
        if done & sure == sure:
            return True
        for at in _next_ones(operations, done):
            after = _after(operations[at], value)
            step = (done | 1 << at, after if after is not None else 0)
            if after is not None and step not in seen:
                seen.add(step)
                open_.append(step)
    return False


def _next_ones(operations: list[Operation], done: int) -> list[int]:
    """Those that may happen next: called before every sure one that is left returns, and not over before any that is
    done was called."""
    left = [at for at in range(len(operations)) if not done >> at & 1]
    first_return = min((operations[at].returned for at in left if operations[at].is_sure), default=NEVER)
    last_call = operations[done.bit_length() - 1].called if done else -1
    return [at for at in left if operations[at].called < first_return and operations[at].returned > last_call]


def _after(operation: Operation, value: int) -> int | None:
    """What the word holds then, or None if the answer was another."""
    if operation.found not in (None, value):
        return None
    if operation.kind == WRITE:
        return operation.value
    if operation.kind == FETCH_ADD:
        return (value + operation.value) & U64
    if operation.kind == COMPARE_EXCHANGE:
        return operation.new if value == operation.value else value
    return value
