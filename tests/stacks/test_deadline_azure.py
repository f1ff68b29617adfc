"""Azure's own deadline of a machine stands as soon as it can, in time or not at all, and is made again when lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
from forgotten_ground import HOUR_S, Ground, ground

from grafos_connectors.azure.kind_calls import SCHEDULES_API
from grafos_connectors.contract import CloudError
from grafos_core.clock import VirtualClock
from grafos_core.errors import GrafosError
from grafos_emulators.faults import Effect, ErrorClass, Fault, FaultRule
from grafos_emulators.gate import BEFORE
from grafos_stacks.azure import MAKE_AHEAD_S_MIN
from grafos_stacks.bill import DEAD_MAN_GRACE_S
from grafos_stacks.extending import Wish, extend
from grafos_stacks.looking import look
from grafos_stacks.making import pinned_plan
from grafos_stacks.plan import StackPlan

MAKE_MACHINE, MAKE_DEADLINE = "virtualMachines.createOrUpdate", "schedules.createOrUpdate"


@pytest.fixture
def azure(tmp_path: Path) -> Iterator[Ground]:
    clock = VirtualClock(time.time())
    with ground("azure", tmp_path, clock, boots=False) as one:
        yield one


def machines_at(one: Ground, operation: str) -> list[list[str]]:
    """The states of all machines whenever the operation is called; filled while it is."""
    seen: list[list[str]] = []

    def note(phase: str, action: str, parameters: Mapping[str, Any]) -> None:
        if (phase, action) == (BEFORE, operation):
            seen.append(one.states())

    one.clouds.hook = note
    return seen


def time_passes(one: Ground, until: float) -> None:
    one.sleep(until - one.clock.now())


def state_past(one: Ground, end: int) -> list[str]:
    """Of the machines, when the deadline's minute has passed and what it began has come to its end."""
    time_passes(one, end + 60)
    for _ in range(5):
        time_passes(one, one.clock.now() + 1)
        one.clouds.world()
    return one.states()


# --- as soon as it can --------------------------------------------------------------------------------------------


def test_the_deadline_is_asked_for_while_its_machine_is_made(azure: Ground) -> None:
    seen = machines_at(azure, MAKE_DEADLINE)
    azure.make(azure.plan(ttl_s=HOUR_S))
    assert seen == [["starting"]]
    changes = [call.action for call in azure.clouds.journal() if call.mutating]
    assert changes.index(MAKE_DEADLINE) == changes.index(MAKE_MACHINE) + 1
    azure.clouds.hook = None
    assert azure.torn_down().left == 0


def test_a_cloud_that_refuses_it_so_early_is_asked_again_when_the_machine_runs(azure: Ground) -> None:
    azure.clouds.faults.add(FaultRule(Fault(Effect.REFUSE, ErrorClass.DENIED), operation=MAKE_DEADLINE))
    seen = machines_at(azure, MAKE_DEADLINE)
    azure.make(azure.plan(ttl_s=HOUR_S))
    assert seen == [["starting"], ["running"]]
    azure.clouds.hook = None
    assert azure.torn_down().left == 0
    assert azure.clouds.world() == ()


def test_a_cloud_that_refuses_it_for_good_says_so_when_the_machine_runs(azure: Ground) -> None:
    azure.clouds.faults.add(FaultRule(Fault(Effect.REFUSE, ErrorClass.DENIED), operation=MAKE_DEADLINE, times=0))
    with pytest.raises(CloudError) as refused:
        azure.make(azure.plan(ttl_s=HOUR_S))
    assert refused.value.code == "cloud_denied"
    assert azure.torn_down().left == 0


def test_a_machine_that_fails_after_its_deadline_stood_leaves_nothing(azure: Ground) -> None:
    fault = Fault(Effect.OPERATION_ERROR, ErrorClass.QUOTA)
    azure.clouds.faults.add(FaultRule(fault, operation=MAKE_MACHINE))
    plan = azure.plan(ttl_s=HOUR_S)
    with pytest.raises(CloudError) as refused:
        azure.make(plan)
    assert refused.value.code == "cloud_quota"
    assert "schedule" not in {thing.kind for thing in azure.clouds.world()}
    azure.make(plan)  # the same command again: another machine, and a deadline of its own
    assert azure.states() == ["running"]
    assert [call.action for call in azure.clouds.journal()].count(MAKE_DEADLINE) == 2
    assert state_past(azure, plan.expires_at) == ["deallocated"]
    assert azure.torn_down().left == 0
    assert azure.clouds.world() == ()


