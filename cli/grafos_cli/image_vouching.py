"""What the fabric vouches for of an image, and `grafos admin image-provenance`: whether that still holds."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grafos_cli.taught import taught, terminal_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from grafos_cellimage.lock import Lock
    from grafos_cellimage.plan import ImagePlan
    from grafos_cellimage.provenance import Source, Statement
    from grafos_cellimage.record import BakedImage
    from grafos_cellimage.secure_boot import BootKey
    from grafos_cli.terminal import Terminal

PROVENANCE = taught(
    examples=(
        "grafos admin image-provenance cell-trixie-amd64-0123456789ab.raw",
        "grafos admin image-provenance cell.raw --rebake --json | jq .reproduced",
    ),
    next="grafos cloud image publish gcp",
)
REPRODUCED = (
    "yes: baked again, the bytes are the same",
    "yes: baked again, the unsigned bytes are the same, and this has nothing more than a signature",
)
"""Of an image as it was baked, and of one that was signed for Secure Boot."""
GIT_S_MAX = 10.0
ROOMS = ("core", "scheduler", "cell", "cellimage")
"""Folders of a checkout whose changes are changes of an image."""
BAKE = "grafos cloud image bake"


def vouch(image: BakedImage, lock: Lock, own: Mapping[str, bytes], terminal: Terminal) -> Path:
    """Signs what an image was just made from with the fabric's key; gives the file beside it."""
    from grafos_cellimage import provenance
    from grafos_cli.fabric import open_default

    fabric = open_default(terminal)
    return provenance.write(image, provenance.statement(image, lock, source(own), fabric.id), fabric.key)


def boot_key(key: str, certificate: str) -> BootKey | None:
    """What an image is signed with for Secure Boot, if it is; ``usage`` for one file without the other, and what
    cannot be used is told before anything is baked."""
    from grafos_cellimage import tools
    from grafos_cellimage.secure_boot import PROGRAMS, BootKey, fingerprint
    from grafos_core.errors import GrafosError

    if not key and not certificate:
        return None
    if not key or not certificate:
        raise GrafosError(
            "usage",
            "Secure Boot takes a key and its certificate",
            next="add --secure-boot-key FILE --secure-boot-certificate FILE",
        )
    tools.check(PROGRAMS)
    fingerprint(Path(certificate))
    if not Path(key).is_file():
        raise GrafosError("config_invalid", "the key for Secure Boot cannot be read", where=key, next="name its file")
    return BootKey(Path(key), Path(certificate))


def signed_for_boot(
    plan: ImagePlan, image: BakedImage, lock: Lock, own: Mapping[str, bytes], by: BootKey, terminal: Terminal
) -> BakedImage:
    """The image signed for Secure Boot, and what it comes from, beside the one that was baked."""
    from grafos_cellimage.secure_boot import sign

    made = sign(plan, image, lock.epoch_s, by)
    vouch(made, lock, own, terminal)
    return made


def image_provenance(
    ctx: typer.Context,
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="the disk of an image, as `cloud image ls` shows it")],
    rebake: Annotated[  # noqa: FBT002 - a flag of the command line
        bool, typer.Option("--rebake", help="bake it again from its lock, and compare")
    ] = False,
    lock: Annotated[
        str, typer.Option(metavar="FILE", help="with --rebake: its lock (the one that grafos brings)")
    ] = "",
) -> None:
    """Looks whether an image is the one that this fabric baked, and tells what it was made from.

    The statement beside it must bear the signature of the fabric's key, and name the disk, its program and the document
    of what is in it by the SHA-256 that they have now. A bake from the same lock and software gives the same bytes.
    """
    from grafos_cellimage import provenance, sbom
    from grafos_cellimage.record import read_record
    from grafos_cli.fabric import open_default
    from grafos_cli.image_view import image_document
    from grafos_cli.tables import facts

    terminal = terminal_of(ctx)
    fabric, found = open_default(terminal), read_record(Path(image))
    said = provenance.check(found, fabric.key.public_key())
    components = sbom.count(provenance.sbom_of(found).read_bytes())
    if rebake:
        _baked_again(found, said, Path(lock) if lock else None, terminal)
    told = [
        ("image", str(found.path)),
        ("sha256", f"{found.sha256}, as signed by fabric {fabric.id}"),
        ("contents", found.contents_sha256),
        ("lock", found.lock_sha256),
        ("software", _software_text(said)),
        ("components", str(components)),
    ]
    told += [("unsigned", found.unsigned_sha256)] if found.unsigned_sha256 else []
    told += [("reproduced", REPRODUCED[bool(found.unsigned_sha256)])] if rebake else []
    document = {
        "image": image_document(found),
        "fabric": fabric.id,
        "commit": said.commit,
        "packages": said.packages(),
        "components": components,
        "reproduced": True if rebake else None,
    }
    terminal.emit(document, facts(told, terminal))


