"""cookbook/png-metadata: built as its README says, checked, run, and fed with what is no PNG."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
import tomllib
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from source_tree import ROOT
from tasklets import run_tasklet, spec_of

from grafos_cell.module import check_module, compile_check
from grafos_cell.run import RunOutcome
from grafos_cell.runtime import Runtime
from grafos_core.clock import SystemClock

RECIPE = ROOT / "cookbook" / "png-metadata"
LOGO = (RECIPE / "fixtures" / "logo.png").read_bytes()
README = (RECIPE / "README.md").read_text(encoding="utf-8")
HEAD_BYTES = 33


def command_of_readme() -> list[str]:
    found = re.search(r"^python -m ziglang (?:.*\\\n)+.*$", README, re.MULTILINE)
    assert found
    return [sys.executable, *shlex.split(found[0].replace("\\\n", " "))[1:]]


def build(folder: Path, cache: Path) -> bytes:
    """Copies the recipe to `folder` and builds it there with the command of the README."""
    shutil.copytree(RECIPE, folder, ignore=shutil.ignore_patterns(".grafos"))
    environment = os.environ | {"ZIG_GLOBAL_CACHE_DIR": str(cache), "ZIG_LOCAL_CACHE_DIR": str(cache)}
    subprocess.run(command_of_readme(), cwd=folder, env=environment, check=True)
    return (folder / "tasklet.wasm").read_bytes()


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("png-metadata")
    return build(folder / "program", folder / "cache")


def run(module: bytes, image: bytes) -> RunOutcome:
    tasklet = tomllib.loads((RECIPE / "grafos.toml").read_text())["tasklets"][0]
    return run_tasklet(module, image, fuel=tasklet["fuel"], memory_bytes=tasklet["memory_bytes"])


def png(width: int, height: int, kind: bytes = b"IHDR", length: int = 13) -> bytes:
    """The head of an image of that size, with a right checksum, and nothing after it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    checksum = zlib.crc32(kind + header)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", length) + kind + header + struct.pack(">I", checksum)


def test_the_module_passes_the_static_check_and_compiles(module: bytes) -> None:
    facts = check_module(module)
    assert facts.findings == ()
    assert {one.module for one in facts.imports} == {"grafos_tasklet_v0"}
    compile_check(module)


def test_the_fixture_is_told_as_the_readme_says(module: bytes) -> None:
    outcome = run(module, LOGO)
    assert outcome.code == "finished", outcome.text
    assert outcome.response.decode() in README
    assert json.loads(outcome.response) == {
        "size": len(LOGO),
        "magic": "89504e470d0a1a0a",
        "width": 64,
        "height": 48,
    }
    assert outcome.output == LOGO[16:29]


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2**31 - 1, 1), (1, 2**31 - 1), (123456, 7)])
def test_other_sizes_are_told_too(module: bytes, width: int, height: int) -> None:
    response = json.loads(run(module, png(width, height)).response)
    assert (response["width"], response["height"], response["size"]) == (width, height, HEAD_BYTES)


NO_PNG = {
    "nothing": b"",
    "a text": b"no image at all, but a text that is long enough to hold one",
    "a GIF": b"GIF89a" + bytes(100),
    "the magic alone": LOGO[:8],
    "one byte short": LOGO[: HEAD_BYTES - 1],
    "newlines changed on the way": LOGO.replace(b"\r\n", b"\n", 1),
    "zeros": bytes(HEAD_BYTES),
    "ones": b"\xff" * 1000,
    "no width": png(0, 48),
    "no height": png(64, 0),
    "a width over 31 bits": png(2**31, 48),
    "another chunk first": png(64, 48, kind=b"IDAT"),
    "a header of another length": png(64, 48, length=14),
    "another width under the same checksum": LOGO[:19] + b"\x41" + LOGO[20:],
    "no checksum": LOGO[:29] + bytes(4) + LOGO[33:],
}


@pytest.mark.parametrize("image", NO_PNG.values(), ids=NO_PNG.keys())
def test_what_is_no_png_is_bad_input(module: bytes, image: bytes) -> None:
    outcome = run(module, image)
    assert (outcome.code, outcome.text, outcome.returned) == ("program_error", "bad_input", 1)
    assert outcome.output == b""


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    """One for all examples, so that the module is compiled once."""
    runtime = Runtime(SystemClock())
    yield runtime
    runtime.close()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, HEAD_BYTES - 1), flip=st.integers(1, 255))
def test_no_damage_to_the_head_is_believed(module: bytes, runtime: Runtime, position: int, flip: int) -> None:
    image = LOGO[:position] + bytes([LOGO[position] ^ flip]) + LOGO[position + 1 :]
    assert runtime.run(runtime.load(module), spec_of(module, image)).text == "bad_input"


def test_a_large_image_costs_no_more_than_a_small_one(module: bytes) -> None:
    digits_only = run(module, LOGO + bytes(5_000_000)).fuel_used - run(module, LOGO).fuel_used
    assert digits_only < 200  # of the larger size in the response


def test_grafos_builds_the_same_bytes_in_another_folder(module: bytes, tmp_path: Path) -> None:
    """Same sources, a path with a space in it, a cold cache: the module does not tell where it was made."""
    folder = tmp_path / "some" / "other place"
    shutil.copytree(RECIPE, folder, ignore=shutil.ignore_patterns(".grafos"))
    subprocess.run([sys.executable, "-m", "grafos_cli", "tasklet", "build", folder], check=True, capture_output=True)
    (built,) = (folder / ".grafos" / "tasklets").glob("*.wasm")
    assert built.read_bytes() == module
