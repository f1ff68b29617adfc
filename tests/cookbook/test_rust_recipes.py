"""cookbook/hello-tasklet and cookbook/local-dev: built, checked, tested and run as their READMEs say."""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Person
from parts import share_caches
from rust_programs import NOT_COPIED, declare, module_of, recipe, stored_module
from source_tree import ROOT
from tasklets import run_tasklet

from grafos_cell.module import check_module, compile_check
from grafos_cli.languages import rust
from grafos_cli.manifest import load_program
from grafos_core.errors import GrafosError

pytestmark = [pytest.mark.needs("rust"), pytest.mark.timeout(600)]

RECIPES = {"hello-tasklet": ("hello", "count-words"), "local-dev": ("local-dev",)}
TASKLETS = [(name, tasklet) for name, tasklets in RECIPES.items() for tasklet in tasklets]


def readme(name: str) -> str:
    return (ROOT / "cookbook" / name / "README.md").read_text()


def fixture_of(name: str, tasklet: str) -> bytes:
    path = recipe(name).tasklet(tasklet).input_file
    assert path
    return path.read_bytes()


@pytest.mark.parametrize(("name", "tasklet"), TASKLETS)
def test_a_module_passes_the_static_check_and_compiles(name: str, tasklet: str) -> None:
    module = stored_module(name, tasklet)
    facts = check_module(module)
    assert facts.findings == ()
    assert {one.module for one in facts.imports} == {"grafos_tasklet_v0"}
    compile_check(module)


def test_the_tasklets_of_one_crate_are_modules_of_their_own() -> None:
    assert stored_module("hello-tasklet", "hello") != stored_module("hello-tasklet", "count-words")


def test_hello_greets_whom_its_input_names_as_the_readme_says() -> None:
    outcome = run_tasklet(stored_module("hello-tasklet", "hello"), fixture_of("hello-tasklet", "hello"))
    assert (outcome.code, outcome.log) == ("finished", "greeting Ada Lovelace")
    assert outcome.response.decode() in readme("hello-tasklet").replace("local/local", "local/here")


@pytest.mark.parametrize(
    ("data", "text"),
    [(b" \n", "nobody_to_greet"), (b"\xff", "invalid_input"), (b"x" * 101, "name_too_long: 101 bytes")],
)
def test_hello_refuses_what_names_nobody(data: bytes, text: str) -> None:
    outcome = run_tasklet(stored_module("hello-tasklet", "hello"), data)
    assert (outcome.code, outcome.text) == ("program_error", text)


def test_count_words_leaves_a_number_and_bytes() -> None:
    outcome = run_tasklet(stored_module("hello-tasklet", "count-words"), b"one  three\nfive5 ")
    assert (outcome.code, outcome.response, outcome.output) == ("finished", b"3", bytes([3, 5, 5]))


def test_local_dev_says_where_it_ran_and_how_much_came_in() -> None:
    outcome = run_tasklet(stored_module("local-dev", "local-dev"), fixture_of("local-dev", "local-dev"))
    assert outcome.code == "finished"
    assert outcome.response.decode() in readme("local-dev")


@pytest.mark.parametrize(("name", "count"), [("hello-tasklet", 4), ("local-dev", 2)])
def test_the_programs_own_tests_pass(name: str, count: int) -> None:
    program = recipe(name)
    tests = rust.run_tests(program, rust.find(program.folder))
    assert (tests.passed, tests.failed) == (count, 0), tests.text
    assert "a_name_is_greeted" in tests.text or "every_byte_of_the_input" in tests.text


def test_the_same_sources_give_the_same_bytes_in_another_folder_for_another_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path with a space, nothing compiled before, another home, and settings that would change any other build."""
    folder = tmp_path / "some" / "other place"
    shutil.copytree(ROOT / "cookbook" / "hello-tasklet", folder, ignore=NOT_COPIED)
    monkeypatch.setenv("CARGO_HOME", str(tmp_path / "cargo"))
    monkeypatch.setenv("RUSTFLAGS", "-C opt-level=0")
    monkeypatch.setenv("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
    monkeypatch.setenv("CARGO_BUILD_TARGET_DIR", str(tmp_path / "elsewhere"))
    program = load_program(folder)
    assert module_of(program, "count-words") == stored_module("hello-tasklet", "count-words")
    assert not (tmp_path / "elsewhere").exists()


def test_a_module_does_not_tell_where_it_was_built() -> None:
    module = stored_module("hello-tasklet", "hello")
    for place in (recipe("hello-tasklet").folder, ROOT, Path.home()):
        assert str(place).encode() not in module
    assert b"vendor/grafos-std/src" in module  # places in panics are as seen from the program


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    somebody = Person(tmp_path / "person")
    yield somebody
    somebody("dev", "down")


def commands_of(name: str) -> list[list[str]]:
    """The first block of commands of a recipe's README, without the step into its folder."""
    found = re.search(r"```sh\ncd cookbook/.*\n((?:grafos .*\n)+)```", readme(name))
    assert found
    return [line.split()[1:] for line in found[1].splitlines()]


@pytest.mark.parametrize("name", RECIPES)
def test_the_commands_of_the_readme_do_what_it_says(name: str, person: Person) -> None:
    shutil.copytree(ROOT / "cookbook" / name, person.project, ignore=NOT_COPIED, dirs_exist_ok=True)
    share_caches(Path(person.env["XDG_CACHE_HOME"]))
    said = {}
    for words in commands_of(name):
        answer = person(*words)
        assert answer.code == 0, answer.err
        said[" ".join(words[:2])] = answer.out
    response = said["deploy run"].strip().splitlines()[-1]
    assert response in readme(name)
    assert stored_module(name, RECIPES[name][0]) in [
        path.read_bytes() for path in (person.project / ".grafos" / "tasklets").glob("*.wasm")
    ]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_carries_the_sdk_as_a_new_program_does(name: str) -> None:
    folder = ROOT / "cookbook" / name
    for crate in ("grafos-std", "grafos-macros"):
        assert (folder / "vendor" / crate).resolve() == ROOT / "sdk" / crate
    lock = (folder / "Cargo.lock").read_text()
    assert re.findall(r'^name = "(.*)"$', lock, re.MULTILINE) == sorted(["grafos-macros", "grafos-std", name])
    manifest = tomllib.loads((folder / "Cargo.toml").read_text())
    assert manifest["workspace"] == {"exclude": ["vendor"]}


def test_a_tasklet_without_a_function_is_told_what_it_lacks(tmp_path: Path) -> None:
    shutil.copytree(recipe("local-dev").folder, tmp_path / "p", ignore=NOT_COPIED)
    program = declare(tmp_path / "p", "local-def", source="src/tasklets/local_dev.rs")
    with pytest.raises(GrafosError) as caught:
        module_of(program)
    assert (caught.value.code, caught.value.where) == ("build_failed", str(program.tasklets[0].source))
    assert caught.value.why == "the crate has no function `local_def` with the attribute #[grafos_std::tasklet]"
