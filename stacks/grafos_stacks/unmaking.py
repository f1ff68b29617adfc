"""The cloud half of teardown: delete what a stack consists of, and prove it gone.

What there is to delete is what the journal knows and what a listing shows, together, so it works when either is
wrong: the journal lost, the machine deleted by hand, the machine never made. Only what bears the fabric's signature
is touched. One resource that cannot be deleted does not keep the others. All that came of it stands in the journal's
rows, so that a teardown which was interrupted tells the whole story when it ends.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from grafos_connectors.contract import TAG_STACK, Found, Kind, State
from grafos_core.errors import GrafosError
from grafos_core.receipts import TornDown
from grafos_stacks.asking import USE_THAT_ACCOUNT, check_account
from grafos_stacks.direct import Engine, Hands
from grafos_stacks.journal import Journal, Life, ResourceRow, StackRow, StackState
from grafos_stacks.layouts import UNMAKE_ORDER, layout_of
from grafos_stacks.making import SHARED_PATIENCE_S
from grafos_stacks.names import attempt_in
from grafos_stacks.plan import shared_stack_of
from grafos_stacks.recovery import Ground, Unmaking, recovery, row_of
from grafos_stacks.spec import is_cell, is_image

ROUNDS_MAX = 4
"""Deleting and listing again: a part that outlived its machine shows up in the second round."""
PARTS_PATIENCE_S = 120.0
PARTS_ASK_EVERY_S = 0.5
"""How long, and how often, to look whether what goes with its machine has gone."""

Place = tuple[Kind, str]


class Site(NamedTuple):
    """Where the cells are that share a network."""

    provider: str
    region: str


@dataclass(frozen=True)
class Unmade:
    """What became of a stack's resources, and what the cloud refused."""

    resources: tuple[TornDown, ...]
    failures: tuple[GrafosError, ...]

    @property
    def left(self) -> tuple[TornDown, ...]:
        """What is not proved gone."""
        return tuple(torn for torn in self.resources if not torn.gone)


@dataclass(frozen=True)
class Listing:
    """All of the fabric's resources in a region, as a listing begun ``at`` that time shows them."""

    at: float
    found: tuple[Found, ...]

    def of(self, stack: str) -> list[Found]:
        """Those of one stack."""
        return [one for one in self.found if one.tags.get(TAG_STACK) == stack and one.state is not State.GONE]

    def shows_others(self, site: Site, leaving: str) -> bool:
        """Whether it shows anything but the region's network and what belongs to ``leaving``."""
        known = (leaving, shared_stack_of(site.provider, site.region))
        others = (one for one in self.found if one.tags.get(TAG_STACK) not in known and one.state is not State.GONE)
        return any(not is_image(one.tags.get(TAG_STACK, "")) for one in others)


def begin_unmaking(hands: Hands, row: StackRow, account: str, what: str) -> StackRow:
    """The stack on its way out; ``cloud_auth`` when ``what`` ("cell-1 was made") was done in another ``account``."""
    everything_gone = f"{USE_THAT_ACCOUNT}: in another one everything looks gone"
    check_account(what, row.account, account, everything_gone)
    if row.state is not StackState.UNMAKING:
        row = row.moved(StackState.UNMAKING, hands.clock.now())
        hands.journal.write(row)
    return row


def resources_left(unmade: Unmade, row: StackRow) -> GrafosError:
    """That something of the stack is not proved gone, and what."""
    left = [f"{torn.kind} {torn.id} ({torn.proof})" for torn in unmade.left]
    first = unmade.failures[0] if unmade.failures else None
    return GrafosError(
        "resources_left",
        f"{len(left)} of {len(unmade.resources)} resources are not proved gone: {'; '.join(left)}",
        where=f"{row.provider} {row.region}",
        why=first.why or first.what if first else "",
        next="run the same command again; if it stays, delete them in the cloud's console",
        context={"left": [msgspec.to_builtins(torn) for torn in unmade.left]},
    )


