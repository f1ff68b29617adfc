"""Takes possession of a scheduler that nobody has claimed yet; ``claim`` is the scheduler's side."""

from __future__ import annotations

import hmac
import ssl
import time
from typing import NamedTuple

import msgspec

from grafos_core import trust
from grafos_core.errors import GrafosError
from grafos_scheduler import messages
from grafos_scheduler.regaining_messages import RegainGrant
from grafos_scheduler.wire import TIMEOUT_S, Wire, check_silence, decode

ANEW = "tear it down and make a new one in its place; nothing was entrusted to it"


def claim(
    url: str,
    secret: bytes,
    *,
    fabric: str,
    fabric_key_pem: str,
    operator: str,
    csr_pem: str,
    cell_id: str,
    timeout_s: float = TIMEOUT_S,
) -> messages.ClaimGrant:
    """Takes possession of the scheduler at ``url``, and gives what it granted, once it has proved itself.

    Nothing that the other side says is trusted before its MAC shows that it knows the secret and sees the same
    certificate, request and fabric key as we do. Keep the request and repeat the claim with it when the answer was
    lost. ``claim_refused`` from either side; ``scheduler_unreachable`` while it is not up.
    """
    asked = _ClaimTry(url, secret, fabric, fabric_key_pem, operator, csr_pem, timeout_s)
    try:
        server_der, grant = asked.ask_twice()
    except GrafosError as error:
        if error.code == "certificate_refused":
            raise _not_ours("it lets nobody in without a certificate: it was claimed before") from error
        raise
    if not hmac.compare_digest(trust.claim_mac(secret, "cell", server_der, csr_pem, fabric_key_pem), grant.mac):
        raise _not_ours("whoever answers there does not know the secret")
    check_grant(grant, server_der, csr_pem, fabric, operator, cell_id, ANEW)
    return grant


class _ClaimTry(NamedTuple):
    """The operator's half of a claim, to be sent over a connection whose certificate it is bound to."""

    url: str
    secret: bytes
    fabric: str
    fabric_key_pem: str
    operator: str
    csr_pem: str
    timeout_s: float

    def ask_twice(self) -> tuple[bytes, messages.ClaimGrant]:
        """The certificate that the other side showed, and what it granted over that very connection."""
        try:
            return self._ask()
        except GrafosError as first:
            if first.code != "scheduler_unreachable":
                raise
            try:
                return self._ask()
            except GrafosError as second:
                check_silence(first, second)
                raise

    def _ask(self) -> tuple[bytes, messages.ClaimGrant]:
        with Wire(self.url, trust.unverified_context(), self.timeout_s, follows=False) as wire:
            server_der = wire.server_certificate()
            mac = trust.claim_mac(self.secret, "operator", server_der, self.csr_pem, self.fabric_key_pem)
            asked = messages.ClaimRequest(self.fabric, self.operator, self.csr_pem, self.fabric_key_pem, mac)
            data = wire.exchange("POST", "/api/v1/claim", msgspec.json.encode(asked), {})
            return server_der, decode(data, messages.ClaimGrant)


def check_grant(
    grant: messages.ClaimGrant | RegainGrant,
    server_der: bytes,
    csr_pem: str,
    fabric: str,
    operator: str,
    cell_id: str,
    next: str,
) -> None:
    """What was granted is for us, and from the CA that also signed the server's certificate; else ``claim_refused``
    with ``next``."""
    now = time.time()
    try:
        server = trust.check_issued_by(ssl.DER_cert_to_PEM_cert(server_der), grant.ca_pem, at=now)
        ours = trust.check_issued_by(grant.certificate_pem, grant.ca_pem, at=now)
    except GrafosError as error:
        raise _not_ours("what was granted there does not hold together", next, error.what) from error
    is_ours = (ours.fabric, ours.kind, ours.name) == (fabric, "operator", operator)
    is_bound = ours.key_sha256 == trust.key_sha256(trust.csr_key(csr_pem))
    is_the_cell = (server.fabric, server.kind, grant.cell_id) == (fabric, "scheduler", cell_id)
    if not (is_ours and is_bound and is_the_cell):
        raise _not_ours(f"the credentials granted there are for somebody else, or not of {cell_id}", next)


def _not_ours(what: str, next: str = ANEW, why: str = "") -> GrafosError:
    return GrafosError("claim_refused", what, why=why, next=next)
