"""How an operator takes possession of a scheduler, a standalone cell's or an orchestrator, seen from there.

It was born with a one-time secret that its operator also knows. Each side proves that it knows it, by a MAC over the
certificate that the server showed, the operator's certificate request and the fabric's public key; the secret itself
never travels. The answer may be lost, so the same request may be repeated with the same outcome, until the operator's
first authenticated call shows that it arrived. That call closes the claim: the secret's file is removed, and from then
on the port of a cell demands a client certificate of everybody.

    unclaimed --claim--> claimed --first call of the operator--> closed
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from pathlib import Path

import msgspec

from grafos_core import trust
from grafos_core.audit_chain import AuditKind
from grafos_core.changes import Change
from grafos_core.errors import GrafosError
from grafos_core.fabric import fabric_id
from grafos_core.receipts import Signed
from grafos_scheduler.authorize import OPERATOR_RIGHTS
from grafos_scheduler.credentials import Credentials
from grafos_scheduler.events import ClaimAccepted, OperatorReplaced
from grafos_scheduler.messages import ClaimGrant, ClaimRequest
from grafos_scheduler.refusing import Refusals, Told
from grafos_scheduler.settings import CELL, ORCHESTRATOR, Settings
from grafos_scheduler.shell import Shell

POSSESSION = "possession"
"""The kind of this module's only row, and its key."""
SECRET_BYTES_MIN = 16
IF_NOT_YOU = {
    CELL: "if it was not you who claimed it, tear the cell down",
    ORCHESTRATOR: "if it was not you who claimed it, end it and start an orchestrator with a fresh state and secret",
}
log = logging.getLogger("grafos.security")


class Possession(msgspec.Struct, frozen=True):
    """``fabric_key_pem`` verifies the budget slices of the fabric that claimed; ``closed`` ends the claim for good.
    ``voucher`` is what the fabric signed of this scheduler, for its other homes; None until it was handed in."""

    fabric_key_pem: str
    csr_pem: str
    closed: bool = False
    voucher: Signed | None = None


KINDS: dict[str, type[msgspec.Struct]] = {POSSESSION: Possession}


