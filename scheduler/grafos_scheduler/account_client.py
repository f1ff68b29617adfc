"""Speaks to an orchestrator about accounts: signing in, whose account it is, and orders that are signed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple, TypeVar
from urllib.parse import quote

import msgspec
from msgspec.structs import replace

from grafos_core import trust
from grafos_core.errors import GrafosError
from grafos_core.receipts import SigningKeyProof, sign_record
from grafos_scheduler import messages
from grafos_scheduler.account_messages import (
    AccountGrant,
    AccountList,
    AccountShown,
    AccountView,
    Challenge,
    InvitationAsked,
    InvitationGrant,
    SignIn,
)
from grafos_scheduler.client import SchedulerClient
from grafos_scheduler.enrolment_messages import AccountCredentials, CellCredentials, EnrolmentRequest, RenewalRequest
from grafos_scheduler.ordering import order_of
from grafos_scheduler.wire import TIMEOUT_S, Wire, decode

Granted = TypeVar("Granted", AccountGrant, CellCredentials)


class Signer(NamedTuple):
    """Who signs orders, and with what."""

    key: trust.PrivateKey
    fabric: str
    scheduler: str
    tenant: str


class AccountClient(SchedulerClient):
    """One caller's way to its account; see ``SchedulerClient``. With a ``signer`` every run that it asks for is
    signed."""

    signer: Signer | None = None

    def start_run(self, request: messages.RunRequest) -> messages.RunView:
        """As ``SchedulerClient.start_run``; ``order_refused`` where an order is lacking, or is wrong."""
        return super().start_run(self._ordered(request))

    def start_runs(self, requests: Sequence[messages.RunRequest]) -> list[messages.BatchedRun]:
        """As ``SchedulerClient.start_runs``, each with an order of its own."""
        return super().start_runs([self._ordered(request) for request in requests])

    def _ordered(self, request: messages.RunRequest) -> messages.RunRequest:
        if self.signer is None:
            return request
        key, fabric, scheduler, tenant = self.signer
        return replace(request, order=sign_record(order_of(fabric, scheduler, tenant, request, time.time()), key))

    # --- operator and tenant ---

    def renew_account(self, csr_pem: str) -> AccountCredentials:
        """The caller's own credentials for longer; the request is for the key that its certificate has."""
        return self._call("POST", "/api/v1/account/renew", AccountCredentials, RenewalRequest(csr_pem))

    # --- tenant ---

    def account(self) -> AccountShown:
        """Who the caller is, what it may do, and what its tenant has left."""
        return self._get("/api/v1/account", AccountShown)

    def leave_account(self) -> AccountView:
        """Signs out: the caller's key is worth nothing any more."""
        return self._call("DELETE", "/api/v1/account", AccountView)

    def register_signing_key(self, signer: Signer, key_sha256: str) -> AccountView:
        """Registers the signer's key for the caller, whose certificate's key has this fingerprint, by a proof that it
        is there. The same key again changes nothing; ``signing_key_refused`` where another one is registered."""
        given = self._call("POST", "/api/v1/account/signing-key/challenge", Challenge)
        key, fabric, scheduler, tenant = signer
        key_pem = trust.public_key_to_pem(key.public_key())
        proof = SigningKeyProof(fabric, scheduler, tenant, key_sha256, key_pem, given.challenge)
        return self._call("PUT", "/api/v1/account/signing-key", AccountView, sign_record(proof, key))

    # --- operator ---

    def invite(self, asked: InvitationAsked) -> InvitationGrant:
        """A token with which one person may sign in, once and soon."""
        return self._call("POST", "/api/v1/admin/invitations", InvitationGrant, asked)

    def accounts(self) -> list[AccountView]:
        """The people of all tenants, and the invitations that nobody used yet."""
        return self._get("/api/v1/admin/accounts", AccountList).accounts

    def remove_account(self, tenant: str, name: str) -> AccountView:
        """Puts a person out, or takes an invitation back; also says so of one who was put out of late."""
        path = f"/api/v1/admin/accounts/{quote(tenant, safe='')}/{quote(name, safe='')}"
        return self._call("DELETE", path, AccountView)


def sign_in(url: str, ca_pem: str, token: str, csr_pem: str, *, timeout_s: float = TIMEOUT_S) -> AccountGrant:
    """Makes the holder of the request's key the person who was invited, at the orchestrator whose CA was pinned before.

    Keep the request and repeat this with it when the answer was lost. ``invitation_refused``, ``invitation_expired``,
    ``certificate_refused`` for another server, ``scheduler_unreachable``.
    """
    return let_in(url, ca_pem, "/api/v1/account/login", SignIn(token, csr_pem), AccountGrant, timeout_s)


def let_in(
    url: str, ca_pem: str, path: str, asked: SignIn | EnrolmentRequest, kind: type[Granted], timeout_s: float
) -> Granted:
    """What somebody without a certificate is granted for the key of its request: a certificate of that very key."""
    with Wire(url, trust.client_context(ca_pem), timeout_s) as wire:
        granted = decode(wire.exchange("POST", path, msgspec.json.encode(asked), {}), kind)
    wanted = trust.key_sha256(trust.csr_key(asked.csr_pem))
    if trust.key_sha256(trust.certificate_key(granted.certificate_pem)) != wanted:
        raise GrafosError("answer_invalid", "the orchestrator's certificate is not for the key that asked", where=url)
    return granted
