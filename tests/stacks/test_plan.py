"""A plan is pure data, made from what a person asks and what the cloud says; it leaves no choice open."""

from __future__ import annotations

import re

import msgspec
import pytest
from crash_sweep import plan, spec
from hypothesis import given
from hypothesis import strategies as st
from twin_ground import TwinGround

from grafos_connectors.contract import (
    KEY_PATTERN,
    NAME_PATTERN,
    TAG_NAME_PATTERN,
    TAG_VALUE_PATTERN,
    Image,
    Kind,
    Price,
)
from grafos_connectors.shapes import check_desired, check_token
from grafos_core.errors import GrafosError
from grafos_core.ids import FabricId
from grafos_stacks.bill import DEAD_MAN_GRACE_S, actual_cost, rate_per_hour, worst_case
from grafos_stacks.layouts import UNMAKE_ORDER, layout_of
from grafos_stacks.names import token_of
from grafos_stacks.plan import BundlePin, StackPlan, desired
from grafos_stacks.planner import plan_cell, read_facts
from grafos_stacks.spec import CellSpec, check_cell_id, check_spec

PRICE = Price("us-east-1", "t3.medium", 4_160_000, 8_000_000, 500_000, "test", "2026-11-21", fictional=True)


@pytest.fixture
def ground() -> TwinGround:
    return TwinGround()


@pytest.fixture
def one(ground: TwinGround) -> StackPlan:
    return plan(ground.hands(), spec())


def test_the_same_question_gives_the_same_plan(ground: TwinGround, one: StackPlan) -> None:
    assert plan(ground.hands(), spec()) == one


def test_a_plan_survives_the_journal_unchanged(one: StackPlan) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(one), type=StackPlan) == one


def test_everything_stands_after_what_it_needs(one: StackPlan) -> None:
    seen: set[str] = set()
    for what in one.resources:
        assert set(what.needs.values()) <= seen, what.name
        seen.add(what.name)


def test_every_kind_has_its_place_in_the_order_of_deletion_after_what_needs_it(one: StackPlan) -> None:
    kinds = {what.name: what.kind for what in one.resources}
    for what in one.resources:
        for needed in what.needs.values():
            assert UNMAKE_ORDER.index(what.kind) < UNMAKE_ORDER.index(kinds[needed])
    assert set(UNMAKE_ORDER) == set(Kind)


def test_the_network_is_shared_and_the_machine_is_not(ground: TwinGround, one: StackPlan) -> None:
    two = plan(ground.hands(), spec("aws-two"))
    shared = {what.name for what in one.resources if what.stack == one.shared_stack}
    same = {what.name for what in one.resources if what in two.resources}
    assert shared == same == {"network", "gateway", "gateway-attachment", "route", "subnet-us-east-1a"}


def test_what_was_resolved_is_no_part_of_a_key(ground: TwinGround, one: StackPlan) -> None:
    """A newer image, another price or a later hour gives no other machine; only a changed input does."""
    ground.clock.advance(86400)
    facts = msgspec.structs.replace(
        one.facts,
        image=Image("image-new", "debian-13-new", "arm64", "3.13", root_device="/dev/xvda"),
        price=PRICE,
        bundle=BundlePin("cd" * 32, 5),
    )
    later = plan_cell(spec(), facts, ground.fabric.id, ground.clock.now())
    assert [what.key for what in later.resources] == [what.key for what in one.resources]


@pytest.mark.parametrize(
    "changed",
    [
        {"machine_type": "t3.medium"},
        {"disk_gib": 20},
        {"zone": "us-east-1a"},
        {"port": 9443},
        {"arch": "amd64"},
        {"spot": True},
    ],
)
def test_a_changed_input_is_another_machine(ground: TwinGround, one: StackPlan, changed: dict[str, object]) -> None:
    assert plan(ground.hands(), spec(**changed)).machine.key != one.machine.key


def test_two_fabrics_never_share_a_key_or_a_name(ground: TwinGround, one: StackPlan) -> None:
    other = plan_cell(spec(), one.facts, FabricId("fab-other"), 0.0)
    assert not {what.key for what in one.resources} & {what.key for what in other.resources}
    assert not {what.cloud_name for what in one.resources} & {what.cloud_name for what in other.resources}


