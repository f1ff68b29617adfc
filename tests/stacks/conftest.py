"""Fabrics of these tests lie in memory where the system has a place for it: they sync to disk by the thousand."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

MEMORY = Path("/dev/shm")


@pytest.fixture(autouse=True)
def fast_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if not MEMORY.is_dir():
        yield
        return
    folder = tempfile.mkdtemp(prefix="grafos-tests-", dir=MEMORY)
    monkeypatch.setenv("XDG_DATA_HOME", folder)
    yield
    shutil.rmtree(folder)
