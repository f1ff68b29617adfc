"""What a cell holds: its leases, the runs and instances that it took on, and how often its daemon has started.

These rows are on the cell's own disk, so that a restart forgets no generation, no fence and no end of a run. The
binding behind a lease lives in the process and dies with it, and its row then says *closed*; but leased blocks are on
the disk, and stay bound.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from grafos_core.changes import Change
from grafos_core.receipts import InstanceReceipt, RunReceipt, Signed
from grafos_core.resources import Resources
from grafos_core.revoking import RevokeState
from grafos_scheduler.frames import RunEnded
from grafos_scheduler.service_frames import InstanceEnded

BOOT, LEASE, RUN, INSTANCE = "boot", "lease", "run", "instance"

THE_BOOT = "boot"
"""Key of the only boot row."""

BOUND, CLOSING, CLOSED, FENCED = "bound", "closing", "closed", "fenced"
GOING, ENDED, FORGOTTEN = "going", "ended", "forgotten"

NEXT_OF_LEASE: dict[str, frozenset[str]] = {
    BOUND: frozenset({BOUND, CLOSING, CLOSED, FENCED}),
    CLOSING: frozenset({CLOSED, FENCED}),
    CLOSED: frozenset({BOUND, FORGOTTEN}),
    FENCED: frozenset({CLOSING}),
    FORGOTTEN: frozenset(),
}
"""Which state of a lease may follow which. ``bound`` again is the next generation; ``forgotten`` has no row."""
NEXT_OF_TAKEN: dict[str, frozenset[str]] = {
    GOING: frozenset({ENDED}),
    ENDED: frozenset({FORGOTTEN}),
    FORGOTTEN: frozenset(),
}
"""The same of runs and instances."""
NOTHING = Resources()


class Boot(msgspec.Struct, frozen=True):
    """``epoch`` grows by one with every start of the daemon."""

    epoch: int


class HeldLease(msgspec.Struct, frozen=True):
    """``run_id`` is the run or instance that uses it, one at a time. ``closing_since`` is when its teardown began.

    ``revoke`` is a label of ``RevokeState``; ``grace_until`` is when a revocation stops waiting (0: none was asked). A
    ``shared`` one is a region of memory, which no run has for itself.
    """

    lease_id: str
    tenant: str
    kind: str
    amount: int
    generation: int
    expires_at: float
    state: str = BOUND
    run_id: str = ""
    closing_since: float = 0.0
    revoke: str = RevokeState.ACTIVE.value
    grace_until: float = 0.0
    shared: bool = False

    @property
    def resources(self) -> Resources:
        return Resources.of(self.kind, self.amount)

    @property
    def is_revoked(self) -> bool:
        """Whether somebody takes it back, or has; an expiry is no revocation."""
        return self.grace_until > 0


class TakenRun(msgspec.Struct, frozen=True):
    """A run that this cell took on, or turned down after being told to start it.

    ``stop_code`` is why its worker was told to stop. ``ended`` is kept word for word until the scheduler noted it.
    """

    run_id: str
    tenant: str
    provider: str
    region: str
    tasklet: str
    module_sha256: str
    input_sha256: str
    boot_epoch: int
    lease_ids: tuple[str, ...]
    started_at: float
    stop_at: float
    state: str = GOING
    stop_code: str = ""
    ended: RunEnded | None = None


class TakenInstance(msgspec.Struct, frozen=True):
    """An instance of a service that this cell took on, or turned down after being told to start it.

    ``stop_code`` is why it was told to stop; ``drain_until`` is when a drain stops waiting (0: none was asked).
    ``ended`` is kept word for word until the scheduler noted it.
    """

    instance_id: str
    service: str
    generation: int
    tenant: str
    provider: str
    region: str
    module_sha256: str
    boot_epoch: int
    lease_ids: tuple[str, ...]
    started_at: float
    state: str = GOING
    stop_code: str = ""
    drain_until: float = 0.0
    ended: InstanceEnded | None = None


STORED_KINDS: dict[str, type[msgspec.Struct]] = {
    BOOT: Boot,
    LEASE: HeldLease,
    RUN: TakenRun,
    INSTANCE: TakenInstance,
}
"""What the cell keeps on disk, for its ``RowCodec``."""


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """What the broker is started with.

    ``total`` is all that it may lease out. ``token_key`` makes and checks this cell's capability tokens and never
    leaves it. ``sign`` puts the cell's signature under a receipt. ``hardware`` is the processor, as its kernel names
    it.
    """

    fabric: str
    cell_id: str
    total: Resources
    token_key: bytes
    sign: Callable[[RunReceipt | InstanceReceipt], Signed]
    hardware: str = field(default_factory=platform.machine)


class BrokerState:
    """The rows in memory. Only ``apply`` changes them; the attributes are for reading."""

    def __init__(self, settings: BrokerSettings) -> None:
        self.settings = settings
        self.boots: dict[str, Boot] = {}
        self.leases: dict[str, HeldLease] = {}
        self.runs: dict[str, TakenRun] = {}
        self.instances: dict[str, TakenInstance] = {}
        self.leased = Resources()
        """All that is out of use: bound, being torn down, or fenced. The sum over ``leases``, kept as they change."""
        self._by_kind: dict[str, dict[str, Any]] = {
            BOOT: self.boots,
            LEASE: self.leases,
            RUN: self.runs,
            INSTANCE: self.instances,
        }

    @classmethod
    def load(cls, settings: BrokerSettings, stored: Iterable[tuple[str, str, Any]]) -> BrokerState:
        """The state whose rows are ``stored`` as ``(kind, key, row)``."""
        state = cls(settings)
        state.apply(Change(*row) for row in stored)
        return state

    def resize(self, total: Resources) -> None:
        """The machine has more or less than before. Leases that stand stay, also when they no longer fit."""
        self.settings = replace(self.settings, total=total)

    def apply(self, changes: Iterable[Change]) -> None:
        """Takes in what a decision changes."""
        for kind, key, row in changes:
            table = self._by_kind[kind]
            if kind == LEASE:
                assert row is None or isinstance(row, HeldLease)
                self.leased += taken_by(row) - taken_by(table.get(key))
            if row is None:
                table.pop(key, None)
            else:
                table[key] = row

    @property
    def epoch(self) -> int:
        """Which start of the daemon this is; 0 before the first."""
        boot = self.boots.get(THE_BOOT)
        return boot.epoch if boot else 0

    @property
    def unacknowledged(self) -> tuple[str, ...]:
        """The runs and instances whose end the scheduler has not noted yet."""
        runs = [run.run_id for run in self.runs.values() if run.state == ENDED]
        instances = [one.instance_id for one in self.instances.values() if one.state == ENDED]
        return tuple(sorted(runs + instances))

    @property
    def fenced(self) -> tuple[str, ...]:
        """The leases whose teardown failed."""
        return tuple(sorted(lease.lease_id for lease in self.leases.values() if lease.state == FENCED))


def taken_by(lease: HeldLease | None) -> Resources:
    """What the lease takes of the cell; a closed one takes nothing."""
    return NOTHING if lease is None or lease.state == CLOSED else lease.resources
