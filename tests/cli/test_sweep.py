"""What is left of a fabric in an account is found, shown, deleted and proved gone from the command line."""

from __future__ import annotations

import signal
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from command_line import Answer, Person, ends_with, seconds
from crash_sweep import make, make_half, spec

from grafos_connectors.aws.connector import AwsConnector
from grafos_core.clock import SystemClock
from grafos_core.fabric import Fabric, open_fabric
from grafos_emulators.emulator import EmulatedClouds, Settings
from grafos_emulators.lifecycle import LifecycleTimes
from grafos_stacks.direct import Hands
from grafos_stacks.journal import Journal

REGION = "us-east-1"
HERE = ("--provider", "aws", "--region", REGION)
AT_ONCE = LifecycleTimes(starting_s=0.0, stopping_s=0.0, ending_s=0.0)


@dataclass
class Operator:
    """A person with an emulated account whose machines are states only."""

    person: Person
    clouds: EmulatedClouds

    def __call__(self, *words: str, **more: str) -> Answer:
        return self.person(*words, env={**self.clouds.environment(), "COLUMNS": "140", **more})

    def hands(self) -> Hands:
        clock, fabric = SystemClock(), self.fabric
        connector = AwsConnector(REGION, environment=self.clouds.environment())
        return Hands(fabric, connector, Journal(fabric, clock), clock, lambda seconds: None)

    @property
    def fabric(self) -> Fabric:
        return open_fabric(SystemClock())

    def kinds(self) -> set[str]:
        return {thing.kind for thing in self.clouds.world()}


@pytest.fixture(scope="module")
def clouds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedClouds]:
    settings = Settings(clouds=("aws",), times=AT_ONCE, boots=False)
    with EmulatedClouds(tmp_path_factory.mktemp("clouds"), settings) as clouds:
        yield clouds


