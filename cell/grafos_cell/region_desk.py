"""The shared regions that one run has attached to, at the daemon of the run's cell.

The tokens stay here, and each call presents the region's. A token that has ended, or that a renewal of the lease has
made worthless, is replaced by attaching anew; the call that was refused for it had no effect, and is made again under
its own number. Regions of this very cell are reached without the link.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from msgspec.structs import replace

from grafos_cell import abi
from grafos_cell.holdings import BrokerState
from grafos_cell.link import Link
from grafos_cell.region_calls import RegionReply, RegionWish
from grafos_cell.region_link import RegionLink
from grafos_cell.regions import Regions
from grafos_core.errors import GrafosError
from grafos_core.lease_refs import LeaseRef, read_lease_ref
from grafos_scheduler.region_frames import (
    ATTACH,
    COMPARE_EXCHANGE,
    FETCH_ADD,
    READ,
    REGION_MOVE_BYTES_MAX,
    SIZE,
    WRITE,
    RegionAnswer,
    RegionCall,
)

STATUS_OF = {
    "capability_refused": abi.REVOKED,
    "cell_busy": abi.DISCONNECTED,
    "cell_lost": abi.DISCONNECTED,
    "cross_fabric": abi.UNSUPPORTED,
    "fenced": abi.FENCED,
    "generation_stale": abi.LEASE_EXPIRED,
    "lease_expired": abi.LEASE_EXPIRED,
    "lease_revoked": abi.REVOKED,
    "lease_unknown": abi.INVALID_ARGUMENT,
    "limit_exceeded": abi.CAPACITY_EXCEEDED,
    "placement_failed": abi.CAPACITY_EXCEEDED,
    "request_invalid": abi.INVALID_ARGUMENT,
    "token_expired": abi.LEASE_EXPIRED,
    "token_refused": abi.REVOKED,
    "unsupported": abi.UNSUPPORTED,
}
"""What a guest is answered for each refusal of a call."""
STALE = frozenset({"capability_refused", "generation_stale", "token_expired"})
"""Refusals that a fresh token helps against, if the region is still there. Where it is not, as after a new start of its
cell, only the refusal of a fresh one says why."""
OPERATIONS = frozenset({SIZE, READ, WRITE, COMPARE_EXCHANGE, FETCH_ADD})

log = logging.getLogger("grafos.cell")


class CellRegions:
    """All that a daemon has to do with regions: those that it holds, and those of others that its runs reach."""

    def __init__(self, state: BrokerState, now: Callable[[], float], link: Link) -> None:
        self._state = state
        self._held = Regions(state, now)
        self._link = link
        self._others = RegionLink(link.send, lambda: link.protocol)

    def of_run(self, run_id: str, own_slots: int) -> RunRegions:
        """What a run may attach to, beside the memory that it leases itself."""
        return RunRegions(self._state, self._held, self._others, run_id, abi.MEMORY_LEASES_MAX - own_slots)

    def told(self, frame: RegionCall | RegionAnswer) -> None:
        """The scheduler passes a call on, or brings the answer to one."""
        if isinstance(frame, RegionCall):
            self._link.send(self._held.serve(frame))
        else:
            self._others.answered(frame)

    def linked(self) -> None:
        """Another link is up; over the one before nothing is answered any more."""
        self._others.cut()

    def remove(self, lease_id: str) -> None:
        """The lease is over; one that is no region's changes nothing."""
        self._held.remove(lease_id)


class _Open:
    """One attached region: where it is, the token that opens it, and the number of the run's last call."""

    def __init__(self, call: RegionCall, size_bytes: int) -> None:
        self.call = call
        self.size_bytes = size_bytes
        self.sequence = 0


class RunRegions:
    """The regions of one run. ``answer`` is the run's ``RegionDesk``."""

    def __init__(self, state: BrokerState, regions: Regions, link: RegionLink, run_id: str, regions_max: int) -> None:
        self._regions_max = regions_max
        self._cell_id = state.settings.cell_id
        self._regions = regions
        self._link = link
        self._run_id = run_id
        self._open: list[_Open] = []

    async def answer(self, wish: RegionWish) -> RegionReply:
        """What the worker asked for, done or refused."""
        try:
            if wish.operation == ATTACH:
                return await self._attach(wish.data)
            return await self._use(wish)
        except GrafosError as refusal:
            return _refused(refusal.code, refusal.what)

    async def _attach(self, text: bytes) -> RegionReply:
        ref = read_lease_ref(text)
        for place, known in enumerate(self._open):
            call = known.call
            if (call.fabric, call.cell_id, call.lease_id) == (ref.fabric, ref.cell, ref.lease_id):
                return self._attached(place)
        if len(self._open) >= self._regions_max:
            return _refused("limit_exceeded", f"the run has all {abi.MEMORY_LEASES_MAX} memory slots that it may")
        asked = RegionCall(0, ATTACH, ref.fabric, ref.cell, ref.lease_id, ref.generation, self._run_id)
        answer = await self._link.ask(asked)
        if answer.code:
            return _refused(answer.code, answer.what)
        self._open.append(_Open(_with_token(asked, answer), answer.size_bytes))
        return self._attached(len(self._open) - 1)

    def _attached(self, place: int) -> RegionReply:
        region = self._open[place]
        call = region.call
        ref = LeaseRef(call.fabric, call.cell_id, call.lease_id, call.generation)
        return RegionReply(abi.OK, data=ref.to_json(), place=place, size_bytes=region.size_bytes)

    async def _use(self, wish: RegionWish) -> RegionReply:
        if not 0 <= wish.place < len(self._open) or wish.operation not in OPERATIONS:
            raise GrafosError("unsupported", "the run is not attached to such a region")
        if not _fits_frame(wish):
            raise GrafosError("request_invalid", "no call on a region is like that")
        region = self._open[wish.place]
        region.sequence += 1
        answer = await self._ask(region, wish)
        if answer.code in STALE:
            fresh = await self._link.ask(replace(region.call, operation=ATTACH, token=""))
            if fresh.code:
                return _refused(fresh.code, fresh.what)
            region.call = _with_token(region.call, fresh)
            answer = await self._ask(region, wish)
        if answer.code:
            return _refused(answer.code, answer.what)
        if len(answer.data) != (wish.length if wish.operation == READ else 0):
            return _refused("answer_invalid", f"{len(answer.data)} bytes came, and {wish.length} were asked for")
        return RegionReply(abi.OK, data=answer.data, found=answer.found, size_bytes=region.size_bytes)

    async def _ask(self, region: _Open, wish: RegionWish) -> RegionAnswer:
        call = replace(
            region.call,
            operation=wish.operation,
            sequence=region.sequence,
            offset=wish.offset,
            length=wish.length,
            data=wish.data,
            value=wish.value,
            new=wish.new,
        )
        return self._regions.serve(call) if call.cell_id == self._cell_id else await self._link.ask(call)


def _fits_frame(wish: RegionWish) -> bool:
    """What no worker of ours breaks. One that its guest broke out of must not cost the whole cell its link."""
    return min(wish.offset, wish.length, wish.value, wish.new) >= 0 and len(wish.data) <= REGION_MOVE_BYTES_MAX


def _with_token(call: RegionCall, answer: RegionAnswer) -> RegionCall:
    return replace(call, token=answer.token, generation=answer.generation)


def _refused(code: str, what: str) -> RegionReply:
    if code not in STATUS_OF:
        log.error("a call on a region was refused with %r: %s", code[:80], what)
    return RegionReply(STATUS_OF.get(code, abi.DISCONNECTED), note=f"{code}: {what}"[:500])
