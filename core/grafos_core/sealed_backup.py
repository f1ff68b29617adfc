"""A backup as it lies on a disk: sealed with a key that only the fabric's own key gives.

    grafos-backup-1 LF · 12 bytes nonce · AES-256-GCM of the archive, over that line too

Whoever has the archive can be the orchestrator. So the file alone is worth nothing; with the fabric's key, which has to
be kept elsewhere (``grafos fabric key export``), it is all that there is.
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from grafos_core.errors import GrafosError
from grafos_core.fabric import Fabric
from grafos_core.paths import write_private

HEAD = b"grafos-backup-1\n"
NONCE_BYTES = 12


def keep_sealed(fabric: Fabric, archive: bytes, file: Path) -> None:
    """Writes the backup (0600); ``store_failed``."""
    nonce = os.urandom(NONCE_BYTES)
    try:
        write_private(file, HEAD + nonce + _cipher(fabric).encrypt(nonce, archive, HEAD))
    except OSError as error:
        raise GrafosError(
            "store_failed", "the backup could not be written", where=str(file), why=str(error), next="name another file"
        ) from error


def open_sealed(fabric: Fabric, file: Path) -> bytes:
    """The archive; ``backup_invalid`` for another fabric's, a damaged one, or what is none."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise GrafosError("backup_invalid", "the backup cannot be read", where=str(file), why=str(error)) from error
    if not data.startswith(HEAD):
        raise GrafosError("backup_invalid", "that is no backup of an orchestrator", where=str(file))
    nonce = data[len(HEAD) : len(HEAD) + NONCE_BYTES]
    try:
        return _cipher(fabric).decrypt(nonce, data[len(HEAD) + NONCE_BYTES :], HEAD)
    except (InvalidTag, ValueError) as error:
        raise GrafosError(
            "backup_invalid",
            f"the key of {fabric.id} does not open the backup: it is another fabric's, or damaged",
            where=str(file),
            next="take the key of the fabric that it is of: grafos fabric key import FILE",
        ) from error


def _cipher(fabric: Fabric) -> AESGCM:
    return AESGCM(fabric.derive_secret("backup"))
