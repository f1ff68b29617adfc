"""`grafos cloud provision --image bake`: what it takes is told, agreed to once, and done once. The image of a few bytes
that was baked before stands for one that a bake would take minutes for; that one is real is held by the bakes' tests.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from agents import until
from command_line import Person
from disks import make_disk
from own_orchestrator import OwnOrchestrator
from vouching import vouched

from grafos_cellimage.record import BakedImage
from grafos_cli.planning import going_on
from grafos_connectors.uploads import MIB
from grafos_stacks.fleet import names_of

pytestmark = pytest.mark.timeout(300)  # dozens of commands, each of which loads a cloud's library

MICRO = 1_000_000
ASKED = ("cloud", "provision", "gcp", "--ttl", "1h", "--image", "bake")


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """With an orchestrator that they claimed, a shell that is pointed at an emulated Google Cloud, and a cache of their
    own."""
    somebody = Person(tmp_path_factory.mktemp("operator"))
    up = somebody("emulate", "up")
    assert up.code == 0, up.err
    somebody.env.update(somebody("emulate", "env", "--json").document["environment"])
    somebody.env |= {"CLOUDSDK_COMPUTE_REGION": "us-central1", "XDG_CACHE_HOME": str(somebody.home / "cache")}
    orchestrator = OwnOrchestrator(somebody)
    claimed = somebody("fabric", "claim", orchestrator.url)
    assert claimed.code == 0, claimed.err
    yield somebody
    orchestrator.discard()
    somebody("emulate", "down")


@pytest.fixture
def baked(operator: Person) -> BakedImage:
    """Of the lock and the software of this moment, in the cache."""
    folder = operator.home / "cache" / "grafos" / "images"
    folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    with make_disk(folder, 3 * MIB, ((5000, 70_000),), 71) as disk:
        return vouched(operator, disk.path)


def images(operator: Person) -> list[str]:
    found = operator("cloud", "image", "ls", "--provider", "gcp", "--json").document["images"]
    return [one["stack"] for one in found]


def uploads(operator: Person) -> int:
    calls = operator("emulate", "journal", "--provider", "gcp", "--limit", "100000", "--json").document["calls"]
    return [call["action"] for call in calls].count("objects.upload")


@pytest.mark.parametrize("count", [1, 2])
def test_who_is_stopped_is_told_to_repeat_all_that_was_asked_for_with_the_name_of_the_cells(count: int) -> None:
    assert going_on(names_of("web-a", count)) == "the same command with --cell-id web-a goes on"


def test_what_does_not_go_together_is_told_before_anything_is_done(operator: Person) -> None:
    assert operator(*ASKED, "--plan-out", "build.plan").error_code == "usage"
    assert operator(*ASKED, "--engine", "pulumi").error_code == "usage"
    assert operator(*ASKED, "--any").error_code == "usage"
    refused = operator(*ASKED, "--no-join", "--yes")
    assert refused.error_code == "unsupported", refused.err
    assert images(operator) == []


def test_the_image_is_published_once_and_the_cells_start_from_it(operator: Person, baked: BakedImage) -> None:
    first = operator(*ASKED, "--cell-id", "web", "--dry-run", "--json").document
    image, (bake, publish, cell) = first["image"], first["image"]["steps"]
    assert (image["sha256"], image["published"]) == (baked.sha256, "")
    assert (bake["seconds"], publish["seconds"] > 0, cell["seconds"] > 0) == (0, True, True)
    assert image["held_micro_cents"] > 0
    told = operator(*ASKED, "--cell-id", "web", "--dry-run").out
    assert all(words in told for words in ("was baked before", "price of keeping", "nothing is installed"))
    assert images(operator) == [], "looking publishes nothing"
    assert operator(*ASKED, "--cell-id", "web").error_code == "confirmation_needed"
    made = operator(*ASKED, "--cell-id", "web", "--yes", "--json")
    assert made.code == 0, made.err + made.out
    (name,) = images(operator)
    facts = made.document["plan"]["facts"]
    assert (facts["image"]["name"], facts["baked"]) == (name, baked.sha256[:12])
    again = operator(*ASKED, "--cell-id", "other", "--dry-run", "--json").document["image"]
    assert (again["published"], again["held_micro_cents"]) == (name, 0)
    goes_on = operator(*ASKED, "--cell-id", "web", "--yes", "--json")
    assert (goes_on.code, goes_on.document["resumed"]) == (0, True), goes_on.err
    assert images(operator) == [name]
    for gone in (("teardown", "gcp", "--cell-id", "web"), ("image", "rm", name)):
        assert operator("cloud", *gone, "--yes").code == 0


def test_a_cell_that_was_begun_from_no_image_in_particular_goes_on_as_it_began(operator: Person) -> None:
    full = ("--provider", "gcp", "--operation", "instances.insert", "--error", "capacity", "--times", "0")
    assert operator("emulate", "fault", "add", *full).code == 0
    words = ("cloud", "provision", "gcp", "--ttl", "1h", "--cell-id", "plain", "--yes")
    assert operator(*words).error_code == "cloud_capacity"
    assert operator("emulate", "fault", "clear").code == 0
    goes_on = operator(*ASKED, "--cell-id", "plain", "--dry-run", "--json")
    assert (goes_on.code, goes_on.document["resumed"]) == (0, True), goes_on.err
    assert "image" not in goes_on.document, "none is baked and published for it"
    assert operator("cloud", "teardown", "gcp", "--cell-id", "plain", "--yes").code == 0


def test_killed_while_it_publishes_the_same_command_goes_on_and_nothing_is_there_twice(
    operator: Person, baked: BakedImage
) -> None:
    words = (*ASKED, "--cell-id", "late", "--yes", "--json")
    slow = ("--provider", "gcp", "--operation", "images.insert", "--effect", "delay", "--after", "3s")
    assert operator("emulate", "fault", "add", *slow).code == 0
    before = uploads(operator)
    program = operator.starts(*words)
    until(lambda: uploads(operator) > before or program.poll() is not None, "the image's bytes")
    program.kill()
    _, said = program.communicate()
    assert program.returncode == -signal.SIGKILL, said
    done = operator(*words)
    assert done.code == 0, done.err + done.out
    (name,) = images(operator)
    assert name.endswith(baked.sha256[:12])
    cells = [one for one in operator("cloud", "ls", "--json").document["cells"] if one["state"] != "gone"]
    assert [one["cell_id"] for one in cells] == ["late"]
    for gone in (("teardown", "gcp", "--cell-id", "late"), ("image", "rm", name)):
        assert operator("cloud", *gone, "--yes").code == 0


def test_image_and_cell_fit_under_the_cap_together_or_nothing_is_begun(operator: Person, baked: BakedImage) -> None:
    words = (*ASKED, "--cell-id", "dear")
    plan = operator(*words, "--dry-run", "--json").document
    assert (plan["image"]["sha256"], plan["image"]["held_micro_cents"] > 0) == (baked.sha256, True)
    budget = operator("cloud", "budget", "show", "--json").document["budget"]
    cells_alone = budget["held_micro_cents"] + budget["spent_micro_cents"] + plan["most_micro_cents"]
    assert operator("cloud", "budget", "set", str(-(-cells_alone // MICRO))).code == 0
    try:
        assert operator(*words, "--yes").error_code == "budget_exceeded"
    finally:
        assert operator("cloud", "budget", "set", "2000").code == 0
    assert images(operator) == []