@pytest.mark.parametrize("cell_id", ["a", "aws-" + "x" * 26])
def test_what_goes_to_a_cloud_fits_the_narrowest_of_them(ground: TwinGround, cell_id: str) -> None:
    for what in plan(ground.hands(), spec(cell_id)).resources:
        late = {"user_data": ""} if what.kind is Kind.MACHINE else {}
        call, token = desired(ground.fabric, what, 12, dict.fromkeys(what.needs, "id"), late)
        check_desired(call)
        check_token(call, token)
        assert KEY_PATTERN.fullmatch(call.key)
        assert NAME_PATTERN.fullmatch(call.name)
        assert all(TAG_NAME_PATTERN.fullmatch(name) for name in call.tags)
        assert all(TAG_VALUE_PATTERN.fullmatch(value) for value in call.tags.values())


def test_only_the_operator_can_reach_the_cell_and_only_at_its_port(one: StackPlan) -> None:
    rules = [what.inputs for what in one.resources if what.kind is Kind.FIREWALL_RULE]
    assert rules == [{"port": 8443, "cidr": "203.0.113.7/32"}]


def test_a_plan_holds_no_secret(ground: TwinGround, one: StackPlan) -> None:
    assert b"user_data" not in msgspec.json.encode(one)


# --- facts ------------------------------------------------------------------------------------------------------


def facts_of(ground: TwinGround, **inputs: object) -> tuple[str, str, str]:
    facts = read_facts(ground.connector(), spec(**inputs), lambda arch, python: BundlePin(arch.encode().hex(), 1))
    return facts.offer.machine_type, facts.image.arch, facts.offer.zone


def test_the_default_type_follows_the_image() -> None:
    ground = TwinGround()
    assert facts_of(ground) == ("t4g.medium", "arm64", "us-east-1a")
    assert facts_of(ground, arch="amd64") == ("t3.medium", "amd64", "us-east-1a")


def test_a_named_type_settles_the_architecture_and_a_named_zone_the_zone() -> None:
    assert facts_of(TwinGround(), machine_type="t3.medium", zone="us-east-1c") == ("t3.medium", "amd64", "us-east-1c")


