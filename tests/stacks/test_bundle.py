"""The bundle: the same bytes for the same inputs, nothing that tells of its builder, and an honest refusal."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from grafos_core.errors import GrafosError
from grafos_stacks.bootstrap_script import unpack
from grafos_stacks.bundle import BUNDLES_KEPT, ROOMS, STRIPPED_SUFFIXES, Bundles, install_with_uv

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


class Installer:
    """Puts one small package there instead of fetching many; counts how often it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def __call__(self, lock: Path, folder: Path, platform: str, python: str) -> None:
        assert "--hash=sha256:" in lock.read_text()
        self.asked.append((platform, python))
        package = folder / "third"
        (package / "tests").mkdir(parents=True)
        (package / "__pycache__").mkdir()
        (package / "__init__.py").write_text(f"PLATFORM = {platform!r}\n")
        (package / "native.so").write_bytes(b"\x7fELF")
        for stripped in ("tests/test_a.py", "__pycache__/a.pyc", "a.pyi", "a.c"):
            (package / stripped).write_text("not for a machine")
        about = folder / "third-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Name: third\n")
        (about / "RECORD").write_text("differs between builders")
        (folder / "bin").mkdir()
        (folder / "bin" / "third").write_text("#!/somewhere/python\n")


@pytest.fixture
def installer() -> Installer:
    return Installer()


def members(bundles: Bundles, sha256: str) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(bundles.path(sha256), "r:gz") as archive:
        return {member.name: member for member in archive.getmembers()}


def test_two_builders_make_the_same_bytes(tmp_path: Path, installer: Installer) -> None:
    one = Bundles(tmp_path / "one", installer).pin("amd64", "3.13")
    two = Bundles(tmp_path / "two", installer).pin("amd64", "3.13")
    assert one == two
    data = Bundles(tmp_path / "one").path(one.sha256).read_bytes()
    assert (hashlib.sha256(data).hexdigest(), len(data)) == (one.sha256, one.size_bytes)


def test_it_holds_our_packages_and_the_locked_ones_and_nothing_for_builders(
    tmp_path: Path, installer: Installer
) -> None:
    bundles = Bundles(tmp_path, installer)
    found = members(bundles, bundles.pin("amd64", "3.13").sha256)
    assert {"third/__init__.py", "third/native.so", "grafos_cell/standalone.py", "grafos_core/trust.py"} <= set(found)
    assert {
        name.partition("/")[0] for name in found if name.startswith("grafos_") and "." not in name.split("/")[0]
    } == set(ROOMS)
    assert not [
        name for name in found if name.endswith(STRIPPED_SUFFIXES) or "__pycache__" in name or "/tests/" in name
    ]
    assert not [name for name in found if name.startswith("bin/") or name.endswith("RECORD")]
    assert not [name for name in found if "connectors" in name or "botocore" in name]


def test_nothing_in_it_tells_when_or_by_whom_it_was_made(tmp_path: Path, installer: Installer) -> None:
    bundles = Bundles(tmp_path, installer)
    found = members(bundles, bundles.pin("amd64", "3.13").sha256)
    assert list(found) == sorted(found)
    assert {(one.mtime, one.uid, one.gid, one.uname, one.mode) for one in found.values()} == {(0, 0, 0, "", 0o644)}
    assert all(one.isreg() for one in found.values())


def test_it_is_built_once_and_for_each_machine(tmp_path: Path, installer: Installer) -> None:
    bundles = Bundles(tmp_path, installer)
    pins = {bundles.pin("amd64", "3.13"), bundles.pin("amd64", "3.13"), bundles.pin("arm64", "3.13")}
    assert len(pins) == 2
    assert installer.asked == [("x86_64-manylinux_2_28", "3.13"), ("aarch64-manylinux_2_28", "3.13")]


@pytest.mark.parametrize("damage", [b"", b"other bytes"])
def test_damaged_bytes_in_the_cache_are_noticed_and_made_anew(
    tmp_path: Path, installer: Installer, damage: bytes
) -> None:
    bundles = Bundles(tmp_path, installer)
    pin = bundles.pin("amd64", "3.13")
    bundles.path(pin.sha256).write_bytes(damage)
    with pytest.raises(GrafosError) as refused:
        bundles.path(pin.sha256)
    assert refused.value.code == "bundle_unavailable"
    assert bundles.pin("amd64", "3.13") == pin
    assert len(installer.asked) == 2


def test_only_the_newest_are_kept(tmp_path: Path, installer: Installer) -> None:
    bundles = Bundles(tmp_path, installer)
    for minor in range(BUNDLES_KEPT + 3):
        (tmp_path / f"{minor}.tar.gz").write_bytes(b"old")
    pin = bundles.pin("amd64", "3.13")
    assert len(list(tmp_path.glob("*.tar.gz"))) == BUNDLES_KEPT
    assert bundles.path(pin.sha256).exists()


def test_an_architecture_without_software_is_refused(tmp_path: Path, installer: Installer) -> None:
    with pytest.raises(GrafosError) as refused:
        Bundles(tmp_path, installer).pin("riscv64", "3.13")
    assert refused.value.code == "bundle_unavailable"
    assert installer.asked == []


def test_what_cannot_be_fetched_is_said_with_the_next_step(tmp_path: Path) -> None:
    """Nothing is half built: the next try begins anew."""
    lock = tmp_path / "lock.txt"
    lock.write_text("no-such-package-anywhere==1.0 --hash=sha256:" + "0" * 64 + "\n")
    with pytest.raises(GrafosError) as refused:
        install_with_uv(lock, tmp_path / "site", "x86_64-manylinux_2_28", "3.13")
    assert refused.value.code == "bundle_unavailable"
    assert refused.value.why
    assert "connection" in refused.value.next


def test_a_wheel_whose_hash_is_not_the_locked_one_is_not_taken(tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text("msgspec==0.22.0 --hash=sha256:" + "0" * 64 + "\n")
    with pytest.raises(GrafosError):
        install_with_uv(lock, tmp_path / "site", "x86_64-manylinux_2_28", PYTHON)
    assert not (tmp_path / "site" / "msgspec").exists()


def test_the_real_bundle_runs_with_nothing_but_a_bare_python(tmp_path: Path) -> None:
    """Both programs and all that they import come out of it; the environment is not looked at."""
    from grafos_emulators.aws.host import host_architecture

    bundles = Bundles(tmp_path / "cache")
    arch = "arm64" if host_architecture() == "arm64" else "amd64"
    pin = bundles.pin(arch, PYTHON)
    site = tmp_path / "site"
    unpack(bundles.path(pin.sha256), site)
    code = (
        "import sys; sys.path[:0] = [sys.argv.pop(1)]; "
        "import grafos_cell.standalone, grafos_cell.__main__, grafos_scheduler.process, grafos_cell.worker; "
        "import grafos_cell; print(grafos_cell.__file__)"
    )
    base = Path(sys.base_prefix) / "bin" / f"python{PYTHON}"
    told = subprocess.run([base, "-I", "-S", "-c", code, str(site)], capture_output=True, text=True, check=True, env={})
    assert told.stdout.startswith(str(site))
    assert pin.size_bytes < 32 * 1024 * 1024
