"""What this machine has, as its kernel shows it, and how much of that a cell leases out.

Everything is read below a ``root``, which is the machine's own unless a test gives another. What cannot be read is not
there: a cell that says less than it has is only smaller, one that says more breaks its promises. In a container a
control group may allow less than the machine has; both its generations are looked at.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from grafos_core.resources import Resources

MEM_SHARE = 2
"""One part in so many of the memory is leased out; tasklets, the daemon and the system have the rest."""
BLOCK_SHARE = 2
"""Likewise of the disk: what is written beside leases (logs, compiled code) must never fill it."""
BLOCK_STEP_BYTES = 64 * 1024 * 1024
"""What is told of the disk changes in such steps, and not with every line of a log."""
STAT_UNIT_BYTES = 512
"""Of ``st_blocks``, whatever the file system's own blocks are."""
_GROUPS = Path("sys/fs/cgroup")


def found(root: Path, blocks: Path) -> Resources:
    """All that a cell can lease out here that keeps its leased blocks in the folder ``blocks``."""
    return Resources(
        cpu_cores=cores(root, len(os.sched_getaffinity(0))),
        mem_bytes=memory_bytes(root) // MEM_SHARE,
        block_bytes=block_bytes(blocks),
        gpu_count=gpus(root),
        nic_count=nics(root),
    )


def cores(root: Path, allowed: int) -> int:
    """Of the ``allowed`` cores, so many as the control groups give whole; at least one."""
    limits = [allowed]
    for folder in _groups(root, "cpu"):
        limits.append(_quota(_text(folder / "cpu.max").split()))
        limits.append(_quota([_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")]))
    return max(1, min(limit for limit in limits if limit))


def memory_bytes(root: Path) -> int:
    """The machine's memory, or less where the control groups allow less; 0 if the kernel does not tell."""
    [total] = [_number(line.split()[1]) * 1024 for line in _lines(root / "proc/meminfo", "MemTotal:")] or [0]
    limits = [total]
    for folder in _groups(root, "memory"):
        limits += [_number(_text(folder / name)) for name in ("memory.max", "memory.limit_in_bytes")]
    return min(limit for limit in limits if limit) if total else 0


def block_bytes(blocks: Path) -> int:
    """A part of the room on the disk of the folder ``blocks``, which may be missing yet; of what is free, and of what
    the leased blocks in it take, so that it is the same whether or not some are leased."""
    disk = next(folder for folder in (blocks, *blocks.absolute().parents) if folder.is_dir())
    there = os.statvfs(disk)
    kept = sum(file.lstat().st_blocks * STAT_UNIT_BYTES for file in blocks.iterdir()) if disk == blocks else 0
    room = there.f_bavail * there.f_frsize + kept
    return room // BLOCK_SHARE // BLOCK_STEP_BYTES * BLOCK_STEP_BYTES


def nics(root: Path) -> int:
    """Network cards with a device behind them; loopback, bridges and tunnels have none."""
    return sum((entry / "device").exists() for entry in _entries(root / "sys/class/net"))


def gpus(root: Path) -> int:
    """GPUs that a driver has taken up: what NVIDIA's lists, else its device files."""
    listed = len(_entries(root / "proc/driver/nvidia/gpus"))
    return listed or sum(entry.name.removeprefix("nvidia").isdecimal() for entry in _entries(root / "dev", "nvidia*"))


def image_sha256(root: Path) -> str:
    """The digest of its contents that a baked image bears; "" on a machine of any other."""
    told = _text(root / "usr/lib/grafos/image-sha256")
    return told if len(told) == 64 and not set(told) - set("0123456789abcdef") else ""


# --- control groups -----------------------------------------------------------------------------------------------


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's group for the controller, and of all groups around it, in both generations."""
    for line in _lines(root / "proc/self/cgroup", ""):
        number, controllers, path = (*line.split(":", 2), "", "")[:3]
        if number == "0" and not controllers:
            base = root / _GROUPS
        elif controller in controllers.split(","):
            base = root / _GROUPS / controller
        else:
            continue
        inside = PurePosixPath(path.strip().lstrip("/"))
        if ".." not in inside.parts:  # a group that is not in our view of them
            yield from (base / part for part in (inside, *inside.parents))


def _quota(told: list[str]) -> int:
    """Whole cores of "quota period"; 0 for no limit. Less than one core counts as one."""
    if len(told) != 2 or not _number(told[0]) or not _number(told[1]):
        return 0
    return max(1, _number(told[0]) // _number(told[1]))


# --- files that may not be there ----------------------------------------------------------------------------------


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return ""


def _lines(file: Path, beginning: str) -> list[str]:
    return [line for line in _text(file).splitlines() if line.startswith(beginning)]


def _entries(folder: Path, pattern: str = "*") -> list[Path]:
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []


def _number(text: str) -> int:
    """0 for ``max``, for ``-1``, for no number, and for a number that stands for no limit."""
    number = int(text) if text.isascii() and text.isdecimal() else 0
    return number if number < 2**60 else 0
