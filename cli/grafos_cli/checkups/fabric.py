"""The fabric: its key, its ledger, its journal, and whether they and the cells' records tell one story."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from grafos_cli.checkups.findings import Finding, Status
from grafos_cli.fictional import emulated_cells, fictional_of, fictional_text
from grafos_cli.ledger_home import ledger_text
from grafos_cli.moments import age_text
from grafos_cli.opening import open_home
from grafos_core import ledger as ledgers
from grafos_core.clock import SystemClock
from grafos_core.errors import GrafosError
from grafos_core.fabric import OPERATOR_ACCOUNT, Fabric
from grafos_core.guest import open_guest
from grafos_core.ledger import Ledger
from grafos_core.ledger_place import Place, Standing
from grafos_core.money import format_cents
from grafos_core.paths import PRIVATE_FOLDER, data_home
from grafos_stacks.journal import Journal, StackRow, StackState
from grafos_stacks.orchestrators import OrchestratorHome
from grafos_stacks.records import CellHome, CellRecord, tenant_name

AREA = "fabric"
NAME = "default"
PRIVATE_FILE = 0o600
OTHERS = 0o077
JOURNAL_FILE = "journal.db"


def check_fabric(*, fix: bool) -> Iterator[Finding]:
    """Nothing is made: without a key there is no fabric yet, and that is told."""
    home = data_home() / NAME
    yield from _account()
    if not (home / "fabric-key.pem").exists():
        yield Finding(AREA, "key", Status.NONE, "no fabric yet; the first command that needs one makes it")
        return
    yield from _private(home, fix=fix)
    fabric = open_home()
    yield Finding(AREA, "key", Status.OK, f"{fabric.id} in {home}")
    with fabric.ledger() as local:
        place, waiting = local.place, len(local.waiting)
    yield from _half_moved(place, waiting)
    try:
        ledger = fabric.read_ledger()
    except GrafosError as error:
        yield Finding(AREA, "ledger", Status.FAIL, f"{ledger_text(place)}: {error.what}", error.next)
        return
    where = "" if place.is_here else f", {ledger_text(place)}"
    yield Finding(AREA, "ledger", Status.OK, _money(fabric, ledger) + where)
    try:
        yield from _journal(fabric, ledger)
    except GrafosError as error:
        if error.code != "journal_invalid":
            raise
        yield _unreadable(fabric, error, fix=fix)


def _account() -> Iterator[Finding]:
    """Somebody else's fabric where we are signed in."""
    guest = open_guest()
    if guest is None:
        return
    home, who = OrchestratorHome(guest), tenant_name(guest.account.tenant)
    what = f"{guest.account.text} of {guest.id}, at {home.known().url}"
    left_s = home.ends_at(who) - time.time()
    if left_s <= 0:
        again = "grafos account logout --forget, then sign in with a fresh invitation"
        yield Finding(AREA, "account", Status.FAIL, f"{what}: the credentials ran out", again)
    else:
        yield Finding(AREA, "account", Status.OK, f"{what}; credentials for {age_text(left_s)}, renewed by use")


def _half_moved(place: Place, waiting: int) -> Iterator[Finding]:
    """A move that was cut short, and what could not be booked while nobody could reach the ledger."""
    if place.standing in (Standing.MOVING, Standing.COMING):
        again = "grafos fabric claim URL" if place.standing is Standing.MOVING else "grafos fabric bring-home"
        what = f"the ledger is {ledger_text(place)}"
        yield Finding(AREA, "ledger move", Status.WARN, what, f"{again}  goes on; so does any command that books")
    if waiting:
        what = f"{waiting} settlements wait until the orchestrator at {place.url} answers"
        yield Finding(AREA, "settlements", Status.WARN, what, "grafos cloud budget show  books them")


def _money(fabric: Fabric, ledger: Ledger) -> str:
    account = ledger.accounts[OPERATOR_ACCOUNT]
    held, cap = format_cents(account.held_micro_cents), format_cents(account.cap_micro_cents)
    fictional = fictional_text(*fictional_of(ledger.holds.values(), OPERATOR_ACCOUNT, emulated_cells(fabric)))
    return f"{held} held of a cap of {cap} for cells" + (f"; {fictional}" if fictional else "")


def _unreadable(fabric: Fabric, error: GrafosError, *, fix: bool) -> Finding:
    """Nothing is lost with a journal that cannot be read: it is kept, and recover makes a new one from signed tags."""
    what = f"{error.code}: {error.what} ({error.why})"
    if not fix:
        return Finding(
            AREA, "journal", Status.FAIL, what, "grafos doctor --fix sets it aside; then grafos cloud recover"
        )
    aside = f"unreadable-{time.time_ns()}"
    for file in (JOURNAL_FILE, f"{JOURNAL_FILE}-journal", f"{JOURNAL_FILE}-wal", f"{JOURNAL_FILE}-shm"):
        if (fabric.home / file).exists():
            (fabric.home / file).rename(fabric.home / f"{aside}-{file}")
    what = f"it could not be read and was set aside as {aside}-{JOURNAL_FILE}"
    return Finding(AREA, "journal", Status.FIXED, what, "grafos cloud recover  finds again what exists")


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
    if not (fabric.home / JOURNAL_FILE).exists():
        if fabric.has_provisioned:
            what = "this fabric has provisioned before, and its journal is gone"
            yield Finding(AREA, "journal", Status.FAIL, what, "grafos cloud recover")
        else:
            yield Finding(AREA, "journal", Status.NONE, "nothing was ever provisioned")
        return
    with contextlib.closing(Journal(fabric, SystemClock())) as journal:
        stacks = journal.stacks()
        cut_short = [row.stack for row in stacks if row.state in (StackState.MAKING, StackState.UNMAKING)]
        busy = frozenset(stack for stack in cut_short if journal.is_busy(stack))
    yield Finding(AREA, "journal", Status.OK, f"{len(stacks)} stacks")
    yield from consistency(stacks, _records(fabric), ledger, time.time(), busy)


def _records(fabric: Fabric) -> list[CellRecord]:
    homes = [CellHome(fabric, cell_id) for cell_id in fabric.cell_ids()]
    return [home.record() for home in homes if home.is_recorded]


def consistency(
    stacks: list[StackRow], records: list[CellRecord], ledger: Ledger, now: float, busy: Collection[str] = ()
) -> Iterator[Finding]:
    """Where journal, records and ledger contradict each other, or wait for somebody. Pure. ``busy`` are the stacks that
    another command works on."""
    living = {row.stack: row for row in stacks if row.plan is not None and row.state is not StackState.GONE}
    findings = [
        *(_unfinished(row, now) for row in living.values() if row.stack not in busy),
        *(_overdue(row, now) for row in living.values()),
        *(_unknown(record, living) for record in records),
        *(_unclaimed(hold, living) for hold in ledger.holds.values()),
    ]
    found = [finding for finding in findings if finding is not None]
    yield from found or [Finding(AREA, "state", Status.OK, "journal, records and ledger agree")]


def _unfinished(row: StackRow, now: float) -> Finding | None:
    if row.state is StackState.MADE:
        return None
    verb = "provision" if row.state is StackState.MAKING else "teardown"
    what = f"{row.stack}: a {verb} was begun {(now - row.changed_at) / 60:.0f} min ago and is not finished"
    undo = f"grafos cloud recover  finishes it; grafos cloud teardown {row.provider} --cell-id {row.stack}  undoes it"
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
