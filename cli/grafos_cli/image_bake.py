"""`grafos cloud image bake` and `grafos cloud image lock refresh`: an image from a lock, and a new lock."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grafos_cli.taught import new_group, taught, terminal_of

if TYPE_CHECKING:
    from grafos_cellimage.plan import ImagePlan
    from grafos_cellimage.record import BakedImage
    from grafos_cellimage.software import Software
    from grafos_cli.terminal import Terminal

ARCH_HELP = "amd64 or arm64 (this machine's)"
MIRROR_HELP = "Debian's packages are fetched from there (where this machine gets its own)"
SECURITY_HELP = "and those with security fixes from there (beside the other)"
KEY_HELP = "sign it for Secure Boot with that RSA key, in PEM"
CERTIFICATE_HELP = "which belongs to that key, and which the firmware is given"
BAKE = taught(
    examples=(
        "grafos cloud image bake",
        "grafos cloud image bake --arch arm64 --folder ./images",
        "grafos cloud image bake --secure-boot-key key.pem --secure-boot-certificate certificate.pem",
    ),
    next="grafos cloud image ls",
)

lock_app = new_group(
    help="The lock of the image: every package in it, by version and SHA-256.",
    examples=("grafos cloud image lock refresh", "grafos cloud image lock refresh --arch arm64"),
    next="grafos cloud image bake",
)


def bake(
    ctx: typer.Context,
    arch: Annotated[str, typer.Option(metavar="ARCH", help=ARCH_HELP)] = "",
    folder: Annotated[str, typer.Option(metavar="DIR", help="where the image is put (the cache folder)")] = "",
    lock: Annotated[str, typer.Option(metavar="FILE", help="the lock to bake from (the one that grafos brings)")] = "",
    mirror: Annotated[str, typer.Option(metavar="URL", help=MIRROR_HELP)] = "",
    security_mirror: Annotated[str, typer.Option(metavar="URL", help=SECURITY_HELP)] = "",
    secure_boot_key: Annotated[str, typer.Option(metavar="FILE", help=KEY_HELP)] = "",
    secure_boot_certificate: Annotated[str, typer.Option(metavar="FILE", help=CERTIFICATE_HELP)] = "",
) -> None:
    """Makes one disk image of the agent, the scheduler and the runtime, and of nothing that a cell does not need.

    Nobody has to be root. The same lock and the same software give the same bytes. Packages are fetched once; when only
    our own code has changed, it takes seconds. Where Debian has dropped packages of the lock, the bake goes on with a
    copy of it, beside the image, and tells what differs.

    Beside the disk are what it consists of (CycloneDX) and where it comes from, signed with the fabric's key (in-toto).
    With a key for Secure Boot there is a second image, whose program is signed with it.
    """
    from grafos_cellimage.bake import Baker
    from grafos_cellimage.lock import open_lock
    from grafos_cellimage.mirrors import mirrors
    from grafos_cellimage.record import images_home
    from grafos_cellimage.relock import bake_or_relock, copy_at
    from grafos_cli.image_view import image_document
    from grafos_cli.image_vouching import boot_key, signed_for_boot, vouch
    from grafos_cli.steps import show_steps

    terminal, plan, began = terminal_of(ctx), _plan(arch), time.monotonic()
    asked, place = open_lock(plan, Path(lock) if lock else None), Path(folder) if folder else images_home()
    sources, by = mirrors(mirror, security_mirror), boot_key(secure_boot_key, secure_boot_certificate)
    with software_for(plan) as software, show_steps(terminal) as steps:
        baker = Baker(images_home(), sources, steps)
        image, used = bake_or_relock(baker, plan, asked, software, place)
        vouch(image, used, software.own, terminal)
        if by is not None:
            with baker.step("signed for Secure Boot"):
                image = signed_for_boot(plan, image, used, software.own, by, terminal)
    took_s = time.monotonic() - began
    if image.relocked_from:
        copy = copy_at(plan, asked[1], image.lock_sha256, place)
        terminal.note(f"Packages of the lock are gone from Debian. Baked from a new one: {copy}")
        for line in image.lock_changes:
            terminal.note(f"  {line}")
    text = (
        f"{image.path}\n"
        f"sha256 {image.sha256}, {image.uki_bytes / 1e6:.1f} MB of system on a disk of {image.size_bytes >> 30} GiB, "
        f"in {took_s:.0f} s\n"
    )
    terminal.emit({"image": image_document(image), "took_s": took_s}, text)


def bake_here(plan: ImagePlan, terminal: Terminal) -> BakedImage:
    """The image of grafos' own lock, in the cache folder, vouched for by the fabric."""
    from grafos_cellimage.bake import Baker
    from grafos_cellimage.lock import open_lock
    from grafos_cellimage.mirrors import mirrors
    from grafos_cellimage.record import images_home
    from grafos_cellimage.relock import bake_or_relock
    from grafos_cli.image_vouching import vouch
    from grafos_cli.steps import show_steps

    with software_for(plan) as software, show_steps(terminal) as steps:
        baker = Baker(images_home(), mirrors("", ""), steps)
        image, used = bake_or_relock(baker, plan, open_lock(plan), software, images_home())
        vouch(image, used, software.own, terminal)
    return image


