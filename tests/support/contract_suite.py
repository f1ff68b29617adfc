"""What every connector must do; each cloud runs these same claims."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
from contract_work import FABRIC, GROUND, KINDS, Place, Work, other_id

from grafos_connectors.contract import (
    TAG_FABRIC,
    TAG_KEY,
    CloudError,
    Done,
    Failed,
    Kind,
    Operation,
    Pending,
    Ref,
    State,
)
from grafos_connectors.shapes import SHAPES


class ContractSuite:
    """Inherit, and give a fixture ``place``."""

    @pytest.fixture
    def work(self, place: Place) -> Work:
        return Work(place)

    # Making and unmaking ---------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("kind", KINDS)
    def test_what_was_made_is_ready_and_found_under_its_key(self, work: Work, kind: Kind) -> None:
        work.lay_ground(kind)
        assert work.connector.find(work.desired(kind)) is None
        made = work.make(kind)
        work.settle()
        found = work.place.open().find(work.desired(kind))
        assert found is not None
        assert made.state is State.READY
        assert found.ref.id == made.ref.id
        assert work.connector.observe(made.ref).state is State.READY

    @pytest.mark.parametrize("kind", [kind for kind in KINDS if SHAPES[kind].tagged])
    def test_all_tags_are_there_from_the_first_read_on(self, work: Work, kind: Kind) -> None:
        work.lay_ground(kind)
        desired = work.desired(kind)
        operation = work.connector.begin_create(desired, "token")
        work.settle()
        seen = work.connector.observe(operation.ref)
        assert dict(seen.tags) == dict(desired.tags)
        assert seen.ref.key == desired.key

    @pytest.mark.parametrize("kind", KINDS)
    def test_what_was_deleted_is_gone_and_nothing_else_went(self, work: Work, kind: Kind) -> None:
        work.lay_ground(kind)
        before = work.place.world()
        made = work.make(kind)
        work.settle()
        assert work.finish(work.connector.begin_delete(made.ref)) is None
        work.settle()
        assert work.connector.observe(made.ref).state is State.GONE
        assert work.connector.find(work.desired(kind)) is None
        assert work.place.world() == before

    @pytest.mark.parametrize("kind", KINDS)
    def test_deleting_what_is_gone_is_success(self, work: Work, kind: Kind) -> None:
        work.lay_ground(kind)
        made = work.make(kind)
        work.settle()
        work.finish(work.connector.begin_delete(made.ref))
        assert work.finish(work.connector.begin_delete(made.ref)) is None

    def test_gone_is_not_believed_of_what_no_delete_call_ever_found(self, work: Work) -> None:
        """AWS: NotFound from TerminateInstances does not mean that the instance is gone."""
        work.lay_ground(Kind.MACHINE)
        made = work.make(Kind.MACHINE)
        never = Ref(key="", kind=Kind.MACHINE, id=other_id(made.ref.id), region=work.place.region)
        operation = work.connector.begin_delete(never)
        if work.connector.traits.listing_lag_s > 0:
            assert isinstance(work.connector.poll(operation), Pending)
        work.settle()
        assert isinstance(work.connector.poll(operation), Done)

    def test_an_operation_is_plain_data_that_another_process_can_finish(self, work: Work) -> None:
        work.lay_ground(Kind.MACHINE)
        stored = msgspec.json.encode(work.connector.begin_create(work.desired(Kind.MACHINE), "token"))
        later = Work(work.place)
        found = later.finish(msgspec.json.decode(stored, type=Operation))
        assert found is not None
        assert found.state is State.READY

    def test_an_outcome_is_plain_data_too(self, work: Work) -> None:
        work.lay_ground(Kind.SUBNET)
        operation = work.connector.begin_create(work.desired(Kind.SUBNET), "token")
        outcome = work.outcome(operation)
        stored = msgspec.json.encode(outcome)
        assert msgspec.json.decode(stored, type=Pending | Done | Failed) == outcome

    def test_a_machine_takes_time_and_says_where_it_is(self, work: Work) -> None:
        work.lay_ground(Kind.MACHINE)
        operation = work.connector.begin_create(work.desired(Kind.MACHINE), "token")
        assert isinstance(work.connector.poll(operation), Pending)
        found = work.finish(operation)
        assert found is not None
        assert found.attributes["machine_type"] == work.place.machine_type
        assert found.attributes["public_ip"]
        assert found.attributes["private_ip"]
        assert found.attributes["name"] == "grafos-machine"
        assert int(found.attributes["made_at"]) > 0
        assert found.billable

    def test_a_machine_can_be_deleted_while_it_starts(self, work: Work) -> None:
        work.lay_ground(Kind.MACHINE)
        operation = work.connector.begin_create(work.desired(Kind.MACHINE), "token")
        work.settle()
        assert work.finish(work.connector.begin_delete(operation.ref)) is None
        outcome = work.outcome(operation)
        assert isinstance(outcome, Failed)
        assert outcome.found is None

    # Once ------------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("kind", KINDS)
    def test_the_same_call_makes_no_second_where_the_cloud_promises_that(self, work: Work, kind: Kind) -> None:
        """Where it does not, the second is real, and whoever drives the connector must look before it calls again."""
        work.lay_ground(kind)
        desired = work.desired(kind)
        first = work.connector.begin_create(desired, "token")
        work.settle()
        world = work.place.world()
        again = Work(work.place).connector.begin_create(desired, "token")
        if kind in work.connector.traits.once:
            assert again.ref == first.ref
            assert work.place.world() == world
        else:
            assert again.ref.id != first.ref.id

    def test_a_token_that_came_with_another_machine_is_refused(self, work: Work) -> None:
        work.lay_ground(Kind.MACHINE)
        desired = work.desired(Kind.MACHINE)
        work.connector.begin_create(desired, "token")
        other = work.desired(Kind.MACHINE, user_data="#!/bin/sh\necho other\n")
        assert work.refused(other).code == "cloud_conflict"

    def test_the_token_of_a_dead_machine_is_used_up(self, work: Work) -> None:
        work.lay_ground(Kind.MACHINE)
        desired = work.desired(Kind.MACHINE)
        operation = work.connector.begin_create(desired, "token")
        work.finish(operation)
        work.finish(work.connector.begin_delete(operation.ref))
        assert work.refused(desired).code == "cloud_conflict"
        assert work.connector.find(desired) is None
        assert work.connector.begin_create(desired, "token-2").ref.id != operation.ref.id

    @pytest.mark.parametrize("kind", [Kind.SUBNET, Kind.FIREWALL, Kind.FIREWALL_RULE])
    def test_a_place_that_something_else_holds_is_a_conflict(self, work: Work, kind: Kind) -> None:
        work.lay_ground(kind)
        work.make(kind)
        work.settle()
        stranger = Work(work.place, fabric="stranger")
        stranger.ids = work.ids
        assert stranger.refused(stranger.desired(kind)).code == "cloud_conflict"

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_lost_answer_is_ambiguous_and_what_it_made_can_be_found(self, work: Work, kind: Kind) -> None:
        work.lay_ground(kind)
        desired = work.desired(kind)
        before = work.place.world()
        with work.place.losing_the_answer():
            refusal = work.refused(desired)
        assert refusal.ambiguous
        assert refusal.code == "cloud_unreachable"
        work.settle()
        found = work.connector.find(desired)
        assert found is not None
        counted = kind not in {Kind.GATEWAY_ATTACHMENT, Kind.ROUTE, Kind.FIREWALL_RULE}
        assert len(work.place.world()) == len(before) + counted

    # Order -----------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("used", "user"),
        [
            (Kind.NETWORK, Kind.SUBNET),
            (Kind.NETWORK, Kind.FIREWALL),
            (Kind.NETWORK, Kind.GATEWAY_ATTACHMENT),
            (Kind.GATEWAY, Kind.GATEWAY_ATTACHMENT),
            (Kind.SUBNET, Kind.MACHINE),
            (Kind.FIREWALL, Kind.MACHINE),
        ],
    )
    def test_what_is_in_use_is_not_deleted(self, work: Work, used: Kind, user: Kind) -> None:
        work.lay_ground(user)
        work.make(user)
        work.settle()
        ref = Ref(key="", kind=used, id=work.ids[used.value], region=work.place.region)
        with pytest.raises(CloudError) as raised:
            work.connector.begin_delete(ref)
        assert raised.value.code == "cloud_in_use"
        assert work.connector.observe(ref).state is State.READY

    def test_a_network_goes_when_all_that_hung_on_it_went(self, work: Work) -> None:
        made = [work.make(kind) for kind in [*GROUND[Kind.ROUTE], Kind.ROUTE, Kind.FIREWALL, Kind.FIREWALL_RULE]]
        work.settle()
        parts = {Kind.ROUTE, Kind.FIREWALL_RULE}  # they go with what they are part of
        for found in reversed([found for found in made if found.ref.kind not in parts]):
            if found.ref.kind is not Kind.NETWORK:
                work.finish(work.connector.begin_delete(found.ref))
        work.finish(work.connector.begin_delete(made[0].ref))
        assert work.place.world() == []

    # Listing ---------------------------------------------------------------------------------------------------------

    def test_the_list_shows_all_that_bears_the_fabrics_tag(self, work: Work) -> None:
        for kind in [Kind.NETWORK, Kind.GATEWAY, Kind.GATEWAY_ATTACHMENT, Kind.SUBNET, Kind.FIREWALL, Kind.MACHINE]:
            work.make(kind)
        work.settle()
        kinds = [found.ref.kind for found in work.listed()]
        assert sorted(set(kinds) - {Kind.DISK, Kind.NIC}) == sorted(
            [Kind.NETWORK, Kind.GATEWAY, Kind.GATEWAY_ATTACHMENT, Kind.SUBNET, Kind.FIREWALL, Kind.MACHINE]
        )
        assert all(found.tags[TAG_FABRIC] == FABRIC for found in work.listed())
        assert {found.ref.kind for found in work.listed() if found.billable} == {Kind.MACHINE, Kind.DISK}

    def test_what_is_listed_can_be_observed_and_deleted(self, work: Work) -> None:
        """All that a teardown has when every local file is lost."""
        for kind in [Kind.NETWORK, Kind.GATEWAY, Kind.GATEWAY_ATTACHMENT, Kind.SUBNET, Kind.FIREWALL, Kind.MACHINE]:
            work.make(kind)
        work.settle()
        order = [Kind.MACHINE, Kind.FIREWALL, Kind.SUBNET, Kind.GATEWAY_ATTACHMENT, Kind.GATEWAY, Kind.NETWORK]
        later = Work(work.place)
        refs = {found.ref.kind: found.ref for found in later.listed()}
        for kind in order:
            assert later.connector.observe(refs[kind]).state is State.READY
            later.finish(later.connector.begin_delete(refs[kind]))
        assert later.listed() == []
        assert work.place.world() == []

    def test_what_is_foreign_is_neither_listed_nor_found(self, work: Work) -> None:
        ours = work.desired(Kind.NETWORK)
        work.place.plant(fabric="stranger", key=ours.key)
        work.place.plant(fabric="", key="")
        work.settle()
        assert work.connector.find(ours) is None
        assert work.listed() == []

    def test_a_copy_of_our_tags_is_listed_for_the_signature_to_judge(self, work: Work) -> None:
        planted = work.place.plant(fabric=FABRIC, key="f" * 32)
        work.settle()
        assert [found.ref.id for found in work.listed()] == [planted]

    def test_every_process_finds_the_same_one_of_two(self, work: Work) -> None:
        desired = work.desired(Kind.NETWORK)
        planted = [work.place.plant(fabric=FABRIC, key=desired.key) for _ in range(3)]
        work.settle()
        found = {Work(work.place).connector.find(desired).ref.id for _ in range(3)}  # type: ignore[union-attr]
        assert len(found) == 1
        assert found <= set(planted)

    # Refusals --------------------------------------------------------------------------------------------------------

    def test_a_need_that_does_not_exist_is_refused_as_not_found(self, work: Work) -> None:
        work.lay_ground(Kind.SUBNET)
        work.ids["network"] = other_id(work.ids["network"])
        refusal = work.refused(work.desired(Kind.SUBNET))
        assert (refusal.code, refusal.ambiguous) == ("cloud_not_found", False)
        assert refusal.cloud_code

    def test_a_quota_that_is_used_up_is_said_so(self, work: Work) -> None:
        work.lay_ground(Kind.MACHINE)
        with work.place.with_room_for(0):
            refusal = work.refused(work.desired(Kind.MACHINE))
        assert (refusal.code, refusal.ambiguous) == ("cloud_quota", False)

    def test_a_refusal_survives_the_journal(self, work: Work) -> None:
        work.lay_ground(Kind.MACHINE)
        with work.place.with_room_for(0):
            refusal = work.refused(work.desired(Kind.MACHINE))
        again = CloudError.from_wire(msgspec.json.decode(msgspec.json.encode(refusal.to_wire())))
        assert again.to_wire() == refusal.to_wire()

    @pytest.mark.parametrize(
        "change",
        [
            {"key": "short"},
            {"name": "No Capitals"},
            {"needs": {}},
            {"needs": {"network": "x", "moon": "y"}},
            {"inputs": {}},
            {"inputs": {"cidr": "10.0.0.0/24", "colour": "red"}},
            {"inputs": {"cidr": 1}},
            {"inputs": {"cidr": "10.77.1.7/24"}},
            {"inputs": {"cidr": "10.77.1.7"}},
            {"inputs": {"cidr": "2001:db8::/64"}},
            {"tags": {}},
            {"tags": {TAG_FABRIC: FABRIC, TAG_KEY: "another"}},
            {"kind": Kind.DEADLINE},
            {"zone": ""},
        ],
    )
    def test_what_no_cloud_could_make_is_refused_before_any_call(self, work: Work, change: dict[str, Any]) -> None:
        work.ids["network"] = "x"
        desired = msgspec.structs.replace(work.desired(Kind.SUBNET), **change)
        assert work.refused(desired).code == "cloud_invalid"

    @pytest.mark.parametrize("token", ["", "x" * 65, "umläut", "new\nline"])
    def test_a_token_that_not_every_cloud_takes_is_refused(self, work: Work, token: str) -> None:
        assert work.refused(work.desired(Kind.NETWORK), token).code == "cloud_invalid"

    # Facts -----------------------------------------------------------------------------------------------------------

    def test_the_facts_that_a_plan_needs_are_told(self, work: Work) -> None:
        connector, region, machine_type = work.connector, work.place.region, work.place.machine_type
        offers = connector.offers(region, machine_type)
        assert {offer.machine_type for offer in offers} == {machine_type}
        assert all(offer.zone.startswith(region) and offer.cpu_cores > 0 and offer.mem_bytes > 0 for offer in offers)
        assert {offer.arch for offer in offers} == {work.place.arch}
        price = connector.price(region, machine_type)
        assert min(price.machine_per_hour, price.disk_per_gib_month, price.address_per_hour) > 0
        assert price.fictional
        image = connector.image(region, work.place.arch)
        assert image.arch == work.place.arch
        assert image.python.startswith("3.")
        assert connector.identity().account
        assert connector.quotas(region)
        assert connector.missing_permissions(region, ["ec2:RunInstances"]) == ()

    def test_what_is_not_offered_is_not_offered(self, work: Work) -> None:
        other = {"amd64": "arm64", "arm64": "amd64"}[work.place.arch]
        assert work.connector.offers(work.place.region, "no.such-type") == ()
        assert work.connector.offers(work.place.region, work.place.machine_type, other) == ()
        with pytest.raises(CloudError) as raised:
            work.connector.price(work.place.region, "no.such-type")
        assert raised.value.code == "price_missing"

    def test_a_region_that_does_not_exist_is_refused(self, work: Work) -> None:
        with pytest.raises(CloudError) as raised:
            work.connector.offers("atlantis-1")
        assert raised.value.code == "cloud_invalid"

    def test_the_console_of_a_machine_is_text(self, work: Work) -> None:
        work.lay_ground(Kind.MACHINE)
        made = work.make(Kind.MACHINE)
        assert isinstance(work.connector.console(made.ref), str)
        never = Ref(key="", kind=Kind.MACHINE, id=other_id(made.ref.id), region=work.place.region)
        assert work.connector.console(never) == ""

    # Threads ---------------------------------------------------------------------------------------------------------

    def test_many_threads_with_one_token_make_one_machine(self, work: Work) -> None:
        work.lay_ground(Kind.MACHINE)
        desired = work.desired(Kind.MACHINE)
        with ThreadPoolExecutor(16) as pool:
            operations = list(pool.map(lambda _: work.connector.begin_create(desired, "token"), range(32)))
        assert len({operation.ref.id for operation in operations}) == 1

    def test_many_threads_on_one_connector_do_not_meet(self, work: Work) -> None:
        work.lay_ground(Kind.FIREWALL)
        names = [f"grafos-firewall-{number}" for number in range(24)]
        with ThreadPoolExecutor(8) as pool:
            wanted = [work.desired(Kind.FIREWALL, name) for name in names]
            made = list(pool.map(work.connector.begin_create, wanted, names))
            work.settle()
            found = list(pool.map(work.connector.find, wanted))
        assert [each.ref.id for each in found if each] == [operation.ref.id for operation in made]
