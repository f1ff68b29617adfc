"""`grafos cloud provision --image bake`: the image of today's lock and software in the account, then cells from it.

    foresee (nothing is changed) ─> one question ─> bake ─> publish ─> the cells, as from any published image

Whatever has been done is found again: an image that was baked from the same lock, software and settings is not baked
anew, one that is published is not published anew, and cells that were begun go on with the image that they began with.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from grafos_cli.planning import Planned, base_of, going_on, planned
from grafos_core.errors import GrafosError
from grafos_stacks.fleet import names_of
from grafos_stacks.spec import STOCK

if TYPE_CHECKING:
    from grafos_cellimage.plan import ImagePlan
    from grafos_cellimage.record import BakedImage
    from grafos_cli.terminal import Terminal
    from grafos_cli.wishes import Wish
    from grafos_core.fabric import Fabric
    from grafos_stacks.direct import Hands
    from grafos_stacks.plan import StackPlan
    from grafos_stacks.publishing_end import Kept
    from grafos_stacks.publishing_plan import Publication

BAKE = "bake"
"""As the image that is wanted: the one of today's software, made and published if it is not there."""
COLD_S, WARM_S, FOREIGN_FACTOR = 110.0, 12.0, 5.0
"""How long a bake takes on two ordinary cores: from nothing, and when its base is here; for another architecture
Debian's scripts run in an emulator."""
SENT_BYTES = 90 << 20
"""What of an image is no zeros, before anybody has baked it."""
SENT_BYTES_PER_S = 2_500_000
"""Of a line that sends 20 Mbit/s, as homes and small offices have it."""
TAKEN_OVER_S = {"aws": 120.0, "azure": 420.0, "gcp": 60.0}
"""How long a cloud takes to make an image of what was sent: a snapshot completes, a gallery's version is copied."""
EMULATED_S = 5.0
UNNAMED = "that is baked and published first"


class StepAhead(NamedTuple):
    """One thing that will be done. ``seconds`` is a guess, 0 for what is there already."""

    name: str
    seconds: float
    how: str


@dataclass(frozen=True)
class Ahead:
    """What has to be done before the first cell. ``baked`` is the image if it was baked before, ``published`` the one
    in the account; the SHA-256 in ``publication`` is empty until it is known."""

    plan: ImagePlan
    baked: BakedImage | None
    publication: Publication
    published: Kept | None
    steps: tuple[StepAhead, ...]
    most_micro_cents: int


def provision_from_bake(wish: Wish, terminal: Terminal, *, dry_run: bool, yes: bool) -> None:
    """Shows all that it takes with its price, asks once, and does it; the same command again goes on."""
    from grafos_cli.fabric import open_default
    from grafos_cli.image_on_demand_view import ahead_document, ahead_text
    from grafos_cli.provisioning import agree_and_make

    _refuse_unmeant(wish)
    fabric = open_default(terminal)
    if (image := _begun_with(wish, fabric)) is not None:
        with planned(replace(wish, image=image), terminal) as work:
            agree_and_make(work, terminal, dry_run=dry_run, yes=yes)
        return
    with planned(replace(wish, image=STOCK), terminal) as seen:
        ahead = _foresee(seen, fabric)
        work = _as_from_it(seen, ahead)
        if dry_run:
            terminal.emit(ahead_document(ahead, work), ahead_text(ahead, work, terminal))
            return
        if not terminal.json:
            terminal.err.write(ahead_text(ahead, work, terminal))
        if not yes:
            terminal.confirm(_question(ahead, work), "--yes")
        name = _published(ahead, work, fabric, terminal)
    with planned(replace(wish, image=name, cell_id=base_of(work.names)), terminal) as made:
        _refuse_dearer(work, made)
        agree_and_make(made, terminal, dry_run=False, yes=True)


def _refuse_unmeant(wish: Wish) -> None:
    if wish.any_place or len(wish.providers) != 1 or len(wish.regions) > 1:
        raise GrafosError(
            "usage",
            "an image is published to one region",
            where=f"--image {BAKE}",
            next="name one cloud and one --region; elsewhere publish it first: grafos cloud image publish",
        )


def _begun_with(wish: Wish, fabric: Fabric) -> str | None:
    """The image that was asked for when the cell that is gone on with was begun; None for one that was not."""
    from contextlib import closing

    from grafos_core.clock import SystemClock
    from grafos_stacks.journal import Journal, StackState

    if not wish.cell_id:
        return None
    with closing(Journal(fabric, SystemClock())) as journal:
        row = journal.stack(names_of(wish.cell_id, wish.count)[0])
    if row is None or row.plan is None or row.state not in (StackState.MAKING, StackState.MADE):
        return None
    return row.plan.spec.image


