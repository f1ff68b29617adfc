"""When a lease is renewed: late enough to be rare, early enough to be tried again, and not all at the same moment.

The numbers are the public design's defaults. Everything is a pure function of what was granted and of a seed, so a
restart renews when the process before it would have.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RenewalPolicy:
    """A lease is due after ``renew_at_fraction`` of its life, give or take ``jitter_fraction`` of it, and never sooner
    than ``min_renew_secs`` after it was granted. An attempt without an answer is repeated after a pause that doubles
    from one second to ``max_backoff_secs``."""

    renew_at_fraction: float = 0.75
    jitter_fraction: float = 0.10
    min_renew_secs: float = 30.0
    max_backoff_secs: float = 5.0

    def renewal_deadline(self, created_at: float, expires_at: float, jitter_seed: int) -> int:
        """When to renew (Unix seconds, whole), between ``created_at`` and ``expires_at``. The same each time."""
        life_s = max(0.0, expires_at - created_at)
        swing = self.jitter_fraction * (2.0 * _unit(jitter_seed) - 1.0)
        due_at = created_at + life_s * min(1.0, max(0.0, self.renew_at_fraction + swing))
        return int(min(max(due_at, created_at + self.min_renew_secs), expires_at))

    def pause_s(self, attempts: int) -> float:
        """How long to wait after so many attempts without an answer (1 or more)."""
        # Beyond a few doublings the bound holds anyway, and a float must not overflow.
        return min(self.max_backoff_secs, float(1 << min(16, max(0, attempts - 1))))


POLICY = RenewalPolicy()


def renewal_deadline(created_at: float, expires_at: float, jitter_seed: int) -> int:
    """``RenewalPolicy.renewal_deadline`` by the defaults."""
    return POLICY.renewal_deadline(created_at, expires_at, jitter_seed)


def jitter_seed(lease_id: str, generation: int) -> int:
    """The seed of a lease in one generation: 64 bits, the same in every process."""
    return int.from_bytes(hashlib.sha256(f"{lease_id}/{generation}".encode()).digest()[:8], "big")


def _unit(seed: int) -> float:
    """A number from 0 to 1 that belongs to the seed."""
    digest = hashlib.sha256(b"renewal" + seed.to_bytes(16, "big", signed=True)).digest()
    return int.from_bytes(digest[:8], "big") / float(2**64 - 1)
