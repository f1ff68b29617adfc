"""Make .venv hold exactly what the locks and the rooms ask for; standard library only.

Called by `tools/set-up` with a Python that is new enough. The stamp .venv/grafos-stamp is written last and
holds a digest of all that the environment was made from, so an interrupted set-up is repeated and a second
run is instant. `--check` answers by exit code whether there is anything to do.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "grafos-stamp"
# Where Debian and Ubuntu keep the machine's own certificate authorities.
SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
LOCK_FILE = ROOT / "requirements" / "dev.txt"
CELL_LOCK_FILE = ROOT / "requirements" / "cell.txt"
ROOMS = ("core", "scheduler", "cell", "cellimage", "connectors", "stacks", "emulators", "cli", "testkit")


class StepError(Exception):
    """A step's command did not succeed; the text is what the command itself said."""


def wanted_stamp() -> str:
    """Where the tree stands (the environment's scripts name it), and a digest of all it is made from."""
    digest = hashlib.sha256()
    sources = [LOCK_FILE, CELL_LOCK_FILE, Path(__file__).resolve(), *(ROOT / room / "pyproject.toml" for room in ROOMS)]
    for source in sources:
        digest.update(b"\0" + source.read_bytes())
    return f"{ROOT}\n{digest.hexdigest()}\n"


def is_ready() -> bool:
    """True when the last set-up ended well and nothing it was made from has changed since."""
    try:
        return STAMP.read_text() == wanted_stamp()
    except OSError:
        return False


@contextmanager
def only_one_at_a_time() -> Iterator[None]:
    """Hold a lock on the tools folder, so that two `make` in one tree wait for each other."""
    descriptor = os.open(ROOT / "tools", os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Waiting for another set-up of this folder to end …", flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def run(*command: str | Path) -> None:
    """Run a command quietly; what it printed is shown only when it fails."""
    # The caller's own environment must not leak in: uv and pip work on .venv and on nothing else.
    environment = dict(os.environ)
    for foreign in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME"):
        environment.pop(foreign, None)
    environment["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    if SYSTEM_CERTIFICATES.exists():
        # uv trusts a list of its own unless told; behind a company's proxy only the machine's list holds.
        environment.setdefault("UV_SYSTEM_CERTS", "true")
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StepError((done.stdout + done.stderr).strip())


def is_sound() -> bool:
    """True when a set-up once ended well in this very place and the Python it used is still there."""
    try:
        if STAMP.read_text().splitlines()[0] != str(ROOT):
            return False
        run(VENV / "bin" / "python", "-I", "-m", "pip", "--version")
    except (OSError, IndexError, StepError):
        return False
    return True


def make_environment() -> None:
    """Keep a sound .venv and bring it up to date; make any other one anew."""
    if is_sound():
        STAMP.unlink()
    else:
        run(sys.executable, "-I", "-m", "venv", "--clear", VENV)


def get_uv() -> None:
    """The locked uv, by pip and by hash, unless that very version is there."""
    lines = LOCK_FILE.read_text().splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("uv=="))
    end = next(at for at in range(start, len(lines)) if not lines[at].endswith("\\"))
    only_uv = VENV / "uv.txt"
    only_uv.write_text("\n".join(lines[start : end + 1]) + "\n")
    pip = (VENV / "bin" / "python", "-I", "-m", "pip", "--quiet")
    run(*pip, "install", "--no-deps", "--require-hashes", "--requirement", only_uv)


def get_packages() -> None:
    """Exactly the packages of the lock, each checked by hash."""
    run(VENV / "bin" / "uv", "pip", "sync", "--python", VENV, "--require-hashes", LOCK_FILE)


def install_rooms() -> None:
    """The rooms from the tree, editable; what they need is there, so nothing is resolved or fetched."""
    editables = [argument for room in ROOMS for argument in ("--editable", f"./{room}")]
    options = ("--python", VENV, "--no-deps", "--no-build-isolation", "--offline")
    run(VENV / "bin" / "uv", "pip", "install", *options, *editables)


BUILD_BUNDLE = """
import platform, sys
from grafos_stacks.bundle import Bundles
arch = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
Bundles().pin(arch, "%d.%d" % sys.version_info[:2])
"""


def get_cell_software() -> None:
    """The software that an emulated machine gets. Its wheels may be others than ours: they suit older systems too."""
    run(VENV / "bin" / "python", "-I", "-c", BUILD_BUNDLE)


STEPS: tuple[tuple[str, Callable[[], None]], ...] = (
    ("a Python environment in .venv", make_environment),
    ("uv, the installer", get_uv),
    ("the locked packages", get_packages),
    ("the rooms of grafos", install_rooms),
    ("the software of a cell", get_cell_software),
)


def set_up() -> None:
    """Walk the steps, one line each; the stamp comes last."""
    stamp = wanted_stamp()
    print(f"Setting up once, with Python {sys.version.split()[0]}:")
    for what, act in STEPS:
        print(f"  {what:<32}", end="", flush=True)
        started = time.monotonic()
        act()
        print(f"{time.monotonic() - started:5.1f} s", flush=True)
    STAMP.write_text(stamp)


def main() -> None:
    """Exit code 0 when the environment is ready, 1 with the failing tool's own words, 130 if interrupted."""
    if sys.argv[1:] == ["--check"]:
        sys.exit(0 if is_ready() else 1)
    try:
        with only_one_at_a_time():
            if not is_ready():
                set_up()
    except StepError as failed:
        print("failed", flush=True)
        print(failed, file=sys.stderr)
        print("error: the set-up did not finish; mend what stands above and run it again", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("\nInterrupted; the next run sets up again.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
