"""Cells on a cloud, on the emulated AWS: the plan, the cell, the run, the receipt; and what stands in the way."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import GOLDEN, HELLO, Person, ends_with, seen

Golden = Callable[[Path, str], None]


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """Somebody with an emulated AWS, whose shell is pointed at it, and a built program."""
    somebody = Person(tmp_path_factory.mktemp("operator"))
    up = somebody("emulate", "up")
    assert up.code == 0, up.err
    somebody.env.update(somebody("emulate", "env", "--json").document["environment"])
    somebody.write_program(HELLO)
    yield somebody
    somebody("emulate", "down")


@pytest.fixture(scope="module")
def cell(operator: Person) -> Iterator[str]:
    """A cell that is ready, for tests that leave it as it is."""
    answer = operator("cloud", "provision", "aws", "--cell-id", "resident", "--ttl", "1h", "--yes")
    assert answer.code == 0, answer.err
    yield "resident"
    operator("cloud", "teardown", "aws", "--cell-id", "resident", "--yes")


def left_in_the_cloud(person: Person) -> list[Any]:
    """What the emulator's own world still has."""
    found: list[Any] = person("emulate", "status", "--json").document["resources"]
    return found


def seen_in_the_cloud(text: str) -> str:
    """As ``seen``, and what the cloud makes up each time."""
    text = re.sub(r"\b(i|vpc|igw|rtb|sg|sgr|subnet)-[0-9a-f]{17}\b", r"{\1}", seen(text))
    text = re.sub(r"127\.\d+\.\d+\.\d+:\d+", "{address}", text)
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "{moment}", text)
    text = re.sub(r"\bin \d+(h\d*m?|m|s)( +)", r"in {time}\2", text)
    text = re.sub(r"fabric \{fabric\}, \S+…", "fabric {fabric}, {signature}…", text)
    text = re.sub(r"(software: done in \{time\}  )[0-9a-f]{12}", r"\1{bundle}", text)
    # Type, architecture and price follow this machine's processor.
    text = re.sub(r"\bt(3|4g)\.medium\b", "{type}", text)
    text = re.sub(r"\b(amd64|arm64)\b", "{arch}", text)
    text = re.sub(r"[\d.]+¢", "{cents}", text)
    return re.sub(r" +", " ", text)


# --- the emulator --------------------------------------------------------------------------------------------------


def test_up_twice_is_one_emulator(operator: Person) -> None:
    again = operator("emulate", "up", "--json").document
    assert again["started"] is False
    assert again["emulator"]["endpoint"] == operator.env["AWS_ENDPOINT_URL"]


def test_env_is_for_a_shell(operator: Person) -> None:
    lines = operator("emulate", "env").out.splitlines()
    assert all(re.fullmatch(r"export [A-Z0-9_]+=\S+", line) for line in lines)
    assert f"export AWS_ENDPOINT_URL={operator.env['AWS_ENDPOINT_URL']}" in lines


def test_without_an_emulator_the_next_step_is_to_start_one(tmp_path: Path) -> None:
    for verb in ("env", "status"):
        answer = Person(tmp_path / verb)("emulate", verb)
        assert (answer.code, answer.error_code) == (1, "emulator_not_running")
        assert "grafos emulate up" in answer.err
    assert Person(tmp_path / "down")("emulate", "down").out == "No emulated cloud ran.\n"


# --- what stands in the way ----------------------------------------------------------------------------------------


def test_without_credentials_nothing_is_asked(tmp_path: Path) -> None:
    # Outside of a machine of the cloud, and without waiting to find that out.
    env = {"AWS_EC2_METADATA_DISABLED": "true"}
    answer = Person(tmp_path)("cloud", "provision", "aws", "--region", "us-east-1", "--yes", env=env)
    assert (answer.code, answer.error_code) == (4, "credentials_missing")
    assert "next:" in answer.err


def test_without_credentials_a_cell_that_nobody_knows_is_told_in_one_error(tmp_path: Path) -> None:
    somebody = Person(tmp_path)
    for verb in ("show", "logs"):
        answer = somebody("cloud", verb, "--cell-id", "nobody")
        assert (answer.code, answer.error_code) == (2, "cell_unknown")
        assert "left out" not in answer.err


def test_real_credentials_never_reach_an_emulator(operator: Person) -> None:
    answer = operator("cloud", "provision", "aws", "--yes", env={"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE"})
    assert (answer.code, answer.error_code) == (4, "credentials_mixed")


