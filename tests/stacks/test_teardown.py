"""A teardown needs nobody: not the cell, not the journal, not the person's memory. Its receipt is the proof."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from crash_sweep import CELL, REGION, Fuse, dies, make, plan, points, share, spec, undo
from twin_ground import TwinGround

from grafos_connectors.contract import Done, Found, Kind, Operation, Ref
from grafos_connectors.twin import Effect, Fault
from grafos_core import ledger as ledgers
from grafos_core.errors import GrafosError
from grafos_core.fabric import OPERATOR_ACCOUNT
from grafos_core.receipts import TeardownReceipt, open_signed
from grafos_stacks.bill import DEAD_MAN_GRACE_S, actual_cost
from grafos_stacks.cell_holds import open_hold
from grafos_stacks.handover import SliceWanted, hold_slice
from grafos_stacks.records import CellHome, CellRecord
from grafos_stacks.teardown import teardown


@pytest.fixture
def ground() -> TwinGround:
    return TwinGround()


def torn_down(ground: TwinGround) -> TeardownReceipt:
    torn = undo(ground.hands())
    assert torn is not None
    return torn.receipt


def machine(ground: TwinGround) -> Found:
    [one] = [one for one in ground.found() if one.ref.kind is Kind.MACHINE]
    return one


def spent(ground: TwinGround) -> tuple[int, int]:
    with ground.fabric.ledger() as transaction:
        account = transaction.ledger.account(OPERATOR_ACCOUNT)
        return account.spent_micro_cents, account.held_micro_cents


class SlowCloud(Fuse):
    """Every call takes so long that moments to wait for pass while it is under way."""

    def __init__(self, ground: TwinGround, seconds: float) -> None:
        super().__init__()
        self._clock, self._seconds = ground.clock, seconds

    def moment(self, *_: Any, **__: Any) -> None:
        self._clock.advance(self._seconds)


# --- the receipt --------------------------------------------------------------------------------------------------


def test_the_receipt_lists_what_was_made_and_that_all_of_it_is_gone(ground: TwinGround) -> None:
    made = {(one.ref.kind.value, one.ref.id) for one in _made(ground)}
    receipt = torn_down(ground)
    assert {(torn.kind, torn.id) for torn in receipt.resources} == made
    assert receipt.left == 0
    assert all(torn.gone and torn.proof for torn in receipt.resources)
    assert (receipt.provider, receipt.region, receipt.account, receipt.cell_id) == ("aws", REGION, "twin", CELL)


@pytest.mark.parametrize("journal", ["kept", "lost"])
def test_the_receipt_of_an_emulated_cell_says_that_its_money_is_fictional(ground: TwinGround, journal: str) -> None:
    _made(ground)
    if journal == "lost":
        ground.lose_journal()
    receipt = torn_down(ground)
    assert (receipt.emulated, receipt.held_micro_cents > 0) == (True, True)


def _made(ground: TwinGround) -> list[Found]:
    make(ground.hands())
    return [one for one in ground.found() if one.ref.kind not in (Kind.DISK, Kind.NIC)]


def test_the_receipt_is_signed_by_the_fabric_and_nobody_can_alter_it(ground: TwinGround) -> None:
    make(ground.hands())
    torn = undo(ground.hands())
    assert torn is not None
    key = ground.fabric.key.public_key()
    assert open_signed(torn.signed, TeardownReceipt, key) == torn.receipt
    forged = msgspec.structs.replace(torn.signed, body=torn.signed.body.replace(b'"left":0', b'"left":1'))
    with pytest.raises(GrafosError) as refused:
        open_signed(forged, TeardownReceipt, key)
    assert refused.value.code == "receipt_invalid"


def test_asked_for_again_it_is_the_same_receipt_and_no_call_is_made(ground: TwinGround) -> None:
    make(ground.hands())
    first = undo(ground.hands())
    calls = sum(ground.cloud.changing_calls.values())
    assert undo(ground.hands()) == first
    assert sum(ground.cloud.changing_calls.values()) == calls


def test_an_interrupted_teardown_tells_the_whole_story_when_it_ends(ground: TwinGround) -> None:
    made = {(one.ref.kind.value, one.ref.id) for one in _made(ground)}
    assert dies(ground, undo, Fuse(30))
    assert {(torn.kind, torn.id) for torn in torn_down(ground).resources} == made


# --- money --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [6.0, 8.0, 10.0, 13.0])
def test_a_listing_is_repeated_also_when_its_moment_came_while_it_was_under_way(seconds: float) -> None:
    """What an interrupted create may have made is deleted by the first teardown, however slow the cloud."""
    count = 0
    for ground, point in points(lambda: TwinGround(lag_s=30.0), make, share(4, 0)):
        assert isinstance(ground, TwinGround)
        torn = undo(ground.hands(SlowCloud(ground, seconds)))
        assert ground.live() == [], f"point {point}"
        assert torn is None or torn.receipt.left == 0, f"point {point}"
        count += 1
    assert count > 10


def test_the_hold_is_settled_with_what_the_machine_cost(ground: TwinGround) -> None:
    planned = make(ground.hands())
    assert spent(ground) == (0, planned.bill.total_micro_cents)
    ground.clock.advance(3600)
    receipt = torn_down(ground)
    assert 3600 < receipt.machine_seconds < 3700
    assert receipt.cost_micro_cents == actual_cost(planned.facts.price, 8, receipt.machine_seconds)
    assert receipt.held_micro_cents == planned.bill.total_micro_cents
    assert spent(ground) == (receipt.cost_micro_cents, 0)


def test_a_machine_that_ended_itself_at_its_expiry_costs_no_more_than_was_held(ground: TwinGround) -> None:
    """However late somebody looks."""
    planned = make(ground.hands(), spec(ttl_s=600))
    ground.clock.advance(600)
    ground.cloud.halt(machine(ground).ref.id)
    ground.clock.advance(30 * 86400)
    receipt = torn_down(ground)
    assert receipt.machine_seconds <= 600 + DEAD_MAN_GRACE_S
    assert receipt.cost_micro_cents <= planned.bill.total_micro_cents
    assert receipt.left == 0


def test_a_machine_that_outlived_its_expiry_is_booked_at_its_true_cost(ground: TwinGround) -> None:
    planned = make(ground.hands(), spec(ttl_s=600))
    ground.clock.advance(10_000)
    assert torn_down(ground).cost_micro_cents > planned.bill.total_micro_cents


@pytest.mark.parametrize("damage", [b"no ledger at all", b""])
def test_a_ledger_that_cannot_be_read_for_a_while_costs_no_cell_its_place_or_its_age(
    ground: TwinGround, damage: bytes
) -> None:
    planned = make(ground.hands())
    whole = ground.fabric.ledger_file.read_bytes()
    ground.fabric.ledger_file.write_bytes(damage)
    with pytest.raises(GrafosError) as refused:
        make(ground.hands())
    assert refused.value.code == "fabric_invalid"
    ground.fabric.ledger_file.write_bytes(whole)
    one = machine(ground).ref.id
    ground.clock.advance(600)
    assert make(ground.hands()).made_at == planned.made_at, "it goes on, and is not begun anew"
    assert machine(ground).ref.id == one
    assert 600 < torn_down(ground).machine_seconds < 700


def test_a_cell_whose_machine_never_was_costs_nothing(ground: TwinGround) -> None:
    ground.faults.add(Fault("begin_create", Effect.REFUSE, kind=Kind.MACHINE, code="cloud_denied"))
    with pytest.raises(GrafosError):
        make(ground.hands())
    receipt = torn_down(ground)
    assert (receipt.cost_micro_cents, receipt.machine_seconds) == (0, 0.0)
    assert spent(ground) == (0, 0)


def test_without_a_journal_the_cost_is_its_part_of_what_was_held(ground: TwinGround) -> None:
    planned = make(ground.hands(), spec(ttl_s=7200))
    ground.clock.advance(3600)
    ground.lose_journal()
    receipt = torn_down(ground)
    exact = actual_cost(planned.facts.price, 8, 3600)
    assert exact <= receipt.cost_micro_cents <= 1.05 * exact
    assert spent(ground) == (receipt.cost_micro_cents, 0)


def test_without_a_journal_and_with_its_machine_gone_the_cost_is_all_that_was_held(ground: TwinGround) -> None:
    """A machine was recorded, so it did cost; how long it ran, nothing tells any more."""
    planned = make(ground.hands(), spec(ttl_s=7200))
    recorded(ground)
    ground.cloud.halt(machine(ground).ref.id)
    ground.clock.advance(600)
    ground.lose_journal()
    assert torn_down(ground).cost_micro_cents == planned.bill.total_micro_cents
    assert spent(ground) == (planned.bill.total_micro_cents, 0)


def test_without_a_journal_a_cell_of_which_no_machine_was_recorded_costs_nothing(ground: TwinGround) -> None:
    ground.faults.add(Fault("begin_create", Effect.REFUSE, kind=Kind.MACHINE, code="cloud_denied"))
    with pytest.raises(GrafosError):
        make(ground.hands())
    ground.lose_journal()
    assert torn_down(ground).cost_micro_cents == 0
    assert spent(ground) == (0, 0)


def recorded(ground: TwinGround) -> None:
    one = machine(ground)
    home = CellHome(ground.fabric, CELL)
    now = ground.clock.now()
    home.keep_record(
        CellRecord(
            CELL, ground.fabric.id, "aws", REGION, "https://198.51.0.1", 1, now + 7200, now, machine_id=one.ref.id
        )
    )


def test_over_the_cap_nothing_is_made(ground: TwinGround) -> None:
    with ground.fabric.ledger() as transaction:
        transaction.write(ledgers.open_account(transaction.ledger, OPERATOR_ACCOUNT, 1_000_000))
    with pytest.raises(GrafosError) as refused:
        make(ground.hands())
    assert refused.value.code == "budget_exceeded"
    assert ground.live() == []
    assert sum(ground.cloud.changing_calls.values()) == 0


def test_many_cells_never_hold_more_than_the_cap(ground: TwinGround) -> None:
    each = plan(ground.hands(), spec()).bill.total_micro_cents
    with ground.fabric.ledger() as transaction:
        transaction.write(ledgers.open_account(transaction.ledger, OPERATOR_ACCOUNT, int(2.5 * each)))
    refusals = 0
    for number in range(4):
        try:
            make(ground.hands(), spec(f"aws-{number}"))
        except GrafosError as error:
            assert error.code == "budget_exceeded"  # noqa: PT017  which cells fit is not the claim
            refusals += 1
    assert refusals == 2
    assert spent(ground) == (0, 2 * each)


def test_a_slice_of_a_cell_that_nobody_claimed_comes_back_whole(ground: TwinGround) -> None:
    make(ground.hands())
    wanted = SliceWanted("slice-1", CELL, "default", 5_000_000, ground.clock.now() + 3600)
    assert hold_slice(ground.fabric, ground.clock, wanted).amount_micro_cents == 5_000_000
    assert torn_down(ground).settlement == "settled"
    with ground.fabric.ledger() as transaction:
        assert transaction.ledger.holds["slice-1"].state == ledgers.RELEASED


def test_a_slice_of_a_cell_that_another_home_may_have_claimed_counts_as_spent(ground: TwinGround) -> None:
    """Its journal is that other home's: here nobody knows whether its tenant spent of it."""
    make(ground.hands())
    hold_slice(ground.fabric, ground.clock, SliceWanted("slice-1", CELL, "default", 7, ground.clock.now() + 3600))
    ground.lose_journal()
    receipt = torn_down(ground)
    assert receipt.settlement.startswith("unsettled, its whole slice counts as spent: another home may have claimed it")
    with ground.fabric.ledger() as transaction:
        ended = transaction.ledger.holds["slice-1"]
        assert (ended.state, ended.actual_micro_cents) == (ledgers.SETTLED, 7)


