"""The provisioning journal: what was intended before each changing call, and what came of it.

It lies in the fabric's home, one SQLite file for all stacks. Nothing is asked of a cloud that could create or delete
before its intent is on the disk. So after a crash at any moment the journal names every resource that may exist:

    (nothing) ──> intended ──> begun ──> ready ──> unmaking ──> gone
                     │  │        └────> failed ──────┘ ^          │
                     │  └──> refused: the call had no effect      │
                     └<───────── the next attempt ────────────────┘

The journal speeds recovery up and makes it sure; it is not needed for it. When it is lost, what exists is found again
by its key and its signed tags, after a wait that is longer than the cloud's listing lag (``lost_at``).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from enum import StrEnum
from typing import Any

import msgspec

from grafos_connectors.contract import Kind, Operation, Ref
from grafos_core.changes import Change, RowCodec
from grafos_core.clock import Clock
from grafos_core.errors import GrafosError
from grafos_core.fabric import Fabric
from grafos_core.paths import private_folder
from grafos_core.rowfile import RowFile
from grafos_stacks.plan import StackPlan
from grafos_stacks.publishing_plan import Publication

BUSY_S = 10.0
"""How long a commit waits for another process's commit, which takes milliseconds."""
LOCK_ASK_EVERY_S, LOCK_ASK_EVERY_S_MAX = 0.002, 0.1
"""A lock that is held for milliseconds is asked for again soon, one that is held for long ever less often."""

STACK, RESOURCE, ABOUT = "stack", "resource", "about"
DIRECT = "direct"
"""The engine that owns what it made; another one takes a stack over only by command."""


class Life(StrEnum):
    """Where a resource is between intent and end; see the module."""

    INTENDED = "intended"
    BEGUN = "begun"
    READY = "ready"
    REFUSED = "refused"
    FAILED = "failed"
    UNMAKING = "unmaking"
    GONE = "gone"


NEXT_LIVES: dict[Life, tuple[Life, ...]] = {
    Life.INTENDED: (Life.BEGUN, Life.READY, Life.REFUSED, Life.INTENDED, Life.UNMAKING, Life.GONE),
    Life.BEGUN: (Life.READY, Life.FAILED, Life.INTENDED, Life.UNMAKING, Life.GONE),
    Life.READY: (Life.READY, Life.INTENDED, Life.UNMAKING, Life.GONE),
    Life.REFUSED: (Life.INTENDED, Life.READY, Life.GONE),
    Life.FAILED: (Life.INTENDED, Life.READY, Life.UNMAKING, Life.GONE),
    Life.UNMAKING: (Life.UNMAKING, Life.GONE, Life.READY, Life.INTENDED),
    Life.GONE: (Life.INTENDED, Life.READY),
}
"""Every step that a resource's row may take; any other is a bug."""


class StackState(StrEnum):
    """``making`` until everything is ready, ``unmaking`` from the first step of teardown to its receipt."""

    MAKING = "making"
    MADE = "made"
    UNMAKING = "unmaking"
    GONE = "gone"


class ResourceRow(msgspec.Struct, frozen=True):
    """One resource of a stack. ``key`` is also the row's key, but for a surplus one found in the cloud.

    ``first_at`` is when any attempt at it was first intended, ``intended_at`` the latest intent to make or unmake,
    ``changed_at`` the latest step. ``doubt_at`` is when a refusal left it open whether something is there which no read
    shows yet: a conflict (the first one), or any that came after a call without an answer. ``ref`` is known from the
    answer of the create call on.
    """

    key: str
    stack: str
    name: str
    kind: Kind
    region: str
    zone: str
    attempt: int
    token: str
    life: Life
    first_at: float
    intended_at: float
    changed_at: float
    tags: dict[str, str] = {}
    ref: Ref | None = None
    operation: Operation | None = None
    why: str = ""
    doubt_at: float = 0.0

    @property
    def row_key(self) -> str:
        """Unique among rows: a surplus resource bears the key of the one that it duplicates."""
        return self.key if self.name else f"{self.key}/{self.ref.id if self.ref else ''}"

    def moved(self, life: Life, now: float, **fields: object) -> ResourceRow:
        """The row after a step."""
        assert life in NEXT_LIVES[self.life], f"a resource that is {self.life} cannot become {life}"
        return msgspec.structs.replace(self, life=life, changed_at=now, **fields)


