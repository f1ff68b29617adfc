"""The fabric: its key, its ledger, its journal, and whether they and the cells' records tell one story."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from grafos_cli.checkups.findings import Finding, Status
from grafos_core import ledger as ledgers
from grafos_core.clock import SystemClock
from grafos_core.fabric import OPERATOR_ACCOUNT, Fabric, open_fabric
from grafos_core.ledger import Ledger
from grafos_core.money import format_cents
from grafos_core.paths import PRIVATE_FOLDER, data_home
from grafos_stacks.journal import Journal, StackRow, StackState
from grafos_stacks.records import CellHome, CellRecord

AREA = "fabric"
NAME = "default"
PRIVATE_FILE = 0o600
OTHERS = 0o077
UNFINISHED_S = 1800.0
"""A provision takes a minute or two; one that is this old is not under way any more."""


def check_fabric(*, fix: bool) -> Iterator[Finding]:
    """Nothing is made: without a key there is no fabric yet, and that is told."""
    home = data_home() / NAME
    if not (home / "fabric-key.pem").exists():
        yield Finding(AREA, "key", Status.NONE, "no fabric yet; the first command that needs one makes it")
        return
    yield from _private(home, fix=fix)
    fabric = open_fabric(SystemClock(), NAME)
    yield Finding(AREA, "key", Status.OK, f"{fabric.id} in {home}")
    with fabric.ledger() as transaction:
        ledger = transaction.ledger
    account = ledger.accounts[OPERATOR_ACCOUNT]
    held, cap = format_cents(account.held_micro_cents), format_cents(account.cap_micro_cents)
    yield Finding(AREA, "ledger", Status.OK, f"{held} held of a cap of {cap} for cells")
    yield from _journal(fabric, ledger)


def _private(home: Path, *, fix: bool) -> Iterator[Finding]:
    """Keys, tokens and the ledger are for the owner alone."""
    wrong = [path for path in (home, *home.rglob("*")) if not path.is_symlink() and path.stat().st_mode & OTHERS]
    if not wrong:
        yield Finding(AREA, "modes", Status.OK, "nobody else can read it")
        return
    if fix:
        for path in wrong:
            path.chmod(PRIVATE_FOLDER if path.is_dir() else PRIVATE_FILE)
        yield Finding(
            AREA, "modes", Status.FIXED, f"{len(wrong)} files were open to others; now only you can read them"
        )
        return
    what = f"{len(wrong)} files are open to others, first {wrong[0]}"
    yield Finding(AREA, "modes", Status.FAIL, what, "grafos doctor --fix closes them")


def _journal(fabric: Fabric, ledger: Ledger) -> Iterator[Finding]:
    """A journal that cannot be read is told by what opens it."""
    if fabric.has_provisioned and not (fabric.home / "journal.db").exists():
        what = "this fabric has provisioned before, and its journal is gone"
        yield Finding(AREA, "journal", Status.FAIL, what, "grafos cloud recover")
        return
    if not fabric.has_provisioned:
        yield Finding(AREA, "journal", Status.NONE, "nothing was ever provisioned")
        return
    with contextlib.closing(Journal(fabric, SystemClock())) as journal:
        stacks = journal.stacks()
    yield Finding(AREA, "journal", Status.OK, f"{len(stacks)} stacks")
    yield from consistency(stacks, _records(fabric), ledger, time.time())


def _records(fabric: Fabric) -> list[CellRecord]:
    homes = [CellHome(fabric, cell_id) for cell_id in fabric.cell_ids()]
    return [home.record() for home in homes if home.is_recorded]


def consistency(stacks: list[StackRow], records: list[CellRecord], ledger: Ledger, now: float) -> Iterator[Finding]:
    """Where journal, records and ledger contradict each other, or wait for somebody. Pure."""
    living = {row.stack: row for row in stacks if row.plan is not None and row.state is not StackState.GONE}
    findings = [
        *(_unfinished(row, now) for row in living.values()),
        *(_overdue(row, now) for row in living.values()),
        *(_unknown(record, living) for record in records),
        *(_unclaimed(hold, living) for hold in ledger.holds.values()),
    ]
    found = [finding for finding in findings if finding is not None]
    yield from found or [Finding(AREA, "state", Status.OK, "journal, records and ledger agree")]


def _unfinished(row: StackRow, now: float) -> Finding | None:
    if row.state is StackState.MADE or now - row.changed_at < UNFINISHED_S:
        return None
    verb = "provision" if row.state is StackState.MAKING else "teardown"
    what = f"{row.stack}: a {verb} was begun {(now - row.changed_at) / 3600:.1f} h ago and never finished"
    undo = f"grafos cloud teardown {row.provider} --cell-id {row.stack}"
    return Finding(AREA, "state", Status.WARN, what, undo)


def _overdue(row: StackRow, now: float) -> Finding | None:
    if row.plan is None or row.plan.expires_at > now:
        return None
    what = f"{row.stack} ran out; what is left of it has not been proved gone"
    return Finding(AREA, "state", Status.WARN, what, f"grafos cloud teardown {row.provider} --cell-id {row.stack}")


def _unknown(record: CellRecord, living: dict[str, StackRow]) -> Finding | None:
    if record.provider == "local" or record.gone_at or record.cell_id in living:
        return None
    what = f"{record.cell_id} has a record, and the journal does not know it"
    return Finding(AREA, "state", Status.WARN, what, "grafos cloud recover")


def _unclaimed(hold: ledgers.Hold, living: dict[str, StackRow]) -> Finding | None:
    """Money that waits for a cell which nobody knows."""
    stack = hold.hold_id.split("/")[1] if hold.hold_id.startswith("cell/") else ""
    if hold.state != ledgers.OPEN or not stack or stack in living:
        return None
    what = f"{format_cents(hold.amount_micro_cents)} are held for {stack}, which the journal does not know"
    return Finding(AREA, "state", Status.WARN, what, "grafos cloud recover")
