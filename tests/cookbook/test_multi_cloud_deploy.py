"""cookbook/multi-cloud-deploy: the tasklet in Rust and its twin in Zig give the same answers to the same questions."""

from __future__ import annotations

import functools
import json
import re
import tomllib

import pytest
from rust_programs import stored_module
from source_tree import ROOT
from tasklets import run_tasklet

from grafos_cell.module import check_module, compile_check
from grafos_cli.languages import rust, zig
from grafos_cli.manifest import load_program
from grafos_cli.showing import ACTS

RECIPE = ROOT / "cookbook" / "multi-cloud-deploy"
TWIN = RECIPE / "zig-twin"
LANGUAGES = pytest.mark.parametrize(
    "language",
    [pytest.param("rust", marks=[pytest.mark.needs("rust"), pytest.mark.needs("serde")]), pytest.param("zig")],
)
pytestmark = pytest.mark.timeout(600)
HERE = {"provider": "local", "cell_id": "local-7d2x0c", "region": "here"}


@functools.cache
def module_in(language: str) -> bytes:
    if language == "rust":
        return stored_module(RECIPE.name, "identify")
    program = load_program(TWIN)
    return zig.compile(program, program.tasklets[0], zig.find(TWIN))


@LANGUAGES
def test_a_module_passes_the_static_check_and_compiles(language: str) -> None:
    facts = check_module(module_in(language))
    assert facts.findings == ()
    assert {one.module for one in facts.imports} == {"grafos_tasklet_v0"}
    compile_check(module_in(language))


@LANGUAGES
@pytest.mark.parametrize(
    ("asked", "echo_len"),
    [
        ({"provider": "local"}, 0),
        (HERE, 0),
        ({**HERE, "echo": "grün", "more": [1]}, 5),
        ({"provider": "local", "echo": 'a "quote"\n'}, 10),
    ],
)
def test_the_answer_says_where_it_ran(language: str, asked: dict[str, object], echo_len: int) -> None:
    outcome = run_tasklet(module_in(language), json.dumps(asked).encode())
    assert (outcome.code, outcome.output) == ("finished", b"")
    assert json.loads(outcome.response) == {"ran_on": HERE, "echo_len": echo_len, "module_version": "0.1.0"}


@LANGUAGES
@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b'{"provider":""}', "missing_provider"),
        (b'{"provider":', "invalid_input"),
        (b'{"echo":"x"}', "invalid_input"),
        (b'{"provider":1}', "invalid_input"),
        (b"", "invalid_input"),
        (b"\xff", "invalid_input"),
        (b"[" * 2000, "invalid_input"),
        (b'{"provider":"aws"}', "another_place"),
        (b'{"provider":"local","cell_id":"local-1"}', "another_place"),
        (b'{"provider":"local","region":"there"}', "another_place"),
    ],
)
def test_what_it_cannot_answer_ends_with_a_name(language: str, data: bytes, text: str) -> None:
    outcome = run_tasklet(module_in(language), data)
    assert (outcome.code, outcome.text) == ("program_error", text)


@LANGUAGES
def test_the_six_tests_of_the_program_pass(language: str) -> None:
    folder, kind = (RECIPE, rust) if language == "rust" else (TWIN, zig)
    tests = kind.run_tests(load_program(folder), kind.find(folder))
    assert (tests.passed, tests.failed) == (6, 0), tests.text


def test_both_are_one_program_of_one_version() -> None:
    ours, twin = (tomllib.loads((folder / "grafos.toml").read_text()) for folder in (RECIPE, TWIN))
    assert ours["program"]["version"] == twin["program"]["version"]
    crate = tomllib.loads((RECIPE / "Cargo.toml").read_text())
    assert crate["package"]["version"] == ours["program"]["version"]
    helpers = "src/tasklets/grafos.zig"
    assert (TWIN / helpers).read_bytes() == (ROOT / "cookbook" / "png-metadata" / helpers).read_bytes()


def test_every_crate_of_others_has_one_version() -> None:
    """There is no lock file, so the manifest says it for each."""
    dependencies = tomllib.loads((RECIPE / "Cargo.toml").read_text())["dependencies"]
    wanted = {name: one if isinstance(one, str) else one.get("version") for name, one in dependencies.items()}
    assert wanted.pop("grafos-std") is None
    assert all(version.startswith("=") for version in wanted.values()), wanted
    lock = RECIPE / "Cargo.lock"
    if lock.exists():
        locked = {package["name"] for package in tomllib.loads(lock.read_text())["package"]}
        assert locked - {"grafos-std", "grafos-macros", RECIPE.name} == set(wanted)


def test_the_demo_plays_the_commands_of_the_readme() -> None:
    """And so tries them; what it leaves out is named here."""
    blocks = re.findall(r"```sh\n(.*?)```", (RECIPE / "README.md").read_text(), re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines()]
    played = {re.sub(r"\b(aws|gcp|azure)-demo\b", r"\1-1", act.typed) for act in ACTS}
    assert [command for command in commands if command not in played] == [
        "cd cookbook/multi-cloud-deploy",
        "grafos runs ls --json | jq '[.runs[].cost.cents_per_run] | add'",
        "grafos artifacts RUN_ID --verify",
        "grafos cloud sweep",
        "grafos emulate down",
    ]
