"""What a cell's machine starts from: an image that was published to this account and region, which has all software in
it, or a stock image, which fetches the bundle at its first boot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from grafos_connectors.contract import Image
from grafos_core.errors import GrafosError
from grafos_stacks.direct import Hands
from grafos_stacks.journal import Life
from grafos_stacks.layouts import layout_of
from grafos_stacks.plan import StackPlan
from grafos_stacks.planner import arches_of, image_and_type
from grafos_stacks.publishing_end import READY, Kept, kept_images
from grafos_stacks.publishing_plan import DIGEST_CHARACTERS
from grafos_stacks.spec import STOCK, CellSpec

DISK_GIB_LEAST = 1
"""What a baked image's partitions take; its machine's disk may be larger."""


class Start(NamedTuple):
    """The image, the machine type that goes with it, and of one that was baked the beginning of its SHA-256, until
    when it is kept, and whether it was published with the certificate for which it is signed."""

    image: Image
    machine_type: str
    baked: str = ""
    keep_until: int = 0
    secure_boot: bool = False

    def notes(self, ends_at: float, now: float) -> tuple[str, ...]:
        """What is to be known of the image for a cell that lives until ``ends_at``: an attempt at its machine after
        the image's end would have none."""
        if not self.baked or self.keep_until >= ends_at:
            return ()
        name = self.image.name
        when = "is past its end, and any sweep may delete it" if self.keep_until <= now else "ends before the cell does"
        return (f"the image {name} {when}; keep it: grafos cloud image extend {name} --keep +30d",)


def start_of(hands: Hands, spec: CellSpec) -> Start:
    """Of the published images that fit the machine the one that ``spec`` names, else the newest that is not past its
    end, of the architecture that is preferred if there is one; without any, or where none is wanted, a stock image.

    ``image_unknown`` when the named one is not in this account and region, ``config_invalid`` when it is for machines
    of another architecture, else what the cloud refuses with.
    """
    if not spec.is_told_what_it_is or spec.image == STOCK:
        return Start(*image_and_type(hands.connector, spec))
    arches, kept = arches_of(hands.connector, spec), _ready(hands, spec.region)
    if spec.image:
        return _start(named_image(kept, spec, arches), spec)
    for arch in arches:
        newest = newest_image(kept, arch, hands.clock.now())
        # A type that nobody named is not to be one that the region has not.
        if newest is not None and (arch == arches[0] or hands.connector.offers(spec.region, _type(spec, arch))):
            return _start(newest, spec)
    return Start(*image_and_type(hands.connector, spec))


def check_still_there(hands: Hands, plan: StackPlan) -> None:
    """``image_unknown`` for a plan that an earlier run pinned, if its machine has yet to be made and the image that it
    starts from is gone: the same bytes, published once more, are another image to the cloud."""
    row = hands.journal.resources(plan.stack).get(plan.machine.key)
    is_to_make = row is None or row.life in (Life.REFUSED, Life.GONE)
    if not plan.facts.baked or not is_to_make:
        return
    image, spec = plan.facts.image, plan.spec
    if any(one.image_id == image.id for one in _ready(hands, spec.region)):
        return
    undo = "fabric down" if spec.orchestrates else f"cloud teardown {spec.provider} --cell-id {plan.stack}"
    raise GrafosError(
        "image_unknown",
        f"{plan.stack} was begun from the image {image.name}, which is gone since",
        where=f"{spec.provider} {spec.region}",
        next=f"grafos {undo}; then ask for it again: it starts from what is there then",
    )


def _ready(hands: Hands, region: str) -> list[Kept]:
    """Those that are whole, the one first that was published last, as far as this home knows."""
    began = {row.stack: row.created_at for row in hands.journal.stacks()}
    whole = [one for one in kept_images(hands, region) if one.state == READY]
    return sorted(whole, key=lambda one: (began.get(one.stack, 0.0), one.stack), reverse=True)


def newest_image(kept: Sequence[Kept], arch: str, now: float) -> Kept | None:
    """The first for that architecture that is not past its end: any sweep may delete one that is."""
    return next((one for one in kept if one.arch == arch and one.keep_until > now), None)


def named_image(kept: Sequence[Kept], spec: CellSpec, arches: Sequence[str]) -> Kept:
    """The one that ``spec`` names; ``image_unknown``, ``config_invalid`` for another architecture's, or for a beginning
    that several have."""
    asked = spec.image
    found = [one for one in kept if asked == one.stack or _is_digest_of(asked, one)]
    if not found:
        or_made = "" if spec.orchestrates else "; or --image bake, which makes and publishes one"
        raise GrafosError(
            "image_unknown",
            f"no image {asked} is published on {spec.provider} in {spec.region}",
            where=f"{spec.provider} {spec.region}",
            next=f"grafos cloud image publish {spec.provider} --region {spec.region}; see those that are there: "
            f"grafos cloud image ls --provider {spec.provider}{or_made}; or --image {STOCK}",
        )
    fitting = [one for one in found if one.arch in arches]
    if not fitting:
        named = spec.machine_type or f"a machine for {spec.arch}"
        raise GrafosError(
            "config_invalid",
            f"{found[0].stack} is for {found[0].arch}, and {named} is {' or '.join(arches)}",
            where="--image",
            next="choose another machine type with --type, or an image that was baked for it: "
            f"grafos cloud image publish {spec.provider} --arch {arches[0]}",
        )
    if len(fitting) > 1:
        raise GrafosError(
            "config_invalid",
            f"the SHA-256 of {len(fitting)} images begins with {asked}",
            where="--image",
            next=f"name more of it: {', '.join(one.digest for one in fitting)}",
        )
    return fitting[0]


def _is_digest_of(asked: str, one: Kept) -> bool:
    """Whether the image's SHA-256 begins so, as far as it is known: a cloud tells its beginning alone."""
    return one.sha256.startswith(asked) if one.sha256 else one.digest.startswith(asked[:DIGEST_CHARACTERS])


def _start(own: Kept, spec: CellSpec) -> Start:
    image = Image(own.image_id, own.stack, own.arch, python="", disk_gib=DISK_GIB_LEAST)
    return Start(image, _type(spec, own.arch), own.digest, own.keep_until, own.secure_boot)


def _type(spec: CellSpec, arch: str) -> str:
    return spec.machine_type or layout_of(spec.provider).default_types[arch]
