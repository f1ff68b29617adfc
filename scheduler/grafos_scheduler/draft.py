"""A decision in the making: what one event changes and does, collected while its rules are worked through."""

from __future__ import annotations

from collections import ChainMap
from typing import cast

import msgspec

from grafos_core.audit_chain import AuditInput, AuditKind
from grafos_core.changes import Batch, Change, last_of_each
from grafos_core.errors import GrafosError
from grafos_core.ledger import Account, Hold, Ledger
from grafos_scheduler import audit, frames, rows
from grafos_scheduler.effects import CloseLink, Decision, Effect, RunMoved, SendToCell
from grafos_scheduler.region_rows import REGION, Region
from grafos_scheduler.service_rows import INSTANCE, SERVICE, Instance, Service
from grafos_scheduler.state import State


class Draft:
    """Collects changes and effects. ``state`` stays as it was before the event; only ``ledger`` shows what was booked
    so far, since one event may end several runs of one account. ``by`` is who makes it happen, for the audit log."""

    def __init__(self, state: State, now: float, by: str = audit.SCHEDULER) -> None:
        self.state = state
        self.now = now
        self.by = by
        self.audit_head = state.audit_head
        self.ledger = Ledger()
        self.ledger.accounts = cast("dict[str, Account]", ChainMap({}, state.ledger.accounts))
        self.ledger.holds = cast("dict[str, Hold]", ChainMap({}, state.ledger.holds))
        self._batch: list[Change] = []
        self._volatile: list[Change] = []
        self._noted: list[AuditInput] = []
        self._effects: list[Effect] = []
        self._links: dict[str, tuple[int, int]] = {}
        self._services: dict[str, Service] = {}
        self._instances: dict[str, Instance] = {}
        self._regions: dict[str, Region] = {}
        self._leases: dict[str, rows.Lease] = {}

    def put(self, kind: str, key: str, row: msgspec.Struct) -> None:
        self._batch.append(Change(kind, key, row))

    def remove(self, kind: str, key: str) -> None:
        self._batch.append(Change(kind, key, None))

    def put_run(self, run: rows.Run) -> None:
        """The run in its new state, and word to whoever waits for it."""
        self.put(rows.RUN, run.run_id, run)
        self._effects.append(RunMoved(run.run_id))

    def put_lease(self, lease: rows.Lease) -> None:
        """The lease as it is from now on, also for the rest of this decision."""
        self._leases[lease.lease_id] = lease
        self.put(rows.LEASE, lease.lease_id, lease)

    def newest_lease(self, lease: rows.Lease) -> rows.Lease:
        """The lease as this decision has it so far."""
        return self._leases.get(lease.lease_id, lease)

    def put_service(self, service: Service) -> None:
        """The service as it is from now on, also for the rest of this decision."""
        self._services[service.key] = service
        self.put(SERVICE, service.key, service)

    def service(self, key: str) -> Service | None:
        """The service as this decision has it so far; None once it is gone."""
        return self._services.get(key) or self.state.services.get(key)

    def put_instance(self, instance: Instance) -> None:
        """The instance as it is from now on, also for the rest of this decision."""
        self._instances[instance.instance_id] = instance
        self.put(INSTANCE, instance.instance_id, instance)

    def newest(self, instance: Instance) -> Instance:
        """The instance as this decision has it so far."""
        return self._instances.get(instance.instance_id, instance)

    def put_region(self, region: Region) -> None:
        """The region as it is from now on, also for the rest of this decision."""
        self._regions[region.lease_id] = region
        self.put(REGION, region.lease_id, region)

    def region(self, lease_id: str) -> Region | None:
        """The region as this decision has it so far."""
        return self._regions.get(lease_id) or self.state.regions.get(lease_id)

    def do(self, effect: Effect) -> None:
        """Something to be done once the decision is durable."""
        self._effects.append(effect)

    def note(
        self, kind: AuditKind, subject: str, /, *, tenant: str = "", cell_id: str = "", **details: audit.Notable
    ) -> None:
        """A record for the audit log, durable with everything else of the decision."""
        self._noted.append(AuditInput(kind, self.by, subject, tenant, cell_id, details))

    def note_lease(self, kind: AuditKind, lease: rows.Lease, **details: audit.Notable) -> None:
        """The same, of a lease."""
        self.note(
            kind, lease.lease_id, tenant=lease.tenant, cell_id=lease.cell_id, generation=lease.generation, **details
        )

    def book(self, batch: Batch) -> None:
        """Changes of the ledger; later bookings of this event build on them."""
        self.ledger.apply(batch)
        self._batch.extend(batch)

    def remember(self, kind: str, key: str, row: msgspec.Struct | None) -> None:
        """Volatile state: a restart forgets it."""
        self._volatile.append(Change(kind, key, row))

    def open_link(self, cell_id: str, link_id: int, protocol: int) -> None:
        """From here on frames go over this link; the one before is closed."""
        before = self.state.link_of(cell_id)
        if before:
            self._effects.append(CloseLink(cell_id, before))
        self._links[cell_id] = link_id, protocol

    def protocol_of(self, cell_id: str) -> int:
        """What the cell's link speaks; 0 when it holds none."""
        return self._links[cell_id][1] if cell_id in self._links else self.state.protocol_of(cell_id)

    def send(self, cell_id: str, frame: frames.DownFrame) -> None:
        """A frame to the cell, if it is connected. If not, nothing: a link that opens is told all that still counts."""
        link_id = self._links[cell_id][0] if cell_id in self._links else self.state.link_of(cell_id)
        if link_id:
            self._effects.append(SendToCell(cell_id, link_id, frame))

    def decision(self, answer: msgspec.Struct | None = None, refusal: GrafosError | None = None) -> Decision:
        return Decision(
            batch=last_of_each(self._batch) + audit.chained(self.audit_head, self._noted, self.now),
            effects=tuple(self._effects),
            answer=answer,
            volatile=tuple(self._volatile),
            refusal=refusal,
        )
