"""Services on the cell's daemon as a real process, with the test in the place of the scheduler and of the clients."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripted_services import ScriptedService, ServiceHouse

from grafos_cell.conformance.echo import echo_module
from grafos_cell.conformance.service_cases import BEGIN, LISTEN
from grafos_cell.conformance.wat import dropped, tasklet, text_at
from grafos_core.receipts import InstanceReceipt, open_signed_by_cell
from grafos_scheduler import frames
from grafos_scheduler.service_frames import (
    SESSION_DATA_BYTES_MAX,
    SESSION_WINDOW_BYTES,
    DrainInstance,
    SessionCredit,
    SessionData,
    SessionOpen,
    StopInstance,
)

ECHO = echo_module()
ECHO_TO_TWO = echo_module(2)
ACCEPT = dropped("svc_accept", 1)
GROW = "(loop $again (br_if $again (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))"
ENDLESS = tasklet("(loop $again (br $again)) (i32.const 0)")
LEASE_S = 8.0
"""Of a lease that has to be renewed, on a machine that may be busy."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceHouse]:
    made = ServiceHouse(tmp_path_factory.mktemp("services"))
    yield made
    made.close()


@pytest.fixture
def idle(house: ServiceHouse) -> Iterator[ScriptedService]:
    """An instance that is yet to be started."""
    made = house.service()
    yield made
    made.clear_away()


@pytest.fixture
def service(idle: ScriptedService) -> ScriptedService:
    """An echo that listens."""
    idle.start(ECHO, max_sessions=1024)
    idle.wait_listening()
    return idle


def process_of(service: ScriptedService) -> int:
    return service.house.process_of(service.instance_id)


def test_one_session_is_echoed_through_a_real_process(service: ScriptedService) -> None:
    service.open("a")
    service.send("a", b"hello")
    service.hear_until(lambda: service.got["a"] == b"hello")
    service.finish("a")
    service.hear_until(lambda: "a" in service.ends)
    assert service.ends == {"a": ""}


