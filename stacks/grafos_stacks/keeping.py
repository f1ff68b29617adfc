"""Keep: a published image stays for longer than it was published for.

The order is that of a cell's extension: first the money is held, then the signed tags tell the new end, then the
journal. Whatever dies in between, a sweep deletes the image at the old end or at the new one, and both are paid for;
the same call again goes on, for the new end is in the journal before anything moves.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import msgspec

from grafos_connectors.contract import Ref
from grafos_core import ledger as ledgers
from grafos_core.errors import GrafosError
from grafos_stacks.asking import check_account
from grafos_stacks.direct import Engine, Hands
from grafos_stacks.journal import Life, ResourceRow, StackRow, StackState
from grafos_stacks.layouts import check_clock
from grafos_stacks.plan import desired
from grafos_stacks.progress import BEGUN, DONE, Step
from grafos_stacks.publishing_plan import Part, Publication, check_publication, parts_of


class Longer(NamedTuple):
    """The image as it is kept now (Unix seconds); ``before`` is when it would have ended."""

    publication: Publication
    before: int
    held_micro_cents: int


def keep_longer(hands: Hands, stack: str, more_s: int) -> Longer:
    """Moves the end of a published image by so many seconds; one that was interrupted is finished by the same call, and
    goes on to the later of both ends by another.

    ``image_unknown`` if the journal has none that is whole, ``stack_busy`` while it is published or removed,
    ``config_invalid`` for an end that is none, ``budget_exceeded`` before anything is moved, ``cloud_auth`` with the
    credentials of another account, and the cloud's refusals.
    """
    with hands.journal.lock(stack):
        row, asked = _kept(hands, stack)
        before = asked.keep_until
        until = max(row.extending_to, _checked(asked, asked.keep_until + more_s))
        longer = msgspec.structs.replace(asked, keep_until=until)
        held = _hold(hands, row, longer)
        row = row.moved(row.state, hands.clock.now(), extending_to=until)
        hands.journal.write(row)
        for part in parts_of(hands.fabric.id, longer):
            _retag(hands, longer, part)
        hands.journal.write(row.moved(row.state, hands.clock.now(), publication=longer, extending_to=0))
        return Longer(longer, before, held)


def _kept(hands: Hands, stack: str) -> tuple[StackRow, Publication]:
    row = hands.journal.stack(stack)
    if row is None or row.publication is None or row.state is StackState.GONE:
        raise GrafosError(
            "image_unknown",
            f"the journal knows no image {stack!r}",
            next="publish it once more from the same disk: it is found, and known then",
        )
    if row.state is not StackState.MADE:
        word, again = ("published", "publish it") if row.state is StackState.MAKING else ("removed", "remove it")
        raise GrafosError("stack_busy", f"{stack} is being {word}", next=f"{again} once more: it goes on")
    identity = hands.identity()
    check_clock(identity, hands.clock.now())
    check_account(f"{stack} was published", row.account, identity.account)
    return row, row.publication


def _checked(asked: Publication, until: int) -> int:
    if until <= asked.keep_until:
        raise GrafosError(
            "config_invalid",
            f"{asked.stack} is kept that long already",
            where="keep",
            next="name a later end; to end it earlier: grafos cloud image rm " + asked.stack,
        )
    return check_publication(msgspec.structs.replace(asked, keep_until=until)).keep_until


def _hold(hands: Hands, row: StackRow, asked: Publication) -> int:
    more = partial(
        ledgers.enlarge,
        hold_id=row.hold_id,
        amount_micro_cents=asked.bill.total_micro_cents,
        until=float(asked.keep_until),
    )
    booked = hands.fabric.book(more)
    return booked.holds[row.hold_id].amount_micro_cents


def _retag(hands: Hands, asked: Publication, part: Part) -> None:
    """What stays bears the end in its tags; what only led to the image is gone."""
    rows, what = hands.journal.resources(asked.stack), part.what
    if part.passing:
        return
    ref, row = _place(rows, what.key, asked.stack)
    names = {one.name: one.ref.id for one in rows.values() if one.ref is not None}
    needs = {role: names[name] for role, name in what.needs.items() if name in names}
    call, _ = desired(hands.fabric, what, row.attempt, needs, {})
    if dict(row.tags) == dict(call.tags):
        return  # an earlier run came that far
    began = hands.clock.monotonic()
    hands.progress(Step(f"keep {what.name}", BEGUN, 0.0))
    Engine(hands).update(ref, call, f"keep {what.name}")
    hands.journal.write(row.moved(Life.READY, hands.clock.now(), tags=dict(call.tags)))
    hands.progress(Step(f"keep {what.name}", DONE, hands.clock.monotonic() - began))


def _place(rows: dict[str, ResourceRow], key: str, stack: str) -> tuple[Ref, ResourceRow]:
    row = rows.get(key)
    if row is None or row.ref is None or row.life is not Life.READY:
        raise GrafosError(
            "image_unknown",
            f"the journal does not know all parts of {stack}",
            next="publish it once more from the same disk: what is there is found, and known then",
        )
    return row.ref, row
