"""Several places for one cell on the emulated Google Cloud and Azure: the cheapest that has a machine gets it, and
nothing stays where it was tried before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from crash_sweep import Abort
from registered_operator import QUICK, RegisteredOperator

from grafos_core.clock import SystemClock
from grafos_core.errors import GrafosError
from grafos_core.fabric import open_fabric
from grafos_emulators.emulator import EmulatedClouds, Settings
from grafos_stacks.bundle import Bundles
from grafos_stacks.candidates import (
    CANDIDATES_MAX,
    Candidate,
    Provided,
    chosen,
    is_leaving,
    ordered,
    provide,
    weigh,
    where_it_lives,
)
from grafos_stacks.cell_holds import open_hold
from grafos_stacks.direct import Hands
from grafos_stacks.plan import StackPlan
from grafos_stacks.spec import NOT_AT_ALL, CellSpec

HOUR_S = 3600
CENTRAL = CellSpec("gcp", "one", "us-central1", "", ttl_s=HOUR_S, joining=NOT_AT_ALL)
WEST = CellSpec("gcp", "one", "europe-west1", "", ttl_s=HOUR_S, joining=NOT_AT_ALL)
EAST = CellSpec("azure", "one", "eastus", "", ttl_s=HOUR_S, joining=NOT_AT_ALL)


class Places:
    """A person with both clouds."""

    def __init__(self, clouds: EmulatedClouds, folder: Path) -> None:
        fabric = open_fabric(SystemClock())
        self.clouds = clouds
        self.project = folder / "project"
        self.operators = {name: RegisteredOperator(name, clouds, fabric, self.project) for name in ("gcp", "azure")}
        self.fabric = fabric
        self.stop_at: int | None = None
        self.told: list[str] = []

    def hands_of(self) -> dict[str, Hands]:
        """Of a new process."""
        hands = {name: operator.hands() for name, operator in self.operators.items()}
        return {name: replace(one, progress=self._hear) for name, one in hands.items()}

    def _hear(self, step: object) -> None:
        self.told.append(str(step))
        if self.stop_at is not None and "waiting" not in str(step):
            self.stop_at -= 1
            if self.stop_at < 0:
                raise Abort

    def weigh(self, *specs: CellSpec, max_hourly_cents: int | None = None) -> tuple[Candidate, ...]:
        return weigh(self.hands_of(), specs, Bundles(), max_hourly_cents)

    def plans(self, *specs: CellSpec) -> list[StackPlan]:
        return [one.plan for one in chosen(self.weigh(*specs), "one")]

    def provide(self, plans: list[StackPlan]) -> Provided:
        return provide(self.hands_of(), plans, Bundles(), self.project)

    def fill(self, *regions: str, spot: bool = False) -> None:
        """No room for any machine there."""
        del spot
        for region in regions:
            if region == EAST.region:
                self.clouds.capacity.fill("azure", region)
            else:
                for letter in "abcdef":
                    self.clouds.capacity.fill("gcp", f"{region}-{letter}")

    def machines(self) -> list[tuple[str, str]]:
        kinds = ("instance", "virtualMachine")
        return [(thing.provider, thing.region) for thing in self.clouds.world() if thing.kind in kinds]

    def regions(self) -> set[tuple[str, str]]:
        """Where there is anything at all."""
        return {(thing.provider, thing.region) for thing in self.clouds.world()}

    def open_holds(self) -> int:
        with self.fabric.ledger() as transaction:
            return len([held for held in transaction.ledger.holds.values() if held.state == "open"])


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Places]:
    with EmulatedClouds(tmp_path / "cloud", Settings(clouds=("azure", "gcp"), times=QUICK)) as clouds:
        yield Places(clouds, tmp_path)


def spot(spec: CellSpec) -> CellSpec:
    return msgspec.structs.replace(spec, spot=True)


# --- choosing -------------------------------------------------------------------------------------------------------


def test_candidates_are_ordered_by_price_then_by_name_and_those_that_cannot_be_come_last(places: Places) -> None:
    places.clouds.azure.limits["cores"] = 0
    found = places.weigh(EAST, WEST, CENTRAL, spot(CENTRAL))
    assert [one.place.split("-")[0] for one in found] == ["gcp us", "gcp us", "gcp europe", "azure eastus 1"]
    assert found[0].spec.spot
    prices = [one.hourly_micro_cents or 0 for one in found[:3]]
    assert prices == sorted(prices)
    assert "cloud_quota" in found[3].why_not
    assert found[3].plan is None
    assert ordered(reversed(found)) == found
    assert places.clouds.world() == ()


def test_a_bound_by_the_hour_leaves_the_dearer_out(places: Places) -> None:
    found = places.weigh(CENTRAL, spot(CENTRAL), max_hourly_cents=3)
    assert [one.plan is not None for one in found] == [True, False]
    assert "budget_exceeded" in found[1].why_not
    with pytest.raises(GrafosError) as refused:
        chosen(places.weigh(CENTRAL, WEST, max_hourly_cents=0), "one")
    assert refused.value.code == "budget_exceeded"
    assert len(refused.value.why.splitlines()) == 2


def test_a_type_that_is_not_sold_as_a_spot_machine_has_no_spot_price(places: Places) -> None:
    """The B series on Azure is not."""
    burstable = msgspec.structs.replace(EAST, machine_type="Standard_B2s", spot=True)
    [found] = places.weigh(burstable)
    assert "price_missing" in found.why_not
    assert "Standard_B2s is not sold as a spot machine" in found.refusals[0].why
    assert "--type Standard_D2" in found.refusals[0].next


def test_a_region_that_does_not_exist_is_one_candidate_less(places: Places) -> None:
    nowhere = msgspec.structs.replace(WEST, region="atlantis-north1")
    found = places.weigh(nowhere, CENTRAL)
    assert [one.plan is not None for one in found] == [True, False]
    assert "cloud_invalid" in found[1].why_not


def test_more_places_than_anybody_reads_are_refused(places: Places) -> None:
    many = [msgspec.structs.replace(CENTRAL, region=f"us-central{number}") for number in range(CANDIDATES_MAX + 1)]
    with pytest.raises(GrafosError) as refused:
        places.weigh(*many)
    assert refused.value.code == "limit_exceeded"


# --- trying ---------------------------------------------------------------------------------------------------------


def test_a_region_that_is_full_is_left_without_a_trace_and_the_next_cloud_has_the_cell(places: Places) -> None:
    plans = places.plans(CENTRAL, WEST, EAST)
    assert plans[0].spec == CENTRAL
    places.fill("us-central1", "europe-west1")
    provided = places.provide(plans)
    assert (provided.record.provider, provided.record.region) == ("azure", "eastus")
    assert [move.code for move in provided.moves] == ["cloud_capacity"] * len(provided.moves)
    assert provided.moves[-1].after == f"azure eastus {provided.record.zone}"
    assert places.machines() == [("azure", "eastus")]
    assert places.regions() == {("azure", "eastus")}
    assert places.open_holds() == 1
    assert any("move to" in told for told in places.told)
    places.operators["azure"].teardown("one")
    assert places.clouds.world() == ()


def test_a_spot_machine_that_is_not_to_be_had_is_followed_by_an_ordinary_one_in_place(places: Places) -> None:
    from grafos_emulators.faults import Effect, ErrorClass, Fault, FaultRule

    rule = FaultRule(Fault(Effect.REFUSE, ErrorClass.CAPACITY), operation="instances.insert", times=4)
    places.clouds.faults.add(rule)
    plans = places.plans(spot(CENTRAL), CENTRAL)
    zones = len(places.hands_of()["gcp"].connector.offers("us-central1", plans[0].facts.offer.machine_type))
    places.clouds.faults.clear()
    places.clouds.faults.add(msgspec.structs.replace(rule, times=zones))
    provided = places.provide(plans)
    assert len(provided.moves) == zones
    assert provided.moves[0].before.endswith("spot")
    assert not provided.moves[-1].after.endswith("spot")
    calls = [call.action for call in places.clouds.journal() if call.mutating]
    assert calls.count("networks.insert") == 1  # the network stayed
    assert "networks.delete" not in calls
    held = open_hold(places.fabric, "one")
    assert held is not None
    assert held.amount_micro_cents == plans[0].bill.total_micro_cents
    places.operators["gcp"].teardown("one")
    assert places.clouds.world() == ()


def test_when_no_place_has_a_machine_every_reason_is_told_and_the_last_try_can_be_torn_down(places: Places) -> None:
    plans = places.plans(CENTRAL, EAST)
    places.fill("us-central1", "eastus")
    with pytest.raises(GrafosError) as refused:
        places.provide(plans)
    assert refused.value.code == "cloud_capacity"
    assert "gcp us-central1" in refused.value.why
    assert refused.value.context["moves"]
    assert "--any" not in refused.value.next
    assert "--type" in refused.value.next
    assert places.machines() == []
    last = plans[-1].spec.provider
    places.operators[last].teardown("one")
    assert places.clouds.world() == ()
    assert places.open_holds() == 0


def test_another_refusal_ends_it_where_it_is(places: Places) -> None:
    plans = places.plans(CENTRAL, EAST)
    places.clouds.gcp.denied.add("compute.networks.create")
    with pytest.raises(GrafosError) as refused:
        places.provide(plans)
    assert refused.value.code == "cloud_denied"
    assert places.machines() == []
    places.operators["gcp"].teardown("one")


@pytest.mark.parametrize("stride", [7, pytest.param(3, marks=[pytest.mark.deep, pytest.mark.timeout(600)])])
def test_dying_on_the_way_from_one_cloud_to_another_ends_with_one_cell(places: Places, stride: int) -> None:
    plans = places.plans(CENTRAL, EAST)
    places.fill("us-central1")
    for step in range(0, 140, stride):
        places.stop_at = step
        try:
            provided = places.provide(plans)
        except Abort:
            assert len(places.machines()) <= 1
            assert places.open_holds() <= 1
            continue
        break
    else:
        pytest.fail("it never came to its end")
    assert step > 8
    assert places.machines() == [("azure", "eastus")]
    assert places.regions() == {("azure", "eastus")}
    assert places.open_holds() == 1
    assert provided.record.state == "booted"
    print(f"a move between clouds died {step // stride} times: 1 cell, 1 hold")
    places.stop_at = None
    places.operators["azure"].teardown("one")
    assert places.clouds.world() == ()


def test_a_move_that_was_interrupted_can_be_torn_down_instead(places: Places) -> None:
    plans = places.plans(CENTRAL, EAST)
    places.fill("us-central1")
    for step in range(100):
        places.stop_at = step
        with pytest.raises(Abort):
            places.provide(plans)
        places.stop_at = None
        if is_leaving(places.hands_of()["gcp"].journal.stack("one")):
            break
    with pytest.raises(GrafosError) as busy:
        places.operators["gcp"].provision("one", ttl_s=HOUR_S)
    assert busy.value.code == "stack_busy"
    places.operators["gcp"].teardown("one")
    assert places.clouds.world() == ()
    assert places.open_holds() == 0


# --- a lost journal -------------------------------------------------------------------------------------------------


def test_with_its_journal_lost_a_moved_cell_is_the_only_candidate(places: Places) -> None:
    specs = (CENTRAL, WEST, EAST)
    plans = places.plans(*specs)
    places.clouds.capacity.fill("gcp", "us-central1-a")
    provided = places.provide(plans)
    assert provided.record.zone != plans[0].facts.offer.zone
    for path in places.fabric.home.glob("journal.db*"):
        path.unlink()
    prepared = chosen(places.weigh(*specs), "one")
    [there] = where_it_lives(places.hands_of(), "one", prepared)
    assert there.plan.facts.offer.zone == provided.record.zone
    again = places.provide([there.plan])
    assert again.record.machine_id == provided.record.machine_id
    for path in places.fabric.home.glob("journal.db*"):
        path.unlink()
    with pytest.raises(GrafosError) as elsewhere:
        where_it_lives(places.hands_of(), "one", chosen(places.weigh(spot(CENTRAL)), "one"))
    assert (elsewhere.value.code, "recover" in elsewhere.value.next) == ("plan_stale", True)
    places.operators["gcp"].teardown("one")
    assert places.clouds.world() == ()
