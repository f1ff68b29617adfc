"""A bake: from a plan, a lock and our own software to one disk and its record.

What does not depend on our own code (the base) is kept under the digest of all that it is made from, so a change of our
code makes one small layer, the one program and the disk anew, in seconds. An image gets its name when all of it is
there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from grafos_cellimage import disk, fetching, layers, overlay, root, sbom, software, tools
from grafos_cellimage.lock import STUB, TOOL, Lock
from grafos_cellimage.plan import ImagePlan
from grafos_cellimage.record import BakedImage, sha256_of, write_record
from grafos_cellimage.unfinished import unfinished
from grafos_core.paths import locked, private_folder

FORMAT = 1
"""Changes whenever the same inputs would give other bytes of the base."""
BASES_KEPT = 4
LAYER, ROOT_FOLDER, TOOLS = "base.zst", "python", "tools.json"
BASE_PROGRAMS = ("mmdebstrap", "depmod")
"""Those that make a base and nothing else."""


class Relocked(NamedTuple):
    """Which lock was asked for when another one had to be made in its place, and what differs between the two."""

    stale_sha256: str = ""
    changes: tuple[str, ...] = ()


NOT_RELOCKED = Relocked()


class Steps(Protocol):
    """Who is told how far it is."""

    def began(self, name: str, detail: str = "") -> None: ...
    def changed(self, name: str, detail: str) -> None: ...
    def ended(self, name: str, detail: str = "") -> None: ...


class Baker:
    """Bakes images, and keeps in ``cache`` what the next bake can use again: packages, and bases unless these have a
    folder of their own."""

    def __init__(self, cache: Path, mirrors: Mapping[str, str], steps: Steps, bases: Path | None = None) -> None:
        self._cache, self.mirrors, self._steps = private_folder(cache), mirrors, steps
        self._bases = bases or cache

    def bake(
        self,
        plan: ImagePlan,
        lock: Lock,
        lock_sha256: str,
        given: software.Software,
        folder: Path,
        relocked: Relocked = NOT_RELOCKED,
    ) -> BakedImage:
        """The image, in ``folder``. The same plan, lock and software give the same bytes.

        ``tool_missing`` before anything else; ``bake_failed``, also when the disk here is full; ``lock_stale``.
        """
        check_tools(plan)
        try:
            base = self._base(plan, lock, lock_sha256, given)
            private_folder(folder)
            with unfinished(folder, ".bake-") as scratch:
                made = self._finish(plan, lock, base, given, scratch)
                image = msgspec.structs.replace(
                    made,
                    path=folder / made.path,
                    lock_sha256=lock_sha256,
                    settings_sha256=settings_sha256(plan, given.stripped),
                    relocked_from=relocked.stale_sha256,
                    lock_changes=relocked.changes,
                )
                # The disk comes last: what a kill leaves of the others names a disk that nobody has, and is small.
                document = made.path.with_suffix(sbom.SUFFIX)
                (scratch / document).replace(folder / document)
                write_record(image)
                (scratch / made.path).replace(image.path)
        except OSError as error:
            raise tools.failed("the bake", str(error)) from error
        return image

    def _finish(self, plan: ImagePlan, lock: Lock, base: Path, given: software.Software, place: Path) -> BakedImage:
        """Our own code, the one program and the disk, in the folder ``place``."""
        with self.step("the cell's own code"):
            interpreter = software.Interpreter(plan, base / ROOT_FOLDER)
            tree = overlay.overlay(plan) | software.own(lock, given, interpreter, place)
            contents = _contents(plan, lock, base, tree)
            tree[overlay.DIGEST] = layers.Node(f"{contents}\n".encode())
            layers.pack(tree, place / "own.tar", lock.epoch_s)
            layers.compress([place / "own.tar"], place / "own.zst", lock.epoch_s)
        with self.step("one program of all"):
            uki = place / "cell.efi"
            (place / "os-release").write_text(overlay.os_release(plan))
            both = (base / LAYER, place / "own.zst")
            parts = disk.UkiParts(base, lock.kernel_release, f"@{place / 'os-release'}", both)
            disk.write_uki(plan, parts, uki, lock.epoch_s)
        with self.step("the disk"):
            disk.write_disk(plan, uki, place / "disk.raw", lock.epoch_s)
            image = msgspec.structs.replace(_named(plan, place, uki, base), contents_sha256=contents)
        with self.step("what it consists of"):
            licences = sbom.licences_in(base / LAYER, place)
            document = sbom.document(plan, lock, licences, given.own, image.sha256)
            (place / image.path.with_suffix(sbom.SUFFIX)).write_bytes(document)
            return msgspec.structs.replace(image, sbom_sha256=sbom.digest(document))

    def _base(self, plan: ImagePlan, lock: Lock, lock_sha256: str, given: software.Software) -> Path:
        """The folder with all that our own code does not change, made if it is not there."""
        place = base_of(plan, lock_sha256, given.stripped, self._bases)
        bases = private_folder(place.parent)
        with locked(bases / "lock"):
            if not place.is_dir():
                self._make_base(plan, lock, given, place)
                self._forget_old(bases)
        os.utime(place)
        return place

    def _make_base(self, plan: ImagePlan, lock: Lock, given: software.Software, place: Path) -> None:
        before = root.apart(plan)
        with self.step("Debian's packages") as step:
            files = fetching.fetch(
                lock.packages, self.mirrors, self._cache / "packages", lambda text: self._steps.changed(step, text)
            )
        with unfinished(place.parent, ".base-") as scratch:
            part, work = scratch / "base", scratch / "work"
            part.mkdir()
            work.mkdir()
            with self.step("the wheels"):  # before what takes long: one that is not the lock's is refused at once
                site = software.installed(plan, lock, given, work)
            with self.step("the root"):
                whole = root.set_up(plan, lock, files, before, work)
                layers.trim(whole, work / "trimmed.tar", plan.dropped, lock.epoch_s)
                interpreter = software.Interpreter.unpacked(plan, work / "trimmed.tar", part / ROOT_FOLDER)
            with self.step("the kernel"):
                kernel = root.Kernel(plan, lock, files, work)
                layers.pack(kernel.tree(), work / "kernel.tar", lock.epoch_s)
                shutil.copyfile(kernel.program, part / "vmlinuz")
                (stub,) = lock.of_role(STUB)
                tools.run(("dpkg-deb", "--extract", files[stub], work / "stub"))
                (found,) = work.glob(f"stub/usr/lib/systemd/boot/efi/linux{plan.machine.efi}.efi.stub")
                shutil.copyfile(found, part / "stub.efi")
                for tool in lock.of_role(TOOL):
                    tools.run(("dpkg-deb", "--extract", files[tool], part / "ukify"))
            with self.step("the base of it"):
                layers.pack(software.wheels(site, lock, given, interpreter, work), work / "wheels.tar", lock.epoch_s)
                tars = [work / f"{name}.tar" for name in ("trimmed", "kernel", "wheels")]
                layers.compress(tars, part / LAYER, lock.epoch_s)
                (part / TOOLS).write_bytes(msgspec.json.encode(tools.versions(BASE_PROGRAMS)))
            part.rename(place)

    @contextmanager
    def step(self, name: str) -> Iterator[str]:
        """Tells that a part of the bake began, and that it ended well."""
        self._steps.began(name)
        yield name
        self._steps.ended(name)

    def _forget_old(self, bases: Path) -> None:
        kept = sorted((path for path in bases.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
        for path in kept[:-BASES_KEPT]:
            shutil.rmtree(path, ignore_errors=True)


def check_tools(plan: ImagePlan) -> None:
    """``tool_missing`` where such an image cannot be baked."""
    tools.check((*root.programs(plan), *disk.PROGRAMS, "depmod"))


def base_of(plan: ImagePlan, lock_sha256: str, stripped: str, cache: Path) -> Path:
    """Where the base of such an image is kept once it was made: under the digest of all that it is made from.
    ``stripped`` is the text of ``Software``."""
    inputs = msgspec.json.encode(["grafos-image", FORMAT, lock_sha256, stripped, plan])
    return cache / "bases" / hashlib.sha256(inputs).hexdigest()


def settings_sha256(plan: ImagePlan, stripped: str) -> str:
    """What of an image comes from no lock and from no package: the plan, units and files of ours, and what is left out
    of a wheel. With lock and packages it tells whether a bake would give the same bytes."""
    own = [layers.digest(overlay.overlay(plan)), overlay.os_release(plan)]
    return hashlib.sha256(msgspec.json.encode([FORMAT, stripped, plan, *own])).hexdigest()


def _contents(plan: ImagePlan, lock: Lock, base: Path, tree: layers.Tree) -> str:
    """What the one program consists of, as one digest. The program itself has it inside, so it cannot be its own."""
    files = [sha256_of(base / name) for name in (LAYER, "vmlinuz", "stub.efi")]
    words = [plan.command_line, overlay.os_release(plan), lock.kernel_release, layers.digest(tree)]
    return hashlib.sha256(msgspec.json.encode([FORMAT, *files, *words])).hexdigest()


def disk_name(plan: ImagePlan, sha256: str) -> str:
    """The name of a disk, which says what it is."""
    return f"cell-{plan.name}-{sha256[:12]}.raw"


def _named(plan: ImagePlan, place: Path, uki: Path, base: Path) -> BakedImage:
    """The disk under its final name, which says what it is."""
    before = msgspec.json.decode((base / TOOLS).read_bytes(), type=dict[str, str])
    sha256 = sha256_of(place / "disk.raw")
    path = place / disk_name(plan, sha256)
    (place / "disk.raw").rename(path)
    return BakedImage(
        path=Path(path.name),
        sha256=sha256,
        size_bytes=plan.sizes.disk,
        arch=plan.arch,
        suite=plan.suite,
        own_sha256=sha256_of(place / "own.tar"),
        uki_sha256=sha256_of(uki),
        uki_bytes=uki.stat().st_size,
        tools=before | tools.versions(disk.PROGRAMS) | {"python": sys.version.split()[0]},
    )
