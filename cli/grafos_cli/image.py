"""`grafos cloud image`: the cell as one disk image, the same bytes on every cloud."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from grafos_cli import image_bake, image_boot, image_keep, image_publish
from grafos_cli.taught import new_group, taught, terminal_of

app = new_group(
    help="The cell as one disk image: baked once, and the same bytes on every cloud.",
    examples=("grafos cloud image bake", "grafos cloud image boot", "grafos cloud image ls"),
    next="grafos cloud image bake",
)

app.command("bake", cls=image_bake.BAKE)(image_bake.bake)
app.command("boot", cls=image_boot.BOOT)(image_boot.boot)
app.command("publish", cls=image_publish.PUBLISH)(image_publish.publish)
app.command("extend", cls=image_keep.EXTEND)(image_keep.extend)
app.command("rm", cls=image_publish.RM)(image_publish.rm)
app.add_typer(image_bake.lock_app, name="lock")

FOLDER_HELP = "where images are kept (the cache folder)"
SHOWN_DIGITS = 12
"""Of a SHA-256 that a person reads; documents have all of them."""


@app.command(
    "ls",
    cls=taught(
        examples=(
            "grafos cloud image ls",
            "grafos cloud image ls --provider all",
            "grafos cloud image ls --stream | jq -r .sha256",
        ),
        next="grafos cloud provision gcp",
        streams="images",
    ),
)
def ls(
    ctx: typer.Context,
    folder: Annotated[str, typer.Option(metavar="DIR", help=FOLDER_HELP)] = "",
    provider: Annotated[str, typer.Option(metavar="NAME", help="those published to aws, azure, gcp, or all")] = "",
) -> None:
    """Lists the images that were baked here, with what they weigh; with --provider those in a cloud's account."""
    from grafos_cellimage.record import images_home, list_images
    from grafos_cli.image_view import image_document
    from grafos_cli.tables import table

    terminal = terminal_of(ctx)
    if provider:
        image_publish.list_published(provider, terminal)
        return
    images = list_images(Path(folder) if folder else images_home())
    rows = [
        [image.sha256[:SHOWN_DIGITS], image.arch, image.suite, f"{image.uki_bytes / 1e6:.1f} MB", str(image.path)]
        for image in images
    ]
    text = table(("IMAGE", "ARCH", "SUITE", "SYSTEM", "DISK"), rows, terminal, spare=("DISK",))
    terminal.emit({"images": [image_document(image) for image in images]}, text if rows else "No image yet.\n")
