"""Who wanted in without being let in: counted against the address, and told to the logs."""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import NamedTuple

from grafos_core.audit_chain import AuditKind
from grafos_core.clock import Clock
from grafos_core.errors import GrafosError
from grafos_scheduler.audit import WORDS_CHARACTERS_MAX
from grafos_scheduler.events import Witnessed
from grafos_scheduler.shell import Shell

ANYBODY = "anybody"
"""Whoever comes from wherever: all of them share one bound in the audit log."""
TRIES_AT_ONCE_MAX = 5
TRY_AGAIN_EVERY_S = 2.0
"""An address may fail so often at once, and once more in so many seconds. What is tried has 128 bits or more, so this
spares the machine rather than the secret."""
ADDRESSES_MAX = 1024
"""Addresses whose tries are remembered; the one seen longest ago is forgotten first."""

log = logging.getLogger("grafos.security")


class Told(NamedTuple):
    """Who it said to be: in words for the log, and as the audit log looks for it."""

    said: str
    subject: str = ""
    tenant: str = ""
    cell_id: str = ""


class Refusals:
    """Of one door. Only tries that failed are counted: many who are let in may come from behind one address."""

    def __init__(self, shell: Shell, kind: AuditKind, what: str, code: str) -> None:
        self._shell = shell
        self._kind = kind
        self._what = what
        self._tries = Tries(shell.clock, code, f"{what}s that failed")

    def check(self, client: str) -> None:
        """Refuses an address that failed too often of late."""
        self._tries.check(client)

    async def note(self, error: GrafosError, client: str, told: Told) -> None:
        """Notes what was refused, unless it may go well when it is tried again as it is."""
        if error.code == "store_failed" or error.retryable:
            return
        self._tries.count(client)
        log.warning("%s refused, from %s with %s: %s", self._what, client, told.said, error.what)
        why = error.what[:WORDS_CHARACTERS_MAX]
        details = (("from", client), ("with", told.said), ("code", error.code), ("why", why))
        event = Witnessed(self._kind, ANYBODY, told.subject, told.tenant, told.cell_id, details)
        await self._shell.handle(event)


class Tries:
    """How often each address has tried something of late; ``code`` and ``what`` refuse one that tries too often."""

    def __init__(self, clock: Clock, code: str, what: str) -> None:
        self._clock = clock
        self._code = code
        self._what = what
        self._free_at: OrderedDict[str, float] = OrderedDict()

    def check(self, client: str) -> None:
        """Refuses a try of an address that has made too many."""
        now = self._clock.monotonic()
        if self._free_at.get(client, now) + TRY_AGAIN_EVERY_S - now > TRIES_AT_ONCE_MAX * TRY_AGAIN_EVERY_S:
            self._free_at.move_to_end(client)
            raise GrafosError(
                self._code,
                f"too many {self._what} came from this address",
                next=f"wait {TRY_AGAIN_EVERY_S:g} seconds, then try again",
                retryable=True,
            )

    def count(self, client: str) -> None:
        """Counts a try."""
        now = self._clock.monotonic()
        self._free_at[client] = max(now, self._free_at.pop(client, now)) + TRY_AGAIN_EVERY_S
        while len(self._free_at) > ADDRESSES_MAX:
            self._free_at.popitem(last=False)
