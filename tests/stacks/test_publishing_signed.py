"""An image that is signed for Secure Boot is published with its certificate: the firmware of its machines knows it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aws_ground import AwsCloud
from azure_ground import AzureCloud
from certificates import a_certificate
from crash_sweep import REGIONS
from disks import make_disk
from emulated_ground import EmulatedCloud, EmulatedGround
from gcp_ground import GcpCloud
from moto.ec2.models import ec2_backends
from publishing import DISK_BYTES, ISLANDS, asked

from grafos_connectors.aws.uefi import crc32c
from grafos_core.errors import GrafosError
from grafos_stacks.publishing import publish
from grafos_stacks.publishing_end import kept_images, unpublish

CERTIFICATE = a_certificate()
SHA256 = hashlib.sha256(CERTIFICATE).hexdigest()
TEXT = base64.b64encode(CERTIFICATE).decode()


def known_on_aws(cloud: EmulatedCloud, image_id: str) -> Any:
    backends: Any = ec2_backends
    images = [account[REGIONS["aws"]].amis for account in backends.values()]
    (found,) = [each[image_id] for each in images if image_id in each]
    return found.certificates


def known_on_gcp(cloud: EmulatedCloud, image_id: str) -> Any:
    return cloud.clouds.gcp.resources[image_id].body.get("shieldedInstanceInitialState")


def known_on_azure(cloud: EmulatedCloud, image_id: str) -> Any:
    found = cloud.clouds.azure.store.get(image_id)
    assert found is not None
    return found.body["properties"].get("securityProfile")


ONE = {"content": TEXT, "fileType": "X509"}
ALSO = {"db": [{"type": "x509", "value": [TEXT]}]}
TEMPLATES = ["MicrosoftUefiCertificateAuthorityTemplate"]
CLOUDS: dict[str, tuple[Callable[[Path], EmulatedCloud], Callable[[EmulatedCloud, str], Any], Any]] = {
    "aws": (AwsCloud, known_on_aws, {"PK": SHA256, "KEK": SHA256, "db": SHA256}),
    "gcp": (GcpCloud, known_on_gcp, {"pk": ONE, "keks": [ONE], "dbs": [ONE]}),
    "azure": (
        AzureCloud,
        known_on_azure,
        {"uefiSettings": {"signatureTemplateNames": TEMPLATES, "additionalSignatures": ALSO}},
    ),
}


@pytest.fixture(params=CLOUDS)
def ground(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmulatedGround]:
    cloud = CLOUDS[request.param][0](tmp_path / "cloud")
    yield EmulatedGround(cloud)
    cloud.close()


@pytest.mark.parametrize("certificate", [TEXT, ""], ids=["signed", "unsigned"])
def test_each_cloud_is_given_the_certificate_of_a_signed_image_and_none_of_another(
    ground: EmulatedGround, tmp_path: Path, certificate: str
) -> None:
    _, known, wanted = CLOUDS[ground.cloud.provider]
    with make_disk(tmp_path, DISK_BYTES, ISLANDS) as disk:
        plain = asked(ground.hands(), disk)
        facts = msgspec.structs.replace(plain.disk, certificate=certificate)
        done = publish(ground.hands(), msgspec.structs.replace(plain, disk=facts), disk)
    told = known(ground.cloud, done.image.ref.id)
    assert told == wanted if certificate else not told
    [kept] = kept_images(ground.hands())
    assert kept.secure_boot is bool(certificate)
    assert unpublish(ground.hands(), done.publication.stack).receipt.left == 0


def test_what_is_no_certificate_is_refused_by_the_cloud(ground: EmulatedGround, tmp_path: Path) -> None:
    nonsense = base64.b64encode(b"no certificate").decode()
    with make_disk(tmp_path, DISK_BYTES, ISLANDS) as disk:
        plain = asked(ground.hands(), disk)
        facts = msgspec.structs.replace(plain.disk, certificate=nonsense)
        with pytest.raises(GrafosError) as refused:
            publish(ground.hands(), msgspec.structs.replace(plain, disk=facts), disk)
    assert refused.value.code == "cloud_invalid"


def test_the_checksum_is_castagnolis() -> None:
    """RFC 3720, B.4."""
    assert (crc32c(bytes(32)), crc32c(b"\xff" * 32)) == (0x8A9136AA, 0x62A8AB43)
