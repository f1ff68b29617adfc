"""Many cells at once: paid for in full before the first is made, in parallel, each for itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from crash_sweep import Fuse, plan, spec, undo
from registered_operator import QUICK, RegisteredOperator
from twin_ground import TwinGround

from grafos_connectors.contract import Kind
from grafos_connectors.twin import Effect, Fault, Limits, Timings, TwinCloud
from grafos_core import ledger as ledgers
from grafos_core.clock import SystemClock
from grafos_core.errors import GrafosError
from grafos_core.fabric import OPERATOR_ACCOUNT, open_fabric
from grafos_core.ledger_place import Place, Standing
from grafos_core.money import from_cents
from grafos_emulators.emulator import EmulatedClouds, Settings
from grafos_stacks.batch import Target, teardown_batch
from grafos_stacks.bundle import Bundles
from grafos_stacks.candidates import Provided
from grafos_stacks.direct import Hands
from grafos_stacks.failover import make_somewhere
from grafos_stacks.fleet import COUNT_MAX, Made, each, hold_fleet, names_of, plans_for, provision_fleet
from grafos_stacks.journal import Journal, JournalWriter, StackRow, StackState
from grafos_stacks.making import hold_all, note_made
from grafos_stacks.plan import Planned, StackPlan
from grafos_stacks.records import CellRecord
from grafos_stacks.side_by_side import HandsOf

HOUR_S = 3600
NAMES = names_of("web", 6)


# --- names ----------------------------------------------------------------------------------------------------------


def test_cells_are_numbered_and_one_alone_is_not() -> None:
    assert names_of("web", 1) == ("web",)
    assert names_of("web", 3) == ("web-1", "web-2", "web-3")


@pytest.mark.parametrize(
    ("base", "count", "code"),
    [
        ("web", 0, "config_invalid"),
        ("web", -1, "config_invalid"),
        ("web", COUNT_MAX + 1, "limit_exceeded"),
        ("w" * 30, 2, "name_invalid"),
        ("No_Name", 2, "name_invalid"),
    ],
)
def test_names_that_cannot_be_are_told(base: str, count: int, code: str) -> None:
    with pytest.raises(GrafosError) as refused:
        names_of(base, count)
    assert refused.value.code == code


class QuickGround(TwinGround):
    """A twin by the real clock, whose machines start and end at once: threads that wait for each other need one."""

    def __init__(self, limits: Limits | None = None) -> None:
        super().__init__()
        self.real = SystemClock()
        self.cloud = TwinCloud(self.real, timings=Timings(machine_start_s=0.0, machine_end_s=0.0), limits=limits)

    def hands(self, fuse: Fuse | None = None) -> Hands:
        assert fuse is None
        return Hands(self.fabric, self.connector(), Journal(self.fabric, self.real), self.real, time.sleep)


# --- on the twin ----------------------------------------------------------------------------------------------------


def cells_on(ground: TwinGround, names: Sequence[str] = NAMES) -> list[list[StackPlan]]:
    return plans_for([plan(ground.hands(), spec(names[0], ttl_s=HOUR_S))], names)


def make_one(hands_of: HandsOf, plans: Sequence[StackPlan]) -> Provided:
    """The cloud half: the twin's machines run nothing."""
    hands, wanted = hands_of["aws"], plans[0]

    def late(what: Planned, attempt: int) -> dict[str, str]:
        return {"user_data": f"{wanted.stack} {attempt}"} if what.kind is Kind.MACHINE else {}

    with hands.journal.lock(wanted.stack):
        made = make_somewhere(hands, wanted, lambda _: late)
        note_made(hands, wanted.stack)
    return Provided(CellRecord(wanted.stack, "f", "aws", "r", "", 0, 0.0, 0.0, machine_id=made.machine.ref.id), ())


