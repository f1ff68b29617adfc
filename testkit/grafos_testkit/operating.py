"""The operator of a simulated fabric, who takes leases back, and clears fences after having looked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafos_core.errors import GrafosError
from grafos_scheduler import events, leases

if TYPE_CHECKING:
    from grafos_testkit.cells import CellProcess
    from grafos_testkit.world import World

VISITS_EVERY_S = 4.0
CUT_OFF_S = (3.0, 20.0, 80.0)
"""For a moment, for longer than anybody waits, and for longer than any lease lasts."""


class Operator:
    """Looks in every few seconds, also when the storm is over: what was begun is brought to its end."""

    def __init__(self, world: World) -> None:
        self.world = world

    def begin(self) -> None:
        self.world.later(self.world.chance.uniform(1.0, VISITS_EVERY_S), "", self._visit)

    def _visit(self) -> None:
        world = self.world
        world.later(world.chance.uniform(1.0, VISITS_EVERY_S), "", self._visit)
        if not world.scheduler.alive:
            return
        state = world.scheduler.state
        if world.happens(world.scene.takes_back) and state.leases:
            lease = state.leases[world.chance.choice(sorted(state.leases))]
            self._tell(events.LeaseRevokeAsked("", lease.lease_id, world.chance.choice([0.0, 2.0, 20.0]), "needed"))
        if world.happens(world.scene.takes_back / 4) and state.runs:
            run = state.runs[world.chance.choice(sorted(state.runs))]
            self._tell(events.RunCancelAsked(run.tenant, run.run_id))
        for cell in world.cells:
            self._see_to(cell)
        for lease in list(state.leases.values()):
            if lease.state in leases.OUT_OF_USE and self._may_clear(lease.lease_id, lease.cell_id, lease.state):
                self._tell(events.FenceClearAsked(lease.lease_id))

    def _see_to(self, cell: CellProcess) -> None:
        """What happens to one cell meanwhile."""
        if self.world.faults.partition and self.world.happens(self.world.faults.partition):
            cell.cut_off(self.world.chance.choice(CUT_OFF_S))

    def _may_clear(self, lease_id: str, cell_id: str, state: str) -> bool:
        """A fence is cleared when nothing uses the resource any more; one that was begun to be is asked for again."""
        if self.world.ghost.is_used(cell_id, lease_id):
            return False
        return state == leases.CLEARING or self.world.chance.random() < 0.3

    def _tell(self, event: events.Event) -> None:
        """A call over the net: it may be lost on its way."""
        scheduler = self.world.scheduler
        if self.world.happens(self.world.faults.lose):
            return
        self.world.say(f"operator {event}")

        def arrive() -> None:
            try:
                scheduler.handle(event)
            except GrafosError as refusal:
                self.world.say(f"operator refused: {refusal}")

        scheduler.guarded(arrive)()
