"""Publish: the bytes of a disk into an account, as an image of the cloud's own.

    hold the money ─> make the place for the disk ─> fill it ─> make the image of it ─> remove what only led there

Every resource goes by the journal and the engine that make cells, so it may be killed anywhere; the same command goes
on, and a sweep deletes what nobody goes on with. What was sent is noted beside the journal. An image that is there
already, by its key and our signature, is taken for what was asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import msgspec

from grafos_connectors.contract import TAG_STACK, CloudError, Connector, Found, Kind, Ref, State
from grafos_connectors.uploads import FILLED, YES, Disk, Filled, ImageConnector, Sent, forget_sent
from grafos_core import ledger as ledgers
from grafos_core.changes import Batch
from grafos_core.errors import GrafosError
from grafos_core.fabric import OPERATOR_ACCOUNT
from grafos_core.paths import private_folder
from grafos_stacks.asking import check_account
from grafos_stacks.cell_holds import new_hold_id
from grafos_stacks.creating import Creator
from grafos_stacks.direct import PATIENCE_S, POLL_S_MAX, Engine, Hands
from grafos_stacks.journal import Life, ResourceRow, StackRow, StackState
from grafos_stacks.layouts import UNMAKE_ORDER, check_clock
from grafos_stacks.names import attempt_in, expiry_in, token_of
from grafos_stacks.progress import BEGUN, DONE, WAITING, Step
from grafos_stacks.publishing_plan import Publication, parts_of
from grafos_stacks.recovery import back_off_s, row_of

FILL_ATTEMPTS = 6
"""How often a filling that did not get through is gone on with, before a person is told."""
PASSING = ("cloud_throttled", "cloud_unreachable")
ASK_EVERY_S = 0.5
TOLD_EVERY_BYTES = 4 << 20
MIB = 1 << 20


@dataclass(frozen=True)
class Published:
    """The image as the cloud has it. ``filled`` is None when nothing had to be sent."""

    publication: Publication
    image: Found
    filled: Filled | None
    was_there: bool


def publish(hands: Hands, asked: Publication, disk: Disk) -> Published:
    """Has the image there, and nothing else.

    ``budget_exceeded`` before anything is made, ``stack_busy`` while another command works on it or it is being
    removed, ``cloud_auth`` with the credentials of another account, ``config_invalid`` with a clock that is off the
    cloud's, else the cloud's refusal; ``interrupted`` on Ctrl-C.
    """
    try:
        with hands.journal.lock(asked.stack):
            row = _opened(hands, asked)
            assert row.publication is not None, "it is opened with it"
            _hold(hands, row, row.publication)
            return _Work(hands, row, row.publication).done(disk)
    except KeyboardInterrupt:
        again = f"run the same command again: it goes on; or: grafos cloud image rm {asked.stack}"
        raise GrafosError("interrupted", f"stopped while {asked.stack} was published", next=again) from None


def _opened(hands: Hands, asked: Publication) -> StackRow:
    """The stack's row: of the one that was begun, with what was asked for then, or a new one."""
    identity, now = hands.identity(), hands.clock.now()
    check_clock(identity, now)
    row = hands.journal.stack(asked.stack)
    if row is not None and row.state is not StackState.GONE:
        check_account(f"{row.stack} was published", row.account, identity.account)
        if row.state is StackState.UNMAKING:
            next_step = f"finish it: grafos cloud image rm {row.stack}"
            raise GrafosError("stack_busy", f"{row.stack} is being removed", next=next_step)
        if row.publication is not None:
            return row
    holds = hands.fabric.read_ledger().holds.values()
    row = StackRow(
        stack=asked.stack,
        provider=asked.provider,
        region=asked.region,
        account=identity.account,
        state=StackState.MAKING,
        created_at=now,
        changed_at=now,
        hold_id=new_hold_id(holds, asked.stack, asked.made_at),
        publication=asked,
    )
    hands.journal.write(row)
    return row