class Homecoming(msgspec.Struct, frozen=True):
    """What a teardown brought home from a cell before it ended. ``why`` tells what could not be brought."""

    runs: int
    settled: bool
    spent_micro_cents: int
    why: str = ""


class Move(msgspec.Struct, frozen=True):
    """That a cell was tried at a place, and then at another; ``code`` and ``why`` are the refusal."""

    before: str
    after: str
    code: str
    why: str


class StackRow(msgspec.Struct, frozen=True):
    """One stack: a cell's, with its plan and hold, a published image's, with that and hold, or a region's shared
    network, without.

    ``extending_to`` (Unix seconds) is the end that the cell is being given, 0 unless that was begun and not finished.
    ``moves`` tells where it was tried before; ``leaving``: it is unmade because another place is tried next.
    ``replaces`` is the cell whose place it takes.
    """

    stack: str
    provider: str
    region: str
    account: str
    state: StackState
    created_at: float
    changed_at: float
    engine: str = DIRECT
    plan: StackPlan | None = None
    hold_id: str = ""
    homecoming: Homecoming | None = None
    extending_to: int = 0
    moves: tuple[Move, ...] = ()
    leaving: bool = False
    publication: Publication | None = None
    replaces: str = ""

    def moved(self, state: StackState, now: float, **fields: object) -> StackRow:
        """The row in another state."""
        return msgspec.structs.replace(self, state=state, changed_at=now, **fields)


class About(msgspec.Struct, frozen=True):
    """``lost_at``: when this journal was begun because the one before it was missing, else 0."""

    begun_at: float
    lost_at: float


_CODEC = RowCodec({STACK: StackRow, RESOURCE: ResourceRow, ABOUT: About})


class JournalWriter:
    """Makes the rows of many threads durable together: who comes while another one waits for the disk is taken along in
    the next commit. Each thread reads by a ``Journal`` of its own that was given this writer.

    A commit that fails fails for all in it. Closing it is the caller's, after the threads.
    """

    def __init__(self, fabric: Fabric, clock: Clock) -> None:
        self._journal = Journal(fabric, clock)
        self._committing = threading.Lock()
        self._waiting: list[tuple[tuple[StackRow | ResourceRow, ...], Future[None]]] = []

    def write(self, *rows: StackRow | ResourceRow) -> None:
        """As ``Journal.write``: the rows are on the disk when it returns."""
        written: Future[None] = Future()
        self._waiting.append((rows, written))
        with self._committing:
            if not written.done():
                self._commit()
        written.result()

    def close(self) -> None:
        """Closes its journal."""
        self._journal.close()

    def _commit(self) -> None:
        """Everything that waits, in the order in which it came."""
        taken = [self._waiting.pop(0) for _ in range(len(self._waiting))]
        try:
            self._journal.write(*(row for rows, _ in taken for row in rows))
        except BaseException as error:  # noqa: BLE001  whatever it is, each thread that waits must hear of it
            for _, written in taken:
                written.set_exception(error)
            return
        for _, written in taken:
            written.set_result(None)


