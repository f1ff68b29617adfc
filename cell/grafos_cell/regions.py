"""The shared regions that this cell holds: their bytes, and every effect on them.

Whoever asks (a run of this very cell, or through the scheduler one of another) presents a token. It is checked, with
its generation, this daemon's start and the lease, at the moment of the effect; the broker's word ends a region between
two operations and never within one. Operations happen one after the other, each whole or not at all.

Of each run the number of its last call is known here, and what a change came to: the same call again changes nothing
and gets the same answer, and an earlier one that comes late is refused. So what a run was told to be lost has happened
before its next call is answered, or never.
"""

from __future__ import annotations

import hmac
import mmap
from collections.abc import Callable
from dataclasses import dataclass, field

from grafos_cell.abi import WORD_BYTES
from grafos_cell.broker_tokens import check_opened_token, check_token, mint_token
from grafos_cell.holdings import BrokerState, HeldLease
from grafos_cell.region_calls import after_atomic
from grafos_core.errors import GrafosError
from grafos_core.tokens import CAPABILITY_TTL_MAX_S, Caveat, OpenedCapability, Use, narrow, open_capability
from grafos_scheduler.region_frames import (
    ATTACH,
    CHANGES,
    COMPARE_EXCHANGE,
    FETCH_ADD,
    READ,
    REGION_MOVE_BYTES_MAX,
    SIZE,
    WRITE,
    RegionAnswer,
    RegionCall,
)

_U64 = 0xFFFF_FFFF_FFFF_FFFF
RUNS_AT_ONCE_MAX = 65_536
"""Runs attached to one region within a token's life; each costs some hundred bytes."""
_USES = {name: f"region_{name}" for name in (SIZE, READ, WRITE, COMPARE_EXCHANGE, FETCH_ADD)}
_MAY = Caveat("operation", ",".join(_USES.values()))


@dataclass
class _Attached:
    """One run: when its newest token was minted, the number of its last call, and what that came to if it changed;
    and the token that it showed last, with what it says."""

    at: float
    sequence: int = 0
    answer: RegionAnswer | None = None
    token: bytes = b""
    opened: OpenedCapability | None = None


@dataclass
class _Region:
    memory: mmap.mmap
    size_bytes: int
    runs: dict[str, _Attached] = field(default_factory=dict)


