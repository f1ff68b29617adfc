"""Reading the audit log, with a proof of every part that is read.

Each record that is looked at, shown or not, must have its hash, follow the one before it, and agree with what the
scheduler knows in memory: where the log begins and ends, and every thousandth hash. So what somebody changed on the
disk, took out or put in is found by whoever reads that part, and told as ``audit_broken``.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from grafos_core.audit_chain import AuditRecord, ChainCheck, broken, event_hash
from grafos_scheduler import rows
from grafos_scheduler.audit import key_of
from grafos_scheduler.audit_messages import AuditPage, AuditQuery

if TYPE_CHECKING:
    from grafos_scheduler.handlers import Request, Services
    from grafos_scheduler.shell import Shell

STRETCH = 500
"""Records read at once: checked in a few milliseconds, in which nothing else is answered."""
LOOKED_AT_MAX = 5000
"""By one request, so that a filter that nothing meets ends in time; the next request goes on."""


async def audit(services: Services, request: Request) -> AuditPage:
    """A page of the log; ``audit_broken`` where it was changed."""
    query: AuditQuery = request.query
    return await read_page(services.shell, query)


async def read_page(shell: Shell, query: AuditQuery) -> AuditPage:
    """The same for whoever has the shell."""
    return await _Reading(shell, query).page()


class _Reading:
    """One request's way through the log."""

    def __init__(self, shell: Shell, query: AuditQuery) -> None:
        self._shell = shell
        self._query = query
        self._end = self._floor = shell.state.audit_head
        self._check = ChainCheck()
        self._found: list[AuditRecord] = []
        self._looked_at = 0
        self._is_past = False

    async def page(self) -> AuditPage:
        await self._shell.settled()
        await self._go_to_start()
        while self._is_wanted_more():
            await self._read_stretch()
        if self._check.sequence >= self._end.sequence:
            await self._check_end()
        return AuditPage(
            scheduler=self._shell.state.settings.scheduler,
            records=self._found,
            after=self._check.sequence,
            more=self._check.sequence < self._end.sequence and not self._is_past,
            head_sequence=self._end.sequence,
            head_event_hash=self._end.event_hash,
            kept_from=self._floor.kept_from,
            let_go_event_hash=self._floor.let_go_event_hash,
        )

    async def _go_to_start(self) -> None:
        """The last record before the first that may be shown, with the hash that it must have."""
        after = min(self._query.after, self._end.sequence)
        before = await self._rows(after, 1)
        self._begin_anew()
        if after >= self._floor.kept_from:
            if not before or before[0].sequence != after:
                raise broken(after, "it is missing")
            if before[0].current_event_hash != event_hash(before[0]):
                raise broken(after, "its contents do not have the hash that it bears")
            self._check = ChainCheck(after, before[0].current_event_hash)
            return
        since_ms = self._query.since * 1000
        for mark in self._shell.state.audit_marks.values():
            if mark.at_ms >= since_ms or mark.sequence > self._end.sequence:
                break
            self._check = ChainCheck(mark.sequence, mark.event_hash)

    def _begin_anew(self) -> None:
        """At the first record that is kept; memory lets go before the disk does."""
        self._floor = self._shell.state.audit_head
        self._check = ChainCheck(self._floor.kept_from - 1, self._floor.let_go_event_hash)

    def _is_wanted_more(self) -> bool:
        return (
            self._check.sequence < self._end.sequence
            and self._looked_at < LOOKED_AT_MAX
            and len(self._found) < self._query.limit
            and not self._is_past
        )

    async def _read_stretch(self) -> None:
        wanted = self._check.sequence + 1
        records = await self._rows(wanted, STRETCH)
        if wanted < self._shell.state.audit_head.kept_from:
            self._begin_anew()  # they were let go meanwhile
            return
        if not records:
            raise broken(wanted, "it is missing, and so is all that follows")
        for record in records:
            if not self._is_wanted_more():
                return
            self._take(record)

    def _take(self, record: AuditRecord) -> None:
        self._check.take(record)
        self._looked_at += 1
        mark = self._shell.state.audit_marks.get(key_of(record.sequence))
        if mark is not None and mark.event_hash != record.current_event_hash:
            raise broken(record.sequence, "its hash is not the one that was noted when it was written")
        if self._is_shown(record):
            self._found.append(record)

    def _is_shown(self, record: AuditRecord) -> bool:
        query = self._query
        self._is_past = bool(query.until) and record.at_ms >= query.until * 1000
        return (
            not self._is_past
            and query.kind in ("", record.kind)
            and query.tenant in ("", record.tenant)
            and query.cell_id in ("", record.cell_id)
            and record.at_ms >= query.since * 1000
        )

    async def _check_end(self) -> None:
        """The last record is the one that the scheduler wrote last, and nothing stands behind it."""
        end = self._end
        if self._check.event_hash != end.event_hash:
            raise broken(end.sequence, "its hash is not the one that was noted when it was written")
        following = await self._rows(end.sequence + 1, STRETCH)
        last = self._shell.state.audit_head.sequence
        for sequence in (record.sequence for record in following):
            if sequence > last:
                raise broken(sequence, f"the log ends at record {last}")

    async def _rows(self, sequence: int, count: int) -> list[AuditRecord]:
        """Durable records from this one on; a row that is none is ``audit_broken``."""
        found = await self._shell.store.read_from(rows.AUDIT, key_of(sequence), count)
        for before, (key, record) in pairwise([("", None), *found]):
            if record is None or key != key_of(record.sequence):
                place = before[1].sequence + 1 if before[1] is not None else sequence
                raise broken(place, f"a row stands there that is no record of the log ({key[:40]!r})")
        return [record for _, record in found]
