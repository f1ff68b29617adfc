"""The image for arm64, on a machine of whatever architecture: baked from nothing, and booted until it is a cell."""

from __future__ import annotations

from pathlib import Path

import pytest
from baking import baked_from_nothing
from command_line import Person, ends_with
from own_orchestrator import QUICK, OwnOrchestrator
from vouching import vouched_again

from grafos_cellimage.booting import HOST
from grafos_cellimage.disk import UKI_BYTES_MAX
from grafos_cellimage.plan import plan_for
from grafos_cellimage.record import BakedImage, verify

pytestmark = [pytest.mark.deep, pytest.mark.needs("arm64"), pytest.mark.timeout(7200)]

BOOT_S_MAX = 2400.0
"""Every instruction of the machine is emulated, on a host that may be busy with other tests."""


class Named(OwnOrchestrator):
    """With the address in its certificate by which a machine on this one dials it."""

    FLAGS = (*QUICK, "--name", HOST)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> BakedImage:
    """Debian's scripts run in an emulator that this machine's own kernel need not know of."""
    return baked_from_nothing(plan_for("arm64"), tmp_path_factory.mktemp("arm64"))


def test_the_image_for_the_other_architecture_is_baked_here_too(image: BakedImage) -> None:
    assert image.arch == "arm64"
    assert image.uki_bytes < UKI_BYTES_MAX
    verify(image)


def test_the_image_for_the_other_architecture_boots_here_and_becomes_a_ready_cell(
    image: BakedImage, tmp_path: Path
) -> None:
    ada = Person(tmp_path)
    own = Named(ada)
    try:
        assert ada("fabric", "claim", own.url).code == 0
        vouched_again(ada, image)
        words = ("cloud", "image", "boot", "--image", str(image.path), "--cell-id", "mine", "--until-ready", "--json")
        done = ends_with(ada.starts(*words), BOOT_S_MAX)
        assert done.code == 0, done.out + done.err
        told = done.document
        assert (told["cell_id"], told["image"]["arch"]) == ("mine", "arm64")
    finally:
        own.discard()
