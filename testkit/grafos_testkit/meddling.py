"""Whoever sees every commit, and picks the worst moment: a lease is taken back just as it is given, a run cancelled
as it starts, a cell killed in the middle of a teardown, an instance failed over while it waits to be started again.

Chance alone seldom finds such moments; so the rare rows of the transition tables would hardly ever be taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafos_cell.holdings import HeldLease
from grafos_core.changes import Batch
from grafos_core.errors import GrafosError
from grafos_core.revoking import RevokeState
from grafos_scheduler import events, leases, rows, runs, service_instances
from grafos_scheduler.service_events import ServiceFailedOver
from grafos_scheduler.service_rows import Instance

if TYPE_CHECKING:
    from grafos_testkit.processes import Process
    from grafos_testkit.world import World

MOMENTS_S = (0.0, 0.01, 0.05, 0.3, 1.0)
"""How long after a commit the worst moment may be."""


class Meddler:
    """Sees what becomes durable; ``scene.meddles`` is how likely it does something about one row."""

    def __init__(self, world: World) -> None:
        self._world = world

    def saw(self, process: Process, batch: Batch) -> None:
        """A process made this durable."""
        likely = self._world.scene.meddles
        if not likely:
            return
        for change in batch:
            if change.row is not None and self._world.happens(likely * _tempting(change.row)):
                self._meddle(process, change.row)

    def _meddle(self, process: Process, row: object) -> None:
        world = self._world
        wait_s = world.chance.choice(MOMENTS_S)
        match row:
            case rows.Run() if row.state in runs.UNDER_WAY:
                self._with_run(row, wait_s)
            case rows.Lease() if row.state in (leases.ASKED, leases.HELD):
                self._with_lease(row, wait_s)
            case Instance() if row.state != service_instances.ENDED:
                self._with_instance(row, wait_s)
            case HeldLease() if row.revoke != RevokeState.ACTIVE and not row.shared:
                self._kill(process.name, wait_s)

    def _with_run(self, run: rows.Run, wait_s: float) -> None:
        """Cancelled, cut off from its cell, or both."""
        whim = self._world.chance.random()
        if whim < 0.7:
            self._cut(run.cell_id, wait_s, self._world.chance.choice((0.0, 3.0, 80.0)))
        if whim > 0.4:
            self._tell(events.RunCancelAsked(run.tenant, run.run_id), wait_s)

    def _with_lease(self, lease: rows.Lease, wait_s: float) -> None:
        world = self._world
        whim = world.chance.random()
        if _is_renewal(lease) and whim < 0.7:
            self._cut(lease.cell_id, 0.0, world.chance.choice((0.0, 20.0, 20.0)))
            if lease.is_of_instance or not lease.run_id or whim < 0.2:
                return
        elif not lease.run_id:
            wait_s = self._last_second(lease)
        elif whim < 0.1:
            self._cut(lease.cell_id, wait_s, world.chance.choice((0.0, 20.0)))
            return
        grace_s = world.chance.choice([0.0, 2.0, 20.0])
        self._tell(events.LeaseRevokeAsked("", lease.lease_id, grace_s, "needed"), wait_s)
        if lease.run_id and not lease.is_of_instance and world.chance.random() < 0.25:
            self._tell(events.RunCancelAsked(lease.tenant, lease.run_id), wait_s + world.chance.uniform(0.0, 1.0))

    def _last_second(self, lease: rows.Lease) -> float:
        """When the lease of a region is in its last second, by its cell's clock."""
        world = self._world
        off_s = next((cell.off_s for cell in world.cells if cell.name == lease.cell_id), 0.0)
        return max(0.0, lease.expires_at - world.clock.now() - off_s - world.chance.uniform(0.0, 1.0))

    def _with_instance(self, instance: Instance, wait_s: float) -> None:
        whim = self._world.chance.random()
        if instance.state == service_instances.PLANNED:
            whim *= 0.6
        if whim < 0.3:
            self._tell(ServiceFailedOver(instance.tenant, instance.service, instance.instance_id), wait_s)
        elif whim < 0.6 and instance.lease_ids:
            lease_id = self._world.chance.choice(instance.lease_ids)
            self._tell(events.LeaseRevokeAsked("", lease_id, 0.0, "needed"), wait_s)
        elif whim < 0.8:
            self._cut(instance.cell_id, wait_s, self._world.chance.choice((0.0, 20.0)))
        else:
            self._kill(instance.cell_id, wait_s)

    def _kill(self, name: str, wait_s: float) -> None:
        world = self._world

        def strike() -> None:
            for cell in world.cells:
                if cell.name == name and cell.alive and world.stormy:
                    world.say(f"KILL {name} at the worst moment")
                    cell.die()

        world.later(wait_s, "", strike)

    def _cut(self, name: str, wait_s: float, for_s: float) -> None:
        """Its link breaks, and nothing gets through for so long."""
        world = self._world

        def cut() -> None:
            for cell in world.cells:
                if cell.name == name and world.stormy:
                    cell.cut_off(for_s)

        world.later(wait_s, "", cut)

    def _tell(self, event: events.Event, wait_s: float) -> None:
        world, scheduler = self._world, self._world.scheduler

        def arrive() -> None:
            try:
                scheduler.handle(event)
            except GrafosError as refusal:
                world.say(f"meddler refused: {refusal}")

        world.later(wait_s, f"meddler {event}", lambda: scheduler.guarded(arrive)())  # noqa: PLW0108  # the life of the scheduler then, and not now


def _is_renewal(lease: rows.Lease) -> bool:
    """Whether its next generation is being asked for."""
    return lease.state == leases.ASKED and lease.generation > 1


def _tempting(row: object) -> float:
    """How many times likelier than others it is that somebody meddles with such a row: what is rare is tempting."""
    match row:
        case rows.Run() if row.state == runs.PLACED:
            return 4.0
        case HeldLease() if row.revoke != RevokeState.ACTIVE:
            return 3.0
        case Instance() if row.state == service_instances.PLANNED:
            return 5.0
        case rows.Lease() if _is_renewal(row):
            return 8.0 if row.run_id and not row.is_of_instance else 2.0
        case rows.Lease() if not row.run_id:
            return 5.0
        case rows.Lease() if not row.is_of_instance and row.state == leases.HELD:
            return 2.0
        case _:
            return 1.0
