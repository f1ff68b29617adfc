"""The programs of this machine that a bake uses: where they are, which Debian package has them, how they are run.

Each runs in a process group of its own with a fixed environment, so that the same inputs give the same bytes wherever
it is run, and so that a person who presses Ctrl-C leaves none of them behind.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO

from grafos_core.errors import GrafosError

PACKAGE_OF = {
    "apt-cache": "apt",
    "apt-get": "apt",
    "arch-test": "arch-test",
    "bsdtar": "libarchive-tools",
    "depmod": "kmod",
    "dpkg-deb": "dpkg",
    "gpg": "gpg",
    "mcopy": "mtools",
    "mke2fs": "e2fsprogs",
    "mkfs.vfat": "dosfstools",
    "mmd": "mtools",
    "mmdebstrap": "mmdebstrap",
    "newuidmap": "uidmap",
    "qemu-aarch64-static": "qemu-user-static",
    "qemu-img": "qemu-utils",
    "qemu-x86_64-static": "qemu-user-static",
    "sbsign": "sbsigntool",
    "sbverify": "sbsigntool",
    "sfdisk": "fdisk",
    "systemd-analyze": "systemd",
    "unshare": "util-linux",
    "zstd": "zstd",
}
SYSTEM_PLACES = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Debian keeps makers of file systems in folders that an ordinary account does not search."""
SHOWN_LINES = 60
"""Of what a program said before it failed."""
FULL = "no space is left on the disk that it writes to"
"""Some programs need twenty lines to say so."""
STOP_S_MAX = 20.0
"""What a program gets to undo its mounts and to end, before it is killed."""
RUN_S_MAX = 1800.0
"""The slowest is Debian's set-up of a foreign architecture: four minutes on two cores."""


def find(program: str) -> str:
    """Its path, or ``tool_missing`` with the package that has it."""
    found = shutil.which(program) or shutil.which(program, path=SYSTEM_PLACES)
    if found is None:
        raise _missing([program])
    return found


def check(programs: Iterable[str]) -> None:
    """``tool_missing`` with all that is not there, in one line."""
    missing = [
        program
        for program in programs
        if not shutil.which(program, path=f"{os.environ.get('PATH', '')}:{SYSTEM_PLACES}")
    ]
    if missing:
        raise _missing(missing)


def run(
    command: Sequence[str | Path],
    *,
    epoch_s: int = 0,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    output: IO[bytes] | None = None,
    input: bytes | None = None,
) -> str:
    """Runs a program to its end and gives what it printed, or writes that to ``output``; ``bake_failed``."""
    words = [find(str(command[0])) if "/" not in str(command[0]) else str(command[0]), *map(str, command[1:])]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process = subprocess.Popen(
            words,
            cwd=folder,
            env={**fixed_environment(epoch_s), **(environment or {})},
            stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
            stdout=subprocess.PIPE if output is None else output,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        # From here on Ctrl-C finds somebody who ends the program; a moment earlier nobody would have known of it.
        with process:
            return _finished(process, words[0], input, before)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _finished(process: subprocess.Popen[bytes], name: str, input: bytes | None, mask: set[int | signal.Signals]) -> str:
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        out, err = process.communicate(input, timeout=RUN_S_MAX)
    except subprocess.TimeoutExpired as error:
        stop(process)
        raise failed(name, f"it did not end within {RUN_S_MAX:g} s") from error
    except BaseException:
        stop(process)
        raise
    if process.returncode != 0:
        said = err or out or b""
        why = FULL if os.strerror(errno.ENOSPC).encode() in said else _last_lines(said)
        raise failed(name, why or f"it ended with {process.returncode}")
    return (out or b"").decode("utf-8", "replace")


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a program and all that it started; it may take down its mounts first."""
    for number, wait_s in ((signal.SIGTERM, STOP_S_MAX), (signal.SIGKILL, STOP_S_MAX)):
        if process.poll() is not None:
            break
        try:
            os.killpg(process.pid, number)
            process.wait(wait_s)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def fixed_environment(epoch_s: int) -> dict[str, str]:
    """Nothing of the caller's that would change a byte: no locale, time zone or clock of this machine."""
    path = os.environ.get("PATH", "")
    return {
        "PATH": f"{path}:{SYSTEM_PLACES}" if path else SYSTEM_PLACES,
        "HOME": os.environ.get("HOME", "/"),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "SOURCE_DATE_EPOCH": str(epoch_s),
        "E2FSPROGS_FAKE_TIME": str(epoch_s),
    }


def versions(programs: Iterable[str]) -> dict[str, str]:
    """What each program says of itself, in its first line."""
    asked = {"mke2fs": "-V", "mkfs.vfat": "--help"}
    told = {}
    for program in programs:
        done = subprocess.run(
            [find(program), asked.get(program, "--version")], capture_output=True, check=False, stdin=subprocess.DEVNULL
        )
        lines = (done.stdout + done.stderr).decode("utf-8", "replace").strip().splitlines()
        told[program] = lines[0].strip() if lines else "unknown"
    return told


def failed(what: str, why: str) -> GrafosError:
    return GrafosError(
        "bake_failed",
        f"{Path(what).name} failed",
        why=why,
        next="mend what it says and bake again; what was done is kept",
    )


def _missing(programs: Sequence[str]) -> GrafosError:
    packages = sorted({PACKAGE_OF.get(program, program) for program in programs})
    return GrafosError(
        "tool_missing",
        f"{', '.join(programs)} {'is' if len(programs) == 1 else 'are'} not on this machine",
        next=f"apt-get install --no-install-recommends {' '.join(packages)}",
    )


def _last_lines(said: bytes) -> str:
    return "\n".join(said.decode("utf-8", "replace").strip().splitlines()[-SHOWN_LINES:])
