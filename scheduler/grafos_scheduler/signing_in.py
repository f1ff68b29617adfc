"""How a person comes to an orchestrator and shows her signing key; deciding is in ``people``.

The same desk as for machines (``enrolling``): a token for one use, a certificate for the key that used it, and whoever
was turned away is told to the logs.
"""

from __future__ import annotations

import logging

import msgspec

from grafos_core import invitations, signed_claims, trust
from grafos_core.audit_chain import AuditKind
from grafos_core.errors import GrafosError
from grafos_core.invitations import InvitationClaims
from grafos_core.receipts import Signed, SigningKeyProof, open_signed
from grafos_scheduler import rows
from grafos_scheduler.account_messages import (
    AccountGrant,
    Challenge,
    InvitationAsked,
    InvitationGrant,
    SignIn,
)
from grafos_scheduler.authorize import TENANT, TENANT_RIGHTS, Caller
from grafos_scheduler.challenges import Challenges
from grafos_scheduler.credentials import LEAF_LIFE_S, Credentials
from grafos_scheduler.people import text_of
from grafos_scheduler.refusing import Refusals, Told
from grafos_scheduler.settings import Settings
from grafos_scheduler.shell import Shell
from grafos_scheduler.tenant_events import PersonInvited, SignInAsked, SigningKeyRegistered

CHALLENGE_S = 300.0
"""A person's program answers at once."""
UNPROVED = "signing_key_refused"
VERIFY = "grafos account verify"
PROOF_BYTES_MAX = 4096
"""A proof has about a thousand bytes; it is kept with the account."""

log = logging.getLogger("grafos.security")


class AccountDesk:
    """Invites people, lets them in, and takes their signing keys."""

    def __init__(self, shell: Shell, credentials: Credentials, settings: Settings) -> None:
        self._shell = shell
        self._credentials = credentials
        self._settings = settings
        self._issuer = signed_claims.issuer(settings.fabric, settings.scheduler_id)
        self._challenges = Challenges(shell.clock, shell.chance, CHALLENGE_S, UNPROVED, VERIFY)
        self._refusals = Refusals(shell, AuditKind.SIGN_IN_REFUSED, "sign-in", "invitation_refused")

    async def invite(self, asked: InvitationAsked, operator: Caller, client: str) -> InvitationGrant:
        """A token for one person; its row is durable before anybody has it."""
        event = PersonInvited(asked.tenant, asked.name, asked.valid_s, operator.name)
        made = await self._shell.handle(event, by=operator.text)
        assert isinstance(made, rows.Invitation)
        whom = text_of(made.tenant, made.name)
        log.info("operator %s at %s invited %s (token %s)", operator.name, client, whom, made.token_id)
        claims = InvitationClaims(
            self._issuer, made.token_id, made.tenant, made.name, iat=made.made_at, exp=made.valid_until
        )
        token = signed_claims.mint(self._credentials.account_key, claims)
        return InvitationGrant(token, made.made_at, made.valid_until, self._credentials.ca_pem)

    async def sign_in(self, asked: SignIn, client: str) -> AccountGrant:
        """Credentials for the key of the request, or the refusal, which is a security event."""
        self._refusals.check(client)
        told = Told("an unreadable invitation")
        try:
            claims = self._opened(asked.token)
            told = Told(f"the invitation {claims.jti} of {claims.sub}", claims.sub, tenant=claims.tenant)
            key_sha256 = trust.key_sha256(trust.csr_key(asked.csr_pem))
            person = await self._shell.handle(SignInAsked(claims.jti, key_sha256), by=f"{TENANT}/{claims.tenant}")
        except GrafosError as error:
            await self._refusals.note(error, client, told)
            raise
        assert isinstance(person, rows.Person)
        whom = text_of(person.tenant, person.name)
        log.warning("%s signed in from %s with key %s", whom, client, key_sha256[:16])
        now, credentials = self._shell.clock.now(), self._credentials
        return AccountGrant(
            fabric=self._settings.fabric,
            scheduler=self._settings.scheduler_id,
            tenant=person.tenant,
            name=person.name,
            certificate_pem=credentials.certify(asked.csr_pem, TENANT, person.tenant, now),
            api_token=credentials.mint_token(TENANT, person.tenant, key_sha256, TENANT_RIGHTS, now),
            valid_until=now + LEAF_LIFE_S,
        )

    def challenge(self, caller: Caller) -> Challenge:
        """What the caller is to sign with the key that it registers."""
        return Challenge(self._challenges.give(caller.key_sha256), self._shell.clock.now() + CHALLENGE_S)

    async def register(self, signed: Signed, caller: Caller, client: str) -> rows.Person:
        """The caller's signing key from now on, once it is proved: ``signing_key_refused``."""
        proof = self._proved(signed, caller)
        event = SigningKeyRegistered(caller.name, caller.key_sha256, proof.signing_key_pem, signed)
        person = await self._shell.handle(event, by=caller.text)
        assert isinstance(person, rows.Person)
        log.warning("%s at %s registered a signing key", text_of(person.tenant, person.name), client)
        return person

    def _opened(self, token: str) -> InvitationClaims:
        now, key = self._shell.clock.now(), self._credentials.account_key
        return signed_claims.check(key, token, InvitationClaims, invitations.INVITATION, self._issuer, now)

    def _proved(self, signed: Signed, caller: Caller) -> SigningKeyProof:
        """What the proof says, if the key that it names signed it, for this caller and for a challenge of ours."""
        if len(signed.body) > PROOF_BYTES_MAX or signed.certificate_pem:
            raise _unproved("the proof is too long to be one, or bears a certificate")
        try:
            said = msgspec.json.decode(signed.body, type=SigningKeyProof)
            signing_key = trust.public_key_from_pem(said.signing_key_pem)
            open_signed(signed, SigningKeyProof, signing_key)
        except (GrafosError, ValueError) as error:
            raise _unproved("the proof is not signed by the key that it is for", str(error)) from error
        if trust.public_key_to_pem(signing_key) != said.signing_key_pem:
            raise _unproved("the signing key is not in the form that everybody writes it in")
        wanted = SigningKeyProof(
            self._settings.fabric,
            self._settings.scheduler_id,
            caller.name,
            caller.key_sha256,
            said.signing_key_pem,
            said.challenge,
        )
        if said != wanted:
            raise _unproved("the proof is for another account")
        self._challenges.check(said.challenge, caller.key_sha256)
        return said


def _unproved(what: str, why: str = "") -> GrafosError:
    return GrafosError(UNPROVED, what, why=why, next=VERIFY)
