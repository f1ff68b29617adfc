"""Capability tokens at the cell that issues them: minted for a lease, checked against it at the very use."""

from __future__ import annotations

from grafos_cell.holdings import BOUND, FENCED, BrokerState, HeldLease
from grafos_core.errors import GrafosError
from grafos_core.tokens import (
    CAPABILITY_TTL_MAX_S,
    CapabilityClaims,
    OpenedCapability,
    Use,
    check_opened,
    mint_capability,
    open_capability,
)

START, LISTEN, BLOCK_READ, BLOCK_WRITE = "start", "listen", "block_read", "block_write"
"""The operations that a token is presented for."""


def check_token(state: BrokerState, token: str, use: Use, now: float) -> HeldLease:
    """The lease that ``token`` opens for ``use`` at this very moment.

    ``capability_refused`` (not ours, altered, of an earlier start, or narrowed to something else), ``token_expired``,
    ``generation_stale``, ``lease_expired``, ``lease_revoked`` or ``fenced`` says why not.
    """
    return check_opened_token(state, open_capability(state.settings.token_key, token), use, now)


def check_opened_token(state: BrokerState, opened: OpenedCapability, use: Use, now: float) -> HeldLease:
    """The same of a token whose MAC is known to be ours; everything that can change is looked at here."""
    claims = check_opened(opened, use, now)
    if claims.audience != state.settings.cell_id:
        raise GrafosError("capability_refused", f"the token is for cell {claims.audience}")
    if claims.boot_epoch != state.epoch:
        raise GrafosError("capability_refused", "the token is from before this cell's last start")
    lease = state.leases.get(claims.lease_id)
    if lease is None or (lease.tenant, lease.kind) != (claims.tenant, claims.kind):
        raise GrafosError("capability_refused", f"this cell holds no such lease {claims.lease_id}")
    if lease.generation != claims.generation:
        raise GrafosError("generation_stale", f"lease {lease.lease_id} is in generation {lease.generation} by now")
    if lease.state == FENCED:
        raise GrafosError("fenced", f"lease {lease.lease_id} is fenced")
    if lease.state != BOUND and lease.is_revoked:
        raise GrafosError("lease_revoked", f"lease {lease.lease_id} was revoked")
    if lease.state != BOUND or lease.expires_at <= now:
        raise GrafosError("lease_expired", f"lease {lease.lease_id} has ended")
    return lease


def mint_token(state: BrokerState, lease: HeldLease, now: float) -> str:
    """A fresh token for the lease in its generation; it ends with the lease, or sooner."""
    claims = CapabilityClaims(
        audience=state.settings.cell_id,
        tenant=lease.tenant,
        kind=lease.kind,
        lease_id=lease.lease_id,
        generation=lease.generation,
        boot_epoch=state.epoch,
        expires_at=min(lease.expires_at, now + CAPABILITY_TTL_MAX_S),
    )
    return mint_capability(state.settings.token_key, claims)
