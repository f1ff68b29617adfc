"""What the modules of the clouds have in common: what they give, what they are given, and how they refuse."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime

from grafos_core.attestation import binding
from grafos_core.errors import GrafosError

SKEW_S_MAX = 60.0
"""How far a cloud's clock may be from ours; both are kept by their owners."""


@dataclass(frozen=True, slots=True)
class Enrolling:
    """For which enrolment the cloud's word is to count, and for which key."""

    expectation_id: str
    key_sha256: str

    def binding(self, provider: str) -> str:
        """What the word must carry. For Azure it is made slowly on purpose: ask only when all else holds."""
        return binding(provider, self.expectation_id, self.key_sha256)


@dataclass(frozen=True, slots=True)
class Attested:
    """What a cloud says of one of its machines, signed. ``made_at`` is when the machine was made or last started (Unix
    seconds; 0 where the cloud does not tell), ``region`` and ``zone`` are empty where it does not tell them."""

    provider: str
    account: str
    machine_id: str
    region: str = ""
    zone: str = ""
    made_at: float = 0.0


def refused(what: str, why: str = "", next: str = "") -> GrafosError:
    """The cloud's word does not count: it is not the cloud's, or not for this machine, key or time."""
    return GrafosError(
        "attestation_refused", what, why=why, next=next or "let the machine ask its metadata service again"
    )


def decoded(text: str) -> bytes:
    """The bytes of a base64 text with line ends in it, as the metadata services give it."""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise refused("the machine's evidence is not base64", why=str(error)) from error


def check_time(begins_at: float, ends_at: float, now: float, what: str) -> None:
    """Refuses what does not hold yet, or not any more."""
    if now < begins_at - SKEW_S_MAX:
        raise refused(f"{what} does not hold yet", why=f"from {utc(begins_at)} on; here it is {utc(now)}")
    if now >= ends_at:
        raise refused(f"{what} lapsed", why=f"at {utc(ends_at)}; here it is {utc(now)}")


def utc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
