"""What a person sees of a bake that cannot go on, and what it leaves behind: nothing under a final name, no mount, no
process, and so no namespace."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from baking import NOWHERE, Silent, kept, software_of
from forked import GRAFOS
from own_mounts import with_own_mounts

from grafos_cellimage.bake import Baker
from grafos_cellimage.lock import open_lock
from grafos_cellimage.plan import plan_for
from grafos_cellimage.record import list_images
from grafos_core.errors import GrafosError

pytestmark = [pytest.mark.needs("image"), pytest.mark.timeout(900)]

PLAN = plan_for("amd64")
WAIT_S_MAX = 300.0
SMALL_DISK = """
at="$2"
mount -t tmpfs -o size="$1" none "$at"
shift 2
"$@" && code=0 || code=$?
ls -A "$at"
exit $code
"""
HIDDEN = 'mount --bind "$1" "$(command -v "$2")"; shift 2; exec "$@"'


class Bake:
    """`grafos cloud image bake` in a process; ``cache`` is this test's own for all that it keeps, or the caller's."""

    def __init__(self, folder: Path, cache: Path | None = None) -> None:
        self.folder, self.said = folder, folder.with_name(f"{folder.name}.said")
        # The tools know this bake by nothing else than this variable, which they inherit as PATH.
        self.mark = f"/marked-by-{os.getpid()}-{time.monotonic_ns()}"
        environment = {**os.environ, "PATH": f"{os.environ['PATH']}:{self.mark}"}
        if cache is not None:
            environment["XDG_CACHE_HOME"] = str(cache)
        words = ("cloud", "image", "bake", "--arch", "amd64", "--folder", str(folder))
        # Whoever runs these tests in the background has it ignored, which a program would inherit.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with self.said.open("w") as said:
                self.process = subprocess.Popen(
                    [str(GRAFOS), *words], env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said
                )
        finally:
            signal.signal(signal.SIGINT, before)

    def reaches(self, moment: Callable[[], object]) -> None:
        self._until(lambda: moment() or self.process.poll() is not None)
        assert self.process.poll() is None, self.said.read_text()

    def has_ended(self, step: str) -> bool:
        return f"{step}: done" in self.said.read_text()

    def runs(self, program: str) -> bool:
        """Whether a tool of that name is under way."""
        return any(program in Path(words[0]).name for words in self.processes() if words)

    def ends(self, number: int) -> int:
        """With that signal; its exit code, when nothing of it runs any more."""
        self.process.send_signal(number)
        code = self.process.wait(WAIT_S_MAX)
        self._until(lambda: not self.processes())
        return code

    def processes(self) -> list[list[str]]:
        """The command lines of all that was started for this bake."""
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark.encode() in (place / "environ").read_bytes():
                    found.append((place / "cmdline").read_text("utf-8", "replace").split("\0"))
            except OSError:
                continue
        return found

    def _until(self, holds: Callable[[], object]) -> None:
        end = time.monotonic() + WAIT_S_MAX
        while not holds():
            assert time.monotonic() < end, f"{self.said.read_text()}\n{self.processes()}"
            time.sleep(0.02)


def mounts() -> list[str]:
    """This machine's mounts."""
    return sorted(line.split(" ", 3)[3] for line in Path("/proc/self/mountinfo").read_text().splitlines())


def empty_cache(place: Path) -> Path:
    """A cache that has the packages and no base."""
    images = place / "grafos" / "images"
    images.mkdir(parents=True)
    (images / "packages").symlink_to(kept() / "packages")
    return images


def test_a_bake_that_was_killed_is_cleared_away_by_the_next_and_ctrl_c_leaves_nothing_at_all(tmp_path: Path) -> None:
    killed = Bake(tmp_path / "images")
    killed.reaches(lambda: killed.has_ended("the cell's own code"))
    killed.ends(signal.SIGKILL)
    assert list_images(killed.folder) == []
    assert [path.name[:6] for path in killed.folder.iterdir()] == [".bake-"]
    interrupted = Bake(killed.folder)
    interrupted.reaches(lambda: interrupted.runs("mcopy"))
    assert interrupted.ends(signal.SIGINT) == 130, interrupted.said.read_text()
    assert list(interrupted.folder.iterdir()) == []