# --- what is ahead ----------------------------------------------------------------------------------------------------


def _foresee(work: Planned, fabric: Fabric) -> Ahead:
    """``tool_missing`` where it cannot be baked here, ``budget_exceeded`` if image and cells together do not fit under
    the cap, ``unsupported`` for cells that start from no image, else what the cloud refuses with."""
    from grafos_cellimage.bake import check_tools
    from grafos_cellimage.plan import plan_for
    from grafos_cli.image_view import disk_facts
    from grafos_stacks.publishing import taker_of_images
    from grafos_stacks.publishing_plan import KEEP_S_DEFAULT, DiskFacts, Publication, check_publication

    cell = work.first.plan
    hands = work.hands_of[cell.spec.provider]
    plan = plan_for(cell.facts.image.arch)
    baked = newest_of_today(plan, fabric)
    if baked is None:
        check_tools(plan)
    now = hands.clock.now()
    price = taker_of_images(hands.connector).keeping_price(cell.spec.region)
    until = int(now) + max(KEEP_S_DEFAULT, cell.spec.longest_s)
    disk = disk_facts(baked) if baked else DiskFacts("", plan.arch, plan.sizes.disk)
    asked = check_publication(Publication(cell.spec.provider, cell.spec.region, disk, price, now, until))
    _check_startable(cell, asked)
    published = _there(hands, asked) if baked else None
    is_paid = baked is not None and _is_held(fabric, asked.stack)
    most = 0 if published or is_paid else asked.bill.total_micro_cents
    _check_budget(fabric, most + work.most_micro_cents)
    return Ahead(plan, baked, asked, published, _steps(plan, baked, asked, published, cell), most)


def newest_of_today(plan: ImagePlan, fabric: Fabric) -> BakedImage | None:
    """The image in the cache that a bake now would give: the fabric vouches for it, with today's lock, software and
    settings. Its bytes are looked at when it is used."""
    from grafos_cellimage import sbom
    from grafos_cellimage.bake import settings_sha256
    from grafos_cellimage.lock import open_lock
    from grafos_cli.image_view import vouched_images
    from grafos_stacks import bundle

    _, lock_sha256 = open_lock(plan)
    rooms = bundle.rooms()
    packages = {name: sbom.tree_sha256(name, rooms) for name, _ in sbom.own_versions(rooms)}
    settings = settings_sha256(plan, bundle.STRIPPED)
    for image, said in vouched_images(fabric):
        is_its = (image.arch, image.suite, image.settings_sha256) == (plan.arch, plan.suite, settings)
        if is_its and lock_sha256 in (image.lock_sha256, image.relocked_from) and said.packages() == packages:
            return image
    return None


def _check_startable(cell: StackPlan, asked: Publication) -> None:
    """What a cell's inputs refuse of any published image is told before one is made."""
    import msgspec

    from grafos_stacks.publishing_plan import stack_of
    from grafos_stacks.spec import check_spec

    named = stack_of(asked.provider, asked.region, asked.disk.sha256 or "0" * 64)
    check_spec(msgspec.structs.replace(cell.spec, image=named))


def _there(hands: Hands, asked: Publication) -> Kept | None:
    """The published image, whole. ``config_invalid`` for one that is past its end: any sweep may delete it."""
    from grafos_stacks.publishing_end import READY, kept_images

    kept = next((one for one in kept_images(hands, asked.region) if one.stack == asked.stack), None)
    if kept is None or kept.state != READY:
        return None
    if kept.keep_until <= asked.made_at:
        raise GrafosError(
            "config_invalid",
            f"{kept.stack} is past its end: any sweep may delete it",
            where=f"--image {BAKE}",
            next=f"keep it: grafos cloud image extend {kept.stack} --keep +30d; or first: "
            f"grafos cloud image rm {kept.stack}",
        )
    return kept


def _is_held(fabric: Fabric, stack: str) -> bool:
    from grafos_stacks.cell_holds import open_hold

    return open_hold(fabric, stack) is not None


def _check_budget(fabric: Fabric, most_micro_cents: int) -> None:
    """What a hold of that much would come to; nothing is booked."""
    from grafos_core import ledger as ledgers
    from grafos_core.fabric import OPERATOR_ACCOUNT

    ledgers.hold(fabric.read_ledger(), "ahead", OPERATOR_ACCOUNT, most_micro_cents, "the image and what starts from it")


def _steps(
    plan: ImagePlan, baked: BakedImage | None, asked: Publication, published: Kept | None, cell: StackPlan
) -> tuple[StepAhead, ...]:
    from grafos_stacks.planner import predicted_ways

    return (
        _bake_ahead(plan, baked),
        _publish_ahead(baked, asked, published, emulated=cell.facts.emulated),
        StepAhead("cell", predicted_ways(cell).image, "from the published image; nothing is installed"),
    )


