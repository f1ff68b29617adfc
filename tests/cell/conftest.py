"""What only this room's tests need."""

from __future__ import annotations

from collections.abc import Iterator

import call_layers
import pytest


@pytest.fixture(scope="module", params=sorted(call_layers.LAYERS))
def call_layer(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each test of the module runs once on our call layer and once on the binding's."""
    call_layers.use(request.param)
    yield request.param
    call_layers.use_no_more()