# --- in time or not at all ----------------------------------------------------------------------------------------


def interrupted(one: Ground, operation: str, plan: StackPlan) -> None:
    """A provision that ends at the first call of the operation, which is refused."""
    one.clouds.faults.add(FaultRule(Fault(Effect.REFUSE, ErrorClass.DENIED), operation=operation))
    with pytest.raises(CloudError):
        one.make(plan)


def test_no_machine_is_made_whose_deadline_would_come_late(azure: Ground) -> None:
    plan = azure.plan(ttl_s=HOUR_S)
    interrupted(azure, "networkInterfaces.createOrUpdate", plan)
    time_passes(azure, plan.expires_at - MAKE_AHEAD_S_MIN + 1)
    for again in (lambda: azure.make(plan), lambda: pinned_plan(azure.hands(), plan.spec)):
        with pytest.raises(GrafosError) as refused:
            again()
        assert refused.value.code == "plan_stale"
        assert f"teardown azure --cell-id {plan.stack}" in refused.value.next
    assert azure.states() == []
    assert azure.torn_down().left == 0
    assert azure.clouds.world() == ()


def test_with_time_enough_the_machine_is_made_and_its_deadline_fires_in_time(azure: Ground) -> None:
    plan = azure.plan(ttl_s=HOUR_S)
    interrupted(azure, MAKE_MACHINE, plan)
    time_passes(azure, plan.expires_at - MAKE_AHEAD_S_MIN - 60)
    assert pinned_plan(azure.hands(), plan.spec) == plan
    azure.make(plan)
    assert state_past(azure, plan.expires_at) == ["deallocated"]
    assert azure.clock.now() <= plan.expires_at + DEAD_MAN_GRACE_S


def test_a_machine_that_is_there_gets_its_deadline_even_if_that_comes_late(azure: Ground) -> None:
    """A late one is better than none."""
    plan = azure.plan(ttl_s=HOUR_S)
    azure.clouds.faults.add(FaultRule(Fault(Effect.REFUSE, ErrorClass.DENIED), operation=MAKE_DEADLINE, times=2))
    with pytest.raises(CloudError):
        azure.make(plan)
    time_passes(azure, plan.expires_at - 60)
    assert pinned_plan(azure.hands(), plan.spec) == plan
    azure.make(plan)
    assert [thing.kind for thing in azure.clouds.world()].count("schedule") == 1
    assert azure.torn_down().left == 0


# --- made again when lost -----------------------------------------------------------------------------------------


def schedule_of(one: Ground) -> str:
    """The URL of the one schedule."""
    [schedule] = [thing.id for thing in one.clouds.world() if thing.kind == "schedule"]
    return f"{one.clouds.endpoint}{schedule}?api-version={SCHEDULES_API}"


def deleted(one: Ground) -> None:
    assert requests.delete(schedule_of(one), timeout=10).ok


def switched_off(one: Ground) -> None:
    off = {"properties": {"status": "Disabled"}}
    assert requests.patch(schedule_of(one), json=off, timeout=10).ok


@pytest.mark.parametrize("lose", [deleted, switched_off])
def test_an_extension_makes_a_deadline_again_that_somebody_took_away(
    lose: Callable[[Ground], None], azure: Ground
) -> None:
    plan = azure.plan(ttl_s=HOUR_S)
    azure.make(plan)
    azure.extended(plan)
    time_passes(azure, azure.clock.now() + HOUR_S)
    lose(azure)
    [layer] = [layer for layer in look(azure.hands(), plan.stack).layers if layer.by == "the cloud"]
    assert "deleted or switched off; grafos cloud extend" in layer.what
    later = int(extend(azure.hands(), plan.stack, Wish(more_s=HOUR_S), azure.folder).record.expires_at)
    [layer] = [layer for layer in look(azure.hands(), plan.stack).layers if layer.by == "the cloud"]
    assert (layer.what.partition(" ")[0], layer.at - later < 60) == ("deallocates", True)
    time_passes(azure, later - 5)
    assert azure.states() == ["running"]
    assert state_past(azure, later) == ["deallocated"]
    assert azure.torn_down().left == 0
    assert azure.clouds.world() == ()
