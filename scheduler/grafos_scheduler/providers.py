"""Providers as an operator looks at them: how many of their cells are ready, and what each other one lacks."""

from __future__ import annotations

from grafos_scheduler import cells, rows
from grafos_scheduler.enrolment_messages import ProviderView
from grafos_scheduler.state import State

NOT_REGISTERED = {
    "healthy_cell": "the cell enrolled and has not been heard of yet",
    "inventory_reported": "the cell enrolled and has not told yet what it has",
    "outbound_registered": "the cell enrolled and has not registered yet",
}
NOT_ENABLED = {"code_enabled": "the provider is not enabled at this scheduler"}


def known(state: State) -> list[str]:
    """The providers that are enabled, and those that cells are of."""
    return sorted({*state.settings.providers, *(identity.provider for identity in state.identities.values())})


def view(state: State, provider: str, now: float) -> ProviderView:
    """One provider as of ``now``. A cell that was revoked is no cell of it any more."""
    unmet = {
        identity.cell_id: _unmet(state, identity, now)
        for identity in state.identities.values()
        if identity.provider == provider and not identity.revoked_at
    }
    ready = sum(not lacks for lacks in unmet.values())
    return ProviderView(
        provider=provider,
        enabled=provider in state.settings.providers,
        ready=ready > 0,
        cells=len(unmet),
        ready_cells=ready,
        unmet={cell_id: lacks for cell_id, lacks in unmet.items() if lacks},
        production=provider in state.productions,
    )


def _unmet(state: State, identity: rows.Identity, now: float) -> dict[str, str]:
    cell = state.cells.get(identity.cell_id)
    if cell is None or cell.key_sha256 != identity.key_sha256:
        return NOT_REGISTERED if identity.provider in state.settings.providers else {**NOT_ENABLED, **NOT_REGISTERED}
    return cells.unmet(cells.readiness(state, cell, now))
