"""A scheduler as a real process, for all tests of one module: started once, claimed, with two tenants."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from orchestrator import Orchestrator
from standalone import Identity, Standalone, Town


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    cell = Standalone(tmp_path_factory.mktemp("town"))
    try:
        cell.start()
        operator = cell.claimed()
        acme, globex = cell.tenant(operator, "acme"), cell.tenant(operator, "globex")
        yield Town(cell, operator, acme, globex, cell.cell())
    finally:
        cell.discard()


@pytest.fixture(scope="module")
def orchestrator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orchestrator]:
    started = Orchestrator(tmp_path_factory.mktemp("orchestrator"))
    try:
        started.start()
        yield started
    finally:
        started.discard()


@pytest.fixture(scope="module")
def operator(orchestrator: Orchestrator) -> Identity:
    return orchestrator.claimed()


@pytest.fixture
def unclaimed(tmp_path: Path) -> Iterator[Standalone]:
    """A scheduler that nobody has claimed yet."""
    cell = Standalone(tmp_path)
    try:
        yield cell.start()
    finally:
        cell.discard()
