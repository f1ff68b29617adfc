"""What a cloud's word is held against: certificates or keys that are data, dated and with their source.

Nothing here is ever fetched. What is shipped lies in ``roots/<provider>.json``; what an operator sets takes its place.
"""

from __future__ import annotations

from importlib import resources

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from grafos_core.errors import GrafosError

PROVIDERS = ("aws", "azure", "gcp")
COUNT_MAX = 200
"""AWS has some forty regions, Google a handful of keys, Azure a few roots and some dozen intermediates."""
PEM_CHARACTERS_MAX = 16384


class Roots(msgspec.Struct, frozen=True):
    """``pems`` by name: a region (AWS), a key id (GCP), any (Azure). ``dated`` (YYYY-MM-DD) is when they were taken
    from ``source``. ``why_empty`` says why there are none."""

    provider: str
    source: str
    dated: str
    pems: dict[str, str]
    why_empty: str = ""

    @property
    def next_step(self) -> str:
        """What an operator does about roots that are missing or old."""
        return f"set them with PUT /api/v1/admin/attestation-roots/{self.provider}, from {self.source}"


def shipped(provider: str) -> Roots:
    """What this version knows of a cloud; ``not_found`` for one whose machines have no such identity."""
    if provider not in PROVIDERS:
        raise GrafosError(
            "not_found",
            f"machines of {provider[:40]!r} have no signed identity that is known here",
            next=f"one of {', '.join(PROVIDERS)} has; else enrol with a bootstrap token",
        )
    text = resources.files("grafos_scheduler.attested").joinpath("roots", f"{provider}.json").read_bytes()
    return msgspec.json.decode(text, type=Roots)


def check(provider: str, pems: dict[str, str]) -> None:
    """``request_invalid`` unless each is a certificate, or for Google a key, that can be read."""
    shipped(provider)
    if not pems or len(pems) > COUNT_MAX:
        raise GrafosError("request_invalid", f"there must be 1 to {COUNT_MAX} roots, not {len(pems)}")
    for name, pem in pems.items():
        try:
            if provider == "gcp" and "CERTIFICATE" not in pem:
                serialization.load_pem_public_key(pem.encode())
            else:
                x509.load_pem_x509_certificate(pem.encode())
        except ValueError as error:
            what = f"the root {name[:64]!r} cannot be read"
            raise GrafosError("request_invalid", what, why=str(error)[:200], next="give each as PEM text") from error