def test_a_cell_that_nobody_here_knows_and_that_has_no_slice_is_settled(ground: TwinGround) -> None:
    make(ground.hands())
    ground.lose_journal()
    assert torn_down(ground).settlement == "settled"


def test_a_slice_takes_what_is_left_of_the_budget_and_stays_as_it_was_cut(ground: TwinGround) -> None:
    wanted = SliceWanted("slice-1", CELL, "default", 10**12, ground.clock.now() + 3600)
    first = hold_slice(ground.fabric, ground.clock, wanted)
    assert first.amount_micro_cents == 2_000_000_000
    assert hold_slice(ground.fabric, ground.clock, wanted) == first
    another = wanted._replace(slice_id="slice-2")
    assert hold_slice(ground.fabric, ground.clock, another).amount_micro_cents == 0


def test_a_slice_that_ran_out_counts_as_spent_before_the_next_is_cut(ground: TwinGround) -> None:
    hold_slice(ground.fabric, ground.clock, SliceWanted("old", CELL, "default", 2_000_000_000, ground.clock.now() + 60))
    ground.clock.advance(61)
    later = SliceWanted("new", CELL, "default", 5, ground.clock.now() + 60)
    assert hold_slice(ground.fabric, ground.clock, later).amount_micro_cents == 0
    with ground.fabric.ledger() as transaction:
        assert transaction.ledger.holds["old"].state == ledgers.EXPIRED


