"""Who wanted in without being let in: counted against the address, and told to the logs."""

from __future__ import annotations

import logging
from typing import NamedTuple

from grafos_core.audit_chain import AuditKind
from grafos_core.errors import GrafosError
from grafos_scheduler.audit import WORDS_CHARACTERS_MAX
from grafos_scheduler.claim import Tries
from grafos_scheduler.events import Witnessed
from grafos_scheduler.shell import Shell

ANYBODY = "anybody"
"""Whoever comes from wherever: all of them share one bound in the audit log."""

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
