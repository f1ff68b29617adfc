"""The sessions of one instance at the daemon: no process, no link, and neither side is believed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from broker_bench import CPU, LISTENER, Bench
from hypothesis import given
from hypothesis import strategies as st

from grafos_cell import abi
from grafos_cell.blocks import BlockStore
from grafos_cell.run_leases import RunLeases
from grafos_cell.service_instance import Instance
from grafos_cell.service_messages import (
    Accepted,
    Bytes,
    Closed,
    Drain,
    FromInstance,
    Gone,
    HalfEnd,
    Offer,
    Room,
    ToInstance,
)
from grafos_cell.service_sessions import SILENT_S_MAX, WAITING_BYTES_MAX, ProtocolError, Sessions, ToClient
from grafos_core.tokens import Use
from grafos_scheduler.service_frames import (
    SESSION_DATA_BYTES_MAX,
    SESSION_WINDOW_BYTES,
    SessionCredit,
    SessionData,
    SessionEnd,
    SessionOpen,
    StartInstance,
)

FIRST = abi.FIRST_SESSION_HANDLE


class Table:
    """Both ends of an instance's sessions, on a table: what the guest and the clients were told."""

    def __init__(self, *, is_listening: bool = True, **changed: object) -> None:
        given = {
            "fuel_per_session": 100,
            "fuel_per_s_max": 0,
            "max_sessions": 4,
            "idle_s": 60.0,
            "listen_within_s": 10.0,
        }
        limits = {**given, **changed}
        start = StartInstance(
            *("inst-1", "echo", 1, "acme", "p", "a" * 64, 8080),
            memory_bytes=65536,
            leases=(),
            tokens=(),
            drain_deadline_s=1.0,
            **limits,  # type: ignore[arg-type]
        )
        self.now = 0.0
        self.to_guest: list[ToInstance] = []
        self.to_client: list[ToClient] = []
        self.is_full = False
        self.sessions = Sessions(
            start, self.now, self.to_guest.append, self.to_client.append, is_full=lambda: self.is_full
        )
        self.sessions.has_begun(self.now)
        if is_listening:
            self.sessions.listens(int(limits["max_sessions"]))  # type: ignore[call-overload]

    def begin(self, *names: str, says: bytes = b"x") -> None:
        for name in names:
            self.sessions.begin(name, self.now)
            self.sessions.client_sent(name, says, self.now)

    def guest(self, *messages: FromInstance) -> None:
        for message in messages:
            self.sessions.guest_said(message, self.now)  # type: ignore[arg-type]

    def wait(self, seconds: float) -> str:
        self.now += seconds
        return self.sessions.tick(self.now)

    @property
    def ends(self) -> dict[str, str]:
        return {frame.session_id: frame.code for frame in self.to_client if isinstance(frame, SessionEnd)}

    @property
    def offered(self) -> list[int]:
        return [message.handle for message in self.to_guest if isinstance(message, Offer)]


@pytest.fixture
def table() -> Table:
    return Table()


# --- opening ------------------------------------------------------------------------------------------------------


def test_a_session_is_offered_with_what_its_client_sent_before(table: Table) -> None:
    table.begin("a", says=b"hello")
    assert table.to_guest == [Offer(FIRST), Bytes(FIRST, b"hello")]


def test_a_silent_client_is_offered_a_little_later_and_holds_up_nobody(table: Table) -> None:
    table.sessions.begin("silent", 0.0)
    table.begin("b")
    assert table.to_guest == [Offer(FIRST), Bytes(FIRST, b"x")]
    table.wait(SILENT_S_MAX)
    assert table.offered == [FIRST, FIRST + 1]


def test_before_it_listens_nobody_is_let_in() -> None:
    table = Table(is_listening=False)
    table.begin("a")
    assert (table.ends, table.to_guest) == ({"a": "service_not_listening"}, [])
    assert table.wait(9.9) == ""
    assert table.wait(0.2) == "service_not_listening"


def test_what_is_gone_counts_until_the_guest_has_closed_it(table: Table) -> None:
    table.begin("a", "b", "c", "d")
    table.sessions.client_ended("a", "interrupted", table.now)
    assert table.to_guest[-1] == Gone(FIRST)
    table.begin("e")
    assert table.ends == {"e": "sessions_exhausted"}
    table.guest(Closed(FIRST, 0))
    table.begin("f")
    assert table.ends == {"e": "sessions_exhausted"}
    assert table.sessions.open == 4


def test_a_session_is_begun_once(table: Table) -> None:
    table.begin("a")
    table.sessions.begin("a", table.now)
    assert table.offered == [FIRST]


