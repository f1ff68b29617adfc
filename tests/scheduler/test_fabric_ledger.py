"""The fabric's ledger at an orchestrator: it comes once, an operator books in it, and it goes again."""

from __future__ import annotations

from typing import Any

import pytest
from desk import ORCHESTRATOR, Desk
from msgspec.structs import replace

from grafos_core import ledger as ledgers
from grafos_core.booking import Booking, CapStep, HoldStep, LedgerCopy, booking_of, check_adds_up, digest_of
from grafos_core.errors import GrafosError
from grafos_core.ledger import Account, Decide, Hold, Ledger
from grafos_scheduler import events, fabric_ledger, rows, tenant_events
from grafos_scheduler.ledger_messages import LedgerRows, LedgerView
from grafos_scheduler.reservation_events import ReservationAsked

OPERATOR, TENANT = "operator", "tenant/acme"
CELL = Hold("cell/web/1/5", OPERATOR, 300, "cell web")
SLICE = Hold("slice-web", TENANT, 200, "runs", slice_for="web", expires_at=9_000_000_000.0)
ENDED = Hold("cell/old/1/4", OPERATOR, 80, "cell old", state="settled", actual_micro_cents=70)


def copy_of(generation: int = 1, spent: int = 70) -> LedgerCopy:
    accounts = (
        Account(OPERATOR, 1_000, spent_micro_cents=spent, held_micro_cents=300),
        Account(TENANT, 2_000_000_000, spent_micro_cents=5, held_micro_cents=200),
    )
    return LedgerCopy(generation, accounts, (CELL, SLICE, ENDED))


def orchestrator() -> Desk:
    """An orchestrator with a cell that is ready, and tenant acme with its budget of 2,000 cents."""
    desk = Desk(ORCHESTRATOR)
    token = desk.mint("cell-1")
    desk.enrol(token)
    desk.add_cell()
    desk.tell(tenant_events.TenantAdmitted("acme", None, None, "key-of-acme"))
    return desk


def take(desk: Desk, copy: LedgerCopy) -> LedgerView:
    answer = desk.tell(events.LedgerTaken(copy, digest_of(copy))).answer
    assert isinstance(answer, LedgerView)
    return answer


def close(desk: Desk, generation: int = 1, **asked: Any) -> LedgerView:
    answer = desk.tell(events.LedgerClosed(generation, **asked)).answer
    assert isinstance(answer, LedgerView)
    return answer


def book(desk: Desk, decide: Decide) -> LedgerRows:
    answer = desk.tell(events.LedgerBooked(booking_of(desk.state.ledger, decide(desk.state.ledger)))).answer
    assert isinstance(answer, LedgerRows)
    return answer


def refused(desk: Desk, event: events.Event) -> str:
    with pytest.raises(GrafosError) as error:
        desk.tell(event)
    return error.value.code


def operators(ledger: Ledger) -> dict[str, Hold]:
    return {held.hold_id: held for held in ledger.holds.values() if fabric_ledger.is_operators(held)}


def test_the_ledger_comes_whole_and_once() -> None:
    desk, copy = orchestrator(), copy_of()
    first = take(desk, copy)
    assert (first.state, first.generation, first.digest) == ("open", 1, digest_of(copy))
    assert operators(desk.state.ledger) == {held.hold_id: held for held in copy.holds}
    assert desk.state.ledger.accounts[OPERATOR] == copy.accounts[0]
    assert take(desk, copy) == first
    desk.restart()
    assert take(desk, copy) == first
    other = copy_of(spent=71)
    assert refused(desk, events.LedgerTaken(other, digest_of(other))) == "ledger_elsewhere"
    assert not desk.tell(events.LedgerTaken(copy, digest_of(copy))).batch


