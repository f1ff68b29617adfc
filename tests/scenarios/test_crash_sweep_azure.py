"""Die around every request to an emulated Azure, throw all memory away, go on, and count in the emulator's own world.

`make test` looks at cases by chance for a fixed time; `make deep` at every point, and at pairs by chance.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from azure_ground import AzureCloud
from emulated_sweeps import EmulatedSweeps, changing_calls, planted


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureCloud]:
    cloud = planted(AzureCloud(tmp_path_factory.mktemp("azure")))
    yield cloud
    cloud.close()


class TestAzure(EmulatedSweeps):
    pass


def test_a_cell_takes_few_changing_calls(cloud: AzureCloud) -> None:
    """Eight for the first cell of a region, four for a further one, two for its teardown."""
    assert changing_calls(cloud) == [8, 4, 2, 5]
