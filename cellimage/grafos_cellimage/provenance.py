"""Where an image comes from: a signed statement beside its disk, and whether all of it still belongs together.

    cell-<suite>-<arch>-<digest>.intoto.jsonl

A statement of in-toto (v1) with SLSA's predicate for provenance (v1), in an envelope (DSSE) that the fabric's key
signed. It names disk, UKI and the document of what is in it by SHA-256, and all that they were made from. It says no
time, so a bake from the same lock and software gives the same statement; only the signature differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from grafos_cellimage import sbom
from grafos_cellimage.lock import Lock
from grafos_cellimage.record import BakedImage, sha256_of, verify
from grafos_core import dsse, trust
from grafos_core.errors import GrafosError
from grafos_core.paths import write_private

SUFFIX = ".intoto.jsonl"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT, PREDICATE = "https://in-toto.io/Statement/v1", "https://slsa.dev/provenance/v1"
BUILD_TYPE = "tag:grafos,2026:cell-image/1"
"""What the parameters below mean, and that ``grafos cloud image bake`` is what builds."""
UKI, SBOM, LOCK, SOURCE, UNSIGNED_DISK, UNSIGNED_UKI, CERTIFICATE = (
    *("uki", "sbom", "lock", "source", "unsigned-disk", "unsigned-uki", "secure-boot-certificate"),
)
"""Names of what the statement tells of, beside the disk's own file."""
CONTENTS, SETTINGS = "contents_sha256", "settings_sha256"


class Source(msgspec.Struct, frozen=True):
    """What our own code was: its packages by their places, and the commit of the checkout, if it came from one."""

    version: str
    own: Mapping[str, bytes]
    commit: str = ""
    changed: bool = False
    """The checkout had changes that no commit has."""


class Descriptor(msgspec.Struct, frozen=True, omit_defaults=True):
    """in-toto's words for one thing: a name and its digests."""

    name: str
    digest: dict[str, str]
    annotations: dict[str, str] = {}


class Definition(msgspec.Struct, frozen=True, rename="camel"):
    build_type: str
    external_parameters: dict[str, str]
    internal_parameters: dict[str, Any]
    resolved_dependencies: list[Descriptor]


class Builder(msgspec.Struct, frozen=True):
    id: str
    version: dict[str, str]


class Details(msgspec.Struct, frozen=True):
    builder: Builder
    byproducts: list[Descriptor]


class Predicate(msgspec.Struct, frozen=True, rename="camel"):
    build_definition: Definition
    run_details: Details


class Statement(msgspec.Struct, frozen=True, rename="camel"):
    subject: list[Descriptor]
    predicate: Predicate
    predicate_type: str = PREDICATE
    type: str = msgspec.field(default=STATEMENT, name="_type")

    def digest(self, name: str) -> str:
        """The SHA-256 of what bears the name; "" if nothing does."""
        told = [*self.subject, *self.predicate.run_details.byproducts]
        told += self.predicate.build_definition.resolved_dependencies
        return next((each.digest.get("sha256", "") for each in told if each.name == name), "")

    @property
    def commit(self) -> str:
        """Of our own code; "" where it came from no checkout."""
        of = self.predicate.build_definition.resolved_dependencies
        return next((each.digest.get("gitCommit", "") for each in of if each.name == SOURCE), "")

    @property
    def has_changes(self) -> bool:
        """Whether our own code was other than at that commit."""
        of = self.predicate.build_definition.resolved_dependencies
        return any(each.annotations == _CHANGED for each in of if each.name == SOURCE)

    def packages(self) -> dict[str, str]:
        """The digests of our own packages, by name."""
        of = self.predicate.build_definition.resolved_dependencies
        return {each.name: each.digest["sha256"] for each in of if each.name.startswith("grafos-")}


def statement(image: BakedImage, lock: Lock, source: Source, signer: str) -> Statement:
    """What is to be said of an image that was just baked from the lock. ``signer`` is the fabric that says it."""
    return Statement(
        subject=[_named(image.path.name, image.sha256), _named(UKI, image.uki_sha256)],
        predicate=Predicate(
            Definition(
                BUILD_TYPE,
                {"arch": image.arch, "suite": image.suite, "python": lock.python},
                {"SOURCE_DATE_EPOCH": lock.epoch_s, CONTENTS: image.contents_sha256, SETTINGS: image.settings_sha256},
                _made_from(image, lock, source),
            ),
            Details(
                Builder(f"tag:grafos,2026:fabric/{signer}", {"grafos": source.version, **image.tools}),
                [_named(SBOM, image.sbom_sha256)],
            ),
        ),
    )


