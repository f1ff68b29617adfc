"""Machines with a port really boot the image that was published, under QEMU: a standalone cell, and an orchestrator."""

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
REGIONS = {"aws": "us-east-1", "gcp": "us-central1"}
TRIES = 6


@pytest.fixture
def ada(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Person]:
    """Somebody with an emulated cloud that boots what is published to it."""
    somebody = Person(tmp_path)
    up = somebody("emulate", "up", "--clouds", request.param, "--boot", "qemu")
    assert up.code == 0, up.err
    somebody.env.update(somebody("emulate", "env", "--json").document["environment"])
    yield somebody
    somebody("emulate", "down")


def publish(person: Person, image: BakedImage, cloud: str) -> tuple[str, str]:
    """The flags that name where the image is now."""
    vouched_again(person, image)
    place = ("--region", REGIONS[cloud])
    published = person("cloud", "image", "publish", cloud, "--image", str(image.path), *place, "--yes", "--json")
    assert published.code == 0, published.err
    return place


@pytest.mark.parametrize("ada", ["aws"], indirect=True)
def test_a_standalone_cell_boots_runs_and_moves_its_end(ada: Person, image: BakedImage) -> None:
    place = publish(ada, image, "aws")
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


@pytest.mark.parametrize("ada", ["gcp"], indirect=True)
def test_an_orchestrator_boots_and_keeps_the_fabrics_ledger(ada: Person, image: BakedImage) -> None:
    place = publish(ada, image, "gcp")
    up = ("fabric", "up", "--on", "gcp", *place, "--type", "e2-medium", "--ttl", "2h", "--yes", "--json")
    made = ends_with(ada.starts(*up), BOOT_S_MAX)
    if made.code != 0 and "cell_not_ready" in made.out:  # it may take longer than a command waits
        made = ends_with(ada.starts("fabric", "up", "--yes", "--json"), BOOT_S_MAX)
    assert made.code == 0, made.out + made.err
    assert made.document["plan"]["facts"]["baked"] == image.sha256[:12]
    shown = ada("fabric", "show", "--json")
    assert (shown.code, shown.document["orchestrator"]["name"]) == (0, "orchestrator"), shown.err
    backup = ada("fabric", "backup", str(ada.home / "orchestrator.backup"))
    assert backup.code == 0, backup.err
    down = ada("fabric", "down", "--yes", "--json")
    assert down.code == 0, down.out + down.err
