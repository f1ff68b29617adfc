"""The fabric's ledger moves into an orchestrator, is booked in there, and comes home: over TLS, with a real process."""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from crash_sweep import CELL, make, spec, undo
from far_ledger import (
    CAP,
    Keeper,
    contents,
    hold,
    hold_all_it_gets,
    keeper_of,
    killed_after,
    open_places,
    opened,
    refused,
    wanted,
)
from twin_ground import TwinGround

from grafos_core import ledger as ledgers
from grafos_core.booking import Ending
from grafos_core.clock import SystemClock
from grafos_core.errors import GrafosError
from grafos_core.fabric import OPERATOR_ACCOUNT, open_fabric, tenant_account
from grafos_core.ledger import Account
from grafos_core.ledger_place import Standing
from grafos_core.money import from_cents
from grafos_core.receipts import Settlement
from grafos_stacks.cell_holds import open_hold
from grafos_stacks.claiming import take_orchestrator
from grafos_stacks.handover import SliceWanted, hold_slice
from grafos_stacks.homecoming import ending_of, release_slices, spend_slices
from grafos_stacks.ledger_moves import bring_ledger_home, check_ledger_is_here, move_ledger
from grafos_stacks.lost_ledger import catch_up_ledger, reopen_ledger

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    """A claimed orchestrator; the fabric's ledger, with three holds, is still in its home."""
    yield from keeper_of(tmp_path)


# --- moving -------------------------------------------------------------------------------------------------------


def test_the_ledger_moves_whole_with_its_open_holds_and_is_closed_here(keeper: Keeper) -> None:
    fabric = keeper.opened
    before = fabric.read_ledger()
    assert move_ledger(fabric).standing is Standing.MOVED
    assert contents(fabric.read_ledger()) == contents(before), "fictional money keeps its mark"
    assert open_places(keeper) == ["there"]
    with pytest.raises(GrafosError) as error, fabric.ledger() as local:
        local.write(ledgers.set_cap(local.ledger, OPERATOR_ACCOUNT, 5))
    assert error.value.code == "ledger_elsewhere"
    assert move_ledger(fabric) == move_ledger(opened(keeper.name))


def test_everything_is_booked_there_from_then_on(keeper: Keeper) -> None:
    fabric = keeper.opened
    move_ledger(fabric)
    hold(fabric, "cell/new/1/6", from_cents(200))
    assert hold_slice(fabric, SystemClock(), wanted("new")).amount_micro_cents == from_cents(50)
    fabric.end(Ending("cell/web/1/5", actual_micro_cents=9, ended_at=8.0))
    spend_slices(fabric, "web")
    release_slices(fabric, "new")
    fabric.book(lambda ledger: ledgers.set_cap(ledger, OPERATOR_ACCOUNT, from_cents(700)))
    keeper.stop()
    keeper.start()
    ledger = opened(keeper.name).read_ledger()
    assert ledger.accounts[OPERATOR_ACCOUNT] == Account(OPERATOR_ACCOUNT, from_cents(700), 79, from_cents(200))
    assert ledger.accounts[tenant_account("default")] == Account("tenant/default", CAP, from_cents(50), 0)
    assert ledger.holds["cell/web/1/5"].ended_at == 8.0
    with fabric.ledger() as local:
        assert "cell/new/1/6" not in local.ledger.holds, "the home keeps the copy of the day of the move"


def test_a_home_without_the_way_there_says_where_the_ledger_is(keeper: Keeper) -> None:
    move_ledger(keeper.opened)
    plain = open_fabric(SystemClock(), keeper.name)
    assert refused(plain.read_ledger).code == "ledger_elsewhere"
    assert refused(plain.book, lambda _: ()).code == "ledger_elsewhere"


