"""Images of a few bytes with all that a bake puts beside them, signed with a person's own fabric key."""

from __future__ import annotations

from pathlib import Path

from command_line import Person

from grafos_cellimage import provenance, sbom
from grafos_cellimage.bake import settings_sha256
from grafos_cellimage.lock import open_lock
from grafos_cellimage.plan import plan_for
from grafos_cellimage.provenance import Source
from grafos_cellimage.record import BakedImage, sha256_of, write_record
from grafos_core import trust
from grafos_core.fabric import KEY_NAME
from grafos_stacks import bundle


def key_of(person: Person) -> trust.PrivateKey:
    """The key of the person's fabric, which is made if there is none."""
    file = person.fabric_home / KEY_NAME
    if not file.exists():
        assert person("fabric", "show").code == 0
    return trust.key_from_pem(file.read_bytes())


def vouched(person: Person, disk: Path, arch: str = "amd64", contents: str = "2" * 64) -> BakedImage:
    """As if the person had baked that disk from grafos' own lock and software."""
    plan, own, sha256 = plan_for(arch), bundle.rooms(), sha256_of(disk)
    lock, lock_sha256 = open_lock(plan)
    document = sbom.document(plan, lock, {}, own, sha256)
    image = BakedImage(
        path=disk,
        sha256=sha256,
        size_bytes=disk.stat().st_size,
        arch=arch,
        suite=plan.suite,
        lock_sha256=lock_sha256,
        contents_sha256=contents,
        sbom_sha256=sbom.digest(document),
        settings_sha256=settings_sha256(plan, bundle.STRIPPED),
    )
    provenance.sbom_of(image).write_bytes(document)
    return vouched_again(person, image)


def vouched_again(person: Person, image: BakedImage) -> BakedImage:
    """The record as it is now, written and signed for."""
    own = bundle.rooms()
    lock, _ = open_lock(plan_for(image.arch))
    write_record(image)
    said = provenance.statement(image, lock, Source("0.1.0", own), "fab-of-a-test")
    provenance.write(image, said, key_of(person))
    return image