def _hold(hands: Hands, row: StackRow, asked: Publication) -> None:
    """The same hold on every run; a stack that was never paid for ends at once."""
    try:
        hands.fabric.book(partial(reserved_image, row=row, asked=asked))
    except GrafosError as error:
        if error.code == "budget_exceeded" and row.state is StackState.MAKING:
            hands.journal.write(row.moved(StackState.GONE, hands.clock.now()))
            error.next = "keep it for less long, remove what grafos cloud budget show lists, or raise the cap: "
            error.next += "grafos cloud budget set CENTS"
        raise


def reserved_image(ledger: ledgers.Ledger, row: StackRow, asked: Publication, most: int | None = None) -> Batch:
    """Holds what keeping an image costs at most; at ``most`` so many micro-cents."""
    rate = asked.rate_micro_cents_per_hour
    meter = ledgers.Meter(
        provider=asked.provider,
        rate_micro_cents_per_hour=rate,
        since=row.created_at,
        until=float(asked.keep_until),
        left_micro_cents_per_hour=rate,
        fictional=asked.price.fictional,
    )
    left = ledger.holds.get(row.hold_id)  # open for another end, of a home whose journal was lost
    amount = left.amount_micro_cents if left and left.state == ledgers.OPEN else asked.bill.total_micro_cents
    amount = amount if most is None else min(amount, most)
    purpose = f"image {row.stack}"
    return ledgers.hold(ledger, row.hold_id, OPERATOR_ACCOUNT, amount, purpose, meter=meter)


