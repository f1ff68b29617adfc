"""The rows of the table of routes by which an operator books in the fabric's ledger at an orchestrator."""

from __future__ import annotations

from grafos_core.booking import Booking
from grafos_scheduler import ledger_handlers, ledger_messages
from grafos_scheduler.authorize import OPERATOR
from grafos_scheduler.route import Route, gate
from grafos_scheduler.settings import ORCHESTRATOR

BOOKING_BYTES_MAX = 4 * 1024 * 1024
"""Some thousands of cells that are held for together, each hold as it was and as it is to be."""
LEDGER_BYTES_MAX = 16 * 1024 * 1024
"""Some forty thousand cells and slices, ended ones included."""

LEDGER_ROUTES: tuple[Route, ...] = (
    Route(
        "GET",
        "/api/v1/ledger",
        gate("ledger:read", OPERATOR),
        ledger_handlers.show,
        "The fabric's ledger: accounts, and what is held for cells and as slices.",
        ledger_messages.LedgerPage,
        query=ledger_messages.LedgerQuery,
        only=ORCHESTRATOR,
    ),
    Route(
        "POST",
        "/api/v1/ledger",
        gate("ledger:write", OPERATOR),
        ledger_handlers.book,
        "Book in the fabric's ledger what was decided on it as it was read.",
        ledger_messages.LedgerRows,
        body=Booking,
        body_bytes_max=BOOKING_BYTES_MAX,
        only=ORCHESTRATOR,
    ),
    Route(
        "PUT",
        "/api/v1/ledger",
        gate("ledger:write", OPERATOR),
        ledger_handlers.take,
        "Move the fabric's ledger here, whole and once.",
        ledger_messages.LedgerView,
        body=ledger_messages.LedgerMove,
        body_bytes_max=LEDGER_BYTES_MAX,
        only=ORCHESTRATOR,
    ),
    Route(
        "POST",
        "/api/v1/ledger/close",
        gate("ledger:write", OPERATOR),
        ledger_handlers.close,
        "Close the fabric's ledger here, so that it may go home; ask again until it is closed.",
        ledger_messages.LedgerView,
        body=ledger_messages.LedgerClosing,
        only=ORCHESTRATOR,
    ),
)