def make_all(ground: TwinGround, cells: list[list[StackPlan]]) -> tuple[Made, ...]:
    hands_of = {"aws": ground.hands()}
    hold_fleet(hands_of, [plans[0] for plans in cells])
    return each(hands_of, cells, make_one)


def open_holds(ground: TwinGround) -> dict[str, int]:
    with ground.fabric.ledger() as transaction:
        holds = transaction.ledger.holds.values()
        return {held.hold_id.split("/")[1]: held.amount_micro_cents for held in holds if held.state == ledgers.OPEN}


def machines(ground: TwinGround) -> int:
    return len([one for one in ground.found() if one.ref.kind is Kind.MACHINE])


def networks(ground: TwinGround) -> int:
    return len([one for one in ground.found() if one.ref.kind is Kind.NETWORK])


def test_all_are_made_on_one_network_with_three_calls_each_and_gone_in_one_batch() -> None:
    ground = QuickGround()
    names = names_of("web", 64)
    outcomes = make_all(ground, cells_on(ground, names))
    assert [one.cell_id for one in outcomes] == list(names)
    assert [one.error for one in outcomes if one.error] == []
    assert (machines(ground), networks(ground)) == (64, 1)
    assert sum(ground.cloud.changing_calls.values()) == 8 + 3 * 63
    assert set(open_holds(ground)) == set(names)
    torn = teardown_batch(ground.hands(), [Target(name, "aws", "us-east-1") for name in names], Path("project"))
    assert [one.error for one in torn if one.error] == []
    assert ground.live() == []
    assert open_holds(ground) == {}


def test_all_is_held_before_the_first_is_made_or_nothing_is() -> None:
    ground = QuickGround()
    cells = cells_on(ground)
    one = cells[0][0].bill.total_micro_cents
    with ground.fabric.ledger() as transaction:
        transaction.write(ledgers.set_cap(transaction.ledger, OPERATOR_ACCOUNT, 6 * one - 1))
    with pytest.raises(GrafosError) as refused:
        make_all(ground, cells)
    assert refused.value.code == "budget_exceeded"
    assert refused.value.what.startswith("6 cells may cost")
    assert open_holds(ground) == {}
    assert sum(ground.cloud.changing_calls.values()) == 0
    with ground.fabric.ledger() as transaction:
        transaction.write(ledgers.set_cap(transaction.ledger, OPERATOR_ACCOUNT, 6 * one))
    assert not [made.error for made in make_all(ground, cells) if made.error]
    assert sum(open_holds(ground).values()) == 6 * one


def test_one_that_fails_keeps_no_other_and_the_same_again_makes_the_rest() -> None:
    ground = QuickGround()
    ground.faults.add(Fault("begin_create", Effect.REFUSE, kind=Kind.MACHINE, code="cloud_denied", times=2))
    cells = cells_on(ground)
    outcomes = make_all(ground, cells)
    assert sorted(one.error.code for one in outcomes if one.error) == ["cloud_denied"] * 2
    assert machines(ground) == 4
    assert len(open_holds(ground)) == 6
    again = make_all(ground, cells)
    assert [one.error for one in again if one.error] == []
    assert machines(ground) == 6
    assert len(open_holds(ground)) == 6


def test_a_zone_that_fills_up_on_the_way_sends_the_others_on() -> None:
    ground = QuickGround(limits=Limits(machines_per_zone={"us-east-1a": 2, "us-east-1b": 3, "us-east-1c": 9}))
    outcomes = make_all(ground, cells_on(ground))
    assert [one.error for one in outcomes if one.error] == []
    zones = sorted(one.ref.zone for one in ground.found() if one.ref.kind is Kind.MACHINE)
    assert zones == ["us-east-1a"] * 2 + ["us-east-1b"] * 3 + ["us-east-1c"]