# --- cells that cannot help ---------------------------------------------------------------------------------------


def claimed(ground: TwinGround) -> CellHome:
    """A home that looks like that of a cell which was claimed; at its address nobody answers."""
    home = CellHome(ground.fabric, CELL)
    home.request_for("operator")
    home.pin_ca("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n")
    home.keep_grant("operator", "certificate", "token")
    return home


def test_a_claimed_cell_that_cannot_be_asked_is_torn_down_and_the_receipt_says_so(ground: TwinGround) -> None:
    make(ground.hands())
    claimed(ground)
    hold_slice(ground.fabric, ground.clock, SliceWanted("slice-1", CELL, "default", 7, ground.clock.now() + 3600))
    receipt = torn_down(ground)
    assert receipt.left == 0
    assert receipt.settlement.startswith("unsettled, its whole slice counts as spent: the cell could not be asked")
    with ground.fabric.ledger() as transaction:
        ended = transaction.ledger.holds["slice-1"]
        assert (ended.state, ended.actual_micro_cents) == (ledgers.SETTLED, 7)


def test_a_later_cell_of_the_name_gives_nothing_back_that_an_earlier_one_may_have_spent(ground: TwinGround) -> None:
    """Slices are found by the cell's name, and a second cell that nobody claimed cannot have spent."""
    make(ground.hands())
    claimed(ground)
    hold_slice(ground.fabric, ground.clock, SliceWanted("slice-1", CELL, "default", 7, ground.clock.now() + 3600))
    torn_down(ground)
    make(ground.hands())
    assert torn_down(ground).settlement == "settled"
    with ground.fabric.ledger() as transaction:
        assert transaction.ledger.holds["slice-1"].actual_micro_cents == 7


