"""Fault rules: which call they befall, how often, and by whose chance."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from grafos_emulators.faults import ANY_CALL, Effect, ErrorClass, Fault, FaultPlan, FaultRule, carried

THROTTLED = Fault(Effect.REFUSE, ErrorClass.THROTTLED, retry_after_s=3.0)
LOST = Fault(Effect.LOST_ANSWER)


def plan(*rules: FaultRule, seed: int = 1) -> FaultPlan:
    made = FaultPlan(random.Random(seed))
    for rule in rules:
        made.add(rule)
    return made


def test_a_rule_befalls_the_calls_that_it_is_about_and_no_others() -> None:
    faults = plan(FaultRule(LOST, provider="gcp", operation="*.insert", fields={"machine_type": "e2-*"}, times=0))
    assert faults.draw("gcp", "instances.insert", {"machine_type": "e2-medium"}) == LOST
    assert faults.draw("gcp", "instances.insert", {"machine_type": "n2-standard-2"}) is None
    assert faults.draw("gcp", "instances.insert", {}) is None
    assert faults.draw("gcp", "instances.delete", {"machine_type": "e2-medium"}) is None
    assert faults.draw("aws", "instances.insert", {"machine_type": "e2-medium"}) is None


def test_a_rule_is_spent_after_its_times_and_the_next_one_follows() -> None:
    faults = plan(FaultRule(THROTTLED, times=2), FaultRule(LOST))
    assert [faults.draw("aws", "RunInstances", {}) for _ in range(4)] == [THROTTLED, THROTTLED, LOST, None]
    assert faults.rules() == ()


def test_the_rules_tell_what_is_left_of_them_and_can_be_cleared() -> None:
    faults = plan(FaultRule(THROTTLED, times=2), FaultRule(LOST, times=0))
    faults.draw("aws", "RunInstances", {})
    assert [rule.times for rule in faults.rules()] == [1, 0]
    assert faults.clear() == 2
    assert faults.draw("aws", "RunInstances", {}) is None


def test_rules_that_are_spent_are_not_counted_among_those_taken_back() -> None:
    faults = plan(FaultRule(THROTTLED), FaultRule(LOST, times=2))
    faults.draw("aws", "RunInstances", {})
    assert faults.clear() == 1
    assert faults.clear() == 0


@pytest.mark.parametrize("effect", sorted(set(Effect) - ANY_CALL))
def test_a_rule_is_not_spent_on_a_call_that_cannot_carry_it_out(effect: Effect) -> None:
    faults = plan(FaultRule(Fault(effect)), FaultRule(LOST, times=0))
    read = carried(mutating=False, begins=True, launches=True, spot=True)
    assert faults.draw("azure", "virtualMachines.get", {}, read) == LOST
    launch = carried(mutating=True, begins=True, launches=True, spot=True)
    assert faults.draw("azure", "virtualMachines.createOrUpdate", {}, launch) == Fault(effect)


def test_what_befalls_a_machine_waits_for_its_launch_and_a_notice_for_a_spot_machine() -> None:
    network = carried(mutating=True, begins=True, launches=False, spot=False)
    machine = carried(mutating=True, begins=True, launches=True, spot=False)
    assert not {Effect.LAUNCH_THEN_DIE, Effect.SPOT_NOTICE} & network
    assert Effect.OPERATION_ERROR in network
    assert Effect.LAUNCH_THEN_DIE in machine
    assert Effect.SPOT_NOTICE not in machine


def test_what_is_done_when_it_is_answered_cannot_fail_afterwards() -> None:
    assert Effect.OPERATION_ERROR not in carried(mutating=True, begins=False, launches=False, spot=False)


def test_chance_is_seeded() -> None:
    def drawn(seed: int) -> list[Fault | None]:
        faults = plan(FaultRule(LOST, times=0, probability=0.5), seed=seed)
        return [faults.draw("aws", "RunInstances", {}) for _ in range(64)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert 8 < sum(fault is not None for fault in drawn(3)) < 56


@pytest.mark.parametrize(
    "wrong",
    [
        {"times": -1},
        {"probability": 1.5},
        {"probability": float("nan")},
        {"fault": Fault(Effect.DELAY, after_s=-1.0)},
        {"fault": Fault(Effect.REFUSE, ErrorClass.THROTTLED, retry_after_s=1e12)},
    ],
)
def test_a_rule_that_says_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a rule"):
        FaultRule(**{"fault": LOST, **wrong})


def test_fields_of_any_type_are_matched_by_their_text() -> None:
    faults = plan(FaultRule(LOST, fields={"MaxCount": "2", "Filters": "*"}))
    assert faults.draw("aws", "RunInstances", {"MaxCount": 2, "Filters": [{"a": 1}]}) == LOST


def test_threads_never_spend_a_rule_twice() -> None:
    faults = plan(FaultRule(LOST, times=100))

    def draw(_: int) -> Any:
        return faults.draw("aws", "RunInstances", {})

    with ThreadPoolExecutor(8) as pool:
        drawn = list(pool.map(draw, range(400)))
    assert sum(fault is not None for fault in drawn) == 100
