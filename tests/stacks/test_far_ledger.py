"""The fabric's ledger moves into an orchestrator, is booked in there, and comes home: over TLS, with a real process."""

from __future__ import annotations

import itertools
import multiprocessing
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from crash_sweep import CELL, make, spec, undo
from far_ledger import Keeper, hold_all_it_gets, move_until, opened
from twin_ground import TwinGround

from grafos_core import ledger as ledgers
from grafos_core.booking import Ending
from grafos_core.changes import Change
from grafos_core.clock import SystemClock
from grafos_core.errors import GrafosError
from grafos_core.fabric import OPERATOR_ACCOUNT, Fabric, export_key, import_key, open_fabric, tenant_account
from grafos_core.ledger import Account, Hold, Ledger, Meter
from grafos_core.ledger_place import Place, Standing
from grafos_core.money import from_cents
from grafos_core.receipts import Settlement
from grafos_stacks.cell_holds import open_hold
from grafos_stacks.claiming import take_orchestrator
from grafos_stacks.handover import SliceWanted, hold_slice
from grafos_stacks.homecoming import ending_of, release_slices, spend_slices
from grafos_stacks.ledger_moves import bring_ledger_home, check_ledger_is_here, move_ledger
from grafos_stacks.lost_ledger import catch_up_ledger, reopen_ledger
from grafos_stacks.orchestrators import OrchestratorHome
from grafos_stacks.records import OPERATOR

SPAWN = multiprocessing.get_context("spawn")
CAP = from_cents(2000)
METER = Meter("gcp", 3_600, since=1_000.0, until=5_000.0, fictional=True)
_numbers = itertools.count(1)


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    """A claimed orchestrator; the fabric's ledger, with three holds, is still in its home."""
    started = Keeper(tmp_path, f"far-{next(_numbers)}")
    try:
        fabric = started.begin()
        hold(fabric, "cell/web/1/5", from_cents(300), meter=METER)
        hold(fabric, "cell/old/1/4", from_cents(100))
        fabric.end(Ending("cell/old/1/4", actual_micro_cents=70))
        hold_slice(fabric, SystemClock(), wanted("web"))
        yield started
    finally:
        started.discard()


def wanted(scheduler: str) -> SliceWanted:
    return SliceWanted(f"slice-{scheduler}", scheduler, "default", from_cents(50), time.time() + 3600)


def hold(fabric: Fabric, hold_id: str, amount: int, meter: Meter | None = None) -> Ledger:
    return fabric.book(lambda ledger: ledgers.hold(ledger, hold_id, OPERATOR_ACCOUNT, amount, "a cell", meter=meter))


def contents(ledger: Ledger) -> tuple[dict[str, Account], dict[str, Hold]]:
    return ledger.accounts, ledger.holds


def refused(action: object, *args: object, **kwargs: object) -> GrafosError:
    with pytest.raises(GrafosError) as caught:
        action(*args, **kwargs)  # type: ignore[operator]
    return caught.value


def killed_after(steps: int, name: str, verb: str) -> bool:
    """Whether the process was killed at that step; one that has no such step ends by itself."""
    process = SPAWN.Process(target=move_until, args=(name, verb, steps))
    process.start()
    process.join(60)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def open_places(keeper: Keeper, name: str = "") -> list[str]:
    """Where the ledger is open for writing at this moment, as the home of that name sees it."""
    fabric = opened(name) if name else keeper.opened
    with OrchestratorHome(fabric).client("operator") as client:
        there = client.ledger()[0].state == "open"
    return [name for name, is_open in (("here", fabric.ledger_place().is_here), ("there", there)) if is_open]


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


# --- two homes ----------------------------------------------------------------------------------------------------


def another_home(keeper: Keeper, folder: Path) -> Fabric:
    """Of the same fabric: by its key it became the operator at the orchestrator."""
    export_key(keeper.opened, folder / "exported.pem")
    import_key(SystemClock(), folder / "exported.pem", f"{keeper.name}-other")
    fabric = opened(f"{keeper.name}-other")
    take_orchestrator(fabric, keeper.url, None)
    return fabric


