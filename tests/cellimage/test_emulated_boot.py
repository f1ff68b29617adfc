"""An emulated cloud boots what was published to it: a provision makes a machine that runs the disk under QEMU."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from agents import until
from command_line import HELLO, Person, ends_with
from own_orchestrator import OwnOrchestrator
from vouching import vouched_again

from grafos_cellimage.record import BakedImage

pytestmark = [pytest.mark.needs("image"), pytest.mark.deep, pytest.mark.timeout(2400)]

BOOT_S_MAX = 600.0
CELL = "on-gcp"


@pytest.fixture
def ada(tmp_path: Path) -> Iterator[Person]:
    """Somebody with an emulated Google Cloud that boots what is published to it."""
    somebody = Person(tmp_path)
    up = somebody("emulate", "up", "--clouds", "gcp", "--boot", "qemu")
    assert up.code == 0, up.err
    somebody.env.update(somebody("emulate", "env", "--json").document["environment"])
    yield somebody
    somebody("emulate", "down")


def virtual_machines(person: Person) -> list[int]:
    """The processes that run one of the person's, and all that carries its connections."""
    mark = str(person.home).encode()
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes()
        except OSError:
            continue
        if mark in words and (b"qemu-system" in words or b"boot.keeper" in words):
            found.append(int(place.name))
    return found


def order(person: Person, verb: str) -> None:
    """Compute Engine is told to stop or start the machine, by whoever has its console open."""
    [machine] = [
        part
        for part in person("cloud", "show", "--cell-id", CELL, "--json").document["cell"]["resources"]
        if part["kind"] == "machine"
    ]
    url = urlsplit(person.env["GRAFOS_GCP_ENDPOINT"])
    project = person.env["GOOGLE_CLOUD_PROJECT"]
    path = f"{url.path.rstrip('/')}/compute/v1/projects/{project}/{machine['id']}/{verb}"
    headers = {"content-type": "application/json", "authorization": "Bearer emulated"}
    with contextlib.closing(http.client.HTTPConnection(url.netloc, timeout=30)) as connection:
        connection.request("POST", path, b"{}", headers)
        answer = connection.getresponse()
        assert answer.status == 200, (path, answer.status, answer.read())


def becomes(own: OwnOrchestrator, *, ready: bool) -> None:
    end = time.monotonic() + BOOT_S_MAX
    while (own.cell(CELL).get("ready") is True) is not ready:
        assert time.monotonic() < end, own.person("emulate", "status").out
        time.sleep(1.0)


def test_a_provision_boots_the_published_disk_which_keeps_its_state_and_goes_with_its_emulator(
    ada: Person, image: BakedImage
) -> None:
    own = OwnOrchestrator(ada)
    try:
        assert ada("fabric", "claim", own.url).code == 0
        vouched_again(ada, image)
        place = ("--region", "us-central1")
        published = ada("cloud", "image", "publish", "gcp", "--image", str(image.path), *place, "--yes", "--json")
        assert published.code == 0, published.err
        asked = ("cloud", "provision", "gcp", "--cell-id", CELL, *place, "--ttl", "2h", "--yes", "--json")
        made = ends_with(ada.starts(*asked), BOOT_S_MAX)
        assert made.code == 0, made.out + made.err
        running = virtual_machines(ada)
        assert len(running) == 2, "QEMU and its keeper"
        here = Path("/proc/self/ns/net").readlink()
        assert {Path(f"/proc/{pid}/ns/net").readlink() for pid in running} == {here}, "no namespace is made"
        ada.write_program(HELLO)
        run = ada("deploy", "run", "--provider", "gcp", "--json")
        assert run.code == 0, run.out + run.err
        assert ada("artifacts", run.document["run_id"], "--verify").code == 0

        order(ada, "stop")
        becomes(own, ready=False)
        until(lambda: not virtual_machines(ada), "its end")
        order(ada, "start")
        becomes(own, ready=True)

        os.kill(ada("emulate", "status", "--json").document["emulator"]["pid"], signal.SIGKILL)
        until(lambda: not virtual_machines(ada), "the end of all that the emulator ran")
    finally:
        own.discard()
