"""Signed envelopes that others read too: DSSE, in which software's provenance travels (in-toto, SLSA).

    https://github.com/secure-systems-lab/dsse/blob/master/protocol.md

What is signed is the payload with its type, each with its length before it (the *pre-authentication encoding*), so that
no payload can be passed off as one of another type, and nobody has to write JSON twice the same way. DSSE leaves the
kind of key open: it is ours everywhere, ECDSA P-256 over SHA-256.
"""

from __future__ import annotations

import msgspec

from grafos_core import trust
from grafos_core.errors import GrafosError


class Signature(msgspec.Struct, frozen=True):
    """``keyid`` helps to find the key, and proves nothing: here the SHA-256 of the public key."""

    sig: bytes
    keyid: str = ""


class Envelope(msgspec.Struct, frozen=True, rename="camel"):
    """As it is written: bytes are base64 in JSON."""

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...]


def encode(payload_type: str, payload: bytes) -> bytes:
    """What is signed of a payload."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def seal(payload_type: str, payload: bytes, key: trust.PrivateKey) -> bytes:
    """The envelope as one line of JSON, with the signature of ``key``."""
    signature = Signature(trust.sign(key, encode(payload_type, payload)), trust.key_sha256(key.public_key()))
    return msgspec.json.encode(Envelope(payload_type, payload, (signature,))) + b"\n"


def unseal(data: bytes, payload_type: str, key: trust.PublicKey, where: str = "") -> bytes:
    """The payload of an envelope that ``key`` signed as one of this type.

    ``provenance_invalid`` for what is no such envelope or was changed since, ``fabric_mismatch`` where it says itself
    that only others signed it.
    """
    try:
        envelope = msgspec.json.decode(data, type=Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid(where, f"it is no signed envelope: {error}") from error
    if envelope.payload_type != payload_type:
        raise invalid(where, f"it holds {envelope.payload_type[:80]!r}, and not {payload_type!r}")
    signed, ours = encode(payload_type, envelope.payload), trust.key_sha256(key)
    if any(trust.signature_holds(key, signed, each.sig) for each in envelope.signatures):
        return envelope.payload
    others = [each.keyid for each in envelope.signatures if each.keyid and each.keyid != ours]
    if others and len(others) == len(envelope.signatures):
        raise GrafosError(
            "fabric_mismatch",
            "this was signed with the key of another fabric",
            where=where,
            why=f"it bears the key {others[0][:16]!r}, and the fabric's is {ours[:16]!r}",
            next="ask whoever baked it, or bake it yourself: grafos cloud image bake",
        )
    raise invalid(where, "the signature does not hold: it was changed since it was signed")


def invalid(where: str, why: str) -> GrafosError:
    return GrafosError(
        "provenance_invalid",
        "what says where the image comes from cannot be believed",
        where=where,
        why=why,
        next="do not use the image; bake it anew: grafos cloud image bake",
    )
