"""What ``SimFabric`` gives to somebody else's tests."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from grafos_core.errors import GrafosError
from grafos_testkit import Faults, InvariantError, SimFabric

SERVES_WITHIN_S = 60.0

STORY = """
from grafos_testkit import Faults, SimFabric

fabric = SimFabric({seed}, faults=Faults(until_s=40.0, kill=0.01, cut=0.01, lose=0.1, disk=0.001, crash=0.1),
                   orchestrated={orchestrated}, well_behaved=False)
runs = [fabric.submit(tenant, deadline_s=5.0) for tenant in ("ada", "grace", "lea")]
program = fabric.submit_program("ada", {{"split": (), "count": ("split",), "sum": ("split", "count")}})
service = fabric.deploy("grace", "echo", replicas=2)
fabric.visit(service)
region = fabric.lease_region("lea", 65536, 30.0)
fabric.run(10.0)
fabric.partition("cell-1")
fabric.kill("cell-2")
fabric.skew("cell-3", 2.0)
fabric.run(30.0)
fabric.settle()
print(fabric.trace_sha256, fabric.steps)
"""


def active(service: object) -> list[str]:
    return [one.cell_id for one in service.instances if one.state == "active"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("orchestrated", ["False", "True"], ids=["one scheduler's cells", "cells that enrol"])
def test_the_same_seed_is_the_same_story_to_the_byte_in_another_process(orchestrated: str) -> None:
    def told(seed: int, hash_seed: str) -> str:
        script = STORY.format(seed=seed, orchestrated=orchestrated)
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        return subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
        ).stdout

    assert told(11, "1") == told(11, "2")
    assert told(11, "1") != told(12, "1")


def test_a_run_finishes_and_costs_what_its_receipt_shows() -> None:
    fabric = SimFabric(1)
    run = fabric.submit("ada", deadline_s=10.0)
    fabric.run_until(lambda: run.over)
    assert run.view is not None
    assert run.view.state == "finished"
    assert fabric.spent_micro_cents("ada") == run.view.cost.micro_cents > 0
    assert fabric.spent_micro_cents("grace") == 0
    fabric.settle()


def test_a_step_is_a_committed_state_change() -> None:
    fabric = SimFabric(1)
    first, second = fabric.step(), fabric.step()
    assert (first.number, second.number) == (fabric.steps - 1, fabric.steps)
    assert second.batch
    assert second.process in ("scheduler", *fabric.cell_ids)


def test_a_program_runs_each_tasklet_after_those_that_it_needs_and_is_paid_from_one_hold() -> None:
    fabric = SimFabric(2)
    program = fabric.submit_program(
        "lea", {"split": (), "left": ("split",), "right": ("split",), "join": ("left", "right")}
    )
    fabric.run_until(lambda: program.view is not None)
    assert fabric.held_micro_cents("lea") == program.hold_micro_cents
    fabric.run_until(lambda: program.over)
    assert program.finished
    views = {name: task.view for name, task in program.tasks.items()}
    assert views["split"].ended_at <= min(views["left"].created_at, views["right"].created_at)
    assert fabric.spent_micro_cents("lea") == sum(view.cost.micro_cents for view in views.values())
    fabric.settle()


def test_a_service_survives_the_kill_of_a_cell_and_its_visitors_are_answered_again() -> None:
    fabric = SimFabric(3)
    service = fabric.deploy("ada", "echo", replicas=2)
    visitor = fabric.visit(service)
    fabric.run_until(lambda: len(active(service)) == 2 and visitor.answers > 0, SERVES_WITHIN_S)
    lost = active(service)[0]
    fabric.kill(lost)
    fabric.run_until(lambda: len(active(service)) == 2 and lost not in active(service), SERVES_WITHIN_S * 2)
    before = visitor.answers
    fabric.run_until(lambda: visitor.answers > before, SERVES_WITHIN_S)
    assert "FailoverStarted" in {record.kind for record in fabric.audit}
    fabric.settle()


def test_a_cell_that_is_cut_off_serves_no_longer_than_its_leases_and_comes_back() -> None:
    fabric = SimFabric(4)
    service = fabric.deploy("ada", "echo", replicas=1)
    fabric.run_until(lambda: active(service))
    [cell] = active(service)
    fabric.partition(cell)
    fabric.run_until(lambda: active(service) and cell not in active(service), SERVES_WITHIN_S * 2)
    assert not [one for one in fabric.cell(cell).instances.values() if one.state == "going"]
    fabric.heal(cell)
    fabric.run_until(lambda: fabric.state.link_of(cell) != 0)
    fabric.settle()


def test_a_region_is_renewed_and_given_back() -> None:
    fabric = SimFabric(5)
    region = fabric.lease_region("grace", 65536, 60.0)
    fabric.run_until(lambda: region.view is not None and region.view.state == "held")
    first = region.view.expires_at
    fabric.run(5.0)
    region.renew()
    fabric.run_until(lambda: region.view.expires_at > first)
    region.end()
    fabric.run_until(lambda: region.over)
    assert fabric.held_micro_cents("grace") == 0
    fabric.settle()


def test_what_was_acknowledged_outlives_a_scheduler_that_is_killed() -> None:
    fabric = SimFabric(6)
    run = fabric.submit("ada", deadline_s=30.0)
    fabric.run_until(lambda: run.view is not None)
    fabric.kill("scheduler")
    fabric.run(5.0)
    fabric.restart("scheduler")
    fabric.run_until(lambda: run.over)
    assert run.view.state == "finished"
    fabric.settle()


def test_a_disk_that_takes_nothing_ends_its_process_and_nothing_is_promised() -> None:
    fabric = SimFabric(7)
    fabric.fail_disk("scheduler")
    run = fabric.submit("ada")
    fabric.run(20.0)
    assert run.view is None
    fabric.mend_disk("scheduler")
    fabric.run_until(lambda: run.over)
    assert run.view.state == "finished"
    assert any("the disk of scheduler refuses" in line for line in fabric.trace)
    fabric.settle()


def test_a_budget_is_never_exceeded_and_the_refusal_is_told() -> None:
    fabric = SimFabric(8, tenants={"ada": 0.02, "grace": 5.0, "lea": 5.0})
    runs = [fabric.submit("ada", deadline_s=30.0) for _ in range(12)]
    fabric.run_until(lambda: all(run.over for run in runs))
    refused = [run for run in runs if run.view is None]
    assert refused
    assert {run.refusal.code for run in refused if run.refusal is not None} == {"budget_exceeded"}
    assert fabric.spent_micro_cents("ada") <= 20_000
    fabric.settle()


def test_what_must_be_true_and_is_not_names_seed_and_step() -> None:
    fabric = SimFabric(9)
    run = fabric.submit("ada")
    fabric.run_until(lambda: run.over)
    account = next(iter(fabric.state.ledger.accounts.values()))
    fabric.state.ledger.accounts[account.name] = type(account)(account.name, account.cap_micro_cents, 1, 7)
    fabric.submit("ada")
    with pytest.raises(InvariantError) as caught:
        fabric.run(5.0)
    assert caught.value.seed == 9
    assert caught.value.commits == fabric.steps
    assert "seed 9, step" in str(caught.value)


def wrong(fabric: SimFabric) -> dict[str, object]:
    return {
        "tenant_unknown": lambda: fabric.submit("nobody"),
        "cell_unknown": lambda: fabric.partition("cell-9"),
        "not_found": lambda: fabric.kill("cell-9"),
        "request_invalid": lambda: fabric.submit("ada", deadline_s=-1.0),
        "deadline_exceeded": lambda: fabric.run_until(lambda: False, 3.0),
    }


@pytest.mark.parametrize("code", sorted(wrong(SimFabric())))
def test_what_cannot_be_is_refused_with_a_code(code: str) -> None:
    with pytest.raises(GrafosError) as caught:
        wrong(SimFabric())[code]()  # type: ignore[operator]
    assert caught.value.code == code


@pytest.mark.parametrize(
    "ask",
    [
        lambda: SimFabric(cells=0),
        lambda: SimFabric(tenants={}),
        lambda: SimFabric().submit("ada", colour="red"),
        lambda: SimFabric().submit_program("ada", {"one": ("two",)}),
        lambda: SimFabric().deploy("ada", "echo", replicas=0),
        lambda: SimFabric().lease_region("ada", 8, 1.0),
        lambda: Faults(kill=2.0),
    ],
    ids=["no cell", "no tenant", "no such field", "no such tasklet", "no replica", "too short", "no chance"],
)
def test_nonsense_is_request_invalid(ask: object) -> None:
    with pytest.raises(GrafosError) as caught:
        ask()  # type: ignore[operator]
    assert caught.value.code == "request_invalid"


def test_an_operator_can_do_whatever_a_scheduler_decides_upon() -> None:
    from grafos_scheduler.events import DrainAsked

    fabric = SimFabric(10)
    fabric.tell(DrainAsked())
    run = fabric.submit("ada")
    fabric.run_until(lambda: run.refusal is not None)
    assert run.refusal is not None
    assert run.refusal.code == "draining"
