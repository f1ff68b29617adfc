"""The leases of one run, or of one instance, at the daemon: each use is checked against the broker at the moment of its
effect.

The capability tokens stay here, narrowed to the run, and are presented for each use; a renewal brings the next.
Nothing that a worker asks is believed: it may be a guest that broke out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import msgspec

from grafos_cell import abi
from grafos_cell.blocks import BlockStore
from grafos_cell.broker_tokens import LISTEN, check_token
from grafos_cell.holdings import BrokerState, HeldLease
from grafos_cell.run import BlockLease, LeaseAnswer, LeaseCall, MemoryLease
from grafos_core.errors import GrafosError
from grafos_core.tokens import Caveat, Use, narrow
from grafos_scheduler import frames
from grafos_scheduler.service_frames import StartInstance

STATUS_OF = {
    "capability_refused": abi.REVOKED,
    "fenced": abi.FENCED,
    "generation_stale": abi.LEASE_EXPIRED,
    "lease_expired": abi.LEASE_EXPIRED,
    "lease_revoked": abi.REVOKED,
    "token_expired": abi.LEASE_EXPIRED,
    "token_refused": abi.REVOKED,
}
"""What a guest is answered when its token does not open the lease any more."""

log = logging.getLogger("grafos.cell")


class RunLeases:
    """One run's leases, from its start to its end. ``answer`` is the run's ``LeaseDesk``."""

    def __init__(
        self,
        state: BrokerState,
        now: Callable[[], float],
        blocks: BlockStore,
        use: Use,
        lease_ids: Sequence[str],
        tokens: Sequence[str],
    ) -> None:
        self._state = state
        self._now = now
        self._blocks = blocks
        self._use = use
        held = [state.leases[lease_id] for lease_id in lease_ids]
        self._slots = {kind: [lease for lease in held if lease.kind == kind] for kind in ("mem", "block")}
        self._tokens: dict[str, str] = {}
        for lease, token in zip(held, tokens, strict=True):
            self.renewed(lease.lease_id, token)

    @classmethod
    def of_run(
        cls, state: BrokerState, now: Callable[[], float], blocks: BlockStore, start: frames.StartRun
    ) -> RunLeases:
        """Those of a run that was taken on."""
        use = Use("", start.run_id, start.tasklet, start.program, start.module_sha256, state.settings.hardware)
        return cls(state, now, blocks, use, state.runs[start.run_id].lease_ids, start.tokens)

    @classmethod
    def of_instance(
        cls, state: BrokerState, now: Callable[[], float], blocks: BlockStore, start: StartInstance
    ) -> RunLeases:
        """Those of an instance that was taken on."""
        use = Use("", start.instance_id, start.service, start.program, start.module_sha256, state.settings.hardware)
        return cls(state, now, blocks, use, start.leases, start.tokens)

    @property
    def memory(self) -> tuple[MemoryLease, ...]:
        """The memory leases as the run is given them, as of now."""
        return tuple(MemoryLease(lease.amount, lease.expires_at - self._now()) for lease in self._slots["mem"])

    @property
    def blocks(self) -> tuple[BlockLease, ...]:
        """The block leases as the run is given them."""
        return tuple(BlockLease(lease.amount // abi.BLOCK_BYTES) for lease in self._slots["block"])

    def has(self, lease_id: str) -> bool:
        """Whether the lease, of whatever kind, is one of the run's."""
        return lease_id in self._tokens

    def create_blocks(self) -> None:
        """Zero blocks for each block lease; ``store_failed`` when there is no room for them."""
        for lease in self._slots["block"]:
            self._blocks.create(lease.lease_id, lease.amount)

    def sync_blocks(self) -> None:
        for lease in self._slots["block"]:
            try:
                self._blocks.sync(lease.lease_id)
            except OSError as error:
                log.warning("blocks of lease %s are not on the disk: %s", lease.lease_id, error)

    def renewed(self, lease_id: str, token: str) -> None:
        """From here on this token is presented for the lease."""
        self._tokens[lease_id] = narrow(token, Caveat("run", self._use.run_id))

    def listen_status(self, lease_id: str) -> int:
        """Whether the listener lease is honoured, as a host call answers it."""
        try:
            check_token(
                self._state, self._tokens[lease_id], msgspec.structs.replace(self._use, operation=LISTEN), self._now()
            )
        except GrafosError as refusal:
            return STATUS_OF[refusal.code]
        return abi.OK

    def answer(self, call: LeaseCall) -> LeaseAnswer:
        """What the worker asked for, done or refused."""
        slots = self._slots[call.kind]
        if not 0 <= call.slot < len(slots):
            return LeaseAnswer(abi.UNSUPPORTED)
        use = msgspec.structs.replace(self._use, operation=call.operation)
        try:
            lease = check_token(self._state, self._tokens[slots[call.slot].lease_id], use, self._now())
        except GrafosError as refusal:
            return LeaseAnswer(STATUS_OF[refusal.code])
        if call.operation == "query":
            return LeaseAnswer(abi.OK, lease.expires_at - self._now())
        return self._move(call, lease)

    def _move(self, call: LeaseCall, lease: HeldLease) -> LeaseAnswer:
        is_write = call.operation == "block_write"
        if lease.kind != "block" or len(call.data) != (abi.BLOCK_BYTES if is_write else 0):
            return LeaseAnswer(abi.INVALID_ARGUMENT)
        if not 0 <= call.lba < lease.amount // abi.BLOCK_BYTES:
            return LeaseAnswer(abi.CAPACITY_EXCEEDED)
        try:
            if is_write:
                self._blocks.write(lease.lease_id, call.lba, call.data)
                return LeaseAnswer(abi.OK)
            return LeaseAnswer(abi.OK, data=self._blocks.read(lease.lease_id, call.lba))
        except OSError as error:
            log.error("block %d of lease %s: %s", call.lba, lease.lease_id, error)
            return LeaseAnswer(abi.DISCONNECTED)
