"""What there is to see: the state as the console tells of it, in records that hold nothing but text and numbers. Pure.

Everything is shown to an operator, so nothing is cut to one tenant. What costs a look at each cell or run is made once
for all who look (see ``watching``).
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from grafos_core.resources import Resources
from grafos_scheduler import cells, providers, rows, service_instances, tenants, views
from grafos_scheduler.state import State

RUNS_SHOWN = 20
"""Of those under way, and of those that ended."""

READY, NOT_READY, DRAINING, LEAVING, ENROLLED = "ready", "not ready", "draining", "leaving", "enrolled"
CELL_STATES = (NOT_READY, LEAVING, ENROLLED, DRAINING, READY)
"""What needs a look comes first."""


class Replicas(NamedTuple):
    """Of all services together; ``short`` are those that have fewer than they should, as ``TENANT/NAME``."""

    healthy: int = 0
    wanted: int = 0
    short: tuple[str, ...] = ()


class CellLine(NamedTuple):
    """A cell. ``lacks`` are the signals that it does not meet, each with the reason; ``heard_at`` is 0 where nothing
    was heard of it since this process began; ``ends_at`` 0 is never."""

    cell_id: str
    provider: str
    region: str
    state: str
    lacks: tuple[tuple[str, str], ...]
    heard_at: float = 0.0
    rate_micro_cents_per_hour: int = 0
    ends_at: float = 0.0
    total: Resources = Resources()
    leased: Resources = Resources()
    leases: int = 0
    runs: int = 0
    agent_version: str = ""
    image_sha256: str = ""
    image_veto: str = ""


class ProviderLine(NamedTuple):
    """A provider. ``met`` tells for each signal how many of its cells meet it; the rates are of all its cells.
    ``production``: its cells must have passed the conformance suite."""

    provider: str
    enabled: bool
    cells: int
    ready: int
    met: tuple[tuple[str, int], ...]
    rate_micro_cents_per_hour: int
    production: bool


class RunLine(NamedTuple):
    """A run. ``said`` is why it did not finish; ``ended_at`` 0: it has not ended."""

    run_id: str
    tenant: str
    provider: str
    cell_id: str
    tasklet: str
    tier: str
    state: str
    code: str
    said: str
    cost_micro_cents: int
    created_at: float
    ended_at: float


class AccountLine(NamedTuple):
    """Money that somebody may spend, and what became of it. ``is_tenant``: it is a tenant's, over all its accounts."""

    name: str
    cap_micro_cents: int
    spent_micro_cents: int
    held_micro_cents: int
    is_tenant: bool


class Runs(NamedTuple):
    """The newest runs, and how many are under way in all."""

    under_way: tuple[RunLine, ...]
    under_way_count: int
    ended: tuple[RunLine, ...]


def cell_ids(state: State) -> list[str]:
    """Every cell that counts: those that registered, and those that enrolled and have not yet; not those revoked."""
    living = (identity for identity in state.identities.values() if not identity.revoked_at)
    if state.settings.enrols:
        return [identity.cell_id for identity in living]
    return list(state.cells)


def cell_line(state: State, cell_id: str, now: float) -> CellLine | None:
    """One cell as of ``now``; None if it has gone since its id was listed."""
    cell, identity = state.cells.get(cell_id), state.identities.get(cell_id)
    if identity is not None and (cell is None or cell.key_sha256 != identity.key_sha256):
        return _enrolled(state, identity)
    if cell is None:
        return None
    view = views.cell_view(state, cell, now)
    return CellLine(
        cell_id=cell_id,
        provider=cell.provider,
        region=cell.region,
        state=_state_of(state, cell_id, ready=view.ready, draining=view.draining),
        lacks=tuple(cells.unmet(view.readiness).items()),
        heard_at=view.last_heartbeat_at,
        rate_micro_cents_per_hour=view.rate_micro_cents_per_hour,
        ends_at=view.expires_at,
        total=view.total,
        leased=view.leased,
        leases=len(state.leases_by_cell.get(cell_id, ())),
        runs=len(state.runs_by_cell.get(cell_id, ())),
        agent_version=cell.agent_version,
        image_sha256=view.image_sha256,
        image_veto=view.image_veto,
    )


def in_order(lines: Iterable[CellLine]) -> tuple[CellLine, ...]:
    """Those that need a look before the others, then by provider and name."""
    return tuple(sorted(lines, key=lambda one: (CELL_STATES.index(one.state), one.provider, one.cell_id)))


