"""From user data to a ready cell: the first program of a machine, a real orchestrator, and the real agent."""

from __future__ import annotations

import io
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from orchestrator import Orchestrator
from registered import CLOUDS
from registered_machine import Machine, Metadata, until
from standalone import Identity

AGENT_OF_HERE = """
import runpy, sys
sys.path[:] = {path!r}
sys.modules.pop("grafos_cell", None)
runpy.run_module("grafos_cell.registered", run_name="__main__", alter_sys=True)
"""


def bundle() -> bytes:
    """One whose agent is the one that is installed here, so that nothing has to be fetched from anywhere."""
    program = AGENT_OF_HERE.format(path=[place for place in sys.path if place])
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, content in (("grafos_cell/__init__.py", ""), ("grafos_cell/registered.py", program)):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content.encode()))
    return data.getvalue()


@pytest.fixture(scope="module")
def orchestrator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orchestrator]:
    started = Orchestrator(tmp_path_factory.mktemp("orchestrator"))
    try:
        yield started.start()
    finally:
        started.discard()


@pytest.fixture(scope="module")
def operator(orchestrator: Orchestrator) -> Identity:
    return orchestrator.claimed()


@pytest.fixture
def metadata() -> Iterator[Metadata]:
    server = Metadata()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("provider", CLOUDS)
def test_a_machine_that_boots_becomes_a_ready_cell_and_is_the_same_one_after_a_reboot(
    provider: str, orchestrator: Orchestrator, operator: Identity, metadata: Metadata, tmp_path: Path
) -> None:
    cell_id = f"{provider}-one"
    machine = Machine(tmp_path, metadata, provider)
    (machine.tools / "python3").symlink_to(sys.executable)
    software = bundle()
    with orchestrator.client(operator) as client:
        machine.settings.update(
            cell_id=cell_id,
            orchestrator=orchestrator.url,
            ca_pem=orchestrator.ca_pem,
            bootstrap_token=orchestrator.bootstrap(operator, cell_id, provider),
            bundle_sha256=client.put_bundle(software),
            bundle_bytes=len(software),
            region="here",
            expires_at=int(time.time()) + 3600,
        )

        def is_ready() -> bool:
            return any(cell.ready and cell.cell_id == cell_id for cell in client.cells())

        try:
            machine.boot()
            until(is_ready)
            certificate = (machine.folder / "trust" / "cell.pem").read_text()
            until(lambda: not (machine.folder / "trust" / "bootstrap-token").exists())
            machine.end()
            until(lambda: not is_ready())
            machine.boot()
            until(is_ready)
            assert (machine.folder / "trust" / "cell.pem").read_text() == certificate
        finally:
            machine.end()