class _Work:
    """One image on its way."""

    def __init__(self, hands: Hands, row: StackRow, asked: Publication) -> None:
        self._hands, self._row, self._asked = hands, row, asked
        self._engine = Engine(hands)
        self._parts = parts_of(hands.fabric.id, asked)

    def done(self, disk: Disk) -> Published:
        image, filled = self._there(), None
        was_there = image is not None
        if image is None:
            image, filled = self._made(disk)
        self._drop_passing()
        row = self._hands.journal.stack(self._row.stack)
        assert row is not None, "it was opened"
        if row.state is not StackState.MADE:
            self._hands.journal.write(row.moved(StackState.MADE, self._hands.clock.now()))
        forget_sent(sent_path(self._hands, self._row.stack))
        return Published(self._asked, image, filled, was_there)

    def _there(self) -> Found | None:
        """The image, if it is there already and proved ours; taken into the journal if that does not know it."""
        what, hands = self._parts[-1].what, self._hands
        _, listed = self._engine.listing(self._asked.region)
        ready = [one for one in listed if one.ref.key == what.key and one.ref.kind is what.kind]
        found = next((one for one in ready if one.state is State.READY), None)
        known = hands.journal.resources(what.stack).get(what.key)
        if found is None:
            return None
        if known is None or known.life is not Life.READY:
            hands.fabric.note_provisioned()
            attempt, now = attempt_in(found.tags), hands.clock.now()
            row = row_of(found, what.stack, what.name, attempt, now)
            hands.journal.write(msgspec.structs.replace(row, key=what.key, token=token_of(what.key, attempt)))
            self._note_end(expiry_in(found.tags))
        return found

    def _note_end(self, keep_until: int) -> None:
        """Of an image whose journal was lost its tags tell the end."""
        if keep_until and keep_until != self._asked.keep_until:
            self._asked = msgspec.structs.replace(self._asked, keep_until=keep_until)
            self._row = msgspec.structs.replace(self._row, publication=self._asked)
            self._hands.journal.write(self._row)

    def _made(self, disk: Disk) -> tuple[Found, Filled | None]:
        creator, image = Creator(self._hands), self._parts[-1].what
        made = creator.make([part.what for part in self._parts[:-1]], {})
        place = next(part.what for part in self._parts if part.takes_disk)
        filled = self._filled(made[place.name].ref, disk)
        return creator.make([image], made)[image.name], filled

    # Filling ---------------------------------------------------------------------------------------------------------

    def _filled(self, place: Ref, disk: Disk) -> Filled | None:
        """Sends what is missing, and waits until the cloud has taken the disk over."""
        hands, began = self._hands, self._hands.clock.now()
        if self._is_full(place):
            return None
        hands.progress(Step("upload", BEGUN, 0.0))
        sent = Sent(sent_path(hands, self._row.stack), place, disk.sha256)
        try:
            filled = self._sent(place, disk, sent, began)
        finally:
            sent.close()
        until = hands.clock.now() + PATIENCE_S
        while not self._is_full(place):
            if hands.clock.now() > until:
                again = "run the same command again: it goes on where this one stopped"
                why = f"the cloud did not take the disk over in {PATIENCE_S:.0f} s"
                raise GrafosError("cloud_slow", why, where=place.region, next=again)
            hands.progress(Step("upload", WAITING, hands.clock.now() - began, "until the cloud has taken it over"))
            hands.sleep(ASK_EVERY_S)
        note = f"{filled.bytes_sent / MIB:.0f} MiB sent, {filled.bytes_skipped / MIB:.0f} MiB of zeros were not"
        hands.progress(Step("upload", DONE, hands.clock.now() - began, note))
        return filled

    def _sent(self, place: Ref, disk: Disk, sent: Sent, began: float) -> Filled:
        connector, hands = taker_of_images(self._hands.connector), self._hands
        for attempt in range(1, FILL_ATTEMPTS + 1):
            try:
                return connector.fill(place, disk, sent, self._teller(began))
            except CloudError as error:
                if error.code not in PASSING or attempt == FILL_ATTEMPTS:
                    raise
                hands.progress(Step("upload", WAITING, hands.clock.now() - began, error.what))
                hands.sleep(min(max(error.retry_after_s, back_off_s(attempt)), 4 * POLL_S_MAX))
        raise AssertionError("the last attempt gives or raises")

    def _teller(self, began: float) -> Callable[[int, int], object]:
        """Tells of every few MiB."""
        hands, told = self._hands, 0

        def hear(parts: int, bytes_sent: int) -> None:  # noqa: ARG001  the shape of a Told
            nonlocal told
            if bytes_sent >= told + TOLD_EVERY_BYTES:
                told = bytes_sent
                note = f"{bytes_sent / MIB:.0f} MiB sent"
                hands.progress(Step("upload", WAITING, hands.clock.now() - began, note))

        return hear

    def _is_full(self, place: Ref) -> bool:
        return self._engine.observe(place).attributes.get(FILLED) == YES

    # Clearing up -----------------------------------------------------------------------------------------------------

    def _drop_passing(self) -> None:
        """What only led there: by the journal, and by the listing what no create call made (a bucket's object)."""
        passing = {part.what.kind for part in self._parts if part.passing}
        if not passing:
            return
        known = self._hands.journal.resources(self._row.stack).values()
        rows = [row for row in known if row.kind in passing and row.ref and row.life not in (Life.GONE, Life.REFUSED)]
        rows += self._unknown({*passing, Kind.OBJECT}, {row.ref.id for row in rows if row.ref})
        for row in sorted(rows, key=lambda row: UNMAKE_ORDER.index(row.kind)):
            self._engine.unmake(row)

    def _unknown(self, kinds: set[Kind], ids: set[str]) -> list[ResourceRow]:
        _, listed = self._engine.listing(self._asked.region)
        own = [one for one in listed if one.tags.get(TAG_STACK) == self._row.stack and one.ref.kind in kinds]
        now = self._hands.clock.now()
        return [row_of(one, self._row.stack, "", attempt_in(one.tags), now) for one in own if one.ref.id not in ids]


def sent_path(hands: Hands, stack: str) -> Path:
    """Where it is noted what of a disk was sent."""
    return private_folder(hands.fabric.home / "uploads") / stack


def taker_of_images(connector: Connector) -> ImageConnector:
    """The connector, if its cloud takes images; else ``unsupported``."""
    if not hasattr(connector, "fill"):
        raise GrafosError("unsupported", f"no image can be published on {connector.provider}")
    return cast("ImageConnector", connector)