def test_the_same_ledger_again_takes_nothing_back_that_was_booked_since() -> None:
    desk = orchestrator()
    take(desk, copy_of())
    book(desk, lambda ledger: ledgers.settle(ledger, CELL.hold_id, 250))
    take(desk, copy_of())
    assert desk.state.ledger.holds[CELL.hold_id].state == "settled"


@pytest.mark.parametrize(
    "copy",
    [
        LedgerCopy(1, (Account("slush", 5),), ()),
        LedgerCopy(1, (Account("tenant/Not A Name", 5),), ()),
        LedgerCopy(1, (Account(TENANT, 5, held_micro_cents=1),), (Hold("run-1/1", TENANT, 1, "run"),)),
        LedgerCopy(1, (Account(OPERATOR, 5, held_micro_cents=1),), ()),
    ],
)
def test_what_is_no_ledger_of_a_fabric_does_not_come_in(copy: LedgerCopy) -> None:
    assert refused(orchestrator(), events.LedgerTaken(copy, digest_of(copy))) in ("request_invalid", "name_invalid")


def test_a_ledger_that_was_changed_on_the_way_does_not_come_in() -> None:
    assert refused(orchestrator(), events.LedgerTaken(copy_of(), digest_of(copy_of(spent=71)))) == "request_invalid"


