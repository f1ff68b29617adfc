"""`grafos cloud image`: the cell as one disk image, the same bytes on every cloud."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grafos_cli.taught import new_group, taught, terminal_of

if TYPE_CHECKING:
    from grafos_cellimage.record import BakedImage

app = new_group(
    help="The cell as one disk image: baked once, and the same bytes on every cloud.",
    examples=("grafos cloud image ls", "grafos cloud image ls --json"),
    next="grafos cloud image ls",
)

FOLDER_HELP = "where images are kept (the cache folder)"
SHOWN_DIGITS = 12
"""Of a SHA-256 that a person reads; documents have all of them."""


@app.command(
    "ls",
    cls=taught(
        examples=("grafos cloud image ls", "grafos cloud image ls --stream | jq -r .sha256"),
        next="grafos cloud provision gcp",
        streams="images",
    ),
)
def ls(
    ctx: typer.Context,
    folder: Annotated[str, typer.Option(metavar="DIR", help=FOLDER_HELP)] = "",
) -> None:
    """Lists the images that were baked here, with what they weigh."""
    from grafos_cellimage.record import images_home, list_images
    from grafos_cli.tables import table

    terminal = terminal_of(ctx)
    images = list_images(Path(folder) if folder else images_home())
    rows = [
        [image.sha256[:SHOWN_DIGITS], image.arch, image.suite, f"{image.uki_bytes / 1e6:.1f} MB", str(image.path)]
        for image in images
    ]
    text = table(("IMAGE", "ARCH", "SUITE", "SYSTEM", "DISK"), rows, terminal, spare=("DISK",))
    terminal.emit({"images": [image_document(image) for image in images]}, text if rows else "No image yet.\n")


def image_document(image: BakedImage) -> dict[str, object]:
    """An image in an answer for programs."""
    return {
        "path": str(image.path),
        "sha256": image.sha256,
        "size_bytes": image.size_bytes,
        "arch": image.arch,
        "suite": image.suite,
        "lock_sha256": image.lock_sha256,
        "own_sha256": image.own_sha256,
        "uki_sha256": image.uki_sha256,
        "uki_bytes": image.uki_bytes,
        "tools": image.tools,
    }
