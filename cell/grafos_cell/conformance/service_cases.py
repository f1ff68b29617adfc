"""Services: sections 4.1, 4.5, 10 and 11 of the ABI page. Each case plays an instance through a script of what its
clients do; the next message of the script comes whenever the guest waits, and at the end of it the instance drains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import msgspec

from grafos_cell import abi
from grafos_cell.conformance.case import Case, Expected, Row, judge
from grafos_cell.conformance.echo import echo_text
from grafos_cell.conformance.wat import call, dropped, tasklet_text, text_at
from grafos_cell.engine import Engine
from grafos_cell.run import LeaseAnswer
from grafos_cell.runtime import Runtime
from grafos_cell.service_messages import (
    Bytes,
    Drain,
    FromInstance,
    Gone,
    HalfEnd,
    Listen,
    Offer,
    Room,
    Serve,
    ToInstance,
)
from grafos_cell.svc_calls import ServiceCalls
from grafos_core.clock import SystemClock

PORT, SESSIONS, WINDOW = 8080, 1024, 256 * 1024
FIRST, SECOND = abi.FIRST_SESSION_HANDLE, abi.FIRST_SESSION_HANDLE + 1
LISTEN = dropped("svc_listen", 0, PORT, 4)
BEGIN = LISTEN + dropped("svc_accept", abi.LISTENER_HANDLE)


class ServiceCase(msgspec.Struct, frozen=True):
    """One instance of one module, what its clients do, how it ends, and what it said to them (None: not looked at)."""

    name: str
    rule: str
    source: str
    expected: Expected = Expected()
    script: tuple[ToInstance, ...] = ()
    said: tuple[FromInstance, ...] | None = None
    fuel: int = abi.FUEL_DEFAULT
    lease_status: int = abi.OK

    @property
    def section(self) -> str:
        return self.rule.partition(" ")[0]


class Scripted:
    """The daemon's end of an instance, from a script."""

    def __init__(self, case: ServiceCase) -> None:
        self._script: Iterator[ToInstance] = iter((*case.script, Drain()))
        self._lease_status = case.lease_status
        self.said: list[FromInstance] = []

    def send(self, message: FromInstance) -> None:
        self.said.append(message)

    def receive(self) -> ToInstance:
        message = next(self._script, None)
        if message is None:
            raise EOFError("it waits for ever")
        return message

    def listen(self, listen: Listen) -> LeaseAnswer:
        self.send(listen)
        return LeaseAnswer(self._lease_status)


def run_service_case(case: ServiceCase, engine: Engine | None = None) -> Row:
    """Plays the case in this process."""
    as_run = Case(case.name, case.rule, case.source, case.expected, input=None, fuel=case.fuel)
    module = as_run.module()
    spec, channel = as_run.spec(module), Scripted(case)
    serve = Serve(spec, PORT, SESSIONS, case.fuel, WINDOW)
    runtime = Runtime(SystemClock(), engine)
    try:
        outcome = runtime.run(runtime.load(module), spec, host_calls=partial(ServiceCalls, serve, channel))
    finally:
        runtime.close()
    row = judge(as_run, spec, outcome)
    said = tuple(message for message in channel.said if isinstance(message, Bytes | Room))
    if case.said is None or said == case.said:
        return row
    return row._replace(seen=f"{row.seen}; it said {said!r:.200}", is_as_expected=False)


def run_service_suite(cases: Iterable[ServiceCase]) -> list[Row]:
    """Plays the cases one after the other; one row each, in their order."""
    return [run_service_case(case) for case in cases]


def _answers(name: str, rule: str, code: str, answer: int, *script: ToInstance, **more: int) -> ServiceCase:
    """The run hook returns what the call answered."""
    expected = Expected("program_error" if answer else "finished", returned=answer)
    return ServiceCase(f"svc-{name}", rule, tasklet_text(code), expected, script, **more)  # type: ignore[arg-type]