def test_a_run_that_died_after_its_rows_and_before_its_holds_is_held_in_full_by_the_next() -> None:
    ground = QuickGround()
    cells = cells_on(ground)
    hands = ground.hands()
    hold_all({"aws": hands}, [plans[0] for plans in cells])
    with ground.fabric.ledger() as transaction:
        for held in list(transaction.ledger.holds.values()):
            transaction.write(ledgers.release(transaction.ledger, held.hold_id))
    for row in hands.journal.stacks():  # as if the ledger had never heard of them
        hands.journal.write(msgspec.structs.replace(row, hold_id=row.hold_id.replace("/1/", "/7/")))
    hold_all({"aws": ground.hands()}, [plans[0] for plans in cells])
    assert set(open_holds(ground)) == set(NAMES)


class Unanswered:
    """A ledger that is kept elsewhere: it books, and its first answer is lost on the way."""

    def __init__(self) -> None:
        self.ledger = ledgers.Ledger()
        self.ledger.apply(ledgers.open_account(self.ledger, OPERATOR_ACCOUNT, from_cents(100_000)))
        self.answers = False

    def read(self) -> ledgers.Ledger:
        return self.ledger

    def book(self, decide: ledgers.Decide) -> ledgers.Ledger:
        self.ledger.apply(decide(self.ledger))
        if not self.answers:
            raise GrafosError("scheduler_unreachable", "the orchestrator did not answer")
        return self.ledger


def test_cells_whose_holds_were_not_answered_for_are_gone_on_with() -> None:
    """All of them may be held, and of one that the journal called gone nobody would ever end the hold."""
    books, ground = Unanswered(), QuickGround()
    ground.fabric = open_fabric(SystemClock(), ground.fabric.name, elsewhere=lambda _: books)
    with ground.fabric.ledger() as local:
        local.go(Place(Standing.MOVED, 1, "orchestrator"))
    cells = cells_on(ground)
    with pytest.raises(GrafosError) as unanswered:
        hold_all({"aws": ground.hands()}, [plans[0] for plans in cells])
    assert unanswered.value.code == "scheduler_unreachable"
    assert {row.state for row in ground.hands().journal.stacks()} == {StackState.MAKING}
    books.answers = True
    undo(ground.hands(), NAMES[0])
    assert [one.error for one in make_all(ground, cells[1:]) if one.error] == []
    states = {held.hold_id.split("/")[1]: held.state for held in books.ledger.holds.values()}
    assert states == {NAMES[0]: "settled"} | dict.fromkeys(NAMES[1:], "open")
    assert books.ledger.accounts[OPERATOR_ACCOUNT].spent_micro_cents == 0


def test_ctrl_c_stops_every_cell_where_it_can_go_on() -> None:
    ground = QuickGround()
    cells = cells_on(ground)
    hands_of = {"aws": ground.hands()}
    hold_all(hands_of, [plans[0] for plans in cells])
    pressed = threading.Event()

    def interrupted(own: HandsOf, plans: Sequence[StackPlan]) -> Provided:
        if plans[0].stack == NAMES[0]:
            pressed.set()
            raise KeyboardInterrupt
        pressed.wait(10)
        while True:
            own["aws"].sleep(0.001)

    with pytest.raises(KeyboardInterrupt):
        each(hands_of, cells, interrupted)
    assert [one.error for one in each(hands_of, cells, make_one) if one.error] == []
    assert machines(ground) == 6


