"""The image that these tests look at and boot."""

from __future__ import annotations

import pytest
from baking import bake

from grafos_cellimage.record import BakedImage


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> BakedImage:
    """The image for amd64."""
    return bake("amd64", tmp_path_factory.mktemp("image"))
