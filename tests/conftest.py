"""What holds in every test: loopback only, an empty home, no cloud's credentials, no silent skip."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import loopback_only
import parts
import pytest

if TYPE_CHECKING:
    from postgresql import Server

GUARD_FOLDER = Path(loopback_only.__file__).parent
IN_CI = os.environ.get("CI", "").lower() in ("1", "true")

GARBAGE_THRESHOLDS = (20_000, 10, 100)
"""Python's own look at what is young after every 700 new things: an SDK's client alone is ten thousand of them."""

# Whose settings must not reach a test: the clouds', our own, and proxies, which lead away from loopback.
FOREIGN_PREFIXES = ("AWS_", "AZURE_", "ARM_", "BOTO_", "CLOUDSDK_", "GCLOUD_", "GOOGLE_", "GRAFOS_", "XDG_")
FOREIGN_SUFFIXES = ("_PROXY",)


def empty_home(home: Path) -> dict[str, str]:
    """The variables that make `home` the whole world of a program that keeps files."""
    places = {
        "HOME": home,
        "XDG_CACHE_HOME": home / "cache",
        "XDG_CONFIG_HOME": home / "config",
        "XDG_DATA_HOME": home / "data",
        "XDG_RUNTIME_DIR": home / "run",
        "XDG_STATE_HOME": home / "state",
    }
    places["XDG_RUNTIME_DIR"].mkdir(mode=0o700, exist_ok=True)
    return {name: str(place) for name, place in places.items()}


def keep_uv_cache() -> None:
    """Let uv find the wheels that the set-up fetched, and nothing else: no guard sees it, so offline."""
    cache_home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    os.environ.setdefault("UV_CACHE_DIR", str(Path(cache_home) / "uv"))
    os.environ["UV_OFFLINE"] = "1"


def keep_bytecode() -> None:
    """A test starts processes by the hundred: none is to compile anew what another one has compiled already."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--rewrite` takes what the code says now for golden; the diff is then for review."""
    parser.addoption("--rewrite", action="store_true", help="write golden files anew instead of comparing")


def pytest_configure(config: pytest.Config) -> None:
    """Before the first fixture of any scope: clean the environment, close the door to the world."""
    config.addinivalue_line("markers", "needs(part): runs only where that part of tools/parts.py is")
    keep_uv_cache()
    keep_bytecode()
    parts.remember_caches()
    for name in list(os.environ):
        if name.startswith(FOREIGN_PREFIXES) or name.upper().endswith(FOREIGN_SUFFIXES):
            del os.environ[name]
    session_home = tempfile.mkdtemp(prefix="grafos-tests-")
    config.add_cleanup(lambda: shutil.rmtree(session_home, ignore_errors=True))
    os.environ.update(empty_home(Path(session_home)))
    os.environ[loopback_only.REFUSALS_VARIABLE] = str(Path(session_home) / "refusals.txt")
    parts.share_caches(Path(session_home) / "cache")
    os.environ["PYTHONPATH"] = str(GUARD_FOLDER)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    os.environ["TZ"] = "UTC"
    loopback_only.install()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """All that is imported now stays: the search for garbage passes it over, which took a third of some rooms' time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GARBAGE_THRESHOLDS)
        gc.enable()


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder of this test's own; programs that it starts see no other."""
    folder = tmp_path_factory.mktemp("home")
    for name, place in empty_home(folder).items():
        monkeypatch.setenv(name, place)
    return folder


@pytest.fixture
def refusals() -> Iterator[Path]:
    """The file of what the guard refused, for the tests that provoke it; it is empty again afterwards."""
    written = Path(os.environ[loopback_only.REFUSALS_VARIABLE])
    written.write_text("")
    yield written
    written.write_text("")


@pytest.fixture(autouse=True)
def loopback(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test during which anything left loopback, even if the code under test swallowed that."""
    yield
    written = Path(os.environ[loopback_only.REFUSALS_VARIABLE])
    left = written.read_text() if written.exists() else ""
    if left and "refusals" not in request.fixturenames:
        written.write_text("")
        pytest.fail(f"left loopback:\n{left}")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """`golden(path, text)`: the file under review holds exactly this text; `--rewrite` writes it."""

    def compare(path: Path, text: str) -> None:
        if request.config.getoption("--rewrite"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        held = path.read_text(encoding="utf-8") if path.exists() else ""
        assert text.splitlines() == held.splitlines(), f"if this is meant: pytest {request.path} --rewrite"

    return compare


@pytest.fixture(autouse=True)
def needed_parts(request: pytest.FixtureRequest, home: Path) -> None:
    """`@pytest.mark.needs("rust")`: skip without the part and say the cure; in CI that is a failure."""
    for mark in request.node.iter_markers("needs"):
        parts.need(mark.args[0], in_ci=IN_CI)


@pytest.fixture(scope="session")
def database_server() -> Iterator[Server]:
    """For tests that need the part `postgresql`; each makes databases of its own in it."""
    from postgresql import Server

    started = Server()
    try:
        yield started.start()
    finally:
        started.discard()
