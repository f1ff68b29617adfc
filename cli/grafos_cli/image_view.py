"""An image as the commands of `grafos cloud image` tell of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from grafos_cellimage.provenance import Statement
    from grafos_cellimage.record import BakedImage
    from grafos_core.fabric import Fabric
    from grafos_stacks.publishing_plan import DiskFacts


def chosen_image(image: str, fabric: Fabric, arch: str = "") -> BakedImage:
    """The image of that file, else the newest here that the fabric vouches for, of that architecture if one is named;
    what was signed of it holds, down to the disk's bytes.

    ``image_invalid``, ``provenance_missing``, ``provenance_invalid``, ``fabric_mismatch``.
    """
    from pathlib import Path

    from grafos_cellimage import provenance
    from grafos_cellimage.record import read_record
    from grafos_core.errors import GrafosError

    if image:
        chosen = read_record(Path(image))
    else:
        baked = [one for one, _ in vouched_images(fabric) if arch in ("", one.arch)]
        if not baked:
            of, bake = (f" for {arch}", f" --arch {arch}") if arch else ("", "")
            what = f"fabric {fabric.id} vouches for no image{of} that is here"
            raise GrafosError("image_invalid", what, next=f"grafos cloud image bake{bake}")
        chosen = baked[0]
    provenance.check(chosen, fabric.key.public_key())
    return chosen


def vouched_images(fabric: Fabric) -> list[tuple[BakedImage, Statement]]:
    """Those in the cache folder about which the fabric has signed a statement, the newest first, with what that says;
    the disks are not looked at."""
    from grafos_cellimage import provenance
    from grafos_cellimage.record import images_home, list_images
    from grafos_core.errors import GrafosError

    found = []
    for image in list_images(images_home()):
        try:
            found.append((image, provenance.read(image, fabric.key.public_key())))
        except GrafosError:
            continue
    return sorted(found, key=lambda one: one[0].path.stat().st_mtime, reverse=True)


def disk_facts(image: BakedImage) -> DiskFacts:
    """What a cloud is told of the image's disk, with the certificate for its machines' firmware if it is signed."""
    import base64

    from grafos_cellimage.secure_boot import certificate_beside
    from grafos_stacks.publishing_plan import DiskFacts

    certificate = base64.b64encode(certificate_beside(image)).decode()
    return DiskFacts(image.sha256, image.arch, image.size_bytes, certificate)


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
