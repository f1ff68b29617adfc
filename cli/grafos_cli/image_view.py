"""An image as the commands of `grafos cloud image` tell of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from grafos_cellimage.record import BakedImage


def chosen_image(image: str, arch: str = "") -> BakedImage:
    """The image of that file, else the newest here, of that architecture if one is named; its bytes are read and found
    to be its own."""
    from pathlib import Path

    from grafos_cellimage.record import images_home, list_images, read_record, verify
    from grafos_core.errors import GrafosError

    if image:
        chosen = read_record(Path(image))
    else:
        baked = [one for one in list_images(images_home()) if arch in ("", one.arch)]
        if not baked:
            what, bake = (f"no image for {arch}", f" --arch {arch}") if arch else ("no image", "")
            raise GrafosError("image_invalid", f"{what} was baked here yet", next=f"grafos cloud image bake{bake}")
        chosen = max(baked, key=lambda one: one.path.stat().st_mtime)
    verify(chosen)
    return chosen


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
        "contents_sha256": image.contents_sha256,
        "sbom_sha256": image.sbom_sha256,
        "unsigned_sha256": image.unsigned_sha256,
        "relocked_from": image.relocked_from,
        "lock_changes": list(image.lock_changes),
        "tools": image.tools,
    }
