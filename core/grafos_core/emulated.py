"""What tells an emulated cloud from a real one, in words that both sides of the wire share."""

from __future__ import annotations

# Each emulated AWS hands out access key ids that begin so. A connector refuses to send them anywhere but to loopback,
# and refuses to send any other key to loopback. That AWS itself would draw these 14 characters after AKIA by chance is
# one in 2**70.
EMULATED_ACCESS_KEY_PREFIX = "AKIAGRAFOSEMULATED"

EMULATED_PROJECT = "grafos-emulated"
"""The one project of an emulated Google Cloud; no real project may be called so, since the name is taken here."""

EMULATED_SUBSCRIPTION = "67726166-6f73-4000-8000-000000000001"
"""The one subscription of an emulated Azure ("grafos" in hexadecimal, in the form of a version 4 UUID)."""
