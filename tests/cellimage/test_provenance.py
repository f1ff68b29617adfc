"""Where an image comes from: what is signed beside it, and what is refused. A few bytes stand for the disk."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import msgspec
import pytest
from command_line import Person

from grafos_cellimage import provenance, sbom
from grafos_cellimage.lock import open_lock, shipped
from grafos_cellimage.plan import plan_for
from grafos_cellimage.provenance import Source
from grafos_cellimage.record import BakedImage, sha256_of, write_record
from grafos_cellimage.relock import copy_at
from grafos_cli.image_vouching import check_same
from grafos_core import trust
from grafos_core.errors import GrafosError

PLAN = plan_for("amd64")
LOCK, LOCK_SHA256 = open_lock(PLAN)
OWN = {
    "grafos_core/__init__.py": b"",
    "grafos_core-0.1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: grafos-core\nVersion: 0.1.0\n",
}
LICENCES = {"base-files": ("GPL-2+", "verbatim"), "click": ("BSD-3-Clause",)}
KEY = trust.new_key()


def made(folder: Path, disk: bytes = b"boots", key: trust.PrivateKey = KEY) -> BakedImage:
    """An image with all that a bake puts beside it."""
    folder.mkdir(exist_ok=True)
    path = folder / "cell-trixie-amd64-0123456789ab.raw"
    path.write_bytes(disk)
    document = sbom.document(PLAN, LOCK, LICENCES, OWN, sha256_of(path))
    image = BakedImage(
        path=path,
        sha256=sha256_of(path),
        size_bytes=len(disk),
        arch="amd64",
        suite="trixie",
        lock_sha256=LOCK_SHA256,
        uki_sha256="1" * 64,
        contents_sha256="2" * 64,
        settings_sha256="3" * 64,
        sbom_sha256=sbom.digest(document),
        tools={"zstd": "v1"},
    )
    provenance.sbom_of(image).write_bytes(document)
    write_record(image)
    provenance.write(image, provenance.statement(image, LOCK, Source("0.1.0", OWN, "c" * 40), "fab-1"), key)
    return image


def refusal(image: BakedImage, key: trust.PrivateKey = KEY) -> str:
    with pytest.raises(GrafosError) as refused:
        provenance.check(image, key.public_key())
    return refused.value.code


# --- what is said ---------------------------------------------------------------------------------------------------


def test_the_statement_is_one_of_in_toto_with_slsas_predicate(tmp_path: Path) -> None:
    image = made(tmp_path)
    said = msgspec.to_builtins(provenance.check(image, KEY.public_key()))
    assert (said["_type"], said["predicateType"]) == (
        "https://in-toto.io/Statement/v1",
        "https://slsa.dev/provenance/v1",
    )
    assert [each["digest"]["sha256"] for each in said["subject"]] == [image.sha256, image.uki_sha256]
    definition, details = said["predicate"]["buildDefinition"], said["predicate"]["runDetails"]
    assert definition["externalParameters"] == {"arch": "amd64", "suite": "trixie", "python": "3.13"}
    assert definition["internalParameters"] == {
        "SOURCE_DATE_EPOCH": LOCK.epoch_s,
        "contents_sha256": "2" * 64,
        "settings_sha256": "3" * 64,
    }
    made_from = {each["name"]: each["digest"] for each in definition["resolvedDependencies"]}
    assert made_from["lock"] == {"sha256": LOCK_SHA256}
    assert made_from["source"] == {"gitCommit": "c" * 40}
    assert made_from["grafos-core"] == {"sha256": sbom.tree_sha256("grafos-core", OWN)}
    assert made_from["debian/trixie/InRelease"] == {"sha256": LOCK.archives[0].sha256}
    assert details["builder"]["version"] == {"grafos": "0.1.0", "zstd": "v1"}
    assert details["byproducts"] == [{"name": "sbom", "digest": {"sha256": image.sbom_sha256}}]


def test_it_says_no_time_so_the_same_bake_says_the_same(tmp_path: Path) -> None:
    said = [provenance.check(made(tmp_path / name), KEY.public_key()) for name in ("one", "other")]
    assert said[0] == said[1]


def test_the_document_of_contents_is_valid_whole_and_the_same_each_time() -> None:
    from cyclonedx.schema import OutputFormat, SchemaVersion
    from cyclonedx.validation import make_schemabased_validator

    one, other = (sbom.document(PLAN, LOCK, LICENCES, OWN, "a" * 64) for _ in range(2))
    assert one == other
    assert make_schemabased_validator(OutputFormat.JSON, SchemaVersion.V1_6).validate_str(one.decode()) is None
    parts = {part["name"]: part for part in json.loads(one)["components"]}
    installed = [package for package in LOCK.packages if package.role != "tool"]
    assert len(parts) == len(installed) + len(LOCK.wheels) + 1 == sbom.count(one)
    for package in installed:
        assert parts[package.name]["hashes"] == [{"alg": "SHA-256", "content": package.sha256}]
    kernel = next(package.name for package in installed if package.role == "kernel")
    assert parts[kernel]["licenses"] == [{"expression": "GPL-2.0-only WITH Linux-syscall-note"}]
    assert parts["systemd-boot-efi"]["type"] == "firmware"
    assert parts["base-files"]["licenses"] == [{"license": {"name": "GPL-2+"}}, {"license": {"name": "verbatim"}}]
    assert parts["click"]["licenses"] == [{"expression": "BSD-3-Clause"}]
    assert parts["cffi"]["purl"].startswith("pkg:pypi/cffi@")
    assert parts["base-files"]["purl"] == "pkg:deb/debian/base-files@13.8%2Bdeb13u7?arch=amd64"
    assert sbom.of_disk(one, "b" * 64) == sbom.document(PLAN, LOCK, LICENCES, OWN, "b" * 64)


# --- what is refused ------------------------------------------------------------------------------------------------


def test_an_image_that_was_changed_is_refused(tmp_path: Path) -> None:
    image = made(tmp_path)
    image.path.write_bytes(b"bootz")
    assert refusal(image) == "image_invalid"


def test_so_is_one_whose_record_was_changed_with_it(tmp_path: Path) -> None:
    image = made(tmp_path)
    image.path.write_bytes(b"bootz")
    assert refusal(msgspec.structs.replace(image, sha256=sha256_of(image.path))) == "image_invalid"


SIGNED_TOO = (
    *("uki_sha256", "lock_sha256", "sbom_sha256", "contents_sha256", "settings_sha256", "arch"),
    *("unsigned_sha256", "unsigned_uki_sha256", "certificate_sha256"),
)


@pytest.mark.parametrize("field", SIGNED_TOO)
def test_a_record_that_says_otherwise_is_refused(tmp_path: Path, field: str) -> None:
    assert refusal(msgspec.structs.replace(made(tmp_path), **{field: "4" * 64})) == "provenance_invalid"


def test_a_document_of_contents_that_was_changed_is_refused(tmp_path: Path) -> None:
    image = made(tmp_path)
    place = provenance.sbom_of(image)
    place.write_bytes(place.read_bytes().replace(b"base-files", b"base-filez"))
    assert refusal(image) == "provenance_invalid"
    place.unlink()
    assert refusal(image) == "provenance_invalid"


def test_provenance_of_another_image_is_refused(tmp_path: Path) -> None:
    image, other = made(tmp_path / "one"), made(tmp_path / "other", b"other")
    provenance.place_of(image).write_bytes(provenance.place_of(other).read_bytes())
    assert refusal(image) == "image_invalid"


def test_provenance_that_was_changed_is_refused(tmp_path: Path) -> None:
    image = made(tmp_path)
    place = provenance.place_of(image)
    told = json.loads(place.read_bytes())
    told["payload"] = told["payload"][:-8] + "AAAAAAA="
    place.write_text(json.dumps(told))
    assert refusal(image) == "provenance_invalid"
    place.write_bytes(b"")
    assert refusal(image) == "provenance_invalid"


def test_provenance_of_another_fabric_is_refused(tmp_path: Path) -> None:
    assert refusal(made(tmp_path), trust.new_key()) == "fabric_mismatch"


def test_an_image_that_says_nothing_of_itself_is_refused(tmp_path: Path) -> None:
    image = made(tmp_path)
    provenance.place_of(image).unlink()
    assert refusal(image) == "provenance_missing"


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_command_tells_what_an_image_was_made_from_or_why_it_is_refused(tmp_path: Path) -> None:
    person = Person(tmp_path)
    person("fabric", "show")
    key = trust.key_from_pem((person.fabric_home / "fabric-key.pem").read_bytes())
    image = made(tmp_path / "images", key=key)
    answer = person("admin", "image-provenance", str(image.path), "--json")
    assert answer.code == 0, answer.err
    told = answer.document
    assert (told["image"]["sha256"], told["commit"], told["reproduced"]) == (image.sha256, "c" * 40, None)
    assert told["components"] == 106
    assert hashlib.sha256(provenance.sbom_of(image).read_bytes()).hexdigest() == told["image"]["sbom_sha256"]
    answer = person("admin", "image-provenance", str(image.path), "--rebake")
    assert answer.error_code == "image_differs", "the software of this image is none that anybody has"
    assert ("grafos-cell" in answer.err, "c" * 40 in answer.err) == (True, True)
    provenance.place_of(image).unlink()
    assert person("admin", "image-provenance", str(image.path)).error_code == "provenance_missing"
    assert person("admin", "image-provenance", "nothing.raw").error_code == "image_invalid"


def test_an_image_of_another_lock_is_baked_again_from_that_one_alone(tmp_path: Path) -> None:
    person = Person(tmp_path)
    person("fabric", "show")
    key = trust.key_from_pem((person.fabric_home / "fabric-key.pem").read_bytes())
    image = made(tmp_path / "images", key=key)
    again = ("admin", "image-provenance", str(image.path), "--rebake")
    other = tmp_path / "other.lock"
    other.write_text(shipped(PLAN).read_text() + "\n")
    answer = person(*again, "--lock", str(other))
    assert (answer.error_code, "--lock FILE" in answer.err) == ("image_differs", True)
    write_record(msgspec.structs.replace(image, relocked_from="9" * 64))
    assert person(*again).error_code == "config_invalid", "its lock is one that was made beside it, and is gone"
    copy_at(PLAN, "9" * 64, LOCK_SHA256, image.path.parent).write_text(shipped(PLAN).read_text())
    answer = person(*again)
    assert (answer.error_code, "our software" in answer.err) == ("image_differs", True)


def test_a_second_bake_is_held_against_the_first_and_against_what_was_signed(tmp_path: Path) -> None:
    image = made(tmp_path)
    other = msgspec.structs.replace(image, sha256="5" * 64)
    check_same(image, image)
    check_same(msgspec.structs.replace(image, unsigned_sha256=other.sha256), other)
    for again, why in ((other, "the programs are the same"), (with_zstd(other, "v2"), "zstd v2, then v1")):
        with pytest.raises(GrafosError) as refused:
            check_same(image, again)
        assert (refused.value.code, why in str(refused.value.why)) == ("image_differs", True)


def with_zstd(image: BakedImage, version: str) -> BakedImage:
    return msgspec.structs.replace(image, tools={"zstd": version})


def test_a_key_without_its_certificate_is_told_before_anything_is_baked(tmp_path: Path) -> None:
    person = Person(tmp_path)
    alone = person("cloud", "image", "bake", "--arch", "amd64", "--secure-boot-key", "key.pem")
    assert alone.error_code == "usage"
    words = ("--secure-boot-key", "key.pem", "--secure-boot-certificate", "certificate.pem")
    assert person("cloud", "image", "bake", "--arch", "amd64", *words).error_code in ("config_invalid", "tool_missing")