def test_those_who_hold_at_once_never_pass_the_cap(keeper: Keeper) -> None:
    fabric = keeper.opened
    move_ledger(fabric)
    fabric.book(lambda ledger: ledgers.set_cap(ledger, OPERATOR_ACCOUNT, from_cents(300) + 70 + 10))
    each = [SPAWN.Process(target=hold_all_it_gets, args=(keeper.name, f"w{n}", 5, 1)) for n in range(3)]
    for process in each:
        process.start()
    for process in each:
        process.join(60)
    assert sum(process.exitcode or 0 for process in each) == 10, "of fifteen there is room for ten"
    account = fabric.read_ledger().accounts[OPERATOR_ACCOUNT]
    assert account.free_micro_cents == 0


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_a_move_that_was_killed_goes_on_with_the_next_command_that_books(keeper: Keeper, steps: int) -> None:
    before = keeper.opened.read_ledger()
    assert killed_after(steps, keeper.name, "move")
    assert open_places(keeper) in ([], ["there"])
    hold(opened(keeper.name), "cell/next/1/9", 5)
    after = opened(keeper.name).read_ledger()
    assert after.holds.pop("cell/next/1/9").amount_micro_cents == 5
    assert after.holds == before.holds
    assert open_places(keeper) == ["there"]


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_homecoming_that_was_killed_goes_on_with_the_next_command_that_books(keeper: Keeper, steps: int) -> None:
    move_ledger(keeper.opened)
    before = keeper.opened.read_ledger()
    assert killed_after(steps, keeper.name, "home")
    assert open_places(keeper) in ([], ["there"])
    hold(opened(keeper.name), "cell/next/1/9", 5)
    after = opened(keeper.name).read_ledger()
    assert after.holds.pop("cell/next/1/9").amount_micro_cents == 5
    assert after.holds == before.holds
    assert open_places(keeper) == ["here"]


# --- coming home --------------------------------------------------------------------------------------------------


def test_it_comes_home_with_all_that_was_booked_and_may_move_again(keeper: Keeper) -> None:
    fabric = keeper.opened
    move_ledger(fabric)
    hold(fabric, "cell/new/1/6", from_cents(200))
    there = fabric.read_ledger()
    assert refused(check_ledger_is_here, fabric).code == "ledger_elsewhere"
    home = bring_ledger_home(fabric)
    assert home.place.is_here
    check_ledger_is_here(fabric)
    assert contents(fabric.read_ledger()) == contents(there)
    assert open_places(keeper) == ["here"]
    fabric.end(Ending("cell/new/1/6", actual_micro_cents=3))
    assert bring_ledger_home(fabric).place == home.place
    assert move_ledger(fabric).generation == 2
    assert fabric.read_ledger().holds["cell/new/1/6"].actual_micro_cents == 3
    assert fabric.read_ledger().accounts[tenant_account("default")] == there.accounts[tenant_account("default")]


def test_a_lost_orchestrators_ledger_is_opened_here_with_what_was_to_be_booked(keeper: Keeper) -> None:
    fabric = keeper.opened
    move_ledger(fabric)
    keeper.stop()
    assert fabric.end(Ending("cell/web/1/5", actual_micro_cents=9))
    assert refused(bring_ledger_home, fabric).code == "scheduler_unreachable"
    assert fabric.ledger_place().standing is Standing.COMING
    reopened = reopen_ledger(fabric)
    assert any("What tenants spent at orchestrator since" in note for note in reopened.notes)
    assert fabric.read_ledger().holds["cell/web/1/5"].actual_micro_cents == 9
    assert hold(fabric, "cell/new/1/6", 5).accounts[OPERATOR_ACCOUNT].held_micro_cents == 5


# --- unhappy days -------------------------------------------------------------------------------------------------


