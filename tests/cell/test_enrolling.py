"""A machine gets an identity at a real orchestrator, over real TLS; and what it is told when it does not."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from agents import PROVIDER
from orchestrator import Orchestrator
from standalone import Identity

from grafos_cell.enrolling import Bootstrap, check_clock, enrol, give_up, lapse_of
from grafos_cell.identity import Identity as CellIdentity
from grafos_core import trust
from grafos_core.clock import Clock, SystemClock, VirtualClock
from grafos_core.errors import GrafosError


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


class Machine:
    """A machine that is to become a cell: its trust folder, and what lies beside it."""

    def __init__(self, folder: Path, orchestrator: Orchestrator, operator: Identity, cell_id: str) -> None:
        self.trust = folder / "trust"
        self.at, self.operator = orchestrator, operator
        self.asked = Bootstrap(orchestrator.url, PROVIDER, cell_id, folder / "token", folder / "ca.pem")
        self.asked.ca_file.write_text(orchestrator.ca_pem)

    def mint(self, cell_id: str = "", provider: str = PROVIDER, **other: object) -> Machine:
        token = self.at.bootstrap(self.operator, cell_id or self.asked.cell_id, provider, **other)
        self.asked.token_file.write_text(token)
        return self

    def enrol(self, clock: Clock | None = None, asked: Bootstrap | None = None) -> CellIdentity:
        asyncio.run(enrol(self.trust, asked or self.asked, clock or SystemClock(), random.Random(1)))
        return CellIdentity(self.trust)

    def refused(self, clock: Clock | None = None, asked: Bootstrap | None = None) -> GrafosError:
        with pytest.raises(GrafosError) as caught:
            self.enrol(clock, asked)
        assert not (self.trust / "cell.pem").exists()
        return caught.value

    def key(self) -> bytes:
        return (self.trust / "cell-key.pem").read_bytes()


@pytest.fixture
def machine(tmp_path: Path, orchestrator: Orchestrator, operator: Identity, request: pytest.FixtureRequest) -> Machine:
    """Each test has a cell of its own."""
    number = random.Random(request.node.name).getrandbits(40)
    return Machine(tmp_path, orchestrator, operator, f"m-{number:x}")


# --- it goes well -------------------------------------------------------------------------------------------------


def test_a_token_and_a_key_of_its_own_become_an_identity(machine: Machine) -> None:
    identity = machine.mint().enrol()
    peer = identity.peer
    assert (peer.kind, peer.provider, peer.name) == ("cell", PROVIDER, machine.asked.cell_id)
    assert peer.key_sha256 == trust.key_sha256(identity.private_key.public_key())
    assert identity.ca_pem == machine.at.ca_pem
    assert {file.name for file in machine.trust.iterdir()} == {"cell.pem", "cell-key.pem", "ca.pem", "cell-token"}
    assert {file.stat().st_mode & 0o777 for file in machine.trust.iterdir()} == {0o600}
    assert machine.trust.stat().st_mode & 0o777 == 0o700


LEFT_BY_A_CRASH = [(), ("ca.pem",), ("ca.pem", "cell-token")]


@pytest.mark.parametrize("left", LEFT_BY_A_CRASH, ids=["nothing but the key", "and the CA", "and the API token"])
def test_killed_between_any_two_files_the_same_call_finishes(machine: Machine, left: tuple[str, ...]) -> None:
    machine.mint().enrol()
    key = machine.key()
    for name in {"ca.pem", "cell-token", "cell.pem"} - set(left):
        (machine.trust / name).unlink()
    machine.enrol()
    assert machine.key() == key


def test_a_key_that_is_damaged_before_it_counted_is_made_anew(machine: Machine) -> None:
    machine.trust.mkdir(mode=0o700)
    (machine.trust / "cell-key.pem").write_text("a part of a")
    assert machine.mint().enrol().peer.name == machine.asked.cell_id


def test_an_orchestrator_that_is_away_is_waited_for(tmp_path: Path) -> None:
    away = Orchestrator(tmp_path).start()
    try:
        machine = Machine(tmp_path, away, away.claimed(), "late").mint()
        assert away.scheduler is not None
        away.scheduler.end()
        back = threading.Timer(1.0, away.start)
        back.start()
        assert machine.enrol().peer.name == "late"
        back.join()
    finally:
        away.discard()


# --- it does not --------------------------------------------------------------------------------------------------


def test_a_used_token_is_worth_nothing_to_another_key(machine: Machine) -> None:
    machine.mint().enrol()
    give_up(machine.trust)
    error = machine.refused()
    assert (error.code, error.retryable) == ("enrolment_refused", False)
    assert f"grafos cloud bootstrap-cell --provider {PROVIDER} --cell-id {machine.asked.cell_id}" in error.next


def test_a_token_that_lapsed_is_told(machine: Machine) -> None:
    machine.mint(valid_s=0.2)
    time.sleep(0.3)
    error = machine.refused()
    assert error.code == "enrolment_expired"
    assert "bootstrap-cell" in error.next


def test_nobody_is_asked_for_longer_than_the_token_lives(machine: Machine) -> None:
    machine.mint(valid_s=1.0)
    error = machine.refused(asked=replace(machine.asked, orchestrator="https://127.0.0.1:1"))
    assert error.code == "enrolment_expired"
    assert "did not answer" in error.why


def test_whoever_has_another_ca_is_told_nothing(machine: Machine) -> None:
    machine.mint()
    machine.asked.ca_file.write_text(trust.make_ca(trust.new_key(), "somebody else", time.time()))
    error = machine.refused()
    assert (error.code, error.retryable) == ("identity_not_pinned", False)
    machine.asked.ca_file.write_text(machine.at.ca_pem)
    machine.enrol()  # the token was not spent on them


@pytest.mark.parametrize(("cell_id", "provider"), [("another-one", PROVIDER), ("", "aws")])
def test_a_token_for_another_cell_or_provider_makes_no_identity(machine: Machine, cell_id: str, provider: str) -> None:
    error = machine.mint(cell_id, provider).refused()
    assert error.code == ("enrolment_refused" if cell_id else "identity_not_pinned")


def test_garbage_for_a_token_is_refused(machine: Machine) -> None:
    machine.asked.token_file.write_text("a.b.c")
    assert machine.refused().code == "enrolment_refused"


@pytest.mark.parametrize("lacking", ["token", "ca"])
def test_without_a_token_or_a_ca_nothing_is_asked(machine: Machine, lacking: str) -> None:
    machine.mint()
    (machine.asked.token_file if lacking == "token" else machine.asked.ca_file).unlink()
    error = machine.refused()
    assert error.code == "credentials_missing"
    assert "bootstrap-cell" in error.next
    assert not machine.trust.exists()


def test_a_machine_whose_clock_is_hours_ahead_does_not_join(machine: Machine) -> None:
    error = machine.mint().refused(VirtualClock(time.time() + 7200))
    assert error.code == "enrolment_expired"
    assert "clock is 7" in error.why


@pytest.mark.parametrize(("off_s", "way"), [(7200, "ahead of"), (-7200, "behind")])
def test_a_clock_that_is_off_is_told_with_how_far(off_s: int, way: str) -> None:
    key, now = trust.new_key(), 1_800_000_000.0
    ca_pem = trust.make_ca(key, "a CA", now)
    pem = trust.sign_csr(ca_pem, key, trust.make_csr(key, "x"), "spiffe://f/cell/gcp/x", now, 3600)
    check_clock(pem, now + 20)
    with pytest.raises(GrafosError) as caught:
        check_clock(pem, now + off_s)
    assert f"7200 s {way} the orchestrator's" in caught.value.what
    assert caught.value.retryable, "somebody may set it while we ask on"


def test_a_folder_that_cannot_be_written_is_told(machine: Machine) -> None:
    machine.mint()
    machine.trust.write_text("no folder")
    with pytest.raises(GrafosError) as caught:
        machine.enrol()
    assert caught.value.code == "config_invalid"


# --- pure ---------------------------------------------------------------------------------------------------------


def encoded(claims: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    ("token", "lapses_at"),
    [
        (f"h.{encoded({'exp': 17.5})}.s", 17.5),
        (f"h.{encoded({'exp': 'soon'})}.s", 0),
        (f"h.{encoded([1])}.s", 0),
        ("h.!!.s", 0),
        ("", 0),
        ("h.é.s", 0),
    ],
)
def test_when_a_token_lapses_is_read_from_it_if_it_says_so(token: str, lapses_at: float) -> None:
    assert lapse_of(token) == lapses_at
