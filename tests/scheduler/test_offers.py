"""What each cell says to a run: where it fits, at what price, and why not elsewhere."""

from __future__ import annotations

import pytest
from desk import ORCHESTRATOR, Desk

from grafos_core.errors import GrafosError
from grafos_core.resources import Resources
from grafos_core.tiers import Tier
from grafos_scheduler import events, offers, tenant_events
from grafos_scheduler.standing_messages import Offers


def a_fleet() -> Desk:
    desk = Desk(ORCHESTRATOR)
    for cell_id, provider, rate in (("cell-a", "aws", 400), ("cell-b", "gcp", 100), ("cell-c", "azure", 200)):
        desk.enrol(desk.mint(cell_id, provider=provider))
        desk.add_cell(cell_id, provider=provider)
        desk.set_terms(cell_id, rate=rate * 3600)
    return desk


def asked(desk: Desk, provider: str = offers.ANY, tenant: str = "ada", **changed: object) -> Offers:
    found = offers.of_each(desk.state, tenant, desk.request(provider=provider, **changed), desk.now)
    return offers.best(list(found))


def test_the_cheapest_that_fits_comes_first_and_each_has_its_price() -> None:
    found = asked(a_fleet()).offers
    assert [(each.cell_id, each.fits, each.worst_case_micro_cents) for each in found] == [
        ("cell-b", True, 500),
        ("cell-c", True, 1000),
        ("cell-a", True, 2000),
    ]
    assert {each.share for each in found} == {"1/2"}


def test_a_provider_that_is_named_is_alone() -> None:
    assert [each.provider for each in asked(a_fleet(), "gcp").offers] == ["gcp"]
    assert asked(a_fleet(), "lab").offers == []


def test_each_that_does_not_fit_says_why_in_the_words_of_its_refusal() -> None:
    desk = a_fleet()
    desk.tell(events.DrainAsked("cell-a"))
    desk.tell(events.LinkClosed("cell-b", desk.state.link_of("cell-b")))
    desk.tell(events.ProviderMarked("azure", production=True, operator="op"))
    why = {each.cell_id: (each.fits, each.code, each.why) for each in asked(desk).offers}
    assert why["cell-a"] == (False, "placement_failed", "draining")
    assert why["cell-b"][:2] == (False, "no_eligible_provider_cells")
    assert "the cell holds no link" in why["cell-b"][2]
    assert why["cell-c"][:2] == (False, "no_eligible_provider_cells")
    assert "conformance" in why["cell-c"][2]


def test_quota_and_money_are_the_tenants_and_stand_with_every_cell() -> None:
    desk = a_fleet()
    desk.give_slice("slice-eve", 600, tenant="eve")
    codes = [(each.cell_id, each.code) for each in asked(desk, tenant="eve").offers]
    assert codes == [("cell-b", ""), ("cell-a", "budget_exceeded"), ("cell-c", "budget_exceeded")]
    desk.give_slice("slice-joe", 10**9, tenant="joe", quota=Resources())
    assert {each.code for each in asked(desk, tenant="joe").offers} == {"quota_exceeded"}
    with pytest.raises(GrafosError) as refusal:
        asked(desk, tenant="nobody")
    assert refusal.value.code == "tenant_unknown"


def test_a_cell_where_others_would_give_way_fits_and_says_how_many() -> None:
    desk = a_fleet()
    for number in range(2):
        desk.start(run_key=f"key-of-scavenger-{number}", provider="gcp", tier=Tier.SCAVENGER)
    [offer] = asked(desk, "gcp", tier=Tier.GUARANTEED).offers
    assert (offer.fits, offer.giving_way) == (True, 1)
    [offer] = asked(desk, "gcp", tier=Tier.SCAVENGER).offers
    assert (offer.fits, offer.code) == (False, "placement_failed")


def test_what_an_offer_says_is_what_admission_does() -> None:
    desk = a_fleet()
    for offer in asked(desk).offers:
        run = desk.ask(run_key=f"key-of-run-on-{offer.cell_id}", provider=offer.provider, cell_id=offer.cell_id)
        assert run.cell_id == offer.cell_id
        assert desk.state.ledger.holds[run.hold_id].amount_micro_cents == offer.worst_case_micro_cents


@pytest.mark.parametrize(
    ("event", "changed"),
    [
        (events.DrainAsked(""), {}),
        (events.DrainAsked("cell-b"), {}),
        (events.ProviderMarked("gcp", production=True, operator="op"), {}),
        (tenant_events.TenantChanged("ada", highest_tier=Tier.STANDARD), {"tier": Tier.GUARANTEED}),
        (tenant_events.TenantChanged("ada", quota=Resources()), {}),
        (events.Tick(), {"max_micro_cents": 499}),
        (events.Tick(), {"lease_gpu_count": 1}),
        (events.Tick(), {"lease_mem_bytes": 1 << 40}),
    ],
)
def test_what_an_offer_refuses_is_what_admission_refuses(event: events.Event, changed: dict[str, object]) -> None:
    desk = a_fleet()
    desk.tell(tenant_events.TenantAdmitted("ada", None, 1_000, "key-of-ada"))
    desk.tell(event)
    [offer] = asked(desk, "gcp", **changed).offers
    with pytest.raises(GrafosError) as refusal:
        desk.ask(provider="gcp", cell_id="cell-b", **changed)
    assert (offer.fits, offer.code) == (False, refusal.value.code)
    assert offer.why in refusal.value.what


def test_of_a_very_large_fleet_the_cheapest_are_told() -> None:
    desk = a_fleet()
    row = desk.state.cells["cell-b"]
    for number in range(offers.OFFERS_MAX):
        cell_id = f"cell-{number:04}"
        desk.state.cells[cell_id] = type(row)(cell_id, "gcp", "here", "1", row.total, "", 0.0)
        desk.state.cells_by_provider["gcp"][cell_id] = None
    found = asked(desk)
    assert (len(found.offers), found.left_out, found.offers[0].cell_id) == (offers.OFFERS_MAX, 3, "cell-b")
