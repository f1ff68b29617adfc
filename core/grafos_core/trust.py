"""Keys, certificates and identities.

One kind of key: ECDSA P-256. A CA signs certificate requests and nothing else leaves it; a private key never leaves
the machine that made it. Who a certificate is for stands in one SPIFFE URI:

    spiffe://<fabric>/scheduler/<scheduler>      spiffe://<fabric>/tenant/<name>
    spiffe://<fabric>/cell/<provider>/<cell_id>  spiffe://<fabric>/operator/<name>
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import ipaddress
import ssl
import tempfile
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from grafos_core.errors import GrafosError

PrivateKey = ec.EllipticCurvePrivateKey
PublicKey = ec.EllipticCurvePublicKey

CLOCK_SKEW_S = 300
"""Certificates are valid this long before they were made, for machines whose clock is a little behind."""
CA_LIFE_S = 10 * 365 * 86400
"""A standalone cell's CA outlives its cell; receipts are verified against it when the cell is long gone."""

VISITOR_LIFE_S = 3600
"""Of what opens a handshake and no more; much longer than it takes, for machines whose clock is a little ahead."""

PEER_KINDS = ("scheduler", "cell", "tenant", "operator")


class Peer(msgspec.Struct, frozen=True):
    """Whom a certificate stands for. ``key_sha256`` is the fingerprint of its public key, ``not_after`` Unix time."""

    fabric: str
    kind: str
    name: str
    provider: str
    key_sha256: str
    not_after: float


def new_key() -> PrivateKey:
    """A fresh P-256 key from the operating system's chance."""
    return ec.generate_private_key(ec.SECP256R1())


def key_to_pem(key: PrivateKey) -> bytes:
    """Unencrypted PKCS #8; for files of mode 0600 only."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def key_from_pem(pem: bytes) -> PrivateKey:
    """The P-256 key, or ``ValueError``; also for one that is encrypted."""
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(str(error)) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("not a P-256 key")
    return key


def public_key_to_pem(key: PublicKey) -> str:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def public_key_from_pem(pem: str) -> PublicKey:
    """The P-256 public key, or ``ValueError``."""
    try:
        return _p256(serialization.load_pem_public_key(pem.encode()))
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from error


def key_sha256(key: PublicKey) -> str:
    """The SHA-256 of the key's SubjectPublicKeyInfo (DER), in hex."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


# --- names ------------------------------------------------------------------------------------------------------


def spiffe_id(fabric: str, kind: str, name: str, provider: str = "") -> str:
    """The URI of an identity; a cell's has its provider in it."""
    assert kind in PEER_KINDS
    return f"spiffe://{fabric}/{kind}/{provider}/{name}" if kind == "cell" else f"spiffe://{fabric}/{kind}/{name}"


