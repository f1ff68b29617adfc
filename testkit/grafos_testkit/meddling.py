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
            if self._world.happens(likely):
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
            case HeldLease() if row.revoke != RevokeState.ACTIVE:
                self._kill(process.name, wait_s)

    def _with_run(self, run: rows.Run, wait_s: float) -> None:
        if self._world.chance.random() < 0.5:
            self._tell(events.RunCancelAsked(run.tenant, run.run_id), wait_s)
        else:
            self._cut(run.cell_id, wait_s)

    def _with_lease(self, lease: rows.Lease, wait_s: float) -> None:
        world = self._world
        whim = world.chance.random()
        if not lease.run_id and whim < 0.6:
            wait_s = self._last_second(lease)
        elif whim < 0.2:
            self._cut(lease.cell_id, wait_s)
            return
        grace_s = world.chance.choice([0.0, 2.0, 20.0])
        self._tell(events.LeaseRevokeAsked("", lease.lease_id, grace_s, "needed"), wait_s)

    def _last_second(self, lease: rows.Lease) -> float:
        """When the lease of a region is in its last second, by its cell's clock."""
        world = self._world
        off_s = next((cell.off_s for cell in world.cells if cell.name == lease.cell_id), 0.0)
        return max(0.0, lease.expires_at - world.clock.now() - off_s - world.chance.uniform(0.0, 1.0))

    def _with_instance(self, instance: Instance, wait_s: float) -> None:
        whim = self._world.chance.random()
        if whim < 0.3:
            self._tell(ServiceFailedOver(instance.tenant, instance.service, instance.instance_id), wait_s)
        elif whim < 0.6 and instance.lease_ids:
            lease_id = self._world.chance.choice(instance.lease_ids)
            self._tell(events.LeaseRevokeAsked("", lease_id, 0.0, "needed"), wait_s)
        elif whim < 0.8:
            self._cut(instance.cell_id, wait_s)
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

    def _cut(self, name: str, wait_s: float) -> None:
        world = self._world

        def cut() -> None:
            for cell in world.cells:
                if cell.name == name and cell.link is not None and world.stormy:
                    cell.link.cut()

        world.later(wait_s, "", cut)

    def _tell(self, event: events.Event, wait_s: float) -> None:
        world, scheduler = self._world, self._world.scheduler

        def arrive() -> None:
            try:
                scheduler.handle(event)
            except GrafosError as refusal:
                world.say(f"meddler refused: {refusal}")

        world.later(wait_s, f"meddler {event}", lambda: scheduler.guarded(arrive)())  # noqa: PLW0108  # the life of the scheduler then, and not now