class Regions:
    """The regions of one daemon; ``now`` is Unix time, ``state`` the broker's."""

    def __init__(self, state: BrokerState, now: Callable[[], float]) -> None:
        self._state = state
        self._now = now
        self._regions: dict[str, _Region] = {}

    def serve(self, call: RegionCall) -> RegionAnswer:
        """Carries the call out, or refuses it with the error's code; raises nothing."""
        try:
            return self._attach(call) if call.operation == ATTACH else self._use(call)
        except GrafosError as refusal:
            return RegionAnswer(call.number, code=refusal.code, what=refusal.what)

    def remove(self, lease_id: str) -> None:
        """The lease is over: its bytes are gone, and given back to the machine."""
        region = self._regions.pop(lease_id, None)
        if region is not None:
            region.memory.close()

    def _attach(self, call: RegionCall) -> RegionAnswer:
        """A token for this run alone, and for nothing but what can be done to regions."""
        now = self._now()
        held = self._state.leases.get(call.lease_id)
        if held is None or not held.shared:
            raise GrafosError("lease_expired", f"this cell holds no region {call.lease_id}")
        token = mint_token(self._state, held, now)
        lease = check_token(self._state, token, Use(ATTACH), now)
        region = self._region(lease)
        if call.run_id in region.runs:
            region.runs[call.run_id].at = now
        else:
            _forget_runs(region, now - CAPABILITY_TTL_MAX_S)
            region.runs[call.run_id] = _Attached(now)
        token = narrow(narrow(token, Caveat("run", call.run_id)), _MAY)
        size = region.size_bytes
        return RegionAnswer(call.number, size_bytes=size, generation=lease.generation, token=token)

    def _use(self, call: RegionCall) -> RegionAnswer:
        operation = _USES.get(call.operation)
        if operation is None:
            raise GrafosError("request_invalid", f"{call.operation[:40]!r} is nothing that is done to a region")
        use = Use(operation, call.run_id, hardware=self._state.settings.hardware)
        lease = check_opened_token(self._state, self._opened(call), use, self._now())
        if not lease.shared or lease.lease_id != call.lease_id:
            raise GrafosError("capability_refused", f"the token does not open region {call.lease_id}")
        region = self._region(lease)
        run = region.runs.get(call.run_id)
        if run is None or call.sequence < run.sequence or not call.sequence:
            raise GrafosError("capability_refused", "the call comes late: the run has asked for something else since")
        if call.sequence == run.sequence and run.answer is not None:
            return RegionAnswer(call.number, found=run.answer.found)
        answer = _done(region, call)
        run.sequence, run.answer = call.sequence, answer if call.operation in CHANGES else None
        return answer

    def _opened(self, call: RegionCall) -> OpenedCapability:
        """What the call's token says. A run presents the same one with each call: that its MAC is ours stays true of
        that very text; what can change is looked at with each call all the same."""
        region, presented = self._regions.get(call.lease_id), call.token.encode()
        run = region.runs.get(call.run_id) if region is not None else None
        if run is not None and run.opened is not None and hmac.compare_digest(run.token, presented):
            return run.opened
        opened = open_capability(self._state.settings.token_key, call.token)
        if run is not None:
            run.token, run.opened = presented, opened
        return opened

    def _region(self, lease: HeldLease) -> _Region:
        """The region's bytes, all zero at first. They are taken when the first run attaches."""
        region = self._regions.get(lease.lease_id)
        if region is None:
            try:
                region = _Region(mmap.mmap(-1, lease.amount), lease.amount)
            except OSError as error:
                what = f"the cell has no room left for the {lease.amount} bytes of the region"
                raise GrafosError("placement_failed", what, why=str(error)) from None
            self._regions[lease.lease_id] = region
        return region


def _forget_runs(region: _Region, before: float) -> None:
    """Forgets the runs that have no token any more. ``cell_busy`` when there are too many all the same."""
    if len(region.runs) < RUNS_AT_ONCE_MAX:
        return
    region.runs = {run_id: run for run_id, run in region.runs.items() if run.at > before}
    if len(region.runs) >= RUNS_AT_ONCE_MAX:
        raise GrafosError("limit_exceeded", f"{RUNS_AT_ONCE_MAX} runs are attached to the region already")


def _done(region: _Region, call: RegionCall) -> RegionAnswer:
    """The effect. What does not lie in the region, or is no word where one is needed, is refused before it."""
    length = {READ: call.length, WRITE: len(call.data), SIZE: 0}.get(call.operation, WORD_BYTES)
    if call.offset + length > region.size_bytes or length > REGION_MOVE_BYTES_MAX:
        raise GrafosError("limit_exceeded", f"{length} bytes at {call.offset} do not lie in the region")
    end = call.offset + length
    if call.operation == SIZE:
        return RegionAnswer(call.number, size_bytes=region.size_bytes)
    if call.operation == READ:
        return RegionAnswer(call.number, data=region.memory[call.offset : end])
    if call.operation == WRITE:
        region.memory[call.offset : end] = call.data
        return RegionAnswer(call.number)
    if call.offset % WORD_BYTES or max(call.value, call.new) > _U64:
        raise GrafosError("request_invalid", f"offset {call.offset} is that of no word of {WORD_BYTES} bytes")
    found = int.from_bytes(region.memory[call.offset : end], "little")
    after = after_atomic(call.operation == FETCH_ADD, found, call.value, call.new)
    region.memory[call.offset : end] = after.to_bytes(WORD_BYTES, "little")
    return RegionAnswer(call.number, found=found)
