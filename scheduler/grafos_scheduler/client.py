"""Speaks to a scheduler: one method per route, over mutual TLS with a pinned CA and an API token.

Nearly every call may be repeated, because saying the same again changes nothing. So a connection that breaks, or a
replica that leads no more, is tried once more at once, and for ``patience_s`` longer when the caller knows that a
scheduler is on its way up.
"""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self
from urllib.parse import quote, urlencode

import msgspec

from grafos_core import trust
from grafos_core.errors import GrafosError
from grafos_core.ids import sha256_of
from grafos_core.receipts import Signed
from grafos_core.revoking import GRACE_S_DEFAULT
from grafos_scheduler import (
    audit_messages,
    lease_messages,
    messages,
    region_messages,
    reservation_messages,
    standing_messages,
)
from grafos_scheduler.wire import (
    ANSWER_BYTES_MAX,
    ASK_ANOTHER,
    FELL_SILENT,
    TIMEOUT_S,
    WITH_FRESH_CREDENTIALS,
    Answer,
    Wire,
    check_silence,
    decode,
)

SILENT_S = 1.0
"""Who has patience asks on for so long: a scheduler that is killed falls silent too, and then is not there."""
RETRY_FIRST_S = 0.02
RETRY_MOST_S = 0.5
"""Between tries while ``patience_s`` lasts: short at first, since a scheduler starts within tenths of a second."""


