"""What this process gives out to be signed, so that whoever shows a signature made it just now, and for this door.

A challenge is told by a MAC under a key that each door of each process draws for itself, and lapses by a clock that
nobody sets. So anybody may ask for any number of them, nothing is kept of one until it is used up, and none outlives a
restart.
"""

from __future__ import annotations

import hashlib
import hmac
import random

from grafos_core.clock import Clock
from grafos_core.errors import GrafosError

KEY_BITS = 256
CHALLENGE_BITS = 128


class Challenges:
    """Of one door: each holds for ``life_s``; ``code`` and ``next`` are of the refusal of one that does not."""

    def __init__(self, clock: Clock, chance: random.Random, life_s: float, code: str, next: str) -> None:
        self._clock = clock
        self._chance = chance
        self.life_s = life_s
        self._code = code
        self._next = next
        self._key = chance.getrandbits(KEY_BITS).to_bytes(KEY_BITS // 8, "big")
        self._used: dict[str, float] = {}

    def give(self, whom: str = "") -> str:
        """A fresh one, for nobody else than ``whom``."""
        until_ms = int((self._clock.monotonic() + self.life_s) * 1000)
        said = f"{self._chance.getrandbits(CHALLENGE_BITS):032x}.{until_ms}"
        return f"{said}.{self._mac(said, whom)}"

    def check(self, challenge: str, whom: str = "") -> None:
        """Whether it is one of ours for ``whom``, and holds still."""
        said, _, mac = challenge.rpartition(".")
        if not hmac.compare_digest(mac.encode(), self._mac(said, whom).encode()):
            raise self._refused("the proof answers no challenge of this process, or one that was given to another")
        if _until_ms(challenge) <= self._now_ms():
            raise self._refused("the challenge lapsed that the proof answers")

    def take(self, challenge: str, whom: str = "") -> None:
        """The same, and uses it up."""
        self.check(challenge, whom)
        if challenge in self._used:
            raise self._refused("the proof was used already")
        now_ms = self._now_ms()
        self._used = {used: until_ms for used, until_ms in self._used.items() if until_ms > now_ms}
        self._used[challenge] = _until_ms(challenge)

    def _now_ms(self) -> float:
        return self._clock.monotonic() * 1000

    def _mac(self, said: str, whom: str) -> str:
        return hmac.new(self._key, f"grafos-challenge-1:{said}:{whom}".encode(), hashlib.sha256).hexdigest()

    def _refused(self, what: str) -> GrafosError:
        return GrafosError(self._code, what, next=self._next)


def _until_ms(challenge: str) -> int:
    """Of one that was made by us."""
    return int(challenge.split(".")[1])
