"""An image as the commands of `grafos cloud image` tell of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from grafos_cellimage.record import BakedImage


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
