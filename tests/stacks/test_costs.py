"""What cells cost by the ledger, and by which price: on demand is held, spot is settled."""

from __future__ import annotations

import msgspec
import pytest
from crash_sweep import CELL, make, make_half, plan, spec, undo
from hypothesis import given
from hypothesis import strategies as st
from twin_ground import TwinGround

from grafos_connectors.contract import Kind, Price
from grafos_connectors.twin.faults import Effect, Fault
from grafos_core import ledger as ledgers
from grafos_core.errors import GrafosError
from grafos_core.fabric import OPERATOR_ACCOUNT
from grafos_core.ledger import RELEASED, SETTLED, Account, Hold, Meter
from grafos_stacks.bill import BURST_CREDITS, actual_cost, rate_per_hour, rates_billed, rates_held, worst_case
from grafos_stacks.costs import budget_of, cell_costs, sums_of
from grafos_stacks.looking import without_machine
from grafos_stacks.plan import StackPlan

HOUR_S = 3600.0
PRICE = Price("us-east-1", "t4g.medium", 3_360_000, 8_000_000, 500_000, "test", "2026-11-21", False, 1_380_000)


def held(name: str, number: int = 1, at: int = 1000, **fields: object) -> Hold:
    meter = Meter("aws", 3_600_000, since=float(at), until=at + 8 * HOUR_S)
    made = Hold(f"cell/{name}/{number}/{at}", OPERATOR_ACCOUNT, 10**9, f"cell {name}", meter=meter)
    return msgspec.structs.replace(made, **fields)


# --- the report ----------------------------------------------------------------------------------------------------


def test_an_open_cell_accrues_and_one_that_ended_cost_what_it_was_settled_for() -> None:
    ended = held("b", state=SETTLED, actual_micro_cents=77, ended_at=2000.0)
    one, two = cell_costs([held("a"), ended], 1000 + HOUR_S)
    assert (one.cell_id, one.state, one.cost_micro_cents) == ("a", "open", 3_600_000)
    assert (two.cell_id, two.state, two.cost_micro_cents) == ("b", "settled", 77)


def test_several_cells_of_one_name_are_told_apart_and_one_name_is_no_prefix_of_another() -> None:
    holds = [held("a", 1, 1000, state=RELEASED, ended_at=1500.0), held("a", 2, 2000), held("ab"), held("b")]
    assert [cost.since for cost in cell_costs(holds, 3000.0, cell_id="a")] == [2000.0, 1000.0]


def test_since_leaves_out_what_had_ended_before_and_keeps_what_still_runs() -> None:
    holds = [
        held("old", state=SETTLED, actual_micro_cents=1, ended_at=1999.0),
        held("new", state=SETTLED, actual_micro_cents=1, ended_at=2000.0),
        held("running"),
        held("unnoted", state=SETTLED, actual_micro_cents=1),
    ]
    assert {cost.cell_id for cost in cell_costs(holds, 3000.0, since=2000.0)} == {"new", "running"}


def test_other_holds_are_no_cells() -> None:
    assert cell_costs([Hold("slice-a-i-1", "tenant/default", 5, "runs")], 0.0) == ()


def test_a_hold_without_a_meter_counts_whole_and_says_that_its_cloud_is_unknown() -> None:
    (cost,) = cell_costs([held("a", meter=None)], 5000.0)
    assert (cost.provider, cost.since, cost.cost_micro_cents) == ("", 1000.0, 10**9)


def test_fictional_money_is_never_added_to_real_money() -> None:
    emulated = Meter("aws", 3_600_000, since=1000.0, until=10**9, fictional=True)
    costs = cell_costs([held("a"), held("b"), held("c", meter=emulated)], 1000 + HOUR_S)
    real, fictional = sums_of(costs)
    assert (real.fictional, real.cells, real.cost_micro_cents) == (False, 2, 7_200_000)
    assert (fictional.fictional, fictional.cells, fictional.cost_micro_cents) == (True, 1, 3_600_000)


def test_what_is_free_is_never_below_nothing_and_what_is_over_is_told() -> None:
    assert budget_of(Account("operator", 100, 70, 60)).over_micro_cents == 30
    assert budget_of(Account("operator", 100, 70, 60)).free_micro_cents == 0
    assert budget_of(Account("operator", 200, 70, 60)).free_micro_cents == 70


# --- through a cell's life -----------------------------------------------------------------------------------------


def costs_of(ground: TwinGround) -> list[object]:
    with ground.fabric.ledger() as transaction:
        holds = tuple(transaction.ledger.holds.values())
    return [cost.cost_micro_cents for cost in cell_costs(holds, ground.clock.now(), cell_id=CELL)]


