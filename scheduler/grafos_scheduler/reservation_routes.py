"""The rows of the table of routes for programs of several tasklets: one hold, and what one leaves for another."""

from __future__ import annotations

from grafos_scheduler import messages, reservation_handlers, reservation_messages
from grafos_scheduler.authorize import OPERATOR, TENANT
from grafos_scheduler.route import Route, gate

RESERVATION_ROUTES: tuple[Route, ...] = (
    Route(
        "POST",
        "/api/v1/reservations",
        gate("runs:write", TENANT),
        reservation_handlers.reserve,
        "Hold money for several runs at once.",
        reservation_messages.ReservationView,
        body=reservation_messages.ReservationRequest,
    ),
    Route(
        "POST",
        "/api/v1/reservations:foresee",
        gate("runs:read", TENANT),
        reservation_handlers.foresee,
        "Whether so much would be held now; nothing is.",
        messages.Admission,
        body=reservation_messages.ReservationRequest,
    ),
    Route(
        "GET",
        "/api/v1/reservations",
        gate("runs:read", TENANT, OPERATOR),
        reservation_handlers.list_all,
        "Money that is held for several runs at once, and which runs it is: a tenant's own, or all.",
        reservation_messages.ReservationList,
    ),
    Route(
        "DELETE",
        "/api/v1/reservations/{key}",
        gate("runs:write", TENANT),
        reservation_handlers.end,
        "End a reservation; what its runs do not need is free again.",
        reservation_messages.ReservationView,
    ),
    Route(
        "POST",
        "/api/v1/runs/{run_id}/artifacts/{part}/blob",
        gate("blobs:write", TENANT),
        reservation_handlers.keep_artifact,
        "Store a run's response or output as a blob, so that another run may have it as its input.",
        messages.BlobStored,
    ),
)