def unmake_stack(hands: Hands, cell: StackRow, spared: Collection[Kind] = ()) -> Unmade:
    """Deletes a cell's resources, and the shared network if no other cell uses it. The caller holds the stack's lock.

    ``cell`` has been ``UNMAKING`` since ``cell.changed_at``; the journal may know nothing more of it. What is of the
    ``spared`` kinds is for the next one of the name, and the network stays for it, too.
    """
    site = Site(cell.provider, cell.region)
    own, listing = _Stack(hands, site, cell.stack, cell.created_at, spared).unmake()
    if own.left or spared:
        return own
    network = unmake_network(hands, site, listing, cell.changed_at, leaving=cell.stack)
    return Unmade(own.resources + network.resources, own.failures + network.failures)


def unmake_kinds(hands: Hands, cell: StackRow, kinds: Collection[Kind]) -> Unmade:
    """Deletes a cell's own resources of these kinds. The caller holds the stack's lock."""
    others = frozenset(Kind) - frozenset(kinds)
    unmade, _ = _Stack(hands, Site(cell.provider, cell.region), cell.stack, cell.created_at, others).unmake()
    return unmade


def unmake_image(hands: Hands, image: StackRow) -> Unmade:
    """Deletes a published image and all that belongs to it. The caller holds the stack's lock."""
    unmade, _ = _Stack(hands, Site(image.provider, image.region), image.stack, image.created_at).unmake()
    return unmade


def unmake_network(hands: Hands, site: Site, listing: Listing, since: float, leaving: str = "") -> Unmade:
    """Deletes a region's shared network if no cell but ``leaving`` uses it; nothing otherwise.

    Of several cells that are torn down at once, the last to come here finds the others gone.
    """
    shared = shared_stack_of(site.provider, site.region)
    with hands.journal.lock(shared, patience_s=SHARED_PATIENCE_S, sleep=hands.sleep):
        if _used_by_others(hands, site, leaving, listing):
            return Unmade((), ())
        network, _ = _Stack(hands, site, shared, since).unmake()
        row = hands.journal.stack(shared)
        if row is not None and not network.left:
            hands.journal.write(row.moved(StackState.GONE, hands.clock.now()))
    return network


def machine_rows(hands: Hands, cell: StackRow) -> list[ResourceRow]:
    """The machines that this stack had, as their rows stand."""
    rows = hands.journal.resources(cell.stack).values()
    machines = [row for row in rows if row.kind is Kind.MACHINE and row.ref is not None]
    return [row for row in machines if row.changed_at >= cell.created_at]


def is_anything_of(journal: Journal, stack: str) -> bool:
    """Whether anything that was made of it is not known to be gone."""
    return any(row.ref is not None and row.life is not Life.GONE for row in journal.resources(stack).values())