def _listen(name: str, values: tuple[int, int, int], answer: int, rule: str = "4.5 svc_listen") -> ServiceCase:
    return _answers(f"listen-{name}", rule, call("svc_listen", *values), answer)


_OPEN = Offer(FIRST)
_READ, _WRITE = call("svc_read", FIRST, 0, 100), call("svc_write", FIRST, 0, 100)
_GONE = abi.DISCONNECTED
_UNKNOWN = abi.INVALID_ARGUMENT
_GROW = "(loop $again (br_if $again (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))"
_SPIN = "(loop $again (br $again)) (i32.const 0)"
_AT_THE_END = f"{BEGIN} (drop {_READ})"
_AFTER_CLOSE = BEGIN + dropped("svc_close", FIRST)

LISTEN_CASES = (
    _listen("port-of-its-lease", (0, PORT, SESSIONS), abi.LISTENER_HANDLE),
    _listen("port-of-another", (0, PORT + 1, 1), abi.CAPACITY_EXCEEDED),
    _listen("capability-that-is-none", (1, PORT, 1), _UNKNOWN),
    _listen("for-nobody", (0, PORT, 0), _UNKNOWN),
    _listen("for-too-many", (0, PORT, SESSIONS + 1), abi.CAPACITY_EXCEEDED, "10 sessions of an instance"),
    _listen("port-is-unsigned", (0, -1, 1), abi.CAPACITY_EXCEEDED),
    _answers("listen-twice", "4.5 svc_listen", LISTEN + call("svc_listen", 0, PORT, 1), abi.CAPACITY_EXCEEDED),
    *(
        _answers(f"listen-{name}", "4.5 svc_listen", call("svc_listen", 0, PORT, 1), status, lease_status=status)
        for name, status in (
            ("after-its-lease", abi.LEASE_EXPIRED),
            ("fenced", abi.FENCED),
            ("revoked", abi.REVOKED),
        )
    ),
)

WAIT_CASES = (
    _answers("wait-without-a-listener", "4.5 svc_wait", call("svc_wait", 1), _UNKNOWN),
    _answers("wait-for-a-session", "4.5 svc_wait", LISTEN + call("svc_wait", 1), abi.LISTENER_HANDLE, _OPEN),
    _answers("wait-for-bytes", "4.5 svc_wait", BEGIN + call("svc_wait", 1), FIRST, _OPEN, Bytes(FIRST, b"x")),
    _answers("wait-for-an-end", "4.5 svc_wait", BEGIN + call("svc_wait", 1), FIRST, _OPEN, HalfEnd(FIRST)),
    _answers("wait-for-what-is-gone", "4.5 svc_wait", BEGIN + call("svc_wait", 1), FIRST, _OPEN, Gone(FIRST)),
    _answers("wait-in-vain", "4.1 -9", LISTEN + call("svc_wait", 1), abi.DRAINING),
    _answers(
        "wait-for-room-and-not-for-bytes",
        "4.5 svc_wait",
        "(drop (memory.grow (i32.const 8)))"
        + BEGIN
        + dropped("svc_write", FIRST, 0, WINDOW + 1)
        + dropped("svc_accept", 1)
        + call("svc_wait", 1),
        SECOND,
        _OPEN,
        Bytes(FIRST, b"a request"),
        Offer(SECOND),
        Bytes(SECOND, b"another"),
        fuel=10**6,
    ),
    _answers(
        "wait-passes-over-a-session-without-room",
        "4.5 svc_wait",
        "(drop (memory.grow (i32.const 8)))"
        + BEGIN
        + dropped("svc_write", FIRST, 0, WINDOW)
        + dropped("svc_accept", 1)
        + call("svc_wait", 1),
        SECOND,
        *(_OPEN, Bytes(FIRST, b"a request"), Offer(SECOND), Bytes(SECOND, b"another")),
        fuel=10**6,
    ),
    _answers(
        "wait-gives-each-its-turn",
        "4.5 svc_wait",
        BEGIN + dropped("svc_accept", 1) * 2 + dropped("svc_wait", 1) + call("svc_wait", 1),
        SECOND,
        *(_OPEN, Offer(SECOND), Bytes(FIRST, b"x"), Bytes(SECOND, b"x"), Offer(4)),
    ),
)

