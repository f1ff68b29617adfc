"""What every call of every emulated cloud passes through, in this order."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from grafos_core.clock import VirtualClock
from grafos_emulators.boot.driver import NoDriver
from grafos_emulators.faults import Effect, ErrorClass, Fault, FaultPlan, FaultRule
from grafos_emulators.gate import CloudCall, Gate
from grafos_emulators.http import DropConnectionError, Response
from grafos_emulators.journal import Journal
from grafos_emulators.lifecycle import LifecycleTimes
from grafos_emulators.world import World

CHANGE = CloudCall("gcp", "compute", "instances.insert", "us-east1", mutating=True, request_id="r", token="t")
LAUNCH = replace(CHANGE, launches=True, spot=True)
READ = CloudCall("gcp", "compute", "instances.get", "us-east1", mutating=False, request_id="r")


class Steps:
    """A gate whose every step leaves its name in ``taken``."""

    def __init__(self) -> None:
        self.clock, self.journal, self.taken = VirtualClock(1000.0), Journal(), list[str]()
        self.world = World(clock=self.clock, times=LifecycleTimes(), driver=NoDriver())
        self.gate = Gate(self.world, self.journal, FaultPlan(random.Random(1)))
        self.gate.hook = self.hook
        self.world.at(self.clock.monotonic(), lambda: self.taken.append("time"))
        self.drops_at = ""

    def hook(self, phase: str, action: str, parameters: Mapping[str, Any]) -> None:
        self.taken.append(phase)
        if phase == self.drops_at:
            raise DropConnectionError

    def befalls(self, effect: Effect, **more: Any) -> None:
        self.gate.faults.add(FaultRule(Fault(effect, **more)))

    def passes(self, call: CloudCall = CHANGE) -> int:
        """The answer's status; 0 when the connection breaks."""

        def act(fault: Fault | None) -> Response:
            self.taken.append(f"act {fault.effect}" if fault else "act")
            return Response(200)

        def refuse(fault: Fault) -> Response:
            self.taken.append(f"refuse {fault.error}")
            return Response(503)

        try:
            return self.gate.pass_through(call, act, refuse).status
        except DropConnectionError:
            return 0

    @property
    def noted(self) -> tuple[int, str]:
        (call,) = self.journal.calls()
        return call.status, call.result


@pytest.fixture
def steps() -> Iterator[Steps]:
    made = Steps()
    made.world.start()
    yield made
    made.world.close()


def test_time_then_hook_then_effect_then_hook(steps: Steps) -> None:
    assert steps.passes() == 200
    assert steps.taken == ["time", "before", "act", "after-effect"]
    assert steps.noted == (200, "ok")


def test_a_read_meets_no_hook(steps: Steps) -> None:
    assert steps.passes(READ) == 200
    assert steps.taken == ["time", "act"]


def test_a_refusal_has_no_effect(steps: Steps) -> None:
    steps.befalls(Effect.REFUSE, error=ErrorClass.QUOTA)
    assert steps.passes() == 503
    assert steps.taken == ["time", "before", "refuse quota"]
    assert steps.noted == (503, "HTTP503")


@pytest.mark.parametrize(
    ("effect", "taken"),
    [
        (Effect.LOST_REQUEST, ["time", "before"]),
        (Effect.LOST_ANSWER, ["time", "before", "act lost_answer", "after-effect"]),
    ],
)
def test_a_connection_that_a_fault_breaks_stands_in_the_journal(steps: Steps, effect: Effect, taken: list[str]) -> None:
    steps.befalls(effect)
    assert steps.passes() == 0
    assert steps.taken == taken
    assert steps.noted == (0, "dropped")


@pytest.mark.parametrize(
    ("phase", "taken"), [("before", ["time", "before"]), ("after-effect", ["time", "before", "act", "after-effect"])]
)
def test_a_connection_that_the_hook_breaks_stands_in_the_journal(steps: Steps, phase: str, taken: list[str]) -> None:
    steps.drops_at = phase
    assert steps.passes() == 0
    assert steps.taken == taken
    assert steps.noted == (0, "dropped")


def test_a_call_that_the_hook_stops_spends_no_rule(steps: Steps) -> None:
    steps.befalls(Effect.REFUSE)
    steps.drops_at = "before"
    steps.passes()
    assert [rule.times for rule in steps.gate.faults.rules()] == [1]


def test_a_late_answer_has_its_effect(steps: Steps) -> None:
    steps.befalls(Effect.DELAY, after_s=0.01)
    assert steps.passes() == 200
    assert steps.taken == ["time", "before", "act delay", "after-effect"]


@pytest.mark.parametrize(
    "effect", [Effect.OPERATION_ERROR, Effect.SAYS_DONE_AND_IS_NOT, Effect.LAUNCH_THEN_DIE, Effect.SPOT_NOTICE]
)
def test_what_only_a_cloud_can_do_is_left_to_it(steps: Steps, effect: Effect) -> None:
    steps.befalls(effect)
    assert steps.passes(LAUNCH) == 200
    assert steps.taken == ["time", "before", f"act {effect}", "after-effect"]


def test_a_read_spends_no_rule_that_only_a_change_can_carry_out(steps: Steps) -> None:
    steps.befalls(Effect.OPERATION_ERROR)
    assert steps.passes(READ) == 200
    assert [rule.times for rule in steps.gate.faults.rules()] == [1]


def test_a_bug_is_answered_and_noted(steps: Steps, capfd: pytest.CaptureFixture[str]) -> None:
    def fails(_: Fault | None) -> Response:
        raise KeyError("a bug")

    answer = steps.gate.pass_through(CHANGE, fails, lambda fault: Response(500, fault.error.encode()))
    assert (answer.status, answer.body) == (500, b"internal")
    assert steps.noted == (500, "HTTP500")
    assert "a bug" in capfd.readouterr().err


def test_the_journal_has_the_worlds_time_and_the_callers_token(steps: Steps) -> None:
    steps.clock.advance(60.0)
    steps.passes()
    (call,) = steps.journal.calls()
    assert (call.at, call.provider, call.action, call.token, call.mutating) == (
        *(1060.0, "gcp", "instances.insert", "t", True),
    )
