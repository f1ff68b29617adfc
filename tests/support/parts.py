"""`@pytest.mark.needs("rust")`: the test runs where that part is, else it is skipped with the cure; in CI it fails.

The parts are those of `tools/parts.py`. What they keep in the caller's cache is read there and nowhere else: a test
has a home of its own, in which it finds the part's folder under the name that grafos looks for.
"""

from __future__ import annotations

import importlib.util
import os
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from grafos_core.paths import cache_home

TOOL = Path(__file__).resolve().parents[2] / "tools" / "parts.py"
CACHE_VARIABLE = "TESTS_CACHE_OF_PARTS"
SHARED_FOLDERS = ("images", "pulumi-engine", "rust", "test-crates")
"""Of the caller's cache; the product locks what it writes there."""


def remember_caches() -> None:
    """Before a test run hides the caller's home: where the parts are. Processes of the run inherit the answer."""
    os.environ.setdefault(CACHE_VARIABLE, str(cache_home()))
    os.environ.setdefault("RUSTUP_HOME", str(Path.home() / ".rustup"))
    os.environ.setdefault("CARGO_HOME", str(cache_home() / "test-crates"))
    os.environ["CARGO_NET_OFFLINE"] = "true"  # no guard sees cargo


def share_caches(home: Path) -> None:
    """Lets grafos find the parts' folders in another cache home."""
    place = home / "grafos"
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in SHARED_FOLDERS:
        real = Path(os.environ[CACHE_VARIABLE]) / name
        if real.is_dir() and not (place / name).exists():
            (place / name).symlink_to(real)


@cache
def table() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tools_parts", TOOL)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module  # its records look their module up
    spec.loader.exec_module(module)
    return module


@cache
def lack(name: str) -> str:
    """Why the part is not there, with the cure; nothing when it is."""
    tool = table()
    if name not in tool.PARTS:
        return f"{name} is no part that tools/parts.py knows"
    try:
        tool.PARTS[name].look()
    except tool.MissingError as missing:
        return f"{name} is missing: {missing}; {tool.PARTS[name].cure}"
    return ""


def need(name: str, *, in_ci: bool) -> None:
    """Lets the test run, or ends it."""
    share_caches(Path(os.environ["XDG_CACHE_HOME"]))
    if missing := lack(name):
        if in_ci:
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
