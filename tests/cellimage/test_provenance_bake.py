"""What is said of an image that was really baked, by the commands that a person uses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from baking import bake
from command_line import Person
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation import make_schemabased_validator

from grafos_cellimage import provenance, sbom
from grafos_cellimage.overlay import DIGEST
from grafos_cellimage.record import BakedImage, read_record

pytestmark = [pytest.mark.needs("image"), pytest.mark.timeout(900)]


def test_two_bakes_give_the_same_document_of_contents(image: BakedImage, tmp_path: Path) -> None:
    again = bake("amd64", tmp_path)
    one, other = (provenance.sbom_of(each).read_bytes() for each in (image, again))
    assert one == other
    assert make_schemabased_validator(OutputFormat.JSON, SchemaVersion.V1_6).validate_str(one.decode()) is None
    parts = json.loads(one)["components"]
    said = [part["name"] for part in parts if "licenses" in part]
    print(f"{sbom.count(one)} components, {len(said)} of them with their licences")
    assert {"systemd-boot-efi", "libc6", "wasmtime", "grafos-cell"} <= set(said)
    assert len(said) > 0.8 * len(parts)


def test_an_image_bears_a_digest_of_its_contents_where_its_cell_reads_it(image: BakedImage) -> None:
    from grafos_cell import inventory

    assert len(image.contents_sha256) == 64
    where = image.path.parent / "root" / DIGEST
    where.parent.mkdir(parents=True, exist_ok=True)
    where.write_text(f"{image.contents_sha256}\n")
    assert inventory.image_sha256(image.path.parent / "root") == image.contents_sha256
    where.write_text("whatever")
    assert inventory.image_sha256(image.path.parent / "root") == ""
    where.unlink()
    assert inventory.image_sha256(image.path.parent / "root") == ""


def test_an_image_that_was_baked_is_vouched_for_with_all_that_belongs_to_it(tmp_path: Path) -> None:
    person, folder = Person(tmp_path), tmp_path / "images"
    disk = baked_by(person, folder)
    answer = person("admin", "image-provenance", str(disk), "--json")
    assert answer.code == 0, answer.err
    told = answer.document
    assert (told["reproduced"], told["image"]["sha256"]) == (None, read_record(disk).sha256)
    assert sorted(told["packages"]) == ["grafos-cell", "grafos-core", "grafos-scheduler"]
    assert [path.suffix for path in sorted(folder.iterdir())] == [".json", ".jsonl", ".json", ".raw"]


@pytest.mark.deep
def test_an_image_that_was_baked_is_baked_again_from_nothing_that_is_here(tmp_path: Path) -> None:
    person = Person(tmp_path)
    disk = baked_by(person, tmp_path / "images")
    answer = person("admin", "image-provenance", str(disk), "--rebake", "--json")
    assert answer.code == 0, answer.err
    assert answer.document["reproduced"] is True


def baked_by(person: Person, folder: Path) -> Path:
    baked = person("cloud", "image", "bake", "--arch", "amd64", "--folder", str(folder), "--json")
    assert baked.code == 0, baked.err
    return Path(baked.document["image"]["path"])
