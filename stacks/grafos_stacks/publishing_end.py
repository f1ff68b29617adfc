"""The end of a published image: it and all that belongs to it deleted and proved gone, settled and signed for.

And looking at those that are there. Cells that were started from an image have a disk of their own and stay.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec

from grafos_connectors.contract import TAG_STACK, Found, Kind, State
from grafos_connectors.uploads import forget_sent
from grafos_core import ledger as ledgers
from grafos_core.booking import Ending
from grafos_core.errors import GrafosError
from grafos_core.fabric import Fabric
from grafos_core.paths import private_folder, write_private
from grafos_core.receipts import Signed, TeardownReceipt, open_signed
from grafos_stacks.cell_holds import open_hold
from grafos_stacks.direct import Engine, Hands
from grafos_stacks.journal import StackRow, StackState
from grafos_stacks.names import expiry_in
from grafos_stacks.publishing import sent_path
from grafos_stacks.publishing_plan import DIGEST_CHARACTERS
from grafos_stacks.spec import is_image
from grafos_stacks.teardown import TornDownCell
from grafos_stacks.unmaking import Unmade, begin_unmaking, resources_left, unmake_image

READY, UNFINISHED, GONE = "ready", "unfinished", "gone"


class Kept(NamedTuple):
    """A published image as cloud and journal tell of it; 0 and "" for what neither does.

    ``state``: ready, unfinished (its publishing or removal was interrupted) or gone (the journal alone knows it).
    ``digest`` is the beginning of the disk's SHA-256. The journal alone knows ``sha256``, all of it, and whether its
    machines start with ``secure_boot``.
    """

    stack: str
    provider: str
    region: str
    digest: str
    state: str
    image_id: str
    arch: str
    keep_until: int
    rate_micro_cents_per_hour: int
    parts: int
    sha256: str = ""
    secure_boot: bool = False


def unpublish(hands: Hands, stack: str, region: str = "", *, ended: bool = False) -> TornDownCell:
    """Deletes it and gives the signed receipt; the same receipt if that was done before. ``ended``: only if it is not
    kept for longer since somebody looked, else ``stack_busy``.

    ``image_unknown`` when neither journal nor cloud shows it, ``resources_left`` (receipt and hold stay) when something
    is not proved gone, ``cloud_auth`` with another account's credentials, ``interrupted`` on Ctrl-C.
    """
    try:
        with hands.journal.lock(stack):
            if ended:
                _refuse_kept(hands, stack)
            return _taken_down(hands, stack, region)
    except KeyboardInterrupt:
        again = f"finish it: grafos cloud image rm {stack}"
        raise GrafosError("interrupted", f"stopped while {stack} was removed", next=again) from None


def _refuse_kept(hands: Hands, stack: str) -> None:
    row = hands.journal.stack(stack)
    if row is None or row.state is not StackState.MADE or row.publication is None:
        return
    if max(row.publication.keep_until, row.extending_to) > hands.clock.now():
        next_step = f"delete it all the same: grafos cloud image rm {stack}"
        raise GrafosError("stack_busy", f"{stack} is kept for longer now", next=next_step)


def kept_images(hands: Hands, region: str = "") -> tuple[Kept, ...]:
    """Those of the account, by name; the listing of all regions without one."""
    _, listed = Engine(hands).listing(region)
    shown: dict[str, list[Found]] = {}
    for one in listed:
        if is_image(one.tags.get(TAG_STACK, "")) and one.state is not State.GONE:
            shown.setdefault(one.tags[TAG_STACK], []).append(one)
    provider = hands.connector.provider
    rows = {
        row.stack: row
        for row in hands.journal.stacks()
        if is_image(row.stack) and row.provider == provider and row.state is not StackState.GONE
    }
    rows = {stack: row for stack, row in rows.items() if region in ("", row.region)}
    return tuple(_kept(hands, stack, rows.get(stack), shown.get(stack, [])) for stack in sorted({*shown, *rows}))


def _kept(hands: Hands, stack: str, row: StackRow | None, parts: list[Found]) -> Kept:
    image = next((one for one in parts if one.ref.kind is Kind.IMAGE), None)
    asked = row.publication if row is not None else None
    done = image is not None and image.state is State.READY and (row is None or row.state is StackState.MADE)
    region = row.region if row is not None else parts[0].ref.region
    return Kept(
        stack=stack,
        provider=hands.connector.provider,
        region=region,
        digest=stack[-DIGEST_CHARACTERS:],
        state=READY if done else UNFINISHED if parts else GONE,
        image_id=image.ref.id if image is not None else "",
        arch=asked.disk.arch if asked is not None else _told_arch(parts),
        keep_until=max([asked.keep_until if asked else 0, *(expiry_in(one.tags) for one in parts)]),
        rate_micro_cents_per_hour=asked.rate_micro_cents_per_hour if asked is not None else 0,
        parts=len(parts),
        sha256=asked.disk.sha256 if asked is not None else "",
        secure_boot=asked is not None and bool(asked.disk.certificate),
    )


def _told_arch(parts: list[Found]) -> str:
    """As the cloud has it: of the image, or of what all its versions have in common."""
    return next((arch for one in parts if (arch := one.attributes.get("arch", ""))), "")


def _taken_down(hands: Hands, stack: str, region: str) -> TornDownCell:
    row = hands.journal.stack(stack)
    if row is None or row.state is StackState.GONE:
        found = _listed(hands, stack, region)
        if not found:
            return _known_end(hands, stack)
        row = _row_of(hands, stack, found)
    row = begin_unmaking(hands, row, hands.identity().account, f"{stack} was published")
    unmade = unmake_image(hands, row)
    torn = _signed_for(hands, row, unmade)
    write_private(_receipt_path(hands.fabric, stack), msgspec.json.encode(torn.signed))
    if unmade.left:
        raise resources_left(unmade, row)
    forget_sent(sent_path(hands, stack))
    hands.journal.write(row.moved(StackState.GONE, hands.clock.now()))
    return torn


def _listed(hands: Hands, stack: str, region: str) -> list[Found]:
    engine = Engine(hands)
    settled = hands.journal.lost_at + hands.connector.traits.listing_lag_s
    if hands.journal.lost_at and hands.clock.now() < settled:
        engine.wait_until(settled, stack)
    _, listed = engine.listing(region)
    return [one for one in listed if one.tags.get(TAG_STACK) == stack and one.state is not State.GONE]


def _row_of(hands: Hands, stack: str, found: list[Found]) -> StackRow:
    """Of an image that no journal knows."""
    now, held = hands.clock.now(), open_hold(hands.fabric, stack)
    return StackRow(
        stack,
        hands.connector.provider,
        found[0].ref.region,
        hands.identity().account,
        StackState.MAKING,
        now,
        now,
        hold_id=held.hold_id if held else "",
    )


def _signed_for(hands: Hands, row: StackRow, unmade: Unmade) -> TornDownCell:
    held, now = open_hold(hands.fabric, row.stack), hands.clock.now()
    ended = held or hands.fabric.read_ledger().holds.get(row.hold_id)
    cost = ledgers.accrued(ended, now) if ended is not None else 0
    if held is not None and not unmade.left:
        hands.fabric.end(Ending(held.hold_id, actual_micro_cents=cost, ended_at=now))
    receipt = TeardownReceipt(
        fabric=str(hands.fabric.id),
        stack=row.stack,
        provider=row.provider,
        account=row.account,
        region=row.region,
        cell_id="",
        resources=unmade.resources,
        left=len(unmade.left),
        held_micro_cents=ended.amount_micro_cents if ended else 0,
        cost_micro_cents=cost,
        machine_seconds=0.0,
        runs_brought_home=0,
        settlement="settled",
        began_at=row.changed_at,
        ended_at=now,
        emulated=hands.identity().emulated,
    )
    return TornDownCell(hands.fabric.sign(receipt), receipt)


def image_receipt(fabric: Fabric, stack: str) -> Signed | None:
    """The receipt of an image that was removed; None if there is none that can be read."""
    try:
        return msgspec.json.decode(_receipt_path(fabric, stack).read_bytes(), type=Signed)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _known_end(hands: Hands, stack: str) -> TornDownCell:
    """The receipt of one that was removed before."""
    signed = image_receipt(hands.fabric, stack)
    if signed is None:
        raise GrafosError(
            "image_unknown",
            f"neither the journal nor {hands.connector.provider} shows an image {stack!r}",
            next="grafos cloud image ls --provider all",
        )
    return TornDownCell(signed, open_signed(signed, TeardownReceipt, hands.fabric.key.public_key()))


def _receipt_path(fabric: Fabric, stack: str) -> Path:
    return private_folder(fabric.home / "images") / f"{stack}.receipt.json"
