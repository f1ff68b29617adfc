"""From layers to a disk: one program that the firmware starts and that is the whole system, a partition table, and a
small partition for what outlives a reboot. Nothing is mounted, and nobody has to be root."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from grafos_cellimage import tools
from grafos_cellimage.layers import draft
from grafos_cellimage.plan import ImagePlan
from grafos_cellimage.record import BLOCK_BYTES, next_data

PROGRAMS = ("bsdtar", "zstd", "mkfs.vfat", "mmd", "mcopy", "mke2fs", "sfdisk")
EFI_SYSTEM = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
LINUX_DATA = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
SECTOR_BYTES = 512
STATE_LABEL = "grafos-state"
UKI_BYTES_MAX = 100_000_000
"""Firmware reads it all before anything runs, and some takes long over more; others refuse to."""


def write_uki(plan: ImagePlan, parts: UkiParts, target: Path, epoch_s: int) -> None:
    """The one program: stub, kernel, command line and layers in one file of the firmware's format."""
    command: list[str | Path] = [sys.executable, parts.ukify, "build", f"--efi-arch={plan.machine.efi}"]
    command += [f"--stub={parts.stub}", f"--linux={parts.kernel}", f"--uname={parts.release}"]
    command += [f"--initrd={layer}" for layer in parts.layers]
    with draft(target) as part:
        command += [f"--cmdline={plan.command_line}", f"--os-release={parts.os_release}", f"--output={part}"]
        tools.run(
            command, epoch_s=epoch_s, environment={"PYTHONPATH": str(parts.library), "PYTHONDONTWRITEBYTECODE": "1"}
        )
    size = target.stat().st_size
    if size > UKI_BYTES_MAX:
        raise tools.failed(
            "ukify", f"the system has {size / 1e6:.1f} MB, and {UKI_BYTES_MAX / 1e6:.0f} MB is the bound"
        )


class UkiParts:
    """What the one program is made of."""

    def __init__(self, base: Path, release: str, os_release: str, layers: tuple[Path, ...]) -> None:
        self.ukify, self.library = (
            base / "ukify" / "usr" / "bin" / "ukify",
            base / "ukify" / "usr/lib/python3/dist-packages",
        )
        self.stub, self.kernel = base / "stub.efi", base / "vmlinuz"
        self.release, self.os_release, self.layers = release, os_release, layers


def write_disk(plan: ImagePlan, uki: Path, target: Path, epoch_s: int) -> None:
    """The raw disk, sparse: what is zero takes no room."""
    sizes = plan.sizes
    boot, state = target.with_suffix(".boot"), target.with_suffix(".state")
    try:
        _write_boot(plan, uki, boot, epoch_s)
        _write_state(plan, state, epoch_s)
        with target.open("wb") as file:
            file.truncate(sizes.disk)
        tools.run(("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", target), input=table(plan).encode())
        copy_sparsely(boot, target, sizes.lead)
        copy_sparsely(state, target, sizes.lead + sizes.boot)
    finally:
        boot.unlink(missing_ok=True)
        state.unlink(missing_ok=True)


def table(plan: ImagePlan) -> str:
    """The partition table as sfdisk reads it."""
    sizes, sectors = plan.sizes, SECTOR_BYTES
    parts = (
        (sizes.lead, sizes.boot, EFI_SYSTEM, "boot", "grafos-boot"),
        (sizes.lead + sizes.boot, sizes.state, LINUX_DATA, "state", STATE_LABEL),
    )
    lines = [
        f'start={start // sectors}, size={size // sectors}, type={kind}, uuid={plan.drawn_id(what)}, name="{name}"'
        for start, size, kind, what, name in parts
    ]
    return "\n".join(["label: gpt", f"label-id: {plan.drawn_id('disk')}", "unit: sectors", *lines]) + "\n"


def copy_sparsely(source: Path, target: Path, offset: int) -> None:
    """Writes a file's blocks into another from ``offset`` on, and leaves out those that are zero: they stay holes."""
    nothing = bytes(BLOCK_BYTES)
    with source.open("rb", buffering=0) as given, target.open("r+b") as file:
        at = 0
        while (at := next_data(given.fileno(), at)) >= 0:
            at -= at % BLOCK_BYTES
            given.seek(at)
            block = given.read(BLOCK_BYTES)
            if block != nothing[: len(block)]:
                file.seek(offset + at)
                file.write(block)
            at += BLOCK_BYTES


def _write_boot(plan: ImagePlan, uki: Path, target: Path, epoch_s: int) -> None:
    """A FAT file system with the program where firmware looks for one when nobody told it more."""
    target.unlink(missing_ok=True)
    with target.open("wb") as file:
        file.truncate(plan.sizes.boot)
    volume = f"{plan.drawn_id('fat').int & 0xFFFFFFFF:08x}"
    tools.run(("mkfs.vfat", "--invariant", "-F", "32", "-i", volume, "-n", "GRAFOS", target), epoch_s=epoch_s)
    os.utime(uki, (epoch_s, epoch_s))
    tools.run(("mmd", "-i", target, "::/EFI", "::/EFI/BOOT"), epoch_s=epoch_s)
    tools.run(("mcopy", "-m", "-i", target, uki, f"::/EFI/BOOT/{plan.machine.boot_file}"), epoch_s=epoch_s)


def _write_state(plan: ImagePlan, target: Path, epoch_s: int) -> None:
    target.unlink(missing_ok=True)
    with target.open("wb") as file:
        file.truncate(plan.sizes.state)
    options = f"hash_seed={plan.drawn_id('hash')},lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0"
    command = ("mke2fs", "-q", "-F", "-t", "ext4", "-L", STATE_LABEL, "-U", str(plan.drawn_id("file-system")))
    tools.run((*command, "-m", "0", "-E", options, target), epoch_s=epoch_s)
