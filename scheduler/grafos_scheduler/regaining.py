"""How somebody who has nothing but the fabric's key becomes the operator of a scheduler that the fabric claimed.

    a challenge --signed by the fabric's key, over it, the server's certificate and the request--> the operator

The scheduler knows the fabric's public key since the claim. It proves itself in turn by the *voucher*: its CA, signed
by the fabric's key, which the operator hands in right after each claim. For what a challenge is, see ``challenges``.
"""

from __future__ import annotations

import hashlib
import logging

from grafos_core import trust
from grafos_core.audit_chain import AuditKind
from grafos_core.errors import GrafosError
from grafos_core.receipts import RegainProof, SchedulerVoucher, Signed, open_signed
from grafos_scheduler.authorize import OPERATOR, OPERATOR_RIGHTS
from grafos_scheduler.challenges import Challenges
from grafos_scheduler.claim import ClaimDesk
from grafos_scheduler.credentials import Credentials
from grafos_scheduler.events import OperatorReplaced
from grafos_scheduler.refusing import Refusals, Told
from grafos_scheduler.regaining_messages import RegainChallenge, RegainGrant, RegainRequest
from grafos_scheduler.settings import CELL, ORCHESTRATOR, Settings
from grafos_scheduler.shell import Shell

CHALLENGE_S = 60.0
"""A program answers at once."""
AGAIN = "run the same command again"
VOUCHER_NEXT = {
    ORCHESTRATOR: "from the home that has it: grafos fabric claim URL, once; if that home is lost: grafos fabric "
    "bring-home --lost, then another orchestrator",
    CELL: "use the home that made the cell; if that is lost: grafos cloud teardown",
}

log = logging.getLogger("grafos.security")


class RegainDesk:
    """Lets the holder of the fabric's key in again, and keeps what proves this scheduler to it."""

    def __init__(self, shell: Shell, credentials: Credentials, settings: Settings, desk: ClaimDesk) -> None:
        self._shell = shell
        self._credentials = credentials
        self._settings = settings
        self._desk = desk
        self._challenges = Challenges(shell.clock, shell.chance, CHALLENGE_S, "claim_refused", AGAIN)
        self._refusals = Refusals(shell, AuditKind.REGAIN_REFUSED, "regain", "claim_refused")

    def challenge(self) -> RegainChallenge:
        """What the fabric's key is to sign."""
        return RegainChallenge(self._challenges.give(), CHALLENGE_S)

    async def regain(self, asked: RegainRequest, client: str) -> RegainGrant:
        """The operator's credentials for the key of the request; ``claim_refused`` for anybody else."""
        self._refusals.check(client)
        try:
            proof = self._proved(asked)
            if self._desk.voucher is None:
                what = f"nothing is kept here by which this {self._settings.mode} could prove itself to another home"
                next_step = VOUCHER_NEXT[self._settings.mode]
                raise GrafosError("claim_refused", what, why="its home did not hand it in", next=next_step)
            key_sha256 = trust.key_sha256(trust.csr_key(asked.csr_pem))
            self._challenges.take(proof.challenge)
            await self._desk.hand_over(OperatorReplaced(proof.operator, key_sha256), asked.csr_pem)
        except GrafosError as error:
            await self._refusals.note(error, client, Told("a proof by the fabric's key"))
            raise
        log.warning("operator %s got in again from %s, with key %s", proof.operator, client, key_sha256[:16])
        now, credentials = self._shell.clock.now(), self._credentials
        return RegainGrant(
            cell_id=self._settings.scheduler_id,
            ca_pem=credentials.ca_pem,
            certificate_pem=credentials.certify(asked.csr_pem, OPERATOR, proof.operator, now),
            api_token=credentials.mint_token(OPERATOR, proof.operator, key_sha256, OPERATOR_RIGHTS, now),
            voucher=self._desk.voucher,
        )

    async def keep_voucher(self, signed: Signed) -> Signed:
        """Keeps what the fabric signed of this scheduler; ``request_invalid`` for what another signed, or of
        another."""
        ca_sha256 = trust.certificate_sha256(self._credentials.ca_pem)
        wanted = SchedulerVoucher(self._settings.fabric, self._settings.scheduler_id, ca_sha256)
        if open_signed(signed, SchedulerVoucher, self._desk.fabric_key) != wanted:
            raise GrafosError("request_invalid", "the voucher is for another scheduler, or another CA")
        await self._desk.keep_voucher(signed)
        return signed

    def _proved(self, asked: RegainRequest) -> RegainProof:
        """What the proof says, if the fabric's key signed it for this server, this request and a challenge of ours."""
        try:
            said = open_signed(asked.proof, RegainProof, self._desk.fabric_key)
        except GrafosError as error:
            if error.code == "claim_refused":
                raise
            what = f"the proof is not signed by the key of the fabric that claimed this {self._settings.mode}"
            next_step = "use the home, or the exported key, of the fabric that it belongs to"
            raise GrafosError("claim_refused", what, why=error.what, next=next_step) from error
        if said.server_sha256 != hashlib.sha256(self._credentials.server_der).hexdigest():
            raise GrafosError(
                "claim_refused",
                "the proof was made for the certificate of another server",
                why=f"somebody may stand between you and this {self._settings.mode}",
                next="ask by another network, and check the address",
            )
        if said.csr_sha256 != hashlib.sha256(asked.csr_pem.encode()).hexdigest():
            raise GrafosError("claim_refused", "the proof was made for another certificate request", next=AGAIN)
        if (said.fabric, said.scheduler) != (self._settings.fabric, self._settings.scheduler_id):
            raise GrafosError("claim_refused", "the proof was made for another scheduler", next=AGAIN)
        return said
