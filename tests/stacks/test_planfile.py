"""A plan in a file is carried out only if it is still what its inputs come to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from registered import NOW, asked, facts

from grafos_connectors.contract import Quota
from grafos_core.errors import GrafosError
from grafos_core.ids import FabricId
from grafos_stacks.plan import Planned, StackPlan
from grafos_stacks.planfile import Place, PlanFile, keep, moved_since, read, refuse_moved
from grafos_stacks.planner import plan_cell
from grafos_stacks.provision import Prepared


def planned(provider: str, now: float = NOW, **inputs: Any) -> StackPlan:
    return plan_cell(asked(provider, "one", **inputs), facts(provider), FabricId("fab-1"), now)


QUOTA = Quota("machine_cores", "cores", 8, 2, each=2)
replace = msgspec.structs.replace


def opened(what: Planned) -> Planned:
    return replace(what, inputs={**what.inputs, "public_address": False})


def with_facts(plan: StackPlan, **facts: object) -> StackPlan:
    return replace(plan, facts=replace(plan.facts, **facts))


def with_price(plan: StackPlan, **price: int) -> StackPlan:
    return with_facts(plan, price=replace(plan.facts.price, **price))


def test_a_plan_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    file = PlanFile(("web-1", "web-2"), (Place(planned("gcp"), (QUOTA,)), Place(planned("azure"))), 40)
    keep(tmp_path / "a.plan", file)
    assert read(tmp_path / "a.plan") == file
    assert (tmp_path / "a.plan").stat().st_mode & 0o777 == 0o600


def test_the_same_inputs_at_a_later_hour_are_the_same_plan() -> None:
    old, later = planned("gcp"), planned("gcp", now=1_800_050_000.5)
    assert later.expires_at != old.expires_at
    assert moved_since(Place(old, (QUOTA,)), Prepared(later, resumed=False, quotas=(replace(QUOTA, used=6),))) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda plan: replace(plan, fabric="fab-000000000000"), "fabric"),
        (lambda plan: with_facts(plan, account="another"), "account"),
        (lambda plan: replace(plan, spec=replace(plan.spec, ttl_s=7200)), "inputs"),
        (lambda plan: with_facts(plan, offer=replace(plan.facts.offer, zone="us-central1-f")), "offer"),
        (lambda plan: with_facts(plan, offer=replace(plan.facts.offer, cpu_cores=64)), "offer"),
        (lambda plan: with_facts(plan, image=replace(plan.facts.image, id="newer")), "image"),
        (lambda plan: with_facts(plan, bundle=replace(plan.facts.bundle, sha256="cd" * 32)), "software"),
        (lambda plan: with_price(plan, machine_per_hour=1), "price of the machine"),
        (lambda plan: with_price(plan, disk_per_gib_month=1), "price of the disk"),
        (lambda plan: with_price(plan, address_per_hour=1), "price of the address"),
        (lambda plan: replace(plan, bill=replace(plan.bill, parts=plan.bill.parts[:1])), "bound"),
        (lambda plan: replace(plan, resources=plan.resources[:1]), "resources"),
        (lambda plan: replace(plan, resources=(*plan.resources[:-1], opened(plan.machine))), "resources"),
    ],
)
def test_whatever_differs_is_named(change: Callable[[StackPlan], StackPlan], named: str) -> None:
    fresh = planned("gcp")
    found = moved_since(Place(change(fresh)), Prepared(fresh, resumed=False))
    assert len(found) == 1
    assert found[0].startswith(named)
    with pytest.raises(GrafosError) as refused:
        refuse_moved(Place(change(fresh)), Prepared(fresh, resumed=False))
    assert (refused.value.code, refused.value.context["moved"]) == ("plan_stale", found)


def test_a_limit_that_changed_is_named_and_what_is_used_of_it_is_not() -> None:
    fresh = planned("gcp")
    now = Prepared(fresh, resumed=False, quotas=(replace(QUOTA, limit=4), Quota("networks", "networks", 9, 1)))
    kept = Place(fresh, (QUOTA, Quota("networks", "networks", 5, 0)))
    assert moved_since(kept, now) == ["quota machine_cores 8 is now 4"]


def test_a_spot_price_may_fall_and_not_rise() -> None:
    cheap, dear = planned("gcp", spot=True), with_price(planned("gcp", spot=True), spot_per_hour=9_000_000)
    assert moved_since(Place(dear), Prepared(cheap, resumed=False)) == []
    assert moved_since(Place(cheap), Prepared(dear, resumed=False))[0].startswith("price of the spot")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "config_invalid"),
        ("no json", "config_invalid"),
        ("{}", "config_invalid"),
        ('{"kind": "other", "schema_version": 1}', "config_invalid"),
        ('{"kind": "grafos-plan", "schema_version": 1}', "config_invalid"),
        ('{"kind": "grafos-plan", "schema_version": 1, "names": [], "places": []}', "config_invalid"),
        ('{"kind": "grafos-plan", "schema_version": 99}', "schema_newer"),
    ],
)
def test_what_is_no_plan_is_told(text: str, code: str, tmp_path: Path) -> None:
    file = tmp_path / "none.plan"
    file.write_text(text)
    with pytest.raises(GrafosError) as refused:
        read(file)
    assert refused.value.code == code


def test_a_file_that_cannot_be_read_or_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(GrafosError) as missing:
        read(tmp_path / "missing.plan")
    assert missing.value.code == "config_invalid"
    with pytest.raises(GrafosError) as nowhere:
        keep(tmp_path / "no" / "such" / "folder" / "a.plan", PlanFile(("a",), ()))
    assert nowhere.value.code == "store_failed"
