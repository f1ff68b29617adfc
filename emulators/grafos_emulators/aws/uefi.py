"""What EC2 reads of the ``UefiData`` of RegisterImage: the firmware's variables, and the certificates in them.

Source: the form of the data as AWS publishes it with python-uefivars.
"""

from __future__ import annotations

import base64
import binascii
import io
import struct
import zlib

from grafos_emulators.aws.errors import AwsRefusalError
from grafos_emulators.certificates import fingerprint

MAGIC = b"AMZNUEFI"
HEAD_BYTES, LIST_HEAD_BYTES, OWNER_BYTES = 16, 28, 16
AUTHENTICATED = 0x20
VARIABLES_MAX = 64


def certificates_of(text: str) -> dict[str, str]:
    """The SHA-256 of the one certificate of each variable, by the variable's name."""
    try:
        data = base64.b64decode(text, validate=True)
        magic, version = data[:8], struct.unpack("<I", data[12:HEAD_BYTES])[0]
        if magic != MAGIC or version:
            raise ValueError("no variables")
        found = _read(io.BytesIO(zlib.decompress(data[HEAD_BYTES:])))
    except (binascii.Error, ValueError, struct.error, zlib.error) as error:
        raise AwsRefusalError("InvalidParameterValue", "The value for UefiData is not valid.") from error
    if not all(found.values()):
        raise AwsRefusalError("InvalidParameterValue", "The value for UefiData holds no certificate.")
    return found


def _read(file: io.BytesIO) -> dict[str, str]:
    (count,) = struct.unpack("<Q", file.read(8))
    if count > VARIABLES_MAX:
        raise ValueError("too many")
    found = {}
    for _ in range(count):
        name, data = _sized(file).decode(), _sized(file)
        file.read(16)
        (attributes,) = struct.unpack("<I", file.read(4))
        if attributes & AUTHENTICATED:
            file.read(16)
            _sized(file)
        certificate = data[LIST_HEAD_BYTES + OWNER_BYTES :]
        found[name] = fingerprint(base64.b64encode(certificate).decode())
    return found


def _sized(file: io.BytesIO) -> bytes:
    (length,) = struct.unpack("<Q", file.read(8))
    data = file.read(length)
    if len(data) != length:
        raise ValueError("cut off")
    return data