def test_a_wrong_region_is_told(operator: Person) -> None:
    answer = operator("cloud", "provision", "aws", "--region", "eu-nowhere-1", "--yes")
    assert answer.code == 2
    assert answer.error_code == "cloud_invalid"
    assert "eu-nowhere-1" in answer.err


def test_without_a_region_the_flag_is_named(operator: Person) -> None:
    answer = operator("cloud", "provision", "aws", "--yes", env={"AWS_REGION": "", "AWS_DEFAULT_REGION": ""})
    assert answer.code == 2
    assert "--region" in answer.err


@pytest.mark.parametrize(
    "flags",
    [
        ("--ttl", "soon"),
        ("--ttl", "1s"),
        ("--ttl", "40d"),
        ("--port", "80"),
        ("--port", "many"),
        ("--allow", "0.0.0.0/0"),
        ("--allow", "everybody"),
        ("--cell-id", "No_Name"),
        ("--type", "z9.nano"),
    ],
)
def test_an_input_that_cannot_be_used_is_told(flags: tuple[str, str], operator: Person) -> None:
    answer = operator("cloud", "provision", "aws", *flags, "--yes")
    assert answer.error_code in {"usage", "config_invalid", "name_invalid", "cloud_invalid"}
    assert answer.code in {2, 6}


def test_a_cloud_that_is_none_is_told(operator: Person) -> None:
    answer = operator("cloud", "provision", "nebula", "--region", "orion-1", "--yes")
    assert (answer.code, answer.error_code) == (2, "usage")
    assert "There is no cloud 'nebula'\n" in answer.err
    for words in (("provision", "awz"), ("teardown", "awz", "--all"), ("sweep", "--provider", "awz")):
        assert "There is no cloud 'awz'; did you mean 'aws'?" in operator("cloud", *words).err


def test_a_teardown_is_of_one_cloud(operator: Person) -> None:
    answer = operator("cloud", "teardown", "all", "--all", "--yes")
    assert (answer.code, answer.error_code) == (2, "usage")


def test_a_dry_run_shows_the_plan_and_changes_nothing(operator: Person, golden: Golden) -> None:
    before = left_in_the_cloud(operator)
    answer = operator("cloud", "provision", "aws", "--cell-id", "planned", "--ttl", "2h", "--dry-run")
    assert answer.code == 0
    golden(GOLDEN / "plan.txt", seen_in_the_cloud(answer.out))
    assert left_in_the_cloud(operator) == before
    document = operator("cloud", "provision", "aws", "--cell-id", "planned", "--dry-run", "--json").document
    assert document["plan"]["worst_case_micro_cents"] > document["plan"]["rate_micro_cents_per_hour"] * 8


def test_nobody_is_asked_without_a_terminal(operator: Person) -> None:
    before = left_in_the_cloud(operator)
    for words in (("provision", "aws"), ("teardown", "aws", "--cell-id", "whatever")):
        answer = operator("cloud", *words)
        assert (answer.code, answer.error_code) == (3, "confirmation_needed")
        assert "--yes" in answer.err
    assert left_in_the_cloud(operator) == before


def test_a_cap_that_is_too_low_refuses_before_anything_is_made(operator: Person) -> None:
    before = left_in_the_cloud(operator)
    answer = operator("cloud", "provision", "aws", "--ttl", "30d", "--yes")
    assert (answer.code, answer.error_code) == (7, "budget_exceeded")
    assert left_in_the_cloud(operator) == before


def test_a_cell_that_nobody_knows_cannot_be_torn_down(operator: Person) -> None:
    answer = operator("cloud", "teardown", "aws", "--cell-id", "nobody", "--yes")
    assert (answer.code, answer.error_code) == (2, "cell_unknown")


# --- the path ------------------------------------------------------------------------------------------------------


def test_a_cell_is_listed_with_its_price_and_its_end(operator: Person, cell: str, golden: Golden) -> None:
    golden(GOLDEN / "cloud-ls.txt", seen_in_the_cloud(operator("cloud", "ls", "--wide").out))
    [listed] = [one for one in operator("cloud", "ls", "--json").document["cells"] if one["state"] == "live"]
    assert (listed["cell_id"], listed["emulated"]) == (cell, True)


