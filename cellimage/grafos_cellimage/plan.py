"""What an image consists of, as data: nothing here touches a disk, a network or the time.

A plan and a lock together say every byte of an image, apart from our own code. Everything that is dated or pinned is
in the lock; what is a choice of ours is here, with its reason.
"""

from __future__ import annotations

import uuid

import msgspec

from grafos_cellimage.record import GIB
from grafos_core.errors import GrafosError

MIB = 1 << 20
SUITE = "trixie"
"""Debian 13: the oldest systemd with ``ImportCredential=``, and a kernel for clouds with compressed modules."""
PACKAGES = (
    "ca-certificates",
    "kmod",
    "libgcc-s1",
    "mount",
    "netbase",
    "python3-minimal",
    "systemd",
    "systemd-resolved",
    "systemd-sysv",
    "systemd-timesyncd",
    "udev",
)
"""Beside what Debian calls essential. No sshd, no sudo, no cloud-init, no apt, no dbus, no login manager."""
SPACE = uuid.UUID("3a7c5f1e-52c2-5c39-9d1c-6f6f0b6b1f55")
"""The names of disk and partitions are drawn in it, so that they are the same in each bake."""


class Machine(msgspec.Struct, frozen=True):
    """What differs between architectures: Debian's words, the firmware's, wheels' and the emulator's."""

    kernel: str
    boot_file: str
    efi: str
    consoles: tuple[str, ...]
    libraries: str
    loader: str
    """Where the root has its libraries, and in there the program that loads programs: so an interpreter of the root
    runs without a chroot."""
    user_emulator: str
    elf_machine: int
    """The number by which a program says that it is for this architecture."""
    options: tuple[str, ...] = ()


MACHINES = {
    "amd64": Machine(
        "linux-image-cloud-amd64",
        "BOOTX64.EFI",
        "x64",
        ("ttyS0",),
        "usr/lib/x86_64-linux-gnu",
        "ld-linux-x86-64.so.2",
        "qemu-x86_64-static",
        62,
        # A host that is busy lets the kernel believe that there is no timer; every cloud's machine has one.
        ("no_timer_check",),
    ),
    # EC2's serial port on arm64 is ttyS0, the others' and QEMU's is ttyAMA0; without both one of them stays dark.
    "arm64": Machine(
        "linux-image-cloud-arm64",
        "BOOTAA64.EFI",
        "aa64",
        ("ttyS0", "ttyAMA0"),
        "usr/lib/aarch64-linux-gnu",
        "ld-linux-aarch64.so.1",
        "qemu-aarch64-static",
        183,
    ),
}
PYTHONS = {"trixie": "3.13"}
"""Of each suite that a plan is known for."""

