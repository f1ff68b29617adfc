"""What is kept of a cell is on the disk, or it is said that it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from grafos_core.errors import GrafosError
from grafos_stacks.records import kept


def test_a_disk_that_takes_nothing_is_told_with_the_way_on(tmp_path: Path) -> None:
    (tmp_path / "teardown.json").mkdir()  # a disk that is full refuses in the same way
    with pytest.raises(GrafosError) as refused:
        kept(tmp_path / "teardown.json", b"{}")
    assert (refused.value.code, refused.value.what) == ("store_failed", "teardown.json could not be written")
    assert "it goes on" in refused.value.next
    assert list(tmp_path.iterdir()) == [tmp_path / "teardown.json"]
