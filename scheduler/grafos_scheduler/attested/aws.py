"""The instance identity document of EC2, in the RSA-2048 signature that holds it.

A machine reads it at ``/latest/dynamic/instance-identity/rsa2048``. Each region signs with a key of its own, whose
certificate is self-signed and stands on a page of the EC2 user guide ("AWS public certificates"); so a root here is
named after its region. The document has neither nonce nor end: see ``enrolment`` for what makes up for that.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
from cryptography import x509

from grafos_scheduler.attested import cms
from grafos_scheduler.attested.contract import Attested, Enrolling, check_time, decoded, refused
from grafos_scheduler.attested.roots import Roots


class _Document(msgspec.Struct, frozen=True):
    """What is used of the document; the names are AWS's."""

    account: str = msgspec.field(name="accountId")
    region: str
    zone: str = msgspec.field(name="availabilityZone")
    instance_id: str = msgspec.field(name="instanceId")
    pending_time: str = msgspec.field(name="pendingTime")


def check(evidence: str, roots: Roots, _: Enrolling, now: float) -> Attested:
    """What the document says, if its region's key signed it. There is no place in it for what it is asked for."""
    try:
        message = cms.read(decoded(evidence))
        document = msgspec.json.decode(message.content, type=_Document)
        made_at = datetime.strptime(document.pending_time, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    except (ValueError, msgspec.MsgspecError) as error:
        raise refused("that is no signed instance identity document", why=str(error)) from error
    pem = roots.pems.get(document.region)
    if pem is None:
        raise refused(f"no certificate of AWS's region {document.region[:40]!r} is known here", next=roots.next_step)
    certificate = x509.load_pem_x509_certificate(pem.encode())
    begins_at, ends_at = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    check_time(begins_at, ends_at, now, f"the certificate of AWS's region {document.region}")
    try:
        cms.check_signed(message, certificate.public_key())
    except ValueError as error:
        raise refused(f"the document is not signed by AWS's region {document.region}", why=str(error)) from error
    return Attested("aws", document.account, document.instance_id, document.region, document.zone, made_at)
