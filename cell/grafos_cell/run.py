"""What a run is given, and what it leaves: the records between the cell, its pool, its workers and the runtime.

Nothing here needs the WebAssembly engine, so a daemon that only hands runs to its workers never imports it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from grafos_cell import abi
from grafos_core.errors import GrafosError

FINISHED = "finished"
"""The one code of a run's end that is no error."""

Hook = Literal["load", "init", "run", "finalize"]


class MemoryLease(msgspec.Struct, frozen=True):
    """A memory lease that the run holds; its place in the tuple is its slot.

    ``seconds_left`` counts from the moment at which the spec is handed over, so that no waiting makes a lease longer.
    """

    size_bytes: int
    seconds_left: float


class BlockLease(msgspec.Struct, frozen=True):
    """A block lease that the run holds; its place in the tuple is its slot. The blocks stay with the daemon."""

    blocks: int


class LeaseCall(msgspec.Struct, frozen=True, tag="lease_call"):
    """What a worker asks the daemon about a lease of its run, by kind and slot. ``operation``: ``query`` (is it still
    honoured, and how long?), ``block_read`` or ``block_write``."""

    operation: Literal["query", "block_read", "block_write"]
    kind: Literal["mem", "block"]
    slot: int
    lba: int = 0
    data: bytes = b""


class LeaseAnswer(msgspec.Struct, frozen=True, tag="lease_answer"):
    """``status`` as host calls answer it; ``seconds_left`` of the lease, and a block's bytes, when it is ``OK``."""

    status: int
    seconds_left: float = 0.0
    data: bytes = b""


LeaseDesk = Callable[[LeaseCall], LeaseAnswer]
"""Where leases are checked, and where what is done to blocks takes effect: the daemon, or the way to it."""


def no_desk(_: LeaseCall) -> LeaseAnswer:
    """For runs without a daemon: whatever ran out is not renewed."""
    return LeaseAnswer(abi.LEASE_EXPIRED)


class RunSpec(msgspec.Struct, frozen=True):
    """What a run is given; ``check_spec`` has its bounds. ``input`` None means that the context's own bytes are it."""

    context: abi.RunContext
    input: bytes | None = b""
    fuel: int = abi.FUEL_DEFAULT
    memory_bytes: int = abi.MEMORY_BYTES_DEFAULT
    deadline_s: float = abi.DEADLINE_S_DEFAULT
    memory_leases: tuple[MemoryLease, ...] = ()
    block_leases: tuple[BlockLease, ...] = ()


class RunOutcome(msgspec.Struct, frozen=True):
    """How a run ended and what it left.

    ``code`` is ``finished`` or an error code; ``text`` one line about why, empty when finished. ``hook`` is where it
    ended. ``returned`` is what the run hook returned, None when it did not. ``response`` is JSON text, empty when there
    is none. ``memory_bytes`` is the peak of linear memory. ``wall_s`` alone is not repeatable.
    """

    code: str
    text: str = ""
    hook: Hook = "load"
    returned: int | None = None
    response: bytes = b""
    output: bytes = b""
    log: str = ""
    is_log_cut: bool = False
    fuel_used: int = 0
    memory_bytes: int = 0
    wall_s: float = 0.0

    @property
    def is_finished(self) -> bool:
        return self.code == FINISHED

    def error(self) -> GrafosError | None:
        """The end as an error of the family; None when the run finished."""
        return None if self.is_finished else GrafosError(self.code, self.text)


def check_spec(spec: RunSpec) -> None:
    """``limit_exceeded`` for a spec outside the ABI's limits."""
    bounds = (
        ("bytes of input", len(spec.input or b""), 0, abi.INPUT_BYTES_MAX),
        ("units of fuel", spec.fuel, 1, abi.FUEL_MAX),
        ("bytes of memory", spec.memory_bytes, abi.MEMORY_BYTES_MIN, abi.MEMORY_BYTES_MAX),
        ("seconds of deadline", spec.deadline_s, abi.DEADLINE_S_MIN, abi.DEADLINE_S_MAX),
        ("memory leases", len(spec.memory_leases), 0, abi.MEMORY_LEASES_MAX),
        ("block leases", len(spec.block_leases), 0, abi.BLOCK_LEASES_MAX),
        *(("bytes of leased memory", lease.size_bytes, 1, abi.MEMORY_BYTES_MAX) for lease in spec.memory_leases),
    )
    for what, value, least, most in bounds:
        if not least <= value <= most:
            raise GrafosError("limit_exceeded", f"{value} {what} are not between {least} and {most}")


def aged(spec: RunSpec, seconds: float) -> RunSpec:
    """The spec after it has waited for so long: its leases have that much less left."""
    leases = tuple(MemoryLease(lease.size_bytes, lease.seconds_left - seconds) for lease in spec.memory_leases)
    return msgspec.structs.replace(spec, memory_leases=leases)
