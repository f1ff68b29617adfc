"""What a machine asks its cloud to sign, so that the cloud's word counts for one enrolment with one key.

Where a cloud signs a text of the asker's choice, that text is made of the expectation and of the key that enrols, so
that the same word is worth nothing beside another key or for another enrolment. Both sides make it here: the cell to
ask its metadata service, the orchestrator to hold the answer against it.

    aws     nothing: an instance identity document has no room for it
    azure   a nonce of ten digits
    gcp     an audience, free text
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

_EXPECTED = "expected"
NONCE_DIGITS = 10
"""What Azure takes at most, see "Attested data" in its page on the instance metadata service."""
SCRYPT_N, SCRYPT_R, SCRYPT_P = 1 << 14, 8, 1
"""16 MiB and some 50 ms for each key that is tried. Ten digits are few: whoever read another machine's document and
looks for a key of his own that fits needs ten thousand million tries on average, within the quarter of an hour that an
expectation lives. A plain hash would leave that to one machine; so it takes some hundred thousand."""


class Expectation(NamedTuple):
    """What stands in the place of a bootstrap token where no secret is wanted: that somebody expects this machine,
    until ``lapses_at`` (Unix seconds). It opens nothing by itself."""

    expectation_id: str
    lapses_at: float

    @property
    def text(self) -> str:
        """As it stands in a file, or in a machine's user data."""
        return f"{_EXPECTED} {self.expectation_id} {self.lapses_at:.0f}"


def expectation_in(text: str) -> Expectation | None:
    """The expectation that a text is, None for anything else: a bootstrap token."""
    match text.split():
        case [word, expectation_id, lapses_at] if word == _EXPECTED and lapses_at.isascii() and lapses_at.isdecimal():
            return Expectation(expectation_id, float(lapses_at))
    return None


def binding(provider: str, expectation_id: str, key_sha256: str) -> str:
    """What the cloud's word must carry for this enrolment and the key with this fingerprint; empty where it cannot."""
    if provider == "gcp":
        return f"urn:grafos:enrolment:{expectation_id}:{key_sha256}"
    if provider == "azure":
        drawn = hashlib.scrypt(
            key_sha256.encode(), salt=expectation_id.encode(), n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P, dklen=16
        )
        return f"{int.from_bytes(drawn) % 10**NONCE_DIGITS:0{NONCE_DIGITS}d}"
    return ""
