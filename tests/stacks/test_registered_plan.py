"""What a registered cell consists of on Compute Engine and on Azure: pure data, before any cloud is asked."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from registered import CLOUDS, NOW, SHAPES, asked, plan

from grafos_connectors.contract import Kind
from grafos_connectors.shapes import check_desired, check_token
from grafos_core.clock import VirtualClock
from grafos_core.errors import GrafosError
from grafos_core.fabric import open_fabric
from grafos_stacks.bill import DEAD_MAN_GRACE_S, LEFT_BEHIND_S, rates_held
from grafos_stacks.candidates import no_spot_price
from grafos_stacks.layouts import UNMAKE_ORDER
from grafos_stacks.plan import desired
from grafos_stacks.spec import REGISTERED, check_spec

HOUR_S = 3600


@pytest.fixture(params=CLOUDS)
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_pattern_follows_from_the_provider(provider: str) -> None:
    assert asked(provider).pattern == REGISTERED
    assert asked(provider).replace_inputs()["pattern"] == REGISTERED


@pytest.mark.parametrize("cell_id", ["a", "x" + "y" * 29])
def test_what_is_planned_fits_what_the_cloud_makes(provider: str, cell_id: str) -> None:
    fabric = open_fabric(VirtualClock(), "shapes")
    for what in plan(provider, cell_id).resources:
        late = {"user_data": ""} if what.kind is Kind.MACHINE else {}
        call, token = desired(fabric, what, 12, dict.fromkeys(what.needs, "id"), late)
        check_desired(call, SHAPES[provider])
        check_token(call, token)


def test_nothing_gets_in(provider: str) -> None:
    assert Kind.FIREWALL_RULE not in {what.kind for what in plan(provider).resources}


def test_everything_stands_after_what_it_needs_and_goes_before_it(provider: str) -> None:
    """But for a deadline, which stays until its machine is gone: it is what ends the machine if we do not."""
    one = plan(provider)
    seen: dict[str, Kind] = {}
    for what in one.resources:
        assert set(what.needs.values()) <= set(seen), what.name
        for needed in what.needs.values():
            if (what.kind, seen[needed]) != (Kind.DEADLINE, Kind.MACHINE):
                assert UNMAKE_ORDER.index(what.kind) < UNMAKE_ORDER.index(seen[needed])
        seen[what.name] = what.kind
    assert UNMAKE_ORDER.index(Kind.MACHINE) < UNMAKE_ORDER.index(Kind.DEADLINE)


def test_the_network_is_shared_and_the_machine_is_not(provider: str) -> None:
    one, two = plan(provider), plan(provider, "two")
    shared = {what.name for what in one.resources if what.stack == one.shared_stack}
    assert shared == {what.name for what in one.resources if what in two.resources}
    assert shared == {"gcp": {"network", "subnet"}, "azure": {"group", "network", "firewall", "subnet"}}[provider]


def test_what_bills_bears_its_end_in_its_tags(provider: str) -> None:
    one = plan(provider)
    for what in one.resources:
        assert what.expires_at == (one.expires_at if what.stack == one.stack else 0)


def test_two_fabrics_never_share_a_key_or_a_name(provider: str) -> None:
    one, other = plan(provider), plan(provider, fabric="fab-2")
    assert not {what.key for what in one.resources} & {what.key for what in other.resources}
    assert not {what.cloud_name for what in one.resources} & {what.cloud_name for what in other.resources}


def test_a_later_end_is_no_other_machine_and_no_other_deadline(provider: str) -> None:
    keys = [what.key for what in plan(provider).resources]
    assert [what.key for what in plan(provider, ttl_s=2 * HOUR_S, max_ttl_s=20 * HOUR_S).resources] == keys


def test_an_open_disk_is_what_the_cloud_s_image_needs(provider: str) -> None:
    assert asked(provider).disk_gib == {"gcp": 10, "azure": 30}[provider]
    assert asked(provider, disk_gib=50).disk_gib == 50


def test_an_address_that_could_reach_it_is_refused_since_none_can(provider: str) -> None:
    with pytest.raises(GrafosError) as refused:
        check_spec(msgspec.structs.replace(asked(provider), operator_cidr="203.0.113.7/32"))
    assert refused.value.code == "config_invalid"


# --- its end ------------------------------------------------------------------------------------------------------


def test_compute_engine_deletes_at_the_longest_ttl_because_a_running_machine_s_end_cannot_be_moved() -> None:
    one = plan("gcp", ttl_s=8 * HOUR_S)
    assert one.machine.inputs["ends_at"] == one.expires_at == one.held_until
    longer = plan("gcp", ttl_s=8 * HOUR_S, max_ttl_s=24 * HOUR_S)
    assert longer.machine.inputs["ends_at"] == longer.held_until == longer.made_at // 1 + 24 * HOUR_S
    assert longer.expires_at == one.expires_at


@given(ttl_s=st.integers(900, 23 * HOUR_S))
def test_azure_s_schedule_stands_at_the_first_whole_minute_after_the_expiry(ttl_s: int) -> None:
    one = plan("azure", ttl_s=ttl_s)
    [deadline] = [what for what in one.resources if what.kind is Kind.DEADLINE]
    ends_at = deadline.inputs["ends_at"]
    assert isinstance(ends_at, int)
    assert ends_at % 60 == 0
    assert one.expires_at <= ends_at < one.expires_at + 60


def test_azure_s_schedule_knows_no_date_so_a_ttl_of_a_day_is_refused() -> None:
    for ttl_s, told in ((24 * HOUR_S, "at most 23 h"), (600, "at least 15 min")):
        with pytest.raises(GrafosError) as refused:
            plan("azure", ttl_s=ttl_s)
        assert refused.value.code == "config_invalid"
        assert told in refused.value.what
    assert plan("azure", ttl_s=20 * HOUR_S, max_ttl_s=72 * HOUR_S).held_until == int(NOW) + 72 * HOUR_S


def test_the_machine_s_own_timer_comes_after_the_cloud_s_deadline() -> None:
    """Compute Engine forgets the deadline of a machine that was stopped, and its disk would stay."""
    gcp, azure = plan("gcp", max_ttl_s=24 * HOUR_S), plan("azure")
    assert gcp.held_until + 30 < gcp.timer_at < gcp.held_until + DEAD_MAN_GRACE_S - 60
    [deadline] = [what for what in azure.resources if what.kind is Kind.DEADLINE]
    assert azure.timer_at > int(deadline.inputs["ends_at"])


# --- its money ----------------------------------------------------------------------------------------------------


@given(ttl_s=st.integers(900, 23 * HOUR_S), longer_s=st.integers(0, 20 * HOUR_S), wait_s=st.integers(0, LEFT_BEHIND_S))
def test_what_still_bills_after_the_last_layer_is_inside_the_hold(ttl_s: int, longer_s: int, wait_s: int) -> None:
    """On Azure a machine that was deallocated leaves its disk and its address; on Compute Engine one that the operating
    system stopped leaves its disk."""
    for provider, leaves in (("gcp", ("disk",)), ("azure", ("disk", "address"))):
        one = plan(provider, ttl_s=ttl_s, max_ttl_s=ttl_s + longer_s)
        rates = rates_held(one.facts.price, one.spec.disk_gib)
        lived_s = one.spec.longest_s + DEAD_MAN_GRACE_S
        cost = sum(rates) * lived_s + sum(getattr(rates, part) for part in leaves) * wait_s
        assert cost <= one.bill.total_micro_cents * HOUR_S


def test_the_bill_names_what_it_holds_for_afterwards() -> None:
    names = {provider: [part.name for part in plan(provider).bill.parts] for provider in CLOUDS}
    assert names["gcp"] == ["machine", "disk", "address", "disk afterwards"]
    assert names["azure"] == ["machine", "disk", "address", "disk afterwards", "address afterwards"]
    assert "72 h" in plan("azure").bill.parts[-1].how


@pytest.mark.parametrize(("arch", "instead"), [("amd64", "Standard_D2s_v5"), ("arm64", "Standard_D2ps_v5")])
def test_a_type_that_is_never_sold_as_a_spot_machine_is_told_with_one_that_is(arch: str, instead: str) -> None:
    made = plan("azure", spot=True)
    offer = msgspec.structs.replace(made.facts.offer, machine_type="Standard_B2s", arch=arch)
    refused = no_spot_price(msgspec.structs.replace(made, facts=msgspec.structs.replace(made.facts, offer=offer)))
    assert refused.why == "Standard_B2s is not sold as a spot machine"
    assert f"--type {instead}" in refused.next
