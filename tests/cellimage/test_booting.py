"""The baked image boots for real under an emulator, and becomes a cell of a real orchestrator on loopback."""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import HELLO, Person
from metadata_of_a_cloud import serving
from orchestrator import Orchestrator
from own_orchestrator import OwnOrchestrator
from standalone import Identity
from wasmtime import wat2wasm

from grafos_cellimage.booting import Asked, Machine, booted
from grafos_cellimage.record import BakedImage
from grafos_core.errors import CODES
from grafos_core.virtual_machines import AWS, AZURE, GCP, HOST, PLAIN
from grafos_scheduler import messages

pytestmark = [pytest.mark.needs("image"), pytest.mark.timeout(900)]

BOOT_S_MAX = 400.0
"""Nobody waits for so long: software emulation on a machine that is busy with other tests."""


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


class Cell:
    """A cell to be, and what its orchestrator knows of it."""

    def __init__(self, at: Orchestrator, operator: Identity, cell_id: str, provider: str = "gcp") -> None:
        self.at, self.operator, self.cell_id, self.provider = at, operator, cell_id, provider

    def told(self, **other: object) -> str:
        """The credential that makes a machine this cell."""
        given = {
            "cell_id": self.cell_id,
            "provider": self.provider,
            "orchestrator": f"https://{HOST}:{self.at.port}",
            "ca_pem": self.at.ca_pem,
            "bootstrap_token": self.at.bootstrap(self.operator, self.cell_id, self.provider),
        }
        return json.dumps({**given, **other})

    @property
    def is_ready(self) -> bool:
        with self.at.client(self.operator) as client:
            return any(cell.cell_id == self.cell_id and cell.ready for cell in client.cells())

    @property
    def image(self) -> str:
        with self.at.client(self.operator) as client:
            return next(cell.image_sha256 for cell in client.cells() if cell.cell_id == self.cell_id)

    def answer(self) -> messages.RunView:
        """How a tasklet ends there. A worker that does not start in time is asked again, as the code says: an emulated
        machine on a busy one takes its time."""
        ada = self.at.employ(self.operator, f"tenant-of-{self.cell_id}")
        until = time.monotonic() + BOOT_S_MAX
        with self.at.client(ada) as client:
            module = client.put_blob(bytes(wat2wasm(HELLO)))
            while True:
                asked = messages.RunRequest(secrets.token_hex(8), self.provider, "prog", "main", module, "")
                view = client.start_run(asked)
                while not view.ended_at and time.monotonic() < until:
                    view = client.run(view.run_id, wait_s=5.0)
                if not CODES.get(view.code, CODES["internal"]).retryable or time.monotonic() > until:
                    return view

    def becomes(self, machine: Machine, *, ready: bool) -> None:
        until = time.monotonic() + BOOT_S_MAX
        while self.is_ready is not ready:
            assert time.monotonic() < until, f"{machine.complaint()}\n{machine.console[-4000:]}"
            time.sleep(0.5)


def test_an_image_that_boots_runs_tasklets_as_a_ready_cell_and_is_the_same_one_after_the_power_was_gone(
    image: BakedImage, orchestrator: Orchestrator, operator: Identity, tmp_path: Path
) -> None:
    cell = Cell(orchestrator, operator, "gcp-booted")
    with booted(image, Asked(PLAIN, cell.told()), tmp_path / "machine") as machine:
        cell.becomes(machine, ready=True)
        assert cell.image == image.contents_sha256 != "", "it tells which image it is of"
        run = cell.answer()
        assert (run.state, run.cell_id) == ("finished", cell.cell_id), f"{run}\n{machine.console[-4000:]}"
        machine.switch_off()
        cell.becomes(machine, ready=False)
        machine.switch_on()
        cell.becomes(machine, ready=True)


@pytest.mark.deep
@pytest.mark.parametrize("dress", [AWS, GCP, AZURE])
def test_on_each_cloud_the_image_learns_from_its_user_data_which_cell_it_is(
    dress: str, image: BakedImage, orchestrator: Orchestrator, operator: Identity, tmp_path: Path
) -> None:
    cell = Cell(orchestrator, operator, f"{dress}-told", dress)
    with contextlib.ExitStack() as stack:
        metadata = stack.enter_context(serving(cell.told()))
        asked = Asked(dress, metadata_port=metadata.server_port)
        machine = stack.enter_context(booted(image, asked, tmp_path / "machine"))
        cell.becomes(machine, ready=True)
        assert len(metadata.asked) == 1


@pytest.mark.deep
def test_a_machine_ends_itself_when_its_time_is_over(
    image: BakedImage, orchestrator: Orchestrator, operator: Identity, tmp_path: Path
) -> None:
    cell = Cell(orchestrator, operator, "gcp-short")
    with booted(image, Asked(PLAIN, cell.told(timer_at=int(time.time()) + 90)), tmp_path / "machine") as machine:
        assert machine.wait_off(BOOT_S_MAX), machine.console[-4000:]
        assert "grafos: booted cell=gcp-short" in machine.console


@pytest.mark.deep
def test_the_command_boots_an_image_that_joins_the_fabrics_orchestrator(image: BakedImage, tmp_path: Path) -> None:
    """As a person does it; afterwards the machine is gone, and nobody can be that cell again."""
    ada = Person(tmp_path)
    own = OwnOrchestrator(ada)
    try:
        assert ada("fabric", "claim", own.url).code == 0
        words = ("cloud", "image", "boot", "--image", str(image.path), "--cell-id", "mine", "--until-ready", "--json")
        program = ada.starts(*words)
        out, err = program.communicate(timeout=BOOT_S_MAX)
        assert program.returncode == 0, err
        told = json.loads(out)
        assert (told["cell_id"], told["image"]["sha256"]) == ("mine", image.sha256)
        assert own.cell("mine").get("ready") is not True
    finally:
        own.discard()
