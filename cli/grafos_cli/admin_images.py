"""`grafos admin cell-images`: which baked images cells must be of that runs are given to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grafos_cli.admin_roots import known_home
from grafos_cli.taught import new_group, taught, terminal_of

if TYPE_CHECKING:
    from grafos_cli.terminal import Terminal
    from grafos_core.fabric import Fabric
    from grafos_scheduler.image_messages import ImageDemandView

app = new_group(
    help="Which baked images cells must be of: runs are given to no other cell.",
    examples=(
        "grafos admin cell-images show",
        "grafos admin cell-images demand cell-trixie-amd64-0123456789ab.raw",
        "grafos admin cell-images lift",
    ),
    next="grafos admin cell-images show",
)
NONE = "none"


@app.command(
    "show",
    cls=taught(
        examples=("grafos admin cell-images show", "grafos admin cell-images show --json | jq .demand.vetoed"),
        next="grafos fabric cells",
    ),
)
def show(ctx: typer.Context) -> None:
    """Shows which images are demanded, since when and by whom, and the cells that are of none of them."""
    from grafos_stacks.records import OPERATOR

    terminal = terminal_of(ctx)
    with known_home(terminal).client(OPERATOR) as client:
        _tell(client.demanded_images(), terminal)


@app.command(
    "demand",
    cls=taught(
        examples=(
            "grafos admin cell-images demand cell-trixie-amd64-0123456789ab.raw cell-trixie-arm64-ba9876543210.raw",
            "grafos admin cell-images demand CONTENTS_SHA256 --json",
        ),
        next="grafos admin cell-images show",
    ),
)
def demand(
    ctx: typer.Context,
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE...", help="the disk of an image, or its contents_sha256"),
    ],
) -> None:
    """Demands that cells are of one of these images, in place of what was demanded before.

    A cell of another image, or of a stock one, keeps what it runs and gets nothing new: `placement_failed`, with the
    veto `attestation`. It is the cell's own word: it finds what is old or made in error, and binds no machine that
    lies.
    """
    from grafos_cli.fabric import open_default
    from grafos_stacks.records import OPERATOR

    terminal = terminal_of(ctx)
    fabric = open_default(terminal)
    digests = tuple(_contents_of(image, fabric) for image in images)
    with known_home(terminal).client(OPERATOR) as client:
        _tell(client.demand_images(digests), terminal)


@app.command(
    "lift",
    cls=taught(
        examples=("grafos admin cell-images lift", "grafos admin cell-images lift --json"),
        next="grafos admin cell-images show",
    ),
)
def lift(ctx: typer.Context) -> None:
    """Lets cells be of any image again."""
    from grafos_stacks.records import OPERATOR

    terminal = terminal_of(ctx)
    with known_home(terminal).client(OPERATOR) as client:
        _tell(client.demand_images(()), terminal)


def _contents_of(image: str, fabric: Fabric) -> str:
    """What cells of the image tell of it, for which the fabric must have vouched; ``image_invalid`` for no image, or
    one that bears no digest."""
    from grafos_cellimage import provenance
    from grafos_cellimage.record import invalid, read_record

    if re.fullmatch(r"[0-9a-f]{64}", image):
        return image
    found = read_record(Path(image))
    provenance.check(found, fabric.key.public_key())
    if not found.contents_sha256:
        raise invalid(found.path, "it was baked before images bore a digest of their contents")
    return found.contents_sha256


def _tell(view: ImageDemandView, terminal: Terminal) -> None:
    import msgspec

    from grafos_cli.moments import moment_text
    from grafos_cli.tables import facts

    told = [("demanded", ", ".join(view.digests) or f"{NONE}: any image is let in")]
    if view.digests:
        told += [("set by", f"{view.set_by}, {moment_text(view.set_at)}")]
        told += [("vetoed", ", ".join(view.vetoed) or NONE)]
    terminal.emit({"demand": msgspec.to_builtins(view)}, facts(told, terminal))