@pytest.fixture
def operator(tmp_path: Path, clouds: EmulatedClouds, monkeypatch: pytest.MonkeyPatch) -> Iterator[Operator]:
    person = Person(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", person.env["XDG_DATA_HOME"])
    one = Operator(person, clouds)
    yield one
    if clouds.world():
        one("cloud", "teardown", "aws", "--all", "--region", REGION, "--yes")
    assert clouds.world() == ()


def test_a_look_at_an_account_in_which_nothing_is_left_says_so(operator: Operator) -> None:
    answer = operator("cloud", "sweep", *HERE)
    assert (answer.code, answer.err.count("error")) == (0, 0)
    assert "Nothing is left that must not be there" in answer.out


def test_what_is_left_is_shown_with_why_and_only_deleted_when_asked_to(operator: Operator) -> None:
    make_half(operator.hands(), spec("aws-half"))
    looked = operator("cloud", "sweep")
    assert looked.code == 9
    assert "half-made  aws-half" in looked.out
    assert "gcp is left out" in looked.err
    assert operator.kinds() >= {"vpc", "subnet"}
    refused = operator("cloud", "sweep", *HERE, "--delete")
    assert (refused.code, refused.error_code) == (3, "confirmation_needed")
    swept = operator("cloud", "sweep", *HERE, "--delete", "--yes", "--json")
    assert swept.code == 0, swept.out + swept.err
    [account] = swept.document["accounts"]
    assert (account["torn_down"], account["failures"], account["condemned"]) == (["aws-half"], [], 0)
    assert operator.clouds.world() == ()


def test_a_cloud_that_does_not_answer_hides_nothing_of_the_others(operator: Operator) -> None:
    make_half(operator.hands(), spec("aws-half"))
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        endpoint = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    dead = {"GRAFOS_AZURE_ENDPOINT": endpoint, "AZURE_SUBSCRIPTION_ID": "67726166-6f73-4000-8000-000000000001"}
    looked = operator("cloud", "sweep", **dead)
    assert (looked.code, "half-made  aws-half" in looked.out) == (9, True)
    assert "azure could not be asked to the end:\nerror[cloud_unreachable]" in looked.err
    told = operator("cloud", "recover", "--dry-run", "--json", **dead)
    assert [(case["cell_id"], case["provider"]) for case in told.document["cases"]] == [("aws-half", "aws")]
    assert (told.code, [one["provider"] for one in told.document["failures"]]) == (9, ["azure"])
    swept = operator("cloud", "sweep", "--delete", "--yes", "--json", **dead)
    assert swept.document["accounts"][0]["torn_down"] == ["aws-half"]
    assert (swept.code, [one["code"] for one in swept.document["failures"]]) == (9, ["cloud_unreachable"])


def test_a_region_alone_says_which_cloud_is_meant(operator: Operator) -> None:
    answer = operator("cloud", "sweep", "--region", REGION)
    assert (answer.code, "look at aws" in answer.err, "left out" in answer.err) == (0, True, False)
    wrong = operator("cloud", "sweep", "--region", "Mars 1")
    assert (wrong.code, wrong.error_code, "eastus on azure" in wrong.err) == (2, "config_invalid", True)


def test_a_cell_of_another_cloud_is_not_taken_for_gone(operator: Operator) -> None:
    make(operator.hands(), spec("aws-one"))
    wrong = operator("cloud", "teardown", "gcp", "--cell-id", "aws-one", "--yes")
    assert (wrong.code, wrong.error_code) == (2, "usage")
    assert "aws-one is on aws, not on gcp" in wrong.err
    assert "next:  grafos cloud teardown aws --cell-id aws-one" in wrong.err
    no_cloud = operator("cloud", "teardown", "awz", "--cell-id", "aws-one")
    assert "There is no cloud 'awz'" in no_cloud.err


def test_the_one_cloud_that_was_named_and_does_not_answer_is_the_error(operator: Operator) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        endpoint = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    answer = operator("cloud", "sweep", "--provider", "azure", GRAFOS_AZURE_ENDPOINT=endpoint)
    assert (answer.code, answer.error_code, answer.out) == (1, "cloud_unreachable", "")


def test_without_the_key_it_only_lists(operator: Operator) -> None:
    make(operator.hands(), spec("aws-one"))
    fabric = operator.fabric
    key = fabric.home / "fabric-key.pem"
    kept = key.read_bytes()
    key.unlink()
    listed = operator("cloud", "sweep", *HERE, "--json")
    assert listed.code == 9
    assert {one["state"] for one in listed.document["accounts"][0]["resources"]} == {"unproved"}
    assert operator("cloud", "sweep", *HERE, "--delete", "--yes").error_code == "fabric_invalid"
    key.write_bytes(kept)
    elsewhere = operator("cloud", "sweep", *HERE, "--fabric-id", "fab-000000000000")
    assert elsewhere.code == 0
    assert operator("cloud", "sweep", "--fabric-id", "fab-000000000000", "--delete").error_code == "usage"


def test_without_any_credentials_the_next_step_is_told(tmp_path: Path) -> None:
    answer = Person(tmp_path)("cloud", "sweep")
    assert (answer.code, answer.error_code) == (4, "credentials_missing")
    assert "grafos emulate up" in answer.err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--provider", "moon"), "usage"),
        (("--every", "1s", "--watch"), "usage"),
        (("--provider", "azure"), "credentials_missing"),
        (("--provider", "aws", "--region", "moon-1"), "cloud_invalid"),
    ],
)
def test_a_sweep_that_cannot_be_is_told(operator: Operator, words: tuple[str, ...], code: str) -> None:
    assert operator("cloud", "sweep", *words).error_code == code


def test_many_are_torn_down_at_once_and_the_whole_fabric_is_proved_gone(operator: Operator) -> None:
    for number in range(3):
        make(operator.hands(), spec(f"aws-{number}"))
    torn = operator("cloud", "teardown", "aws", "--cell-id", "aws-0", "--cell-id", "aws-1", "--yes", "--json")
    assert torn.code == 0, torn.err + torn.out
    assert sorted(receipt["cell_id"] for receipt in torn.document["receipts"]) == ["aws-0", "aws-1"]
    assert "instance" in operator.kinds()
    rest = operator("cloud", "teardown", "aws", "--all", "--prove", "--yes", "--json")
    assert rest.code == 0, rest.err + rest.out
    [inventory] = rest.document["inventories"]
    assert (inventory["left"], inventory["stack"], inventory["regions"]) == (0, "", [])
    assert inventory["signed"]["signature"]
    assert operator.clouds.world() == ()