class SchedulerClient:
    """One caller's way to one scheduler, over one connection that is kept. For one thread; ``close`` when done.

    ``url`` is ``https://ADDRESS:PORT``; ``ca_pem`` the pinned CA; ``certificate`` and ``key`` are files.
    Errors of the scheduler come as they are; beside them ``scheduler_unreachable``, ``certificate_refused`` and
    ``answer_invalid``.
    """

    def __init__(
        self,
        url: str,
        ca_pem: str,
        certificate: Path,
        key: Path,
        api_token: str,
        *,
        timeout_s: float = TIMEOUT_S,
        patience_s: float = 0.0,
    ) -> None:
        self.url = url
        if not (api_token.isascii() and api_token.isprintable()):
            raise GrafosError(
                "token_refused",
                "the API token is damaged: it holds characters that no token has",
                where=url,
                next=WITH_FRESH_CREDENTIALS,
            )
        self._headers = {"authorization": f"Bearer {api_token}"}
        self._patience_s = patience_s
        try:
            context = trust.client_context(ca_pem, certificate, key)
        except (OSError, ssl.SSLError) as error:
            raise GrafosError(
                "credentials_missing",
                "the credentials for the scheduler cannot be read",
                where=f"{certificate}, {key}",
                why=str(error),
                next=WITH_FRESH_CREDENTIALS,
            ) from error
        self._wire = Wire(url, context, timeout_s)

    # --- anybody ---

    def health(self) -> messages.Health:
        return self._get("/health", messages.Health)

    # --- operator ---

    def set_terms(self, terms: messages.Terms) -> messages.Terms:
        """Records what the cell costs and when it must be gone."""
        return self._call("PUT", "/api/v1/cell/terms", messages.Terms, terms)

    def register_tenant(self, request: messages.TenantRequest) -> messages.TenantGrant:
        """Registers a tenant with a slice of its budget, or renews its credentials."""
        return self._call("POST", "/api/v1/tenants", messages.TenantGrant, request)

    def tenants(self) -> list[messages.TenantView]:
        return self._get("/api/v1/tenants", messages.TenantList).tenants

    def leases(self, run_id: str = "") -> list[lease_messages.LeaseView]:
        """The leases that the caller may see, those of one run or all."""
        query = "?" + urlencode({"run_id": run_id}) if run_id else ""
        return self._get(f"/api/v1/leases{query}", lease_messages.LeaseList).leases

    def revoke_lease(
        self, lease_id: str, *, grace_s: float = GRACE_S_DEFAULT, why: str = ""
    ) -> lease_messages.LeaseView:
        """Takes a lease back, and gives it as it is; its run may go on for ``grace_s``."""
        asked = lease_messages.LeaseRevocation(grace_s, why)
        return self._call("POST", f"/api/v1/leases/{quote(lease_id, safe='')}/revoke", lease_messages.LeaseView, asked)

    def create_region(self, asked: region_messages.RegionRequest) -> region_messages.RegionView:
        """Leases memory for runs to share; asked again with the same key it is the same region."""
        return self._call("POST", "/api/v1/regions", region_messages.RegionView, asked)

    def regions(self) -> list[region_messages.RegionView]:
        """The shared regions that the caller may see, the newest first."""
        return self._get("/api/v1/regions", region_messages.RegionList).regions

    def region(self, lease_id: str) -> region_messages.RegionView:
        """One shared region, or ``lease_unknown``."""
        return self._get(f"/api/v1/regions/{quote(lease_id, safe='')}", region_messages.RegionView)

    def renew_region(self, lease_id: str, ttl_s: float) -> region_messages.RegionView:
        """Lets the region last ``ttl_s`` from now on, unless it lasts longer already; its bytes stay."""
        path, asked = f"/api/v1/regions/{quote(lease_id, safe='')}/renew", region_messages.RegionRenewal(ttl_s)
        return self._call("POST", path, region_messages.RegionView, asked)

    def end_region(self, lease_id: str) -> region_messages.RegionView:
        """Ends the region and gives it as it was settled; one that has ended stays as it is."""
        return self._call("DELETE", f"/api/v1/regions/{quote(lease_id, safe='')}", region_messages.RegionView)

    def fenced_leases(self) -> list[lease_messages.LeaseView]:
        """The leases whose teardown failed."""
        return self._get("/api/v1/admin/fenced-leases", lease_messages.LeaseList).leases

    def unfence_lease(self, lease_id: str) -> lease_messages.LeaseView:
        """Has the cell try the failed teardown again; it has gone well once the lease is listed no more."""
        path = f"/api/v1/admin/fenced-leases/{quote(lease_id, safe='')}/unfence"
        return self._call("POST", path, lease_messages.LeaseView)

    def audit(self, query: audit_messages.AuditQuery) -> audit_messages.AuditPage:
        """A page of the audit log, which the scheduler has verified as far as it read."""
        given = urlencode(msgspec.to_builtins(query))
        return self._get(f"/api/v1/admin/audit?{given}", audit_messages.AuditPage)

    def drain(self, *, draining: bool = True, cell_id: str = "") -> messages.DrainView:
        """Closes admission (or opens it again) for one cell, or for all; runs under way go on."""
        request = messages.DrainRequest(cell_id, draining)
        return self._call("POST", "/api/v1/drain", messages.DrainView, request)

    def settle(self) -> list[Signed]:
        """Closes every slice and gives a signed ``Settlement`` of each; ask again until all are final."""
        return self._call("POST", "/api/v1/settlement", messages.Settlements).settlements

    # --- cells ---

    def register_cell(self, registration: messages.CellRegistration) -> messages.CellRegistered:
        return self._call("POST", "/api/v1/cells/register", messages.CellRegistered, registration)

    def cells(self) -> list[messages.CellView]:
        return self._get("/api/v1/cells", messages.CellList).cells

    # --- tenant ---

    def has_blob(self, sha256: str) -> bool:
        """Whether the tenant's blob is at the scheduler."""
        try:
            self._exchange("HEAD", f"/api/v1/blobs/{sha256}", None)
        except GrafosError as error:
            if error.code == "blob_missing":
                return False
            if error.http_status in (http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN):
                self.cells()  # the answer to HEAD has no words for why the caller is refused; this one has
            raise
        return True

    def put_blob(self, data: bytes) -> str:
        """Uploads ``data`` if it is not there yet; gives its SHA-256."""
        sha256 = sha256_of(data)
        if not self.has_blob(sha256):
            self._exchange("PUT", f"/api/v1/blobs/{sha256}", data)
        return sha256

    def get_blob(self, sha256: str) -> bytes:
        return self._exchange("GET", f"/api/v1/blobs/{sha256}", None)

    def start_run(self, request: messages.RunRequest) -> messages.RunView:
        """Asks for a run whose blobs are there. Asked again with the same run key it is the same run."""
        return self._call("POST", "/api/v1/runs", messages.RunView, request)

    def start_runs(self, requests: Sequence[messages.RunRequest]) -> list[messages.BatchedRun]:
        """Asks for up to ``messages.RUNS_BATCH_MAX`` runs at once; for each, in this order, the run or its refusal."""
        batch = messages.RunBatch(tuple(requests))
        return self._call("POST", "/api/v1/runs:batch", messages.BatchedRuns, batch).runs

    def foresee(self, request: messages.RunRequest) -> messages.Admission:
        """What would become of such a run; neither its blobs nor its key need to be there, and nothing is begun."""
        return self._call("POST", "/api/v1/admission", messages.Admission, request)

    def offers(self, request: messages.RunRequest) -> standing_messages.Offers:
        """What each cell would say to the run; its provider may be ``any``."""
        return self._call("POST", "/api/v1/offers", standing_messages.Offers, request)

    def cancel_run(self, run_id: str) -> messages.RunView:
        """Has the run end, and gives it as it is: ``cancelled``, under way to it, or ended before."""
        return self._call("POST", f"/api/v1/runs/{run_id}/cancel", messages.RunView)

    def run(self, run_id: str, *, wait_s: float = 0.0) -> messages.RunView:
        """The run as it is, after waiting up to ``wait_s`` (at most ``messages.WAIT_S_MAX``) for its end."""
        query = "?" + urlencode({"wait_s": wait_s}) if wait_s else ""
        return self._get(f"/api/v1/runs/{run_id}{query}", messages.RunView, wait_s)

    def runs(self, *, after: str = "", limit: int = 100) -> messages.RunPage:
        """One page of runs, the newest first."""
        return self._get("/api/v1/runs?" + urlencode({"after": after, "limit": limit}), messages.RunPage)

    def all_runs(self) -> Iterator[messages.RunView]:
        """Every run that the caller may see, the newest first, page by page."""
        page = self.runs(limit=messages.RUNS_PAGE_MAX)
        yield from page.runs
        while page.next:
            page = self.runs(after=page.next, limit=messages.RUNS_PAGE_MAX)
            yield from page.runs

    def artifacts(self, run_id: str) -> messages.Artifacts:
        return self._get(f"/api/v1/runs/{run_id}/artifacts", messages.Artifacts)

    def keep_artifact(self, run_id: str, part: str) -> messages.BlobStored:
        """Has the scheduler store the run's ``output`` or ``response`` as a blob, so that a run may be given it."""
        return self._call("POST", f"/api/v1/runs/{run_id}/artifacts/{part}/blob", messages.BlobStored)

    def reserve(self, request: reservation_messages.ReservationRequest) -> reservation_messages.ReservationView:
        """Holds money for the runs that name the key. Asked again with the same key it is the same reservation."""
        return self._call("POST", "/api/v1/reservations", reservation_messages.ReservationView, request)

    def foresee_reservation(self, request: reservation_messages.ReservationRequest) -> messages.Admission:
        """Whether so much would be held now; nothing is."""
        return self._call("POST", "/api/v1/reservations:foresee", messages.Admission, request)

    def reservations(self) -> list[reservation_messages.ReservationView]:
        """The reservations that the caller may see: those that stand, and those that were settled within the hour."""
        return self._get("/api/v1/reservations", reservation_messages.ReservationList).reservations

    def end_reservation(self, key: str) -> reservation_messages.ReservationView:
        """Lets no more runs be held on it; what they do not need is the tenant's again."""
        return self._call("DELETE", f"/api/v1/reservations/{key}", reservation_messages.ReservationView)

    # --- how ---

    def close(self) -> None:
        self._wire.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _get(self, path: str, answer: type[Answer], wait_s: float = 0.0) -> Answer:
        return decode(self._exchange("GET", path, None, wait_s), answer)

    def _call(self, method: str, path: str, answer: type[Answer], body: msgspec.Struct | None = None) -> Answer:
        data = msgspec.json.encode(body) if body is not None else None
        return decode(self._exchange(method, path, data), answer)

    def _exchange(
        self, method: str, path: str, body: bytes | None, wait_s: float = 0.0, bytes_max: int = ANSWER_BYTES_MAX
    ) -> bytes:
        """One exchange, tried again at once, and further while the scheduler is out of reach and patience lasts."""
        until, silent_since, pause_s, last = time.monotonic() + self._patience_s, 0.0, RETRY_FIRST_S, None
        while True:
            try:
                return self._wire.exchange(method, path, body, self._headers, wait_s, bytes_max)
            except GrafosError as error:
                if error.code not in ASK_ANOTHER:
                    raise
                now = time.monotonic()
                silent_since = (silent_since or now) if error.context.get(FELL_SILENT) else 0.0
                if last is not None:
                    if now >= min(until, silent_since + SILENT_S):
                        check_silence(last, error)
                    if now >= until:
                        raise
                    time.sleep(pause_s)
                    pause_s = min(2 * pause_s, RETRY_MOST_S)
                last = error
