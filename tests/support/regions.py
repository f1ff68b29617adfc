"""A shared region for tasklets that run in this process."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import call_layers
from msgspec.structs import replace
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


class Turns:
    """One call at a time of several runs on one region: when each of them is about to make one, chance says whose is
    next. So a race is the same each time with the same seed."""

    def __init__(self, region: OneRegion, seed: int, count: int) -> None:
        self._region, self._chance = region, random.Random(seed)
        self._live = set(range(count))
        self._waiting: set[int] = set()
        self._next: int | None = None
        self._changed = threading.Condition()

    def ask(self, lane: int, wish: RegionWish) -> RegionReply:
        with self._changed:
            self._waiting.add(lane)
            self._choose()
            self._changed.wait_for(lambda: self._next == lane)
            self._waiting.discard(lane)
            self._next = None
            return self._region.ask(wish)

    def leave(self, lane: int) -> None:
        with self._changed:
            self._live.discard(lane)
            self._choose()

    def _choose(self) -> None:
        if self._next is None and self._live and self._waiting == self._live:
            self._next = self._chance.choice(sorted(self._live))
            self._changed.notify_all()


def run_together(region: OneRegion, seed: int, runs: Sequence[tuple[bytes, bytes]], fuel: int) -> list[RunOutcome]:
    """Runs modules side by side, each with its input; a seed chooses the order of their calls on the region."""
    turns = Turns(region, seed, len(runs))

    def run(lane: int) -> RunOutcome:
        try:
            module, data = runs[lane]
            return run_on(region, module, data, fuel, ask=partial(turns.ask, lane), run_id=f"run-of-lane-{lane}")
        finally:
            turns.leave(lane)

    with ThreadPoolExecutor(len(runs)) as pool:
        return list(pool.map(run, range(len(runs))))


def run_on(
    region: OneRegion,
    module: bytes,
    data: bytes,
    fuel: int = abi.FUEL_DEFAULT,
    *,
    ask: Callable[[RegionWish], RegionReply] | None = None,
    run_id: str = "",
) -> RunOutcome:
    """Runs the module with this input; the region is all that it can attach to."""
    runtime = Runtime(SystemClock(), call_layers.new_engine())
    try:
        spec = spec_of(module, data, fuel=fuel)
        if run_id:
            spec = replace(spec, context=replace(spec.context, run_id=run_id))
        host_calls = partial(HostCalls, ask_regions=ask or region.ask)
        return runtime.run(runtime.load(module), spec, host_calls=host_calls)
    finally:
        runtime.close()