def test_without_the_orchestrator_nothing_is_held_and_what_ends_waits(keeper: Keeper) -> None:
    fabric = keeper.opened
    move_ledger(fabric)
    keeper.stop()
    error = refused(hold, fabric, "cell/new/1/6", 5)
    assert error.code == "scheduler_unreachable"
    assert "grafos cloud teardown" in error.next
    assert refused(fabric.read_ledger).code == "scheduler_unreachable"
    for _ in range(2):
        assert fabric.end(Ending("cell/web/1/5", actual_micro_cents=9, ended_at=8.0))
    spend_slices(fabric, "web")
    keeper.start()
    ledger = opened(keeper.name).read_ledger()
    assert ledger.accounts[OPERATOR_ACCOUNT].spent_micro_cents == 79
    assert ledger.accounts[OPERATOR_ACCOUNT].held_micro_cents == 0
    assert ledger.accounts[tenant_account("default")].spent_micro_cents == from_cents(50)
    with fabric.ledger() as local:
        assert local.waiting == {}


def test_what_was_spent_of_a_slice_that_the_ledger_never_had_is_booked_when_it_can_be_reached(keeper: Keeper) -> None:
    fabric = keeper.opened
    move_ledger(fabric)
    before = fabric.read_ledger().account(tenant_account("default"))
    keeper.stop()
    assert fabric.end(ending_of(Settlement(str(fabric.id), "slice-before", "aws-1", "default", 7, True, 5.0)))
    keeper.start()
    ledger = opened(keeper.name).read_ledger()
    assert ledger.account(before.name).spent_micro_cents == before.spent_micro_cents + 7
    assert ledger.account(before.name).held_micro_cents == before.held_micro_cents
    assert ledger.holds["slice-before"].actual_micro_cents == 7


def test_a_provision_is_refused_before_anything_exists_while_the_orchestrator_is_down(keeper: Keeper) -> None:
    ground = TwinGround(fabric=keeper.opened)
    move_ledger(ground.fabric)
    keeper.stop()
    assert refused(make, ground.hands()).code == "scheduler_unreachable"
    assert ground.live() == []
    keeper.start()
    make(ground.hands())
    assert open_hold(ground.fabric, CELL) is not None


def test_a_cell_is_torn_down_while_the_orchestrator_is_down_and_settled_at_the_next_command(keeper: Keeper) -> None:
    fabric = keeper.opened
    ground = TwinGround(fabric=fabric)
    move_ledger(fabric)
    make(ground.hands())
    ground.pass_time(600.0)
    held = open_hold(fabric, CELL)
    assert held is not None
    keeper.stop()
    torn = undo(ground.hands())
    assert torn is not None
    assert ground.live() == []
    assert torn.receipt.held_micro_cents == held.amount_micro_cents
    keeper.start()
    settled = fabric.read_ledger().holds[held.hold_id]
    assert (settled.state, settled.actual_micro_cents) == ("settled", torn.receipt.cost_micro_cents)
    assert 0 < settled.actual_micro_cents < settled.amount_micro_cents


def test_a_cell_that_was_made_since_the_move_is_held_for_when_the_orchestrator_is_lost(keeper: Keeper) -> None:
    fabric = keeper.opened
    ground = TwinGround(fabric=fabric)
    move_ledger(fabric)
    make(ground.hands())
    held = open_hold(fabric, CELL)
    assert held is not None
    ground.pass_time(600.0)
    undo(ground.hands())
    make(ground.hands())
    living = open_hold(fabric, CELL)
    assert living is not None
    keeper.stop()
    notes = reopen_ledger(fabric).notes
    assert f"{CELL}: booked as the journal has it" in notes
    again = fabric.read_ledger().holds
    assert (again[living.hold_id].state, again[living.hold_id].amount_micro_cents) == (
        "open",
        living.amount_micro_cents,
    )


def test_a_cell_that_came_and_went_while_the_ledger_was_away_has_cost_what_its_receipt_says(keeper: Keeper) -> None:
    ground = TwinGround(fabric=keeper.opened)
    move_ledger(ground.fabric)
    make(ground.hands())
    ground.pass_time(600.0)
    torn = undo(ground.hands())
    assert torn is not None
    keeper.stop()
    assert refused(bring_ledger_home, ground.fabric).code == "scheduler_unreachable"
    before = reopen_ledger(ground.fabric)
    assert before.place.is_here
    ledger = ground.fabric.read_ledger()
    [held] = [one for one in ledger.holds.values() if one.hold_id.startswith(f"cell/{CELL}/")]
    assert (held.state, held.actual_micro_cents) == ("settled", torn.receipt.cost_micro_cents)
    assert ledger.accounts[OPERATOR_ACCOUNT].spent_micro_cents == 70 + torn.receipt.cost_micro_cents


