"""The root of the system: Debian's packages of the lock, set up by their own scripts without being root.

mmdebstrap gets a small archive made of exactly the packages of the lock, so it has nothing to choose from.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from grafos_cellimage import tools
from grafos_cellimage.apart import REGISTERED
from grafos_cellimage.layers import Node
from grafos_cellimage.lock import KERNEL, SYSTEM, Lock, Package
from grafos_cellimage.plan import ImagePlan
from grafos_core.errors import GrafosError
from grafos_core.virtual_machines import NATIVE

LEFT_OUT = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/doc/*")
COMPILE_LIBRARY = 'chroot "$1" python3 -I -m compileall -q -f --invalidation-mode unchecked-hash /usr/lib/python{0}'
"""Bytecode that is good whatever time a file bears: in memory all of them bear another. Without it a start takes
seconds more."""


def programs(plan: ImagePlan) -> tuple[str, ...]:
    """What has to be on this machine to set up a root for the plan."""
    needed = ["mmdebstrap", "dpkg-deb", "apt-get", *(() if os.geteuid() == 0 else ("newuidmap",))]
    if is_foreign(plan):
        needed += ["arch-test", plan.machine.user_emulator]
    return tuple(needed)


def is_foreign(plan: ImagePlan) -> bool:
    """Whether this machine's processor is of another architecture."""
    return NATIVE.get(os.uname().machine) != plan.arch


def apart(plan: ImagePlan) -> list[str]:
    """The words before a program that sets up packages of the plan: it gets mounts of its own, and what the kernel has
    to know of another architecture. ``tool_missing`` if no program of that can run here: Debian's packages bring
    scripts that do."""
    plain = [sys.executable, "-I", "-S", str(Path(__file__).with_name("apart.py"))]
    if not is_foreign(plan) or _runs(plan, []) is None:
        return plain
    emulator = Path(tools.find(plan.machine.user_emulator))
    name = emulator.name.removesuffix("-static")
    registered = [*plain, f"{REGISTERED}={name}:{programs_of(plan.machine.elf_machine)}:{emulator}"]
    fault = _runs(plan, registered)
    if fault is not None:
        raise GrafosError(
            "tool_missing",
            f"this machine cannot run programs of {plan.arch} while it sets them up",
            why=fault.why,
            next="Linux 6.7 or newer; before that: apt-get install binfmt-support qemu-user-static",
        ) from fault
    return registered


def programs_of(elf_machine: int) -> str:
    """How the kernel knows a program of 64 bits for an architecture: its first bytes, and which bits of them count."""
    begins = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00" + elf_machine.to_bytes(2, "little")
    counts = b"\xff" * 7 + b"\x00" + b"\xff" * 8 + b"\xfe\xff\xff\xff"
    return ":".join("".join(f"\\x{byte:02x}" for byte in pattern) for pattern in (begins, counts))


def _runs(plan: ImagePlan, before: list[str]) -> GrafosError | None:
    """Why no program of the plan's architecture runs; None if one does."""
    try:
        tools.run((*before, tools.find("arch-test"), plan.arch))
    except GrafosError as error:
        return error
    return None


def set_up(plan: ImagePlan, lock: Lock, files: Mapping[Package, Path], before: list[str], place: Path) -> Path:
    """The tar of the root, in the folder ``place``; ``before`` is what ``apart`` gave.

    Ctrl-C lets mmdebstrap take down its mounts. All that it makes meanwhile is in ``place`` as well.
    """
    system, target = lock.of_role(SYSTEM), place / "root.tar"
    archive = _archive(lock, {package: files[package] for package in system}, place / "archive")
    command = [
        *(*before, tools.find("mmdebstrap"), "--verbose", "--mode=unshare", "--variant=essential"),
        *(f"--architectures={plan.arch}", f"--include={','.join(package.name for package in system)}"),
        *("--format=tar", "--dpkgopt=force-unsafe-io", "--aptopt=APT::Install-Recommends false"),
        # apt would fetch as another account, which can read nothing of this person's; here it only copies.
        '--aptopt=APT::Sandbox::User "root"',
        *(f"--dpkgopt=path-exclude={left_out}" for left_out in LEFT_OUT),
        "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        f"--customize-hook={COMPILE_LIBRARY.format(plan.python)}",
        *(lock.suite, str(target), f"deb [trusted=yes] copy://{archive} ./"),
    ]
    tools.run(command, epoch_s=lock.epoch_s, environment={"TMPDIR": str(place)})
    return target


def _archive(lock: Lock, files: Mapping[Package, Path], folder: Path) -> Path:
    """A folder that apt reads as an archive."""
    folder.mkdir()
    about = []
    for package, path in files.items():
        place = folder / f"{package.name}.deb"
        shutil.copyfile(path, place)
        control = tools.run(("dpkg-deb", "--field", path)).strip()
        about.append(f"{control}\nFilename: ./{place.name}\nSize: {package.size_bytes}\nSHA256: {package.sha256}\n")
    packages = "\n".join(about).encode()
    (folder / "Packages").write_bytes(packages)
    digest = hashlib.sha256(packages).hexdigest()
    # mmdebstrap takes what is essential only from an archive that bears the name of its suite.
    release = f"Suite: {lock.suite}\nCodename: {lock.suite}\nSHA256:\n {digest} {len(packages)} Packages\n"
    (folder / "Release").write_text(release)
    return folder


class Kernel:
    """The unpacked kernel of the lock: its program, and the modules that the plan keeps."""

    def __init__(self, plan: ImagePlan, lock: Lock, files: Mapping[Package, Path], scratch: Path) -> None:
        (package,) = lock.of_role(KERNEL)
        self._folder, self.release = scratch / "kernel", lock.kernel_release
        tools.run(("dpkg-deb", "--extract", files[package], self._folder))
        self.program = self._folder / "boot" / f"vmlinuz-{self.release}"
        self._modules = self._folder / "usr" / "lib" / "modules" / self.release
        if not self.program.is_file() or not self._modules.is_dir():
            raise GrafosError("bake_failed", f"{package.name} holds no kernel of the name {self.release}")
        for name in plan.modules_dropped:
            shutil.rmtree(self._modules / "kernel" / name, ignore_errors=True)
        tools.run(("depmod", "-b", self._folder / "usr", self.release))

    def tree(self) -> dict[str, Node]:
        """The modules with their index, where the system looks for them."""
        return {
            f"usr/lib/modules/{self.release}/{path.relative_to(self._modules).as_posix()}": Node(path.read_bytes())
            for path in self._modules.rglob("*")
            if path.is_file() and not path.is_symlink()
        }
