"""The image that these tests look at and boot."""

from __future__ import annotations

import os

import pytest
from baking import bake

from grafos_cellimage.record import BakedImage, list_images
from grafos_core.paths import locked


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> BakedImage:
    """The image for amd64: one for all processes of a run, of which the first to ask bakes it."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if run is None:
        return bake("amd64", tmp_path_factory.mktemp("image"))
    folder = tmp_path_factory.getbasetemp().parent / f"image-{run}"
    folder.mkdir(mode=0o700, exist_ok=True)
    with locked(folder / "lock"):
        made = list_images(folder)
        return made[0] if made else bake("amd64", folder)