def peer_of(certificate_der: bytes) -> Peer:
    """Whom a certificate (already verified against its CA) stands for, or ``certificate_refused``."""
    try:
        certificate = x509.load_der_x509_certificate(certificate_der)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        [uri] = names.get_values_for_type(x509.UniformResourceIdentifier)
        key = _p256(certificate.public_key())
        fabric, kind, *rest = uri.removeprefix("spiffe://").split("/")
        provider, name = rest if kind == "cell" else ("", *rest)
        if kind not in PEER_KINDS or not uri.startswith("spiffe://"):
            raise ValueError("not an identity of a fabric")
    except (ValueError, UnsupportedAlgorithm, x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise GrafosError("certificate_refused", "the certificate names no identity of a fabric") from error
    return Peer(fabric, kind, name, provider, key_sha256(key), certificate.not_valid_after_utc.timestamp())


# --- certificates -----------------------------------------------------------------------------------------------


def make_ca(key: PrivateKey, common_name: str, now: float, life_s: float = CA_LIFE_S, *, has_door: bool = False) -> str:
    """A self-signed CA certificate (PEM) that may sign leaves and no further CA; with ``has_door`` also one for
    visitors (``make_door``)."""
    name = _name(common_name)
    return _pem(_authority(name, name, key.public_key(), now, life_s, int(has_door)).sign(key, hashes.SHA256()))


def make_door(ca_pem: str, ca_key: PrivateKey, fabric: str, fabric_key: PublicKey, now: float) -> str:
    """The CA's word (PEM) for the fabric's key: what that signs gets a client through the TLS handshake. It names
    nobody, so it opens no more than what asks for no identity."""
    ca = x509.load_pem_x509_certificate(ca_pem.encode())
    builder = _authority(_door_name(fabric), ca.subject, fabric_key, now, CA_LIFE_S, 0)
    for_clients = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    return _pem(builder.add_extension(for_clients, critical=False).sign(ca_key, hashes.SHA256()))


def make_visitor(fabric: str, fabric_key: PrivateKey, key: PublicKey, now: float) -> str:
    """A client certificate (PEM) for a door of the fabric; it is good for minutes, and names nobody."""
    builder = (
        _builder(_name("visitor"), _door_name(fabric), key, now, VISITOR_LIFE_S)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    return _pem(builder.sign(fabric_key, hashes.SHA256()))


def make_csr(key: PrivateKey, common_name: str) -> str:
    """A certificate request (PEM); its signature proves possession of the key."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(common_name))
    return _pem(builder.sign(key, hashes.SHA256()))


def sign_csr(
    ca_pem: str,
    ca_key: PrivateKey,
    csr_pem: str,
    uri: str,
    now: float,
    life_s: float,
    addresses: tuple[str, ...] = (),
) -> str:
    """A leaf certificate (PEM) for the request's key and *our* names: ``uri`` and, for a server, its IP ``addresses``.

    Nothing of the request but its key is taken over. A request that is not P-256 or whose signature does not hold is
    ``request_invalid``.
    """
    key = csr_key(csr_pem)
    ca = x509.load_pem_x509_certificate(ca_pem.encode())
    sans: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri)]
    sans += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    uses = [ExtendedKeyUsageOID.CLIENT_AUTH] + ([ExtendedKeyUsageOID.SERVER_AUTH] if addresses else [])
    builder = (
        _builder(_name(uri.rsplit("/", 1)[-1]), ca.subject, key, now, life_s)
        .add_extension(x509.SubjectAlternativeName(sans), critical=False)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    return _pem(builder.sign(ca_key, hashes.SHA256()))


def csr_key(csr_pem: str) -> PublicKey:
    """The key that a request proves to possess, or ``request_invalid``."""
    try:
        csr = x509.load_pem_x509_csr(csr_pem.encode())
        key = _p256(csr.public_key())
        if not csr.is_signature_valid:
            raise ValueError("its signature does not hold")
    except (ValueError, UnsupportedAlgorithm) as error:
        raise GrafosError("request_invalid", "the certificate request cannot be used", why=str(error)) from error
    return key


def csr_name(csr_pem: str) -> str:
    """The common name that a request (whose key was read before) asks for; empty if it has none, or several."""
    names = x509.load_pem_x509_csr(csr_pem.encode()).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if len(names) == 1 else ""


def certificate_der(pem: str) -> bytes:
    """The first certificate of a PEM text as DER, or ``certificate_refused``."""
    try:
        return x509.load_pem_x509_certificate(pem.encode()).public_bytes(serialization.Encoding.DER)
    except ValueError as error:
        raise GrafosError("certificate_refused", "the text is not a PEM certificate") from error


def certificate_sha256(pem: str) -> str:
    """The SHA-256 of the first certificate of a PEM text (DER), in hex; ``certificate_refused``."""
    return hashlib.sha256(certificate_der(pem)).hexdigest()


def check_issued_by(certificate_pem: str, pinned_ca_pems: str, at: float) -> Peer:
    """Whom the certificate stands for, if one of the pinned CAs signed it and it was valid ``at`` that time.

    ``pinned_ca_pems`` may hold several CAs, one after the other. Else ``identity_not_pinned``.
    """
    try:
        leaf = x509.load_pem_x509_certificate(certificate_pem.encode())
        cas = x509.load_pem_x509_certificates(pinned_ca_pems.encode())
    except ValueError as error:
        raise GrafosError("identity_not_pinned", "a certificate or the pinned key cannot be read") from error
    if not any(_signed_by(leaf, ca) for ca in cas):
        raise GrafosError(
            "identity_not_pinned",
            "the signer's certificate was not issued by the key that was pinned when the cell was claimed",
        )
    if not leaf.not_valid_before_utc.timestamp() <= at <= leaf.not_valid_after_utc.timestamp():
        raise GrafosError("identity_not_pinned", "the signer's certificate was not valid at that time")
    return peer_of(leaf.public_bytes(serialization.Encoding.DER))


def issued_at(certificate_pem: str) -> float:
    """When the issuer signed the certificate (Unix seconds), by its own clock; ``ValueError`` for no certificate."""
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    return certificate.not_valid_before_utc.timestamp() + CLOCK_SKEW_S


def addresses_of(certificate_pem: str) -> frozenset[str]:
    """The IP addresses that a server's certificate stands for; ``ValueError`` or ``ExtensionNotFound`` for others."""
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return frozenset(str(address) for address in names.get_values_for_type(x509.IPAddress))


# --- signatures -------------------------------------------------------------------------------------------------


def sign(key: PrivateKey, message: bytes) -> bytes:
    """ECDSA P-256 with SHA-256, DER."""
    return key.sign(message, ec.ECDSA(hashes.SHA256()))


def signature_holds(key: PublicKey, message: bytes, signature: bytes) -> bool:
    """Whether ``key``'s owner signed ``message``."""
    try:
        key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def certificate_key(certificate_pem: str) -> PublicKey:
    """The public key of a certificate, or ``certificate_refused``."""
    try:
        return _p256(x509.load_pem_x509_certificate(certificate_pem.encode()).public_key())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise GrafosError("certificate_refused", "the text is not a PEM certificate of a P-256 key") from error


def claim_mac(secret: bytes, role: str, server_der: bytes, csr_pem: str, fabric_key_pem: str) -> str:
    """The proof in a claim, hex. Each side proves that it knows the secret *and* sees the same two keys.

    ``role`` is "operator" or "cell", so that neither proof can be sent back as the other. Somebody in the middle has
    another server certificate or another CSR, and a MAC of one pair is worthless for any other.
    """
    assert role in ("operator", "cell")
    parts = [role.encode(), server_der, csr_pem.encode(), fabric_key_pem.encode()]
    message = b"grafos-claim-1" + b"".join(hashlib.sha256(part).digest() for part in parts)
    return hmac.new(secret, message, hashlib.sha256).hexdigest()


# --- TLS --------------------------------------------------------------------------------------------------------


def server_context(certificate: Path, key: Path, ca: Path, alpn: list[str]) -> ssl.SSLContext:
    """TLS 1.3 only; client certificates of our CA are required. Costs 1 ms: no system CA bundle is read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(ca)
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(alpn)
    return context


def client_context(ca_pem: str, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """TLS 1.3 to a server whose certificate our pinned CA signed for the address that we dial."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=ca_pem)
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context


def unverified_context() -> ssl.SSLContext:
    """For the claim only: the server proves itself inside, by a MAC over the certificate that it showed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def visitor_context(fabric: str, fabric_key: PrivateKey, now: float) -> ssl.SSLContext:
    """For a scheduler that lets in nobody without a certificate; it proves itself inside, by what the fabric's key
    signed of it."""
    context, key = unverified_context(), new_key()
    with tempfile.TemporaryDirectory() as folder:  # TLS reads them from files alone; 0700, and worthless in an hour
        certificate_file, key_file = Path(folder, "cert.pem"), Path(folder, "key.pem")
        certificate_file.write_text(make_visitor(fabric, fabric_key, key.public_key(), now))
        key_file.write_bytes(key_to_pem(key))
        context.load_cert_chain(certificate_file, key_file)
    return context


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _door_name(fabric: str) -> x509.Name:
    return _name(f"grafos door of {fabric}")


def _authority(
    subject: x509.Name, issuer: x509.Name, key: PublicKey, now: float, life_s: float, path_length: int
) -> x509.CertificateBuilder:
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        _builder(subject, issuer, key, now, life_s)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(usage, critical=True)
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PublicKey, now: float, life_s: float
) -> x509.CertificateBuilder:
    moment = dt.datetime.fromtimestamp(now, dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - dt.timedelta(seconds=CLOCK_SKEW_S))
        .not_valid_after(moment + dt.timedelta(seconds=life_s))
    )


def _signed_by(leaf: x509.Certificate, ca: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _p256(key: object) -> PublicKey:
    """The key if it is on the one curve that grafos uses, else ``ValueError``."""
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("not a P-256 key")
    return key


def _pem(thing: x509.Certificate | x509.CertificateSigningRequest) -> str:
    return thing.public_bytes(serialization.Encoding.PEM).decode()