def provider_lines(state: State, lines: Iterable[CellLine]) -> tuple[ProviderLine, ...]:
    """The providers that are enabled, and those that cells are of."""
    by_provider: dict[str, list[CellLine]] = {name: [] for name in providers.known(state)}
    for line in lines:
        by_provider.setdefault(line.provider, []).append(line)
    return tuple(_provider(state, name, found) for name, found in sorted(by_provider.items()))


def runs_seen(state: State) -> Runs:
    """The newest runs under way, and those that ended last (refused ones among them)."""
    under_way = heapq.nlargest(RUNS_SHOWN, state.runs_under_way(), key=lambda run: (run.created_at, run.run_id))
    ended = heapq.nlargest(RUNS_SHOWN, _lately_ended(state), key=lambda run: (run.ended_at, run.run_id))
    count = sum(map(len, state.runs_by_cell.values()))
    return Runs(tuple(map(_run, under_way)), count, tuple(map(_run, ended)))


def services_seen(state: State) -> Replicas:
    """How many replicas services have, and of how many they should have."""
    healthy: Counter[str] = Counter()
    wanted = {key: service.spec.replica_count for key, service in state.services.items() if not service.removing}
    for instance in state.all_instances():
        if instance.state == service_instances.ACTIVE and state.link_of(instance.cell_id):
            healthy[instance.service_key] += 1
    short = tuple(key for key, count in sorted(wanted.items()) if healthy[key] < count)
    return Replicas(sum(min(healthy[key], count) for key, count in wanted.items()), sum(wanted.values()), short)


def account_lines(state: State) -> tuple[AccountLine, ...]:
    """What each tenant may spend here, and then what accounts there are beside the tenants'."""
    living = sorted((one for one in state.tenants.values() if not one.deleted_at), key=lambda one: one.name)
    lines = []
    for tenant in living:
        view = tenants.view(state, tenant)
        lines.append(
            AccountLine(
                view.name, view.budget_micro_cents, view.spent_micro_cents, view.held_micro_cents, is_tenant=True
            )
        )
    tenants_own = {money.slice_id for name in state.tenants for money in state.slices_of(name)}
    others = (account for account in state.ledger.accounts.values() if account.name not in tenants_own)
    for account in sorted(others, key=lambda one: one.name):
        spent, held = account.spent_micro_cents, account.held_micro_cents
        lines.append(AccountLine(account.name, account.cap_micro_cents, spent, held, is_tenant=False))
    return tuple(lines)


def _enrolled(state: State, identity: rows.Identity) -> CellLine:
    terms = state.terms.get(identity.cell_id)
    not_enabled = {} if identity.provider in state.settings.providers else providers.NOT_ENABLED
    return CellLine(
        cell_id=identity.cell_id,
        provider=identity.provider,
        region=identity.region,
        state=LEAVING if identity.cell_id in state.leaving else ENROLLED,
        lacks=tuple({**not_enabled, **providers.NOT_REGISTERED}.items()),
        rate_micro_cents_per_hour=terms.rate_micro_cents_per_hour if terms else 0,
        ends_at=terms.expires_at if terms else 0.0,
    )


def _state_of(state: State, cell_id: str, *, ready: bool, draining: bool) -> str:
    if cell_id in state.leaving:
        return LEAVING
    if not ready:
        return NOT_READY
    return DRAINING if draining else READY


def _provider(state: State, name: str, lines: list[CellLine]) -> ProviderLine:
    lacking = Counter(signal for line in lines for signal, _ in line.lacks)
    return ProviderLine(
        provider=name,
        enabled=name in state.settings.providers,
        cells=len(lines),
        ready=sum(line.state == READY for line in lines),
        met=tuple((signal, len(lines) - lacking[signal]) for signal in cells.SIGNALS),
        rate_micro_cents_per_hour=sum(line.rate_micro_cents_per_hour for line in lines),
        production=name in state.productions,
    )


def _lately_ended(state: State) -> Iterator[rows.Run]:
    """Of each tenant the last few, which are at the end of what is kept of it."""
    for by_tenant in (state.ended_by_tenant, state.refused_by_tenant):
        for members in by_tenant.values():
            for run_id in islice(reversed(members), RUNS_SHOWN):
                yield state.runs[run_id]


def _run(run: rows.Run) -> RunLine:
    return RunLine(
        run_id=run.run_id,
        tenant=run.tenant,
        provider=run.request.provider,
        cell_id=run.cell_id,
        tasklet=f"{run.request.program}/{run.request.tasklet}",
        tier=run.request.tier.value,
        state=run.state,
        code=run.code,
        said=run.what,
        cost_micro_cents=run.cost_micro_cents,
        created_at=run.created_at,
        ended_at=run.ended_at,
    )
