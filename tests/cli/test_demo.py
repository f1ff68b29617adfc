"""The demo is the README's promise, so it is played whole."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Answer, Person, ends_with, grafos
from parts import share_caches

from grafos_cli.showing import ACTS, CLOUDS, RECIPE

ROOT = Path(__file__).parents[2]
DEMO_S = 480
"""The longest that the whole demo may take where other tests keep all cores busy; alone it takes a seventh."""


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Person]:
    """Somebody in a clone, as far as the demo needs one."""
    somebody = Person(tmp_path)
    shutil.copytree(
        ROOT / RECIPE,
        somebody.project / RECIPE,
        ignore=shutil.ignore_patterns(".grafos", "Cargo.lock"),
    )
    yield somebody
    # An ended program may still be on its way out.
    deadline = time.monotonic() + 10
    while (left := left_running(somebody)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


def left_running(person: Person) -> list[str]:
    """Programs that name the demo's folder in their command line."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(person.project) in command:
                found.append(command)
    return found


@pytest.mark.timeout(DEMO_S + 120)
@pytest.mark.needs("rust")
@pytest.mark.needs("serde")
def test_the_demo_keeps_its_promise_and_leaves_nothing(clone: Person) -> None:
    share_caches(Path(clone.env["XDG_CACHE_HOME"]))
    answer = ends_with(clone.starts("demo"), DEMO_S)
    assert answer.code == 0, answer.err + answer.out
    for act in ACTS:
        assert f"$ {act.typed.partition(' {')[0]}" in answer.out
    modules = set(re.findall(r"^module_sha256 +([0-9a-f]{64})$", answer.out, re.MULTILINE))
    assert len(modules) == 1
    assert "tests: 6 passed" in answer.out
    for cloud in CLOUDS:
        assert f'{{"ran_on":{{"provider":"{cloud}","cell_id":"{cloud}-demo"' in answer.out
    assert answer.out.count("verified  signature") == len(CLOUDS)
    assert re.search(r"one module +[0-9a-f]{64}, in Rust", answer.out)
    assert re.search(r"left behind +0 of \d+ cloud resources", answer.out)
    assert re.search(r"three prices +.*¢ \(fictional\) on aws, .*¢ \(fictional\) on gcp, .*on azure", answer.out)
    assert not any((clone.project / ".grafos" / "demo").iterdir())
    assert not (clone.home / "data").exists(), "the person's own fabric is not touched"


def test_a_demo_that_is_stopped_cleans_up(clone: Person) -> None:
    (clone.project / RECIPE / "Cargo.toml").write_text("this is no manifest")  # the twin in Zig is built sooner
    process = clone.starts("demo")
    deadline = time.monotonic() + 60
    while not any("grafos_scheduler" in command for command in left_running(clone)):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    answer = ends_with(process)
    assert answer.code == 130
    assert "error[interrupted]" in answer.err
    assert "cleaning up" in answer.err


def test_without_rust_the_twin_in_zig_plays_and_what_fails_is_said_and_cleaned_up(clone: Person) -> None:
    """Its crates cannot be fetched; then the other source is no program either."""
    (clone.project / RECIPE / "Cargo.toml").write_text("this is no manifest")
    (clone.project / RECIPE / "zig-twin" / "src" / "tasklets" / "identify.zig").write_text("this is not Zig")
    answer = clone("demo")
    assert answer.code == 1
    assert "the demo goes on with the same program in Zig" in answer.err
    assert "error[build_failed]" in answer.err
    assert "error[demo_failed]" in answer.err
    assert "`grafos tasklet build` ended with exit code 1" in answer.err


def test_outside_of_a_clone_the_demo_says_where_it_belongs(tmp_path: Path) -> None:
    answer: Answer = grafos("demo", cwd=tmp_path)
    assert (answer.code, answer.error_code) == (2, "usage")
    assert "make demo" in answer.err