def test_a_handle_is_not_given_out_again_before_its_turn(table: Table) -> None:
    for number in range(10):
        table.begin(f"s{number}")
        table.guest(Closed(FIRST + number, 0))
    assert table.offered == list(range(FIRST, FIRST + 10))


# --- fuel ---------------------------------------------------------------------------------------------------------


def test_the_cap_lets_sessions_wait_until_there_is_fuel_for_them() -> None:
    table = Table(fuel_per_s_max=200)
    table.begin("a", "b", "c")
    assert len(table.offered) == 2  # a second's worth at once
    table.wait(0.25)
    assert len(table.offered) == 2
    table.wait(0.25)
    assert len(table.offered) == 3
    assert table.sessions.fuel_given == 400  # and the one with which it began


def test_a_session_that_costs_more_than_a_second_s_fuel_has_its_turn_all_the_same() -> None:
    table = Table(fuel_per_s_max=10)
    table.begin("a", "b")
    assert len(table.offered) == 1
    table.wait(9.0)
    assert len(table.offered) == 1
    table.wait(1.0)
    assert len(table.offered) == 2


def test_a_session_that_waits_too_long_for_fuel_is_ended() -> None:
    table = Table(fuel_per_s_max=1)
    table.begin("a", "b")
    table.guest(Accepted(FIRST, 0))
    table.wait(10.0)
    assert table.ends == {"b": "service_not_listening"}
    assert table.sessions.open == 1


# --- bytes --------------------------------------------------------------------------------------------------------


def test_what_the_guest_writes_is_cut_into_frames_and_ends_after_its_bytes(table: Table) -> None:
    table.begin("a")
    data = bytes(range(256)) * 1000
    table.guest(Accepted(FIRST, 0), Bytes(FIRST, data), Closed(FIRST, 50))
    parts = [frame.data for frame in table.to_client if isinstance(frame, SessionData)]
    assert b"".join(parts) == data
    assert max(map(len, parts)) == SESSION_DATA_BYTES_MAX
    assert table.to_client[-2:] == [SessionEnd("a", ""), SessionEnd("a", "session_closed")]


def test_a_client_that_could_still_send_is_told_that_nobody_takes_it(table: Table) -> None:
    table.begin("done", "sends")
    table.sessions.client_ended("done", "", table.now)
    table.guest(Accepted(FIRST, 0), Accepted(FIRST + 1, 0), Closed(FIRST, 0), Closed(FIRST + 1, 0))
    assert [end for end in table.to_client if isinstance(end, SessionEnd)] == [
        SessionEnd("done", ""),
        SessionEnd("sends", ""),
        SessionEnd("sends", "session_closed"),
    ]


def test_what_a_client_says_bit_by_bit_to_a_guest_that_does_not_read_is_joined(table: Table) -> None:
    table.begin("a")
    table.guest(Accepted(FIRST, 0), Bytes(FIRST, bytes(600)))
    table.is_full = True
    before = len(table.to_guest)
    for letter in b"bit by bit":
        table.sessions.client_sent("a", bytes([letter]), table.now)
        table.sessions.client_took("a", 60, table.now)
    table.sessions.client_ended("a", "", table.now)
    assert len(table.to_guest) == before
    table.is_full = False
    table.sessions.tick(table.now)
    assert table.to_guest[before:] == [Bytes(FIRST, b"bit by bit"), Room(FIRST, 600), HalfEnd(FIRST)]
    table.sessions.tick(table.now)
    assert len(table.to_guest) == before + 3


def test_a_guest_that_reads_again_is_told_what_waited_for_it(table: Table) -> None:
    table.begin("a", "b")
    table.guest(Accepted(FIRST, 0), Accepted(FIRST + 1, 0))
    table.is_full = True
    table.sessions.client_sent("a", b"waits", table.now)
    table.is_full = False
    table.guest(Bytes(FIRST + 1, b"anything"))
    assert table.to_guest[-1] == Bytes(FIRST, b"waits")


def test_what_waits_for_a_session_that_is_gone_is_dropped(table: Table) -> None:
    table.begin("a")
    table.guest(Accepted(FIRST, 0))
    table.is_full = True
    table.sessions.client_sent("a", b"nobody's", table.now)
    table.sessions.client_ended("a", "interrupted", table.now)
    table.is_full = False
    table.sessions.tick(table.now)
    assert table.to_guest[-1] == Gone(FIRST)


