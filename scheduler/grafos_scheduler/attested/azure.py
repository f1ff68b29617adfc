"""The attested document of an Azure machine: a signed message with a nonce of the machine's choice.

A machine reads it at ``/metadata/attested/document?nonce=…``, as base64 in the field ``signature``. Its signer has a
certificate for ``metadata.azure.com`` (or a name below it) that chains to a public root; so the roots here are pinned
certificates under names of the operator's choice, and the intermediates beside them, which Azure does not always send
along. The document tells no region. Source: "Attested data" in "Azure Instance Metadata Service".
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
from cryptography import x509
from cryptography.x509 import verification

from grafos_scheduler.attested import cms
from grafos_scheduler.attested.contract import Attested, Enrolling, check_time, decoded, refused
from grafos_scheduler.attested.roots import Roots

SIGNER = "metadata.azure.com"
"""Of the public cloud; those of governments and of China have others, and are not taken."""
_TIME = "%m/%d/%y %H:%M:%S %z"


class _Times(msgspec.Struct, frozen=True):
    created: str = msgspec.field(name="createdOn")
    expires: str = msgspec.field(name="expiresOn")


class _Document(msgspec.Struct, frozen=True):
    """What is used of the document; the names are Azure's."""

    nonce: str
    times: _Times = msgspec.field(name="timeStamp")
    vm_id: str = msgspec.field(name="vmId")
    subscription: str = msgspec.field(name="subscriptionId")


def check(evidence: str, roots: Roots, enrolling: Enrolling, now: float) -> Attested:
    """What the document says, if Azure signed it for this enrolment and it holds now."""
    try:
        message = cms.read(decoded(evidence))
        signer, others = _signer(message)
    except ValueError as error:
        raise refused("that is no signed attested document", why=str(error)) from error
    _check_chain(signer, others, roots, now)
    try:
        cms.check_signed(message, signer.public_key())
    except ValueError as error:
        raise refused("the attested document is not signed by Azure", why=str(error)) from error
    try:
        document = msgspec.json.decode(message.content, type=_Document)
        begins_at, ends_at = (_at(text) for text in (document.times.created, document.times.expires))
    except (ValueError, msgspec.MsgspecError) as error:
        raise refused("the signed document is no attested document", why=str(error)) from error
    check_time(begins_at, ends_at, now, "the attested document")
    if document.nonce != enrolling.binding("azure"):
        raise refused("the attested document is for another enrolment or key")
    return Attested("azure", document.subscription, document.vm_id)


def _signer(message: cms.SignedMessage) -> tuple[x509.Certificate, list[x509.Certificate]]:
    """The certificate that the message says it was signed with, and the others that came along."""
    came = [x509.load_der_x509_certificate(der) for der in message.certificates]
    for certificate in came:
        if (certificate.issuer.public_bytes(), certificate.serial_number) == (message.issuer, message.serial):
            return certificate, [other for other in came if other is not certificate]
    raise ValueError("the signer's certificate did not come along")


def _check_chain(signer: x509.Certificate, others: list[x509.Certificate], roots: Roots, now: float) -> None:
    """Refuses a signer that no pinned root stands for, or that is not Azure's metadata service."""
    known = [x509.load_pem_x509_certificate(pem.encode()) for pem in roots.pems.values()]
    pinned = [certificate for certificate in known if certificate.issuer == certificate.subject]
    between = [certificate for certificate in known if certificate.issuer != certificate.subject]
    if not pinned:
        raise refused("no root of Azure's metadata service is known here", next=roots.next_step)
    try:
        verifier = (
            verification.PolicyBuilder()
            .store(verification.Store(pinned))
            .time(datetime.fromtimestamp(now, UTC))
            .build_server_verifier(x509.DNSName(_name_of(signer)))
        )
        verifier.verify(signer, between + others)
    except (verification.VerificationError, x509.ExtensionNotFound, ValueError) as error:
        raise refused(
            "the signer's certificate is not one of Azure's metadata service", why=str(error)[:200]
        ) from error


def _name_of(signer: x509.Certificate) -> str:
    """The name that the signer is to be verified as: the service's, or one below it."""
    names = signer.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    for name in names.get_values_for_type(x509.DNSName):
        plain = name.replace("*.", "any.", 1) if name.startswith("*.") else name
        if plain == SIGNER or plain.endswith(f".{SIGNER}"):
            return plain
    raise ValueError(f"it has no name at {SIGNER}")


def _at(text: str) -> float:
    return datetime.strptime(text, _TIME).astimezone(UTC).timestamp()