def is_there(pid: int) -> bool:
    """Whether the process lives; one that nobody has buried yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# --- bytes --------------------------------------------------------------------------------------------------------


def test_sixty_four_sessions_at_once_each_get_their_own_bytes_in_their_order(service: ScriptedService) -> None:
    names = [f"s{number}" for number in range(64)]
    parts = {name: [f"{name}:{part};".encode() for part in range(20)] for name in names}
    service.open(*names)
    for part in range(20):  # by turns, so that all of them are open all the time
        service.link.say(*(SessionData(name, parts[name][part]) for name in names))
    service.hear_until(lambda: all(service.got[name] == b"".join(parts[name]) for name in names))
    assert service.ends == {}
    service.hear_until(lambda: service.load is not None and service.load.sessions == 64)
    service.finish(*names)
    service.hear_until(lambda: len(service.ends) == 64)
    assert set(service.ends.values()) == {""}


def test_bytes_that_were_sent_before_the_half_close_are_answered_after_it(service: ScriptedService) -> None:
    data = random.Random(7).randbytes(200_000)
    service.open("a")
    service.send("a", data)
    service.finish("a")
    service.hear_until(lambda: "a" in service.ends)
    assert service.got["a"] == data
    assert service.ends == {"a": ""}


def test_a_megabyte_goes_through_under_credit_alone(service: ScriptedService) -> None:
    data = random.Random(8).randbytes(2**20)
    service.open("a")
    at = 0
    while at < len(data):
        service.hear_until(lambda: at < SESSION_WINDOW_BYTES + service.credit["a"])  # noqa: B023 - called at once
        more = min(SESSION_WINDOW_BYTES + service.credit["a"] - at, SESSION_DATA_BYTES_MAX)
        service.send("a", data[at : at + more])
        at += more
    service.finish("a")
    service.hear_until(lambda: "a" in service.ends)
    assert service.got["a"] == data


def test_a_client_that_takes_nothing_stops_itself_alone(service: ScriptedService) -> None:
    """The echo writes faster than the client reads: a window is on its way to it, and everybody else is served."""
    service.is_taking = False
    service.open("slow", "quick")
    service.send("slow", bytes(SESSION_WINDOW_BYTES))
    service.hear_until(lambda: len(service.got["slow"]) == SESSION_WINDOW_BYTES)
    service.hear_until(lambda: service.credit["slow"] > 10_000)
    service.send("slow", b"x" * 10_000)
    service.send("quick", b"still here")
    service.hear_until(lambda: service.got["quick"] == b"still here")
    assert len(service.got["slow"]) == SESSION_WINDOW_BYTES
    service.link.say(SessionCredit("slow", 20_000))
    service.hear_until(lambda: len(service.got["slow"]) == SESSION_WINDOW_BYTES + 10_000)


def test_a_client_that_sends_more_than_it_may_loses_its_session_alone(service: ScriptedService) -> None:
    service.is_taking = False
    service.open("greedy", "other")
    service.send("greedy", bytes(3 * SESSION_WINDOW_BYTES))
    service.hear_until(lambda: "greedy" in service.ends)
    assert service.ends == {"greedy": "limit_exceeded"}
    service.send("other", b"fine")
    service.hear_until(lambda: service.got["other"] == b"fine")


# --- who gets no session ------------------------------------------------------------------------------------------


def test_sessions_past_the_most_are_refused_and_a_closed_one_makes_room(idle: ScriptedService) -> None:
    idle.start(ECHO_TO_TWO, max_sessions=2)
    idle.wait_listening()
    idle.open("a", "b", "c")
    idle.hear_until(lambda: "c" in idle.ends)
    assert idle.ends == {"c": "sessions_exhausted"}
    idle.finish("a")
    idle.hear_until(lambda: "a" in idle.ends)
    idle.open("d")
    idle.send("d", b"room")
    idle.hear_until(lambda: idle.got["d"] == b"room")


def test_a_session_on_which_nothing_moves_is_ended_and_its_place_is_free(idle: ScriptedService) -> None:
    """A slow client that sends a byte now and then keeps its place, and nobody else's."""
    idle.start(ECHO_TO_TWO, max_sessions=2, idle_s=0.6)
    idle.wait_listening()
    idle.open("idle", "slow")
    while "idle" not in idle.ends:
        idle.send("slow", b".")
        idle.hear_until(lambda: idle.hear() is not None)
    assert idle.ends == {"idle": "session_idle"}
    assert idle.got["slow"]
    for name in (f"next{number}" for number in range(100)):  # as soon as the service has seen it, too
        idle.open(name)
        idle.send(name, b"hello")
        idle.hear_until(lambda: name in {*idle.got, *idle.ends})  # noqa: B023 - called at once
        if name in idle.got:
            break
    assert idle.got[name] == b"hello"


def test_an_instance_that_nobody_knows_has_no_sessions(service: ScriptedService) -> None:
    service.link.say(SessionOpen("a", "inst-none"))
    service.hear_until(lambda: "a" in service.ends)
    assert service.ends == {"a": "service_unknown"}
    service.send("a", b"ignored")


def test_a_service_that_never_listens_is_ended(idle: ScriptedService) -> None:
    idle.start(ENDLESS, fuel_per_session=10**11, listen_within_s=0.3)
    ended = idle.wait_ended()
    assert (ended.code, idle.listening) == ("service_not_listening", 0)
    assert ended.what == "the instance did not call svc_listen in time"


def test_a_session_that_is_never_accepted_is_ended_and_the_instance_goes_on(idle: ScriptedService) -> None:
    idle.start(
        tasklet(f"{LISTEN} (loop $again (br $again)) (i32.const 0)"), fuel_per_session=10**12, listen_within_s=0.5
    )
    idle.wait_listening()
    idle.open("a")
    idle.send("a", b"hello")
    idle.hear_until(lambda: "a" in idle.ends)
    assert idle.ends == {"a": "service_not_listening"}
    assert idle.ended is None


@pytest.mark.parametrize("limits", [{"memory_bytes": 2**33}, {"fuel_per_session": 0}], ids=["memory", "fuel"])
def test_what_no_tasklet_may_have_is_not_started(idle: ScriptedService, limits: dict[str, int]) -> None:
    idle.start(ECHO, is_refused=True, **limits)
    assert idle.wait_ended().code == "limit_exceeded"


