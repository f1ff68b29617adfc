"""Replicas of one orchestrator over one database, as real processes: one leads, and the others send on to it."""

from __future__ import annotations

import json
import signal
import ssl
import threading
import time
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path

import pytest
from orchestrator import Member, Orchestrator
from postgresql import PASSWORD, Server
from replicas import PATIENCE_S, Fleet, until
from standalone import Process
from tasklets import tasklet

from grafos_core import trust
from grafos_core.errors import CODES, GrafosError
from grafos_scheduler import messages
from grafos_scheduler.client import SchedulerClient

pytestmark = pytest.mark.needs("postgresql")

ENOUGH = 10
"""Runs before the leader is killed, and after."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, database_server: Server) -> Iterator[Fleet]:
    made = Fleet(tmp_path_factory.mktemp("fleet"), database_server)
    try:
        yield made.start()
    finally:
        made.discard()


@pytest.fixture
def cell(fleet: Fleet) -> Iterator[Process]:
    """A cell whose daemon knows the address of a follower alone."""
    leader = fleet.leader()
    member = leader.joined(fleet.operator, f"aws-{time.monotonic_ns()}")
    daemon = Member(fleet.others(leader)[0], member.cell_id, member.provider, member.identity).begin()
    try:
        daemon.wait_ready()
        yield daemon
    finally:
        daemon.discard()


def ready_cells(client: SchedulerClient) -> int:
    return sum(cell.ready for cell in client.cells())


def test_a_follower_says_so_and_sends_everything_else_to_the_leader(fleet: Fleet) -> None:
    leader = fleet.leader()
    follower = fleet.others(leader)[0]
    assert (fleet.health(leader).leader, fleet.health(follower).leader) == ("", leader.url)
    assert fleet.health(follower).claimed
    context = trust.client_context(leader.ca_pem, fleet.operator.certificate, fleet.operator.key)
    connection = HTTPSConnection("127.0.0.1", follower.port, context=context)
    for method, path in (
        ("GET", "/api/v1/runs?limit=5"),
        ("PUT", "/api/v1/cell/terms"),
        ("GET", "/admin/stats"),
        ("GET", "/nowhere"),
    ):
        connection.request(method, path, b"{}" if method == "PUT" else None)
        answer = connection.getresponse()
        told = json.loads(answer.read())
        assert (answer.status, answer.headers["location"]) == (307, f"{leader.url}{path}")
        assert (told["code"], told["retryable"], told["context"]) == ("not_leader", True, {"leader": leader.url})
        connection.close()


def test_a_client_that_knows_a_follower_alone_is_led_on_for_reads_writes_and_looks(fleet: Fleet) -> None:
    follower = fleet.others(fleet.leader())[0]
    with follower.client(fleet.tenant) as client:
        sha256 = client.put_blob(b"asked for by HEAD first, whose answer has no body")
        assert client.has_blob(sha256)
    with follower.client(fleet.operator) as boss:
        assert "acme" in [tenant.name for tenant in boss.tenants()]
        assert boss.set_budget("acme", 10**6).budget_micro_cents == 10**12


def test_a_claim_is_not_led_on_since_its_proof_is_for_one_server(fleet: Fleet) -> None:
    leader = fleet.leader()
    with pytest.raises(GrafosError) as caught:
        fleet.others(leader)[0].claim(leader.request("somebody"), secret=b"x" * 32)
    assert (caught.value.code, caught.value.context) == ("not_leader", {"leader": leader.url})


def test_a_stranger_learns_from_a_follower_who_leads_and_no_more(fleet: Fleet) -> None:
    follower = fleet.others(fleet.leader())[0]
    with pytest.raises(GrafosError) as caught:
        follower.enrol("no.token.atall", follower.request("stranger"))
    assert caught.value.code != "not_leader", "enrolment is led on, and refused by the leader"
    context = ssl.create_default_context(cadata=follower.ca_pem)
    connection = HTTPSConnection("127.0.0.1", follower.port, context=context)
    connection.request("GET", "/api/v1/runs")
    assert connection.getresponse().status == 307
    connection.close()


def test_the_leader_killed_under_load_loses_nothing_that_it_acknowledged_and_cells_come_back(
    fleet: Fleet, cell: Process
) -> None:
    leader = fleet.leader()
    second, third = fleet.others(leader)
    with second.client(fleet.tenant) as client:
        module = client.put_blob(tasklet())
    with second.client(fleet.operator) as boss:
        until(lambda: ready_cells(boss))
    acknowledged: dict[str, str] = {}
    enough, over = threading.Event(), threading.Event()

    def ask(name: str, replica: Orchestrator) -> None:
        number = 0
        with replica.client(fleet.tenant, patience_s=PATIENCE_S) as client:
            while not over.is_set():
                asked = messages.RunRequest(f"a-key-of-{name}-{number:06d}", "aws", "prog", "main", module, "")
                try:
                    acknowledged[asked.run_key] = client.start_run(asked).run_id
                except GrafosError as error:
                    if not (error.retryable or error.code == "quota_exceeded"):
                        raise
                    time.sleep(0.02)
                    continue
                number += 1
                if len(acknowledged) > ENOUGH:
                    enough.set()

    askers = [threading.Thread(target=ask, args=(f"asker{n}", (second, third)[n % 2])) for n in range(3)]
    for asker in askers:
        asker.start()
    assert enough.wait(PATIENCE_S)
    leader.scheduler.end(signal.SIGKILL)
    before = len(acknowledged)
    fleet.lapse()
    until(lambda: len(acknowledged) > before + ENOUGH)
    over.set()
    for asker in askers:
        asker.join()
    newer = fleet.leader()
    assert newer is not leader
    with newer.client(fleet.operator) as boss:
        until(lambda: ready_cells(boss))
        until(lambda: all(run.ended_at for run in boss.all_runs()))
        states = {run.run_id: run.state for run in boss.all_runs()}
    assert len(set(acknowledged.values())) == len(acknowledged), "one run for each key"
    assert {states.get(run_id, "lost") for run_id in acknowledged.values()} == {"finished"}
    leader.start()
    assert fleet.health(leader).leader == newer.url


def test_a_leader_that_was_paused_too_long_finds_itself_fenced_and_ends(fleet: Fleet) -> None:
    leader = fleet.leader()
    assert leader.scheduler is not None
    leader.scheduler.popen.send_signal(signal.SIGSTOP)
    fleet.lapse()
    others = fleet.others(leader)
    newer = until(lambda: next((one for one in others if not fleet.health(one).leader), None))
    leader.scheduler.popen.send_signal(signal.SIGCONT)
    assert leader.scheduler.popen.wait(PATIENCE_S) == CODES["store_fenced"].exit_code
    assert "store_fenced" in leader.scheduler.log.read_text()
    assert PASSWORD not in leader.scheduler.log.read_text()
    leader.start()
    assert fleet.leader() is newer


def test_a_leader_that_ends_in_good_order_hands_over_at_once(fleet: Fleet) -> None:
    leader = fleet.leader()
    assert leader.scheduler is not None
    assert leader.scheduler.end() == 0
    # Well within the lease's time, for which a leader that was killed would keep the others waiting.
    with fleet.others(leader)[0].client(fleet.tenant, patience_s=5.0) as client:
        client.runs()
    leader.start()


def test_a_follower_told_to_end_ends_and_the_leader_does_not_notice(fleet: Fleet) -> None:
    leader = fleet.leader()
    follower = fleet.others(leader)[0]
    assert follower.scheduler is not None
    assert follower.scheduler.end() == 0
    assert fleet.leader() is leader
    follower.start()


def test_without_its_database_a_scheduler_does_not_start_and_says_why(tmp_path: Path) -> None:
    lost = Orchestrator(tmp_path, database="postgresql://grafos:hushhush@127.0.0.1:1/nowhere")
    process = Process("grafos_scheduler", lost.arguments(), tmp_path / "log")
    try:
        assert process.popen.wait(PATIENCE_S) == CODES["store_failed"].exit_code
    finally:
        process.discard()
    told = (tmp_path / "log").read_text()
    assert "error[store_failed]" in told
    assert "Traceback" not in told
    assert "hush" not in told
