"""Recover makes the journal whole again, and brings to an end whatever was interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest
from crash_sweep import CELL, WHOLE, Fuse, dies, make, spec, undo
from twin_ground import TwinGround

from grafos_core import ledger as ledgers
from grafos_core.errors import GrafosError
from grafos_core.fabric import OPERATOR_ACCOUNT
from grafos_stacks.bill import DEAD_MAN_GRACE_S
from grafos_stacks.cell_holds import open_hold
from grafos_stacks.costs import CELL_HOLDS
from grafos_stacks.journal import Life, ResourceRow, StackState
from grafos_stacks.plan import StackPlan
from grafos_stacks.provision import begin_anew
from grafos_stacks.rebuilding import Action, Case, Recovered, carry_out, survey
from grafos_stacks.records import CellHome, CellRecord


@pytest.fixture
def ground() -> TwinGround:
    return TwinGround()


def cases(ground: TwinGround, *, undo: bool = False) -> list[tuple[str, Action]]:
    return [(case.stack, case.action) for case in survey(ground.hands(), undo=undo)]


def recovered(ground: TwinGround, *, undo: bool = False) -> tuple[Recovered, ...]:
    hands = ground.hands()

    def finish(plan: StackPlan) -> None:
        make(ground.hands(), plan.spec)

    return carry_out(hands, survey(hands, undo=undo), Path(hands.fabric.home), finish)


def recorded(ground: TwinGround, cell_id: str = CELL) -> CellHome:
    now = ground.clock.now()
    record = CellRecord(cell_id, ground.fabric.id, "aws", "us-east-1", "https://198.51.0.1", 1, now + 7200, now)
    home = CellHome(ground.fabric, cell_id)
    home.keep_record(record)
    return home


def rows(ground: TwinGround, stack: str = CELL) -> dict[str, ResourceRow]:
    return ground.hands().journal.resources(stack)


def test_where_nothing_was_interrupted_there_is_nothing_to_recover(ground: TwinGround) -> None:
    assert cases(ground) == []
    make(ground.hands())
    assert cases(ground) == []
    undo(ground.hands())
    assert cases(ground) == []


def test_a_lost_journal_is_rebuilt_with_keys_attempts_places_and_the_hold(ground: TwinGround) -> None:
    make(ground.hands())
    recorded(ground)
    before = {key: row for key, row in rows(ground).items() if row.ref and row.ref.key and row.kind != "firewall_rule"}
    held = open_hold(ground.fabric, CELL)
    ground.lose_journal()
    assert cases(ground) == [(CELL, Action.ADOPT)]
    assert recovered(ground)[0].error is None
    after = rows(ground)
    assert {key: (row.name, row.attempt, row.token, row.ref) for key, row in before.items()} == {
        key: (row.name, row.attempt, row.token, row.ref) for key, row in after.items()
    }
    assert {row.life for row in after.values()} == {Life.READY}
    stack = ground.hands().journal.stack(CELL)
    assert stack is not None
    assert held is not None
    assert (stack.state, stack.hold_id, stack.account) == (StackState.MADE, held.hold_id, "twin")
    assert rows(ground, "net-aws-us-east-1"), "its network too"
    assert cases(ground) == []


def test_an_adopted_cell_is_provisioned_torn_down_and_kept_as_one_that_was_never_forgotten(ground: TwinGround) -> None:
    make(ground.hands())
    home = recorded(ground)
    home.request_for("operator")
    ground.lose_journal()
    recovered(ground)
    hands = ground.hands()
    begin_anew(hands, home)
    assert home.is_recorded, "what was claimed once cannot be claimed again"
    live = ground.live()
    make(ground.hands())
    assert ground.live() == live
    torn = undo(ground.hands())
    assert torn is not None
    assert torn.receipt.left == 0
    assert ground.live() == []


def test_an_interrupted_provision_is_finished_or_undone(ground: TwinGround) -> None:
    assert dies(ground, make, Fuse(50))
    assert cases(ground) == [(CELL, Action.FINISH)]
    assert cases(ground, undo=True) == [(CELL, Action.UNDO)]
    assert recovered(ground)[0].error is None
    assert len(ground.live()) == WHOLE
    assert cases(ground) == []
    undo(ground.hands())
    assert dies(ground, make, Fuse(55))
    recovered(ground, undo=True)
    assert ground.live() == []


def test_a_provision_that_ran_out_meanwhile_is_undone(ground: TwinGround) -> None:
    dies(ground, lambda hands: make(hands, spec(ttl_s=600)), Fuse(50))
    ground.clock.advance(601)
    assert cases(ground) == [(CELL, Action.UNDO)]
    recovered(ground)
    assert ground.live() == []


def test_an_interrupted_teardown_is_finished(ground: TwinGround) -> None:
    make(ground.hands())
    dies(ground, undo, Fuse(20))
    assert cases(ground) == [(CELL, Action.UNDO)]
    recovered(ground)
    assert ground.live() == []
    assert open_hold(ground.fabric, CELL) is None


def test_what_neither_journal_nor_record_knows_cannot_be_finished_and_is_undone(ground: TwinGround) -> None:
    assert dies(ground, make, Fuse(55))
    ground.lose_journal()
    assert cases(ground) == [(CELL, Action.UNDO)]
    recovered(ground)
    assert not [one for one in ground.live() if "machine" in one]
    assert open_hold(ground.fabric, CELL) is None


def test_a_home_that_got_the_key_from_another_adopts_what_lives(ground: TwinGround) -> None:
    make(ground.hands())
    ground.lose_journal()
    ground.fabric.note_shared()
    assert cases(ground) == [(CELL, Action.ADOPT)]
    recovered(ground)
    assert cases(ground) == []


def forgotten_with_its_money(ground: TwinGround) -> StackPlan:
    """A cell that lives, of which neither journal nor ledger know."""
    made = make(ground.hands())
    with ground.fabric.ledger() as transaction:
        for hold_id in transaction.ledger.holds:
            transaction.write(ledgers.release(transaction.ledger, hold_id))
    ground.lose_journal()
    ground.fabric.note_shared()  # else a cell that nobody knows is taken down, not adopted
    return made


def test_for_an_adopted_cell_its_worst_case_is_held_until_its_end(ground: TwinGround) -> None:
    made = forgotten_with_its_money(ground)
    ground.clock.advance(600.0)
    (done,) = recovered(ground)
    held = open_hold(ground.fabric, CELL)
    assert held is not None, done.note
    assert held.meter is not None
    assert "is held for it now" in done.note
    assert held.amount_micro_cents == pytest.approx(made.bill.total_micro_cents, rel=0.05)
    assert held.meter.until == made.expires_at + DEAD_MAN_GRACE_S
    ground.clock.advance(600.0)
    torn = undo(ground.hands())
    assert torn is not None
    assert 0 < torn.receipt.cost_micro_cents < held.amount_micro_cents
    assert open_hold(ground.fabric, CELL) is None


def test_a_cell_whose_worst_case_does_not_fit_is_adopted_all_the_same_and_that_is_told(ground: TwinGround) -> None:
    forgotten_with_its_money(ground)
    with ground.fabric.ledger() as transaction:
        transaction.write(ledgers.set_cap(transaction.ledger, OPERATOR_ACCOUNT, 0))
    (done,) = recovered(ground)
    assert done.error is None
    assert "it bills, and nothing is held for it" in done.note
    assert open_hold(ground.fabric, CELL) is None
    assert cases(ground) == []
    torn = undo(ground.hands())
    assert torn is not None
    assert torn.receipt.left == 0


@pytest.mark.parametrize("ran", [False, True])
def test_money_that_is_held_for_what_is_nowhere_is_settled(ground: TwinGround, *, ran: bool) -> None:
    """All of it if a machine was recorded, since nobody knows how long it ran; else nothing."""
    planned = make(ground.hands())
    if ran:
        recorded(ground)
    ground.lose_journal()
    for thing in ground.cloud.things():
        thing.ends_at = ground.clock.now()
    assert cases(ground) == [(CELL, Action.SETTLE)]
    recovered(ground)
    with ground.fabric.ledger() as transaction:
        account = transaction.ledger.account(OPERATOR_ACCOUNT)
    assert account.held_micro_cents == 0
    assert account.spent_micro_cents == (planned.bill.total_micro_cents if ran else 0)
    assert cases(ground) == []


def test_money_held_on_another_cloud_is_that_cloud_s(ground: TwinGround) -> None:
    meter = ledgers.Meter("gcp", 1, 0.0, 1.0)
    with ground.fabric.ledger() as transaction:
        transaction.write(
            ledgers.hold(
                transaction.ledger, f"{CELL_HOLDS}gcp-one/1/5", OPERATOR_ACCOUNT, 5, "cell gcp-one", meter=meter
            )
        )
    assert cases(ground) == []


def test_one_case_that_fails_keeps_no_other(ground: TwinGround) -> None:
    assert dies(ground, make, Fuse(50))
    make(ground.hands(), spec("aws-two"))
    dies(ground, lambda hands: undo(hands, "aws-two"), Fuse(20))

    def refuse(plan: StackPlan) -> None:
        raise GrafosError("cloud_capacity", f"no room for {plan.stack}")

    hands = ground.hands()
    done = carry_out(hands, survey(hands), Path(hands.fabric.home), refuse)
    assert [(one.case.stack, one.error.code if one.error else "") for one in done] == [
        (CELL, "cloud_capacity"),
        ("aws-two", ""),
    ]
    assert [case for case in survey(ground.hands()) if case.stack != CELL] == []


def test_cells_that_another_command_works_on_are_left_to_it(ground: TwinGround) -> None:
    assert dies(ground, make, Fuse(50))
    with ground.hands().journal.lock(CELL):
        assert survey(ground.hands()) == ()
    assert survey(ground.hands()) == (Case(CELL, "us-east-1", Action.FINISH, "its provision was interrupted"),)


# --- another command between the survey and the answer of the person ------------------------------------------------


def carried_out(ground: TwinGround, agreed: tuple[Case, ...]) -> tuple[Recovered, ...]:
    hands = ground.hands()
    return carry_out(hands, agreed, Path(hands.fabric.home), lambda plan: make(ground.hands(), plan.spec))


def test_a_provision_that_was_torn_down_meanwhile_is_not_finished(ground: TwinGround) -> None:
    assert dies(ground, make, Fuse(50))
    agreed = survey(ground.hands())
    assert [case.action for case in agreed] == [Action.FINISH]
    undo(ground.hands())
    assert carried_out(ground, agreed) == ()
    assert ground.live() == []


def test_a_cell_that_was_made_anew_meanwhile_is_not_undone(ground: TwinGround) -> None:
    make(ground.hands())
    assert dies(ground, undo, Fuse(20))
    agreed = survey(ground.hands())
    assert [case.action for case in agreed] == [Action.UNDO]
    undo(ground.hands())
    make(ground.hands())
    there = ground.live()
    assert carried_out(ground, agreed) == ()
    assert ground.live() == there


def test_money_under_which_a_cell_was_made_meanwhile_stays_held(ground: TwinGround) -> None:
    make(ground.hands())
    ground.lose_journal()
    for thing in ground.cloud.things():
        thing.ends_at = ground.clock.now()
    agreed = survey(ground.hands())
    assert [case.action for case in agreed] == [Action.SETTLE]
    make(ground.hands())
    assert carried_out(ground, agreed) == ()
    assert open_hold(ground.fabric, CELL) is not None
    with ground.hands().journal.lock(CELL):
        assert carried_out(ground, agreed) == ()
    undo(ground.hands())
    assert open_hold(ground.fabric, CELL) is None