@pytest.mark.parametrize(
    ("inputs", "code"),
    [
        ({"machine_type": "t9.huge"}, "cloud_capacity"),
        ({"zone": "us-east-1z"}, "cloud_capacity"),
        ({"machine_type": "t3.medium", "arch": "arm64"}, "config_invalid"),
        ({"disk_gib": 4}, "config_invalid"),
        ({"region": "mars-1"}, "cloud_invalid"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_made(inputs: dict[str, object], code: str) -> None:
    ground = TwinGround()
    with pytest.raises(GrafosError) as refused:
        read_facts(ground.connector(), msgspec.structs.replace(spec(), **inputs), lambda *_: BundlePin("", 0))
    assert refused.value.code == code
    assert refused.value.next
    assert ground.live() == []


@pytest.mark.parametrize("name", ["a" * 31, "net-x", "img-x", "orchestrator", "Aws"])
def test_a_name_that_no_stack_of_a_cell_can_have_is_none_of_a_cell_elsewhere_either(name: str) -> None:
    """As of a cell on a machine of one's own, which has no stack."""
    with pytest.raises(GrafosError) as refused:
        check_cell_id(name)
    assert refused.value.code == "name_invalid"


@pytest.mark.parametrize(
    ("inputs", "code"),
    [
        ({"cell_id": "Aws"}, "name_invalid"),
        ({"cell_id": "a" * 31}, "name_invalid"),
        ({"cell_id": "net-aws-us-east-1"}, "name_invalid"),
        ({"region": ""}, "config_invalid"),
        ({"ttl_s": 59}, "config_invalid"),
        ({"ttl_s": 31 * 86400}, "config_invalid"),
        ({"port": 443}, "config_invalid"),
        ({"disk_gib": -1}, "config_invalid"),
        ({"arch": "sparc"}, "config_invalid"),
        ({"max_ttl_s": 3600}, "config_invalid"),
        ({"max_ttl_s": 31 * 86400}, "config_invalid"),
        ({"provider": "gcp"}, "config_invalid"),
        ({"operator_cidr": "0.0.0.0/0"}, "config_invalid"),
        ({"operator_cidr": "10.0.0.0/15"}, "config_invalid"),
        ({"operator_cidr": "here"}, "config_invalid"),
        ({"operator_cidr": "10.0.0.1/24"}, "config_invalid"),
    ],
)
def test_an_input_that_cannot_be_used_is_named(inputs: dict[str, object], code: str) -> None:
    with pytest.raises(GrafosError) as refused:
        check_spec(msgspec.structs.replace(spec(), **inputs))
    assert refused.value.code == code


def test_a_cloud_that_this_version_does_not_build_on_is_said() -> None:
    with pytest.raises(GrafosError) as refused:
        layout_of("nebula")
    assert refused.value.code == "unsupported"


def test_a_zone_that_has_no_place_in_the_network_is_refused() -> None:
    ground = TwinGround()
    facts = read_facts(ground.connector(), spec(), lambda *_: BundlePin("", 0))
    odd = msgspec.structs.replace(facts, offer=msgspec.structs.replace(facts.offer, zone="us-east-1z"))
    with pytest.raises(GrafosError) as refused:
        plan_cell(spec(), odd, ground.fabric.id, 0.0)
    assert refused.value.code == "unsupported"


# --- money ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "what", "step"),
    [
        ({"ttl_s": 10_000 * 86400}, "10000d is no TTL", "choose 1m to 30d"),
        ({"ttl_s": 59}, "59s is no TTL", "choose 1m to 30d"),
        ({"ttl_s": 7200, "max_ttl_s": 5400}, "90m is no longest TTL", "choose 2h, the TTL, or more, up to 30d"),
    ],
)
def test_a_length_of_time_is_told_as_people_type_it(inputs: dict[str, int], what: str, step: str) -> None:
    with pytest.raises(GrafosError) as refused:
        check_spec(CellSpec("aws", "one", "us-east-1", "127.0.0.1/32", **inputs))
    assert (refused.value.what, refused.value.next) == (what, step)


@given(ttl_s=st.integers(60, 30 * 86400), part=st.floats(0, 1), disk_gib=st.integers(1, 1024))
def test_whatever_happens_until_the_dead_man_the_cost_is_inside_the_hold(
    ttl_s: int, part: float, disk_gib: int
) -> None:
    lived_s = part * (ttl_s + DEAD_MAN_GRACE_S)
    assert actual_cost(PRICE, disk_gib, lived_s) <= worst_case(PRICE, disk_gib, ttl_s).total_micro_cents


def test_the_bound_has_its_parts_and_says_what_it_leaves_out(one: StackPlan) -> None:
    assert [part.name for part in one.bill.parts] == ["machine", "disk", "address"]
    assert sum(part.micro_cents for part in one.bill.parts) == one.bill.total_micro_cents
    assert "egress traffic" in one.bill.excluded


def test_a_machine_that_never_was_costs_nothing_and_a_second_costs_a_minute() -> None:
    assert actual_cost(PRICE, 8, 0.0) == 0
    assert actual_cost(PRICE, 8, 1.0) == actual_cost(PRICE, 8, 60.0)


def test_runs_are_priced_by_all_that_the_cell_costs(one: StackPlan) -> None:
    assert one.rate_micro_cents_per_hour == rate_per_hour(one.facts.price, 8)
    assert one.rate_micro_cents_per_hour > one.facts.price.machine_per_hour


def test_the_expiry_is_pinned_in_the_plan_and_in_the_tags_of_what_bills(ground: TwinGround, one: StackPlan) -> None:
    assert one.expires_at == int(one.made_at) + one.spec.ttl_s
    call, _ = desired(ground.fabric, one.machine, 1, {"subnet": "s", "firewall": "f"}, {"user_data": ""})
    assert call.tags["grafos:expires"] == str(one.expires_at)


@given(key=st.text("0123456789abcdef", min_size=32, max_size=32), attempt=st.integers(1, 10**6))
def test_a_token_fits_every_cloud_and_each_attempt_has_its_own(key: str, attempt: int) -> None:
    token = token_of(key, attempt)
    assert re.fullmatch(r"g[0-9a-f]{47}", token)
    assert token != token_of(key, attempt + 1)


def test_a_spec_names_the_inputs_whose_change_means_another_machine() -> None:
    kept = {"provider", "cell_id", "operator_cidr", "ttl_s", "max_ttl_s", "spot", "joining", "image", "orchestrates"}
    assert set(spec().replace_inputs()) == set(CellSpec.__struct_fields__) - kept | {"pattern"}
