"""Cells go over to another image one after the other: a successor beside the old one, which ends when that is ready."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from crash_sweep import Abort
from image_ground import HOUR_S, Ground, image_ground, put_up
from msgspec.structs import replace
from registered import plan
from registered_operator import CELL, RegisteredOperator

from grafos_core import ledger as ledgers
from grafos_core.errors import GrafosError
from grafos_core.fabric import OPERATOR_ACCOUNT
from grafos_emulators.faults import Effect, ErrorClass, Fault, FaultRule
from grafos_stacks.cell_holds import open_hold
from grafos_stacks.inviting import Patience
from grafos_stacks.journal import StackRow, StackState
from grafos_stacks.making import opened
from grafos_stacks.publishing_end import unpublish
from grafos_stacks.records import CellHome, project_cells
from grafos_stacks.rolling import Rolled, cells_to_roll, is_to_roll, plan_roll, roll, successor_name, successor_of
from grafos_stacks.spec import STOCK, check_cell_id

SUCCESSOR = f"{CELL}-r2"


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with image_ground(tmp_path_factory.mktemp("clouds"), tmp_path_factory.mktemp("orchestrator"), "rolling") as made:
        yield made


@pytest.fixture
def operator(ground: Ground, tmp_path: Path) -> Iterator[RegisteredOperator]:
    """With a cell from one published image, and another image that was published since."""
    somebody = ground.operator("gcp", tmp_path)
    older = put_up(somebody, tmp_path, seed=next(SEEDS))
    somebody.provision(ttl_s=HOUR_S, image=older)
    newer = put_up(somebody, tmp_path, seed=next(SEEDS))
    yield somebody
    somebody.stop_at = None
    for row in somebody.hands().journal.stacks():
        if row.plan is not None and row.state is not StackState.GONE:
            somebody.teardown(row.stack)
    for stack in (older, newer):
        unpublish(somebody.hands(), stack)
    assert ground.clouds.world() == ()


SEEDS = itertools.count(20)


def rolled(operator: RegisteredOperator, image: str = "") -> tuple[Rolled, ...]:
    """As a person would who runs the command."""
    hands = operator.hands()
    turns = plan_roll(hands, cells_to_roll(hands), image, operator.bundles)
    return roll(hands, turns, operator.bundles, operator.project, operator.patience)


def living(operator: RegisteredOperator) -> list[str]:
    rows = operator.hands().journal.stacks()
    return [row.stack for row in rows if row.plan is not None and row.state is not StackState.GONE]


def held(operator: RegisteredOperator) -> list[str]:
    names = (CELL, SUCCESSOR)
    return [name for name in names if open_hold(operator.fabric, name) is not None]


def test_a_cell_goes_over_to_the_newest_image_and_keeps_its_end(operator: RegisteredOperator) -> None:
    before = CellHome(operator.fabric, CELL).record()
    [one] = rolled(operator)
    assert one.error is None
    assert one.record is not None
    assert one.torn is not None
    assert (one.cell_id, one.record.cell_id, one.torn.receipt.left) == (CELL, SUCCESSOR, 0)
    assert one.record.expires_at == pytest.approx(before.expires_at, abs=1)
    assert (len(operator.machines()), living(operator), held(operator)) == (1, [SUCCESSOR], [SUCCESSOR])
    assert [cell.cell_id for cell in project_cells(operator.project, "gcp")] == [SUCCESSOR]
    row = operator.hands().journal.stack(SUCCESSOR)
    assert row is not None
    assert row.plan is not None
    assert (row.replaces, row.plan.facts.image.name) == (CELL, operator.plan("another").facts.image.name)
    assert rolled(operator) == (Rolled(SUCCESSOR),), "there is nothing to do any more"


def test_killed_at_every_step_it_goes_on_with_one_successor(operator: RegisteredOperator) -> None:
    """Meanwhile one of both is always there, and never a third."""
    deaths = 0
    for moment in itertools.count():
        operator.stop_at = moment
        try:
            rolled(operator)
            break
        except Abort:
            deaths += 1
        operator.stop_at = None
        assert set(living(operator)) <= {CELL, SUCCESSOR}
        assert 1 <= len(operator.machines()) <= 2
    assert deaths > 10
    assert (len(operator.machines()), living(operator), held(operator)) == (1, [SUCCESSOR], [SUCCESSOR])


def test_without_room_under_the_cap_for_both_nothing_is_made_and_the_old_one_stays(
    operator: RegisteredOperator,
) -> None:
    account = operator.fabric.read_ledger().accounts[OPERATOR_ACCOUNT]
    cap, free = account.cap_micro_cents, account.free_micro_cents
    operator.fabric.book(lambda ledger: ledgers.set_cap(ledger, OPERATOR_ACCOUNT, cap - free))
    [one] = rolled(operator)
    operator.fabric.book(lambda ledger: ledgers.set_cap(ledger, OPERATOR_ACCOUNT, cap))
    assert one.error is not None
    assert (one.error.code, one.error.what.startswith(f"{CELL} stays")) == ("budget_exceeded", True)
    assert (len(operator.machines()), living(operator), held(operator)) == (1, [CELL], [CELL])


def test_a_successor_that_does_not_get_ready_is_torn_down_and_the_old_one_stays(
    ground: Ground, operator: RegisteredOperator
) -> None:
    operator.patience = Patience(enrol_s=0.05)
    [one] = rolled(operator)
    operator.patience = Patience()
    assert one.error is not None
    assert one.error.what.startswith(f"{CELL} stays: {SUCCESSOR}: ")
    assert "was torn down" in one.error.what
    assert (living(operator), held(operator)) == ([CELL], [CELL])
    with ground.orchestrator.client() as client:
        assert [view.cell_id for view in client.cells() if view.ready] == [CELL]


def test_a_successor_whose_machine_the_cloud_refuses_leaves_no_address_and_no_hold(
    ground: Ground, tmp_path: Path
) -> None:
    """On Azure that address is made before the machine, and bills; and the next roll may ask for another image."""
    operator = ground.operator("azure", tmp_path)
    older = put_up(operator, tmp_path, seed=next(SEEDS))
    operator.provision(ttl_s=HOUR_S, image=older)
    newer = put_up(operator, tmp_path, seed=next(SEEDS))
    before = {thing.kind for thing in ground.clouds.world()}
    count = len(ground.clouds.world())
    ground.clouds.faults.add(
        FaultRule(Fault(Effect.REFUSE, ErrorClass.QUOTA), operation="virtualMachines.createOrUpdate")
    )
    [one] = rolled(operator)
    assert one.error is not None
    assert one.error.code == "cloud_quota"
    assert f"what was begun of {SUCCESSOR} was removed" in one.error.what
    assert (living(operator), held(operator)) == ([CELL], [CELL])
    assert ({thing.kind for thing in ground.clouds.world()}, len(ground.clouds.world())) == (before, count)
    [one] = rolled(operator, image=STOCK)
    assert (one.error, living(operator), held(operator)) == (None, [SUCCESSOR], [SUCCESSOR])
    operator.teardown(SUCCESSOR)
    for stack in (older, newer):
        unpublish(operator.hands(), stack)


def test_one_cells_obstacle_keeps_no_other_from_going_over(operator: RegisteredOperator) -> None:
    operator.provision("late", ttl_s=HOUR_S)
    hands = operator.hands()
    row = hands.journal.stack("late")
    assert row is not None
    assert row.plan is not None
    hands.journal.write(row.moved(row.state, row.changed_at, extending_to=row.plan.expires_at + 60))
    turns = plan_roll(hands, cells_to_roll(hands), STOCK, operator.bundles)
    assert {turn.old.stack: turn.error and turn.error.code for turn in turns} == {CELL: None, "late": "stack_busy"}
    outcomes = {one.cell_id: one for one in roll(hands, turns, operator.bundles, operator.project, operator.patience)}
    assert outcomes["late"].error is not None
    assert (outcomes[CELL].error, set(living(operator))) == (None, {SUCCESSOR, "late"})
    late = [turn for turn in turns if turn.old.stack == "late"]
    with pytest.raises(GrafosError) as refused:
        plan_roll(hands, [late[0].old], STOCK, operator.bundles)
    assert refused.value.code == "stack_busy", "where nobody can go over, that is the command's end"


def test_a_cell_that_was_extended_since_is_planned_anew(operator: RegisteredOperator) -> None:
    hands = operator.hands()
    turns = plan_roll(hands, cells_to_roll(hands), "", operator.bundles)
    row = hands.journal.stack(CELL)
    assert row is not None
    assert row.plan is not None
    longer = replace(row.plan, expires_at=row.plan.expires_at + 60, held_until=row.plan.life.held_until + 60)
    hands.journal.write(row.moved(row.state, row.changed_at, plan=longer))
    [one] = roll(hands, turns, operator.bundles, operator.project, operator.patience)
    assert one.error is not None
    assert (one.error.code, living(operator)) == ("plan_stale", [CELL])


def test_a_successor_that_was_begun_before_an_extension_does_not_take_that_away(operator: RegisteredOperator) -> None:
    hands = operator.hands()
    [turn] = plan_roll(hands, cells_to_roll(hands), STOCK, operator.bundles)
    assert turn.plan is not None
    assert turn.old.plan is not None
    begun = opened(hands, turn.plan, replaces=CELL)
    longer = replace(turn.old.plan, expires_at=turn.plan.expires_at + 60, held_until=turn.plan.life.held_until + 60)
    hands.journal.write(turn.old.moved(turn.old.state, turn.old.changed_at, plan=longer))
    with pytest.raises(GrafosError) as refused:
        plan_roll(hands, cells_to_roll(hands), STOCK, operator.bundles)
    assert (refused.value.code, f"--cell-id {SUCCESSOR}" in refused.value.next) == ("plan_stale", True)
    hands.journal.write(begun.moved(StackState.GONE, begun.changed_at))


def test_a_cell_that_cannot_be_rolled_is_refused_with_the_next_step(operator: RegisteredOperator) -> None:
    with pytest.raises(GrafosError) as refused:
        cells_to_roll(operator.hands(), "nobody")
    assert (refused.value.code, refused.value.next) == ("cell_unknown", "grafos cloud ls")
    operator.joining = "none"
    operator.provision("alone", ttl_s=HOUR_S)
    with pytest.raises(GrafosError) as refused:
        cells_to_roll(operator.hands(), "alone")
    assert refused.value.code == "unsupported"
    assert [row.stack for row in cells_to_roll(operator.hands())] == [CELL]


def known(name: str, state: StackState, made_at: float, replaces: str = "") -> StackRow:
    """As the journal has a cell."""
    return StackRow(name, "gcp", "us-central1", "1", state, made_at, made_at, plan=plan("gcp", name), replaces=replaces)


def test_a_cell_that_took_over_from_an_earlier_one_of_the_name_is_not_its_successor() -> None:
    """Else the new cell would be torn down, and nothing would stand in its place."""
    namesake = known(SUCCESSOR, StackState.MADE, 2.0, replaces=CELL)
    assert successor_of(known(CELL, StackState.MADE, 1.0), [namesake]) == namesake
    assert successor_of(known(CELL, StackState.MADE, 3.0), [namesake]) is None


def test_a_cell_that_ran_out_does_not_keep_the_others_from_going_over() -> None:
    row = known(CELL, StackState.MADE, 1.0)
    assert row.plan is not None
    end = row.plan.expires_at
    assert [is_to_roll(row, [], float(now)) for now in (end - 1, end)] == [True, False]


def test_the_successor_of_a_cell_with_the_longest_name_has_a_name_that_may_be() -> None:
    names = [successor_name(base, 2) for base in ("web-1", "w" * 30, "w" * 26 + "-1-a")]
    for name in names:
        check_cell_id(name)
    assert (names[0], names[1:]) == ("web-1-r2", ["w" * 27 + "-r2", "w" * 26 + "-r2"])