@pytest.mark.deep
@pytest.mark.parametrize(
    "moment",
    [
        lambda bake: bake.runs("python") and bake.has_ended("Debian's packages"),
        lambda bake: bake.runs("dpkg"),
        lambda bake: bake.has_ended("the root"),
        lambda bake: bake.has_ended("the kernel"),
        lambda bake: bake.runs("zstd"),
    ],
    ids=["packages fetched", "packages unpacked", "the kernel", "the base", "compressing"],
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "killed"])
def test_a_base_that_was_not_finished_leaves_no_mount_and_no_process(
    moment: Callable[[Bake], object], number: signal.Signals, tmp_path: Path
) -> None:
    images, before = empty_cache(tmp_path / "cache"), mounts()
    bake = Bake(tmp_path / "images", tmp_path / "cache")
    bake.reaches(lambda: moment(bake))
    code = bake.ends(number)
    assert mounts() == before
    assert not bake.folder.exists()
    left = [path.name for path in (images / "bases").iterdir() if path.name != "lock"]
    if number == signal.SIGINT:
        assert (code, left) == (130, [])
    else:
        assert [name[:6] for name in left] == [".base-"]


@pytest.mark.deep
def test_after_a_base_that_was_killed_the_next_is_the_same_as_ever(tmp_path: Path) -> None:
    images = empty_cache(tmp_path / "cache")
    bake = Bake(tmp_path / "images", tmp_path / "cache")
    bake.reaches(lambda: bake.runs("dpkg"))
    bake.ends(signal.SIGKILL)
    again = Bake(tmp_path / "images", tmp_path / "cache")
    assert again.process.wait(WAIT_S_MAX) == 0, again.said.read_text()
    warm = Bake(tmp_path / "others")
    assert warm.process.wait(WAIT_S_MAX) == 0, warm.said.read_text()
    assert [one.sha256 for one in list_images(bake.folder)] == [one.sha256 for one in list_images(warm.folder)]
    assert not list((images / "bases").glob(".base-*"))


BAKE = (str(GRAFOS), "cloud", "image", "bake", "--arch")


def test_a_full_disk_is_one_line_and_no_half_image(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    done = with_own_mounts(SMALL_DISK, "90m", str(folder), *BAKE, "amd64", "--folder", str(folder), home=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "error[bake_failed]" in done.stderr
    assert "why:   no space is left on the disk that it writes to\n" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(("tool", "package"), [("mkfs.vfat", "dosfstools"), ("mmdebstrap", "mmdebstrap")])
def test_a_missing_tool_is_one_line_with_its_package(tool: str, package: str, tmp_path: Path) -> None:
    none = tmp_path / "none"
    none.touch(mode=0o644)
    done = with_own_mounts(HIDDEN, str(none), tool, *BAKE, "amd64", "--folder", str(tmp_path / "images"), home=tmp_path)
    assert "error[tool_missing]" in done.stderr, done.stderr
    assert f"{tool} is not on this machine" in done.stderr
    assert f"apt-get install --no-install-recommends {package}\n" in done.stderr
    assert not (tmp_path / "images").exists()


@pytest.mark.deep
@pytest.mark.needs("arm64")
def test_a_machine_that_can_run_nothing_foreign_says_so_before_anything_is_fetched(tmp_path: Path) -> None:
    empty_cache(tmp_path / "cache")
    bake = ("env", f"XDG_CACHE_HOME={tmp_path / 'cache'}", *BAKE, "arm64", "--folder", str(tmp_path / "images"))
    done = with_own_mounts(HIDDEN, "/bin/false", "arch-test", *bake, home=tmp_path)
    assert "error[tool_missing]: this machine cannot run programs of arm64" in done.stderr, done.stderr
    assert "next:  Linux 6.7 or newer" in done.stderr
    assert not (tmp_path / "images").exists()


def test_a_wheel_that_is_not_the_locks_is_refused_before_anything_is_set_up(tmp_path: Path) -> None:
    lock, _ = open_lock(PLAN)
    first, *rest = lock.wheels
    other = msgspec.structs.replace(lock, wheels=(msgspec.structs.replace(first, sha256="0" * 64), *rest))
    images = empty_cache(tmp_path)
    with software_of(PLAN) as software, pytest.raises(GrafosError) as refused:
        Baker(images, NOWHERE, Silent()).bake(PLAN, other, "0" * 64, software, tmp_path / "images")
    assert refused.value.code == "bake_failed"
    assert first.name in refused.value.why
    assert [path.name for path in (images / "bases").iterdir()] == ["lock"]