def test_a_claimed_cell_whose_machine_had_ended_is_not_even_dialled(ground: TwinGround) -> None:
    make(ground.hands())
    claimed(ground)
    ground.cloud.halt(machine(ground).ref.id)
    ground.clock.advance(60)
    assert "the machine had ended before" in torn_down(ground).settlement


def test_a_cell_deleted_by_hand_is_torn_down_to_the_last_part(ground: TwinGround) -> None:
    make(ground.hands())
    ground.connector().begin_delete(machine(ground).ref)
    ground.clock.advance(60)
    assert torn_down(ground).left == 0
    assert ground.live() == []


def test_a_cell_that_nobody_knows_is_said_to_be_unknown(ground: TwinGround) -> None:
    with pytest.raises(GrafosError) as refused:
        teardown(ground.hands(), "aws-never", ground.fabric.home, REGION)
    assert refused.value.code == "cell_unknown"


@pytest.mark.parametrize("region", [REGION, ""], ids=["region-given", "all-regions"])
def test_a_cell_of_a_lost_journal_is_found_by_its_signed_tags(ground: TwinGround, region: str) -> None:
    make(ground.hands())
    ground.lose_journal()
    torn = teardown(ground.hands(), CELL, ground.fabric.home, region)
    assert torn.receipt.left == 0
    assert ground.live() == []
    assert open_hold(ground.fabric, CELL) is None


