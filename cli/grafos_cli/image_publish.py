"""`grafos cloud image publish`, `rm`, and what `ls --provider` shows: images in the accounts of the clouds."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grafos_cli.taught import taught, terminal_of
from grafos_core.errors import PARTIAL, GrafosError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafos_cellimage.record import BakedImage
    from grafos_cli.terminal import Terminal
    from grafos_connectors.contract import Connector
    from grafos_core.fabric import Fabric
    from grafos_stacks.direct import Hands
    from grafos_stacks.publishing import Published
    from grafos_stacks.publishing_end import Kept
    from grafos_stacks.publishing_plan import Publication

PUBLISH = taught(
    examples=(
        "grafos cloud image publish aws --region eu-central-1 --dry-run",
        "grafos cloud image publish gcp --keep 90d --yes",
        "grafos cloud image publish azure --image cell.raw --yes --json",
    ),
    next="grafos cloud image ls --provider all",
)
RM = taught(
    examples=(
        "grafos cloud image rm img-aws-eu-central-1-0f3a52c81b77",
        "grafos cloud image rm img-gcp-us-central1-0f3a52c81b77 --yes --json",
    ),
    next="grafos cloud image ls --provider all",
)
MIB = 1 << 20
SHOWN_DIGITS = 12


def publish(
    ctx: typer.Context,
    provider: Annotated[str, typer.Argument(metavar="PROVIDER", help="aws, azure or gcp")],
    image: Annotated[str, typer.Option(metavar="FILE", help="the disk of an image (the newest that was baked)")] = "",
    arch: Annotated[str, typer.Option(metavar="NAME", help="of the newest image: amd64 or arm64")] = "amd64",
    region: Annotated[str, typer.Option(metavar="NAME", help="region; default: what the cloud's own tools read")] = "",
    keep: Annotated[str, typer.Option(metavar="TIME", help="after this a sweep deletes it: 30d, 90d")] = "30d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show the price and change nothing")] = False,  # noqa: FBT002
    yes: Annotated[bool, typer.Option("--yes", help="agree to the price without being asked")] = False,  # noqa: FBT002
) -> None:
    """Puts an image into your account: the very bytes that were baked, as an image of the cloud's own.

    Zeros are not sent. Publishing the same image twice makes nothing new. What keeping it may cost is held in the
    fabric's ledger until its end. Stopped or failed at any moment, the same command goes on where it was; what nobody
    goes on with a sweep deletes.
    """
    from grafos_cli.accounts import hands_for, open_account, provider_named, told_by
    from grafos_cli.fabric import open_default
    from grafos_cli.image_view import chosen_image
    from grafos_cli.steps import show_steps
    from grafos_connectors.uploads import Disk
    from grafos_stacks.publishing import publish as publish_image

    terminal = terminal_of(ctx)
    fabric = open_default(terminal)
    baked = chosen_image(image, fabric, arch)
    connector = open_account(provider_named(provider), region)
    with hands_for([connector], fabric) as (hands,):
        asked = _asked(hands, baked, region, keep)
        if dry_run:
            terminal.emit({"plan": _plan_document(asked), "published": None}, _plan_text(asked, baked, terminal))
            return
        terminal.note(_plan_text(asked, baked, terminal).rstrip())
        if not yes:
            terminal.confirm("Publish it?", "--yes")
        with show_steps(terminal) as steps, Disk(baked.path, baked.sha256) as disk:
            done = publish_image(replace(hands, progress=told_by(steps)), asked, disk)
    document = {"plan": _plan_document(done.publication), "published": _published_document(done)}
    terminal.emit(document, _published_text(done))


def rm(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="as `grafos cloud image ls --provider all` shows it")],
    region: Annotated[str, typer.Option(metavar="NAME", help="where to look, if nothing here knows it")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="agree without being asked")] = False,  # noqa: FBT002
) -> None:
    """Deletes a published image with all that belongs to it, proves it gone, settles what was held, and signs for it.

    Cells that were started from it have disks of their own and stay. The image that was baked here stays too.
    """
    from grafos_cli.accounts import hands_for, open_account, told_by
    from grafos_cli.fabric import open_default
    from grafos_cli.receipt_view import receipt_document
    from grafos_cli.steps import show_steps
    from grafos_stacks.publishing_end import unpublish

    terminal = terminal_of(ctx)
    provider = provider_in(name)
    fabric = open_default(terminal)
    if not yes:
        terminal.confirm(f"Delete the published image {name}?", "--yes")
    with hands_for([open_account(provider, region)], fabric) as (hands,), show_steps(terminal) as steps:
        torn = unpublish(replace(hands, progress=told_by(steps)), name, region)
    terminal.emit({"receipt": receipt_document(torn)}, _removed_text(torn.receipt, terminal))


def list_published(provider: str, terminal: Terminal) -> None:
    """Lists the images that were published to a cloud, or to ``all`` of them."""
    from grafos_cli.accounts import clouds_with_cells
    from grafos_cli.every_cloud import failures_document, look_around, tell_failures
    from grafos_cli.fabric import open_default

    fabric = open_default(terminal)
    around = look_around(provider, _question(fabric), terminal, clouds_with_cells(fabric))
    kept = [image for found in around.found for image in found]
    document = {
        "images": [_kept_document(image) for image in kept],
        "failures": failures_document(around.failures),
    }
    terminal.emit(document, _kept_text(kept, terminal) if kept else "No image is published.\n")
    tell_failures(around.failures, terminal)
    if around.failures:
        raise typer.Exit(PARTIAL)


def _asked(hands: Hands, baked: BakedImage, region: str, keep: str) -> Publication:
    """What is to be published, with today's price of keeping it."""
    from grafos_cli.image_view import disk_facts
    from grafos_cli.regions import region_at_hand
    from grafos_core.durations import read_duration
    from grafos_stacks.publishing_plan import Publication, check_publication

    provider, now = hands.connector.provider, time.time()
    where = region or region_at_hand(provider)
    if not where:
        raise GrafosError("config_invalid", "no region was given", where="region", next="name one with --region")
    price = _keeping_price(hands.connector, where)
    until = int(now) + read_duration("--keep", keep)
    return check_publication(Publication(provider, where, disk_facts(baked), price, now, until))