def test_no_more_waits_for_a_guest_that_does_not_read_than_an_instance_may_have_waiting() -> None:
    table = Table(max_sessions=1024)
    table.is_full = True
    names = [f"client-{number}" for number in range(WAITING_BYTES_MAX // SESSION_WINDOW_BYTES + 1)]
    table.begin(*names, says=bytes(SESSION_WINDOW_BYTES))
    assert table.ends == {names[-1]: "limit_exceeded"}
    table.sessions.client_ended(names[0], "interrupted", table.now)
    table.begin("later", says=bytes(SESSION_WINDOW_BYTES))
    assert list(table.ends) == [names[-1]], "there is room again"


def test_a_client_that_sends_more_than_its_window_loses_its_session(table: Table) -> None:
    table.begin("a", says=bytes(SESSION_WINDOW_BYTES))
    table.sessions.client_sent("a", b"x", table.now)
    assert table.ends == {"a": "limit_exceeded"}


def test_credit_that_nobody_owes_ends_the_session(table: Table) -> None:
    table.begin("a")
    table.sessions.client_took("a", 1, table.now)
    assert table.ends == {"a": "limit_exceeded"}


def test_after_its_half_close_nothing_more_is_taken_from_a_client(table: Table) -> None:
    table.begin("a")
    table.sessions.client_ended("a", "", table.now)
    table.sessions.client_ended("a", "", table.now)
    table.sessions.client_sent("a", b"late", table.now)
    assert table.to_guest == [Offer(FIRST), Bytes(FIRST, b"x"), HalfEnd(FIRST)]


@pytest.mark.parametrize(
    "said",
    [
        [Bytes(FIRST, b"x")],
        [Accepted(FIRST, 0), Bytes(FIRST, bytes(SESSION_WINDOW_BYTES + 1))],
        [Accepted(FIRST, 0), Accepted(FIRST, 0)],
        [Accepted(FIRST + 1, 0)],
        [Accepted(FIRST, 201)],
        [Accepted(FIRST, 50), Closed(FIRST, 49)],
        [Accepted(FIRST, 0), Room(FIRST, 2)],
        [Accepted(FIRST, 0), Room(FIRST, -1)],
        [Closed(FIRST, 0), Closed(FIRST, 0)],
    ],
    ids=lambda said: " ".join(type(message).__name__ for message in said),
)
def test_a_process_that_says_what_it_cannot_say_is_found_out(table: Table, said: list[FromInstance]) -> None:
    table.begin("a")
    with pytest.raises(ProtocolError):
        table.guest(*said)


def test_it_listens_once_and_for_no_more_than_it_may(table: Table) -> None:
    with pytest.raises(ProtocolError):
        table.sessions.listens(1)
    with pytest.raises(ProtocolError):
        Table(is_listening=False).sessions.listens(5)


# --- time and ends ------------------------------------------------------------------------------------------------


def test_a_session_lives_as_long_as_either_side_moves_a_byte(table: Table) -> None:
    table.begin("a")
    table.guest(Accepted(FIRST, 0))
    table.wait(59.0)
    table.guest(Bytes(FIRST, b"x"))
    table.wait(59.0)
    table.sessions.client_took("a", 1, table.now)
    table.wait(59.0)
    table.sessions.client_sent("a", b"x", table.now)
    assert table.wait(59.0) == ""
    assert table.ends == {}
    table.wait(1.0)
    assert table.ends == {"a": "session_idle"}
    assert table.to_guest[-1] == Gone(FIRST)


def test_a_session_that_is_not_accepted_is_ended_and_the_guest_told(table: Table) -> None:
    table.begin("a")
    assert table.wait(10.0) == ""
    assert table.ends == {"a": "service_not_listening"}
    assert table.to_guest[-1] == Gone(FIRST)


def test_a_client_that_sends_on_gains_no_time_at_a_guest_that_does_not_accept_it(table: Table) -> None:
    table.begin("a")
    for _ in range(10):
        table.wait(1.0)
        table.sessions.client_sent("a", b"x", table.now)
    assert table.ends == {"a": "service_not_listening"}


def test_a_drain_takes_nobody_new_and_goes_on_with_whoever_is_there(table: Table) -> None:
    table.sessions.begin("silent", table.now)
    table.begin("a")
    table.sessions.drain()
    table.sessions.drain()
    table.begin("late")
    assert table.ends == {"late": "draining"}
    assert Drain() not in table.to_guest  # it might return, and the silent one had come before
    table.wait(1.0)
    table.wait(1.0)
    assert table.to_guest[-2:] == [Offer(FIRST + 1), Drain()]
    assert table.to_guest.count(Drain()) == 1


def test_a_drain_is_not_held_up_by_who_leaves_before_it_is_offered(table: Table) -> None:
    table.sessions.begin("silent", table.now)
    table.sessions.drain()
    table.sessions.client_ended("silent", "interrupted", table.now)
    assert table.to_guest == [Drain()]


def test_a_guest_that_listens_after_the_drain_began_hears_of_it() -> None:
    """It had no process yet; without the word it would wait for clients until the drain's deadline."""
    table = Table(is_listening=False)
    table.sessions.drain()
    assert table.to_guest == []
    table.sessions.listens(4)
    assert table.to_guest == [Drain()]


def test_a_guest_that_returns_ends_what_it_accepted_well_and_turns_away_the_rest(table: Table) -> None:
    table.begin("a", "b")
    table.guest(Accepted(FIRST, 0))
    table.sessions.client_ended("a", "", table.now)
    table.sessions.end_in_order()
    assert table.ends == {"a": "", "b": "draining"}


def test_after_the_end_nothing_goes_to_a_client_any_more(table: Table) -> None:
    table.begin("a")
    table.guest(Accepted(FIRST, 0))
    table.sessions.end_all("service_fenced")
    told = list(table.to_client)
    table.guest(Bytes(FIRST, b"late"), Room(FIRST, 1), Closed(FIRST, 0))
    table.sessions.client_sent("a", b"late", table.now)
    assert table.to_client == told


def test_who_comes_after_the_end_is_told_how_it_ended(table: Table) -> None:
    """The process takes a moment to be gone, and nobody may be forgotten meanwhile."""
    table.begin("a")
    table.sessions.close("trapped")
    table.sessions.close("worker_lost")
    table.begin("b")
    assert table.ends == {"a": "trapped", "b": "trapped"}


def test_a_link_that_ends_takes_its_sessions_and_not_those_after_it(table: Table) -> None:
    table.begin("a")
    table.sessions.end_all("scheduler_unreachable")
    table.begin("b")
    assert table.ends == {"a": "scheduler_unreachable"}
    assert table.sessions.open == 1


# --- the lease ----------------------------------------------------------------------------------------------------


def test_when_the_clock_is_past_the_lease_not_a_frame_is_let_through(tmp_path: Path) -> None:
    """Before any tick of the broker has seen it."""
    bench = Bench()
    bench.serving()
    named = ("inst-1", "echo", 1, "ada", "p", "a" * 64)
    start = StartInstance(*named, 8080, 4, 65536, (CPU, LISTENER), ("", ""), 100, 0, 1.0)
    sent: list[object] = []
    leases = RunLeases(bench.state, bench.clock.now, BlockStore(tmp_path), Use(""), (), ())
    instance = Instance(start, bench.state, leases, bench.clock, sent.append)
    instance.told(SessionOpen("before", "inst-1"))
    assert instance.tick() == ""
    bench.clock.advance(60.0)
    instance.told(SessionOpen("after", "inst-1"))
    assert sent == [SessionEnd("before", "service_not_listening"), SessionEnd("after", "service_fenced")]
    assert instance.tick() == "service_fenced"


# --- whatever happens ---------------------------------------------------------------------------------------------

ACTS: dict[str, Callable[[Table, str, int, int], object]] = {
    "open": lambda table, name, _, size: table.sessions.begin(name, table.now),
    "send": lambda table, name, _, size: table.sessions.client_sent(name, bytes(size // 4), table.now),
    "half": lambda table, name, _, size: table.sessions.client_ended(name, "", table.now),
    "gone": lambda table, name, _, size: table.sessions.client_ended(name, "interrupted", table.now),
    "take": lambda table, name, _, size: table.sessions.client_took(name, size, table.now),
    "accept": lambda table, _, handle, size: table.guest(Accepted(handle, table.sessions.fuel_used)),
    "write": lambda table, _, handle, size: table.guest(Bytes(handle, bytes(size))),
    "read": lambda table, _, handle, size: table.guest(Room(handle, size)),
    "close": lambda table, _, handle, size: table.guest(Closed(handle, table.sessions.fuel_used)),
    "wait": lambda table, _, handle, size: table.wait(size / SESSION_WINDOW_BYTES),
}


@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(ACTS)), st.integers(0, 5), st.integers(1, SESSION_WINDOW_BYTES)), max_size=60
    )
)
def test_no_order_of_things_makes_more_sessions_bytes_or_fuel_than_there_may_be(
    acts: list[tuple[str, int, int]],
) -> None:
    """Whoever does what it may not loses by it: a client its session, a guest its process."""
    table = Table(fuel_per_s_max=150, idle_s=5.0)
    with contextlib.suppress(ProtocolError):
        for act, number, size in acts:
            ACTS[act](table, f"s{number}", FIRST + number, size)
    sent = sum(len(message.data) for message in table.to_guest if isinstance(message, Bytes))
    credit = sum(frame.n_bytes for frame in table.to_client if isinstance(frame, SessionCredit))
    assert table.sessions.open <= 4
    assert sent <= len(table.offered) * SESSION_WINDOW_BYTES + credit
    assert table.sessions.fuel_given <= 100 + 150 + 150 * table.now
