"""The one table of what the scheduler answers: method and path, who may ask with which right, what goes in and out.

The server, the published OpenAPI document and the tests are all made from it, so none can say another thing.
"""

from __future__ import annotations

from grafos_core.errors import GrafosError
from grafos_scheduler import (
    audit_messages,
    audit_reading,
    handlers,
    lease_handlers,
    lease_messages,
    messages,
    standing_handlers,
    standing_messages,
)
from grafos_scheduler.account_routes import ACCOUNT_ROUTES
from grafos_scheduler.authorize import CELL, OPERATOR, TENANT
from grafos_scheduler.ledger_routes import LEDGER_ROUTES
from grafos_scheduler.machine_routes import MACHINE_ROUTES
from grafos_scheduler.orchestrator_routes import ORCHESTRATOR_ROUTES
from grafos_scheduler.regaining_routes import REGAIN_ROUTES
from grafos_scheduler.region_routes import REGION_ROUTES
from grafos_scheduler.reservation_routes import RESERVATION_ROUTES
from grafos_scheduler.route import Route, gate
from grafos_scheduler.service_routes import SERVICE_ROUTES
from grafos_scheduler.settings import CELL as CELL_MODE

ROUTES: tuple[Route, ...] = (
    Route("GET", "/health", None, handlers.health, "Whether the scheduler answers, and for whom.", messages.Health),
    Route(
        "POST",
        "/api/v1/claim",
        None,
        handlers.claim,
        "Take possession of an unclaimed cell.",
        messages.ClaimGrant,
        body=messages.ClaimRequest,
    ),
    *REGAIN_ROUTES,
    Route(
        "GET",
        "/openapi.json",
        gate("api:read", OPERATOR, TENANT, CELL),
        handlers.openapi,
        "This document.",
        bytes,
    ),
    Route(
        "PUT",
        "/api/v1/cell/terms",
        gate("terms:write", OPERATOR),
        handlers.set_terms,
        "Record what the cell costs and when it must be gone.",
        messages.Terms,
        body=messages.Terms,
    ),
    Route(
        "GET",
        "/api/v1/tenants",
        gate("tenants:read", OPERATOR),
        handlers.list_tenants,
        "The tenants with their money and leases.",
        messages.TenantList,
    ),
    Route(
        "POST",
        "/api/v1/tenants",
        gate("tenants:write", OPERATOR),
        handlers.register_tenant,
        "Register a tenant, or renew its credentials, with a slice of its budget.",
        messages.TenantGrant,
        body=messages.TenantRequest,
        only=CELL_MODE,
    ),
    Route(
        "POST",
        "/api/v1/cells/register",
        gate("cells:register", CELL),
        handlers.register_cell,
        "Tell who the cell is and what it has.",
        messages.CellRegistered,
        body=messages.CellRegistration,
    ),
    Route(
        "GET",
        "/api/v1/cells",
        gate("cells:read", OPERATOR, TENANT),
        handlers.list_cells,
        "The cells with their readiness.",
        messages.CellList,
    ),
    Route(
        "PUT",
        "/api/v1/blobs/{sha256}",
        gate("blobs:write", TENANT),
        handlers.put_blob,
        "Store a module or an input under its SHA-256.",
        messages.BlobStored,
        body=bytes,
        body_bytes_max=messages.BLOB_BYTES_MAX,
    ),
    Route(
        "HEAD",
        "/api/v1/blobs/{sha256}",
        gate("blobs:read", TENANT),
        handlers.head_blob,
        "Whether the tenant has stored these bytes.",
        messages.BlobStored,
    ),
    Route(
        "GET",
        "/api/v1/blobs/{sha256}",
        gate("blobs:read", TENANT),
        handlers.get_blob,
        "The bytes.",
        bytes,
        media_type="application/octet-stream",
    ),
    Route(
        "POST",
        "/api/v1/runs",
        gate("runs:write", TENANT),
        handlers.start_run,
        "Ask for a run; the same run key never runs or charges twice.",
        messages.RunView,
        body=messages.RunRequest,
    ),
    Route(
        "POST",
        "/api/v1/runs:batch",
        gate("runs:write", TENANT),
        handlers.start_runs,
        "Ask for several runs at once; each is admitted or refused by itself.",
        messages.BatchedRuns,
        body=messages.RunBatch,
    ),
    Route(
        "POST",
        "/api/v1/admission",
        gate("runs:write", TENANT),
        handlers.foresee,
        "What would become of a run; nothing is begun.",
        messages.Admission,
        body=messages.RunRequest,
    ),
    Route(
        "POST",
        "/api/v1/offers",
        gate("runs:write", TENANT),
        standing_handlers.list_offers,
        "What each cell would say to a run, of one provider or of `any`; nothing is begun.",
        standing_messages.Offers,
        body=messages.RunRequest,
    ),
    Route(
        "POST",
        "/api/v1/runs/{run_id}/cancel",
        gate("runs:write", TENANT),
        handlers.cancel_run,
        "Have a run end; what it used is paid for. Ask for the run to see when it has.",
        messages.RunView,
    ),
    Route(
        "GET",
        "/api/v1/runs",
        gate("runs:read", TENANT, OPERATOR),
        handlers.list_runs,
        "Runs, the newest first: a tenant's own, or all.",
        messages.RunPage,
        query=messages.RunsQuery,
    ),
    Route(
        "GET",
        "/api/v1/runs/{run_id}",
        gate("runs:read", TENANT, OPERATOR),
        handlers.show_run,
        "One run; may wait until it has ended.",
        messages.RunView,
        query=messages.RunQuery,
    ),
    Route(
        "GET",
        "/api/v1/runs/{run_id}/artifacts",
        gate("artifacts:read", TENANT, OPERATOR),
        handlers.artifacts,
        "What a run left: response, output, log, and the receipt that its cell signed.",
        messages.Artifacts,
    ),
    *RESERVATION_ROUTES,
    Route(
        "GET",
        "/api/v1/leases",
        gate("leases:read", TENANT, OPERATOR),
        lease_handlers.list_leases,
        "Leases: a tenant's own, or all.",
        lease_messages.LeaseList,
        query=lease_messages.LeasesQuery,
    ),
    Route(
        "POST",
        "/api/v1/leases/{lease_id}/revoke",
        gate("leases:write", TENANT, OPERATOR),
        lease_handlers.revoke,
        "Take a lease back: warn its run, give it a grace, then tear it down.",
        lease_messages.LeaseView,
        body=lease_messages.LeaseRevocation,
    ),
    Route(
        "GET",
        "/api/v1/admin/fenced-leases",
        gate("fences:read", OPERATOR),
        lease_handlers.list_fenced,
        "The leases whose teardown failed, and whose room is out of use.",
        lease_messages.LeaseList,
    ),
    Route(
        "POST",
        "/api/v1/admin/fenced-leases/{lease_id}/unfence",
        gate("fences:write", OPERATOR),
        lease_handlers.unfence,
        "Clear a fence: the cell tries the teardown again. Ask for the list to see whether it went.",
        lease_messages.LeaseView,
    ),
    Route(
        "GET",
        "/api/v1/admin/audit",
        gate("audit:read", OPERATOR),
        audit_reading.audit,
        "The audit log, verified as far as it is read.",
        audit_messages.AuditPage,
        query=audit_messages.AuditQuery,
    ),
    Route(
        "POST",
        "/api/v1/drain",
        gate("drain:write", OPERATOR),
        handlers.drain,
        "Close admission (or open it again); runs under way go on.",
        messages.DrainView,
        body=messages.DrainRequest,
    ),
    Route(
        "POST",
        "/api/v1/settlement",
        gate("settlement:write", OPERATOR),
        handlers.settle,
        "Close every budget slice and get a signed settlement of each; ask again until all are final.",
        messages.Settlements,
        only=CELL_MODE,
    ),
    *SERVICE_ROUTES,
    *ORCHESTRATOR_ROUTES,
    *ACCOUNT_ROUTES,
    *LEDGER_ROUTES,
    *MACHINE_ROUTES,
    *REGION_ROUTES,
)


def find_route(method: str, path: str) -> tuple[Route, dict[str, str]]:
    """The row for a request and the values in its path; ``not_found``, or ``request_invalid`` for a wrong method."""
    parts = path.split("/")
    allowed: list[str] = []
    for route in _BY_LENGTH.get(len(parts), ()):
        values = _match(route.path.split("/"), parts)
        if values is not None:
            if route.method == method:
                return route, values
            allowed.append(route.method)
    if allowed:
        raise GrafosError(
            "request_invalid", f"{path[:200]} does not take {method}", next=f"use {' or '.join(sorted(allowed))}"
        )
    raise GrafosError("not_found", f"there is no route {path[:200]!r}", next="see /openapi.json")


def _match(pattern: list[str], parts: list[str]) -> dict[str, str] | None:
    values: dict[str, str] = {}
    for expected, seen in zip(pattern, parts, strict=True):
        if expected.startswith("{"):
            if not seen:
                return None
            values[expected[1:-1]] = seen
        elif expected != seen:
            return None
    return values


def _by_length() -> dict[int, list[Route]]:
    table: dict[int, list[Route]] = {}
    for route in ROUTES:
        table.setdefault(route.path.count("/") + 1, []).append(route)
    return table


_BY_LENGTH = _by_length()