def test_the_same_module_runs_there_and_costs_something(operator: Person, cell: str) -> None:
    run = operator("deploy", "run", "--provider", "aws", "--json").document["run"]
    assert (run["state"], run["cell_id"], run["provider"]) == ("finished", cell, "aws")
    assert run["cost"]["micro_cents"] > 0
    listed = operator("runs", "ls", "--json").document["runs"]
    assert run["cost"]["cents_per_run"] in [one["cost"]["cents_per_run"] for one in listed]


def test_any_provider_is_a_standalone_cell_where_that_is_all_there_is(operator: Person, cell: str) -> None:
    told = operator("deploy", "run", "--provider", "any", "--max-cents", "1")
    assert told.code == 0, told.err
    assert f"using {cell} of aws: at most " in told.err
    refused = operator("deploy", "run", "--provider", "any", "--max-cents", "0")
    assert (refused.code, refused.error_code) == (7, "budget_exceeded")
    assert f"{cell}: may cost" in refused.err


def test_a_teardown_can_be_looked_at_and_then_changes_nothing(operator: Person, cell: str) -> None:
    before = left_in_the_cloud(operator)
    looked = operator("cloud", "teardown", "aws", "--all", "--dry-run")
    assert re.search(rf"^{cell} on aws \S+, live:$", looked.out, re.MULTILINE)
    assert re.search(r"^goes +machine ", looked.out, re.MULTILINE)
    assert re.search(r"^goes +network ", looked.out, re.MULTILINE), "nobody else uses the network"
    with_proof = operator("cloud", "teardown", "aws", "--cell-id", cell, "--dry-run", "--prove")
    assert (with_proof.code, with_proof.error_code) == (2, "usage")
    nobody = operator("cloud", "teardown", "aws", "--cell-id", "nobody", "--dry-run")
    assert nobody.error_code == "cell_unknown"
    assert left_in_the_cloud(operator) == before


def test_provision_again_is_the_same_cell(operator: Person, cell: str) -> None:
    before = left_in_the_cloud(operator)
    again = operator("cloud", "provision", "aws", "--cell-id", cell, "--ttl", "1h", "--yes", "--json")
    assert again.document["resumed"] is True
    longer = operator("cloud", "provision", "aws", "--cell-id", cell, "--ttl", "2h", "--yes")
    assert "by itself, as it was first planned: grafos cloud extend" in longer.err
    assert left_in_the_cloud(operator) == before


def test_of_several_cells_the_newest_is_taken_and_that_is_told(operator: Person, cell: str) -> None:
    """Also: a cell goes from plan to receipt as people see it, and its run is still there when it is gone."""
    made = operator("cloud", "provision", "aws", "--cell-id", "second", "--ttl", "1h", "--yes")
    assert made.code == 0, made.err
    run = operator("deploy", "run", "--provider", "aws")
    assert f"using second, the newest cell on aws (also there: {cell})" in run.err
    named = operator("deploy", "run", "--provider", "aws", "--cell-id", cell, "--json")
    assert named.document["cell_id"] == cell
    run_id = re.search(r"run-\S+", run.out)
    assert run_id
    listed = re.search(rf"^{run_id[0]} .*", operator("runs", "ls").out, re.MULTILINE)
    assert listed
    shown = operator("artifacts", run_id[0]).out
    assert all("¢ (fictional)" in text for text in (run.out, listed[0], shown, operator("runs", "show", run_id[0]).out))
    assert "operator (fictional)" in operator("fabric", "show").out
    [foreseen] = operator("cloud", "teardown", "aws", "--cell-id", "second", "--dry-run", "--json").document[
        "teardowns"
    ]
    torn = operator("cloud", "teardown", "aws", "--cell-id", "second", "--yes", "--json").document["receipt"]
    assert sorted(part["id"] for part in foreseen["goes"]) == sorted(one["id"] for one in torn["resources"])
    assert (foreseen["used_by"], "network" in {part["kind"] for part in foreseen["stays"]}) == ([cell], True)
    again = operator("cloud", "teardown", "aws", "--cell-id", "second", "--yes").out
    assert re.search(r"^cost .*¢ \(fictional\) of .*¢ \(fictional\) held$", again, re.MULTILINE)
    assert (torn["left"], torn["runs_brought_home"], torn["settlement"]) == (0, 1, "settled")
    assert {one["kind"] for one in torn["resources"]} == {"machine", "firewall", "firewall_rule"}
    assert all(one["gone"] and one["proof"] for one in torn["resources"])
    assert re.search(r"^second .* gone +none +(now|\S+ ago)", operator("cloud", "ls").out, re.MULTILINE)
    ended = operator("cloud", "show", "--cell-id", "second").out
    assert re.search(r"^ended +20", ended, re.MULTILINE)
    assert ended.endswith("\nNothing of it is in the cloud.\n")
    assert operator("artifacts", run_id[0], "--verify", "--json").document["source"] == "home"
    assert run_id[0] in [one["run_id"] for one in operator("runs", "ls", "--json").document["runs"]]


