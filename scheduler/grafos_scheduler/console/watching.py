"""Keeps what the console shows fresh, once for everybody who looks, and at a bounded share of the process.

However many look, the fleet is looked through once a second at most, and for no more than a twentieth of the time;
between a few hundred cells everybody else has their turn.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from importlib.metadata import version
from typing import NamedTuple

from grafos_core.audit_chain import AuditKind, AuditRecord
from grafos_core.errors import GrafosError
from grafos_scheduler import audit_reading, rows
from grafos_scheduler.audit_messages import AUDIT_PAGE_MAX, AuditQuery
from grafos_scheduler.console import money
from grafos_scheduler.console.sight import (
    AccountLine,
    CellLine,
    ProviderLine,
    Replicas,
    Runs,
    account_lines,
    cell_ids,
    cell_line,
    in_order,
    provider_lines,
    runs_seen,
    services_seen,
)
from grafos_scheduler.settings import Settings
from grafos_scheduler.shell import Shell

FRESH_FOR_S = 1.0
IDLE_FACTOR = 20
"""What took a second to look through is not looked through again for so many."""
COSTS_FRESH_FOR_S = 5.0
"""They need a look at every run that is kept."""
CELLS_AT_ONCE = 250
EVENTS_SHOWN = 25
EVENTS_LOOKED_BACK = 5000
"""Records of the audit log that are read at the first look; later only new ones are."""

SECURITY_KINDS = frozenset(
    {
        AuditKind.CLAIMED,
        AuditKind.OPERATOR_REPLACED,
        AuditKind.REGAIN_REFUSED,
        AuditKind.CLAIM_REFUSED,
        AuditKind.BOOTSTRAP_MINTED,
        AuditKind.EXPECTED_MACHINE_NAMED,
        AuditKind.ATTESTATION_ROOTS_SET,
        AuditKind.CELL_ENROLLED,
        AuditKind.ENROLMENT_REFUSED,
        AuditKind.CELL_REVOKE_ASKED,
        AuditKind.CELL_REVOKED,
        AuditKind.CELL_FAULTED,
        AuditKind.PROVIDER_MARKED,
        AuditKind.PERSON_INVITED,
        AuditKind.SIGNED_IN,
        AuditKind.SIGN_IN_REFUSED,
        AuditKind.PERSON_REMOVED,
        AuditKind.SIGNING_KEY_REGISTERED,
        AuditKind.TENANT_CREATED,
        AuditKind.TENANT_DELETED,
        AuditKind.LEASE_FENCED,
        AuditKind.CONSOLE_LINK_MADE,
        AuditKind.CONSOLE_OPENED,
        AuditKind.CONSOLE_REFUSED,
        AuditKind.WITHHELD,
    }
)
"""Who came, who was refused, who was put out; what moves money or leases is elsewhere on the page."""


ALARMING_KINDS = frozenset(
    {
        AuditKind.ENROLMENT_REFUSED,
        AuditKind.CELL_FAULTED,
        AuditKind.SIGN_IN_REFUSED,
        AuditKind.CONSOLE_REFUSED,
        AuditKind.REGAIN_REFUSED,
        AuditKind.CLAIM_REFUSED,
        AuditKind.OPERATOR_REPLACED,
        AuditKind.LEASE_FENCED,
        AuditKind.WITHHELD,
    }
)


class Events(NamedTuple):
    """The newest security events, the newest first. ``trouble``: the audit log could not be read, or was changed."""

    records: tuple[AuditRecord, ...] = ()
    trouble: GrafosError | None = None


class Sight(NamedTuple):
    """All that there is to see at ``now`` (Unix seconds)."""

    now: float
    scheduler: str
    fabric: str
    mode: str
    version: str
    is_draining: bool
    cells: tuple[CellLine, ...]
    providers: tuple[ProviderLine, ...]
    accounts: tuple[AccountLine, ...]
    runs: Runs
    costs: money.Costs
    events: Events
    replicas: Replicas = Replicas()

    @property
    def priced(self) -> list[str]:
        """Every provider that there is something to say of."""
        return sorted({*self.costs.by_provider, *(line.provider for line in self.providers)})


class Watch:
    """What everybody sees who looks now."""

    def __init__(self, shell: Shell, settings: Settings) -> None:
        self._shell = shell
        self._settings = settings
        self._turn = asyncio.Lock()
        self._sight: Sight | None = None
        self._stale_at = 0.0
        self._costs = money.Costs({})
        self._costs_stale_at = 0.0
        self._events = _EventTail(shell)

    async def sight(self) -> Sight:
        """What there is to see, a second old at most (longer where looking takes long); all of it is durable."""
        async with self._turn:
            if self._sight is None or time.monotonic() >= self._stale_at:
                begun = time.process_time()
                self._sight = await self._look()
                self._stale_at = time.monotonic() + max(FRESH_FOR_S, IDLE_FACTOR * (time.process_time() - begun))
            return self._sight

    async def _look(self) -> Sight:
        state, settings, now = self._shell.state, self._settings, self._shell.clock.now()
        events = await self._events.newest()
        await self._shell.settled()
        cells = in_order(await self._cells(now))
        return Sight(
            now=now,
            scheduler=settings.scheduler_id,
            fabric=settings.fabric,
            mode=settings.mode,
            version=version("grafos-scheduler"),
            is_draining=rows.WHOLE_SCHEDULER in state.drains,
            cells=cells,
            providers=provider_lines(state, cells),
            accounts=account_lines(state),
            runs=runs_seen(state),
            costs=self._costs_now(now),
            events=events,
            replicas=services_seen(state),
        )

    async def _cells(self, now: float) -> list[CellLine]:
        state, found = self._shell.state, []
        listed = cell_ids(state)
        for start in range(0, len(listed), CELLS_AT_ONCE):
            lines = (cell_line(state, cell_id, now) for cell_id in listed[start : start + CELLS_AT_ONCE])
            found += [line for line in lines if line is not None]
            await asyncio.sleep(0)
        return found

    def _costs_now(self, now: float) -> money.Costs:
        if time.monotonic() >= self._costs_stale_at:
            begun = time.process_time()
            self._costs = money.costs(self._shell.state, self._shell.state.runs.values(), now)
            took_s = time.process_time() - begun
            self._costs_stale_at = time.monotonic() + max(COSTS_FRESH_FOR_S, IDLE_FACTOR * took_s)
        return self._costs


class _EventTail:
    """Follows the end of the audit log, and keeps the security events that it saw last."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._kept: deque[AuditRecord] = deque(maxlen=EVENTS_SHOWN)
        self._after = -1

    async def newest(self) -> Events:
        head = self._shell.state.audit_head
        after = max(self._after, head.sequence - EVENTS_LOOKED_BACK, head.kept_from - 1, 0)
        try:
            while after < head.sequence:
                page = await audit_reading.read_page(self._shell, AuditQuery(after=after, limit=AUDIT_PAGE_MAX))
                self._kept.extend(record for record in page.records if record.kind in SECURITY_KINDS)
                after = self._after = page.after
        except GrafosError as error:
            if error.code != "audit_broken":
                raise
            return Events(tuple(reversed(self._kept)), error)
        return Events(tuple(reversed(self._kept)))
