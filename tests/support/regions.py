"""A shared region for tasklets that run in this process."""

from __future__ import annotations

from functools import partial

import call_layers
from tasklets import spec_of

from grafos_cell import abi
from grafos_cell.hostcalls import HostCalls
from grafos_cell.region_calls import RegionReply, RegionWish, after_atomic
from grafos_cell.run import RunOutcome
from grafos_cell.runtime import Runtime
from grafos_core.clock import SystemClock
from grafos_core.lease_refs import LeaseRef
from grafos_scheduler import region_frames


class OneRegion:
    """A region at the cell that holds it. Of its calls every seventh gets no answer: by turns before and after what it
    does."""

    REFERENCE = LeaseRef("f-1", "c-1", "lease-1", 1).to_json().decode()

    def __init__(self, size_bytes: int, *, fails: bool = False) -> None:
        self.data = bytearray(size_bytes)
        self.fails = fails
        self.calls = 0

    def ask(self, wish: RegionWish) -> RegionReply:
        if wish.operation == region_frames.ATTACH:
            if wish.data.decode() != self.REFERENCE:
                return RegionReply(abi.INVALID_ARGUMENT)
            return RegionReply(abi.OK, wish.data, size_bytes=len(self.data))
        self.calls += 1
        is_lost = self.fails and self.calls % 7 == 0
        if is_lost and self.calls % 14 == 0:
            return RegionReply(abi.DISCONNECTED)
        reply = self.carry_out(wish)
        return RegionReply(abi.DISCONNECTED) if is_lost else reply

    def carry_out(self, wish: RegionWish) -> RegionReply:
        if wish.operation == region_frames.READ:
            return RegionReply(abi.OK, bytes(self.data[wish.offset : wish.offset + wish.length]))
        if wish.operation == region_frames.WRITE:
            self.data[wish.offset : wish.offset + len(wish.data)] = wish.data
        elif wish.operation != region_frames.SIZE:
            word = slice(wish.offset, wish.offset + abi.WORD_BYTES)
            found = int.from_bytes(self.data[word], "little")
            after = after_atomic(wish.operation == region_frames.FETCH_ADD, found, wish.value, wish.new)
            self.data[word] = after.to_bytes(abi.WORD_BYTES, "little")
            return RegionReply(abi.OK, found=found)
        return RegionReply(abi.OK)


def run_on(region: OneRegion, module: bytes, data: bytes, fuel: int = abi.FUEL_DEFAULT) -> RunOutcome:
    """Runs the module with this input; the region is all that it can attach to."""
    runtime = Runtime(SystemClock(), call_layers.new_engine())
    try:
        spec = spec_of(module, data, fuel=fuel)
        return runtime.run(runtime.load(module), spec, host_calls=partial(HostCalls, ask_regions=region.ask))
    finally:
        runtime.close()
