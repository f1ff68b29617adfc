"""A standalone cell really boots the image that was published: under QEMU, on the emulated AWS, with its port."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import HELLO, Person, ends_with
from vouching import vouched_again

from grafos_cellimage.record import BakedImage

pytestmark = [pytest.mark.needs("image"), pytest.mark.deep, pytest.mark.timeout(2400)]

BOOT_S_MAX = 900.0
CELL = "on-aws"
REGION = "us-east-1"
TRIES = 6


@pytest.fixture
def ada(tmp_path: Path) -> Iterator[Person]:
    """Somebody with an emulated AWS that boots what is published to it."""
    somebody = Person(tmp_path)
    up = somebody("emulate", "up", "--clouds", "aws", "--boot", "qemu")
    assert up.code == 0, up.err
    somebody.env.update(somebody("emulate", "env", "--json").document["environment"])
    yield somebody
    somebody("emulate", "down")


def test_a_standalone_cell_boots_runs_and_moves_its_end(ada: Person, image: BakedImage) -> None:
    vouched_again(ada, image)
    place = ("--region", REGION)
    published = ada("cloud", "image", "publish", "aws", "--image", str(image.path), *place, "--yes", "--json")
    assert published.code == 0, published.err
    asked = ("cloud", "provision", "aws", "--cell-id", CELL, *place, "--type", "t3.medium", "--ttl", "2h")
    made = ends_with(ada.starts(*asked, "--yes", "--json"), BOOT_S_MAX)
    assert made.code == 0, made.out + made.err
    assert made.document["plan"]["facts"]["baked"] == image.sha256[:12]
    ada.write_program(HELLO)
    run = ada("deploy", "run", "--provider", "aws", "--json")
    assert run.code == 0, run.out + run.err
    assert ada("artifacts", run.document["run_id"], "--verify").code == 0
    [cell] = ada("provider", "status", "aws", "--json").document["cells"]
    assert cell["image_sha256"] == image.contents_sha256, "the cell tells which image it is of"

    # An emulated processor may take longer for it than a command waits; the same one goes on.
    longer = ("cloud", "extend", "--cell-id", CELL, "--ttl", "+1h", "--yes")
    assert any(ada(*longer).code == 0 for _ in range(TRIES))
    ended = ada("cloud", "teardown", "aws", "--cell-id", CELL, "--yes", "--json")
    assert ended.code == 0, ended.out + ended.err
