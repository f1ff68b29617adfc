"""Somebody with an orchestrator publishes an image, makes a cell of it, and rolls that over to the next image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Person
from disks import make_disk
from own_orchestrator import OwnOrchestrator
from vouching import vouched

from grafos_connectors.uploads import MIB


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """Their shell is pointed at an emulated Google Cloud."""
    somebody = Person(tmp_path_factory.mktemp("operator"))
    up = somebody("emulate", "up")
    assert up.code == 0, up.err
    somebody.env.update(somebody("emulate", "env", "--json").document["environment"])
    somebody.env |= {"CLOUDSDK_COMPUTE_REGION": "us-central1"}
    yield somebody
    somebody("emulate", "down")


@pytest.fixture(scope="module")
def orchestrator(operator: Person) -> Iterator[OwnOrchestrator]:
    started = OwnOrchestrator(operator)
    claimed = operator("fabric", "claim", started.url)
    assert claimed.code == 0, claimed.err
    yield started
    started.discard()


def publish(operator: Person, folder: Path, seed: int) -> str:
    """A small disk; the name that its image has."""
    folder.mkdir()
    with make_disk(folder, 3 * MIB, ((5000, 70_000),), seed) as disk:
        baked = vouched(operator, disk.path)
    told = operator("cloud", "image", "publish", "gcp", "--image", str(baked.path), "--yes", "--json")
    assert told.code == 0, told.err
    name: str = told.document["published"]["name"]
    return name


@pytest.mark.usefixtures("orchestrator")
def test_a_cell_starts_from_a_published_image_and_is_rolled_to_the_next(operator: Person, tmp_path: Path) -> None:
    asked = ("cloud", "provision", "gcp", "--cell-id", "web", "--ttl", "1h")
    stock = operator(*asked, "--dry-run")
    assert "stock image" in stock.out
    assert "from a published image about" in stock.out
    assert operator(*asked, "--image", "img-gcp-us-central1-000000000000", "--dry-run").error_code == "image_unknown"
    first = publish(operator, tmp_path / "first", 31)
    made = operator(*asked, "--yes", "--json")
    assert made.code == 0, made.err + made.out
    plan = made.document["plan"]
    assert (plan["facts"]["image"]["name"], plan["installs_at_first_boot"]) == (first, False)
    assert plan["predicted_ways_s"]["image"] == plan["predicted_s"] < plan["predicted_ways_s"]["stock"]

    [cell] = operator("cloud", "roll", "gcp", "--dry-run", "--json").document["cells"]
    assert (cell["cell_id"], cell["state"], cell["successor"]) == ("web", "as wanted", "")
    second = publish(operator, tmp_path / "second", 32)
    [cell] = operator("cloud", "roll", "gcp", "--dry-run", "--json").document["cells"]
    assert (cell["state"], cell["starts_from"], cell["successor"]) == ("to do", second, "web-r2")
    rolled = operator("cloud", "roll", "gcp", "--yes")
    assert rolled.code == 0, rolled.err + rolled.out
    assert "1 of 1 cell was replaced" in rolled.out
    assert operator("cloud", "roll", "aws").error_code == "unsupported"
    states = {one["cell_id"]: one["state"] for one in operator("cloud", "ls", "--json").document["cells"]}
    assert states["web-r2"] == "live"
    assert states.get("web", "gone") == "gone"
    assert operator("cloud", "roll", "gcp", "--cell-id", "nobody").error_code == "cell_unknown"
    ended = operator("cloud", "teardown", "gcp", "--cell-id", "web-r2", "--yes")
    assert ended.code == 0, ended.err
