"""A program of several tasklets, run whole: in its order, under one hold, and gone on with by whoever asks again."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from agents import until
from command_line import FOR_EVER, HELLO, MODULE, Person, ends_with
from own_orchestrator import OwnOrchestrator

IN_AND_OUT = """\
(module
  (import "grafos_tasklet_v0" "buffer_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "grafos_tasklet_v0" "response_write" (func $respond (param i32 i32) (result i32)))
  (import "grafos_tasklet_v0" "output_write" (func $put (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_grafos_tasklet_init") (param i32 i32))
  (func (export "_grafos_tasklet_run") (param $handle i32) (param $length i32) (result i32)
    (drop (call $read (local.get $handle) (i32.const 0) (i32.const 0) (local.get $length)))
    (drop (call $respond (i32.const 0) (local.get $length)))
    (drop (call $put (i32.const 0) (local.get $length)))
    i32.const 0)
  (func (export "_grafos_tasklet_finalize")))
"""
"""Answers with its input, and leaves it."""
PATIENT = {"fuel": 10**12, "deadline_s": 300}


def slow(turns: int) -> str:
    """Takes its time, and answers as HELLO does."""
    turn = f"(local.set 2 (i64.add (local.get 2) (i64.const 1))) (br_if 0 (i64.lt_u (local.get 2) (i64.const {turns})))"
    answer = "(drop (call $respond (i32.const 0) (i32.const 11))) i32.const 0"
    return MODULE.format(memory=1, run=f"(local i64) (loop {turn}) {answer}")


def write(person: Person, *tasklets: tuple[str, str, dict[str, object]]) -> None:
    """A program of these tasklets, built: name, source, and what else `grafos.toml` says of it."""
    folder = person.project / "src"
    folder.mkdir(exist_ok=True)
    lines = ['[program]\nname = "whole"\nlanguage = "wat"\n']
    for name, source, more in tasklets:
        (folder / f"{name}.wat").write_text(source)
        lines += [f'\n[[tasklets]]\nname = "{name}"\nsource = "src/{name}.wat"']
        lines += [f"{key} = {json.dumps(value)}" for key, value in more.items()]
    (person.project / "grafos.toml").write_text("\n".join(lines) + "\n")
    person.forget_program()
    built = person("tasklet", "build")
    assert built.code == 0, built.err


def runs(person: Person) -> list[dict[str, object]]:
    found = person("runs", "ls", "--json").document["runs"]
    return [run for run in found if run["program"] == "whole"]


def test_each_is_given_what_those_before_it_left(resident: Person) -> None:
    write(
        resident,
        ("last", IN_AND_OUT, {"needs": ["middle"], "input": "output:middle"}),
        ("one", HELLO, {}),
        ("two", HELLO, {}),
        ("middle", IN_AND_OUT, {"needs": ["one", "two"]}),
    )
    answer = resident("deploy", "--json")
    assert answer.code == 0, answer.out
    document = answer.document
    assert document["responses"] == {"last": {"one": {"hello": 1}, "two": {"hello": 1}}}
    assert [one["run"]["state"] for one in document["tasklets"]] == ["finished"] * 4
    shown = resident("deploy", "run")
    assert shown.out.endswith('last: {"one":{"hello":1},"two":{"hello":1}}\n')
    assert [line.split()[0] for line in shown.out.splitlines()[:5]] == ["TASKLET", "last", "one", "two", "middle"]


def test_one_that_fails_keeps_those_that_need_it_from_beginning(resident: Person) -> None:
    before = len(runs(resident))
    write(
        resident,
        ("good", HELLO, {}),
        ("bad", FOR_EVER, {"fuel": 1000}),
        ("after", IN_AND_OUT, {"needs": ["good", "bad"]}),
    )
    answer = resident("deploy", "--json")
    error = answer.document["error"]
    assert (answer.error_code, error["context"]["tasklet"], error["context"]["not_begun"]) == (
        "fuel_exhausted",
        "bad",
        ["after"],
    )
    assert "not begun because of it: after" in error["why"]
    assert len(runs(resident)) == before + 2


def test_after_a_kill_the_same_command_goes_on_and_nothing_runs_twice(resident: Person) -> None:
    before = {run["run_id"] for run in runs(resident)}
    write(
        resident,
        ("slow", slow(1_200_000_000), PATIENT),
        ("after", IN_AND_OUT, {"needs": ["slow"], "input": "response:slow"}),
    )
    process = resident.starts("deploy")
    until(lambda: runs_since(resident, before), "the first run")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    answer = resident("deploy", "--json")
    assert answer.code == 0, answer.out
    assert answer.document["responses"] == {"after": {"hello": 1}}
    made = {run["run_id"] for run in runs(resident)} - before
    assert made == {one["run"]["run_id"] for one in answer.document["tasklets"]}
    again = resident("deploy", "--json").document
    assert made.isdisjoint(one["run"]["run_id"] for one in again["tasklets"]), "asked on purpose it runs anew"


def test_a_program_whose_last_answer_was_lost_shows_its_end_and_runs_no_more(resident: Person) -> None:
    write(resident, ("slow", slow(200_000_000), PATIENT), ("after", HELLO, {"needs": ["slow"]}))
    process = resident.starts("deploy", "--json")
    kept = resident.project / ".grafos" / "runs"
    until(lambda: list(kept.glob("program-*.json")), "the key of the program")
    [key] = kept.glob("program-*.json")
    written = key.read_bytes()
    first = ends_with(process).document
    assert not key.exists()
    key.write_bytes(written)
    again = resident("deploy", "--json").document
    for part in ("tasklets", "responses", "spent_micro_cents"):
        assert again[part] == first[part]
    assert not key.exists()
    (kept / "program-0.json").write_text("{")
    assert resident("deploy").code == 0
    assert not list(kept.glob("program-*.json")), "what is none goes with the next"


def test_a_tasklet_that_only_serves_is_deployed_and_not_run(resident: Person) -> None:
    write(resident, ("one", HELLO, {}), ("two", HELLO, {}), ("web", FOR_EVER, {"fuel": 1000}))
    manifest = resident.project / "grafos.toml"
    program = manifest.read_text()
    manifest.write_text(program + '\n[[services]]\nname = "web"\nport = 8080\n')
    answer = resident("deploy", "--json")
    assert answer.code == 0, answer.out
    assert [one["name"] for one in answer.document["tasklets"]] == ["one", "two"]
    planned = resident("deploy", "plan", "--json").document
    assert ([one["name"] for one in planned["tasklets"]], planned["hold"]["admitted"]) == (["one", "two"], True)
    assert "hold" in resident("deploy", "plan").out


def test_a_program_that_was_stopped_is_given_up_with_its_run_and_its_money(
    resident: Person,
) -> None:
    write(resident, ("slow", FOR_EVER, PATIENT), ("after", HELLO, {"needs": ["slow"]}))
    before = len(runs(resident))
    process = resident.starts("deploy")
    until(lambda: len(runs(resident)) > before, "the first run")
    process.send_signal(signal.SIGINT)
    answer = ends_with(process)
    assert (answer.code, answer.error_code) == (130, "interrupted")
    assert "run the same command again" in answer.err
    [key] = re.findall("grafos deploy cancel ([0-9a-f]{32})", answer.err)
    [listed] = [each for each in programs(resident) if each["reservation_key"] == key]
    assert (listed["program"], listed["state"], len(listed["run_ids"])) == ("whole", "open", 1)
    assert key in resident("deploy", "ls").out
    given_up = resident("deploy", "cancel", key, "--json").document
    assert [(run["tasklet"], run["state"]) for run in given_up["runs"]] == [("slow", "cancelled")]
    assert given_up["program"]["held_micro_cents"] == 0
    [listed] = [each for each in programs(resident) if each["reservation_key"] == key]
    assert (listed["state"], listed["run_ids"]) == ("settled", [])
    assert not list((resident.project / ".grafos" / "runs").glob("program-*.json")), "asked for again it runs anew"
    assert resident("deploy", "cancel", key).code == 0
    assert resident("deploy", "cancel", "0" * 32).error_code == "not_found"


def test_who_goes_on_after_a_run_was_cancelled_gets_another_one(resident: Person) -> None:
    write(resident, ("slow", FOR_EVER, PATIENT), ("after", HELLO, {"needs": ["slow"]}))
    before = {run["run_id"] for run in runs(resident)}
    process = resident.starts("deploy")
    until(lambda: runs_since(resident, before), "the first run")
    process.send_signal(signal.SIGINT)
    [key] = re.findall("grafos deploy cancel ([0-9a-f]{32})", ends_with(process).err)
    [begun] = runs_since(resident, before)
    assert resident("runs", "cancel", begun).code == 0
    process = resident.starts("deploy")
    until(lambda: len(runs_since(resident, before)) == 2, "another run")
    process.send_signal(signal.SIGINT)
    assert key in ends_with(process).err, "it is the same program, and nothing more is held"
    given_up = resident("deploy", "cancel", key, "--json").document
    assert [run["run_id"] for run in given_up["runs"]] == [
        each for each in runs_since(resident, before) if each != begun
    ]


def runs_since(person: Person, before: set[object]) -> list[str]:
    return [str(run["run_id"]) for run in runs(person) if run["run_id"] not in before]


def programs(person: Person) -> list[dict[str, Any]]:
    return list(person("deploy", "ls", "--json").document["programs"])


def test_what_is_for_one_tasklet_is_refused_and_one_alone_needs_its_input(resident: Person) -> None:
    write(resident, ("one", HELLO, {}), ("two", IN_AND_OUT, {"needs": ["one"]}))
    for words in (("--mem", "64k"), ("--provider", "any")):
        refused = resident("deploy", *words)
        assert (refused.code, refused.error_code) == (2, "usage")
        assert words[0] in refused.err
    folder = resident("deploy", "sums")
    assert (folder.code, folder.error_code) == (2, "usage")
    assert "next:  grafos deploy run sums" in folder.err
    alone = resident("deploy", "run", "--tasklet", "two")
    assert (alone.code, alone.error_code) == (2, "usage")
    assert "grafos deploy" in alone.err
    (resident.project / "in.json").write_text("[]")
    assert resident("deploy", "run", "--tasklet", "two", "--input", "in.json").code == 0


# --- with money, and more than one cell ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnOrchestrator]:
    orchestrator = OwnOrchestrator(Person(tmp_path_factory.mktemp("ada")))
    try:
        claimed = orchestrator.person("fabric", "claim", orchestrator.url)
        assert claimed.code == 0, claimed.err
        for cell_id in ("gcp-1", "gcp-2"):
            orchestrator.start_agent(orchestrator.bootstrap("gcp", cell_id), cores=1)
        yield orchestrator
    finally:
        orchestrator.discard()


def test_the_whole_is_held_before_anything_begins_or_nothing_does(fleet: OwnOrchestrator) -> None:
    person = fleet.person
    write(person, *((name, HELLO, {"deadline_s": 3600}) for name in ("a", "b", "c")))
    told = person("deploy", "--provider", "gcp", "--json").document
    one = told["reserved_micro_cents"] // 3
    assert one > told["spent_micro_cents"] > 0
    assert re.search(r" settled +0¢ ", person("deploy", "ls").out), "nothing is held for it any more"
    free = person("admin", "list-tenants", "--json").document["tenants"][0]
    lean = (free["spent_micro_cents"] + 2 * one) // 10**6
    assert person("admin", "set-tenant-budget", "--tenant", free["name"], "--cents", str(lean)).code == 0
    try:
        before = len(runs(person))
        foreseen = person("deploy", "plan", "--provider", "gcp", "--json")
        assert (foreseen.code, foreseen.document["admitted"]) == (7, False)
        assert all(each["admission"]["admitted"] for each in foreseen.document["tasklets"]), "each would be by itself"
        hold = foreseen.document["hold"]
        assert (hold["code"], hold["worst_case_micro_cents"]) == ("budget_exceeded", told["reserved_micro_cents"])
        assert "refused (budget_exceeded)" in person("deploy", "plan", "--provider", "gcp").out
        refused = person("deploy", "--provider", "gcp")
        assert (refused.code, refused.error_code) == (7, "budget_exceeded")
        assert len(runs(person)) == before
    finally:
        assert person("admin", "set-tenant-budget", "--tenant", free["name"], "--cents", "2000").code == 0


def test_the_plan_says_on_whose_cell_each_tasklet_goes_and_one_alone_goes_where_it_is_asked_for(
    fleet: OwnOrchestrator,
) -> None:
    person = fleet.person
    write(person, ("here", HELLO, {}), ("there", HELLO, {"provider": "azure"}))
    planned = person("deploy", "plan", "--provider", "gcp")
    assert (planned.code, re.findall(r"^provider +(\w+)", planned.out, re.MULTILINE)) == (6, ["gcp", "azure"])
    for verb in ("plan", "run"):
        alone = person("deploy", verb, "--tasklet", "there", "--provider", "gcp")
        assert (alone.code, "gcp-" in alone.out) == (0, True), alone.out


def test_one_whose_cell_is_taken_away_runs_again_elsewhere(fleet: OwnOrchestrator) -> None:
    person = fleet.person
    write(person, ("slow", slow(8_000_000_000), PATIENT), ("after", HELLO, {"needs": ["slow"]}))
    process = person.starts("deploy", "--provider", "gcp", "--json")
    until(lambda: [run for run in runs(person) if run["state"] == "running"], "the run")
    [first] = [run for run in runs(person) if run["state"] == "running"]
    revoked = person(
        "provider", "revoke-cell", "gcp", str(first["cell_id"]), "--drain-timeout", "0s", "--grace", "0s", "--yes"
    )
    assert revoked.code == 0, revoked.err
    answer = ends_with(process)
    assert answer.code == 0, answer.out + answer.err
    [moved, after] = answer.document["tasklets"]
    assert (moved["attempts"], after["attempts"]) == (2, 1)
    assert moved["run"]["cell_id"] != first["cell_id"]