def write(image: BakedImage, said: Statement, key: trust.PrivateKey) -> Path:
    """Writes the signed statement beside the disk, whole or not at all."""
    place = place_of(image)
    payload = msgspec.json.format(msgspec.json.encode(said, order="sorted"), indent=1)
    write_private(place, dsse.seal(PAYLOAD_TYPE, payload, key))
    return place


def place_of(image: BakedImage) -> Path:
    return image.path.with_suffix(SUFFIX)


def check(image: BakedImage, key: trust.PublicKey) -> Statement:
    """What the statement beside the image says, once all of it holds: envelope, signature, disk, record and the
    document of what is in it.

    ``provenance_missing``, ``fabric_mismatch`` for another's, ``provenance_invalid``, ``image_invalid``.
    """
    said = read(image, key)
    verify(image)
    if said.digest(image.path.name) != image.sha256:
        raise GrafosError(
            "image_invalid",
            "the disk is not the one whose provenance stands beside it",
            where=str(image.path),
            why=f"its SHA-256 is {image.sha256}, and the provenance names {_disk_of(said)}",
            next="do not use the image; bake it anew: grafos cloud image bake",
        )
    for name, told, signed in _recorded(image, said):
        if told != signed:
            raise dsse.invalid(str(image.record), f"of the {name} the record says {told or 'nothing'}")
    document = sbom_of(image)
    if not document.is_file() or sha256_of(document) != image.sbom_sha256:
        raise dsse.invalid(str(document), f"its SHA-256 is not {image.sbom_sha256}, which was signed")
    return said


def read(image: BakedImage, key: trust.PublicKey) -> Statement:
    """What the signed statement says; the disk is not looked at."""
    place = place_of(image)
    try:
        data = place.read_bytes()
    except OSError as error:
        raise GrafosError(
            "provenance_missing",
            "nothing beside the image says where it comes from",
            where=str(place),
            why=str(error),
            next="bake it anew, which says so: grafos cloud image bake",
        ) from error
    payload = dsse.unseal(data, PAYLOAD_TYPE, key, str(place))
    try:
        said = msgspec.json.decode(payload, type=Statement)
    except msgspec.DecodeError as error:
        raise dsse.invalid(str(place), f"it is no statement of an image: {error}") from error
    definition = said.predicate.build_definition
    if (said.type, said.predicate_type, definition.build_type) != (STATEMENT, PREDICATE, BUILD_TYPE):
        raise dsse.invalid(str(place), f"it is a statement of another kind: {definition.build_type[:80]}")
    return said


def sbom_of(image: BakedImage) -> Path:
    """The document of what the image consists of."""
    return image.path.with_suffix(sbom.SUFFIX)


def _recorded(image: BakedImage, said: Statement) -> list[tuple[str, str, object]]:
    """What the record tells beside the disk's own digest: names, its values, and those that were signed."""
    definition = said.predicate.build_definition
    digests = {UKI: image.uki_sha256, LOCK: image.lock_sha256, SBOM: image.sbom_sha256, **_before_signing(image)}
    given = {"arch": image.arch, "suite": image.suite, CONTENTS: image.contents_sha256}
    given[SETTINGS] = image.settings_sha256
    signed = {**definition.external_parameters, **definition.internal_parameters}
    return [
        *((name, digest, said.digest(name)) for name, digest in digests.items()),
        *((name, value, signed.get(name, "")) for name, value in given.items()),
    ]


def _before_signing(image: BakedImage) -> dict[str, str]:
    """What an image that was signed for Secure Boot was before, and with which certificate; empty for any other."""
    return {
        UNSIGNED_DISK: image.unsigned_sha256,
        UNSIGNED_UKI: image.unsigned_uki_sha256,
        CERTIFICATE: image.certificate_sha256,
    }


def _made_from(image: BakedImage, lock: Lock, source: Source) -> list[Descriptor]:
    """The lock (which has every package and wheel), the lists of Debian's that it was made from, and our own code."""
    lists = [_named(f"debian/{archive.suite}/InRelease", archive.sha256) for archive in lock.archives]
    own = [_named(name, sbom.tree_sha256(name, source.own)) for name, _ in sbom.own_versions(source.own)]
    commit = [Descriptor(SOURCE, {"gitCommit": source.commit}, _CHANGED if source.changed else {})]
    made = [_named(LOCK, image.lock_sha256), *lists, *own, *(commit if source.commit else [])]
    return made + [_named(name, digest) for name, digest in _before_signing(image).items() if digest]


_CHANGED = {"changed": "with changes that no commit has"}


def _named(name: str, sha256: str) -> Descriptor:
    return Descriptor(name, {"sha256": sha256})


def _disk_of(said: Statement) -> str:
    return next((each.digest.get("sha256", "nothing") for each in said.subject if each.name != UKI), "nothing")
