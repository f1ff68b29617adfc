"""Secure Boot with an own key: firmware that has its certificate starts the signed image, and refuses the other."""

from __future__ import annotations

import datetime as dt
import hashlib
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from grafos_cellimage import provenance
from grafos_cellimage.lock import open_lock
from grafos_cellimage.plan import plan_for
from grafos_cellimage.provenance import CERTIFICATE, UNSIGNED_DISK, UNSIGNED_UKI, Source
from grafos_cellimage.record import BakedImage, read_record, sha256_of
from grafos_cellimage.secure_boot import (
    CERTIFICATE_SUFFIX,
    BootKey,
    certificate_beside,
    fingerprint,
    is_signature_added,
    is_signed_from,
    sign,
)
from grafos_core import trust
from grafos_core.errors import GrafosError

pytestmark = [pytest.mark.needs("image"), pytest.mark.timeout(2700)]

PLAN = plan_for("amd64")
BOOT_S_MAX = 800.0
OWNER = "3f0e6f0a-0f3c-4a57-9a59-0d8f1f1c7c55"
FIRMWARE = ("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd")
STARTED, REFUSED = "grafos: ", "Access Denied"
"""What the image's first program of ours says, and what the firmware says of a program that it does not start."""


def a_key(folder: Path, name: str = "cells") -> BootKey:
    key = rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=30))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / f"{name}.key").write_bytes(key.private_bytes(pem, form, plain))
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(pem))
    return BootKey(folder / f"{name}.key", folder / f"{name}.pem")


def signed_by(image: BakedImage, by: BootKey, folder: Path) -> BakedImage:
    """The image is another test's as well, so a signed one is made beside a link to it."""
    folder.mkdir()
    for path in (image.path, image.record, provenance.sbom_of(image)):
        (folder / path.name).hardlink_to(path)
    return sign(PLAN, read_record(folder / image.path.name), open_lock(PLAN)[0].epoch_s, by)


def memory_with(certificate: Path, folder: Path) -> Path:
    """A firmware's memory in which only this certificate is trusted."""
    memory = folder / "memory.fd"
    words = [Path(sys.executable).with_name("virt-fw-vars"), "--input", FIRMWARE[1], "--output", memory]
    words += ["--set-pk", OWNER, certificate, "--add-kek", OWNER, certificate, "--add-db", OWNER, certificate]
    subprocess.run([*words, "--no-microsoft", "--secure-boot"], check=True, capture_output=True)
    return memory


def said_at_boot(image: BakedImage, memory: Path, folder: Path) -> str:
    """What the console shows until the image has started, or the firmware has refused it."""
    console = folder / f"{image.sha256[:12]}.log"
    words = ["qemu-system-x86_64", "-machine", "q35,smm=on,sata=off,usb=off", "-m", "1024", "-smp", "2"]
    words += ["-accel", "tcg", "-cpu", "max,-cx16", "-nodefaults", "-no-user-config", "-display", "none"]
    words += ["-global", "driver=cfi.pflash01,property=secure,value=on", "-no-reboot"]
    words += ["-netdev", "user,id=net,restrict=on", "-device", "virtio-net-pci,netdev=net,romfile="]
    words += ["-device", "virtio-rng-pci"]
    words += ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={FIRMWARE[0]}"]
    words += ["-drive", f"if=pflash,unit=1,format=raw,file={memory}"]
    words += ["-drive", f"if=none,id=disk,format=raw,snapshot=on,file={image.path}"]
    words += ["-device", "virtio-blk-pci,drive=disk", "-serial", f"file:{console}"]
    until = time.monotonic() + BOOT_S_MAX
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as machine:
        try:
            text = ""
            while STARTED not in text and REFUSED not in text and machine.poll() is None and time.monotonic() < until:
                time.sleep(0.3)
                text = console.read_text("utf-8", "replace") if console.exists() else ""
        finally:
            machine.kill()
    return text


def test_the_signed_image_is_another_disk_with_the_same_contents_and_its_provenance_names_both(
    image: BakedImage, tmp_path: Path
) -> None:
    by, fabric = a_key(tmp_path), trust.new_key()
    signed = signed_by(image, by, tmp_path / "images")
    assert read_record(signed.path) == signed
    assert signed.sha256 != image.sha256 == signed.unsigned_sha256
    assert (signed.contents_sha256, signed.unsigned_uki_sha256) == (image.contents_sha256, image.uki_sha256)
    assert is_signed_from(PLAN, signed, image, tmp_path)
    said = provenance.statement(signed, open_lock(PLAN)[0], Source("0.1.0", {}), "fab-1")
    provenance.write(signed, said, fabric)
    told = provenance.check(signed, fabric.public_key())
    assert told.digest(UNSIGNED_DISK) == image.sha256 == sha256_of(image.path)
    assert told.digest(UNSIGNED_UKI) == image.uki_sha256
    assert told.digest(CERTIFICATE) == fingerprint(by.certificate)
    assert told.digest(CERTIFICATE) == hashlib.sha256(certificate_beside(signed)).hexdigest()
    assert certificate_beside(image) == b""
    signed.path.with_suffix(CERTIFICATE_SUFFIX).write_bytes(b"another")
    with pytest.raises(GrafosError) as refused:
        certificate_beside(signed)
    assert refused.value.code == "image_invalid"


def test_a_signed_program_is_the_unsigned_one_but_for_its_signature() -> None:
    """The head of a program begins at 64 here."""
    plain = bytearray(range(256)) * 4
    plain[0x3C:0x40] = (64).to_bytes(4, "little")
    signed = bytearray(plain + b"signature")
    signed[64 + 88 : 64 + 92], signed[64 + 168 : 64 + 176] = b"\1\2\3\4", b"\5" * 8
    assert is_signature_added(bytes(signed), bytes(plain))
    signed[700] ^= 1
    assert not is_signature_added(bytes(signed), bytes(plain))
    assert not is_signature_added(bytes(plain[:-1]), bytes(plain))


def test_a_key_that_is_not_the_certificates_leaves_nothing_behind(image: BakedImage, tmp_path: Path) -> None:
    one, other = a_key(tmp_path), a_key(tmp_path, "others")
    mixed = BootKey(one.key, other.certificate)
    with pytest.raises(GrafosError) as refused:
        signed_by(image, mixed, tmp_path / "images")
    assert refused.value.code == "bake_failed"
    assert len(list((tmp_path / "images").iterdir())) == 3


@pytest.mark.deep
def test_firmware_with_the_certificate_starts_the_signed_image_and_refuses_any_other(
    image: BakedImage, tmp_path: Path
) -> None:
    by = a_key(tmp_path)
    memory = memory_with(by.certificate, tmp_path)
    foreign = signed_by(image, a_key(tmp_path, "others"), tmp_path / "foreign")
    assert STARTED in said_at_boot(signed_by(image, by, tmp_path / "images"), memory, tmp_path)
    assert REFUSED in said_at_boot(image, memory, tmp_path)
    assert REFUSED in said_at_boot(foreign, memory, tmp_path)
