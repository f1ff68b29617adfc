"""The bodies of the routes by which a home of the fabric that claimed this scheduler gets in again."""

from __future__ import annotations

import msgspec

from grafos_core.receipts import Signed
from grafos_scheduler.messages import Name, Pem, Text


class RegainChallenge(msgspec.Struct, frozen=True):
    """``POST /api/v1/claim/challenge``: what the fabric's key is to sign, once, within ``valid_s``."""

    challenge: Text
    valid_s: float


class RegainRequest(msgspec.Struct, frozen=True):
    """``POST /api/v1/claim/regain``: a request for the new operator's key, and the signed ``RegainProof``."""

    csr_pem: Pem
    proof: Signed


class RegainGrant(msgspec.Struct, frozen=True):
    """The CA, to be pinned if ``voucher`` (a signed ``SchedulerVoucher``) holds for it; and what the operator shows
    from now on. ``cell_id`` is the scheduler's name."""

    cell_id: Name
    ca_pem: Pem
    certificate_pem: Pem
    api_token: Text
    voucher: Signed