def test_what_a_tenant_spent_here_before_is_spent_beside_what_the_ledger_brings() -> None:
    desk = orchestrator()
    run = desk.start(tenant="acme")
    held = desk.state.ledger.accounts[TENANT].held_micro_cents
    take(desk, copy_of())
    account = desk.state.ledger.accounts[TENANT]
    assert account.held_micro_cents == held + 200
    desk.report(run, seconds=1.0)
    account = desk.state.ledger.accounts[TENANT]
    assert (account.held_micro_cents, account.spent_micro_cents) == (200, 5 + 1_000 * 1 // 2)
    assert account.cap_micro_cents == 2_000_000_000


def test_an_operator_books_cells_and_slices_and_no_cap_is_passed() -> None:
    desk = orchestrator()
    take(desk, copy_of())
    told = book(desk, lambda ledger: ledgers.hold(ledger, "cell/new/1/6", OPERATOR, 500, "cell new"))
    assert [account.held_micro_cents for account in told.accounts] == [800]
    assert [held.hold_id for held in told.holds] == ["cell/new/1/6"]
    over = Hold("cell/over/1/7", OPERATOR, 131, "cell over")
    assert refused(desk, events.LedgerBooked(Booking((HoldStep(over),)))) == "ledger_conflict"
    cut = book(
        desk,
        lambda ledger: ledgers.hold(ledger, "slice-2", TENANT, 50, "runs", slice_for="new", expires_at=9_000_000_000),
    )
    assert cut.revision == told.revision + 1
    assert book(desk, lambda ledger: ledgers.set_cap(ledger, OPERATOR, 5_000)).accounts[0].cap_micro_cents == 5_000


def test_a_booking_is_in_the_audit_log_with_who_and_how_much() -> None:
    desk = orchestrator()
    take(desk, copy_of())
    book(desk, lambda ledger: ledgers.settle(ledger, CELL.hold_id, 250))
    noted = [row for kind, _, row in desk.memory.load() if kind == rows.AUDIT]
    assert [record.kind for record in noted[-2:]] == ["LedgerTaken", "MoneyBooked"]
    assert noted[-1].subject == CELL.hold_id
    assert noted[-1].details["actual_micro_cents"] == 250


def test_a_tenants_money_is_not_an_operators_to_book_by_this_way() -> None:
    desk = orchestrator()
    take(desk, copy_of())
    run = desk.ask(tenant="acme")
    held = desk.state.ledger.holds[run.hold_id]
    ended = Hold(held.hold_id, held.account, held.amount_micro_cents, held.purpose, state="released")
    for booking in (
        Booking((HoldStep(ended, held),)),
        Booking((HoldStep(Hold("h", TENANT, 5, "a present")),)),
        Booking(caps=(CapStep(TENANT, 2_000_000_000, 5),)),
    ):
        assert refused(desk, events.LedgerBooked(booking)) == "request_invalid"
    assert desk.state.ledger.holds[run.hold_id] == held


def test_nothing_is_booked_where_the_ledger_is_not() -> None:
    desk = orchestrator()
    asked = events.LedgerBooked(Booking((HoldStep(Hold("cell/x/1/5", OPERATOR, 1, "x")),)))
    assert refused(desk, asked) == "ledger_elsewhere"
    assert refused(desk, events.LedgerClosed(1)) == "ledger_elsewhere"
    take(desk, copy_of())
    assert refused(desk, events.LedgerClosed(2)) == "ledger_elsewhere"
    close(desk)
    assert refused(desk, asked) == "ledger_elsewhere"


def test_from_closing_on_nobody_holds_anything_and_runs_under_way_are_waited_for() -> None:
    desk = orchestrator()
    take(desk, copy_of())
    run = desk.start(tenant="acme")
    seen = close(desk)
    assert (seen.state, seen.running) == ("closing", 1)
    assert refused(desk, events.RunRequested("acme", desk.request(run_key="another-key-of-a-run"))) == "budget_exceeded"
    assert refused(desk, tenant_events.TenantChanged("acme", budget_cents=9_000)) == "ledger_elsewhere"
    desk.tell(tenant_events.TenantChanged("acme", budget_cents=2_000))  # as it is
    desk.tell(tenant_events.TenantAdmitted("globex", None, 9_000, "key-of-globex"))
    asked = desk.request(run_key="a-third-key-of-a-run")
    assert refused(desk, events.RunRequested("globex", asked)) == "budget_exceeded"
    assert refused(desk, events.LedgerTaken(copy_of(), digest_of(copy_of()))) == "ledger_elsewhere"
    desk.report(run)
    assert close(desk).state == "closed"


def test_what_runs_hold_that_never_end_counts_as_spent_in_full() -> None:
    desk = orchestrator()
    take(desk, copy_of())
    run = desk.start(tenant="acme")
    held = desk.state.ledger.holds[run.hold_id].amount_micro_cents
    assert close(desk, spend_running=True).state == "closed"
    account = desk.state.ledger.accounts[TENANT]
    assert (account.spent_micro_cents, account.held_micro_cents) == (5 + held, 200)
    desk.report(run, seconds=1.0)
    assert desk.state.ledger.accounts[TENANT] == account, "its end comes too late to change that"


def test_what_goes_home_adds_up_and_bears_its_digest() -> None:
    desk = orchestrator()
    take(desk, copy_of())
    desk.report(desk.start(tenant="acme"))
    seen = close(desk)
    holds = fabric_ledger.operators_holds(desk.state)
    gone = LedgerCopy(1, tuple(fabric_ledger.fabrics_accounts(desk.state.ledger)), tuple(holds))
    check_adds_up(gone)
    assert digest_of(gone) == seen.digest == fabric_ledger.view(desk.state).digest


def test_a_ledger_that_was_home_comes_again_and_an_old_one_never_does() -> None:
    desk = orchestrator()
    take(desk, copy_of())
    desk.report(desk.start(tenant="acme"))
    close(desk)
    spent = desk.state.ledger.accounts[TENANT].spent_micro_cents
    for old in (copy_of(), copy_of(spent=1)):
        assert refused(desk, events.LedgerTaken(old, digest_of(old))) == "ledger_elsewhere"
    settled = tuple(replace(held, state="settled", actual_micro_cents=30) for held in (CELL, SLICE))
    accounts = (Account(OPERATOR, 900, spent_micro_cents=100), Account(TENANT, 2_000_000_000, spent + 30))
    again = LedgerCopy(2, accounts, (*settled, ENDED))
    assert take(desk, again).state == "open"
    assert operators(desk.state.ledger) == {held.hold_id: held for held in again.holds}
    assert desk.state.ledger.accounts[TENANT] == accounts[1], "what was spent here went home once"
    assert desk.state.ledger.accounts[OPERATOR] == accounts[0]
    assert desk.ask(tenant="acme", run_key="a-run-after-all-that").hold_id


def given_up() -> tuple[Desk, rows.Run, int]:
    """An orchestrator that was given up while a run went on; what runs had spent there since the ledger came."""
    desk = orchestrator()
    take(desk, copy_of())
    desk.report(desk.start(tenant="acme", run_key="a-run-before-it-was-lost"))
    run = desk.start(tenant="acme")
    return desk, run, desk.state.ledger.accounts[TENANT].spent_micro_cents - 5


def at_home() -> LedgerCopy:
    """The copy that was opened at home: there the slice was settled for 150, and ``web`` for 90."""
    ended = (
        replace(CELL, state="settled", actual_micro_cents=90),
        replace(SLICE, state="settled", actual_micro_cents=150),
    )
    accounts = (Account(OPERATOR, 1_000, spent_micro_cents=160), Account(TENANT, 7, spent_micro_cents=155))
    return LedgerCopy(2, accounts, (*ended, ENDED), lost=(1,))


def test_what_was_spent_at_an_orchestrator_that_was_given_up_is_spent_beside_what_the_home_says() -> None:
    desk, run, spent_here = given_up()
    assert spent_here > 0
    assert take(desk, at_home()).lost == (1,)
    account, held = desk.state.ledger.accounts[TENANT], desk.state.ledger.holds[run.hold_id]
    assert account == Account(TENANT, 2_000_000_000, 155 + spent_here, held.amount_micro_cents)
    assert desk.state.ledger.accounts[OPERATOR].spent_micro_cents == 160
    desk.report(run, seconds=1.0)
    assert desk.state.ledger.accounts[TENANT].held_micro_cents == 0


def test_what_was_spent_at_two_orchestrators_is_spent_at_both() -> None:
    """The home gave one up, moved its ledger to another, fetched it there, and meets the first again."""
    desk, _, spent_here = given_up()
    operators, tenants = at_home().accounts
    elsewhere = replace(tenants, spent_micro_cents=tenants.spent_micro_cents + spent_here + 40)
    take(desk, replace(at_home(), generation=3, accounts=(operators, elsewhere)))
    assert desk.state.ledger.accounts[TENANT].spent_micro_cents == 155 + spent_here + spent_here + 40


def test_given_up_twice_in_a_row_it_is_spent_once() -> None:
    desk, run, spent_here = given_up()
    take(desk, at_home())
    desk.restart()
    take(desk, replace(at_home(), generation=3, lost=(1, 2)))
    assert desk.state.ledger.accounts[TENANT].spent_micro_cents == 155 + spent_here
    desk.report(run, seconds=1.0)
    spent_here = desk.state.ledger.accounts[TENANT].spent_micro_cents - 155
    take(desk, replace(at_home(), generation=4, lost=(1, 2, 3)))
    assert desk.state.ledger.accounts[TENANT].spent_micro_cents == 155 + spent_here


def test_what_was_booked_at_an_orchestrator_that_was_given_up_is_still_held_and_was_spent() -> None:
    """By another home of the fabric, whose journal the one that gave it up does not have; or for a new tenant."""
    desk, _, _ = given_up()
    desk.tell(tenant_events.TenantAdmitted("globex", None, None, "key-of-globex"))
    slice_of = replace(SLICE, hold_id="slice-new", account="tenant/globex", amount_micro_cents=70, slice_for="new")
    for held in (Hold("cell/new/1/6", OPERATOR, 500, "cell new"), slice_of):
        desk.tell(events.LedgerBooked(Booking((HoldStep(held),))))
    book(desk, lambda ledger: ledgers.hold(ledger, "cell/gone/1/7", OPERATOR, 100, "cell gone"))
    book(desk, lambda ledger: ledgers.settle(ledger, "cell/gone/1/7", 40))
    take(desk, at_home())
    ledger = desk.state.ledger
    assert ledger.accounts[OPERATOR] == Account(OPERATOR, 1_000, 160 + 40, 500)
    assert ledger.accounts["tenant/globex"].held_micro_cents == 70
    book(desk, lambda known: ledgers.settle(known, "slice-new", 60))
    assert ledger.accounts["tenant/globex"].held_micro_cents == 0
    desk.report(next(desk.state.runs_under_way()))
    close(desk, 2)
    holds = fabric_ledger.operators_holds(desk.state)
    check_adds_up(LedgerCopy(2, tuple(fabric_ledger.fabrics_accounts(desk.state.ledger)), tuple(holds)))


def test_only_what_runs_spent_since_the_ledger_came_is_told_as_spent_here() -> None:
    desk, _, spent_here = given_up()
    book(desk, lambda ledger: ledgers.settle(ledger, SLICE.hold_id, 150))
    assert fabric_ledger.spent_here(desk.state) == {TENANT: spent_here}


# --- who fetches it -----------------------------------------------------------------------------------------------

MINE, ANOTHERS = "a" * 32, "b" * 32


def test_a_ledger_goes_to_one_home() -> None:
    desk = orchestrator()
    take(desk, copy_of())
    run = desk.start(tenant="acme")
    assert close(desk, fetch=MINE).state == "closing"
    assert refused(desk, events.LedgerClosed(1, fetch=ANOTHERS)) == "ledger_elsewhere"
    assert refused(desk, events.LedgerClosed(1)) == "ledger_elsewhere"
    desk.report(run)
    assert close(desk, fetch=MINE).state == "closed"
    desk.restart()
    assert refused(desk, events.LedgerClosed(1, fetch=ANOTHERS)) == "ledger_elsewhere"
    assert close(desk, fetch=MINE).state == "closed"


def test_from_a_home_that_is_lost_the_fetching_is_taken_over_and_then_that_one_gets_nothing() -> None:
    desk = orchestrator()
    take(desk, copy_of())
    seen = close(desk, fetch=MINE)
    assert close(desk, fetch=ANOTHERS, take_over=True) == seen
    assert refused(desk, events.LedgerClosed(1, fetch=MINE)) == "ledger_elsewhere"
    noted = [row for kind, _, row in desk.memory.load() if kind == rows.AUDIT]
    assert [record.details["fetch"] for record in noted[-2:]] == [MINE, ANOTHERS]


@pytest.mark.parametrize("running", [False, True])
def test_a_ledger_that_an_older_version_closed_goes_to_the_home_that_asked_for_it_then(*, running: bool) -> None:
    """Which drew no word; a home that says one has to say that the first is lost."""
    desk = orchestrator()
    take(desk, copy_of())
    if running:
        desk.start(tenant="acme")
    seen = close(desk)
    assert refused(desk, events.LedgerClosed(1, fetch=MINE)) == "ledger_elsewhere"
    assert close(desk) == seen
    assert close(desk, fetch=MINE, take_over=True).state == seen.state
    assert refused(desk, events.LedgerClosed(1)) == "ledger_elsewhere"


def test_the_next_generation_is_anybodys_to_fetch() -> None:
    desk = orchestrator()
    take(desk, copy_of())
    close(desk, fetch=MINE)
    take(desk, copy_of(generation=2))
    assert close(desk, 2, fetch=ANOTHERS).state == "closed"


def test_what_a_program_reserved_does_not_keep_the_ledger_from_going_home() -> None:
    desk = orchestrator()
    take(desk, copy_of())
    desk.tell(ReservationAsked("acme", "a-key-of-the-program", 1_000, desk.now + 86_400.0))
    assert close(desk).state == "closing"
    desk.wait(1, "cell-1")
    assert close(desk).state == "closed"
