"""What the imports do: the host's half of one run, without a word about the engine that runs the guest.

``HostCalls`` is made anew for every run and holds all that the run may read and all that it writes. Its public methods
bear the names of the imports in ``abi.IMPORTS`` and take the guest's integers as the engine hands them over, signed;
they answer a count or a status and raise nothing for anything a guest does. The engine gives each run a ``Guest``,
through which linear memory and fuel are reached, so any layer that calls WebAssembly can stand below.
Source: ``docs/reference/tasklet-abi.md``, section 4.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from grafos_cell import abi
from grafos_cell.memory_calls import LeasedMemory, MemoryCalls
from grafos_cell.region_calls import AskRegions, no_regions
from grafos_cell.run import LeaseAnswer, LeaseCall, LeaseDesk

_U32 = 0xFFFF_FFFF
_U64 = 0xFFFF_FFFF_FFFF_FFFF


class Guest(Protocol):
    """The running instance, as far as host calls need it. Addresses and lengths are unsigned."""

    def holds(self, pointer: int, length: int) -> bool:
        """Whether the range lies in linear memory as it is now."""
        ...

    def read(self, pointer: int, length: int) -> bytes:
        """A copy of a range that ``holds``."""
        ...

    def write(self, pointer: int, data: bytes | memoryview) -> None:
        """Copies ``data`` to a range that ``holds``."""
        ...

    def fuel_left(self) -> int:
        """Units left at this moment."""
        ...

    def pay(self, units: int) -> bool:
        """Takes so many units, or all there are; whether they were enough."""
        ...

    def refuel(self, units: int) -> None:
        """Gives so many units more."""
        ...


class LeasedBlocks:
    """The blocks of one lease. They are at the desk, where each move is checked and takes effect at once."""

    def __init__(self, count: int, slot: int, desk: LeaseDesk) -> None:
        self.count = count
        self._slot = slot
        self._desk = desk

    def status(self) -> int:
        """``abi.OK`` while the lease lives, else the status that every access gets."""
        return self._desk(LeaseCall("query", "block", self._slot)).status

    def read(self, lba: int) -> LeaseAnswer:
        return self._desk(LeaseCall("block_read", "block", self._slot, lba))

    def write(self, lba: int, data: bytes) -> LeaseAnswer:
        return self._desk(LeaseCall("block_write", "block", self._slot, lba, data))


class HostCalls(MemoryCalls):
    """One run's buffers, results and leases; see the module's docstring.

    After the run: ``response`` (empty when none was written), ``output``, ``log_text()``, ``fail_text`` (None when the
    guest gave none), ``refused_response`` and ``refused_output`` (the status of a write that was not made good),
    ``wanted_bytes`` (None, or what the guest said it could not get), ``is_out_of_fuel``.
    """

    def __init__(
        self,
        context: bytes,
        input_bytes: bytes,
        fuel: int,
        regions: Sequence[LeasedMemory] = (),
        blocks: Sequence[LeasedBlocks] = (),
        ask_regions: AskRegions = no_regions,
    ) -> None:
        super().__init__(regions, ask_regions)
        self._buffers = {abi.CONTEXT_HANDLE: context, abi.INPUT_HANDLE: input_bytes}
        self.fuel_given = fuel
        """Units that the run was given so far; a service is given more as it goes on."""
        self._blocks = blocks
        self._log: list[str] = []
        self._log_bytes = 0
        self.response = b""
        self.output = bytearray()
        self.is_log_cut = False
        self.fail_text: str | None = None
        self.refused_response = abi.OK
        self.refused_output = abi.OK
        self.wanted_bytes: int | None = None
        self.is_out_of_fuel = False

    def attach(self, guest: Guest) -> None:
        """Names the instance that the calls will come from; before that, there are none."""
        self.guest = guest

    def log_text(self) -> str:
        """The entries, one a line."""
        return "\n".join(self._log)

    # --- grafos_tasklet_v0 ------------------------------------------------------------------------------------------

    def buffer_read(self, handle: int, offset: int, dst: int, length: int) -> int:
        buffer = self._buffers.get(handle & _U32)
        offset, dst, length = offset & _U32, dst & _U32, length & _U32
        if buffer is None or offset > len(buffer) or not self.guest.holds(dst, length):
            return abi.INVALID_ARGUMENT
        part = memoryview(buffer)[offset : offset + length]
        if not self._pay(len(part)):
            return abi.CAPACITY_EXCEEDED
        self.guest.write(dst, part)
        return len(part)

    def response_write(self, pointer: int, length: int) -> int:
        status, data = self._take(pointer, length, abi.RESPONSE_BYTES_MAX)
        if status == abi.OK and not is_json(data):
            status = abi.INVALID_ARGUMENT
        if status == abi.OK:
            self.response = data
        self.refused_response = status
        return status

    def output_write(self, pointer: int, length: int) -> int:
        status, data = self._take(pointer, length, abi.OUTPUT_BYTES_MAX - len(self.output))
        if status == abi.OK:
            self.output += data
        elif status == abi.CAPACITY_EXCEEDED:
            self.refused_output = status
        return status

    def log_write(self, pointer: int, length: int) -> int:
        room = abi.LOG_BYTES_MAX - self._log_bytes - 1
        status, data = self._take(pointer, length, min(room, abi.LOG_ENTRY_BYTES_MAX))
        if status == abi.OK:
            self._log.append(plain_text(data))
            self._log_bytes += len(data) + 1
        elif status == abi.CAPACITY_EXCEEDED:
            self.is_log_cut = True
        return status

    def fail(self, pointer: int, length: int) -> int:
        status, data = self._take(pointer, length, _U32, keep=abi.FAIL_TEXT_BYTES_MAX)
        if status == abi.OK:
            self.fail_text = plain_text(data).replace("\n", " ")
        return status

    def out_of_memory(self, wanted: int) -> int:
        self.wanted_bytes = wanted & _U64
        return abi.OK

    def clock_ns(self) -> int:
        return self.fuel_given - self.guest.fuel_left()

    def fuel_remaining(self) -> int:
        return self.guest.fuel_left()

    # --- fabricbios_fbbu_v0 -----------------------------------------------------------------------------------------

    def fbbu_get_num_blocks(self, slot: int) -> int:
        slot &= _U32
        if slot >= len(self._blocks):
            return abi.UNSUPPORTED
        status = self._blocks[slot].status()
        return self._blocks[slot].count if status == abi.OK else status

    def fbbu_read_block(self, slot: int, lba: int, dst: int) -> int:
        slot, lba, dst = slot & _U32, lba & _U64, dst & _U32
        status = self._check_block(slot, lba, dst)
        if status == abi.OK:
            answer = self._blocks[slot].read(lba)
            status = answer.status
            if status == abi.OK:
                self._pay(abi.BLOCK_BYTES)
                self.guest.write(dst, answer.data)
        return status

    def fbbu_write_block(self, slot: int, lba: int, src: int) -> int:
        slot, lba, src = slot & _U32, lba & _U64, src & _U32
        status = self._check_block(slot, lba, src)
        if status == abi.OK:
            status = self._blocks[slot].write(lba, self.guest.read(src, abi.BLOCK_BYTES)).status
            if status == abi.OK:
                self._pay(abi.BLOCK_BYTES)
        return status

    # --- what they share --------------------------------------------------------------------------------------------

    def unsupported(self, *_arguments: int) -> int:
        """What every import answers that is known, and not there for this run."""
        return abi.UNSUPPORTED

    # grafos_svc_v0, in a tasklet that is no service; ``svc_calls`` has a service's.
    svc_listen: Callable[..., int] = unsupported
    svc_wait: Callable[..., int] = unsupported
    svc_accept: Callable[..., int] = unsupported
    svc_read: Callable[..., int] = unsupported
    svc_write: Callable[..., int] = unsupported
    svc_close: Callable[..., int] = unsupported

    def _check_block(self, slot: int, lba: int, pointer: int) -> int:
        """The checks of a block's move but for the lease's, which is made with the move itself; when another one fails
        the lease is asked about first, since its state comes before them in the ABI's order."""
        if slot >= len(self._blocks):
            return abi.UNSUPPORTED
        blocks = self._blocks[slot]
        is_in_memory, is_in_lease = self.guest.holds(pointer, abi.BLOCK_BYTES), lba < blocks.count
        if is_in_memory and is_in_lease and self.guest.fuel_left() >= abi.BLOCK_BYTES:
            return abi.OK
        status = blocks.status()
        if status != abi.OK:
            return status
        if is_in_memory and is_in_lease:
            self._pay(abi.BLOCK_BYTES)
        return abi.CAPACITY_EXCEEDED if is_in_memory else abi.INVALID_ARGUMENT

    def _take(self, pointer: int, length: int, room: int, keep: int = _U32) -> tuple[int, bytes]:
        """Reads (the first ``keep`` bytes of) what the guest hands over, if in memory, within ``room`` and paid for."""
        pointer, length = pointer & _U32, length & _U32
        if not self.guest.holds(pointer, length):
            return abi.INVALID_ARGUMENT, b""
        if length > room or not self._pay(length):
            return abi.CAPACITY_EXCEEDED, b""
        return abi.OK, self.guest.read(pointer, min(length, keep))

    def _note(self, text: str) -> None:
        line = plain_text(f"grafos: {text}".encode()[: abi.LOG_ENTRY_BYTES_MAX]).replace("\n", " ")
        size = len(line.encode()) + 1
        if self._log_bytes + size <= abi.LOG_BYTES_MAX:
            self._log.append(line)
            self._log_bytes += size

    def _pay(self, units: int) -> bool:
        """Takes the price of moving bytes. Without enough fuel the run is over: the guest stops at its next check."""
        if units and not self.guest.pay(units):
            self.is_out_of_fuel = True
            return False
        return True


