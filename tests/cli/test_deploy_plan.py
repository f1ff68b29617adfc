"""`grafos deploy plan`: what a run would need, where it would go, and that nothing comes of asking."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import GOLDEN, HELLO, Person, record_of, seen

Golden = Callable[[Path, str], None]


@pytest.fixture
def planner(resident: Person) -> Person:
    resident.write_program(HELLO, mem=4096)
    return resident


def test_a_plan_looks_as_reviewed_and_begins_nothing(planner: Person, golden: Golden) -> None:
    before = planner("runs", "ls", "--json").document["runs"]
    answer = planner("deploy", "plan")
    assert answer.code == 0
    golden(GOLDEN / "deploy-plan.txt", seen(answer.out))
    assert planner("runs", "ls", "--json").document["runs"] == before


def test_a_plan_in_json_has_needs_provider_and_the_scheduler_s_decision(planner: Person) -> None:
    document = planner("deploy", "plan", "--provider", "local", "--json").document
    assert (document["admitted"], document["provider"]) == (True, "local")
    [tasklet] = document["tasklets"]
    assert tasklet["built"]
    assert tasklet["requirements"] == {
        "cpu_cores": 1,
        "lease_mem_bytes": 4096,
        "lease_block_bytes": 0,
        "memory_bytes": 32 * 1024 * 1024,
        "fuel": 500_000,
        "deadline_s": 30.0,
    }
    assert tasklet["admission"]["cell_id"] == record_of(planner)["cell_id"]
    assert tasklet["admission"]["leases"] == {"cpu": 1, "mem": 4096}


def test_what_the_scheduler_would_refuse_is_told_in_its_words_with_its_exit_code(planner: Person) -> None:
    answer = planner("deploy", "plan", "--mem", "1g")
    assert answer.code == 6
    assert "refused (placement_failed)" in answer.out
    refused = planner("deploy", "plan", "--mem", "1g", "--json")
    assert (refused.code, refused.document["admitted"]) == (6, False)
    run = planner("deploy", "run", "--mem", "1g")
    assert refused.document["tasklets"][0]["admission"]["what"] in run.err


def test_blocks_are_planned_as_whole_ones(planner: Person) -> None:
    document = planner("deploy", "plan", "--block", "513", "--json").document
    [tasklet] = document["tasklets"]
    assert tasklet["requirements"]["lease_block_bytes"] == tasklet["admission"]["leases"]["block"] == 1024
    assert "1 KiB of blocks" in planner("deploy", "plan", "--block", "513").out


def test_a_provider_that_cannot_be_asked_refuses_in_its_own_words(planner: Person) -> None:
    answer = planner("deploy", "plan", "--provider", "aws")
    assert (answer.code, "refused (runtime_not_ready)" in answer.out) == (6, True)
    assert planner("deploy", "plan", "--cell-id", "local-nobody").code == 2
    assert planner("deploy", "plan", "--tasklet", "two").error_code == "usage"


def test_without_a_name_the_first_runnable_target_that_admits_is_taken(planner: Person) -> None:
    manifest = planner.project / "grafos.toml"
    before = manifest.read_text()
    manifest.write_text(before + '\n[runnable_targets]\nproduction = "aws"\ndev = "local"\n')
    try:
        document = planner("deploy", "plan", "--json").document
        text = planner("deploy", "plan").out
    finally:
        manifest.write_text(before)
    assert (document["provider"], document["admitted"]) == ("local", True)
    assert [one["provider"] for one in document["considered"]] == ["aws", "local"]
    assert "aws would refuse (runtime_not_ready)" in text


def test_a_module_that_is_not_up_to_date_is_an_obstacle_and_the_rest_is_told_all_the_same(planner: Person) -> None:
    source = planner.project / "src" / "one.wat"
    source.write_text(HELLO + "\n;; changed\n")
    try:
        answer = planner("deploy", "plan")
    finally:
        source.write_text(HELLO)
    assert answer.code == 2
    assert "changed since it was built: grafos tasklet build" in answer.out
    assert "would be admitted" in answer.out
