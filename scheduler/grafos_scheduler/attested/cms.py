"""A signed message (PKCS #7, RFC 5652) with its content in it: what was signed, and whether a key signed it.

``cryptography`` makes such messages and reads the certificates in them; it does not verify them. What is taken here is
what AWS and Azure send, and no more: one signer, SHA-256, RSA with PKCS #1 v1.5 of 2,048 bits at least.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from grafos_scheduler.attested import ber
from grafos_scheduler.attested.ber import Node

KEY_BITS_MIN = 2048

_SIGNED_DATA = bytes.fromhex("2a864886f70d010702")
_DATA = bytes.fromhex("2a864886f70d010701")
_CONTENT_TYPE = bytes.fromhex("2a864886f70d010903")
_MESSAGE_DIGEST = bytes.fromhex("2a864886f70d010904")
_SHA256 = bytes.fromhex("608648016503040201")
_RSA = (bytes.fromhex("2a864886f70d010101"), bytes.fromhex("2a864886f70d01010b"))
_EXPLICIT_0 = _CERTIFICATES = _ATTRIBUTES = 0xA0


@dataclass(frozen=True)
class SignedMessage:
    """``content`` counts only after ``check_signed``. ``issuer`` (DER) and ``serial`` name the signer's certificate;
    ``certificates`` (DER) is what came along, believed by nobody yet."""

    content: bytes
    certificates: tuple[bytes, ...]
    issuer: bytes
    serial: int
    covered: bytes
    signature: bytes


def read(data: bytes) -> SignedMessage:
    """The message, or ``ValueError`` when it is not one of these."""
    outer = ber.read(data).expect(ber.SEQUENCE)
    _expect_oid(outer, 0, _SIGNED_DATA)
    signed = outer.child(1, _EXPLICIT_0).child(0, ber.SEQUENCE)
    held = signed.child(2, ber.SEQUENCE)
    _expect_oid(held, 0, _DATA)
    content = held.child(1, _EXPLICIT_0).child(0, ber.OCTETS).content
    certificates = [node for node in signed.inside[3:-1] if node.tag == _CERTIFICATES]
    signers = signed.child(len(signed.inside) - 1, ber.SET).inside
    if len(signers) != 1:
        raise ValueError(f"{len(signers)} signers where there is one")
    issuer, serial, covered, signature = _signer(signers[0].expect(ber.SEQUENCE), content)
    return SignedMessage(
        content=content,
        certificates=tuple(each.der for node in certificates for each in node.inside),
        issuer=issuer,
        serial=serial,
        covered=covered,
        signature=signature,
    )


def check_signed(message: SignedMessage, key: object) -> None:
    """``ValueError`` unless this key signed the message."""
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < KEY_BITS_MIN:
        raise ValueError(f"the signer's key is not RSA of {KEY_BITS_MIN} bits or more")
    try:
        key.verify(message.signature, message.covered, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature as error:
        raise ValueError("the signature does not hold") from error


def _signer(signer: Node, content: bytes) -> tuple[bytes, int, bytes, bytes]:
    """Who signed, the bytes that are covered by the signature, and the signature."""
    name = signer.child(1, ber.SEQUENCE)
    issuer = name.child(0, ber.SEQUENCE).der
    serial = int.from_bytes(name.child(1, ber.INTEGER).content, signed=True)
    _expect_oid(signer.child(2, ber.SEQUENCE), 0, _SHA256)
    at, covered = 3, content
    if len(signer.inside) > at and signer.inside[at].tag == _ATTRIBUTES:
        attributes = signer.inside[at]
        _check_attributes(attributes, content)
        at, covered = at + 1, attributes.as_tag(ber.SET).der
    algorithm = signer.child(at, ber.SEQUENCE).child(0, ber.OID).content
    if algorithm not in _RSA:
        raise ValueError("signed with something else than RSA and SHA-256")
    return issuer, serial, covered, signer.child(at + 1, ber.OCTETS).content


def _check_attributes(attributes: Node, content: bytes) -> None:
    """What is signed in the content's place must name the content's kind and hash, each once."""
    told: dict[bytes, list[Node]] = {}
    for attribute in attributes.inside:
        values = attribute.expect(ber.SEQUENCE).child(1, ber.SET).inside
        told.setdefault(attribute.child(0, ber.OID).content, []).extend(values)
    kinds, digests = told.get(_CONTENT_TYPE, []), told.get(_MESSAGE_DIGEST, [])
    if [node.expect(ber.OID).content for node in kinds] != [_DATA]:
        raise ValueError("the signed attributes do not name the kind of the content")
    if len(digests) != 1:
        raise ValueError("the signed attributes do not hold one hash of the content")
    if not hmac.compare_digest(digests[0].expect(ber.OCTETS).content, sha256(content).digest()):
        raise ValueError("the content is not what was signed")


def _expect_oid(node: Node, index: int, wanted: bytes) -> None:
    if node.child(index, ber.OID).content != wanted:
        raise ValueError("not a signed message of the expected kind")
