"""Certificates that clouds are given for the firmware of an image's machines."""

from __future__ import annotations

import base64
import binascii
import hashlib

from cryptography import x509


def fingerprint(text: str) -> str:
    """The SHA-256 of a certificate (DER in base64); "" if it is none."""
    try:
        data = base64.b64decode(text, validate=True)
        x509.load_der_x509_certificate(data)
    except (binascii.Error, ValueError, TypeError):
        return ""
    return hashlib.sha256(data).hexdigest()
