"""Claims, tenants, and the slices of a budget that a scheduler may spend."""

from __future__ import annotations

import pytest
from desk import Desk

from grafos_core.errors import GrafosError
from grafos_core.receipts import Settlement
from grafos_core.resources import Resources
from grafos_scheduler import events, messages, tenant_events, tenants, views
from grafos_scheduler.state import DEFAULT_QUOTA


def test_the_first_operator_keeps_the_scheduler_and_may_repeat_the_claim() -> None:
    desk = Desk()
    assert not desk.tell(events.ClaimAccepted("fab", "op", "operator-key")).batch
    for fabric, key in (("fab", "another-key"), ("another", "operator-key")):
        with pytest.raises(GrafosError) as refusal:
            desk.tell(events.ClaimAccepted(fabric, "op", key))
        assert refusal.value.code == "claim_refused"


def test_registering_a_tenant_again_with_its_slice_changes_nothing() -> None:
    desk = Desk()
    expires_at = desk.state.slices["slice-1"].expires_at
    desk.clock.advance(10.0)
    again = desk.tell(tenant_events.TenantRegistered("ada", None, "slice-1", 1_000_000_000, expires_at, "key-of-ada"))
    assert not again.batch
    assert isinstance(again.answer, messages.TenantView)
    assert again.answer.budget_micro_cents == 1_000_000_000


def test_a_tenant_has_the_quota_that_its_operator_named_or_a_wide_one() -> None:
    desk = Desk()
    assert desk.state.tenants["ada"].quota == DEFAULT_QUOTA
    desk.give_slice("slice-2", 1, quota=Resources(cpu_cores=3))
    desk.give_slice("slice-3", 1)
    assert desk.state.tenants["ada"].quota == Resources(cpu_cores=3)


def test_a_slice_with_other_contents_is_refused() -> None:
    desk = Desk()
    for tenant, amount in (("ada", 5), ("grace", 1_000_000_000)):
        with pytest.raises(GrafosError) as refusal:
            desk.give_slice("slice-1", amount, tenant=tenant)
        assert refusal.value.code == "slice_refused"
    assert desk.state.ledger.accounts["slice-1"].cap_micro_cents == 1_000_000_000


def test_a_slice_that_has_run_out_is_refused() -> None:
    with pytest.raises(GrafosError) as refusal:
        Desk().give_slice("slice-2", 5, life_s=-1.0)
    assert refusal.value.code == "slice_refused"


def test_a_tenant_may_have_only_so_many_slices() -> None:
    desk = Desk()
    for number in range(tenants.SLICES_PER_TENANT_MAX - 1):
        desk.state.slices_by_tenant["ada"][f"made-{number}"] = None
        desk.state.slices[f"made-{number}"] = desk.state.slices["slice-1"]
    with pytest.raises(GrafosError) as refusal:
        desk.give_slice("slice-more", 5)
    assert refusal.value.code == "limit_exceeded"


def test_a_view_sums_the_tenants_slices() -> None:
    desk = Desk(budget_micro_cents=20_000)
    desk.add_cell()
    desk.give_slice("slice-2", 5_000)
    desk.report(desk.start(), seconds=2.0)
    desk.start(run_key="another-key-of-it")
    view = tenants.view(desk.state, desk.state.tenants["ada"])
    assert (view.budget_micro_cents, view.spent_micro_cents, view.held_micro_cents) == (25_000, 1_000, 5_000)
    assert view.leased == Resources(cpu_cores=2)


def settlement(desk: Desk) -> Settlement:
    answer = desk.tell(tenant_events.SliceClosed("slice-1")).answer
    assert isinstance(answer, Settlement)
    return answer


def test_a_closed_slice_admits_nothing_more_and_is_final_when_no_run_holds_any_of_it() -> None:
    desk = Desk()
    desk.add_cell()
    run = desk.start()
    first = settlement(desk)
    assert (first.final, first.spent_micro_cents, first.tenant, first.scheduler) == (False, 0, "ada", "sched")
    with pytest.raises(GrafosError) as refusal:
        desk.ask(run_key="another-key-of-it")
    assert refusal.value.code == "budget_exceeded"
    desk.report(run, seconds=2.0)
    second = settlement(desk)
    assert (second.final, second.spent_micro_cents, second.settled_at) == (True, 1_000, desk.now)


def test_a_closed_slice_stays_closed_when_it_is_handed_in_again() -> None:
    desk = Desk()
    settlement(desk)
    row = desk.state.slices["slice-1"]
    desk.tell(
        tenant_events.TenantRegistered("ada", None, "slice-1", row.amount_micro_cents, row.expires_at, "key-of-ada")
    )
    assert desk.state.slices["slice-1"].closed


def test_an_unknown_slice_cannot_be_closed() -> None:
    with pytest.raises(GrafosError) as refusal:
        Desk().tell(tenant_events.SliceClosed("slice-9"))
    assert refusal.value.code == "not_found"


def test_a_cost_is_shown_with_the_rate_that_held_when_the_run_was_admitted() -> None:
    desk = Desk()
    desk.add_cell()
    run = desk.start()
    desk.set_terms(rate=1)
    desk.report(run, seconds=2.0)
    view = views.run_view(desk.state, desk.state.runs[run.run_id])
    assert (view.cost.rate_micro_cents_per_hour, view.cost.micro_cents) == (3_600_000, 1_000)