class Journal:
    """The journal of one fabric, open in one thread of one process; other processes may have it open too.

    With a ``writer`` it only reads for itself.
    """

    def __init__(self, fabric: Fabric, clock: Clock, writer: JournalWriter | None = None) -> None:
        self._writer = writer
        self.path = fabric.home / "journal.db"
        self._locks = fabric.home / "locks"
        with _told():
            noun = "provisioning journal"
            self._file = RowFile(self.path, _CODEC, noun=noun, invalid_code="journal_invalid", wait_s=BUSY_S)
            try:
                self._begin(fabric, clock.now())
            except BaseException:
                self._file.close()
                raise

    @property
    def lost_at(self) -> float:
        """When it was noticed that an earlier journal is missing; 0 if none is."""
        return next((about.lost_at for about in self._rows(ABOUT)), 0.0)

    def stack(self, stack: str) -> StackRow | None:
        """The stack's row."""
        return next((row for row in self._rows(STACK, stack) if row.stack == stack), None)

    def stacks(self) -> list[StackRow]:
        """All stacks, by name; also those that are gone."""
        return self._rows(STACK)

    def resources(self, stack: str) -> dict[str, ResourceRow]:
        """The resources of a stack by row key; also those that are gone."""
        return {row.row_key: row for row in self._rows(RESOURCE, f"{stack}/")}

    def write(self, *rows: StackRow | ResourceRow) -> None:
        """Makes rows durable, all or none, in one transaction."""
        if self._writer is not None:
            self._writer.write(*rows)
            return
        try:
            with _told(), self._file.transaction():
                self._file.write(tuple(_change(row) for row in rows))
        except GrafosError as error:
            if error.code != "store_failed":
                raise
            raise GrafosError(
                "store_failed",
                "the provisioning journal could not be written, so nothing was asked of the cloud",
                where=error.where,
                why=error.why,
                next="free disk space and run the command again: it continues",
            ) from error

    @contextlib.contextmanager
    def lock(
        self, stack: str, *, patience_s: float = 0.0, sleep: Callable[[float], object] | None = None
    ) -> Iterator[None]:
        """Nobody else works on the stack inside this block; ``stack_busy`` after ``patience_s``.

        The operating system holds the lock, so it dies with its process.
        """
        path = private_folder(self._locks) / f"{stack}.lock"
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            pause_s = LOCK_ASK_EVERY_S
            while not _locked(handle):
                if patience_s <= 0 or sleep is None:
                    raise _busy(stack, os.pread(handle, 64, 0).decode(errors="replace"))
                patience_s -= pause_s
                sleep(pause_s)
                pause_s = min(1.5 * pause_s, LOCK_ASK_EVERY_S_MAX)
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
            yield
        finally:
            os.close(handle)

    def is_busy(self, stack: str) -> bool:
        """Whether another command works on the stack right now."""
        try:
            with self.lock(stack):
                return False
        except GrafosError as error:
            if error.code != "stack_busy":
                raise
            return True

    def close(self) -> None:
        """Closes the file; closing twice is harmless."""
        self._file.close()

    def _begin(self, fabric: Fabric, now: float) -> None:
        """Notes once how this journal began: in a fabric that had one before, it was lost."""
        self._file.check_pages()
        if self._file.scan(ABOUT):
            return
        with self._file.transaction():
            if not self._file.scan(ABOUT):  # and nobody else was faster
                about = About(begun_at=now, lost_at=now if fabric.has_provisioned else 0.0)
                self._file.write((Change(ABOUT, ABOUT, about),))

    def _rows(self, kind: str, prefix: str = "") -> list[Any]:
        with _told():
            return self._file.scan(kind, prefix)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """A journal that cannot be read has a next step of its own: it is not needed."""
    try:
        yield
    except GrafosError as error:
        if error.code == "journal_invalid":
            error.next = "move the file away and run the command again: what exists is found by its signed tags"
        raise


def _change(row: StackRow | ResourceRow) -> Change:
    """A resource's row lies under its stack's name, so that one stack's rows are read without the others'."""
    if isinstance(row, StackRow):
        return Change(STACK, row.stack, row)
    return Change(RESOURCE, f"{row.stack}/{row.row_key}", row)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _busy(stack: str, holder: str) -> GrafosError:
    return GrafosError(
        "stack_busy",
        f"another command (process {holder or 'unknown'}) works on {stack}",
        next="wait until it has ended, then run this one again",
    )
