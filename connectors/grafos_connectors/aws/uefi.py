"""The firmware's variables as EC2 takes them with an image: which certificate a program must be signed for.

Source: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/uefi-secure-boot.html, and the form of the data as AWS
publishes it with python-uefivars (MIT); UEFI 2.10, 32.4.1 for the lists of signatures.
"""

from __future__ import annotations

import base64
import struct
import uuid
import zlib

MAGIC = b"AMZNUEFI"
VERSION = 0
GLOBAL = uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
SECURITY_DATABASE = uuid.UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
X509 = uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
OWNER = uuid.UUID("5f1f7b0a-4f53-5c0e-8d6e-6a6f0c2c9d11")
"""Who put a certificate into the list; the firmware does nothing with it."""
ATTRIBUTES = 0x27
"""Kept without power, seen at boot and at run time, written with a signature that bears a time."""
NO_TIME, NO_DIGEST = bytes(16), bytes(32)
VARIABLES = (("PK", GLOBAL), ("KEK", GLOBAL), ("db", SECURITY_DATABASE))
"""The owner's key, which switches Secure Boot on; whoever may change the lists; and what may be started."""
CRC32C = 0x82F63B78


def uefi_data(certificate: bytes) -> str:
    """The variables of a firmware that starts what is signed for this certificate (DER), and nothing else."""
    listed = _signature_list(certificate)
    variables = b"".join(_variable(name, vendor, listed) for name, vendor in VARIABLES)
    packed = zlib.compress(struct.pack("<Q", len(VARIABLES)) + variables, 9)
    body = struct.pack("<I", VERSION) + packed
    return base64.b64encode(MAGIC + struct.pack("<I", crc32c(body)) + body).decode()


def crc32c(data: bytes) -> int:
    """Castagnoli's; zlib has the other one."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (CRC32C if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def _signature_list(certificate: bytes) -> bytes:
    """One certificate: the list's head, and the certificate behind its owner."""
    entry = OWNER.bytes_le + certificate
    return X509.bytes_le + struct.pack("<III", 28 + len(entry), 0, len(entry)) + entry


def _variable(name: str, vendor: uuid.UUID, data: bytes) -> bytes:
    head = _sized(name.encode()) + _sized(data) + vendor.bytes_le + struct.pack("<I", ATTRIBUTES)
    return head + NO_TIME + _sized(NO_DIGEST)


def _sized(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + data
