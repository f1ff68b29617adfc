"""Die around every request to an emulated Compute Engine, throw all memory away, go on, and count in its own world.

`make test` looks at cases by chance for a fixed time; `make deep` at every point, and at pairs by chance.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from emulated_sweeps import EmulatedSweeps, changing_calls, planted
from gcp_ground import GcpCloud


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GcpCloud]:
    cloud = planted(GcpCloud(tmp_path_factory.mktemp("gcp")))
    yield cloud
    cloud.close()


class TestGcp(EmulatedSweeps):
    pass


def test_a_cell_takes_few_changing_calls(cloud: GcpCloud) -> None:
    """Three for the first cell of a region, one for a further one, one for its teardown."""
    assert changing_calls(cloud) == [3, 1, 1, 3]
