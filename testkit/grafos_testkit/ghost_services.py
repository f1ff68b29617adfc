"""What must be true of services in a simulated fabric; ``ghost`` has all else.

* Of one slot of a service one instance at most serves, on whatever cell, whatever becomes of cells and links.
* Who serves has its listener lease: bound at its cell, in time by that cell's clock, and not taken back.
* An instance that has ended at the scheduler serves nowhere.
* No port of a cell is leased twice.
* A service that somebody was told of is not lost, nor anything that was said of it, and neither its revision nor its
  generation goes back.
* No instance is given up as lost while its cell keeps its end.

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
from grafos_scheduler.service_rows import INSTANCE, INSTANCE_LOG, SERVICE, Instance, Service
from grafos_testkit.receipts import open_instance_receipt

if TYPE_CHECKING:
    from grafos_scheduler.service_frames import StartInstance
    from grafos_scheduler.state import State
    from grafos_testkit.cells import CellProcess
    from grafos_testkit.world import World

OVERDUE_S = 1.5
"""A broker looks at its leases every second."""
NOT_LEAVING = frozenset({service_instances.PLANNED, service_instances.STARTING, service_instances.ACTIVE})


class ServiceWatch:
    """Remembers who serves."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._slots: dict[str, tuple[str, int]] = {}
        self._serving: defaultdict[tuple[str, int], dict[str, CellProcess]] = defaultdict(dict)
        self._where: dict[str, CellProcess] = {}
        self._durable: dict[str, Service] = {}
        self._were: defaultdict[str, list[Service]] = defaultdict(list)
        self._instances: dict[str, Instance] = {}
        self._kept_ends: dict[str, str] = {}
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
        for key, service in self._durable.items():
            assert state.services.get(key) == service, f"{service} is lost, and there is {state.services.get(key)}"

    def committed(self, batch: Batch, copied: set[str]) -> None:
        """What became durable at the scheduler."""
        told = {key for kind, key, _ in batch if kind == INSTANCE_LOG}
        for kind, key, row in batch:
            if kind == SERVICE:
                self._service_committed(key, row)
            elif kind == INSTANCE and isinstance(row, Instance):
                self._slots[key] = (row.service_key, row.slot)
                self._check_is_lost(self._instances.get(key), row, has_log=key in told)
                self._instances[key] = row
                if row.state == service_instances.ENDED and (cell := self._where.get(key)) is not None:
                    is_void = cell.name in copied or not cell.is_in_time
                    assert is_void, f"{key} has ended ({row.code}), and serves on {cell.name}"

    def _service_committed(self, key: str, row: object) -> None:
        if row is None:
            self._durable.pop(key)
            return
        assert isinstance(row, Service)
        before = self._durable.get(key, row)
        has_gone_back = row.revision < before.revision or row.generation < before.generation
        assert not has_gone_back, f"{before} went back to {row}"
        self._durable[key] = row
        self._were[key].append(row)

    def _check_is_lost(self, before: Instance | None, row: Instance, *, has_log: bool) -> None:
        """Whoever ends as lost at its cell's new start had no end there."""
        is_new = before is not None and before.state in NOT_LEAVING and row.state == service_instances.ENDED
        if is_new and row.code == "cell_lost" and not has_log:
            keeps = self._kept_ends.get(row.instance_id)
            assert keeps is None, f"{row.instance_id} is lost, but {keeps} keeps its end"

    def shown(self, view: Service) -> None:
        """Somebody was told of a service: it is durable by then, and may be gone by then as well."""
        assert view in self._were[view.key], f"{view} was shown and is not durable"

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

    def instance_committed(self, cell: CellProcess, instance_id: str, row: holdings.TakenInstance | None) -> None:
        """The end of an instance is kept until the scheduler has noted it; one that a restart made shows no time."""
        if row is None:
            self._kept_ends.pop(instance_id, None)
        elif row.ended is not None:
            self._kept_ends[instance_id] = cell.name
            receipt = open_instance_receipt(row.ended.receipt)
            seconds = receipt.ended_at - receipt.started_at
            assert receipt.code != "cell_lost" or not seconds, f"nobody saw {instance_id}, which shows {seconds} s"

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
        for instance_id in [instance_id for instance_id, name in self._kept_ends.items() if name == cell.name]:
            del self._kept_ends[instance_id]

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