class ClaimDesk:
    """Answers claims until the claim is closed. ``possession`` is what the store held, None before."""

    def __init__(
        self, shell: Shell, credentials: Credentials, settings: Settings, possession: Possession | None
    ) -> None:
        self._shell = shell
        self._credentials = credentials
        self._settings = settings
        self._possession = possession
        self._refusals = Refusals(shell, AuditKind.CLAIM_REFUSED, "claim", "claim_refused")
        self._turn = asyncio.Lock()
        if self.is_closed:
            # A crash may have come between closing the claim and removing the file.
            forget_secret(settings.claim_secret_file)

    @property
    def is_claimed(self) -> bool:
        return self._possession is not None

    @property
    def is_closed(self) -> bool:
        return self._possession is not None and self._possession.closed

    @property
    def voucher(self) -> Signed | None:
        """What the fabric that claimed this scheduler signed of it, for its other homes."""
        return self._possession.voucher if self._possession is not None else None

    @property
    def fabric_key(self) -> trust.PublicKey:
        """The key of the fabric that claimed this scheduler, or ``claim_refused`` when nobody has yet."""
        if self._possession is None:
            raise GrafosError(
                "claim_refused", f"nobody has claimed this {self._settings.mode} yet", next="claim it first"
            )
        return trust.public_key_from_pem(self._possession.fabric_key_pem)

    async def claim(self, request: ClaimRequest, client: str) -> ClaimGrant:
        """The operator's credentials and the scheduler's proof; ``claim_refused`` for anybody else."""
        self._refusals.check(client)
        try:
            # A claim that is repeated while the first call closes it must not open it again behind that call's back.
            async with self._turn:
                return await self._claim(request, client)
        except GrafosError as error:
            await self._refusals.note(error, client, Told("a proof by the one-time secret"))
            raise

    async def _claim(self, request: ClaimRequest, client: str) -> ClaimGrant:
        secret = self._check_proof(request)
        if self._possession is not None and self._possession.csr_pem != request.csr_pem:
            raise self._refused("the secret was used already, for another certificate request")
        key_sha256 = trust.key_sha256(trust.csr_key(request.csr_pem))
        possession = Possession(request.fabric_key_pem, request.csr_pem)
        event = ClaimAccepted(request.fabric, request.operator, key_sha256)
        await self._shell.handle(event, (Change(POSSESSION, POSSESSION, possession),))
        self._possession = possession
        log.warning("claimed by operator %s of fabric %s from %s", request.operator, request.fabric, client)
        return self._grant(request, secret, key_sha256)

    async def close(self) -> None:
        """Ends the claim for good; called at the operator's first authenticated call."""
        async with self._turn:
            if self._possession is None:
                # Its certificate is good, so the trust folder is the old one and the state is not.
                what = f"this {self._settings.mode}'s state knows of no claim"
                raise GrafosError("claim_refused", what, next="claim it again")
            closed = msgspec.structs.replace(self._possession, closed=True)
            await self._shell.put((Change(POSSESSION, POSSESSION, closed),))
            self._possession = closed
            forget_secret(self._settings.claim_secret_file)

    async def keep_voucher(self, voucher: Signed) -> None:
        """Keeps what the fabric signed of this scheduler."""
        async with self._turn:
            assert self._possession is not None, "verified with the key of the fabric that claimed"
            kept = msgspec.structs.replace(self._possession, voucher=voucher)
            if kept != self._possession:
                await self._shell.put((Change(POSSESSION, POSSESSION, kept),))
                self._possession = kept

    async def hand_over(self, event: OperatorReplaced, csr_pem: str) -> None:
        """Makes another key the operator's; the claim by the secret, if it was still open, is closed by it."""
        async with self._turn:
            assert self._possession is not None, "proved with the key of the fabric that claimed"
            kept = msgspec.structs.replace(self._possession, csr_pem=csr_pem, closed=True)
            await self._shell.handle(event, (Change(POSSESSION, POSSESSION, kept),))
            self._possession = kept
            forget_secret(self._settings.claim_secret_file)

    def _check_proof(self, request: ClaimRequest) -> bytes:
        """The secret, if the caller knows it too and speaks for this scheduler's fabric."""
        mode = self._settings.mode
        if self.is_closed:
            raise self._refused(f"this {mode} was claimed, and its secret is worthless now")
        secret = read_secret(self._settings.claim_secret_file, mode)
        wanted = trust.claim_mac(
            secret, "operator", self._credentials.server_der, request.csr_pem, request.fabric_key_pem
        )
        if not hmac.compare_digest(wanted, request.mac):
            raise self._refused(f"the proof is not made with this {mode}'s secret, certificate and request")
        try:
            named = fabric_id(trust.public_key_from_pem(request.fabric_key_pem))
        except ValueError as error:
            raise GrafosError("request_invalid", "the fabric's public key cannot be read") from error
        if not request.fabric == named == self._settings.fabric:
            raise self._refused(f"this {mode} belongs to fabric {self._settings.fabric}")
        return secret

    def _refused(self, what: str) -> GrafosError:
        return GrafosError("claim_refused", what, next=IF_NOT_YOU[self._settings.mode])

    def _grant(self, request: ClaimRequest, secret: bytes, key_sha256: str) -> ClaimGrant:
        now, credentials = self._shell.clock.now(), self._credentials
        return ClaimGrant(
            cell_id=self._settings.scheduler_id,
            ca_pem=credentials.ca_pem,
            certificate_pem=credentials.certify(request.csr_pem, "operator", request.operator, now),
            api_token=credentials.mint_token("operator", request.operator, key_sha256, OPERATOR_RIGHTS, now),
            mac=trust.claim_mac(secret, "cell", credentials.server_der, request.csr_pem, request.fabric_key_pem),
        )


def read_secret(path: Path | None, mode: str) -> bytes:
    """The one-time secret, hex in a file; ``claim_refused`` when the cell, or orchestrator, has none that can be
    used."""
    try:
        secret = bytes.fromhex(path.read_text().strip()) if path is not None else b""
    except (OSError, ValueError) as error:
        raise GrafosError(
            "claim_refused", f"this {mode} has no secret that can be read", why=type(error).__name__
        ) from error
    if len(secret) < SECRET_BYTES_MIN:
        raise GrafosError("claim_refused", f"this {mode} was started without a secret to claim it with")
    return secret


def forget_secret(path: Path | None) -> None:
    """Removes the secret's file; that it is gone already is what was wanted. One that stays opens nothing any more."""
    if path is not None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("the claim is closed, but %s cannot be removed: %s", path, error)