def test_one_that_fails_keeps_no_other_and_the_summary_tells(operator: Operator) -> None:
    make(operator.hands(), spec("aws-one"))
    answer = operator("cloud", "teardown", "aws", "--cell-id", "aws-one", "--cell-id", "aws-never", "--yes")
    assert answer.code == 9
    assert "1 of 2 cells are gone" in answer.out
    assert "error[cell_unknown]" in answer.out
    assert operator.clouds.world() == ()


def test_a_proof_needs_no_local_state(operator: Operator) -> None:
    make(operator.hands(), spec("aws-one"))
    home = operator.fabric.home
    for path in (*home.glob("journal.db*"), *home.glob("cells/*/*")):
        path.unlink()
    answer = operator("cloud", "teardown", "aws", "--cell-id", "aws-one", "--prove", "--yes")
    assert answer.code == 0, answer.err
    assert "Proved: nothing of cell aws-one of fabric fab-" in answer.out
    again = operator("cloud", "teardown", "aws", "--cell-id", "aws-never", "--prove", "--yes", "--json")
    assert (again.code, again.document["receipt"], again.document["inventory"]["left"]) == (0, None, 0)


def test_neither_a_cell_nor_all_is_a_usage_error(operator: Operator) -> None:
    assert operator("cloud", "teardown", "aws", "--yes").error_code == "usage"
    assert operator("cloud", "teardown", "aws", "--all", "--cell-id", "x", "--yes").error_code == "usage"


def test_what_was_interrupted_is_shown_and_then_undone(operator: Operator) -> None:
    make_half(operator.hands(), spec("aws-half"))
    shown = operator("cloud", "recover", "--dry-run", "--json")
    assert [(case["cell_id"], case["action"]) for case in shown.document["cases"]] == [("aws-half", "finish")]
    done = operator("cloud", "recover", "--provider", "aws", "--undo", "--yes")
    assert done.code == 0, done.err
    assert "aws-half: undo: done" in done.out
    assert operator.clouds.world() == ()


def test_a_fabric_moves_to_another_home_with_its_key(operator: Operator, tmp_path: Path) -> None:
    make(operator.hands(), spec("aws-one"))
    file = tmp_path / "key.pem"
    assert operator("fabric", "key", "export", str(file)).error_code == "confirmation_needed"
    assert operator("fabric", "key", "export", str(file), "--yes").code == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert operator("fabric", "key", "export", str(file), "--yes").error_code == "config_invalid"

    other = Operator(Person(tmp_path / "other"), operator.clouds)
    assert other("fabric", "key", "import", str(file), "--yes").code == 0
    adopted = other("cloud", "recover", "--yes", "--json")
    assert [(case["cell_id"], case["action"]) for case in adopted.document["cases"]] == [("aws-one", "adopt")]
    (listed,) = other("cloud", "ls", "--json").document["cells"]
    assert (listed["cell_id"], listed["state"], listed["provider"]) == ("aws-one", "found", "aws")
    assert "unknown" in other("cloud", "ls").out
    assert other("cloud", "sweep", *HERE, "--delete", "--yes").code == 0
    assert "instance" in operator.kinds()
    torn = other("cloud", "teardown", "aws", "--all", "--region", REGION, "--yes", "--json")
    assert torn.code == 0, torn.err
    (receipt,) = torn.document["receipts"]
    assert receipt["emulated"]
    assert receipt["held_micro_cents"] > 0  # recovery held its worst case from then on
    assert "¢ (fictional) held" in other("cloud", "teardown", "aws", "--cell-id", "aws-one", "--yes").out
    assert operator.clouds.world() == ()


