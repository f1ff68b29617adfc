"""`grafos admin audit-query`: what the audit log of a scheduler says, and whether it is whole."""

from __future__ import annotations

import re
import time
from collections import deque
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from grafos_cli.taught import taught, terminal_of

if TYPE_CHECKING:
    from grafos_cli.reach import Reach
    from grafos_cli.terminal import Terminal
    from grafos_core.audit_chain import AuditRecord
    from grafos_scheduler.audit_messages import AuditPage, AuditQuery
    from grafos_scheduler.client import SchedulerClient

LIMIT_MAX = 100_000
"""Records that one command lists; who wants more goes on with ``--after``."""
_HASH = re.compile(r"[0-9a-f]{64}")
QUERY = taught(
    examples=(
        "grafos admin audit-query --after 0 --stream >> audit.jsonl",
        "grafos admin audit-query --kind LeaseRevoked --since 2026-11-01",
        "grafos admin audit-query --verify --json | jq -r .head_event_hash",
    ),
    next="grafos admin audit-query --verify",
    streams="records",
)


class Listed(NamedTuple):
    """Records, the page that the last of them came with, and what was proved of all of them."""

    records: list[AuditRecord]
    page: AuditPage
    verified: int = 0
    anchor_sequence: int | None = None


def audit_query(
    ctx: typer.Context,
    kind: Annotated[str, typer.Option(metavar="KIND", help="only records of this kind, as LeaseAllocated")] = "",
    tenant: Annotated[str, typer.Option(metavar="NAME", help="only what touches this tenant")] = "",
    cell_id: Annotated[str, typer.Option("--cell-id", metavar="ID", help="only what touches this cell")] = "",
    since: Annotated[
        str, typer.Option(metavar="TIME", help="from then on, as 24h, 2026-11-22 or 2026-11-22T08:00Z")
    ] = "",
    until: Annotated[str, typer.Option(metavar="TIME", help="before then")] = "",
    after: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="what follows record N; default: the newest")
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=LIMIT_MAX, help="records at most")] = 100,
    verify: Annotated[  # noqa: FBT002 - a flag of the command line
        bool, typer.Option("--verify", help="recompute the whole chain here, and print the hash that it ends with")
    ] = False,
    anchor: Annotated[
        str, typer.Option(metavar="HASH", help="prove that the log still has the record with this hash")
    ] = "",
    scheduler: Annotated[
        str, typer.Option(metavar="NAME", help="whose log; default: the orchestrator's, or that of the only cell")
    ] = "",
) -> None:
    """Lists the audit log: who did what, to what, and when.

    The scheduler verifies each record that it reads. With --verify this machine does so by itself, from the log's first
    record to its last. Keep the hash that is printed in another place: with --anchor it proves later that this record,
    and all before it, are as they were.
    """
    from grafos_scheduler.audit_messages import AuditQuery

    terminal = terminal_of(ctx)
    if anchor and not _HASH.fullmatch(anchor):
        raise _usage(f"{anchor[:80]!r} is no hash of a record", "--anchor", "copy the 64 digits that --verify printed")
    query = AuditQuery(_kind(kind), tenant, cell_id, _moment(since, "--since"), _moment(until, "--until"), after or 0)
    reach = _chosen(terminal, scheduler)
    with reach.operator() as client:
        if verify or anchor:
            found = _verified(client, anchor)
        else:
            found = _listed(client, query, limit, newest=after is None and not since)
    _show(terminal, found, anchor)


def _listed(client: SchedulerClient, query: AuditQuery, limit: int, *, newest: bool) -> Listed:
    """The first records that are asked for, or the last."""
    from msgspec.structs import replace

    from grafos_scheduler.audit_messages import AUDIT_PAGE_MAX

    kept: deque[AuditRecord] = deque(maxlen=limit)
    while True:
        left = AUDIT_PAGE_MAX if newest else min(AUDIT_PAGE_MAX, limit - len(kept))
        page = client.audit(replace(query, limit=left))
        kept.extend(page.records)
        if not page.more or (not newest and len(kept) >= limit):
            return Listed(list(kept), page)
        query = replace(query, after=page.after)


