"""The baked image boots for real under an emulator, and becomes a cell of a real orchestrator on loopback."""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path

import looking_inside
import msgspec
import pytest
from booted_cell import BOOT_S_MAX, holds_inside, identifies, ready, told_of
from command_line import Person, ends_with
from metadata_of_a_cloud import document, serving
from orchestrator import Orchestrator
from own_orchestrator import OwnOrchestrator
from standalone import Identity
from vouching import vouched_again

from grafos_cellimage.booting import Asked, Machine, booted
from grafos_cellimage.plan import plan_for
from grafos_cellimage.record import BakedImage
from grafos_core.virtual_machines import AWS, AZURE, DISK, GCP, HOST, PLAIN

pytestmark = [pytest.mark.needs("image"), pytest.mark.timeout(2700)]

UNTOLD = "this machine was not told which cell it is"


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

    def becomes(self, machine: Machine, *, ready: bool) -> None:
        until = time.monotonic() + BOOT_S_MAX
        while self.is_ready is not ready:
            assert time.monotonic() < until, f"{machine.complaint()}\n{machine.console[-4000:]}"
            time.sleep(0.5)


def test_an_image_boots_as_a_closed_cell_that_keeps_its_identity_and_ends_itself(
    image: BakedImage, tmp_path: Path
) -> None:
    """One machine from its first boot to its end, since booting takes long."""
    ada = Person(tmp_path)
    own = OwnOrchestrator(ada)
    try:
        assert ada("fabric", "claim", own.url).code == 0
        told = told_of(own, ada, "gcp-booted")
        asked = Asked(PLAIN, json.dumps(told), reaches=(own.bind,), beside=looking_inside.credentials())
        began = time.monotonic()
        with (
            serving("{}") as metadata,
            booted(
                image, msgspec.structs.replace(asked, metadata_port=metadata.server_port), tmp_path / "machine"
            ) as machine,
        ):
            ready(own, "gcp-booted", machine)
            took_s = time.monotonic() - began
            identifies(ada, "gcp-booted")
            holds_inside(machine)
        ends_at = int(time.time() + 1.6 * took_s + 20)
        again = msgspec.structs.replace(asked, credential=json.dumps({**told, "timer_at": ends_at}))
        with booted(image, again, tmp_path / "machine") as machine:
            ready(own, "gcp-booted", machine)
            assert machine.wait_off(BOOT_S_MAX), machine.console[-4000:]
            assert time.time() >= ends_at - 1, "not before its time"
            assert f"grafos: booted cell=gcp-booted timer={ends_at}" in machine.console
    finally:
        own.discard()


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
@pytest.mark.parametrize(
    ("variant", "said"),
    [
        pytest.param(Asked(GCP, memory_mb=512, any_memory=True), "this machine has too little memory", id="512 MB"),
        pytest.param(Asked(PLAIN), "the firmware names no cloud", id="told nothing"),
        pytest.param(Asked(GCP), "no user data yet: ", id="no metadata service"),
        pytest.param(Asked(PLAIN, "{}"), UNTOLD, id="told nonsense"),
    ],
)
def test_a_machine_that_can_be_no_cell_says_why_and_runs_none(
    variant: Asked, said: str, image: BakedImage, tmp_path: Path
) -> None:
    alone = msgspec.structs.replace(variant, reaches=())
    with booted(image, alone, tmp_path / "machine") as machine:
        assert machine.wait(lambda console: said in console, BOOT_S_MAX), machine.console[-4000:]
        assert "grafos: booted" not in machine.console
        if variant.memory_mb == 512 or variant.credential:
            assert machine.wait_off(BOOT_S_MAX), machine.console[-4000:]


def lies(told: str, machine: Machine) -> Iterator[tuple[int, bytes]]:
    """What a metadata service may say that is wrong or dead, until the machine has given up once."""
    each = itertools.cycle(
        [
            (503, b"not yet"),
            (302, b""),
            (200, b"<html>"),
            (200, b"[" * 50_000),
            (200, b"{" + b" " * 70_000 + b"}"),
            (200, document("grafos.cell", json.dumps({**json.loads(told), "provider": "aws"}))),
            (200, document("grafos.cell", '{"cell_id": "half"}')),
            (200, document("passwd.plaintext-password.root", "open")),
        ]
    )
    return itertools.takewhile(lambda _: UNTOLD not in machine.console, each)


