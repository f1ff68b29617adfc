"""What a machine goes through to become a cell here, seen from the orchestrator: token, certificate, renewal.

Deciding is in ``enrolment``; here tokens are signed and checked, certificates are signed for what was decided and is
durable, and whoever was turned away is written to the security log, with who it said to be and from where.
"""

from __future__ import annotations

import asyncio
import logging
from typing import NamedTuple

from grafos_core import bootstrap_tokens, signed_claims, trust
from grafos_core.audit_chain import AuditKind
from grafos_core.errors import GrafosError
from grafos_scheduler import rows
from grafos_scheduler.attested import Attested, Enrolling, check_known, verify
from grafos_scheduler.authorize import CELL, CELL_RIGHTS, OPERATOR, OPERATOR_RIGHTS, TENANT, TENANT_RIGHTS, Caller
from grafos_scheduler.credentials import CELL_LIFE_S, LEAF_LIFE_S, Credentials
from grafos_scheduler.enrolment_messages import (
    AccountCredentials,
    Attestation,
    BootstrapGrant,
    BootstrapRequest,
    CellCredentials,
    EnrolmentRequest,
    ExpectedCell,
    ExpectedCellView,
)
from grafos_scheduler.events import BootstrapAsked, EnrolmentAsked, Witnessed
from grafos_scheduler.expecting import roots_of
from grafos_scheduler.refusing import Refusals, Told
from grafos_scheduler.settings import Settings
from grafos_scheduler.shell import Shell

log = logging.getLogger("grafos.security")


class _Opened(NamedTuple):
    """What somebody who enrols came with: for the log in words."""

    token_id: str
    cell_id: str
    provider: str
    said: str


