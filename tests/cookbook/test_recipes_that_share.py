"""word-count, stream-pipeline, rpc-service and web-server: their own tests, and every command of their READMEs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from command_line import Person
from doc_pages import Shell, blocks_of, not_run, shell_in, walk
from linearizability import FETCH_ADD, NEVER, Operation, is_linearizable
from own_orchestrator import OwnOrchestrator
from regions import OneRegion, run_on, run_together
from rust_programs import NOT_COPIED, session_folder
from source_tree import ROOT

from grafos_cell.module import check_module
from grafos_cli.building import built_module
from grafos_cli.languages import rust
from grafos_cli.manifest import load_program
from grafos_cli.scaffolding import CRATES
from grafos_core.paths import locked

pytestmark = [pytest.mark.needs("rust"), pytest.mark.timeout(600)]

README = ROOT / "cookbook" / "word-count" / "README.md"
FUEL = 50_000_000
MEMORY, SERVICE, TASKLET = "fabricbios_fbmu_v0", "grafos_svc_v0", "grafos_tasklet_v0"
RECIPES = {
    "word-count": (6, MEMORY),
    "stream-pipeline": (5, MEMORY),
    "rpc-service": (3, MEMORY),
    "web-server": (5, SERVICE),
}
"""How many tests each has, and which calls its modules need beside those of every tasklet."""


@cache
def workspace() -> Path:
    """All recipes as one workspace, which has the SDK once: so it is compiled once for all of them."""
    place = session_folder() / "recipes-that-share"
    with locked(session_folder() / "recipes-that-share.lock"):
        if not place.exists():
            lay_out_workspace(place.with_suffix(".new")).rename(place)
    return place


def lay_out_workspace(place: Path) -> Path:
    for crate in CRATES:
        shutil.copytree(ROOT / "sdk" / crate, place / "vendor" / crate, ignore=NOT_COPIED)
    for name in RECIPES:
        ignored = shutil.ignore_patterns(".grafos", "target", "vendor", "Cargo.lock")
        shutil.copytree(ROOT / "cookbook" / name, place / name, ignore=ignored)
        manifest = place / name / "Cargo.toml"
        manifest.write_text(manifest.read_text().partition("\n# A workspace")[0].replace("vendor/", "../vendor/"))
    (place / "Cargo.toml").write_text(f'[workspace]\nresolver = "2"\nmembers = {list(RECIPES)}\nexclude = ["vendor"]\n')
    return place


def own_tests(name: str) -> str:
    """What the recipe's own tests say, every line of it."""
    folder = workspace()
    toolchain = rust.find(folder)
    done = subprocess.run(
        [*toolchain.command, "test", "--offline", "--package", name, "--", "--nocapture", "--test-threads", "1"],
        cwd=folder,
        env={**rust.base_environment(toolchain), "CARGO_TARGET_DIR": str(folder / "target"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in done.stderr, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipes_own_tests_pass(name: str) -> None:
    assert rust.read_counts(own_tests(name)) == (RECIPES[name][0], 0)


def histories(text: str, name: str) -> list[list[Operation]]:
    """The records that the tests of word-count printed: `word called returned added before`."""
    found = []
    for lines in re.findall(rf"history {name} \d+\n(.*?)\nend$", text, re.MULTILINE | re.DOTALL):
        words: dict[str, int] = {}
        history = []
        for line in lines.splitlines():
            word, *numbers = line.split()
            called, returned, added, before = map(int, numbers)
            number = words.setdefault(word, len(words))
            history.append(Operation(number, FETCH_ADD, called, returned, added, found=before))
        found.append(history)
    return found


def test_each_word_was_counted_as_if_one_after_the_other_and_without_the_lock_it_was_not() -> None:
    text = own_tests("word-count")
    locked_ones, others = histories(text, "locked"), histories(text, "unlocked")
    assert (len(locked_ones), len(others), min(map(len, locked_ones)) > 50) == (8, 8, True)
    assert [is_linearizable(history) for history in locked_ones] == [True] * 8
    assert [is_linearizable(history) for history in others] != [True] * 8


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with shell_in(tmp_path) as somebody:
        for name in RECIPES:
            shutil.copytree(ROOT / "cookbook" / name, somebody.folder / "cookbook" / name, ignore=NOT_COPIED)
        yield somebody


def walked(name: str, shell: Shell) -> Path:
    """The recipe's folder, after every command of its README; its modules are as they must be."""
    folder = shell.folder / "cookbook" / name
    walk(ROOT / "cookbook" / name / "README.md", shell)
    modules = [path.read_bytes() for path in (folder / ".grafos" / "tasklets").glob("*.wasm")]
    assert modules
    for module in modules:
        facts = check_module(module)
        assert facts.findings == ()
        assert {one.module for one in facts.imports} == {TASKLET, RECIPES[name][1]}
    return folder


@pytest.mark.parametrize("name", ["stream-pipeline", "rpc-service"])
def test_every_command_of_the_readme_does_what_it_says(name: str, shell: Shell) -> None:
    walked(name, shell)


def test_words_are_counted_right_on_two_clouds_and_where_one_call_of_seven_is_lost(shell: Shell) -> None:
    """The first part is the README; the second has its very modules."""
    program = load_program(walked("word-count", shell))
    north, south, total = (built_module(program, tasklet)[1] for tasklet in program.tasklets)
    texts = [(program.folder / "texts" / f"{name}.txt").read_text() for name in ("north", "south")]
    for seed in range(3):
        region = OneRegion(16 * 1024, fails=True)
        told = json.loads(region.REFERENCE)
        inputs = [json.dumps({"region": told, "text": text}).encode() for text in texts]
        counted = run_together(region, seed, list(zip((north, south), inputs, strict=True)), FUEL)
        assert [outcome.code for outcome in counted] == ["finished"] * 2, counted
        assert is_linearizable(history_of([outcome.output for outcome in counted]))
        left = run_on(region, total, json.dumps({"north": {"region": told}}).encode(), FUEL)
        assert left.response.decode() in README.read_text(), left.text


def history_of(outputs: list[bytes]) -> list[Operation]:
    """What runs that went side by side say of each word: `word before added`."""
    words: dict[str, int] = {}
    history = []
    for line in b"".join(outputs).decode().splitlines():
        word, before, added = line.split()
        number = words.setdefault(word, len(words))
        history.append(Operation(number, FETCH_ADD, 0, NEVER, int(added), found=int(before)))
    return history


def test_the_web_server_serves_here_and_on_two_cells_as_its_readme_says(shell: Shell, tmp_path: Path) -> None:
    folder = walked("web-server", shell)
    [block] = [block for block in blocks_of(ROOT / "cookbook" / "web-server" / "README.md") if "not run" in block.said]
    person = Person(tmp_path / "ada")
    person.project = folder
    orchestrator = OwnOrchestrator(person)
    try:
        assert person("fabric", "claim", orchestrator.url).code == 0
        for provider in ("gcp", "azure"):
            orchestrator.start_agent(orchestrator.bootstrap(provider, f"{provider}-1"))
        ada = Shell(folder, {**os.environ, **person.env, "PATH": shell.environment["PATH"]})
        ada.run(block)
    finally:
        orchestrator.discard()
    shown, before, after = ada.printed.split("2 of 2 listen")
    assert {cell for cell in ("gcp-1", "azure-1") if cell in shown} == {"gcp-1", "azure-1"}, shown
    first, second = (dict(re.findall(r"^(inst-\S+) served (\d+)$", text, re.MULTILINE)) for text in (before, after))
    for served in (first, second):
        assert (len(served), sum(map(int, served.values()))) == (2, 6), ada.printed
    assert len(first.keys() & second.keys()) == 1, ada.printed


@pytest.mark.parametrize("words", ["local 1", "local 1 x", "local 0 3", "local 1 -1", "local 1 3 5"])
def test_the_web_server_s_client_says_how_it_is_called(words: str, tmp_path: Path) -> None:
    called = [sys.executable, ROOT / "cookbook" / "web-server" / "client.py", *words.split()]
    done = subprocess.run(called, env={"HOME": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.endswith("client.py PROVIDER REPLICAS VISITS\n")) == (1, True), done.stderr
    assert not list(tmp_path.iterdir()), "it has begun"


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_carries_the_crates_that_it_names_and_locks_them(name: str) -> None:
    folder = ROOT / "cookbook" / name
    carried = {path.name: path.resolve() for path in (folder / "vendor").iterdir()}
    assert carried == {crate: ROOT / "sdk" / crate for crate in carried}
    locked_ones = re.findall(r'^name = "(.*)"$', (folder / "Cargo.lock").read_text(), re.MULTILINE)
    assert set(locked_ones) == {name, *carried}
    assert set(tomllib.loads((folder / "Cargo.toml").read_text())["dependencies"]) <= set(carried)


def test_what_of_the_readmes_is_not_run_is_known_with_its_reason() -> None:
    left_out = {name: list(not_run(ROOT / "cookbook" / name / "README.md")) for name in RECIPES}
    two_cells = "it needs two cells; a test of this recipe has them, and runs it there"
    assert {name: reasons for name, reasons in left_out.items() if reasons} == {"web-server": [two_cells]}
    blocks = blocks_of(ROOT / "cookbook" / "web-server" / "README.md")
    assert sum(block.said.get("not run") == two_cells for block in blocks) == 1