def test_two_commands_on_the_same_cells_make_each_of_them_once() -> None:
    ground = QuickGround()
    cells = cells_on(ground)
    results: list[tuple[Made, ...]] = []
    threads = [threading.Thread(target=lambda: results.append(make_all(ground, cells))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == 2
    errors = [one.error.code for outcomes in results for one in outcomes if one.error]
    assert set(errors) <= {"stack_busy"}
    assert (machines(ground), networks(ground)) == (6, 1)
    assert len(open_holds(ground)) == 6
    for name in NAMES:
        undo(ground.hands(), name)
    assert ground.live() == []


def test_a_cell_on_which_another_command_just_begins_is_not_opened_over_its_head() -> None:
    """It holds the cell's lock and has not written its row yet: a second row would name another hold."""
    ground = QuickGround()
    cells = cells_on(ground)
    other = ground.hands()
    with other.journal.lock(NAMES[2]):
        hold_fleet({"aws": ground.hands()}, [plans[0] for plans in cells])
        assert other.journal.stack(NAMES[2]) is None
        assert set(open_holds(ground)) == set(NAMES) - {NAMES[2]}
        outcomes = each({"aws": ground.hands()}, cells, make_one)
    assert [one.cell_id for one in outcomes if one.error] == [NAMES[2]]
    assert [one.error for one in make_all(ground, cells) if one.error] == []
    assert machines(ground) == len(open_holds(ground)) == 6


# --- the shared writer ----------------------------------------------------------------------------------------------


def stack_row(name: str) -> StackRow:
    return StackRow(name, "aws", "us-east-1", "1234", StackState.MAKING, 1.0, 1.0)


def test_what_many_threads_write_is_on_the_disk_when_each_goes_on() -> None:
    fabric, clock = open_fabric(SystemClock()), SystemClock()
    writer = JournalWriter(fabric, clock)
    missing: list[str] = []

    def write(worker: int) -> None:
        own, other = Journal(fabric, clock, writer), Journal(fabric, clock)
        for number in range(20):
            own.write(stack_row(f"s-{worker}-{number}"))
            if other.stack(f"s-{worker}-{number}") is None:
                missing.append(f"s-{worker}-{number}")
        own.close()
        other.close()

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    writer.close()
    assert missing == []
    assert len(Journal(fabric, clock).stacks()) == 160


def test_a_commit_that_fails_is_told_to_each_that_waits_for_it() -> None:
    fabric, clock = open_fabric(SystemClock()), SystemClock()
    writer = JournalWriter(fabric, clock)
    writer.write(stack_row("before"))
    writer.close()
    errors: list[str] = []

    def write(worker: int) -> None:
        try:
            writer.write(stack_row(f"s-{worker}"))
        except GrafosError as error:
            errors.append(error.code)

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(errors) == 4
    assert [row.stack for row in Journal(fabric, clock).stacks()] == ["before"]


# --- on an emulated cloud -------------------------------------------------------------------------------------------


def test_cells_boot_side_by_side_and_one_without_a_machine_stays_alone_without_one(tmp_path: Path) -> None:
    with EmulatedClouds(tmp_path / "cloud", Settings(clouds=("gcp",), times=QUICK)) as clouds:
        fabric = open_fabric(SystemClock())
        operator = RegisteredOperator("gcp", clouds, fabric, tmp_path / "project")
        with fabric.ledger() as transaction:
            transaction.write(ledgers.set_cap(transaction.ledger, OPERATOR_ACCOUNT, from_cents(100_000)))
        names = names_of("web", 4)
        cells = plans_for([operator.plan(names[0], ttl_s=HOUR_S)], names)
        clouds.gcp.quota_limits |= {("INSTANCES", "us-central1"): 3.0}
        told: list[str] = []
        hands_of = {"gcp": replace(operator.hands(), progress=told.append)}
        outcomes = provision_fleet(hands_of, cells, Bundles(), operator.project)
        errors = [one.error for one in outcomes if one.error]
        assert [error.code for error in errors] == ["cloud_quota"]
        records = [one.provided.record for one in outcomes if one.provided]
        assert [record.state for record in records] == ["booted"] * 3
        clouds.gcp.quota_limits.clear()
        again = provision_fleet(hands_of, cells, Bundles(), operator.project)
        assert [one.error for one in again if one.error] == []
        assert len(operator.machines()) == 4
        torn = teardown_batch(operator.hands(), [Target(name, "gcp", "us-central1") for name in names], tmp_path)
        assert [one.error for one in torn if one.error] == []
        assert clouds.world() == ()
