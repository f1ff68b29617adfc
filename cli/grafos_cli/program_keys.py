"""The key of a whole program's run is written down before anything is asked for, as that of a single run is.

Each run of a tasklet has a key that follows from it. So the same command, after whatever stopped it, finds the money
that is held and every run that was begun, and goes on from there: nothing runs or is charged twice.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from pathlib import Path

import msgspec

from grafos_cli import pending
from grafos_cli.run_keys import RUN_KEY_BYTES
from grafos_scheduler.reservation_messages import TTL_S_MAX

NAME = "program"


class PendingProgram(msgspec.Struct, frozen=True):
    """What is held for it, under which key. ``asked_at`` is Unix seconds."""

    key: str
    micro_cents: int
    ttl_s: float
    asked_at: float

    def run_key(self, tasklet: str, attempt: int) -> str:
        """The run key of the tasklet's n-th attempt."""
        text = f"{self.key}/{tasklet}/{attempt}"
        return hashlib.sha256(text.encode()).hexdigest()[: 2 * RUN_KEY_BYTES]


class ProgramKeys(pending.PendingFile[PendingProgram]):
    """The programs of one project that are under way; one whose money nobody can hold any more is none of them."""

    def __init__(self, project: Path, asked: dict[str, object]) -> None:
        super().__init__(project, NAME, asked, PendingProgram, TTL_S_MAX)


def new_program(micro_cents: int, ttl_s: float) -> PendingProgram:
    """One that nobody has begun."""
    return PendingProgram(secrets.token_hex(RUN_KEY_BYTES), micro_cents, ttl_s, time.time())


def forget_program(project: Path, key: str) -> None:
    """It was given up; asked for again, it runs anew."""
    pending.forget(project, NAME, PendingProgram, key)
