"""Where a fabric's ledger is kept: in the fabric's home, or at its orchestrator. Never in both open for writing.

    here ──begin, of a later generation──> moving ──taken there──> moved ──begin──> coming ──arrived──> here

From ``moving`` on nothing is booked in the home's file; the row that says so lies in that very file, under its lock. It
keeps what it held, as a copy, until the ledger comes home again. Whoever finds ``moving`` or ``coming`` goes on with
it. What ends while the orchestrator is out of reach waits in the file too, and is booked before anything else is.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

import msgspec

from grafos_core import ledger as ledgers
from grafos_core.booking import Ending, LedgerCopy, check_adds_up, ended
from grafos_core.changes import Batch, Change, RowCodec
from grafos_core.errors import GrafosError
from grafos_core.ledger import Decide, Ledger
from grafos_core.rowfile import RowFile

PLACE, ENDING = "place", "ending"


class Standing(StrEnum):
    """Where the ledger is, or between where; see the module."""

    HERE = "here"
    MOVING = "moving"
    MOVED = "moved"
    COMING = "coming"


class Place(msgspec.Struct, frozen=True):
    """``generation`` counts how often the ledger left its home. ``keeper`` is the orchestrator that has it or gets it,
    ``keeper_ca_sha256`` its CA, ``digest`` that of what moved there; ``since`` (Unix seconds) is when it became so.
    ``fetch`` was drawn when it was to come home, so that the keeper gives it to one home. ``lost`` are the generations
    that never came home."""

    standing: Standing = Standing.HERE
    generation: int = 0
    keeper: str = ""
    url: str = ""
    keeper_ca_sha256: str = ""
    digest: str = ""
    since: float = 0.0
    fetch: str = ""
    lost: tuple[int, ...] = ()

    @property
    def is_here(self) -> bool:
        """Whether the home's own file is open for writing."""
        return self.standing is Standing.HERE


CODEC = RowCodec({**ledgers.KINDS, PLACE: Place, ENDING: Ending})


class Books(Protocol):
    """A ledger that is kept elsewhere, for whoever books there. Raises ``scheduler_unreachable`` and the like."""

    def read(self) -> Ledger:
        """The ledger as it is."""
        ...

    def book(self, decide: Decide) -> Ledger:
        """As ``Fabric.book``."""
        ...


class LedgerTransaction:
    """The home's file as it is under its lock, and the way to change it."""

    def __init__(self, file: RowFile) -> None:
        self._file = file
        self.ledger = Ledger()
        self.place = Place()
        self.waiting: dict[str, Ending] = {}
        for kind, key, row in file.load():
            if kind == PLACE:
                self.place = row
            elif kind == ENDING:
                self.waiting[key] = row
            else:
                self.ledger.apply((Change(kind, key, row),))

    def write(self, batch: Batch) -> None:
        """Takes over a batch from ``grafos_core.ledger``'s functions; ``ledger_elsewhere`` if it is not here."""
        if batch and not self.place.is_here:
            raise kept_elsewhere(self.place)
        self._file.write(batch)
        self.ledger.apply(batch)

    def go(self, place: Place) -> None:
        """Notes where the ledger is from now on."""
        self._file.write((Change(PLACE, PLACE, place),))
        self.place = place

    def copy(self, generation: int) -> LedgerCopy:
        """All that the file holds."""
        accounts, holds = tuple(self.ledger.accounts.values()), tuple(self.ledger.holds.values())
        return LedgerCopy(generation, accounts, holds, self.place.lost)

    def follow(self, copy: LedgerCopy, place: Place) -> None:
        """Takes ``copy`` in place of all that the file held, which is at ``place`` from now on; what waits goes on
        waiting. ``request_invalid`` for a copy that is no ledger."""
        check_adds_up(copy)
        batch: Batch = (
            *(Change(ledgers.ACCOUNT, name, None) for name in self.ledger.accounts),
            *(Change(ledgers.HOLD, hold_id, None) for hold_id in self.ledger.holds),
            *(Change(ledgers.ACCOUNT, account.name, account) for account in copy.accounts),
            *(Change(ledgers.HOLD, held.hold_id, held) for held in copy.holds),
        )
        self.go(place)
        self._file.write(batch)
        self.ledger.apply(batch)

    def come_home(self, copy: LedgerCopy, place: Place) -> None:
        """The same for one that is open here for writing again; what waited is booked."""
        self.follow(copy, place)
        for ending in self.waiting.values():
            self.write(ended(self.ledger, ending))
        self.forget_waiting(frozenset(self.waiting))

    def keep_waiting(self, ending: Ending) -> None:
        """Keeps an ending for when the ledger can be reached."""
        key = f"{max((int(key) for key in self.waiting), default=0) + 1:08}"
        self._file.write((Change(ENDING, key, ending),))
        self.waiting[key] = ending

    def forget_waiting(self, keys: frozenset[str]) -> None:
        """Lets endings go that were booked."""
        self._file.write(tuple(Change(ENDING, key, None) for key in keys))
        self.waiting = {key: ending for key, ending in self.waiting.items() if key not in keys}


def kept_elsewhere(place: Place) -> GrafosError:
    """Why nothing is booked in the home's own file."""
    return GrafosError(
        "ledger_elsewhere",
        f"the fabric's ledger is kept by {place.keeper or 'its orchestrator'}, and closed here",
        where=place.url,
        next="bring it home first: grafos fabric bring-home",
    )