def source(own: Mapping[str, bytes]) -> Source:
    """What our own code is here: its version, and the commit where this is a checkout."""
    import grafos_core
    from grafos_cellimage.provenance import Source
    from grafos_cli import version

    root = Path(grafos_core.__file__).resolve().parents[2]
    commit = _git(root, "rev-parse", "HEAD") if (root / ".git").exists() else ""
    changed = bool(commit and _git(root, "status", "--porcelain", "--", *ROOMS))
    return Source(version(), own, commit, changed)


def _git(folder: Path, *words: str) -> str:
    """What git says; "" where there is none to ask."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=False, timeout=GIT_S_MAX
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _software_text(said: Statement) -> str:
    version = said.predicate.run_details.builder.version.get("grafos", "")
    changed = " and changes that no commit has" if said.has_changes else ""
    return f"grafos {version}" + (f", commit {said.commit[:12]}{changed}" if said.commit else "")


def _baked_again(image: BakedImage, said: Statement, lock: Path | None, terminal: Terminal) -> None:
    """``image_differs`` unless a bake here gives the same bytes, or where it could not: other lock, other software."""
    from grafos_cellimage.bake import Baker
    from grafos_cellimage.lock import open_lock
    from grafos_cellimage.mirrors import mirrors
    from grafos_cellimage.plan import plan_for
    from grafos_cellimage.record import images_home
    from grafos_cellimage.relock import copy_at
    from grafos_cellimage.secure_boot import is_signed_from
    from grafos_cellimage.unfinished import unfinished
    from grafos_cli.image_bake import software_for
    from grafos_cli.steps import show_steps
    from grafos_core.paths import private_folder

    plan = plan_for(image.arch, image.suite)
    if lock is None and image.relocked_from:
        lock = copy_at(plan, image.relocked_from, image.lock_sha256, image.path.parent)
    opened, lock_sha256 = open_lock(plan, lock)
    if lock_sha256 != image.lock_sha256:
        raise _differs(image, f"its lock has the SHA-256 {image.lock_sha256}, this one {lock_sha256}", "--lock FILE")
    with software_for(plan) as software, show_steps(terminal) as steps:
        _check_software(image, said, software.own)
        with unfinished(private_folder(images_home()), ".again-") as scratch:
            baker = Baker(images_home(), mirrors("", ""), steps, bases=scratch)  # a base that is here proves nothing
            again = baker.bake(plan, opened, lock_sha256, software, scratch / "images")
            is_same = not image.unsigned_sha256 or is_signed_from(plan, image, again, scratch)
    check_same(image, again)
    if not is_same:
        raise _differs(image, "what is signed on it is another program than the one that was baked", "")


def check_same(image: BakedImage, again: BakedImage) -> None:
    """``image_differs`` unless the second bake gave the bytes of the first, with the programs that may be why."""
    wanted = image.unsigned_sha256 or image.sha256
    if again.sha256 == wanted:
        return
    others = [
        f"{name} {again.tools[name]}, then {image.tools.get(name)}"
        for name in sorted(again.tools)
        if again.tools[name] != image.tools.get(name)
    ]
    why = f"it has the SHA-256 {again.sha256} in place of {wanted}"
    hint = f"; written here by other programs: {'; '.join(others)}" if others else "; the programs are the same"
    raise _differs(image, why + hint, "")


def _check_software(image: BakedImage, said: Statement, own: Mapping[str, bytes]) -> None:
    from grafos_cellimage import sbom

    here = {name: sbom.tree_sha256(name, own) for name, _ in sbom.own_versions(own)}
    then = said.packages()
    others = sorted(name for name in here.keys() | then.keys() if here.get(name) != then.get(name))
    if others:
        of = f"the commit {said.commit}" if said.commit else "that version of grafos"
        raise _differs(image, f"our software here is another: {', '.join(others)}", f"with {of}")


def _differs(image: BakedImage, why: str, with_what: str) -> Exception:
    from grafos_core.errors import GrafosError

    again = f"grafos admin image-provenance {image.path} --rebake {with_what}".strip()
    return GrafosError(
        "image_differs",
        "the image was not made again" if with_what else "a bake from its lock gave another image",
        where=str(image.path),
        why=why,
        next=again if with_what else f"look at what differs, or bake it anew: {BAKE}",
    )
