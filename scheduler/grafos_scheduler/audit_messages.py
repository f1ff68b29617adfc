"""REST shapes of the audit log, the same from a standalone cell's scheduler and an orchestrator."""

from __future__ import annotations

from typing import Annotated

import msgspec

from grafos_core.audit_chain import AuditRecord

AUDIT_PAGE_MAX = 1000

Text = Annotated[str, msgspec.Meta(max_length=128)]


class AuditQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which records: those of this ``kind``, tenant or cell (empty: all), from ``since`` on and before ``until`` (Unix
    seconds; 0: no bound), that come ``after`` this sequence number."""

    kind: Text = ""
    tenant: Text = ""
    cell_id: Text = ""
    since: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    until: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    after: Annotated[int, msgspec.Meta(ge=0)] = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=AUDIT_PAGE_MAX)] = 100


class AuditPage(msgspec.Struct, frozen=True):
    """Records in their order. ``after`` is the last one that was looked at; ask on from it while ``more``, also when
    there are no records. The log ended at the record ``head_sequence``, and began at ``kept_from``: what came before
    was let go, the last of it with the hash ``let_go_event_hash``."""

    scheduler: str
    records: list[AuditRecord]
    after: int
    more: bool
    head_sequence: int
    head_event_hash: str
    kept_from: int
    let_go_event_hash: str