@lock_app.command(
    "refresh",
    cls=taught(
        examples=(
            "grafos cloud image lock refresh --output ./my.lock",
            "grafos cloud image lock refresh --arch arm64 --json",
        ),
        next="grafos cloud image bake --lock FILE",
    ),
)
def refresh(
    ctx: typer.Context,
    arch: Annotated[str, typer.Option(metavar="ARCH", help=ARCH_HELP)] = "",
    output: Annotated[str, typer.Option(metavar="FILE", help="where the lock is put (in place of grafos' own)")] = "",
    mirror: Annotated[str, typer.Option(metavar="URL", help=MIRROR_HELP)] = "",
    security_mirror: Annotated[str, typer.Option(metavar="URL", help=SECURITY_HELP)] = "",
) -> None:
    """Makes a lock of the newest packages, and tells what changed since the one that is there.

    Debian drops packages that were superseded, so a lock is good for as long as its packages are kept: by a mirror, or
    in the cache of whoever baked from it before.
    """
    from grafos_cellimage.lock import changes, open_lock, shipped, write_lock
    from grafos_cellimage.mirrors import mirrors
    from grafos_cellimage.resolving import resolve
    from grafos_cli.steps import show_steps
    from grafos_core.errors import GrafosError

    terminal, plan = terminal_of(ctx), _plan(arch)
    place = Path(output) if output else shipped(plan)
    sources = mirrors(mirror, security_mirror)
    with software_for(plan) as software, show_steps(terminal) as steps:
        steps.began("the newest packages")
        fresh = resolve(plan, software, sources)
        steps.ended("the newest packages", f"{len(fresh.packages)} packages, {len(fresh.wheels)} wheels")
    try:
        changed = changes(open_lock(plan, place if place.exists() else None)[0], fresh)
    except GrafosError:  # there is none yet, or one that nobody can read: all of it is new
        changed = []
    _write(place, write_lock(fresh))
    text = "".join(f"{line}\n" for line in changed) or "Nothing has changed.\n"
    terminal.emit({"lock": str(place), "changed": changed}, f"{text}{place}\n")


def _plan(arch: str) -> ImagePlan:
    from grafos_cellimage.plan import plan_for
    from grafos_core.virtual_machines import NATIVE

    machine = os.uname().machine
    return plan_for(arch or NATIVE.get(machine, machine))


@contextmanager
def software_for(plan: ImagePlan) -> Iterator[Software]:
    """The very software that a stock machine gets as its bundle."""
    from grafos_cellimage.software import Software
    from grafos_stacks import bundle

    with bundle.lock_file() as requirements:
        own, platform = bundle.rooms(), bundle.PLATFORMS[plan.arch]
        yield Software(requirements, platform, bundle.install_with_uv, bundle.shipped, own, bundle.STRIPPED)


def _write(place: Path, text: str) -> None:
    from grafos_core.errors import GrafosError

    part = place.with_name(f".{place.name}.part")
    try:
        part.write_text(text)
        part.replace(place)
    except OSError as error:
        raise GrafosError(
            "config_invalid",
            "the lock cannot be written there",
            where=str(place),
            why=str(error),
            next="name another file with --output",
        ) from error
    finally:
        part.unlink(missing_ok=True)