ACCEPT_CASES = (
    _answers("accept-without-a-listener", "4.5 svc_accept", call("svc_accept", 1), _UNKNOWN),
    _answers("accept-at-a-session", "4.5 svc_accept", BEGIN + call("svc_accept", FIRST), _UNKNOWN, _OPEN),
    _answers("accept", "4.5 svc_accept", LISTEN + call("svc_accept", 1), FIRST, _OPEN),
    _answers("accept-no-more", "4.5 svc_accept", BEGIN + call("svc_accept", 1), abi.DRAINING, _OPEN),
    _answers(
        "accept-passes-over-what-is-gone",
        "4.5 svc_accept",
        # What waits is looked at when the guest waits, so that the first two messages are there at the second call.
        f"{BEGIN} {dropped('svc_read', FIRST, 0, 9)} {call('svc_accept', 1)}",
        4,
        _OPEN,
        Offer(SECOND),
        Gone(SECOND),
        HalfEnd(FIRST),
        Offer(4),
    ),
)

READ_CASES = (
    _answers("read-of-nobody", "4.5 svc_read", BEGIN + call("svc_read", 77, 0, 1), _UNKNOWN, _OPEN),
    _answers("read-of-the-listener", "4.5 svc_read", BEGIN + call("svc_read", 1, 0, 1), _UNKNOWN, _OPEN),
    _answers("read-nowhere", "4.5 svc_read", BEGIN + call("svc_read", FIRST, -1, 2), _UNKNOWN, _OPEN),
    _answers("read-over-the-last-byte", "4.5 svc_read", BEGIN + call("svc_read", FIRST, 65_535, 2), _UNKNOWN, _OPEN),
    _answers("read-nothing", "4.5 svc_read", BEGIN + call("svc_read", FIRST, 0, 0), _UNKNOWN, _OPEN),
    _answers("read", "4.5 svc_read", BEGIN + _READ, 5, _OPEN, Bytes(FIRST, b"hello")),
    _answers("read-a-part", "4.5 svc_read", BEGIN + call("svc_read", FIRST, 0, 3), 3, _OPEN, Bytes(FIRST, b"hello")),
    _answers("read-at-the-end", "4.5 svc_read", BEGIN + _READ, 0, _OPEN, HalfEnd(FIRST)),
    _answers("read-of-what-is-gone", "4.5 svc_read", BEGIN + _READ, _GONE, _OPEN, Gone(FIRST)),
    ServiceCase(
        "svc-read-tells-that-there-is-room",
        "11",
        echo_text(),
        script=(_OPEN, Bytes(FIRST, bytes(WINDOW // 4)), HalfEnd(FIRST)),
        said=(*(Bytes(FIRST, bytes(4096)),) * 15, Room(FIRST, WINDOW // 4), Bytes(FIRST, bytes(4096))),
    ),
    ServiceCase(
        "svc-read-costs-what-it-moves",
        "4.5 svc_read",
        tasklet_text(f"{BEGIN} (drop {_READ}) (i32.const 0)"),
        Expected(fuel_used=19),
        (_OPEN, Bytes(FIRST, b"hello")),
    ),
)

WRITE_CASES = (
    _answers("write-to-nobody", "4.5 svc_write", BEGIN + call("svc_write", 77, 0, 1), _UNKNOWN, _OPEN),
    _answers("write-from-nowhere", "4.5 svc_write", BEGIN + call("svc_write", FIRST, -1, 2), _UNKNOWN, _OPEN),
    _answers("write-nothing", "4.5 svc_write", BEGIN + call("svc_write", FIRST, 0, 0), 0, _OPEN),
    _answers("write", "4.5 svc_write", BEGIN + _WRITE, 100, _OPEN),
    _answers("write-after-the-clients-end", "4.5 svc_write", _AT_THE_END + _WRITE, 100, _OPEN, HalfEnd(2)),
    _answers("write-after-close", "4.5 svc_write", _AFTER_CLOSE + _WRITE, _UNKNOWN, _OPEN),
    _answers("write-to-what-is-gone", "4.5 svc_write", _AT_THE_END + _WRITE, _GONE, _OPEN, Gone(FIRST)),
    ServiceCase(
        "svc-write-takes-a-window-and-waits-for-more",
        "10 window of a session",
        tasklet_text(
            f"""(drop (memory.grow (i32.const 8))) {BEGIN}
            (i32.sub {call("svc_write", FIRST, 0, WINDOW + 9)} {call("svc_write", FIRST, 0, 9)})"""
        ),
        Expected("program_error", returned=WINDOW - 7),
        (_OPEN, Room(FIRST, 7)),
        (Bytes(FIRST, bytes(WINDOW)), Bytes(FIRST, bytes(7))),
        fuel=10**6,
    ),
)

CLOSE_CASES = (
    _answers("close", "4.5 svc_close", BEGIN + call("svc_close", FIRST), 0, _OPEN),
    _answers("close-nobody", "4.5 svc_close", BEGIN + call("svc_close", 77), _UNKNOWN, _OPEN),
    _answers("close-twice", "4.5 svc_close", _AFTER_CLOSE + call("svc_close", FIRST), _UNKNOWN, _OPEN),
    _answers("close-what-is-gone", "4.5 svc_close", _AT_THE_END + call("svc_close", 2), 0, _OPEN, Gone(2)),
)

LIFE_CASES = (
    ServiceCase(
        "svc-echo-to-two",
        "11",
        echo_text(),
        script=(
            *(_OPEN, Bytes(FIRST, b"one"), Offer(SECOND), Bytes(SECOND, b"two")),
            *(Bytes(FIRST, b"three"), HalfEnd(SECOND), HalfEnd(FIRST)),
        ),
        said=(Bytes(FIRST, b"one"), Bytes(SECOND, b"two"), Bytes(FIRST, b"three")),
    ),
    ServiceCase("svc-never-listens", "11", tasklet_text(), script=(_OPEN,), said=()),
    ServiceCase("svc-never-accepts", "11", tasklet_text(LISTEN + _SPIN), Expected("fuel_exhausted"), (_OPEN,), ()),
    ServiceCase("svc-traps", "11", tasklet_text(BEGIN + "unreachable"), Expected("trapped"), (_OPEN,)),
    _answers(
        "accept-brings-fuel",
        "11",
        BEGIN + "(i32.gt_s (i32.wrap_i64 (call $fuel_remaining)) (i32.const 1900))",
        1,
        _OPEN,
        fuel=1000,
    ),
    _answers(
        "waiting-costs-nothing",
        "11",
        f"{LISTEN} (call $clock_ns) {dropped('svc_accept', 1)} (call $clock_ns) i64.sub i32.wrap_i64",
        -3,
        _OPEN,
    ),
    ServiceCase(
        "svc-allocates-without-end",
        "11",
        tasklet_text(
            f"{BEGIN} (loop $again (br_if $again (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable"
        ),
        Expected("memory_exceeded"),
        (_OPEN,),
    ),
    ServiceCase(
        "svc-log-is-kept",
        "11",
        tasklet_text(f"{BEGIN} {dropped('log_write', 0, 5)} (i32.const 0)", top=text_at(0, "hello")),
        Expected(log="hello"),
        (_OPEN,),
    ),
)

SERVICE_CASES = (
    *LISTEN_CASES,
    *WAIT_CASES,
    *ACCEPT_CASES,
    *READ_CASES,
    *WRITE_CASES,
    *CLOSE_CASES,
    *LIFE_CASES,
)
