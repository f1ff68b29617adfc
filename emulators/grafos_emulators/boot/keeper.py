"""The first process of an emulated machine that really boots: puts its disk there, runs QEMU, and takes it down.

As ``init``: it has a pipe as standard input, and when that breaks, because the machine is halted or because the
emulator died however suddenly, it kills QEMU and all that QEMU started. When the machine switches itself off it writes
``off`` to standard output before it ends. Linux, standard library only.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from grafos_emulators.boot.console import Console
from grafos_emulators.boot.driver import TAR_GZ, VHD
from grafos_emulators.boot.init import OFF
from grafos_emulators.boot.processes import adopt_orphans, die_with_parent, give_up_privileges, kill_descendants

FOOTER_BYTES = 512  # of a VHD of fixed size, behind the disk
PART_BYTES = 1 << 20
BAD_DISK = (OSError, EOFError, tarfile.TarError, zlib.error)
"""What comes of a disk that cannot be put there: a full folder, an archive that is none or that ends too early."""
_CONTROL_FD, _STATUS_FD = 0, 1


def is_halted() -> bool:
    """Whether the pipe has broken."""
    ready, _, _ = select.select([_CONTROL_FD], [], [], 0)
    return bool(ready) and not os.read(_CONTROL_FD, 1)


def put_memory(fresh: Path, target: Path) -> None:
    """Gives the machine's firmware a memory, once."""
    if not target.exists():
        part = target.with_suffix(".part")
        part.write_bytes(fresh.read_bytes())
        part.rename(target)


def put_disk(content: int, form: str, size_bytes: int, target: Path, halted: Callable[[], bool]) -> bool:
    """Writes the disk that a cloud keeps in that form, once; what is zero takes no room. ``content`` is an open file.

    It has its final name when it is whole. False if the machine was halted in the middle of it: nothing then boots.
    """
    if target.exists():
        return True
    part = target.with_suffix(".part")
    end = 0 if form == TAR_GZ else size_bytes - (FOOTER_BYTES if form == VHD else 0)
    with part.open("wb") as file:
        for at, data in _in_archive(content) if form == TAR_GZ else _in_file(content, end):
            if halted():
                return False
            end = max(end, at + len(data))
            if data.strip(b"\0"):
                file.seek(at)
                file.write(data)
        file.truncate(end)
    part.rename(target)
    return True


def _in_archive(content: int) -> Iterator[tuple[int, bytes]]:
    """The one file of the archive, in parts, and where each is in it."""
    with Path(f"/proc/self/fd/{content}").open("rb") as given, tarfile.open(fileobj=given, mode="r:gz") as archive:
        member = archive.next()
        source = archive.extractfile(member) if member else None
        if source is None:
            raise tarfile.ReadError("the archive has no disk in it")
        at = 0
        while data := source.read(PART_BYTES):
            yield at, data
            at += len(data)


def _in_file(content: int, size_bytes: int) -> Iterator[tuple[int, bytes]]:
    """So much of a file, in parts, without its holes."""
    at = 0
    while at < size_bytes:
        try:
            at = os.lseek(content, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # nothing but a hole is left
            raise
        data = os.pread(content, min(PART_BYTES, max(size_bytes - at, 0)), at)
        yield at, data
        at += max(len(data), 1)


def run(command: list[str], root: Path, console: Console) -> int | None:
    """QEMU from its start to its end: its exit code, or None once the machine is halted."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=console.write_end,
        stderr=console.write_end,
        cwd=root,
        env={"PATH": os.environ.get("PATH", os.defpath), "HOME": str(root / "root")},
        preexec_fn=die_with_parent,  # noqa: PLW1509  this process has one thread only
    )
    ended = os.pidfd_open(process.pid)
    while True:
        ready, _, _ = select.select([_CONTROL_FD, console.read_end, ended], [], [])
        if console.read_end in ready:
            console.relay()
        if _CONTROL_FD in ready and not os.read(_CONTROL_FD, 1):
            return None
        if ended in ready:
            return process.wait()


def main(arguments: list[str]) -> int:
    """``arguments`` are the machine's folder, the file of its console, and the open file of its image."""
    root, console = Path(arguments[0]), Console(Path(arguments[1]))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # only the pipe ends a machine
    give_up_privileges()
    adopt_orphans()
    settings: dict[str, Any] = json.loads((root / "keeper.json").read_text())
    console.say(f"virtual machine {root.name} boots: {settings['command'][0]}")
    try:
        put_memory(Path(settings["fresh_memory"]), root / settings["memory"])
        disk = root / settings["disk"]
        is_whole = put_disk(int(arguments[2]), settings["form"], settings["size_bytes"], disk, is_halted)
        code = run(settings["command"], root, console) if is_whole else None
    except BAD_DISK as problem:
        console.say(f"it does not boot: {problem}")
        return 1
    clean = kill_descendants()
    console.drain()
    if code == 0 and clean:
        try:
            os.write(_STATUS_FD, OFF)
        except BrokenPipeError:
            pass  # the emulator died in the same moment; there is nobody to tell
    return 0 if clean and code in (None, 0) else 1