def test_a_cell_that_only_its_cloud_knows_is_shown_as_its_tags_tell_it(operator: Operator, tmp_path: Path) -> None:
    made = make(operator.hands(), spec("aws-one"))
    file = tmp_path / "key.pem"
    assert operator("fabric", "key", "export", str(file), "--yes").code == 0
    other = Operator(Person(tmp_path / "other"), operator.clouds)
    assert other("fabric", "key", "import", str(file), "--yes").code == 0

    cell = other("cloud", "show", "--cell-id", "aws-one", "--json").document["cell"]
    assert (cell["state"], cell["recorded"], cell["region"]) == ("unrecorded", False, REGION)
    assert (cell["machine_type"], cell["machine_state"]) == (made.facts.offer.machine_type, "ready")
    assert seconds(cell["expires_at"]) == made.expires_at
    assert {"machine", "disk"} <= {one["kind"] for one in cell["resources"]}
    text = other("cloud", "show", "--cell-id", "aws-one").out
    assert "there is no record of it here" in text
    assert "next     grafos cloud recover  takes it into the journal" in text
    assert other("cloud", "logs", "--cell-id", "aws-one").code == 0
    cost = other("cloud", "cost", "--cell-id", "aws-one")
    assert (cost.error_code, "cloud show --cell-id aws-one" in cost.err) == ("cell_unknown", True)

    assert other("cloud", "recover", "--yes").code == 0
    adopted = other("cloud", "show", "--cell-id", "aws-one", "--json").document["cell"]
    assert (adopted["state"], adopted["recorded"], adopted["machine_state"]) == ("found", False, "ready")
    assert adopted["held_micro_cents"] > 0
    assert adopted["next"].startswith("grafos cloud teardown aws --cell-id aws-one")
    refused = other("cloud", "extend", "--cell-id", "aws-one", "--ttl", "+1h", "--yes")
    assert (refused.error_code, "grafos cloud teardown aws --cell-id aws-one" in refused.err) == ("cell_unknown", True)


def test_a_cell_whose_provision_died_is_shown_with_what_there_is_of_it(operator: Operator) -> None:
    make_half(operator.hands(), spec("aws-half"))
    shown = operator("cloud", "show", "--cell-id", "aws-half")
    assert (shown.code, "aws-half on aws in us-east-1a, making" in shown.out) == (0, True)
    assert "grafos cloud recover  finishes what was begun" in shown.out
    cell = operator("cloud", "show", "--cell-id", "aws-half", "--json").document["cell"]
    assert (cell["recorded"], cell["machine_state"]) == (False, "ready")
    assert cell["rate_micro_cents_per_hour"] > 0


def test_whoever_comes_while_another_command_works_on_a_cell_is_told_to_wait(operator: Operator) -> None:
    hands = operator.hands()
    make_half(hands, spec("aws-half"))
    with hands.journal.lock("aws-half"):
        words = ("provision", "aws", "--region", REGION, "--cell-id", "aws-half", "--ttl", "1h", "--yes")
        refused = operator("cloud", *words)
        shown = operator("cloud", "show", "--cell-id", "aws-half").out
    assert (refused.code, refused.error_code) == (8, "stack_busy")
    assert "teardown" not in refused.err
    assert "next     wait: another command works on it right now" in shown


def test_a_cell_that_nobody_knows_is_unknown_once_every_cloud_was_asked(operator: Operator) -> None:
    for verb in ("show", "logs"):
        answer = operator("cloud", verb, "--cell-id", "nobody")
        assert (answer.code, answer.error_code) == (2, "cell_unknown")
        assert "nothing of it in any region of aws" in answer.err


def test_a_key_is_not_put_over_another_fabric_s(operator: Operator, tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    operator("fabric", "key", "export", str(file), "--yes")
    other = Operator(Person(tmp_path / "other"), operator.clouds)
    other("fabric", "show")
    refused = other("fabric", "key", "import", str(file), "--yes")
    assert (refused.error_code, refused.code) == ("fabric_mismatch", 8)


def test_a_watch_looks_again_until_it_is_stopped(operator: Operator) -> None:
    person = operator.person
    person.env |= operator.clouds.environment()
    watch = person.starts("cloud", "sweep", *HERE, "--watch", "--every", "10s")
    assert watch.stderr is not None
    while "the next look is in 10s" not in (line := watch.stderr.readline()):
        assert line, "it ended"
    watch.send_signal(signal.SIGINT)
    answer = ends_with(watch)
    assert (answer.code, answer.error_code) == (130, "interrupted")
    assert "Nothing is left" in answer.out