def test_a_ledger_that_another_home_fetched_is_not_opened_twice(keeper: Keeper, tmp_path: Path) -> None:
    first = keeper.opened
    move_ledger(first)
    second = another_home(keeper, tmp_path)
    move_ledger(second)
    assert bring_ledger_home(second).place.is_here
    take_orchestrator(first, keeper.url, None)
    error = refused(bring_ledger_home, first)
    assert (error.code, "--lost" in error.next) == ("ledger_elsewhere", True)
    assert refused(hold, first, "cell/new/1/6", 5).code == "ledger_elsewhere"
    assert [fabric.ledger_place().is_here for fabric in (first, second)] == [False, True]
    take_orchestrator(second, keeper.url, None)
    assert move_ledger(second).generation == 2
    take_orchestrator(first, keeper.url, None)
    assert (move_ledger(first).standing, first.ledger_place().generation) == (Standing.MOVED, 2)
    assert hold(first, "cell/new/1/6", 5).holds["cell/new/1/6"].state == "open"


def test_a_home_that_never_had_the_ledger_does_not_begin_with_one_that_another_fetched(
    keeper: Keeper, tmp_path: Path
) -> None:
    first = keeper.opened
    move_ledger(first)
    hold(first, "cell/new/1/6", from_cents(200))
    before = first.read_ledger()
    bring_ledger_home(first)
    second = another_home(keeper, tmp_path)
    error = refused(move_ledger, second)
    assert (error.code, "--lost" in error.next) == ("ledger_elsewhere", True)
    assert second.ledger_place() == Place()
    assert reopen_ledger(second) == (second.ledger_place(), ())
    assert contents(second.read_ledger()) == contents(before), "the copy that stayed is the whole ledger"
    assert move_ledger(second).generation == 2


def test_given_up_too_early_the_ledger_comes_home_whole(keeper: Keeper) -> None:
    fabric = keeper.opened
    move_ledger(fabric)
    hold(fabric, "cell/new/1/6", from_cents(200))
    there = fabric.read_ledger()
    assert killed_after(2, keeper.name, "home")
    assert reopen_ledger(fabric).notes == ()
    assert contents(fabric.read_ledger()) == contents(there)
    assert open_places(keeper) == ["here"]


def test_a_home_that_came_later_gives_up_no_more_than_the_first(keeper: Keeper, tmp_path: Path) -> None:
    """What both copies say is the ledger as it moved there, whatever was held there by then."""
    first = keeper.opened
    move_ledger(first)
    second = another_home(keeper, tmp_path)
    move_ledger(second)
    keeper.stop()
    for fabric in (first, second):
        reopen_ledger(fabric)
    assert contents(first.read_ledger()) == contents(second.read_ledger())
    keeper.start()
    assert move_ledger(second).generation == 2
    assert refused(move_ledger, first).code == "operator_replaced"


def moved_again(keeper: Keeper, second: Fabric) -> int:
    """The first home fetches the ledger and moves it there again; what was spent on the tenant's account by then."""
    first = keeper.opened
    take_orchestrator(first, keeper.url, None)
    bring_ledger_home(first)
    with first.ledger() as local:  # as runs at another orchestrator did
        account = local.ledger.account(tenant_account("default"))
        spent = account.spent_micro_cents + 50
        local.write((Change(ledgers.ACCOUNT, account.name, msgspec.structs.replace(account, spent_micro_cents=spent)),))
    assert move_ledger(first).generation == 2
    take_orchestrator(second, keeper.url, None)
    return spent