class EnrolmentDesk:
    """Mints bootstrap tokens, takes them in, and renews what was given for them."""

    def __init__(self, shell: Shell, credentials: Credentials, settings: Settings) -> None:
        self._shell = shell
        self._credentials = credentials
        self._issuer = signed_claims.issuer(settings.fabric, settings.scheduler_id)
        self._refusals = Refusals(shell, AuditKind.ENROLMENT_REFUSED, "enrolment", "enrolment_refused")

    async def bootstrap(self, request: BootstrapRequest, operator: Caller, client: str) -> BootstrapGrant:
        """A token for one cell; its row is durable before anybody has it."""
        made = await self._shell.handle(BootstrapAsked(request, operator.name))
        assert isinstance(made, rows.Enrolment)
        log.info(
            "operator %s at %s let cell %s of %s enrol (token %s)",
            *(operator.name, client, made.cell_id, made.provider, made.token_id),
        )
        token = signed_claims.mint(self._credentials.account_key, self._claims(made))
        return BootstrapGrant(token, made.valid_until, self._credentials.ca_pem)

    async def enrol(self, request: EnrolmentRequest, client: str) -> CellCredentials:
        """A certificate for the key of the request, or the refusal, which is a security event."""
        self._refusals.check(client)
        said, claimed = "an unreadable token", ""
        try:
            opened = self._opened(request)
            said, claimed = opened.said, opened.cell_id
            key_sha256 = _key_of(request.csr_pem, opened.cell_id)
            attested = await self._attested(request.attestation, opened, key_sha256)
            event = EnrolmentAsked(opened.token_id, key_sha256, attested)
            identity = await self._shell.handle(event, by=f"cell/{opened.cell_id}")
        except GrafosError as error:
            await self._refusals.note(error, client, Told(said, claimed, cell_id=claimed))
            raise
        assert isinstance(identity, rows.Identity)
        log.warning(
            "cell %s of %s enrolled from %s with key %s",
            *(identity.cell_id, identity.provider, client, identity.key_sha256[:16]),
        )
        return self._certified(identity.cell_id, identity.provider, key_sha256, request.csr_pem)

    async def renew(self, caller: Caller, csr_pem: str, client: str) -> CellCredentials:
        """The same cell for another hour, for whoever shows to have its key still."""
        self._check_possession(caller, csr_pem, client)
        await self._shell.handle(_renewal(caller, client), by=caller.text)
        return self._certified(caller.name, caller.provider, caller.key_sha256, csr_pem)

    async def renew_account(self, caller: Caller, csr_pem: str, client: str) -> AccountCredentials:
        """The same operator or tenant for longer, for whoever shows to have its key still."""
        self._check_possession(caller, csr_pem, client)
        await self._shell.handle(_renewal(caller, client), by=caller.text)
        now, credentials = self._shell.clock.now(), self._credentials
        rights = OPERATOR_RIGHTS if caller.kind == OPERATOR else TENANT_RIGHTS
        return AccountCredentials(
            name=caller.name,
            certificate_pem=credentials.certify(csr_pem, caller.kind, caller.name, now),
            api_token=credentials.mint_token(caller.kind, caller.name, caller.key_sha256, rights, now),
            valid_until=now + LEAF_LIFE_S,
        )

    def _check_possession(self, caller: Caller, csr_pem: str, client: str) -> None:
        if trust.key_sha256(trust.csr_key(csr_pem)) == caller.key_sha256:
            return
        log.warning("renewal refused, from %s as %s %s: another key", client, caller.kind, caller.name)
        raise GrafosError(
            "certificate_refused",
            f"the request is not for the key that the certificate of {caller.kind} {caller.name} has",
            next="renew with the key that is in use",
        )

    def note_revocation(self, cell_id: str, operator: Caller, client: str, why: str) -> None:
        """Writes to the security log that an operator takes a cell's identity back."""
        log.warning("operator %s at %s revokes cell %.80r: %r", operator.name, client, cell_id, why)

    async def expect(self, request: ExpectedCell, operator: Caller, client: str) -> ExpectedCellView:
        """Lets a machine enrol by its cloud's word; refused at once where that could not be verified."""
        check_known(roots_of(self._shell.state, request.provider))
        made = await self._shell.handle(BootstrapAsked(request, operator.name))
        assert isinstance(made, rows.Enrolment)
        log.info(
            "operator %s at %s expects cell %s on a machine of %s's account %s (expectation %s)",
            *(operator.name, client, made.cell_id, made.provider, made.account, made.token_id),
        )
        return self.expected(made)

    def expected(self, made: rows.Enrolment) -> ExpectedCellView:
        """What is told of an expectation."""
        return ExpectedCellView(
            expectation_id=made.token_id,
            provider=made.provider,
            account=made.account,
            cell_id=made.cell_id,
            machine_id=made.machine_id,
            valid_until=made.valid_until,
            ca_pem=self._credentials.ca_pem,
        )

    def _opened(self, request: EnrolmentRequest) -> _Opened:
        """What the token says, or what is known of the expectation; nothing of it was proved by the machine yet."""
        if request.attestation is None:
            token = self._open(request.token)
            said = f"the token {token.jti} of cell {token.cell_id} of {token.provider}"
            return _Opened(token.jti, token.cell_id, token.provider, said)
        if request.token:
            raise GrafosError("request_invalid", "a token and a cloud's word at once", next="enrol with one of them")
        known = self._shell.state.enrolments.get(request.attestation.expectation_id)
        if known is None or not known.account:
            raise GrafosError("enrolment_refused", "no such cell is expected here (any more)", next="expect it again")
        said = f"the word of {known.provider} for cell {known.cell_id} (expectation {known.token_id})"
        return _Opened(known.token_id, known.cell_id, known.provider, said)

    async def _attested(self, word: Attestation | None, opened: _Opened, key_sha256: str) -> Attested | None:
        """What the cloud signed, verified; in a thread, since that takes its time."""
        if word is None:
            return None
        roots, now = roots_of(self._shell.state, opened.provider), self._shell.clock.now()
        enrolling = Enrolling(opened.token_id, key_sha256)
        return await asyncio.to_thread(verify, word.evidence, roots, enrolling, now)

    def _open(self, token: str) -> bootstrap_tokens.BootstrapClaims:
        now = self._shell.clock.now()
        return bootstrap_tokens.check(self._credentials.account_key, token, self._issuer, now)

    def _claims(self, made: rows.Enrolment) -> bootstrap_tokens.BootstrapClaims:
        return bootstrap_tokens.BootstrapClaims(
            iss=self._issuer,
            jti=made.token_id,
            provider=made.provider,
            cell_id=made.cell_id,
            region=made.region,
            rate_micro_cents_per_hour=made.rate_micro_cents_per_hour,
            expires=made.expires_at,
            iat=made.made_at,
            exp=made.valid_until,
        )

    def _certified(self, cell_id: str, provider: str, key_sha256: str, csr_pem: str) -> CellCredentials:
        now, credentials = self._shell.clock.now(), self._credentials
        return CellCredentials(
            cell_id=cell_id,
            provider=provider,
            certificate_pem=credentials.certify(csr_pem, CELL, cell_id, now, provider=provider, life_s=CELL_LIFE_S),
            api_token=credentials.mint_token(CELL, cell_id, key_sha256, CELL_RIGHTS, now, life_s=CELL_LIFE_S),
            ca_pem=credentials.ca_pem,
            valid_until=now + CELL_LIFE_S,
        )


def _key_of(csr_pem: str, cell_id: str) -> str:
    """The fingerprint of the key that the request proves to have, if it says to be for this cell."""
    key, name = trust.csr_key(csr_pem), trust.csr_name(csr_pem)
    if name != cell_id:
        what = f"the certificate request is for {name[:80]!r}, the bootstrap token for cell {cell_id}"
        raise GrafosError("enrolment_refused", what, next=f"make the request for {cell_id}")
    return trust.key_sha256(key)


def _renewal(caller: Caller, client: str) -> Witnessed:
    return Witnessed(
        AuditKind.CREDENTIALS_RENEWED,
        caller.text,
        caller.name,
        tenant=caller.name if caller.kind == TENANT else "",
        cell_id=caller.name if caller.kind == CELL else "",
        details=(("from", client), ("key_sha256", caller.key_sha256)),
    )