# --- other orchestrators ------------------------------------------------------------------------------------------


def test_another_orchestrator_does_not_get_a_ledger_that_is_elsewhere(keeper: Keeper, tmp_path: Path) -> None:
    fabric = keeper.opened
    move_ledger(fabric)
    (tmp_path / "other").mkdir()
    other = Keeper(tmp_path / "other", keeper.name)
    try:
        other.start()
        take_orchestrator(fabric, other.url, other.secret_file, replace=True)
        assert refused(move_ledger, fabric).code == "ledger_elsewhere"
        assert refused(fabric.book, lambda _: ()).code == "ledger_elsewhere"
    finally:
        other.discard()


def test_an_orchestrator_from_a_backup_of_before_the_move_is_told_again_and_caught_up(keeper: Keeper) -> None:
    fabric = keeper.opened
    ground = TwinGround(fabric=fabric)
    keeper.stop()
    shutil.copytree(keeper.state, keeper.folder / "backup")
    keeper.start()
    move_ledger(fabric)
    make(ground.hands())
    held = open_hold(fabric, CELL)
    assert held is not None
    keeper.stop()
    shutil.rmtree(keeper.state)
    (keeper.folder / "backup").rename(keeper.state)
    keeper.start()
    assert refused(hold, fabric, "cell/new/1/6", 5).code == "ledger_elsewhere"
    assert move_ledger(fabric).standing is Standing.MOVED
    assert catch_up_ledger(fabric) == (f"{CELL}: booked as the journal has it",)
    assert catch_up_ledger(fabric) == ()
    again = fabric.read_ledger().holds[held.hold_id]
    assert (again.state, again.amount_micro_cents) == ("open", held.amount_micro_cents)


def test_a_cell_that_went_since_the_backup_was_made_is_settled_at_what_its_receipt_says(keeper: Keeper) -> None:
    fabric = keeper.opened
    ground = TwinGround(fabric=fabric)
    move_ledger(fabric)
    make(ground.hands())
    hold_slice(fabric, ground.clock, SliceWanted("slice-1", CELL, "default", from_cents(50), ground.clock.now() + 3600))
    keeper.stop()
    shutil.copytree(keeper.state, keeper.folder / "backup")
    keeper.start()
    ground.pass_time(600.0)
    torn = undo(ground.hands())
    make(ground.hands(), spec("later"))
    later = undo(ground.hands(), "later")
    assert torn is not None
    assert later is not None
    before = fabric.read_ledger()
    keeper.stop()
    shutil.rmtree(keeper.state)
    (keeper.folder / "backup").rename(keeper.state)
    keeper.start()
    assert open_hold(fabric, CELL) is not None
    assert catch_up_ledger(fabric) == tuple(f"{name}: booked as the journal has it" for name in sorted((CELL, "later")))
    after = fabric.read_ledger()
    assert after.accounts == before.accounts
    assert open_hold(fabric, CELL) is None
    assert after.holds["slice-1"].actual_micro_cents == 0, "nobody claimed it, and so nobody spent of it"
    assert catch_up_ledger(fabric) == ()


def test_an_orchestrator_that_was_given_up_and_answers_again_takes_the_ledger_of_the_home(keeper: Keeper) -> None:
    fabric = keeper.opened
    move_ledger(fabric)
    keeper.stop()
    reopen_ledger(fabric)
    hold(fabric, "cell/new/1/6", 5)
    keeper.start()
    assert move_ledger(fabric).generation == 2
    assert fabric.ledger_place().lost == (1,)
    assert fabric.read_ledger().holds["cell/new/1/6"].state == "open"
    assert open_places(keeper) == ["there"]
