"""The root of the system: Debian's packages of the lock, set up by their own scripts without being root.

mmdebstrap gets a small archive made of exactly the packages of the lock, so it has nothing to choose from.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from grafos_cellimage import tools
from grafos_cellimage.layers import Node, draft
from grafos_cellimage.lock import KERNEL, SYSTEM, Lock, Package
from grafos_cellimage.plan import ImagePlan
from grafos_core.errors import GrafosError

NATIVE = {"x86_64": "amd64", "aarch64": "arm64"}
LEFT_OUT = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/doc/*")
OWN_MOUNTS = ("unshare", "--mount", "--propagation", "private")
"""For root, whom mmdebstrap would let mount among the machine's own: so they end with it, however that ends."""
COMPILE_LIBRARY = 'chroot "$1" python3 -I -m compileall -q -f --invalidation-mode unchecked-hash /usr/lib/python{0}'
"""Bytecode that is good whatever time a file bears: in memory all of them bear another. Without it a start takes
seconds more."""


def programs(plan: ImagePlan) -> tuple[str, ...]:
    """What has to be on this machine to set up a root for the plan."""
    needed = ["mmdebstrap", "dpkg-deb", "apt-get", "unshare" if os.geteuid() == 0 else "newuidmap"]
    if NATIVE.get(os.uname().machine) != plan.arch:
        needed += ["arch-test", plan.machine.user_emulator]
    return tuple(needed)


def check_foreign(plan: ImagePlan) -> None:
    """``tool_missing`` if the plan's architecture is another one and this machine cannot run a program of it: Debian's
    packages bring scripts that run while they are set up."""
    if NATIVE.get(os.uname().machine) == plan.arch:
        return
    try:
        tools.run(("arch-test", plan.arch))
    except GrafosError as error:
        raise GrafosError(
            "tool_missing",
            f"this machine cannot run programs of {plan.arch} while it sets them up",
            why=error.why,
            next="apt-get install --no-install-recommends binfmt-support qemu-user-static, with binfmt_misc mounted",
        ) from error


def set_up(plan: ImagePlan, lock: Lock, files: Mapping[Package, Path], target: Path) -> None:
    """Writes the tar of the root. Ctrl-C lets mmdebstrap take down what it had mounted."""
    system, is_root = lock.of_role(SYSTEM), os.geteuid() == 0
    with _archive(lock, {package: files[package] for package in system}) as archive, draft(target) as part:
        options = [f"--dpkgopt=path-exclude={place}" for place in LEFT_OUT]
        command = [
            *(OWN_MOUNTS if is_root else ()),
            *("mmdebstrap", "--verbose", f"--mode={'root' if is_root else 'unshare'}", "--variant=essential"),
            *(f"--architectures={plan.arch}", f"--include={','.join(package.name for package in system)}"),
            *("--format=tar", "--dpkgopt=force-unsafe-io", "--aptopt=APT::Install-Recommends false"),
            *(*options, "--dpkgopt=path-include=/usr/share/doc/*/copyright"),
            f"--customize-hook={COMPILE_LIBRARY.format(plan.python)}",
            *(lock.suite, str(part), f"deb [trusted=yes] copy://{archive} ./"),
        ]
        environment = {"TMPDIR": str(archive.parent)}
        tools.run(command, epoch_s=lock.epoch_s, environment=environment)


@contextmanager
def _archive(lock: Lock, files: Mapping[Package, Path]) -> Iterator[Path]:
    """A folder that apt reads as an archive. It is readable by all, since the accounts that apt runs as have no other
    way to it; it holds what anybody can fetch."""
    with tempfile.TemporaryDirectory(prefix="grafos-bake-", ignore_cleanup_errors=True) as scratch:
        Path(scratch).chmod(0o755)
        folder = Path(scratch) / "archive"
        folder.mkdir(mode=0o755)
        about = []
        for package, path in files.items():
            place = folder / f"{package.name}.deb"
            shutil.copyfile(path, place)
            place.chmod(0o644)
            control = tools.run(("dpkg-deb", "--field", path)).strip()
            about.append(f"{control}\nFilename: ./{place.name}\nSize: {package.size_bytes}\nSHA256: {package.sha256}\n")
        packages = "\n".join(about).encode()
        (folder / "Packages").write_bytes(packages)
        digest = hashlib.sha256(packages).hexdigest()
        # mmdebstrap takes what is essential only from an archive that bears the name of its suite.
        release = f"Suite: {lock.suite}\nCodename: {lock.suite}\nSHA256:\n {digest} {len(packages)} Packages\n"
        (folder / "Release").write_text(release)
        yield folder


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
