"""The bodies of the routes by which an operator books in the fabric's ledger while an orchestrator keeps it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from grafos_core.booking import Generation, LedgerCopy, Lost
from grafos_core.ledger import Account, Hold
from grafos_scheduler.messages import Hex256

HOLDS_PAGE_MAX = 2_000
"""Of a few hundred bytes each."""
FETCH_PATTERN = r"^([0-9a-f]{32})?$"


class LedgerState(StrEnum):
    """How the ledger stands at an orchestrator; ``none``: it was never there."""

    NONE = "none"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class LedgerQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``after`` is the ``next`` of the page before."""

    after: Annotated[str, msgspec.Meta(max_length=512)] = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=HOLDS_PAGE_MAX)] = HOLDS_PAGE_MAX


class LedgerView(msgspec.Struct, frozen=True):
    """How the ledger stands here.

    ``generation`` and ``digest`` are those of the copy that came; once it is closed, the digest is that of what goes.
    ``revision`` grows with every booking. ``running`` runs still hold money of tenants while it is closing. ``lost`` is
    what the copy said of generations that never came home.
    """

    state: LedgerState
    generation: int = 0
    digest: str = ""
    revision: int = 0
    running: int = 0
    lost: Lost = ()


class LedgerPage(msgspec.Struct, frozen=True):
    """Every account, and the operator's holds by their ids: for cells, and slices. Those of runs are in ``held`` of
    their accounts alone, and what they spent since the ledger came is in ``spent_here`` too, by account. ``next`` is
    the cursor for further holds; pages with an equal ``ledger`` belong together."""

    ledger: LedgerView
    accounts: list[Account]
    holds: list[Hold]
    next: str = ""
    spent_here: dict[str, int] = {}


class LedgerRows(msgspec.Struct, frozen=True):
    """The rows that a booking touched, as they are now."""

    accounts: list[Account]
    holds: list[Hold]
    revision: int


class LedgerMove(msgspec.Struct, frozen=True):
    """``PUT /api/v1/ledger``: the whole ledger, closed where it comes from. ``digest`` is ``booking.digest_of`` it."""

    ledger: LedgerCopy
    digest: Hex256


class LedgerClosing(msgspec.Struct, frozen=True):
    """``POST /api/v1/ledger/close``: the ledger of this generation goes home. ``spend_running``: what runs under way
    hold counts as spent in full; without, the ledger stays ``closing`` until they have ended. ``fetch`` is what the
    home drew that fetches it; another one is refused, unless it says ``take_over``: the home before is lost."""

    generation: Generation
    spend_running: bool = False
    fetch: Annotated[str, msgspec.Meta(pattern=FETCH_PATTERN)] = ""
    take_over: bool = False