def _bake_ahead(plan: ImagePlan, baked: BakedImage | None) -> StepAhead:
    from grafos_cellimage.bake import base_of
    from grafos_cellimage.lock import open_lock
    from grafos_cellimage.record import images_home
    from grafos_core.virtual_machines import NATIVE
    from grafos_stacks import bundle

    if baked is not None:
        return StepAhead(BAKE, 0.0, f"was baked before: {baked.path.name}")
    if base_of(plan, open_lock(plan)[1], bundle.STRIPPED, images_home()).is_dir():
        return StepAhead(BAKE, WARM_S, "its base is here; our own code is put on it")
    machine = os.uname().machine
    is_foreign = NATIVE.get(machine, machine) != plan.arch
    emulated = f", and for {plan.arch} in an emulator" if is_foreign else ""
    return StepAhead(BAKE, COLD_S * (FOREIGN_FACTOR if is_foreign else 1.0), f"from Debian's packages{emulated}")


def _publish_ahead(
    baked: BakedImage | None, asked: Publication, published: Kept | None, *, emulated: bool
) -> StepAhead:
    if published is not None:
        return StepAhead("publish", 0.0, f"was published before: {published.stack}")
    sent_bytes = baked.path.stat().st_blocks * 512 if baked is not None else SENT_BYTES
    seconds = EMULATED_S if emulated else sent_bytes / SENT_BYTES_PER_S + TAKEN_OVER_S[asked.provider]
    return StepAhead("publish", seconds, f"about {sent_bytes / (1 << 20):.0f} MiB are sent, zeros are not")


def _as_from_it(work: Planned, ahead: Ahead) -> Planned:
    """The same cells, planned as if the image were there already: their price and their bound are the same."""
    return replace(work, places=tuple(one._replace(plan=_from_it(one.plan, ahead)) for one in work.places))


def _from_it(plan: StackPlan, ahead: Ahead) -> StackPlan:
    import msgspec

    from grafos_core.ids import FabricId
    from grafos_stacks.planner import NO_BUNDLE, plan_cell

    name = ahead.publication.stack if ahead.baked else UNNAMED
    image = msgspec.structs.replace(plan.facts.image, id="", name=name, python="")
    facts = msgspec.structs.replace(
        plan.facts, image=image, baked=ahead.publication.disk.sha256 or UNNAMED, bundle=NO_BUNDLE
    )
    return plan_cell(plan.spec, facts, FabricId(plan.fabric), plan.made_at)


def _question(ahead: Ahead, work: Planned) -> str:
    from grafos_core.money import format_cents

    doing = [] if ahead.baked else ["bake the image"]
    doing += [] if ahead.published else [f"publish it for at most {format_cents(ahead.most_micro_cents)}"]
    cells = f"{len(work.names)} cells" if len(work.names) > 1 else f"cell {work.names[0]}"
    doing.append(f"make {cells} for at most {format_cents(work.most_micro_cents)}")
    told = ", then ".join(doing)
    return f"{told[0].upper()}{told[1:]}?"


# --- doing it ---------------------------------------------------------------------------------------------------------


def _published(ahead: Ahead, work: Planned, fabric: Fabric, terminal: Terminal) -> str:
    """The name of the image once it is in the account."""
    import msgspec

    from grafos_cellimage import provenance
    from grafos_cli.accounts import told_by
    from grafos_cli.image_bake import bake_here
    from grafos_cli.image_view import disk_facts
    from grafos_cli.interrupts import resumable
    from grafos_cli.steps import show_steps
    from grafos_connectors.uploads import Disk
    from grafos_stacks.publishing import publish

    if ahead.published is not None:
        return ahead.published.stack
    with resumable("Stopped while the image was made", going_on(work.names)):
        baked = ahead.baked or bake_here(ahead.plan, terminal)
    provenance.check(baked, fabric.key.public_key())
    asked = msgspec.structs.replace(ahead.publication, disk=disk_facts(baked))
    hands = work.hands_of[ahead.publication.provider]
    with show_steps(terminal) as steps, Disk(baked.path, baked.sha256) as opened:
        return publish(replace(hands, progress=told_by(steps)), asked, opened).publication.stack


def _refuse_dearer(agreed: Planned, made: Planned) -> None:
    """The yes was to a price; the cells are planned anew once their image is there."""
    from grafos_core.money import format_cents

    if made.most_micro_cents > agreed.most_micro_cents:
        before, now = format_cents(agreed.most_micro_cents), format_cents(made.most_micro_cents)
        raise GrafosError(
            "plan_stale",
            f"while the image was made, the worst case of {made.names[0]} rose from {before} to {now}",
            next="look at the plan, and run the same command again: the image is there now",
        )