def test_a_home_that_followed_the_ledger_has_a_copy_of_that_generation_to_give_up(
    keeper: Keeper, tmp_path: Path
) -> None:
    move_ledger(keeper.opened)
    second = another_home(keeper, tmp_path)
    move_ledger(second)
    spent = moved_again(keeper, second)
    assert move_ledger(second).generation == 2
    keeper.stop()
    assert second.end(Ending("cell/web/1/5", actual_micro_cents=9))
    reopen_ledger(second)
    assert second.read_ledger().account(tenant_account("default")).spent_micro_cents == spent
    assert second.read_ledger().holds["cell/web/1/5"].actual_micro_cents == 9, "what waited is booked"
    keeper.start()
    assert move_ledger(second).generation == 3
    assert second.read_ledger().account(tenant_account("default")).spent_micro_cents == spent


def test_what_waits_in_a_home_is_booked_at_the_orchestrator_after_it_followed_the_ledger(
    keeper: Keeper, tmp_path: Path
) -> None:
    move_ledger(keeper.opened)
    second = another_home(keeper, tmp_path)
    move_ledger(second)
    keeper.stop()
    assert second.end(Ending("cell/web/1/5", actual_micro_cents=9))
    keeper.start()
    moved_again(keeper, second)
    move_ledger(second)
    assert second.read_ledger().holds["cell/web/1/5"].actual_micro_cents == 9


def test_a_home_that_followed_the_ledger_tells_an_orchestrator_from_an_older_backup_again(
    keeper: Keeper, tmp_path: Path
) -> None:
    move_ledger(keeper.opened)
    second = another_home(keeper, tmp_path)
    move_ledger(second)
    keeper.stop()
    shutil.copytree(keeper.state, keeper.folder / "backup")
    keeper.start()
    moved_again(keeper, second)
    before = (move_ledger(second), contents(second.read_ledger()))
    keeper.stop()
    shutil.rmtree(keeper.state)
    (keeper.folder / "backup").rename(keeper.state)
    keeper.start()
    take_orchestrator(second, keeper.url, None)
    assert (move_ledger(second).generation, contents(second.read_ledger())) == (before[0].generation, before[1])


def test_given_up_in_a_home_that_has_not_followed_yet_the_ledger_of_later_comes_home_whole(
    keeper: Keeper, tmp_path: Path
) -> None:
    move_ledger(keeper.opened)
    second = another_home(keeper, tmp_path)
    move_ledger(second)
    moved_again(keeper, second)
    with OrchestratorHome(second).client("operator") as client:
        before = contents(client.ledger()[1])
    assert reopen_ledger(second).notes == ()
    assert contents(second.read_ledger()) == before
    assert second.ledger_place().lost == ()


# --- what is no loss ----------------------------------------------------------------------------------------------


def test_an_orchestrator_that_another_home_works_with_is_not_given_up(keeper: Keeper, tmp_path: Path) -> None:
    first = keeper.opened
    move_ledger(first)
    move_ledger(another_home(keeper, tmp_path))
    error = refused(reopen_ledger, first)
    assert (error.code, "grafos fabric claim" in error.next) == ("operator_replaced", True)
    assert open_places(keeper, f"{keeper.name}-other") == ["there"]
    assert not first.ledger_place().is_here


def test_without_credentials_an_orchestrator_is_given_up_only_if_it_does_not_answer_as_itself(keeper: Keeper) -> None:
    fabric = keeper.opened
    move_ledger(fabric)
    OrchestratorHome(fabric).forget_grant(OPERATOR)
    error = refused(reopen_ledger, fabric)
    assert (error.code, keeper.url in error.next) == ("credentials_missing", True)
    assert not fabric.ledger_place().is_here
    keeper.stop()
    assert reopen_ledger(fabric).place.is_here


def test_one_whose_address_another_orchestrator_has_now_is_given_up(keeper: Keeper, tmp_path: Path) -> None:
    fabric = keeper.opened
    move_ledger(fabric)
    (tmp_path / "other").mkdir()
    other = Keeper(tmp_path / "other", keeper.name)
    try:
        other.start()
        home = OrchestratorHome(fabric)
        home.keep_record(msgspec.structs.replace(home.known(), url=other.url))
        assert reopen_ledger(fabric).place.is_here
    finally:
        other.discard()


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