class _Stack:
    """One stack's resources on their way out. ``since``: rows older than that belong to an earlier cell of the name."""

    def __init__(self, hands: Hands, site: Site, stack: str, since: float, spared: Collection[Kind] = ()) -> None:
        self._hands, self._site, self._stack, self._since = hands, site, stack, since
        self._spared = spared
        self._engine = Engine(hands)
        self._dies_with = layout_of(site.provider).dies_with
        self._failures: dict[Place, GrafosError] = {}

    def unmake(self) -> tuple[Unmade, Listing]:
        """Deletes and lists again until the listing shows nothing to delete; then asks for each by its id."""
        for _ in range(ROUNDS_MAX):
            listing, todo = self._decide()
            for row in todo.never_made:
                self._hands.journal.write(row.moved(Life.GONE, self._hands.clock.now(), why="never made"))
            if not self._delete(todo.deletes):
                break
            self._note_what_went_along()
        else:
            listing = self._list()
        return Unmade(self._proved(listing), tuple(self._failures.values())), listing

    def _delete(self, rows: tuple[ResourceRow, ...]) -> bool:
        """Whether any of them went. A refusal is kept for the receipt, and the others are tried all the same."""
        self._failures = {}
        for row in rows:
            try:
                self._engine.unmake(row)
            except GrafosError as error:
                self._failures[_place(row)] = error
        return len(self._failures) < len(rows)

    def _decide(self) -> tuple[Listing, Unmaking]:
        """Lists, as often as it takes until the listing can be believed and nothing in it is on its way out."""
        hands, until = self._hands, self._hands.clock.now() + PARTS_PATIENCE_S
        while True:
            listing, now = self._list(), hands.clock.now()
            found = self._found(listing)
            going = [one for one in found if one.state is State.DELETING and one.ref.kind in self._dies_with]
            rows = [row_of(one, self._stack, "", attempt_in(one.tags), now) for one in found if one not in going]
            lag_s = hands.connector.traits.listing_lag_s
            ground = Ground(now, once=False, lag_s=lag_s, lost_at=hands.journal.lost_at)
            todo = recovery(self._known(), rows, listing.at, ground, self._dies_with)
            if todo.look_not_before:  # also when that moment came while the listing was under way
                self._engine.wait_until(todo.look_not_before, self._stack)
            elif going and not todo.deletes and now < until:
                hands.sleep(PARTS_ASK_EVERY_S)
            else:
                return listing, todo

    def _list(self) -> Listing:
        return Listing(*self._engine.listing(self._site.region))

    def _note_what_went_along(self) -> None:
        """A rule goes with its firewall, a route with its network: no call of their own, but a look."""
        rows = [row for row in self._known() if row.ref is not None and row.life is not Life.GONE]
        staying = {row.kind for row in rows}
        for row in rows:
            if self._dies_with.get(row.kind, row.kind) not in staying:
                self._seen_gone(row)

    def _proved(self, listing: Listing) -> tuple[TornDown, ...]:
        """Every resource that the stack had since then, with what two kinds of read say of it now."""
        rows = sorted(self._rows(), key=lambda row: UNMAKE_ORDER.index(row.kind))
        listed = {(one.ref.kind, one.ref.id) for one in self._found(listing)}
        moment = dt.datetime.fromtimestamp(listing.at, dt.UTC).isoformat(timespec="seconds")
        torn = []
        for row in rows:
            gone = self._seen_gone(row) and _place(row) not in listed
            proof = f"not found by its id, and not in the listing of {row.region} at {moment}"
            if not gone:
                proof = str(self._failures.get(_place(row), f"still seen at {moment}"))
            kind, ref_id = _place(row)
            torn.append(TornDown(kind.value, ref_id, row.region, gone, proof))
        for kind, ref_id in sorted(listed - {_place(row) for row in rows}):
            torn.append(TornDown(kind.value, ref_id, self._site.region, gone=False, proof=f"listed at {moment}"))
        return tuple(torn)

    def _rows(self) -> list[ResourceRow]:
        return [row for row in self._known() if row.ref is not None and row.changed_at >= self._since]

    def _known(self) -> list[ResourceRow]:
        rows = self._hands.journal.resources(self._stack).values()
        return [row for row in rows if row.kind not in self._spared]

    def _found(self, listing: Listing) -> list[Found]:
        return [one for one in listing.of(self._stack) if one.ref.kind not in self._spared]

    def _seen_gone(self, row: ResourceRow) -> bool:
        """Asks by id; a part that went with another is noted as gone."""
        assert row.ref is not None
        gone = self._engine.observe(row.ref).state is State.GONE
        if gone and row.life is not Life.GONE:
            self._hands.journal.write(row.moved(Life.GONE, self._hands.clock.now()))
        return gone


def _used_by_others(hands: Hands, site: Site, leaving: str, listing: Listing) -> bool:
    """Whether another cell lives, or comes to live, in the region's network: by the journal, and by the cloud."""
    for row in hands.journal.stacks():
        same = (row.provider, row.region) == site and is_cell(row.stack)
        if same and row.stack != leaving and _may_live(hands, row):
            return True
    if not listing.shows_others(site, leaving):
        return False
    # They may have gone since; whoever comes to live there asks for the network's lock first.
    return Listing(*Engine(hands).listing(site.region)).shows_others(site, leaving)


def _may_live(hands: Hands, row: StackRow) -> bool:
    """A stack that is on its way out uses the network for as long as it has anything itself."""
    if row.state is not StackState.UNMAKING:
        return row.state is not StackState.GONE
    return any(own.life not in (Life.GONE, Life.REFUSED) for own in hands.journal.resources(row.stack).values())


def _place(row: ResourceRow) -> Place:
    assert row.ref is not None
    return row.kind, row.ref.id