MODULES_DROPPED = (
    "drivers/gpu",
    "drivers/hid",
    "drivers/infiniband",
    "drivers/input/rmi4",
    "drivers/input/serio",
    "drivers/media",
    "drivers/usb",
    "drivers/video",
    "fs/btrfs",
    "fs/ceph",
    "fs/cifs",
    "fs/f2fs",
    "fs/gfs2",
    "fs/jfs",
    "fs/nfs",
    "fs/nfsd",
    "fs/ocfs2",
    "fs/smb",
    "fs/ubifs",
    "fs/udf",
    "fs/xfs",
    "net/bluetooth",
    "net/ceph",
    "net/sctp",
    "net/tipc",
    "net/wireless",
    "sound",
)
"""Folders of kernel modules that no machine of a cloud has a use for; storage, network cards and the power button's
stay."""
DROPPED = (
    "boot/*",
    "etc/*-",
    "etc/apt/*",
    "etc/cron*",
    "etc/dpkg/*",
    "etc/hostname",
    "etc/machine-id",
    "etc/resolv.conf",
    "usr/bin/dbus-*",
    "usr/bin/dpkg*",
    "usr/bin/perl*",
    "usr/lib/*/gconv/*",
    "usr/lib/*/perl-base/*",
    "usr/lib/udev/hwdb.bin",
    "usr/lib/udev/hwdb.d/*",
    "usr/sbin/dpkg*",
    "usr/share/bash-completion/*",
    "usr/share/bug/*",
    "usr/share/debconf/*",
    "usr/share/i18n/*",
    "usr/share/info/*",
    "usr/share/lintian/*",
    "usr/share/locale/*",
    "usr/share/man/*",
    "usr/share/perl5/*",
    "usr/share/python3/*",
    "usr/share/zoneinfo/*",
    "var/cache/*",
    "var/lib/apt/*",
    "var/lib/dpkg/*-old",
    "var/lib/dpkg/info/*",
    "var/lib/dpkg/lock*",
    "var/lib/systemd/*",
    "var/log/*",
)
"""What Debian's packages bring and a cell has no use for: tools that install, manuals, what tells of this bake. The
list of packages stays, for scanners; so do their copyrights."""
MASKED = (
    "autovt@.service",
    "console-getty.service",
    "container-getty@.service",
    "dbus.service",
    "dbus.socket",
    "debug-shell.service",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "emergency.service",
    "fstrim.timer",
    "getty-static.service",
    "getty.target",
    "getty@.service",
    "ldconfig.service",
    "modprobe@.service",
    "proc-sys-fs-binfmt_misc.automount",
    "rescue.service",
    "serial-getty@.service",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-binfmt.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-logind.service",
    "systemd-networkd-persistent-storage.service",
    "systemd-user-sessions.service",
)
"""No place to log in at, not even on the console, and nothing that only slows the boot."""


class Sizes(msgspec.Struct, frozen=True):
    """Of the disk, in bytes. Compute Engine takes whole GiB only, Azure whole MiB."""

    disk: int = GIB
    lead: int = MIB
    boot: int = 256 * MIB
    tail: int = MIB

    @property
    def state(self) -> int:
        return self.disk - self.lead - self.boot - self.tail


class ImagePlan(msgspec.Struct, frozen=True):
    """One image: ``arch`` and ``suite`` in Debian's words, ``python`` as in ``3.13``."""

    suite: str
    arch: str
    python: str
    packages: tuple[str, ...] = PACKAGES
    modules_dropped: tuple[str, ...] = MODULES_DROPPED
    dropped: tuple[str, ...] = DROPPED
    masked: tuple[str, ...] = MASKED
    sizes: Sizes = Sizes()

    @property
    def name(self) -> str:
        return f"{self.suite}-{self.arch}"

    @property
    def machine(self) -> Machine:
        return MACHINES[self.arch]

    @property
    def command_line(self) -> str:
        """Of the kernel. A machine that panics starts again by itself; nothing is asked at a console."""
        consoles = (f"console={console}" for console in self.machine.consoles)
        others = (
            "rdinit=/usr/lib/systemd/systemd",
            # The root is not held to half of the memory: a machine that has too little comes far enough to say so.
            "rootfstype=ramfs",
            "systemd.gpt_auto=no",
            "panic=-1",
            "quiet",
            "systemd.show_status=no",
            *self.machine.options,
        )
        return " ".join((*consoles, *others))

    def drawn_id(self, what: str) -> uuid.UUID:
        """The same id for the same part of the same plan's disk, in each bake."""
        return uuid.uuid5(SPACE, f"{self.name}/{what}")


def plan_for(arch: str, suite: str = SUITE) -> ImagePlan:
    """The plan of an image; ``unsupported`` for an architecture or suite that nobody has tried."""
    if arch not in MACHINES or suite not in PYTHONS:
        raise GrafosError(
            "unsupported",
            f"there is no image for {arch[:40]!r} with {suite[:40]!r}",
            next=f"choose one for {' or '.join(MACHINES)} with {' or '.join(PYTHONS)}",
        )
    return ImagePlan(suite, arch, PYTHONS[suite])
