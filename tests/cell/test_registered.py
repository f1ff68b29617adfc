"""The agent of a registered cell as a real process at a real orchestrator: how it joins, stays, and leaves."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from agents import PROVIDER, AgentOf, until
from orchestrator import Orchestrator
from standalone import Identity

from grafos_cell import inventory
from grafos_core import trust
from grafos_core.errors import CODES


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


class Ground:
    """Makes machines for one test, and ends them."""

    def __init__(self, orchestrator: Orchestrator, operator: Identity, folder: Path) -> None:
        self.orchestrator, self.operator, self.folder = orchestrator, operator, folder
        self.machines: list[AgentOf] = []

    def machine(self, cell_id: str) -> AgentOf:
        """One with a fresh token."""
        self.machines.append(AgentOf(self.orchestrator, cell_id, self.folder / cell_id))
        return self.machines[-1].given(self.token(cell_id))

    def token(self, cell_id: str) -> str:
        return self.orchestrator.bootstrap(self.operator, cell_id, PROVIDER)

    def revoke(self, cell_id: str) -> None:
        with self.orchestrator.client(self.operator) as client:
            client.revoke_cell(cell_id, why="it was lost", grace_s=0.0)

    def copy(self, machine: AgentOf) -> AgentOf:
        """Another machine with all that the first has on its disk."""
        folder = self.folder / f"copy-of-{machine.cell_id}"
        shutil.copytree(machine.folder, folder)
        self.machines.append(AgentOf(self.orchestrator, machine.cell_id, folder))
        return self.machines[-1]


@pytest.fixture
def ground(orchestrator: Orchestrator, operator: Identity, tmp_path: Path) -> Iterator[Ground]:
    made = Ground(orchestrator, operator, tmp_path)
    yield made
    for machine in made.machines:
        machine.discard()


def ended(machine: AgentOf, code: str) -> str:
    """Waits for its end, which is the typed one; gives its log."""
    assert machine.processes[-1].popen.wait(60) == CODES[code].exit_code, machine.log.read_text()
    log = machine.log.read_text()
    assert f"error[{code}]" in log
    assert "Traceback" not in log
    return log


# --- joining ------------------------------------------------------------------------------------------------------


def test_it_joins_and_is_ready_with_what_the_machine_has(ground: Ground) -> None:
    machine = ground.machine("joins")
    machine.linked(**{"mem-capacity": "0", "block-capacity": "0"})
    until(lambda: (view := machine.view(ground.operator)) is not None and view.ready, "readiness")
    view = machine.view(ground.operator)
    assert view is not None
    root = Path("/")
    assert view.total.cpu_cores == inventory.cores(root, len(os.sched_getaffinity(0)))
    assert view.total.mem_bytes == inventory.memory_bytes(root) // 2
    assert view.total.block_bytes > 0
    assert (view.total.nic_count, view.total.gpu_count) == (inventory.nics(root), inventory.gpus(root))
    assert (view.provider, view.region) == (PROVIDER, f"{PROVIDER}-here")
    until(lambda: not machine.token_file.exists(), "the end of the token's file")


def test_a_restart_keeps_its_identity_and_asks_for_no_other(ground: Ground) -> None:
    machine = ground.machine("again")
    first = machine.linked()
    key, certificate = machine.key_sha256(), machine.certificate()
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    second = machine.linked()
    assert (machine.key_sha256(), machine.certificate()) == (key, certificate)
    assert second.end() == 0
    assert machine.log.read_text().count("enrolled as cell") == 1


def test_killed_before_its_first_link_it_joins_at_the_next_start(ground: Ground) -> None:
    machine = ground.machine("killed")
    machine.begin()
    until((machine.trust / "cell-key.pem").exists)
    machine.processes[-1].end(signal.SIGKILL)
    machine.linked()


def test_it_tells_its_service_manager_how_it_is(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(ground.folder / "notify"))
        manager.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", str(ground.folder / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "500000")
        process = ground.machine("told").linked()
        heard = [manager.recv(100) for _ in range(6)]
        assert heard.count(b"READY=1") == 1
        assert heard.count(b"WATCHDOG=1") == 5
        process.popen.terminate()
        while manager.recv(100) != b"STOPPING=1":
            pass
        assert process.popen.wait(30) == 0


def test_it_ends_in_good_order_while_nobody_answers(ground: Ground) -> None:
    machine = ground.machine("waits")
    process = machine.begin(orchestrator="https://127.0.0.1:1")
    until(lambda: "not enrolled yet" in machine.log.read_text())
    assert process.end() == 0
    assert machine.token_file.exists()


def test_its_own_end_fences_it_and_ends_the_machine(ground: Ground) -> None:
    machine = ground.machine("ends")
    note = ground.folder / "note"
    machine.linked(**{"expires-at": f"{time.time() + 3:.0f}", "on-expiry": f"touch {note}"})
    assert machine.processes[-1].popen.wait(60) == 0
    assert note.exists()


def test_an_end_that_was_moved_while_it_was_away_holds_from_its_start(ground: Ground) -> None:
    machine = ground.machine("moved")
    end_file = ground.folder / "end"
    end_file.write_text(f"{time.time() + 3600:.0f}")
    flags = {"expires-at": f"{time.time() - 60:.0f}", "end-file": end_file}
    assert machine.linked(**flags).end() == 0
    assert "fencing" not in machine.log.read_text()


# --- not joining --------------------------------------------------------------------------------------------------


def test_the_wrong_ca_is_told_in_one_shape_and_nothing_is_kept(ground: Ground) -> None:
    machine = ground.machine("stranger")
    machine.given(ground.token("stranger"), trust.make_ca(trust.new_key(), "somebody else", time.time()))
    machine.begin()
    ended(machine, "identity_not_pinned")
    assert not (machine.trust / "cell.pem").exists()


def test_another_cell_s_folder_is_not_taken(ground: Ground) -> None:
    machine = ground.machine("mine")
    machine.linked().end()
    machine.begin(**{"cell-id": "yours"})
    ended(machine, "config_invalid")


@pytest.mark.parametrize(
    "flags", [["--cell-id", "No Name"], ["--cell-id", "one", "--expires-at", "nan"], ["--cell-id", "one", "--nonsense"]]
)
def test_wrong_flags_are_told(flags: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "grafos_cell.registered", "--orchestrator", "https://127.0.0.1:1"]
    command += ["--provider", PROVIDER, "--trust", str(tmp_path / "trust"), "--state", str(tmp_path / "state"), *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error[")
    assert list(tmp_path.iterdir()) == []


# --- staying ------------------------------------------------------------------------------------------------------


def test_its_certificate_is_renewed_while_it_serves(ground: Ground) -> None:
    machine = ground.machine("renews")
    machine.linked().end()
    machine.hold(life_s=20.0)  # half of it is for a busy machine to link before it is renewed
    ends_at = time.time() + 20.0
    old, key = machine.certificate(), machine.key_sha256()
    machine.linked()
    until(lambda: machine.certificate() != old, "another certificate")
    assert machine.key_sha256() == key
    until(lambda: time.time() > ends_at + 1.0, "the end of the old one")
    view = machine.view(ground.operator)
    assert view is not None
    assert view.ready
    assert machine.log.read_text().count("linked to the scheduler") == 2, "the link went on"


def test_cut_off_until_its_certificate_ran_out_it_says_so_and_can_be_enrolled_again(ground: Ground) -> None:
    machine = ground.machine("cut-off")
    machine.linked().end()
    key = machine.key_sha256()
    machine.hold(life_s=60.0, age_s=120.0)
    machine.begin()
    assert "bootstrap-cell" in ended(machine, "certificate_expired")
    machine.given(ground.token("cut-off"))
    machine.linked()
    assert machine.key_sha256() == key


# --- leaving ------------------------------------------------------------------------------------------------------


def test_revoked_it_is_fenced_and_ends_and_keeps_nothing_of_its_identity(ground: Ground) -> None:
    machine = ground.machine("revoked")
    machine.linked()
    ground.revoke("revoked")
    log = ended(machine, "cell_revoked")
    assert "fencing" in log
    assert "bootstrap-cell" in log
    assert not {"cell.pem", "cell-token", "cell-key.pem"} & {file.name for file in machine.trust.iterdir()}


def test_revoked_while_it_was_away_it_hears_of_it_at_its_next_start(ground: Ground) -> None:
    machine = ground.machine("asleep")
    machine.linked().end()
    ground.revoke("asleep")
    machine.begin()
    ended(machine, "cell_revoked")
    machine.begin()
    ended(machine, "credentials_missing")


def test_revoked_with_a_fresh_token_beside_it_it_joins_with_another_key(ground: Ground) -> None:
    machine = ground.machine("anew")
    machine.linked().end()
    key = machine.key_sha256()
    ground.revoke("anew")
    machine.given(ground.token("anew"))
    machine.linked()
    assert machine.key_sha256() != key


def test_of_two_with_one_identity_the_older_is_fenced(ground: Ground) -> None:
    machine = ground.machine("twin")
    machine.linked()
    copy = ground.copy(machine)
    copy.linked()
    log = ended(machine, "generation_stale")
    assert "fencing" in log
    assert not (machine.trust / "cell-key.pem").exists()
    assert copy.processes[-1].popen.poll() is None
    until(lambda: (view := copy.view(ground.operator)) is not None and view.ready)
