"""The rows of the table of routes that are about people's accounts at an orchestrator."""

from __future__ import annotations

from grafos_core.receipts import Signed
from grafos_scheduler import account_handlers, account_messages
from grafos_scheduler.authorize import OPERATOR, TENANT
from grafos_scheduler.route import Route, gate
from grafos_scheduler.settings import ORCHESTRATOR

ACCOUNT_ROUTES: tuple[Route, ...] = (
    Route(
        "POST",
        "/api/v1/admin/invitations",
        gate("tenants:write", OPERATOR),
        account_handlers.invite,
        "Invite one person of a tenant: a token for one use, within a day at most.",
        account_messages.InvitationGrant,
        body=account_messages.InvitationAsked,
        only=ORCHESTRATOR,
    ),
    Route(
        "GET",
        "/api/v1/admin/accounts",
        gate("tenants:read", OPERATOR),
        account_handlers.list_accounts,
        "The people of all tenants, and the invitations that nobody used yet.",
        account_messages.AccountList,
        only=ORCHESTRATOR,
    ),
    Route(
        "DELETE",
        "/api/v1/admin/accounts/{tenant}/{name}",
        gate("tenants:write", OPERATOR),
        account_handlers.remove,
        "Put a person out, or take an invitation back.",
        account_messages.AccountView,
        only=ORCHESTRATOR,
    ),
    Route(
        "POST",
        "/api/v1/account/login",
        None,
        account_handlers.sign_in,
        "Turn an invitation and a certificate request into a person's credentials.",
        account_messages.AccountGrant,
        body=account_messages.SignIn,
        only=ORCHESTRATOR,
    ),
    Route(
        "GET",
        "/api/v1/account",
        gate("account:own", TENANT),
        account_handlers.show,
        "Who the caller is, what it may do, and what its tenant has left.",
        account_messages.AccountShown,
        only=ORCHESTRATOR,
    ),
    Route(
        "DELETE",
        "/api/v1/account",
        gate("account:own", TENANT),
        account_handlers.leave,
        "Leave: the caller's key is worth nothing any more.",
        account_messages.AccountView,
        only=ORCHESTRATOR,
    ),
    Route(
        "POST",
        "/api/v1/account/signing-key/challenge",
        gate("account:own", TENANT),
        account_handlers.challenge,
        "What the caller is to sign with the signing key that it registers.",
        account_messages.Challenge,
        only=ORCHESTRATOR,
    ),
    Route(
        "PUT",
        "/api/v1/account/signing-key",
        gate("account:own", TENANT),
        account_handlers.register,
        "Register the caller's signing key, by a proof that it has it; runs of its tenant are signed from then on.",
        account_messages.AccountView,
        body=Signed,
        only=ORCHESTRATOR,
    ),
)