@pytest.mark.deep
def test_a_metadata_service_that_lies_gets_nothing_kept_and_the_truth_is_still_heard(
    image: BakedImage, orchestrator: Orchestrator, operator: Identity, tmp_path: Path
) -> None:
    """The cell's daemon waits while its machine is told once more what it is: a try that failed does not fail it."""
    cell = Cell(orchestrator, operator, "gcp-deceived")
    with contextlib.ExitStack() as stack:
        told = cell.told()
        metadata = stack.enter_context(serving(told))
        asked = Asked(GCP, metadata_port=metadata.server_port)
        machine = stack.enter_context(booted(image, asked, tmp_path / "machine"))
        metadata.lies = lies(told, machine)
        cell.becomes(machine, ready=True)
        for said in ("answers 503", "answers 302", "larger than any of ours", "a cell of 'aws'", "hold no grafos.cell"):
            assert said in machine.console
        assert UNTOLD in machine.console


@pytest.mark.deep
def test_a_clock_that_stands_in_1970_ends_nothing_and_trusts_nobody(
    image: BakedImage, orchestrator: Orchestrator, operator: Identity, tmp_path: Path
) -> None:
    cell = Cell(orchestrator, operator, "gcp-1970")
    told = cell.told(timer_at=int(time.time()) + 3600)
    asked = Asked(PLAIN, told, clock="1970-01-01", reaches=(f"127.0.0.1:{orchestrator.port}",))
    with booted(image, asked, tmp_path / "machine") as machine:
        assert machine.wait(lambda console: "the clock is wrong" in console, BOOT_S_MAX), machine.console[-4000:]
        assert machine.wait(lambda console: "nobody sets the clock" in console, BOOT_S_MAX), machine.console[-4000:]
        assert machine.is_on, "a timer that stands in the future does not fire at once"
        assert not cell.is_ready


@pytest.mark.deep
def test_a_cell_whose_power_button_is_pressed_ends_in_good_order(
    image: BakedImage, orchestrator: Orchestrator, operator: Identity, tmp_path: Path
) -> None:
    """As a cloud does it that stops a machine."""
    cell = Cell(orchestrator, operator, "gcp-pressed")
    asked = Asked(PLAIN, cell.told(), reaches=(f"127.0.0.1:{orchestrator.port}",))
    with booted(image, asked, tmp_path / "machine") as machine:
        cell.becomes(machine, ready=True)
        machine.press_power_button()
        assert machine.wait_off(BOOT_S_MAX), machine.console[-4000:]
        assert "Power down" in machine.console
        assert not needs_mending(tmp_path / "machine" / DISK)
        cell.becomes(machine, ready=False)


def needs_mending(disk: Path) -> bool:
    """Whether the file system of the state says that it was not taken down: a bit of ext4's superblock."""
    sizes = plan_for("amd64").sizes
    with disk.open("rb") as file:
        file.seek(sizes.lead + sizes.boot + 1024 + 0x60)
        return bool(int.from_bytes(file.read(4), "little") & 0x4)


@pytest.mark.deep
def test_the_command_boots_an_image_that_joins_the_fabrics_orchestrator(image: BakedImage, tmp_path: Path) -> None:
    """As a person does it; afterwards the machine is gone, and nobody can be that cell again."""
    ada = Person(tmp_path)
    own = OwnOrchestrator(ada)
    try:
        assert ada("fabric", "claim", own.url).code == 0
        vouched_again(ada, image)
        words = ("cloud", "image", "boot", "--image", str(image.path), "--cell-id", "mine", "--until-ready", "--json")
        done = ends_with(ada.starts(*words), BOOT_S_MAX)
        assert done.code == 0, done.out + done.err
        told = done.document
        assert (told["cell_id"], told["image"]["sha256"]) == ("mine", image.sha256)
        assert own.cell("mine").get("ready") is not True
    finally:
        own.discard()
