"""A type for each kind of id, so that none is taken for another.

Ids are made from a ``random.Random``: ``random.SystemRandom()`` in production, a seeded one in simulations.
"""

from __future__ import annotations

import hashlib
import random
import re
from functools import lru_cache
from typing import NewType

from grafos_core.errors import GrafosError

FabricId = NewType("FabricId", str)  # fab-<12 hex of the SHA-256 of the fabric's public key>
InstanceId = NewType("InstanceId", str)  # inst-<fabric tag>-<scheduler tag>-<16 base32>
RunId = NewType("RunId", str)  # run-<fabric tag>-<scheduler tag>-<16 base32>
LeaseId = NewType("LeaseId", str)  # 32 hex: 128 bits, the first byte tells the resource kind
Sha256 = NewType("Sha256", str)  # 64 lower-case hex

LEASE_KIND_TAGS = {"mem": 0x01, "block": 0x02, "cpu": 0x03, "gpu": 0x04, "net": 0x05, "listener": 0x06}
"""First byte of a lease id. 0x01 is the public SDK's ``LEASE_TAG_MEM``; the others are our completion."""

NAME_PATTERN = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
SHA256_PATTERN = re.compile(r"[0-9a-f]{64}")
RUN_ID_PATTERN = re.compile(r"run-([0-9a-f]{6})-([0-9a-f]{6})-([a-z2-7]{16})")

INSTANCE_PREFIX = "inst-"
"""How the id of an instance begins, and of nothing else that may have leases."""

_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"


def check_name(kind: str, name: str) -> str:
    """``name`` if it has 1 to 40 characters of a-z, 0-9 and inner hyphens, else ``name_invalid``."""
    if not NAME_PATTERN.fullmatch(name):
        raise GrafosError(
            "name_invalid",
            f"{name[:60]!r} is no name for a {kind}",
            next="use 1 to 40 characters of a-z, 0-9 and hyphens inside",
        )
    return name


def check_sha256(text: str) -> Sha256:
    """``text`` if it is a SHA-256 in lower-case hex, else ``request_invalid``."""
    if not SHA256_PATTERN.fullmatch(text):
        raise GrafosError("request_invalid", f"{text[:80]!r} is not a SHA-256 in lower-case hex")
    return Sha256(text)


def sha256_of(data: bytes) -> Sha256:
    """The SHA-256 of ``data`` in lower-case hex."""
    return Sha256(hashlib.sha256(data).hexdigest())


def random_text(length: int, chance: random.Random) -> str:
    """``length`` characters of lower-case base32, five bits of chance each."""
    bits = chance.getrandbits(5 * length)  # at once: each time, the system's chance costs a call of the system
    return "".join(_BASE32[bits >> shift & 31] for shift in range(0, 5 * length, 5))


@lru_cache(64)  # few names, in every id
def short_tag(text: str) -> str:
    """Six hex digits that stand for a longer name inside another id."""
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def new_run_id(fabric: FabricId, scheduler: str, chance: random.Random) -> RunId:
    """A run id names its fabric and its scheduler, so that a run is found when its cell is long gone."""
    return RunId(f"run-{short_tag(fabric)}-{short_tag(scheduler)}-{random_text(16, chance)}")


def new_instance_id(fabric: FabricId, scheduler: str, chance: random.Random) -> InstanceId:
    """The id of an instance of a service, made as that of a run."""
    return InstanceId(f"{INSTANCE_PREFIX}{short_tag(fabric)}-{short_tag(scheduler)}-{random_text(16, chance)}")


def new_lease_id(kind: str, chance: random.Random) -> LeaseId:
    """128 bits as hex whose first byte tells the resource kind (``LEASE_KIND_TAGS``)."""
    return LeaseId(f"{LEASE_KIND_TAGS[kind]:02x}{chance.getrandbits(120):030x}")
