"""A scheduler's state: its rows in memory, and what is derived from them.

State is the fold of all batches, so a restart that loads the rows is where the last durable decision left it. What is
derived (who leases how much, which runs are under way) is kept beside the rows by the one function that changes them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import add, sub
from typing import Any

from grafos_core.changes import Change
from grafos_core.fabric import tenant_account
from grafos_core.ledger import Account, Ledger
from grafos_core.resources import Resources
from grafos_core.tokens import CAPABILITY_TTL_MAX_S
from grafos_scheduler import image_demands, leases, region_rows, rows, runs, service_rows, standing
from grafos_scheduler.image_messages import IMAGE_DEMAND, ImageDemandRow
from grafos_scheduler.ledger_messages import LedgerState
from grafos_scheduler.placement_index import PlacementIndex, Shape

DEFAULT_QUOTA = Resources(cpu_cores=1024, mem_bytes=1 << 40, block_bytes=1 << 44, gpu_count=64, nic_count=64)
"""What a tenant may lease at once where its operator named no quota: more than one cell has, and yet a bound."""

NOTHING_NOTED = rows.AuditHead()


_Index = defaultdict[str, dict[str, None]]
END_OF = {
    rows.RUN: "ended_at",
    service_rows.INSTANCE: "ended_at",
    region_rows.REGION: "ended_at",
    rows.RESERVATION: "settled_at",
}
"""When rows of these kinds came to their end, 0 before. What is derived of ended ones keeps that order."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a scheduler is started with. ``scheduler`` is its name in run ids and certificates; seconds are wall time.

    A cell is healthy after ``healthy_after_s`` of heartbeats of which none was missed; it has missed when nothing
    came for ``missed_beats_max`` times the interval. ``clock_skew_max_s`` is how far a cell's clock may be off.
    ``lease_ttl_s`` is the longest that a lease lasts without being renewed: no longer than a token, so that both end
    together; ``service_lease_s`` is the same for instances of services. Of each tenant ``runs_kept_max`` ended runs
    are kept, for ``runs_kept_s``; of the audit log ``audit_kept_max`` records, for ``audit_kept_s``. ``enrols``: its
    cells come from elsewhere and count only while their identity stands (see ``enrolment``).
    """

    scheduler: str
    providers: frozenset[str]
    heartbeat_every_s: float = 5.0
    missed_beats_max: int = 3
    healthy_after_s: float = 30.0
    clock_skew_max_s: float = 5.0
    default_quota: Resources = DEFAULT_QUOTA
    lease_ttl_s: float = float(CAPABILITY_TTL_MAX_S)
    service_lease_s: float = 30.0
    runs_kept_s: float = 30 * 86400.0
    runs_kept_max: int = 10_000
    audit_kept_s: float = 400 * 86400.0
    audit_kept_max: int = 1_000_000
    enrols: bool = False

    @property
    def silence_max_s(self) -> float:
        """How long a cell may say nothing and still count as beating steadily."""
        return self.heartbeat_every_s * self.missed_beats_max


class State:
    """The rows in memory, by kind. Only ``apply`` changes it; the attributes are for reading."""

    def __init__(self, settings: Settings, started_at: float) -> None:
        self.settings = settings
        self.started_at = started_at
        self.ledger = Ledger()
        self.claims: dict[str, rows.Claim] = {}
        self.terms: dict[str, rows.Terms] = {}
        self.tenants: dict[str, rows.Tenant] = {}
        self.slices: dict[str, rows.Slice] = {}
        self.reservations: dict[str, rows.Reservation] = {}
        self.fabric_ledgers: dict[str, rows.FabricLedger] = {}
        self.ledger_bases: dict[str, rows.LedgerBasis] = {}
        self.cells: dict[str, rows.Cell] = {}
        self.drains: dict[str, rows.Drain] = {}
        self.enrolments: dict[str, rows.Enrolment] = {}
        self.identities: dict[str, rows.Identity] = {}
        self.revoked_keys: dict[str, rows.RevokedKey] = {}
        self.attestation_roots: dict[str, rows.AttestationRoots] = {}
        self.invitations: dict[str, rows.Invitation] = {}
        self.people: dict[str, rows.Person] = {}
        self.productions: dict[str, rows.Production] = {}
        self.conformed: dict[str, rows.Conformed] = {}
        self.faults: dict[str, rows.Fault] = {}
        self.trials: dict[str, rows.Trial] = {}
        self.image_demands: dict[str, ImageDemandRow] = {}
        self.leases: dict[str, rows.Lease] = {}
        self.regions: dict[str, region_rows.Region] = {}
        self.runs: dict[str, rows.Run] = {}
        self.presences: dict[str, rows.Presence] = {}
        self.tokens: dict[str, rows.LeaseToken] = {}
        self.renewals: dict[str, rows.Renewal] = {}
        self.audit_heads: dict[str, rows.AuditHead] = {}
        self.audit_marks: dict[str, rows.AuditMark] = {}
        self.floods: dict[str, rows.Flood] = {}
        self.services: dict[str, service_rows.Service] = {}
        self.instances: dict[str, service_rows.Instance] = {}
        self.instance_loads: dict[str, service_rows.InstanceLoad] = {}
        self.shortages: dict[str, service_rows.Shortage] = {}
        self._by_kind = self._tables()
        self._derive_nothing()

    def _tables(self) -> dict[str, dict[str, Any]]:
        """Which of the attributes has the rows of a kind."""
        return {
            rows.CLAIM: self.claims,
            rows.TERMS: self.terms,
            rows.TENANT: self.tenants,
            rows.SLICE: self.slices,
            rows.RESERVATION: self.reservations,
            rows.FABRIC_LEDGER: self.fabric_ledgers,
            rows.LEDGER_BASIS: self.ledger_bases,
            rows.CELL: self.cells,
            rows.DRAIN: self.drains,
            rows.ENROLMENT: self.enrolments,
            rows.IDENTITY: self.identities,
            rows.REVOKED_KEY: self.revoked_keys,
            rows.ATTESTATION_ROOTS: self.attestation_roots,
            rows.INVITATION: self.invitations,
            rows.PERSON: self.people,
            rows.PRODUCTION: self.productions,
            rows.CONFORMANCE: self.conformed,
            rows.FAULT: self.faults,
            rows.TRIAL: self.trials,
            IMAGE_DEMAND: self.image_demands,
            rows.LEASE: self.leases,
            region_rows.REGION: self.regions,
            rows.RUN: self.runs,
            rows.PRESENCE: self.presences,
            rows.TOKEN: self.tokens,
            rows.RENEWAL: self.renewals,
            rows.AUDIT_HEAD: self.audit_heads,
            rows.AUDIT_MARK: self.audit_marks,
            rows.FLOOD: self.floods,
            service_rows.SERVICE: self.services,
            service_rows.INSTANCE: self.instances,
            service_rows.LOAD: self.instance_loads,
            service_rows.SHORTAGE: self.shortages,
        }

    def _derive_nothing(self) -> None:
        """What is derived, of no rows yet. Dicts with None as value are sets that keep the order in which they came."""
        self.leased_by_cell: defaultdict[str, Resources] = defaultdict(Resources)
        self.leased_by_tenant: defaultdict[str, Resources] = defaultdict(Resources)
        self.leases_by_cell: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self.cells_by_provider: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self.slices_by_tenant: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self.region_by_key: dict[tuple[str, str], str] = {}
        self.standing_regions: defaultdict[str, dict[str, None]] = defaultdict(dict)  # of each tenant
        self.ended_regions: defaultdict[str, dict[str, None]] = defaultdict(dict)  # the oldest end first
        self.standing_reservations: defaultdict[str, dict[str, None]] = defaultdict(dict)  # of each tenant
        self.settled_reservations: defaultdict[str, dict[str, None]] = defaultdict(dict)  # the oldest first
        self.run_by_key: dict[tuple[str, str], str] = {}
        self.runs_by_cell: defaultdict[str, dict[str, None]] = defaultdict(dict)  # those under way
        self.refused_by_tenant: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self.ended_by_tenant: defaultdict[str, dict[str, None]] = defaultdict(dict)  # the oldest end first
        self.waiting: dict[str, None] = {}  # the runs that wait for the leases of others to be gone
        self.leaving: dict[str, None] = {}  # the cells whose identity is being taken back
        self.cell_of_key: dict[str, str] = {}
        self.standing_instances: defaultdict[str, dict[str, None]] = defaultdict(dict)  # of each service
        self.ended_instances: defaultdict[str, dict[str, None]] = defaultdict(dict)  # the oldest end first
        self.instances_by_cell: defaultdict[str, dict[str, None]] = defaultdict(dict)  # those that have not ended
        self.placement = PlacementIndex()

    @classmethod
    def load(cls, settings: Settings, stored: Iterable[tuple[str, str, Any]], started_at: float) -> State:
        """The state whose rows are ``stored`` as ``(kind, key, row)``, in a process that started at ``started_at``."""
        state = cls(settings, started_at)
        in_order = sorted(stored, key=lambda row: getattr(row[2], END_OF[row[0]]) if row[0] in END_OF else 0.0)
        state.apply(Change(*row) for row in in_order)
        return state

    def apply(self, changes: Iterable[Change]) -> None:
        """Takes in what a decision changes; rows of cold kinds are passed over."""
        moved: dict[str, None] = {}
        for change in changes:
            if change.kind in rows.COLD_KINDS:
                continue
            table = self._by_kind.get(change.kind)
            if table is None:
                self.ledger.apply((change,))
                continue
            before = table.get(change.key)
            if change.row is None:
                table.pop(change.key, None)
            else:
                table[change.key] = change.row
            self._derive(change.kind, change.key, before, change.row, moved)
        for cell_id in moved:
            self._place(cell_id)

    @property
    def claim(self) -> rows.Claim | None:
        return self.claims.get(rows.THE_CLAIM)

    @property
    def audit_head(self) -> rows.AuditHead:
        return self.audit_heads.get(rows.THE_HEAD, NOTHING_NOTED)

    @property
    def fabric_ledger(self) -> rows.FabricLedger | None:
        """How the fabric's ledger stands here; None if it never came."""
        return self.fabric_ledgers.get(rows.THE_LEDGER)

    @property
    def ledger_basis(self) -> rows.LedgerBasis | None:
        """What the copy of the ledger said that came last; None if none ever came."""
        return self.ledger_bases.get(rows.THE_LEDGER)

    @property
    def lets_nothing_be_held(self) -> bool:
        """Whether the fabric's ledger is on its way home, or there."""
        return self.fabric_ledger is not None and self.fabric_ledger.state != LedgerState.OPEN

    def draining(self, cell_id: str) -> bool:
        """Whether the cell, or all of this scheduler, admits nothing."""
        return rows.WHOLE_SCHEDULER in self.drains or cell_id in self.drains

    def link_of(self, cell_id: str) -> int:
        """The id of the cell's open link, or 0."""
        presence = self.presences.get(cell_id)
        return presence.link_id if presence else 0

    def protocol_of(self, cell_id: str) -> int:
        """What the cell's open link speaks; 0 when it holds none."""
        presence = self.presences.get(cell_id)
        return presence.protocol if presence and presence.link_id else 0

    def slices_of(self, tenant: str, accounts: dict[str, Account] | None = None) -> list[rows.Slice]:
        """All slices that the tenant was ever given here; at an orchestrator its own account, which is no row, as in
        ``accounts``, where those are of a decision in the making."""
        known = self.ledger.accounts if accounts is None else accounts
        own = known.get(tenant_account(tenant)) if self.settings.enrols else None
        given = [self.slices[slice_id] for slice_id in self.slices_by_tenant.get(tenant, ())]
        if own is None:
            return given
        money = rows.Slice(own.name, tenant, own.cap_micro_cents, expires_at=0.0, closed=self.lets_nothing_be_held)
        return [money, *(each for each in given if each.slice_id != own.name)]  # there was a row of it once

    def leases_at(self, cell_id: str) -> Iterator[rows.Lease]:
        return (self.leases[lease_id] for lease_id in self.leases_by_cell.get(cell_id, ()))

    def runs_at(self, cell_id: str) -> list[rows.Run]:
        """The runs under way at a cell."""
        return [self.runs[run_id] for run_id in self.runs_by_cell.get(cell_id, ())]

    def runs_under_way(self) -> Iterator[rows.Run]:
        """All runs that were admitted and have not ended."""
        return (self.runs[run_id] for members in self.runs_by_cell.values() for run_id in members)

    def instances_of(self, service_key: str) -> list[service_rows.Instance]:
        """The instances of a service that have not ended."""
        return [self.instances[instance_id] for instance_id in self.standing_instances.get(service_key, ())]

    def instances_at(self, cell_id: str) -> list[service_rows.Instance]:
        """The instances on a cell that have not ended."""
        return [self.instances[instance_id] for instance_id in self.instances_by_cell.get(cell_id, ())]

    def all_instances(self) -> Iterator[service_rows.Instance]:
        """All instances that have not ended."""
        return (self.instances[key] for members in self.standing_instances.values() for key in members)

    def all_regions(self) -> Iterator[region_rows.Region]:
        """All regions that have not ended."""
        return (self.regions[key] for members in self.standing_regions.values() for key in members)

    def leases_of(self, run: rows.Run) -> list[rows.Lease]:
        """The run's leases that still have a row."""
        return [self.leases[lease_id] for lease_id in run.lease_ids if lease_id in self.leases]

    def _derive(self, kind: str, key: str, before: Any, after: Any, moved: dict[str, None]) -> None:
        """Keeps what is derived from a row; ``moved`` gets the cells whose place in the index may be another now."""
        if kind == rows.LEASE:
            self._derive_leases(before, after, moved)
        elif kind == rows.RUN:
            self._derive_runs(before, after)
        elif kind == service_rows.INSTANCE:
            self._derive_instances(before, after)
        elif kind == rows.CELL:
            _regroup(self.cells_by_provider, "provider", "cell_id", before, after)
            moved[key] = None
        elif kind in (rows.SLICE, rows.RESERVATION, region_rows.REGION):
            self._derive_of_tenant(kind, before, after)
        elif kind == rows.IDENTITY:
            self._derive_identities(key, before, after)
        elif kind == IMAGE_DEMAND:
            moved.update(dict.fromkeys(self.cells))
        elif kind == rows.PRODUCTION:
            moved.update(self.cells_by_provider.get(key, {}))
        elif kind in (rows.TERMS, rows.DRAIN, rows.CONFORMANCE, rows.FAULT) or (
            kind == rows.PRESENCE and _is_linked(before) != _is_linked(after)
        ):
            moved[key] = None

    def _derive_leases(self, before: rows.Lease | None, after: rows.Lease | None, moved: dict[str, None]) -> None:
        _regroup(self.leases_by_cell, "cell_id", "lease_id", before, after)
        took, takes = (lease if lease is not None and leases.counts(lease) else None for lease in (before, after))
        if (took is None) == (takes is None):
            return  # it goes on as it was: what a lease is of, and how much, never changes
        for lease, change in ((took, sub), (takes, add)):
            if lease is not None:
                resources = lease.resources
                self.leased_by_cell[lease.cell_id] = change(self.leased_by_cell[lease.cell_id], resources)
                self.leased_by_tenant[lease.tenant] = change(self.leased_by_tenant[lease.tenant], resources)
                moved[lease.cell_id] = None

    def _derive_identities(self, cell_id: str, before: rows.Identity | None, after: rows.Identity | None) -> None:
        if before is not None:
            self.cell_of_key.pop(before.key_sha256, None)
        if after is not None:
            self.cell_of_key[after.key_sha256] = cell_id
        if after is not None and after.revoke_at and not after.revoked_at:
            self.leaving[cell_id] = None
        else:
            self.leaving.pop(cell_id, None)

    def _derive_instances(self, before: service_rows.Instance | None, after: service_rows.Instance | None) -> None:
        by_end = self.standing_instances, self.ended_instances
        _regroup_by_end(service_rows.INSTANCE, by_end, "service_key", "instance_id", before, after)
        stood, stands = (row if row is not None and not row.ended_at else None for row in (before, after))
        _regroup(self.instances_by_cell, "cell_id", "instance_id", stood, stands)

    def _derive_of_tenant(self, kind: str, before: Any, after: Any) -> None:
        if kind == rows.SLICE:
            _regroup(self.slices_by_tenant, "tenant", "slice_id", before, after)
        elif kind == rows.RESERVATION:
            by_end = self.standing_reservations, self.settled_reservations
            _regroup_by_end(kind, by_end, "tenant", "account", before, after)
        else:
            self._derive_regions(before, after)

    def _derive_regions(self, before: region_rows.Region | None, after: region_rows.Region | None) -> None:
        if after is not None:
            self.region_by_key[after.tenant, after.key] = after.lease_id
        elif before is not None:
            self.region_by_key.pop((before.tenant, before.key), None)
        by_end = self.standing_regions, self.ended_regions
        _regroup_by_end(region_rows.REGION, by_end, "tenant", "lease_id", before, after)

    def _place(self, cell_id: str) -> None:
        """Lets the index know what changed with the cell, if it did; what holds only for the moment is not in it."""
        cell, terms = self.cells.get(cell_id), self.terms.get(cell_id)
        is_off = not self.link_of(cell_id) or cell_id in self.drains
        if cell is None or terms is None or is_off or standing.bars(self, cell) or image_demands.veto(self, cell):
            self.placement.drop(cell_id)
            return
        shape = Shape(cell.provider, cell.total, terms.rate_micro_cents_per_hour)
        self.placement.put(cell_id, shape, self.leased_by_cell.get(cell_id, Resources()))

    def _derive_runs(self, before: rows.Run | None, after: rows.Run | None) -> None:
        if after is not None:
            self.run_by_key[after.tenant, after.request.run_key] = after.run_id
        elif before is not None:
            self.run_by_key.pop((before.tenant, before.request.run_key), None)
        was, is_now = before and before.state, after and after.state
        going = (before if was in runs.UNDER_WAY else None, after if is_now in runs.UNDER_WAY else None)
        _regroup(self.runs_by_cell, "cell_id", "run_id", *going)
        if is_now == runs.ADMITTED and after is not None and after.waits_for:
            self.waiting[after.run_id] = None
        elif before is not None:
            self.waiting.pop(before.run_id, None)
        refused = (before if was == runs.REFUSED else None, after if is_now == runs.REFUSED else None)
        _regroup(self.refused_by_tenant, "tenant", "run_id", *refused)
        ended = (before if was in runs.ENDED else None, after if is_now in runs.ENDED else None)
        _regroup(self.ended_by_tenant, "tenant", "run_id", *ended)


def _is_linked(presence: rows.Presence | None) -> bool:
    return presence is not None and presence.link_id != 0


def _regroup(index: _Index, group: str, key: str, before: Any, after: Any) -> None:
    """Keeps an index from a group to the keys in it, while a row comes, goes or changes its group."""
    left = before is not None and (after is None or getattr(after, group) != getattr(before, group))
    if left:
        members = index[getattr(before, group)]
        members.pop(getattr(before, key), None)
        if not members:
            del index[getattr(before, group)]
    if after is not None:
        index[getattr(after, group)][getattr(after, key)] = None


def _regroup_by_end(kind: str, indexes: tuple[_Index, _Index], group: str, key: str, before: Any, after: Any) -> None:
    """The same for two indexes: of the rows of a kind that stand, and of those that have come to their end."""
    for index, is_over in zip(indexes, (False, True), strict=True):
        was, is_now = (
            row if row is not None and bool(getattr(row, END_OF[kind])) is is_over else None for row in (before, after)
        )
        _regroup(index, group, key, was, is_now)