def _keeping_price(connector: Connector, region: str) -> Any:
    from grafos_stacks.publishing import taker_of_images

    return taker_of_images(connector).keeping_price(region)


def provider_in(name: str) -> str:
    """The cloud of a published image, by its name; ``image_unknown`` for what is none."""
    from grafos_connectors.registry import PROVIDERS
    from grafos_stacks.spec import is_image

    provider = name.split("-")[1] if is_image(name) and name.count("-") > 1 else ""
    if provider not in PROVIDERS:
        step = "grafos cloud image ls --provider all"
        raise GrafosError("image_unknown", f"{name[:60]!r} is no name of a published image", next=step)
    return provider


def _question(fabric: Fabric) -> Any:
    from grafos_cli.accounts import hands_for
    from grafos_cli.every_cloud import Question
    from grafos_stacks.publishing_end import kept_images

    def ask(connector: Connector, progress: Any) -> tuple[Kept, ...]:
        with hands_for([connector], fabric) as (hands,):
            return kept_images(replace(hands, progress=progress))

    return Question(ask, lambda found: f"{len(found)} images")


# What is told ---------------------------------------------------------------------------------------------------------


def _plan_document(asked: Publication) -> dict[str, object]:
    import msgspec

    return {
        "name": asked.stack,
        "provider": asked.provider,
        "region": asked.region,
        "sha256": asked.disk.sha256,
        "arch": asked.disk.arch,
        "size_bytes": asked.disk.size_bytes,
        "ends_at": asked.keep_until,
        "price": {
            "micro_cents_per_gib_month": asked.price.per_gib_month,
            "source": asked.price.source,
            "as_of": asked.price.as_of,
            "fictional": asked.price.fictional,
        },
        "held_micro_cents": asked.bill.total_micro_cents,
        "parts": [msgspec.to_builtins(part) for part in asked.bill.parts],
        "excluded": list(asked.bill.excluded),
    }


def _plan_text(asked: Publication, baked: BakedImage, terminal: Terminal) -> str:
    from grafos_cli.fictional import amount_text
    from grafos_cli.moments import moment_text
    from grafos_cli.tables import facts

    def amount(micro_cents: int) -> str:
        return amount_text(micro_cents, fictional=asked.price.fictional)

    lines = [
        ("image", f"{baked.path.name}, {asked.disk.sha256[:SHOWN_DIGITS]}, {asked.disk.arch}"),
        ("published as", asked.stack),
        ("kept until", moment_text(asked.keep_until)),
        (
            "price",
            f"{amount(asked.price.per_gib_month)} for a GiB and month ({asked.price.source}, {asked.price.as_of})",
        ),
        *((part.name, f"{amount(part.micro_cents)}  {part.how}") for part in asked.bill.parts),
        ("held at most", f"{amount(asked.bill.total_micro_cents)}, without {' and '.join(asked.bill.excluded)}"),
    ]
    return facts(lines, terminal)


def _published_document(done: Published) -> dict[str, object]:
    import msgspec

    return {
        "name": done.publication.stack,
        "image_id": done.image.ref.id,
        "was_there": done.was_there,
        "filled": msgspec.to_builtins(done.filled) if done.filled is not None else None,
    }


def _published_text(done: Published) -> str:
    name, image = done.publication.stack, done.image.ref.id
    if done.was_there:
        return f"{name} was published before: {image}\n"
    sent = done.filled
    told = f"{sent.bytes_sent / MIB:.1f} MiB sent, {sent.bytes_skipped / MIB:.1f} MiB of zeros were not" if sent else ""
    return f"{name} is published: {image}\n" + (f"{told}\n" if told else "")


def _kept_document(image: Kept) -> dict[str, object]:
    told: dict[str, object] = image._asdict()
    ends_at = told.pop("keep_until")
    for known_here_alone in ("sha256", "secure_boot"):
        told.pop(known_here_alone)
    return {**told, "ends_at": ends_at}


def _removed_text(receipt: Any, terminal: Terminal) -> str:
    from grafos_cli.fictional import amount_text
    from grafos_cli.tables import short_id, table

    rows = [[one.kind, short_id(one.id), "gone" if one.gone else "LEFT"] for one in receipt.resources]
    cost = amount_text(receipt.cost_micro_cents, fictional=receipt.emulated)
    held = amount_text(receipt.held_micro_cents, fictional=receipt.emulated)
    return table(("KIND", "ID", "STATE"), rows, terminal) + f"\n{receipt.stack} is gone: {cost} of {held} held.\n"


def _kept_text(kept: Sequence[Kept], terminal: Terminal) -> str:
    from grafos_cli.moments import moment_text
    from grafos_cli.tables import short_id, table

    rows = [
        [
            image.stack,
            image.arch,
            image.state,
            short_id(image.image_id),
            moment_text(image.keep_until) if image.keep_until else "",
        ]
        for image in kept
    ]
    return table(("NAME", "ARCH", "STATE", "ID", "KEPT UNTIL"), rows, terminal, spare=("ARCH", "KEPT UNTIL"))
