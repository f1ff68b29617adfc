"""With what the emulated clouds sign for their machines: keys and certificates of one emulator's life.

They are made when a cloud is loaded, and shown in ``identity-roots/<cloud>.json`` of the emulator's state directory, by
name: what a verifier is to be given, and nobody else's. Each signs in the form of its cloud. All emulators of one
process sign with the same keys, since making one takes as long as all else of a start.
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from grafos_core.clock import Clock
from grafos_core.paths import private_folder, write_private

FOLDER = "identity-roots"
RSA_BITS = 2048
TOKEN_LIFE_S = 3600  # Google's
DOCUMENT_LIFE = timedelta(hours=6)  # Azure's
DAY_S = 86_400
AZURE_SIGNER = "metadata.azure.com"
_BEFORE, _LIFE = timedelta(days=1), timedelta(days=3650)

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def show(state_dir: Path, cloud: str, roots: Mapping[str, str]) -> None:
    """Writes the roots where the emulator's owner finds them."""
    path = private_folder(state_dir / FOLDER) / f"{cloud}.json"
    write_private(path, json.dumps(roots, indent=1, sort_keys=True).encode())


@functools.cache
def key_of_this_process(cloud: str) -> rsa.RSAPrivateKey:  # noqa: ARG001  each cloud has its own
    """The key of all emulated clouds of this kind in this process."""
    return _rsa()


class AwsSigner:
    """One key with a certificate for each region; on AWS each region has a key of its own."""

    def __init__(self, regions: Iterable[str], now: float, key: rsa.RSAPrivateKey | None = None) -> None:
        self._key = key or _rsa()
        self._certificates = _of_each_region(self._key, tuple(regions), now - now % DAY_S)

    @property
    def roots(self) -> dict[str, str]:
        return {region: _pem(certificate) for region, certificate in self._certificates.items()}

    def rsa2048(self, document: bytes, region: str) -> str:
        """PKCS #7 with the document in it, as base64 in lines."""
        return _lines(_signed(document, self._key, self._certificates[region], ()))

    def signature(self, document: bytes) -> str:
        """Of the document by itself, as base64 in lines."""
        return _lines(self._key.sign(document, padding.PKCS1v15(), hashes.SHA256()))


class GcpSigner:
    """One key under one key id; Google has several at a time, and changes them."""

    def __init__(self, clock: Clock, key: rsa.RSAPrivateKey | None = None) -> None:
        self._clock = clock
        self._key = key or _rsa()
        self._certificate = _own(self._key, "Emulated Google", clock.now())
        self._key_id = self._certificate.fingerprint(hashes.SHA256()).hex()[:40]

    @property
    def roots(self) -> dict[str, str]:
        return {self._key_id: _pem(self._certificate)}

    def token(self, audience: str, subject: str, more: Mapping[str, Any]) -> str:
        """An identity token for an hour; ``more`` is what the format adds."""
        now = int(self._clock.now())
        claims = {
            "iss": "https://accounts.google.com",
            "aud": audience,
            "azp": subject,
            "sub": subject,
            "iat": now,
            "exp": now + TOKEN_LIFE_S,
            **more,
        }
        return jwt.encode(claims, self._key, algorithm="RS256", headers={"kid": self._key_id})


class AzureSigner:
    """A root, a certificate authority below it, and the metadata service's own certificate."""

    def __init__(self, clock: Clock, key: rsa.RSAPrivateKey | None = None) -> None:
        self._clock = clock
        now = clock.now()
        root_key, between_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        self._root = _own(root_key, "Emulated Azure root", now, depth=1)
        self._between = _issued(between_key, "Emulated Azure CA", (root_key, self._root), now, depth=0)
        self._key = key or _rsa()
        self._leaf = _issued(self._key, AZURE_SIGNER, (between_key, self._between), now)

    @property
    def roots(self) -> dict[str, str]:
        return {"emulated-root": _pem(self._root)}

    def signature(self, document: Mapping[str, Any]) -> str:
        """PKCS #7 with the document and the chain in it, as base64."""
        content = json.dumps(document).encode()
        return base64.b64encode(_signed(content, self._key, self._leaf, (self._between,))).decode()

    def times(self) -> dict[str, str]:
        """``timeStamp`` of a document that is made now."""
        now = datetime.fromtimestamp(self._clock.now(), UTC)
        return {"createdOn": _azure_time(now), "expiresOn": _azure_time(now + DOCUMENT_LIFE)}


@functools.lru_cache(maxsize=4)
def _of_each_region(key: rsa.RSAPrivateKey, regions: tuple[str, ...], now: float) -> dict[str, x509.Certificate]:
    return {region: _own(key, f"Emulated AWS {region}", now) for region in regions}


def _azure_time(at: datetime) -> str:
    return at.strftime("%m/%d/%y %H:%M:%S -0000")


def _signed(content: bytes, key: rsa.RSAPrivateKey, leaf: x509.Certificate, more: Iterable[x509.Certificate]) -> bytes:
    builder = pkcs7.PKCS7SignatureBuilder().set_data(content).add_signer(leaf, key, hashes.SHA256())
    for certificate in more:
        builder = builder.add_certificate(certificate)
    return builder.sign(serialization.Encoding.DER, [pkcs7.PKCS7Options.Binary])


def _rsa() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)


def _own(key: Key, name: str, now: float, depth: int | None = None) -> x509.Certificate:
    """A certificate that its own key signed."""
    return _builder(key, name, _named(name), key.public_key(), now, depth).sign(key, hashes.SHA256())


def _issued(
    key: Key, name: str, issuer: tuple[Key, x509.Certificate], now: float, depth: int | None = None
) -> x509.Certificate:
    """A certificate of another's: an authority's with ``depth``, else the service's."""
    issuer_key, issuer_certificate = issuer
    builder = _builder(key, name, issuer_certificate.subject, issuer_key.public_key(), now, depth)
    if depth is None:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        builder = builder.add_extension(usage, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _builder(
    key: Key, name: str, issuer: x509.Name, issuer_key: Any, now: float, depth: int | None
) -> x509.CertificateBuilder:
    begins_at, is_authority = datetime.fromtimestamp(now, UTC) - _BEFORE, depth is not None
    public_key = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins_at)
        .not_valid_after(begins_at + _LIFE)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=depth), critical=True)
        .add_extension(_key_usage(is_authority=is_authority), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def _key_usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _lines(data: bytes) -> str:
    text = base64.b64encode(data).decode()
    return "\n".join(text[at : at + 64] for at in range(0, len(text), 64))
