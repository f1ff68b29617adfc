"""How a large fleet is split over several Pulumi stacks.

An engine writes its whole state with each step, so a stack's time grows with the square of what is in it: four stacks
of 64 cells, one after the other or at once, take less than one of 256, and one that breaks is one of four.
"""

from __future__ import annotations

from typing import NamedTuple

CELLS_OF_A_STACK_MAX = 64


class Share(NamedTuple):
    """The cells of one stack: ``size`` of them, numbered from ``first`` on."""

    first: int
    size: int


def shares_of(count: int) -> tuple[Share, ...]:
    """The shares of a fleet of ``count`` cells, one for each stack; a cell keeps its number when the fleet grows."""
    begins = range(1, max(1, count) + 1, CELLS_OF_A_STACK_MAX)
    return tuple(Share(first, min(CELLS_OF_A_STACK_MAX, count - first + 1)) for first in begins)


def share_of(count: int, number: int) -> Share:
    """That of stack ``number``, counted from 1; 0 is whoever names none, and has the whole fleet to itself.
    ``ValueError`` with what to set if there is none."""
    shares = shares_of(count)
    if number == 0 and len(shares) == 1:
        return shares[0]
    if 1 <= number <= len(shares):
        return shares[number - 1]
    stacks = "1 stack" if len(shares) == 1 else f"{len(shares)} stacks"
    raise ValueError(
        f"{count} cells are {stacks} of {CELLS_OF_A_STACK_MAX} at most: in each, set grafos:share to its number, "
        f"1 to {len(shares)}"
    )
