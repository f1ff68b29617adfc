"""What must be true of services in a simulated fabric; ``ghost`` has all else.

* Of one slot of a service one instance at most serves, on whatever cell, whatever becomes of cells and links.
* Who serves has its listener lease: bound at its cell, in time by that cell's clock, and not taken back.
* An instance that has ended at the scheduler serves nowhere.
* No port of a cell is leased twice.
* A service that somebody was told of is not lost, and neither its revision nor its generation goes back.

Two things void the promise, and are left out: a machine that was copied, and a clock that is further off than clocks
may be.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from grafos_cell import holdings
from grafos_core.changes import Batch
from grafos_core.resources import LISTENER
from grafos_scheduler import service_instances
from grafos_scheduler.service_rows import INSTANCE, SERVICE, Instance, Service

if TYPE_CHECKING:
    from grafos_scheduler.service_frames import StartInstance
    from grafos_scheduler.state import State
    from grafos_testkit.cells import CellProcess
    from grafos_testkit.world import World

OVERDUE_S = 1.5
"""A broker looks at its leases every second."""


class ServiceWatch:
    """Remembers who serves."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._slots: dict[str, tuple[str, int]] = {}
        self._serving: defaultdict[tuple[str, int], dict[str, CellProcess]] = defaultdict(dict)
        self._where: dict[str, CellProcess] = {}
        self._durable: dict[str, tuple[int, int]] = {}
        self._revisions: defaultdict[str, int] = defaultdict(int)
        self._ports: dict[tuple[str, int], str] = {}
        self.answered = 0

    def of_a_copy(self) -> ServiceWatch:
        """Who watches a copy of a cell's machine."""
        other = ServiceWatch(self._world)
        other._slots = self._slots
        return other

    # --- what the scheduler does ---

    def loaded(self, state: State) -> None:
        """It came back from its disk."""
        for key, (revision, generation) in self._durable.items():
            service = state.services.get(key)
            assert service is not None, f"service {key} is lost"
            assert (service.revision, service.generation) == (revision, generation), f"{key} went back to {service}"

    def committed(self, batch: Batch, copied: set[str]) -> None:
        """What became durable at the scheduler."""
        for kind, key, row in batch:
            if kind == SERVICE:
                self._service_committed(key, row)
            elif kind == INSTANCE and isinstance(row, Instance):
                self._slots[key] = (row.service_key, row.slot)
                if row.state == service_instances.ENDED and (cell := self._where.get(key)) is not None:
                    is_void = cell.name in copied or not cell.is_in_time
                    assert is_void, f"{key} has ended ({row.code}), and serves on {cell.name}"

    def _service_committed(self, key: str, row: object) -> None:
        if row is None:
            self._durable.pop(key)
            return
        assert isinstance(row, Service)
        revision, generation = self._durable.get(key, (0, 0))
        assert row.revision >= revision, f"{key} went back from revision {revision} to {row.revision}"
        assert row.generation >= generation, f"{key} went back from generation {generation} to {row.generation}"
        self._durable[key] = (row.revision, row.generation)
        self._revisions[key] = max(self._revisions[key], row.revision)

    def shown(self, view: Service) -> None:
        """Somebody was told of a service: it is durable by then, and may be gone by then as well."""
        assert self._revisions[view.key] >= view.revision, f"revision {view.revision} of {view.key} is not durable"

    # --- what cells do ---

    def serves(self, cell: CellProcess, start: StartInstance, copied: set[str]) -> None:
        """An instance listens from now on."""
        instance_id = start.instance_id
        slot = self._slots[instance_id]
        for other, where in self._serving[slot].items():
            is_void = {cell.name, where.name} & copied or not (where.is_in_time and cell.is_in_time)
            assert is_void, f"{other} on {where.name} and {instance_id} on {cell.name} both serve slot {slot}"
        self._serving[slot][instance_id] = cell
        self._where[instance_id] = cell

    def serves_no_more(self, instance_id: str) -> None:
        cell = self._where.pop(instance_id, None)
        if cell is not None:
            del self._serving[self._slots[instance_id]][instance_id]

    def answers(self, cell: CellProcess, instance_id: str) -> None:
        """A session is served."""
        assert self._where.get(instance_id) is cell, f"{instance_id} serves on {cell.name}, and may not"
        self._check_lease(cell, instance_id)
        self.answered += 1

    def cell_died(self, cell: CellProcess) -> None:
        for instance_id in [instance_id for instance_id, where in self._where.items() if where is cell]:
            self.serves_no_more(instance_id)

    def lease_committed(self, cell: CellProcess, lease_id: str, row: holdings.HeldLease | None) -> None:
        """A port is of one lease alone, until that is closed."""
        if row is None or row.kind != LISTENER:
            return
        place = cell.name, row.amount
        if row.state == holdings.CLOSED:
            if self._ports.get(place) == lease_id:
                del self._ports[place]
            return
        holder = self._ports.setdefault(place, lease_id)
        assert holder == lease_id, f"port {row.amount} of {cell.name} is of {holder} and of {lease_id}"

    def machine_gone(self, cell: CellProcess) -> None:
        """With its disk."""
        self.cell_died(cell)
        for place in [place for place in self._ports if place[0] == cell.name]:
            del self._ports[place]

    # --- at each step ---

    def check_step(self) -> None:
        for instance_id, cell in self._where.items():
            self._check_lease(cell, instance_id)

    def _check_lease(self, cell: CellProcess, instance_id: str) -> None:
        taken = cell.state.instances.get(instance_id)
        assert taken is not None, f"{instance_id} serves on {cell.name}, which knows nothing of it"
        held = [cell.state.leases.get(lease_id) for lease_id in taken.lease_ids]
        listener = next((lease for lease in held if lease is not None and lease.kind == LISTENER), None)
        assert listener is not None, f"{instance_id} serves on {cell.name} without a listener lease"
        is_held = listener.state == holdings.BOUND and not listener.is_revoked
        is_good = is_held and listener.expires_at > cell.now - OVERDUE_S
        assert is_good, f"{instance_id} serves on {listener}"
