"""The audit log: what each decision adds to it, in the very batch that makes the decision durable.

``grafos_core.audit_chain`` says how records hang together. The rules here are pure: what a decision notes gets the next
places of the chain, whose head is state. The records are cold rows; nobody reads them to decide.

Most records are of something that an operator does, or that a tenant pays for in quota and money. What anybody may
bring about at will is noted ``NOTED_PER_WINDOW_MAX`` times in a window for each of them, and beyond that only counted:
one record tells how many were withheld. The oldest records are let go in whole stretches, and a checkpoint in the log
tells up to where, so that what is left is still a chain whose beginning can be proved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from grafos_core.audit_chain import AuditInput, AuditKind, AuditRecord, assemble_record
from grafos_core.changes import Batch, Change
from grafos_scheduler import rows

if TYPE_CHECKING:
    from grafos_scheduler.draft import Draft

SCHEDULER = "scheduler"
"""Who makes happen what time brings."""
MARK_EVERY = 1000
"""Records from one mark to the next; they are let go together."""
LET_GO_AT_ONCE_MAX = 5 * MARK_EVERY
"""Per tick: more than can be admitted meanwhile."""
NOTED_PER_WINDOW_MAX = 60
WINDOW_S = 3600.0
"""A refusal or a renewal a minute, all the time, is more than anybody needs who means well."""
WORDS_CHARACTERS_MAX = 200
"""Of what somebody else has said, in a record."""

Notable = str | int


def note_bounded(
    draft: Draft,
    kind: AuditKind,
    who: str,
    subject: str,
    *,
    tenant: str = "",
    cell_id: str = "",
    details: dict[str, Notable] | None = None,
) -> None:
    """Notes what ``who`` may bring about as often as they like, unless they did so too often of late."""
    key = f"{kind} {who}"
    flood = draft.state.floods.get(key) or rows.Flood(kind, who, draft.now)
    if flood.noted < NOTED_PER_WINDOW_MAX:
        draft.note(kind, subject, tenant=tenant, cell_id=cell_id, **(details or {}))
        flood = replace(flood, noted=flood.noted + 1)
    else:
        flood = replace(flood, withheld=flood.withheld + 1)
    draft.remember(rows.FLOOD, key, flood)


def tell_withheld(draft: Draft) -> None:
    """Ends each window whose time is over, and notes how much of it was withheld."""
    for key, flood in draft.state.floods.items():
        if abs(draft.now - flood.since) >= WINDOW_S:  # also after a clock was set back
            draft.remember(rows.FLOOD, key, None)
            if flood.withheld:
                since_ms = _ms(flood.since)
                draft.note(AuditKind.WITHHELD, flood.who, kind=flood.kind, count=flood.withheld, since_ms=since_ms)


def let_go_old(draft: Draft) -> None:
    """Lets the oldest records go, up to a mark, when they are too many or too old; a checkpoint tells of it."""
    state, head = draft.state, draft.state.audit_head
    latest_ms = _ms(draft.now - state.settings.audit_kept_s)
    surplus = head.sequence + 1 - head.kept_from - state.settings.audit_kept_max
    last: rows.AuditMark | None = None
    for mark in state.audit_marks.values():
        count = mark.sequence + 1 - head.kept_from
        if (count > surplus and mark.at_ms > latest_ms) or count > LET_GO_AT_ONCE_MAX:
            break
        last = mark
        draft.remove(rows.AUDIT_MARK, key_of(mark.sequence))
    if last is None:
        return
    for sequence in range(head.kept_from, last.sequence + 1):
        draft.remove(rows.AUDIT, key_of(sequence))
    draft.audit_head = replace(head, kept_from=last.sequence + 1, let_go_event_hash=last.event_hash)
    draft.note(AuditKind.CHECKPOINT, "", let_go_to=last.sequence, let_go_event_hash=last.event_hash)


def chained(head: rows.AuditHead, noted: list[AuditInput], now: float) -> Batch:
    """The changes that put what was noted at the end of the log."""
    changes: list[Change] = []
    at_ms, record = max(_ms(now), head.at_ms), None
    for given in noted:
        record = _next(head, record, given, at_ms)
        key = key_of(record.sequence)
        changes.append(Change(rows.AUDIT, key, record))
        if record.sequence % MARK_EVERY == 0:
            mark = rows.AuditMark(record.sequence, record.current_event_hash, at_ms)
            changes.append(Change(rows.AUDIT_MARK, key, mark))
    if record is not None:
        head = replace(head, sequence=record.sequence, event_hash=record.current_event_hash, at_ms=at_ms)
        changes.append(Change(rows.AUDIT_HEAD, rows.THE_HEAD, head))
    return tuple(changes)


def key_of(sequence: int) -> str:
    """The key of a record's row; keys sort as the records do."""
    return f"{sequence:016d}"


def _next(head: rows.AuditHead, before: AuditRecord | None, given: AuditInput, at_ms: int) -> AuditRecord:
    if before is None:
        return assemble_record(given, head.sequence + 1, at_ms, head.event_hash)
    return assemble_record(given, before.sequence + 1, at_ms, before.current_event_hash)


def _ms(moment: float) -> int:
    return int(moment * 1000)
