"""Speaks to an orchestrator: what it answers beyond a standalone cell's scheduler, and how a machine enrols."""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from grafos_core import trust
from grafos_core.errors import GrafosError
from grafos_scheduler.client import TIMEOUT_S, SchedulerClient, Wire, decode
from grafos_scheduler.enrolment_messages import (
    BootstrapGrant,
    BootstrapRequest,
    CellCredentials,
    CellRevocation,
    EnrolmentRequest,
    IdentityView,
    ProviderList,
    ProviderView,
    RenewalRequest,
)
from grafos_scheduler.messages import Terms


class OrchestratorClient(SchedulerClient):
    """One caller's way to an orchestrator; see ``SchedulerClient``."""

    # --- operator ---

    def bootstrap(self, request: BootstrapRequest) -> BootstrapGrant:
        """A token with which one cell may enrol, once and soon."""
        return self._call("POST", "/api/v1/account/provider-bootstrap", BootstrapGrant, request)

    def revoke_cell(self, cell_id: str, *, why: str, grace_s: float = 30.0) -> IdentityView:
        """Takes the cell's identity back; ask again with the same call to see how far that is."""
        asked = CellRevocation(why, grace_s)
        return self._call("POST", f"/api/v1/cells/{_in_path(cell_id)}/revoke", IdentityView, asked)

    def set_cell_terms(self, cell_id: str, terms: Terms) -> Terms:
        """Records what an enrolled cell costs and when it must be gone."""
        return self._call("PUT", f"/api/v1/cells/{_in_path(cell_id)}/terms", Terms, terms)

    def providers(self) -> list[ProviderView]:
        return self._get("/api/v1/providers", ProviderList).providers

    def provider(self, name: str) -> ProviderView:
        """One provider; ``not_found`` for one that is neither enabled nor has a cell."""
        return self._get(f"/api/v1/providers/{_in_path(name)}", ProviderView)

    # --- cells ---

    def renew(self, csr_pem: str) -> CellCredentials:
        """The same identity for longer; the request is for the key that the caller's certificate has."""
        return self._call("POST", "/api/v1/cells/renew", CellCredentials, RenewalRequest(csr_pem))


def enrol(url: str, ca_pem: str, token: str, csr_pem: str, *, timeout_s: float = TIMEOUT_S) -> CellCredentials:
    """Makes the holder of the request's key a cell of the orchestrator at ``url``, whose CA was pinned before.

    The request's common name is the cell id. Keep the request and repeat this with it when the answer was lost.
    ``enrolment_refused``, ``enrolment_expired``, ``certificate_refused`` for another server, ``scheduler_unreachable``.
    """
    asked = msgspec.json.encode(EnrolmentRequest(token, csr_pem))
    with Wire(url, trust.client_context(ca_pem), timeout_s) as wire:
        granted = decode(wire.exchange("POST", "/api/v1/cells/enroll", asked, {}), CellCredentials)
    if trust.key_sha256(trust.certificate_key(granted.certificate_pem)) != trust.key_sha256(trust.csr_key(csr_pem)):
        raise GrafosError("answer_invalid", "the orchestrator's certificate is not for the key that asked", where=url)
    return granted


def _in_path(name: str) -> str:
    return quote(name, safe="")
