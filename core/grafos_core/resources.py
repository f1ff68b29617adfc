"""What a cell has and a lease takes: a vector over the resource kinds."""

from __future__ import annotations

from fractions import Fraction
from operator import add, sub
from typing import Annotated

import msgspec

Amount = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
"""Checked where a peer's bytes are read; within a process a difference may be negative."""


FIELD_OF_KIND = {
    "cpu": "cpu_cores",
    "mem": "mem_bytes",
    "block": "block_bytes",
    "gpu": "gpu_count",
    "net": "nic_count",
}
"""Which amount a lease of a kind takes."""
LISTENER = "listener"
"""A lease of this kind has one port of a cell alone; the port is its amount, and it takes nothing of ``Resources``."""
KINDS_ON_DISK = frozenset({"block"})
"""The kinds whose contents outlive the daemon of their cell."""


class Resources(msgspec.Struct, frozen=True):
    """Amounts per kind; all whole and not negative."""

    cpu_cores: Amount = 0
    mem_bytes: Amount = 0
    block_bytes: Amount = 0
    gpu_count: Amount = 0
    nic_count: Amount = 0

    @classmethod
    def of(cls, kind: str, amount: int) -> Resources:
        """So much of one kind: a key of ``FIELD_OF_KIND``, or ``LISTENER``, which takes nothing."""
        return cls() if kind == LISTENER else cls(**{FIELD_OF_KIND[kind]: amount})

    def of_kind(self, kind: str) -> int:
        """The amount of one kind; 0 for a kind that does not exist."""
        amount: int = getattr(self, FIELD_OF_KIND[kind]) if kind in FIELD_OF_KIND else 0
        return amount

    def __add__(self, other: Resources) -> Resources:
        return Resources(*map(add, self.amounts(), other.amounts()))

    def __sub__(self, other: Resources) -> Resources:
        return Resources(*map(sub, self.amounts(), other.amounts()))

    def amounts(self) -> tuple[int, ...]:
        """The amounts in the order of the fields."""
        amounts: tuple[int, ...] = msgspec.structs.astuple(self)
        return amounts

    def lacking(self, room: Resources) -> list[str]:
        """The kinds of which ``room`` has less than this asks for, by field name."""
        pairs = zip(self.__struct_fields__, self.amounts(), room.amounts(), strict=True)
        return [name for name, wanted, there in pairs if wanted > there]

    def fits(self, room: Resources) -> bool:
        """Whether ``room`` has at least this much of every kind."""
        return not self.lacking(room)

    def share_of(self, total: Resources) -> Fraction:
        """The largest leased/total over the kinds that this takes, the share that is paid for.

        A kind that the total lacks counts as the whole, so a mistaken total never makes a run free.
        """
        shares = [Fraction(0)]
        for taken, there in zip(self.amounts(), total.amounts(), strict=True):
            if taken:
                shares.append(Fraction(taken, there) if there else Fraction(1))
        return max(shares)
