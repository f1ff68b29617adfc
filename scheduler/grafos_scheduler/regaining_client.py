"""Gets a home of the fabric in again at a scheduler that the fabric claimed, by the fabric's key alone."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable

import msgspec

from grafos_core import trust
from grafos_core.errors import GrafosError
from grafos_core.receipts import RegainProof, SchedulerVoucher, Signed, open_signed
from grafos_scheduler.claiming_client import check_grant
from grafos_scheduler.client import SchedulerClient
from grafos_scheduler.regaining_messages import RegainChallenge, RegainGrant, RegainRequest
from grafos_scheduler.wire import FELL_SILENT, TIMEOUT_S, Wire, decode

NOTHING_ENTRUSTED = "check the address and this machine's clock; nothing was entrusted to whoever answers there"

Sign = Callable[[msgspec.Struct], Signed]


class OwnerClient(SchedulerClient):
    """The operator's way to a scheduler that another home of the fabric may have to get into one day."""

    def keep_voucher(self, voucher: Signed) -> Signed:
        """Hands in what the fabric signed of the scheduler, by which other homes of the fabric know it."""
        return self._call("PUT", "/api/v1/claim/voucher", Signed, voucher)


def regain(
    url: str,
    sign: Sign,
    *,
    fabric: str,
    fabric_key_pem: str,
    operator: str,
    csr_pem: str,
    scheduler: str,
    context: ssl.SSLContext | None = None,
    timeout_s: float = TIMEOUT_S,
) -> RegainGrant:
    """Makes the holder of the request's key the operator of the scheduler at ``url``; ``sign`` is by the fabric's
    key. The operator's key before is worth nothing from then on. ``context`` is for a standalone cell, which lets in
    nobody without a certificate (``trust.visitor_context``).

    May be repeated with the same request when the answer was lost. Nothing that the other side says is trusted before
    its voucher shows that the fabric's key signed its CA. ``claim_refused`` from either side.
    """
    with Wire(url, context or trust.unverified_context(), timeout_s, follows=False) as wire:
        given = _challenge(wire)
        server_der = wire.server_certificate()
        proof = RegainProof(
            fabric=fabric,
            scheduler=scheduler,
            operator=operator,
            server_sha256=hashlib.sha256(server_der).hexdigest(),
            csr_sha256=hashlib.sha256(csr_pem.encode()).hexdigest(),
            challenge=given.challenge,
        )
        data = msgspec.json.encode(RegainRequest(csr_pem, sign(proof)))
        grant = decode(wire.exchange("POST", "/api/v1/claim/regain", data, {}), RegainGrant)
    _check_voucher(grant, fabric, fabric_key_pem)
    check_grant(grant, server_der, csr_pem, fabric, operator, scheduler, NOTHING_ENTRUSTED)
    return grant


def voucher_of(sign: Sign, fabric: str, scheduler: str, ca_pem: str) -> Signed:
    """What the fabric hands in at a scheduler of its own, so that another home of it knows the scheduler."""
    return sign(SchedulerVoucher(fabric, scheduler, trust.certificate_sha256(ca_pem)))


def _challenge(wire: Wire) -> RegainChallenge:
    try:
        return decode(wire.exchange("POST", "/api/v1/claim/challenge", None, {}), RegainChallenge)
    except GrafosError as error:
        if error.context.get(FELL_SILENT):
            raise GrafosError(
                "claim_refused",
                "the scheduler closes the connection once it has seen that this fabric's key signed our certificate",
                where=error.where,
                why="it is of another fabric, or its software of before one could get in again by the fabric's key; or "
                "it ended just now",
                next="once more; if it stays so, what it ran cannot be had: grafos cloud teardown",
            ) from error
        if error.code != "not_found":
            raise
        raise GrafosError(
            "claim_refused",
            "the software there is of before one could get in again by the fabric's key",
            next="if its home is lost: grafos fabric bring-home --lost, then another orchestrator; a cell: grafos "
            "cloud teardown",
        ) from error


def _check_voucher(grant: RegainGrant, fabric: str, fabric_key_pem: str) -> None:
    wanted = SchedulerVoucher(fabric, grant.cell_id, trust.certificate_sha256(grant.ca_pem))
    try:
        said = open_signed(grant.voucher, SchedulerVoucher, trust.public_key_from_pem(fabric_key_pem))
    except GrafosError as error:
        what = "whoever answers there has nothing that this fabric's key signed"
        raise GrafosError("claim_refused", what, why=error.what, next=NOTHING_ENTRUSTED) from error
    if said != wanted:
        what = "whoever answers there shows what this fabric's key signed of another scheduler"
        raise GrafosError("claim_refused", what, next=NOTHING_ENTRUSTED)
