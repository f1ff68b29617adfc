"""Providers as an operator looks at them: how many of their cells are ready, and what each other one lacks."""

from __future__ import annotations

from grafos_scheduler import cells, rows
from grafos_scheduler.enrolment_messages import ProviderView
from grafos_scheduler.messages import Signal
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
        runtime_readiness=_nearest(state, provider, unmet),
    )


def _nearest(state: State, provider: str, unmet: dict[str, dict[str, str]]) -> dict[str, Signal]:
    """The six signals of the cell that lacks the fewest of them; of no cell, what a provider has by itself."""
    if unmet:
        lacks = min(unmet.values(), key=len)
    else:
        none = f"no cell of {provider} has joined"
        lacks = dict.fromkeys(cells.SIGNALS[1:], none)
        if provider not in state.settings.providers:
            lacks |= NOT_ENABLED
    return {name: Signal(met=name not in lacks, why=lacks.get(name, "")) for name in cells.SIGNALS}


def _unmet(state: State, identity: rows.Identity, now: float) -> dict[str, str]:
    cell = state.cells.get(identity.cell_id)
    if cell is None or cell.key_sha256 != identity.key_sha256:
        return NOT_REGISTERED if identity.provider in state.settings.providers else {**NOT_ENABLED, **NOT_REGISTERED}
    return cells.unmet(cells.readiness(state, cell, now))
