"""``fabricbios_fbmu_v0``: the calls on leased memory, of a run's own leases and of regions that it attaches to.

A run's own memory is in its worker; an attached region is at the daemon of the cell that holds it, and each call on one
is a question to this cell's daemon. Both are slots in one row, the run's own first.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from grafos_cell import abi
from grafos_cell.region_calls import AskRegions, RegionReply, RegionWish, after_atomic
from grafos_cell.run import LeaseCall, LeaseDesk, no_desk
from grafos_core.clock import Clock
from grafos_core.lease_refs import LEASE_REF_BYTES_MAX
from grafos_scheduler.region_frames import (
    ATTACH,
    COMPARE_EXCHANGE,
    FETCH_ADD,
    READ,
    REGION_MOVE_BYTES_MAX,
    SIZE,
    WRITE,
)

if TYPE_CHECKING:
    from grafos_cell.hostcalls import Guest

_U32 = 0xFFFF_FFFF
_U64 = 0xFFFF_FFFF_FFFF_FFFF


class Slot(Protocol):
    """One slot. ``call_fuel`` is what each call costs beside the bytes that it moves, at most ``move_bytes_max``.
    ``is_here``: asking for the ``status`` first costs nothing, and every operation then succeeds."""

    size_bytes: int
    call_fuel: int
    move_bytes_max: int
    is_here: bool

    def status(self) -> int: ...

    def ref(self) -> bytes: ...

    def read(self, offset: int, length: int) -> tuple[int, bytes | memoryview]: ...

    def write(self, offset: int, data: bytes) -> int: ...

    def atomic(self, operation: str, offset: int, value: int, new: int) -> tuple[int, int]: ...


class LeasedMemory:
    """The region of one memory lease of the run's own, at the place where its effects land.

    ``expires_at`` is on the clock's monotonic time; every access asks ``status`` first. A lease that has run out may
    have been renewed meanwhile, which the desk knows.
    """

    call_fuel = 0
    move_bytes_max = abi.MEMORY_BYTES_MAX
    is_here = True

    def __init__(
        self, size_bytes: int, expires_at: float, clock: Clock, slot: int = 0, desk: LeaseDesk = no_desk
    ) -> None:
        self.size_bytes = size_bytes
        self.data = memoryview(bytearray(size_bytes))
        self._expires_at = expires_at
        self._clock = clock
        self._query = LeaseCall("query", "mem", slot)
        self._desk = desk

    def status(self) -> int:
        """``abi.OK`` while the lease lives, else the status that every access gets."""
        if self._clock.monotonic() < self._expires_at:
            return abi.OK
        answer = self._desk(self._query)
        if answer.status == abi.OK:
            self._expires_at = self._clock.monotonic() + answer.seconds_left
        # Nobody to ask: all that is known is that it has run out.
        return abi.LEASE_EXPIRED if answer.status == abi.DISCONNECTED else answer.status

    def ref(self) -> bytes:
        """A run's own lease is nobody else's, so there is nothing to refer to."""
        return b""

    def read(self, offset: int, length: int) -> tuple[int, bytes | memoryview]:
        return abi.OK, self.data[offset : offset + length]

    def write(self, offset: int, data: bytes) -> int:
        self.data[offset : offset + len(data)] = data
        return abi.OK

    def atomic(self, operation: str, offset: int, value: int, new: int) -> tuple[int, int]:
        word = slice(offset, offset + abi.WORD_BYTES)
        found = int.from_bytes(self.data[word], "little")
        self.data[word] = after_atomic(operation == FETCH_ADD, found, value, new).to_bytes(abi.WORD_BYTES, "little")
        return abi.OK, found


class AttachedRegion:
    """A region that the run has attached to, as far as the worker knows it; ``place`` is its name at the daemon."""

    call_fuel = abi.REGION_CALL_FUEL
    move_bytes_max = REGION_MOVE_BYTES_MAX
    is_here = False

    def __init__(self, reply: RegionReply, ask: AskRegions) -> None:
        self.size_bytes = reply.size_bytes
        self._place = reply.place
        self._ref = reply.data
        self._ask = ask

    def status(self) -> int:
        return self._do(SIZE).status

    def ref(self) -> bytes:
        return self._ref

    def read(self, offset: int, length: int) -> tuple[int, bytes | memoryview]:
        reply = self._do(READ, offset, length)
        return reply.status, reply.data

    def write(self, offset: int, data: bytes) -> int:
        return self._do(WRITE, offset, data=data).status

    def atomic(self, operation: str, offset: int, value: int, new: int) -> tuple[int, int]:
        reply = self._do(operation, offset, value=value, new=new)
        return reply.status, reply.found

    def _do(
        self, operation: str, offset: int = 0, length: int = 0, *, data: bytes = b"", value: int = 0, new: int = 0
    ) -> RegionReply:
        return self._ask(RegionWish(operation, self._place, offset, length, data, value, new))


class MemoryCalls(ABC):
    """The calls themselves; ``HostCalls`` has the guest, the fuel and the log."""

    guest: Guest

    def __init__(self, regions: Sequence[LeasedMemory], ask_regions: AskRegions) -> None:
        self._slots: list[Slot] = [*regions]
        self._own = len(regions)
        self._ask_regions = ask_regions

    @abstractmethod
    def _pay(self, units: int) -> bool:
        """Takes so much fuel; whether there was enough."""

    @abstractmethod
    def _note(self, text: str) -> None:
        """A line of the host's in the run's log."""

    def fbmu_attach(self, ref: int, length: int) -> int:
        ref, length = ref & _U32, length & _U32
        if not 0 < length <= LEASE_REF_BYTES_MAX or not self.guest.holds(ref, length):
            return abi.INVALID_ARGUMENT
        if not self._pay(length + abi.REGION_CALL_FUEL):
            return abi.CAPACITY_EXCEEDED
        reply = self._ask_regions(RegionWish(ATTACH, data=self.guest.read(ref, length)))
        if reply.status != abi.OK:
            if reply.note:
                self._note(f"fbmu_attach: {reply.note}")
            return reply.status
        slot = self._own + reply.place
        if slot == len(self._slots):
            self._slots.append(AttachedRegion(reply, self._ask_regions))
        return slot

    def fbmu_ref(self, slot: int, dst: int, capacity: int) -> int:
        region, dst, capacity = self._slot(slot), dst & _U32, capacity & _U32
        text = region.ref() if region else b""
        if not text:
            return abi.UNSUPPORTED
        if not self.guest.holds(dst, capacity):
            return abi.INVALID_ARGUMENT
        if len(text) > capacity:
            return abi.CAPACITY_EXCEEDED
        if not self._pay(len(text)):
            return abi.CAPACITY_EXCEEDED
        self.guest.write(dst, text)
        return len(text)

    def fbmu_size(self, slot: int) -> int:
        region = self._slot(slot)
        if region is None:
            return abi.UNSUPPORTED
        if not self._pay(region.call_fuel):
            return abi.CAPACITY_EXCEEDED
        status = region.status()
        return region.size_bytes if status == abi.OK else status

    def fbmu_read(self, slot: int, offset: int, dst: int, length: int) -> int:
        region = self._slot(slot)
        if region is None:
            return abi.UNSUPPORTED
        offset, dst, length = offset & _U64, dst & _U32, length & _U32
        status = self._check_move(region, offset, dst, length)
        if status == abi.OK:
            status, data = region.read(offset, length)
            if status == abi.OK:
                self.guest.write(dst, data)
        return status

    def fbmu_write(self, slot: int, offset: int, src: int, length: int) -> int:
        region = self._slot(slot)
        if region is None:
            return abi.UNSUPPORTED
        offset, src, length = offset & _U64, src & _U32, length & _U32
        status = self._check_move(region, offset, src, length)
        return region.write(offset, self.guest.read(src, length)) if status == abi.OK else status

    def fbmu_compare_exchange(self, slot: int, offset: int, expected: int, new: int, found: int) -> int:
        return self._atomic(COMPARE_EXCHANGE, slot, offset, found, expected & _U64, new & _U64)

    def fbmu_fetch_add(self, slot: int, offset: int, delta: int, found: int) -> int:
        return self._atomic(FETCH_ADD, slot, offset, found, delta & _U64)

    def _atomic(self, operation: str, slot: int, offset: int, dst: int, value: int, new: int = 0) -> int:
        region = self._slot(slot)
        if region is None:
            return abi.UNSUPPORTED
        offset, dst = offset & _U64, dst & _U32
        status = self._check_move(region, offset, dst, abi.WORD_BYTES, is_word=True)
        if status == abi.OK:
            status, found = region.atomic(operation, offset, value, new)
            if status == abi.OK:
                self.guest.write(dst, found.to_bytes(abi.WORD_BYTES, "little"))
        return status

    def _slot(self, slot: int) -> Slot | None:
        slot &= _U32
        return self._slots[slot] if slot < len(self._slots) else None

    def _check_move(self, region: Slot, offset: int, pointer: int, length: int, *, is_word: bool = False) -> int:
        """The checks of a move between region and guest, in the ABI's order; pays for it last.

        The state of an attached region is checked with the operation itself, and asked for first only where another
        check fails, since it comes before the others.
        """
        refused = abi.OK
        if not self.guest.holds(pointer, length):
            refused = abi.INVALID_ARGUMENT
        elif offset + length > region.size_bytes or length > region.move_bytes_max:
            refused = abi.CAPACITY_EXCEEDED
        is_crooked = is_word and offset % abi.WORD_BYTES != 0
        if region.is_here or is_crooked or refused != abi.OK:
            status = region.status()
            if status != abi.OK:
                return status
        if refused != abi.OK:
            return refused
        if not self._pay(length + region.call_fuel):
            return abi.CAPACITY_EXCEEDED
        return abi.INVALID_ARGUMENT if is_crooked else abi.OK