def test_in_another_account_everything_looks_gone_so_nothing_is_believed(ground: TwinGround) -> None:
    make(ground.hands())
    journal = ground.hands().journal
    row = journal.stack(CELL)
    assert row is not None
    journal.write(msgspec.structs.replace(row, account="another"))
    with pytest.raises(GrafosError) as refused:
        undo(ground.hands())
    assert refused.value.code == "cloud_auth"
    assert "another" in refused.value.what


# --- what stays ---------------------------------------------------------------------------------------------------


def left_over(ground: TwinGround, fault: Fault) -> GrafosError:
    make(ground.hands())
    ground.faults.add(fault)
    with pytest.raises(GrafosError) as refused:
        undo(ground.hands())
    return refused.value


def test_what_cannot_be_deleted_is_listed_and_the_hold_stays(ground: TwinGround) -> None:
    denied = Fault("begin_delete", Effect.REFUSE, kind=Kind.MACHINE, code="cloud_denied", times=99)
    refused = left_over(ground, denied)
    assert (refused.code, refused.exit_code) == ("resources_left", 9)
    kinds = {left["kind"] for left in refused.context["left"]}
    assert "machine" in kinds
    assert open_hold(ground.fabric, CELL) is not None
    receipt = CellHome(ground.fabric, CELL).receipt()
    assert receipt is not None
    assert open_signed(receipt, TeardownReceipt, ground.fabric.key.public_key()).left == len(refused.context["left"])


def test_what_stayed_is_deleted_by_the_next_teardown(ground: TwinGround) -> None:
    left_over(ground, Fault("begin_delete", Effect.REFUSE, kind=Kind.MACHINE, code="cloud_denied", times=1))
    assert torn_down(ground).left == 0
    assert ground.live() == []


def test_a_delete_that_says_done_and_is_not_is_seen_by_the_proof(ground: TwinGround) -> None:
    """The poll is believed by nobody: a read by id and a listing have the last word."""
    make(ground.hands())
    lying: Any = Lying(ground.connector())
    with pytest.raises(GrafosError) as refused:
        teardown(replace(ground.hands(), connector=lying), CELL, ground.fabric.home, REGION)
    assert refused.value.code == "resources_left"
    assert torn_down(ground).left == 0


class Lying:
    """A cloud that says of every delete that it is done, and does nothing."""

    def __init__(self, connector: object) -> None:
        self._connector = connector

    def __getattr__(self, name: str) -> object:
        return getattr(self._connector, name)

    def begin_delete(self, ref: Ref) -> Operation:
        return Operation("delete", ref)

    def poll(self, operation: Operation) -> Done:
        return Done()


def test_ctrl_c_says_how_to_go_on(ground: TwinGround) -> None:
    make(ground.hands())
    with pytest.raises(GrafosError) as stopped:
        undo(ground.hands(Fuse(20, death=KeyboardInterrupt)))
    assert (stopped.value.code, stopped.value.exit_code) == ("interrupted", 130)
    assert f"grafos cloud teardown aws --cell-id {CELL}" in stopped.value.next


def test_two_teardowns_at_once_are_told_apart(ground: TwinGround) -> None:
    make(ground.hands())
    with ground.hands().journal.lock(CELL), pytest.raises(GrafosError) as refused:
        undo(ground.hands())
    assert refused.value.code == "stack_busy"
