"""`grafos deploy plan`: what a run would need, where it would go, and that nothing comes of asking."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
        "tier": "standard",
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


@pytest.fixture
def with_targets(planner: Person) -> Iterator[Person]:
    manifest = planner.project / "grafos.toml"
    before = manifest.read_text()
    manifest.write_text(before + '\n[runnable_targets]\nproduction = "aws"\ndev = "local"\n')
    yield planner
    manifest.write_text(before)


def test_an_environment_names_the_provider(with_targets: Person) -> None:
    for environment, provider in (("dev", "local"), ("production", "aws")):
        document = with_targets("deploy", "plan", "--env", environment, "--json").document
        assert [one["provider"] for one in document["considered"]] == [provider]
    assert with_targets("deploy", "run", "--env", "dev", "--json").document["run"]["provider"] == "local"
    assert with_targets("deploy", "run", "--env", "production").error_code == "runtime_not_ready"


def test_a_variable_names_the_environment_and_any_flag_counts_more(with_targets: Person) -> None:
    variable = {"GRAFOS_ENV": "production"}
    document = with_targets("deploy", "plan", "--json", env=variable).document
    assert [one["provider"] for one in document["considered"]] == ["aws"]
    assert with_targets("deploy", "run", env=variable).error_code == "runtime_not_ready"
    for words in (("--env", "dev"), ("--provider", "local")):
        assert with_targets("deploy", "run", *words, env=variable).code == 0
    nowhere = with_targets("deploy", "run", env={"GRAFOS_ENV": "staging"})
    assert (nowhere.code, nowhere.error_code) == (2, "usage")
    shown = with_targets("config", "show", "--json", env=variable).document["settings"]
    assert ("env", "production", "environment") in [(one["name"], one["value"], one["origin"]) for one in shown]


def test_a_tier_is_named_or_the_manifest_s_and_others_are_told(with_targets: Person) -> None:
    document = with_targets("deploy", "plan", "--env", "dev", "--tier", "scavenger", "--json").document
    assert document["tasklets"][0]["requirements"]["tier"] == "scavenger"
    assert "tier       scavenger" in with_targets("deploy", "plan", "--env", "dev", "--tier", "scavenger").out
    assert with_targets("deploy", "run", "--env", "dev", "--tier", "gold").error_code == "usage"


def test_an_environment_that_is_not_there_is_told(with_targets: Person) -> None:
    for command in ("plan", "run"):
        answer = with_targets("deploy", command, "--env", "staging")
        assert (answer.error_code, "production, dev" in answer.err) == ("usage", True)
        assert with_targets("deploy", command, "--env", "dev", "--provider", "aws").error_code == "usage"


def test_without_a_name_the_first_runnable_target_that_admits_is_taken(with_targets: Person) -> None:
    document = with_targets("deploy", "plan", "--json").document
    assert (document["provider"], document["admitted"]) == ("local", True)
    assert [one["provider"] for one in document["considered"]] == ["aws", "local"]
    assert "aws would refuse (runtime_not_ready)" in with_targets("deploy", "plan").out


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
