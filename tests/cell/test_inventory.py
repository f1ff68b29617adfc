"""What a cell leases out follows from what the kernel shows, on machines that are trees of files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from grafos_cell import inventory


def tree(root: Path, **files: str) -> Path:
    """A kernel's files; in a name, ``__`` stands for a slash."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def group(root: Path, path: str, **files: str) -> Path:
    folder = root / "sys/fs/cgroup" / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")
    return root


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    return tree(tmp_path, proc__meminfo="MemTotal:        4000 kB\nMemFree:  10 kB\n", proc__self__cgroup="0::/a/b\n")


def test_the_cores_are_those_that_the_process_may_use(machine: Path) -> None:
    assert inventory.cores(machine, 7) == 7


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("250000 100000", 2), ("50000 100000", 1), ("max 100000", 8), ("900000 100000", 8), ("garbage", 8), ("1 0", 8)],
)
def test_a_quota_of_the_control_group_leaves_whole_cores(machine: Path, quota: str, cores: int) -> None:
    group(machine, "a/b", cpu__max=quota)
    assert inventory.cores(machine, 8) == cores


def test_a_group_further_up_limits_too(machine: Path) -> None:
    group(machine, "a", cpu__max="300000 100000", memory__max="1024000")
    group(machine, "a/b", cpu__max="max 100000", memory__max="max")
    assert inventory.cores(machine, 8) == 3
    assert inventory.memory_bytes(machine) == 1024000


def test_the_older_control_groups_limit_likewise(tmp_path: Path) -> None:
    tree(tmp_path, proc__meminfo="MemTotal: 4000 kB\n", proc__self__cgroup="4:memory:/m\n1:cpu,cpuacct:/c\n")
    group(tmp_path, "cpu/c", cpu__cfs_quota_us="200000", cpu__cfs_period_us="100000")
    group(tmp_path, "memory/m", memory__limit_in_bytes="512000")
    assert inventory.cores(tmp_path, 8) == 2
    assert inventory.memory_bytes(tmp_path) == 512000


def test_a_limit_that_means_none_is_none(machine: Path) -> None:
    group(machine, "a", memory__max="9223372036854771712")
    assert inventory.memory_bytes(machine) == 4000 * 1024


def test_a_kernel_that_tells_of_nothing_leaves_one_core_and_no_memory(tmp_path: Path) -> None:
    assert inventory.cores(tmp_path, 1) == 1
    assert (inventory.memory_bytes(tmp_path), inventory.nics(tmp_path), inventory.gpus(tmp_path)) == (0, 0, 0)


def test_a_group_outside_of_what_we_see_is_left_out(tmp_path: Path) -> None:
    tree(tmp_path, proc__self__cgroup="0::/../../elsewhere\n")
    group(tmp_path, "", cpu__max="100000 100000")
    assert inventory.cores(tmp_path, 4) == 4


def test_network_cards_are_those_with_a_device(tmp_path: Path) -> None:
    for name in ("eth0", "eth1", "lo", "docker0"):
        (tmp_path / "sys/class/net" / name).mkdir(parents=True)
    for name in ("eth0", "eth1"):
        (tmp_path / "sys/class/net" / name / "device").mkdir()
    assert inventory.nics(tmp_path) == 2


def test_gpus_are_those_that_their_driver_lists(tmp_path: Path) -> None:
    tree(tmp_path, dev__nvidia0="", dev__nvidia1="", dev__nvidiactl="", **{"dev__nvidia-uvm": ""})
    assert inventory.gpus(tmp_path) == 2
    for address in ("0000:01:00.0", "0000:02:00.0", "0000:03:00.0"):
        (tmp_path / "proc/driver/nvidia/gpus" / address).mkdir(parents=True)
    assert inventory.gpus(tmp_path) == 3


def test_a_part_of_the_memory_and_of_the_disk_is_leased_out(machine: Path, tmp_path: Path) -> None:
    there = inventory.found(machine, tmp_path / "state" / "blocks")
    disk = os.statvfs(tmp_path)
    assert there.mem_bytes == 2000 * 1024
    assert 0 < there.block_bytes < disk.f_blocks * disk.f_frsize
    assert there.block_bytes % inventory.BLOCK_STEP_BYTES == 0
    assert there.cpu_cores >= 1


def test_blocks_that_are_leased_already_count_as_before(tmp_path: Path) -> None:
    """On a disk that others use at the same time, only the leased file's own size can be told apart."""
    blocks = tmp_path / "blocks"
    blocks.mkdir()
    size = 4 * inventory.BLOCK_STEP_BYTES
    with (blocks / "one").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
    with_lease = inventory.block_bytes(blocks)
    moved = tmp_path / "one"
    (blocks / "one").rename(moved)
    without = inventory.block_bytes(blocks)
    assert abs(with_lease - without - size // 2) <= inventory.BLOCK_STEP_BYTES
