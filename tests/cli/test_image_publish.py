"""`grafos cloud image publish`, `rm` and `ls --provider`, on the three emulated clouds as a person uses them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from command_line import Person
from disks import make_disk, sha256_of
from vouching import vouched

from grafos_cellimage.provenance import place_of
from grafos_cellimage.record import BakedImage, write_record
from grafos_connectors.uploads import MIB

REGIONS = {"aws": "eu-central-1", "gcp": "us-central1", "azure": "westeurope"}


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    somebody = Person(tmp_path_factory.mktemp("person"))
    up = somebody("emulate", "up")
    assert up.code == 0, up.err
    somebody.env.update(somebody("emulate", "env", "--json").document["environment"])
    yield somebody
    somebody("emulate", "down")


@pytest.fixture(scope="module")
def image(person: Person, tmp_path_factory: pytest.TempPathFactory) -> BakedImage:
    folder = tmp_path_factory.mktemp("image")
    with make_disk(folder, 3 * MIB, ((5000, 70_000),)) as disk:
        return vouched(person, disk.path, "arm64")


def words_for(provider: str, image: BakedImage) -> tuple[str, ...]:
    return ("cloud", "image", "publish", provider, "--image", str(image.path), "--region", REGIONS[provider])


@pytest.mark.parametrize("provider", REGIONS)
def test_an_image_is_published_listed_and_removed(person: Person, image: BakedImage, provider: str) -> None:
    words = words_for(provider, image)
    first = person(*words, "--yes", "--json")
    assert first.code == 0, first.err
    plan, published = first.document["plan"], first.document["published"]
    assert published["was_there"] is False
    assert published["filled"]["bytes_sent"] < 2 * MIB
    again = person(*words, "--yes", "--json").document["published"]
    assert (again["was_there"], again["filled"], again["image_id"]) == (True, None, published["image_id"])
    [listed] = person("cloud", "image", "ls", "--provider", provider, "--json").document["images"]
    assert (listed["stack"], listed["state"], listed["digest"]) == (plan["name"], "ready", image.sha256[:12])
    kept = person("cloud", "image", "extend", plan["name"], "--keep", "+30d", "--yes", "--json").document
    assert kept["ends_at"] > kept["ended_before"] == plan["ends_at"]
    removed = person("cloud", "image", "rm", plan["name"], "--yes", "--json")
    assert removed.code == 0, removed.err
    receipt = removed.document["receipt"]
    assert (receipt["left"], receipt["held_micro_cents"]) == (0, kept["held_micro_cents"])
    assert kept["held_micro_cents"] > plan["held_micro_cents"]


def test_what_it_may_cost_is_shown_before_and_nothing_is_published_by_looking(
    person: Person, image: BakedImage
) -> None:
    plan = person(*words_for("gcp", image), "--dry-run", "--json").document["plan"]
    assert plan["sha256"] == image.sha256
    assert plan["price"]["fictional"] is True
    assert plan["held_micro_cents"] == sum(part["micro_cents"] for part in plan["parts"]) > 0
    assert person("cloud", "image", "ls", "--provider", "gcp").out == "No image is published.\n"


def test_a_published_image_is_no_cell_and_is_counted_and_swept_like_one(person: Person, image: BakedImage) -> None:
    published = person(*words_for("azure", image), "--yes", "--json")
    assert published.code == 0, published.err
    name = published.document["plan"]["name"]
    assert name in person("cloud", "cost", "--json").out
    assert person("cloud", "ls", "--json").document["cells"] == []
    swept = person("cloud", "sweep", "--provider", "azure", "--delete", "--yes", "--json")
    assert swept.code == 0, swept.err
    assert name in person("cloud", "image", "ls", "--provider", "all").out, "a sweep leaves it until its end"
    removed = person("cloud", "image", "rm", name, "--yes").out
    assert "gone" in removed
    assert person("cloud", "image", "rm", name, "--yes").out == removed, "the same receipt"


def test_what_cannot_be_published_is_told_before_anything_is_done(person: Person, image: BakedImage) -> None:
    words = ("cloud", "image", "publish")
    here = ("--image", str(image.path), "--yes")
    assert person(*words, "oracle", *here).error_code == "usage"
    nothing = person(*words, "aws", "--arch", "amd64", "--yes")
    assert (nothing.error_code, "vouches for no image for amd64 that is here" in nothing.err) == ("image_invalid", True)
    assert person(*words, "aws", *here, "--keep", "5m").error_code == "config_invalid"
    assert person(*words, "aws", *here, "--keep", "soon").error_code == "usage"
    assert person(*words, "aws", *here, "--region", "eu-centrl-1").error_code == "cloud_invalid"
    assert person("cloud", "image", "rm", "some-cell", "--yes").error_code == "image_unknown"
    assert person("cloud", "image", "rm", "img-aws-eu-central-1-0123456789ab", "--yes").error_code == "image_unknown"


def test_what_is_not_what_the_fabric_vouched_for_is_not_published(person: Person, tmp_path: Path) -> None:
    """Whoever can change the disk can change the record beside it too; the signature of the fabric's key they have
    not."""
    words = ("cloud", "image", "publish", "aws", "--yes", "--image")
    with make_disk(tmp_path, 3 * MIB, ((0, 10),)) as disk:
        image = vouched(person, disk.path)
    disk.path.write_bytes(b"another".ljust(3 * MIB, b"\0"))
    assert person(*words, str(disk.path)).error_code == "image_invalid"
    write_record(msgspec.structs.replace(image, sha256=sha256_of(disk.path)))
    assert person(*words, str(disk.path)).error_code == "image_invalid"
    place_of(image).unlink()
    assert person(*words, str(disk.path)).error_code == "provenance_missing"
    vouched(Person(tmp_path / "somebody-else"), disk.path)
    assert person(*words, str(disk.path)).error_code == "fabric_mismatch"
    assert person("cloud", "image", "ls", "--provider", "aws").out == "No image is published.\n"
