"""Secure Boot with a key of one's own: the one program of an image, signed, on a disk that is otherwise the same.

Firmware that knows the certificate starts the signed image and refuses any other. The image that was baked stays beside
it: that one has the same bytes at every bake, and the signed one's record and provenance name it. A signature holds the
time at which it was made, so signing twice gives two disks.
"""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path

import msgspec

from grafos_cellimage import disk, sbom, tools
from grafos_cellimage.bake import disk_name
from grafos_cellimage.plan import ImagePlan
from grafos_cellimage.provenance import sbom_of
from grafos_cellimage.record import BakedImage, invalid, sha256_of, write_record
from grafos_cellimage.unfinished import unfinished
from grafos_core.errors import GrafosError
from grafos_core.paths import write_private

PE_OFFSET_AT, CHECKSUM_AT, SIGNATURE_ENTRY_AT = 0x3C, 88, 168
"""Of a program of the firmware's: where it says where its head is; and in that head (of 64 bits) the other two."""
CERTIFICATE_SUFFIX = ".cer"
"""The certificate (DER) beside a signed disk: clouds are given it for the firmware of the machines."""
PROGRAMS = ("sbsign", "sbverify", *disk.PROGRAMS)


class BootKey(msgspec.Struct, frozen=True):
    """Files in PEM: an RSA key without a passphrase, and the certificate that the firmware is given."""

    key: Path
    certificate: Path


def sign(plan: ImagePlan, image: BakedImage, epoch_s: int, by: BootKey) -> BakedImage:
    """The signed image, beside the one that was baked, with a record of its own.

    ``tool_missing`` and ``config_invalid`` before anything is written; ``bake_failed``.
    """
    tools.check(PROGRAMS)
    certificate = fingerprint(by.certificate)
    folder, before = image.path.parent, sbom_of(image)
    if not before.is_file() or sha256_of(before) != image.sbom_sha256:
        raise invalid(before, "the document of what is in it is not the one that its record names")
    with unfinished(folder, ".sign-") as scratch:
        signed, whole = scratch / "signed.efi", scratch / "disk.raw"
        uki = _program_on(plan, image, scratch / "cell.efi")
        if sha256_of(uki) != image.uki_sha256:
            raise invalid(image.path, "the program on it is not the one that its record names")
        tools.run(("sbsign", "--key", by.key, "--cert", by.certificate, "--output", signed, uki))
        tools.run(("sbverify", "--cert", by.certificate, signed))
        disk.write_disk(plan, signed, whole, epoch_s)
        sha256 = sha256_of(whole)
        path = folder / disk_name(plan, sha256)
        document = sbom.of_disk(before.read_bytes(), sha256)
        made = msgspec.structs.replace(
            image,
            path=path,
            sha256=sha256,
            uki_sha256=sha256_of(signed),
            uki_bytes=signed.stat().st_size,
            sbom_sha256=sbom.digest(document),
            unsigned_sha256=image.sha256,
            unsigned_uki_sha256=image.uki_sha256,
            certificate_sha256=certificate,
        )
        # The disk comes last: what a kill leaves of the others names a disk that nobody has, and is small.
        write_private(sbom_of(made), document)
        write_private(made.path.with_suffix(CERTIFICATE_SUFFIX), _der(by.certificate))
        write_record(made)
        whole.replace(path)
    return made


def is_signed_from(plan: ImagePlan, signed: BakedImage, unsigned: BakedImage, scratch: Path) -> bool:
    """Whether the program on the one disk is that on the other, and a signature."""
    programs = (_program_on(plan, each, scratch / f"{each.sha256}.efi") for each in (signed, unsigned))
    return is_signature_added(*(program.read_bytes() for program in programs))


def is_signature_added(signed: bytes, unsigned: bytes) -> bool:
    """Whether two programs differ in nothing but what a signature changes: the checksum and the place of the signature
    in the head, and the signature itself at the end (PE, as its specification and Authenticode's have it)."""
    head = int.from_bytes(unsigned[PE_OFFSET_AT : PE_OFFSET_AT + 4], "little")
    bare = [bytearray(program) for program in (signed[: len(unsigned)], unsigned)]
    for program in bare:
        for at, size in ((head + CHECKSUM_AT, 4), (head + SIGNATURE_ENTRY_AT, 8)):
            program[at : at + size] = bytes(size)
    return bare[0] == bare[1]


def _program_on(plan: ImagePlan, image: BakedImage, target: Path) -> Path:
    boot_file = f"::/EFI/BOOT/{plan.machine.boot_file}"
    tools.run(("mcopy", "-i", f"{image.path}@@{plan.sizes.lead}", boot_file, target))
    return target


def certificate_beside(image: BakedImage) -> bytes:
    """The certificate (DER) for which the image is signed, empty if it is not; ``image_invalid`` if it is gone, or is
    not the one that the record names."""
    if not image.certificate_sha256:
        return b""
    place = image.path.with_suffix(CERTIFICATE_SUFFIX)
    data = place.read_bytes() if place.is_file() else b""
    if hashlib.sha256(data).hexdigest() != image.certificate_sha256:
        raise invalid(place, "it is not the certificate for which the image beside it is signed")
    return data


def fingerprint(certificate: Path) -> str:
    """The SHA-256 of a certificate (DER), by which firmware and clouds know it; ``config_invalid``."""
    return hashlib.sha256(_der(certificate)).hexdigest()


def _der(certificate: Path) -> bytes:
    try:
        return ssl.PEM_cert_to_DER_cert(certificate.read_text())
    except (OSError, ValueError) as error:
        raise GrafosError(
            "config_invalid",
            "the certificate for Secure Boot cannot be read",
            where=str(certificate),
            why=str(error),
            next="openssl req -new -x509 -newkey rsa:2048 -noenc -subj /CN=cells -keyout key.pem -out certificate.pem",
        ) from error