def test_a_cell_s_cost_runs_by_its_rate_and_stands_at_what_it_was_settled_for() -> None:
    ground = TwinGround()
    made = make(ground.hands())
    ground.clock.advance(HOUR_S)
    (so_far,) = costs_of(ground)
    assert so_far == pytest.approx(made.rate_micro_cents_per_hour, rel=0.02)
    torn = undo(ground.hands())
    assert torn is not None
    receipt = torn.receipt
    assert costs_of(ground) == [receipt.cost_micro_cents]
    ground.clock.advance(HOUR_S)
    assert costs_of(ground) == [receipt.cost_micro_cents]


def test_a_begun_cell_without_a_machine_costs_nothing_so_far() -> None:
    ground = TwinGround()
    ground.faults.add(Fault("begin_create", Effect.REFUSE, kind=Kind.MACHINE, code="cloud_denied"))
    with pytest.raises(GrafosError):
        make(ground.hands())
    ground.clock.advance(HOUR_S)
    journal = ground.hands().journal
    assert without_machine(journal) == {CELL}
    with ground.fabric.ledger() as transaction:
        holds = tuple(transaction.ledger.holds.values())
    (so_far,) = cell_costs(holds, ground.clock.now(), without_machine=without_machine(journal))
    assert (so_far.cost_micro_cents, so_far.held_micro_cents > 0) == (0, True)
    make(ground.hands())
    assert without_machine(ground.hands().journal) == frozenset()


def test_a_machine_of_which_no_answer_tells_may_cost_something() -> None:
    ground = TwinGround()
    make_half(ground.hands())
    assert without_machine(ground.hands().journal) == frozenset()


# --- spot ----------------------------------------------------------------------------------------------------------


def as_spot(made: StackPlan) -> StackPlan:
    resources = tuple(
        msgspec.structs.replace(what, inputs={**what.inputs, "spot": True}) if what.kind is Kind.MACHINE else what
        for what in made.resources
    )
    return msgspec.structs.replace(made, resources=resources)


def test_a_spot_machine_is_held_for_on_demand_and_settled_by_the_recorded_spot_price() -> None:
    assert rates_held(PRICE, 8).machine == PRICE.machine_per_hour
    assert rates_billed(PRICE, 8, spot=True).machine == PRICE.spot_per_hour
    assert rates_billed(PRICE, 8, spot=False) == rates_held(PRICE, 8)
    spared = PRICE.machine_per_hour - PRICE.spot_per_hour
    assert actual_cost(PRICE, 8, HOUR_S) - actual_cost(PRICE, 8, HOUR_S, spot=True) == spared


def test_without_a_recorded_spot_price_a_spot_machine_is_settled_on_demand() -> None:
    price = msgspec.structs.replace(PRICE, spot_per_hour=0)
    assert rates_billed(price, 8, spot=True) == rates_held(price, 8)


def test_a_plan_knows_whether_its_machine_is_a_spot_machine() -> None:
    made = plan(TwinGround().hands(), spec())
    assert not made.is_spot
    assert as_spot(made).is_spot
    assert as_spot(made).rate_micro_cents_per_hour == rate_per_hour(made.facts.price, made.spec.disk_gib)


@pytest.mark.parametrize(("provider", "more"), [("aws", ""), ("gcp", ""), ("azure", "reads and writes of the disk")])
def test_what_a_bound_leaves_out_is_named(provider: str, more: str) -> None:
    excluded = worst_case(PRICE, 8, HOUR_S, provider=provider).excluded
    assert excluded[:2] == ("egress traffic", "taxes")
    assert len(excluded) == 2 + bool(more)
    assert more in excluded[-1]
    assert provider in BURST_CREDITS, "and why CPU credits are not among it is said"


@given(
    machine=st.integers(1, 10**9),
    spot_share=st.floats(0, 1),
    disk=st.integers(1, 10**8),
    ttl_s=st.integers(60, 30 * 86400),
    share=st.floats(0, 1),
)
def test_a_spot_machine_never_costs_more_than_was_held(
    machine: int, spot_share: float, disk: int, ttl_s: int, share: float
) -> None:
    price = msgspec.structs.replace(
        PRICE, machine_per_hour=machine, spot_per_hour=int(machine * spot_share), disk_per_gib_month=disk
    )
    cost = actual_cost(price, 8, ttl_s * share, spot=True)
    assert cost <= actual_cost(price, 8, ttl_s * share) <= worst_case(price, 8, ttl_s).total_micro_cents


def test_the_ledger_of_a_lowered_cap_makes_no_new_cell_and_lets_the_old_one_end() -> None:
    ground = TwinGround()
    make(ground.hands())
    with ground.fabric.ledger() as transaction:
        transaction.write(ledgers.set_cap(transaction.ledger, OPERATOR_ACCOUNT, 1))
    with pytest.raises(GrafosError) as refused:
        make(ground.hands(), spec("aws-two"))
    assert refused.value.code == "budget_exceeded"
    assert "grafos cloud budget set" in refused.value.next
    torn = undo(ground.hands())
    assert torn is not None
    assert torn.receipt.left == 0