# --- texts ----------------------------------------------------------------------------------------------------------

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What could drive a terminal: no text of a run has it."""
# Possessive, and content to run to the end where a string is not closed: linear in any text.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_LONG_NUMBER = re.compile(rb"[0-9]{%d}" % (abi.RESPONSE_DIGITS_MAX + 1))
_ONE_KIND_OF_BRACKET = bytes.maketrans(b"{}", b"[]")
_NOT_A_BRACKET = bytes(sorted(set(range(256)) - set(b"[]{}")))


def plain_text(data: bytes) -> str:
    """``data`` as printable text: what is not UTF-8, and control characters but tab and line feed, become U+FFFD."""
    return CONTROL.sub("\ufffd", data.decode("utf-8", "replace"))


def is_json(data: bytes) -> bool:
    """Whether ``data`` is one JSON text as section 5 of the ABI page defines it."""
    bare = _STRING.sub(b"", data)
    if _LONG_NUMBER.search(bare) or not _is_shallow(bare):
        return False
    try:
        msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return True


def _is_shallow(bare: bytes) -> bool:
    """Whether brackets outside strings nest at most ``RESPONSE_DEPTH_MAX`` deep; peels off one level a round."""
    brackets = bare.translate(_ONE_KIND_OF_BRACKET, _NOT_A_BRACKET)
    for _ in range(abi.RESPONSE_DEPTH_MAX):
        if not brackets:
            return True
        brackets = brackets.replace(b"[]", b"")
    return not brackets