# --- how an instance ends -----------------------------------------------------------------------------------------


def test_its_end_is_told_with_its_log_and_a_receipt_that_holds(house: ServiceHouse, idle: ScriptedService) -> None:
    words = tasklet(f"{BEGIN} {dropped('log_write', 0, 5)} (i32.const 0)", top=text_at(0, "words"))
    idle.start(words)
    idle.wait_listening()
    idle.open("a")
    ended = idle.wait_ended()
    assert (ended.code, ended.log, ended.sessions_served) == ("finished", "words", 1)
    assert idle.ends == {"a": "session_closed"}
    ca_pem = (house.scheduler.folder / "trust" / "ca.pem").read_text()
    receipt = open_signed_by_cell(ended.receipt, InstanceReceipt, ca_pem, at_field="ended_at")
    assert (receipt.instance_id, receipt.code, receipt.fuel_used) == (idle.instance_id, "finished", ended.fuel_used)
    assert receipt.fuel_used > 0


@pytest.mark.parametrize(
    ("run", "code"),
    [
        ("unreachable", "trapped"),
        ("(loop $again (br $again))", "fuel_exhausted"),
        (f"{GROW} unreachable", "memory_exceeded"),
        ("(return (i32.const 7))", "program_error"),
    ],
    ids=["trap", "fuel", "memory", "error"],
)
def test_whatever_ends_an_instance_ends_its_sessions_with_the_same_code(
    idle: ScriptedService, run: str, code: str
) -> None:
    idle.start(tasklet(f"{LISTEN} {ACCEPT} {run} (i32.const 0)"), fuel_per_session=10**6)
    idle.wait_listening()
    idle.open("a", "b")
    assert idle.wait_ended().code == code
    idle.hear_until(lambda: len(idle.ends) == 2)
    assert set(idle.ends.values()) == {code}


def test_the_next_instance_goes_on_the_same_leases(house: ServiceHouse, idle: ScriptedService) -> None:
    """A tasklet that crashed is started again where it was."""
    module = tasklet(f"{LISTEN} {ACCEPT} unreachable")
    idle.start(module)
    idle.wait_listening()
    idle.open("a")
    assert idle.wait_ended().code == "trapped"
    assert idle.torn_down == []
    second = house.service()
    second.cpu, second.listener = idle.cpu, idle.listener
    second.start(module)
    second.wait_listening()
    second.open("b")
    assert second.wait_ended().code == "trapped"
    second.clear_away()


def test_a_process_that_is_killed_is_seen_and_told(service: ScriptedService) -> None:
    service.open("a")
    service.send("a", b"hello")
    service.hear_until(lambda: service.got["a"] == b"hello")
    os.kill(process_of(service), signal.SIGKILL)
    ended = service.wait_ended()
    assert ended.code == "worker_lost"
    assert "SIGKILL" in ended.what
    assert service.ends == {"a": "worker_lost"}


def test_a_stop_is_at_once_and_kills_the_process(service: ScriptedService) -> None:
    pid = process_of(service)
    service.open("a")
    service.link.say(StopInstance(service.instance_id, "budget_exceeded"))
    assert service.wait_ended().code == "budget_exceeded"
    assert service.ends == {"a": "budget_exceeded"}
    assert not is_there(pid)


# --- draining -----------------------------------------------------------------------------------------------------


def test_a_drain_loses_no_session_that_is_under_way(service: ScriptedService) -> None:
    names = [f"s{number}" for number in range(16)]
    service.open(*names)
    service.link.say(*(SessionData(name, b"before;") for name in names))
    service.hear_until(lambda: all(service.got[name] for name in names))
    service.link.say(DrainInstance(service.instance_id, 2, 30.0))
    late = [f"late{number}" for number in range(100)]
    while not service.ends:  # the drain is made durable first
        names.append(late.pop())
        service.open(names[-1])
        service.send(names[-1], b"before;")
        service.hear_until(lambda: names[-1] in {*service.got, *service.ends})
    refused = names.pop()
    assert service.ends == {refused: "draining"}
    service.link.say(*(SessionData(name, b"after") for name in names))
    service.hear_until(lambda: all(service.got[name] == b"before;after" for name in names))
    service.finish(*names)
    assert service.wait_ended().code == "finished"
    assert service.ends == {refused: "draining", **dict.fromkeys(names, "")}