def _verified(client: SchedulerClient, anchor: str) -> Listed:
    """Follows the chain through the whole log; ``audit_broken`` where it does not hold, or lacks the anchor."""
    from grafos_core.audit_chain import ChainCheck, broken, let_go
    from grafos_scheduler.audit_messages import AUDIT_PAGE_MAX, AuditQuery

    check, count, anchored = ChainCheck(), 0, None
    begins, begins_well = ChainCheck(), True
    while True:
        page = client.audit(AuditQuery(after=check.sequence, limit=AUDIT_PAGE_MAX))
        if page.kept_from > check.sequence + 1:
            check = ChainCheck(page.kept_from - 1, page.let_go_event_hash)
            begins, begins_well = ChainCheck(check.sequence, check.event_hash), False
            anchored = check.sequence if anchor == check.event_hash else anchored
        for record in page.records:
            check.take(record)
            count += 1
            begins_well = begins_well or let_go(record, begins.sequence, begins.event_hash)
            anchored = check.sequence if anchor == check.event_hash else anchored
        if not page.more:
            break
    if check.event_hash != page.head_event_hash:
        raise broken(check.sequence, "the log does not end with the record that the scheduler wrote last")
    if not begins_well:
        raise broken(begins.sequence + 1, "no checkpoint in the log says that the records before it were let go")
    if anchor and anchored is None:
        first = begins.sequence + 1
        why = f"the log begins at record {first}: an older one was let go" if first > 1 else "it was rewritten"
        raise broken(first, f"no record has the anchor's hash; {why}")
    return Listed([], page, count, anchored)


def _show(terminal: Terminal, found: Listed, anchor: str) -> None:
    import msgspec

    from grafos_cli.tables import facts, table

    page = found.page
    if found.records or not found.verified:
        rows = [_row(one) for one in found.records]
        head = ("RECORD", "TIME", "KIND", "BY", "OF", "DETAILS")
        text = table(head, rows, terminal, "r", spare=("DETAILS",)) if rows else "No record.\n"
        if page.more:
            terminal.note(f"note: there is more; go on with --after {page.after}")
    else:
        told = [
            (
                "verified",
                f"{found.verified} records of {page.scheduler}, from {page.kept_from} to {page.head_sequence}",
            ),
            ("last hash", page.head_event_hash),
        ]
        if anchor:
            told.append(("anchor", f"it is the hash of record {found.anchor_sequence}"))
        text = facts(told, terminal)
    document = msgspec.to_builtins(page) | {
        "records": [msgspec.to_builtins(one) for one in found.records],
        "verified": found.verified,
        "anchor_sequence": found.anchor_sequence,
    }
    terminal.emit(document, text)


def _row(record: AuditRecord) -> list[str]:
    from grafos_cli.moments import moment_text

    details = " ".join(f"{name}={value}" for name, value in record.details.items())
    when = moment_text(record.at_ms / 1000, seconds=True)
    return [str(record.sequence), when, record.kind, record.by, record.subject, details]


def _chosen(terminal: Terminal, name: str) -> Reach:
    """The scheduler whose log is meant."""
    from grafos_cli.fabric import open_default
    from grafos_cli.project import project_folder
    from grafos_cli.reach import known_reaches
    from grafos_core.errors import GrafosError

    known = known_reaches(open_default(terminal), project_folder(), terminal)
    named = [reach for reach in known if name in ("", reach.cell_id)]
    likely = [reach for reach in named if reach.is_orchestrator] or named
    if len(likely) == 1:
        return likely[0]
    there = ", ".join(reach.cell_id for reach in known) or "none"
    if likely:
        raise _usage("Several schedulers have a log of their own", "--scheduler", f"name one of {there}")
    raise GrafosError(
        "runtime_not_ready" if not known else "cell_unknown",
        "There is no scheduler here whose log could be read" if not known else f"There is no scheduler {name[:60]!r}",
        why=f"there are {there}",
        next="grafos dev up" if not known else f"name one of {there}",
    )


def _kind(text: str) -> str:
    """The kind as the log writes it, however its letters are."""
    from grafos_cli.nearness import nearest
    from grafos_core.audit_chain import AuditKind

    known = {kind.value.lower(): kind.value for kind in AuditKind}
    if not text or text.lower() in known:
        return known.get(text.lower(), "")
    near = nearest(text, list(known.values()))
    raise _usage(f"There are no records of kind {text[:40]!r}", "--kind", f"try {near or ', '.join(known.values())}")


def _moment(text: str, flag: str) -> float:
    """Unix seconds of a moment, or of ``24h`` ago; a time without a zone is UTC."""
    import datetime as dt

    from grafos_cli.sizes import read_duration

    if not text:
        return 0.0
    if "-" not in text:
        return max(0.0, time.time() - read_duration(flag, text))
    try:
        moment = dt.datetime.fromisoformat(text.strip())
    except ValueError:
        raise _usage(
            f"{text[:40]!r} is no moment", flag, "write it like 2026-11-22, 2026-11-22T08:00Z, 24h or 7d"
        ) from None
    return max(0.0, (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp())


def _usage(what: str, where: str, next: str) -> Exception:
    from grafos_core.errors import GrafosError

    return GrafosError("usage", what, where=where, next=next)
