"""A person at a shell whose local fabric runs, for the tests of a module that leave it as it is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from command_line import Person


@pytest.fixture(scope="module")
def resident(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """Somebody whose local fabric runs, for tests that leave it as it is."""
    somebody = Person(tmp_path_factory.mktemp("resident"))
    up = somebody("dev", "up")
    assert up.code == 0, up.err
    yield somebody
    somebody("dev", "down")