def test_a_drain_ends_at_its_deadline_whatever_the_clients_do(service: ScriptedService) -> None:
    service.open("a")
    service.send("a", b"hello")
    service.hear_until(lambda: service.got["a"] == b"hello")
    service.link.say(DrainInstance(service.instance_id, 2, 0.5))
    assert service.wait_ended().code == "deadline_exceeded"
    assert service.ends == {"a": "deadline_exceeded"}


# --- leases -------------------------------------------------------------------------------------------------------


def test_an_instance_goes_on_as_long_as_its_leases_are_renewed(idle: ScriptedService) -> None:
    idle.start(ECHO, max_sessions=1024, ttl_s=LEASE_S)
    idle.wait_listening()
    began_at = time.monotonic()
    generation = 1
    while time.monotonic() - began_at < LEASE_S + 1.0:
        generation += 1
        idle.lease(idle.cpu, "cpu", 1, generation=generation, ttl_s=LEASE_S)
        idle.lease(idle.listener, "listener", 8080, generation=generation, ttl_s=LEASE_S)
        idle.open(f"s{generation}")
        idle.send(f"s{generation}", b"hello")
        idle.hear_until(lambda: idle.got[f"s{generation}"] == b"hello")  # noqa: B023 - called at once
        time.sleep(0.5)
    assert (idle.ends, idle.ended) == ({}, None)


def test_a_revoked_listener_lease_fences_at_once(service: ScriptedService) -> None:
    pid = process_of(service)
    service.open("a")
    service.send("a", b"hello")
    service.hear_until(lambda: service.got["a"] == b"hello")
    service.link.say(
        frames.RevokeLease(service.listener, 1, 30.0),
        SessionData("a", b"more"),
        SessionOpen("b", service.instance_id),
    )
    assert service.wait_ended().code == "service_fenced"
    service.hear_until(lambda: service.listener in service.torn_down)
    assert service.got["a"] == b"hello"
    assert service.ends == {"a": "service_fenced", "b": "service_fenced"}
    assert not is_there(pid)


def test_without_a_link_the_cell_itself_ends_an_instance_whose_lease_runs_out(
    house: ServiceHouse, idle: ScriptedService
) -> None:
    """The partition: nobody renews, nobody tells, and nobody is served."""
    idle.start(ECHO, max_sessions=1024, ttl_s=4.0)
    idle.wait_listening()
    pid = process_of(idle)
    house.link.close()
    until = time.monotonic() + 20.0
    while is_there(pid):
        assert time.monotonic() < until
        time.sleep(0.05)
    house.next_link().welcome()
    assert idle.wait_ended().code == "service_fenced"
    idle.open("a")
    idle.hear_until(lambda: "a" in idle.ends)
    assert idle.ends == {"a": "service_unknown"}


# --- the link and the daemon --------------------------------------------------------------------------------------


def test_a_new_link_ends_the_sessions_and_finds_the_instance_listening(
    house: ServiceHouse, service: ScriptedService
) -> None:
    service.open("a")
    service.send("a", b"hello")
    service.hear_until(lambda: service.got["a"] == b"hello")
    house.link.close()
    service.forget()
    house.next_link().welcome()
    service.wait_listening()
    service.send("a", b"lost")
    service.open("b")
    service.send("b", b"again")
    service.hear_until(lambda: service.got["b"] == b"again")
    assert "a" not in service.got


def test_a_daemon_that_was_killed_says_that_the_instance_is_lost(house: ServiceHouse, service: ScriptedService) -> None:
    pid = process_of(service)
    assert house.scheduler.daemon is not None
    house.scheduler.daemon.end(signal.SIGKILL)
    house.scheduler.daemon.discard()
    house.scheduler.start_cell()
    assert house.next_link().welcome().unacknowledged == (service.instance_id,)
    assert service.wait_ended().code == "cell_lost"
    assert not is_there(pid)
