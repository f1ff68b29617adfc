"""Several homes of a fabric have its ledger one after the other, or take it for theirs; and what counts as lost."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from far_ledger import Keeper, contents, hold, keeper_of, killed_after, open_places, opened, refused

from grafos_core import ledger as ledgers
from grafos_core.booking import Ending
from grafos_core.changes import Change
from grafos_core.clock import SystemClock
from grafos_core.fabric import Fabric, export_key, import_key, tenant_account
from grafos_core.ledger_place import Place, Standing
from grafos_core.money import from_cents
from grafos_stacks.claiming import take_orchestrator
from grafos_stacks.ledger_moves import bring_ledger_home, move_ledger
from grafos_stacks.lost_ledger import reopen_ledger
from grafos_stacks.orchestrators import OrchestratorHome
from grafos_stacks.records import OPERATOR


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    """A claimed orchestrator; the fabric's ledger, with three holds, is still in its home."""
    yield from keeper_of(tmp_path)


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
