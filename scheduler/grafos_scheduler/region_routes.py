"""The rows of the table of routes that are about shared regions of leased memory."""

from __future__ import annotations

from grafos_scheduler import region_handlers, region_messages
from grafos_scheduler.authorize import OPERATOR, TENANT
from grafos_scheduler.route import Route, gate

REGION_ROUTES: tuple[Route, ...] = (
    Route(
        "POST",
        "/api/v1/regions",
        gate("leases:write", TENANT),
        region_handlers.create,
        "Lease memory of one cell for runs to share; the same key never leases or charges twice.",
        region_messages.RegionView,
        body=region_messages.RegionRequest,
    ),
    Route(
        "GET",
        "/api/v1/regions",
        gate("leases:read", TENANT, OPERATOR),
        region_handlers.list_regions,
        "Shared regions, the newest first: a tenant's own, or all.",
        region_messages.RegionList,
    ),
    Route(
        "GET",
        "/api/v1/regions/{lease_id}",
        gate("leases:read", TENANT, OPERATOR),
        region_handlers.show,
        "One shared region, with what it costs.",
        region_messages.RegionView,
    ),
    Route(
        "POST",
        "/api/v1/regions/{lease_id}/renew",
        gate("leases:write", TENANT),
        region_handlers.renew,
        "Let a shared region last longer; its bytes stay.",
        region_messages.RegionView,
        body=region_messages.RegionRenewal,
    ),
    Route(
        "DELETE",
        "/api/v1/regions/{lease_id}",
        gate("leases:write", TENANT, OPERATOR),
        region_handlers.end,
        "End a shared region: its bytes are gone, and it is settled.",
        region_messages.RegionView,
    ),
)
