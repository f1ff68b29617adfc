"""The identity token of a Compute Engine machine: a JWT (RS256) for an audience of the machine's choice.

A machine that has a service account reads it at ``instance/service-accounts/default/identity?audience=…&format=full``.
It lasts an hour. Google signs it with keys that change every few days and are published by their key ids; so a root
here is named after its key id. Source: "Verify VM identity" in Compute Engine's documentation.
"""

from __future__ import annotations

from typing import Any

import jwt
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from grafos_scheduler.attested.cms import KEY_BITS_MIN
from grafos_scheduler.attested.contract import Attested, Enrolling, check_time, refused
from grafos_scheduler.attested.roots import Roots

ISSUER = "https://accounts.google.com"
LIFE_S_MAX = 3600.0
_ALGORITHM = "RS256"


class _Machine(msgspec.Struct, frozen=True):
    """``google.compute_engine``, which ``format=full`` adds."""

    project_id: str
    zone: str
    instance_id: str
    instance_creation_timestamp: float


class _Google(msgspec.Struct, frozen=True):
    compute_engine: _Machine


class _Claims(msgspec.Struct, frozen=True):
    iat: float
    exp: float
    google: _Google


def check(evidence: str, roots: Roots, enrolling: Enrolling, now: float) -> Attested:
    """What the token says, if Google signed it for this enrolment and it holds now."""
    key = _key_of(evidence, roots)
    try:
        said = jwt.decode(
            evidence.strip(),
            key,
            algorithms=[_ALGORITHM],
            audience=enrolling.binding("gcp"),
            issuer=ISSUER,
            # Times would be held against the machine's clock; here the time is an argument.
            options={"verify_exp": False, "verify_iat": False, "verify_nbf": False},
        )
        claims = msgspec.convert(said, _Claims)
    except jwt.InvalidAudienceError as error:
        raise refused("the identity token is for another enrolment or key") from error
    except jwt.InvalidSignatureError as error:
        raise refused("the identity token is not signed by Google") from error
    except (jwt.InvalidTokenError, msgspec.ValidationError, UnicodeError, RecursionError) as error:
        raise refused("that is no identity token of a machine, in full format", why=_short(error)) from error
    check_time(claims.iat, min(claims.exp, claims.iat + LIFE_S_MAX), now, "the identity token")
    machine = claims.google.compute_engine
    region = machine.zone.rpartition("-")[0]
    made_at = machine.instance_creation_timestamp
    return Attested("gcp", machine.project_id, machine.instance_id, region, machine.zone, made_at)


def _key_of(evidence: str, roots: Roots) -> rsa.RSAPublicKey:
    try:
        header: dict[str, Any] = jwt.get_unverified_header(evidence.strip())
    except (jwt.InvalidTokenError, UnicodeError, RecursionError) as error:
        raise refused("that is no identity token", why=_short(error)) from error
    name = str(header.get("kid", ""))
    pem = roots.pems.get(name)
    if pem is None:
        raise refused(f"Google's key {name[:64]!r} is not known here; they change every few days", next=roots.next_step)
    key = key_in(pem)
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < KEY_BITS_MIN:
        raise refused(f"Google's key {name[:64]!r} is not RSA of {KEY_BITS_MIN} bits or more", next=roots.next_step)
    return key


def key_in(pem: str) -> object:
    """The key of a certificate, or a key by itself; Google publishes either."""
    if "CERTIFICATE" in pem:
        return x509.load_pem_x509_certificate(pem.encode()).public_key()
    return serialization.load_pem_public_key(pem.encode())


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}"
