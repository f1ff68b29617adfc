"""The rows of the table of routes that are an orchestrator's: the account, cells that enrol, providers."""

from __future__ import annotations

from grafos_scheduler import enrolment_messages, orchestrator_handlers
from grafos_scheduler.authorize import CELL, OPERATOR, TENANT
from grafos_scheduler.messages import Terms
from grafos_scheduler.route import Route, gate
from grafos_scheduler.settings import ORCHESTRATOR

ORCHESTRATOR_ROUTES: tuple[Route, ...] = (
    Route(
        "POST",
        "/api/v1/account/provider-bootstrap",
        gate("account:write", OPERATOR),
        orchestrator_handlers.bootstrap,
        "Let one cell enrol: a token for one use, within fifteen minutes.",
        enrolment_messages.BootstrapGrant,
        body=enrolment_messages.BootstrapRequest,
        only=ORCHESTRATOR,
    ),
    Route(
        "POST",
        "/api/v1/cells/enroll",
        None,
        orchestrator_handlers.enrol,
        "Turn a bootstrap token and a certificate request into a cell's credentials.",
        enrolment_messages.CellCredentials,
        body=enrolment_messages.EnrolmentRequest,
        only=ORCHESTRATOR,
    ),
    Route(
        "POST",
        "/api/v1/cells/renew",
        gate("cells:renew", CELL),
        orchestrator_handlers.renew,
        "Renew the cell's credentials, for the same key.",
        enrolment_messages.CellCredentials,
        body=enrolment_messages.RenewalRequest,
        only=ORCHESTRATOR,
    ),
    Route(
        "POST",
        "/api/v1/cells/{cell_id}/revoke",
        gate("cells:revoke", OPERATOR),
        orchestrator_handlers.revoke_cell,
        "Take a cell's identity back: drain it, give its runs a grace, then close its link.",
        enrolment_messages.IdentityView,
        body=enrolment_messages.CellRevocation,
        only=ORCHESTRATOR,
    ),
    Route(
        "PUT",
        "/api/v1/cells/{cell_id}/terms",
        gate("terms:write", OPERATOR),
        orchestrator_handlers.set_cell_terms,
        "Record what an enrolled cell costs and when it must be gone.",
        Terms,
        body=Terms,
        only=ORCHESTRATOR,
    ),
    Route(
        "GET",
        "/api/v1/providers",
        gate("cells:read", OPERATOR, TENANT),
        orchestrator_handlers.list_providers,
        "The providers, each with how many of its cells are ready and what the others lack.",
        enrolment_messages.ProviderList,
        only=ORCHESTRATOR,
    ),
    Route(
        "GET",
        "/api/v1/providers/{provider}",
        gate("cells:read", OPERATOR, TENANT),
        orchestrator_handlers.show_provider,
        "One provider.",
        enrolment_messages.ProviderView,
        only=ORCHESTRATOR,
    ),
)