def test_an_unreachable_scheduler_is_a_remark(operator: Person, tmp_path: Path) -> None:
    """The machine is gone without a teardown, as when it ended itself."""
    made = operator("cloud", "provision", "aws", "--cell-id", "lost", "--ttl", "1h", "--yes")
    assert made.code == 0, made.err
    pids = [
        path for path in Path("/proc").iterdir() if path.name.isdigit() and b"lost" in command_of(path).split(b"\0")
    ]
    assert pids
    for path in pids:
        signal_quietly(int(path.name), signal.SIGKILL)
    answer = operator("runs", "ls")
    assert answer.code == 0
    assert "note: lost at https://" in answer.err
    assert operator("cloud", "teardown", "aws", "--cell-id", "lost", "--yes").code == 0


def command_of(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def signal_quietly(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


# --- Ctrl-C --------------------------------------------------------------------------------------------------------


def interrupted_when(process: Any, person: Person, moment: Callable[[], bool], presses: int = 1) -> Any:
    deadline = time.monotonic() + 60
    while not moment():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
    for _ in range(presses):
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)  # two signals that come together are one
    return ends_with(process)


def test_ctrl_c_during_provision_and_teardown_says_how_to_go_on_and_leaves_nothing(tmp_path: Path) -> None:
    person = Person(tmp_path)
    assert person("emulate", "up").code == 0
    person.env.update(person("emulate", "env", "--json").document["environment"])
    try:
        words = ("cloud", "provision", "aws", "--cell-id", "cut", "--ttl", "1h", "--yes")
        answer = interrupted_when(person.starts(*words), person, lambda: bool(left_in_the_cloud(person)))
        assert (answer.code, answer.error_code) == (130, "interrupted")
        assert "grafos cloud provision aws --cell-id cut" in answer.err
        assert "grafos cloud teardown aws --cell-id cut" in answer.err
        assert "Traceback" not in answer.err
        again = person(*words)
        assert again.code == 0, again.err
        assert sum(one["kind"] == "instance" for one in left_in_the_cloud(person)) <= 1
        made = len(left_in_the_cloud(person))
        words = ("cloud", "teardown", "aws", "--cell-id", "cut", "--yes")
        answer = interrupted_when(person.starts(*words), person, lambda: len(left_in_the_cloud(person)) < made)
        assert (answer.code, answer.error_code) == (130, "interrupted")
        assert "grafos cloud teardown aws --cell-id cut" in answer.err
        shown = person("cloud", "show", "--cell-id", "cut").out
        assert re.search(r"^cell +cut on aws in \S+, unmaking$", shown, re.MULTILINE)
        assert "grafos cloud teardown aws --cell-id cut  finishes what was begun" in shown
        assert re.search(r"^cut .* unmaking ", person("cloud", "ls").out, re.MULTILINE)
        receipt = person(*words, "--json").document["receipt"]
        assert receipt["left"] == 0
        assert left_in_the_cloud(person) == []
    finally:
        person("emulate", "down")


def test_ctrl_c_twice_leaves_at_once_and_says_how_to_go_on_all_the_same(tmp_path: Path) -> None:
    person = Person(tmp_path)
    assert person("emulate", "up").code == 0
    person.env.update(person("emulate", "env", "--json").document["environment"])
    try:
        words = ("cloud", "provision", "aws", "--cell-id", "cut", "--ttl", "1h", "--yes")
        twice = interrupted_when(person.starts(*words), person, lambda: bool(left_in_the_cloud(person)), presses=2)
        assert twice.code == 130
        assert "grafos cloud teardown aws --cell-id cut" in twice.err
        assert person("cloud", "teardown", "aws", "--cell-id", "cut", "--yes").code == 0
        assert left_in_the_cloud(person) == []
    finally:
        person("emulate", "down")
