"""What every connector must do; each cloud runs these same claims on the kinds that it has.

``ContractSuite`` holds what is claimed of every cloud. Clouds differ in one thing that no table of kinds can say: one
where several resources may bear one key adds ``KeyIsATagClaims``, one that finds by a unique name
``NameIsUniqueClaims``.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import msgspec
import pytest
from contract_work import FABRIC, Kinds, Place, Work, other_id

from grafos_connectors.contract import (
    TAG_EXPIRES,
    TAG_FABRIC,
    TAG_KEY,
    CloudError,
    Done,
    Failed,
    Found,
    Kind,
    Operation,
    Pending,
    Ref,
    State,
)


class Claims:
    """Inherit, and give ``kinds`` and a fixture ``place``."""

    kinds: ClassVar[Kinds]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """A claim that takes one of these names is made of each of the cloud's kinds that the name stands for."""
        kinds = type(self).kinds
        meant: dict[str, tuple[Any, ...]] = {
            "kind": tuple(kinds.shapes),
            "tagged_kind": kinds.tagged,
            "placed_kind": kinds.one_by_place,
            "retagged_kind": kinds.retagged,
            "used_and_user": kinds.used,
        }
        for name in set(meant) & set(metafunc.fixturenames):
            metafunc.parametrize(name, meant[name], ids=_named)

    @pytest.fixture
    def work(self, place: Place) -> Work:
        return Work(place)


def _named(value: Any) -> str:
    return "-".join(value) if isinstance(value, tuple) else str(value)


class ContractSuite(Claims):
    """What is claimed of every cloud."""

    # Making and unmaking ---------------------------------------------------------------------------------------------

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

    def test_all_tags_are_there_from_the_first_read_on(self, work: Work, tagged_kind: Kind) -> None:
        work.lay_ground(tagged_kind)
        desired = work.desired(tagged_kind)
        operation = work.connector.begin_create(desired, "token")
        work.settle()
        seen = work.connector.observe(operation.ref)
        assert dict(seen.tags) == dict(desired.tags)
        assert seen.ref.key == desired.key

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

    def test_deleting_what_is_gone_is_success(self, work: Work, kind: Kind) -> None:
        work.lay_ground(kind)
        made = work.make(kind)
        work.settle()
        work.finish(work.connector.begin_delete(made.ref))
        assert work.finish(work.connector.begin_delete(made.ref)) is None

    def test_gone_is_not_believed_of_what_no_delete_call_ever_found(self, work: Work) -> None:
        """AWS: NotFound from TerminateInstances does not mean that the instance is gone. A lost create may yet land."""
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
        later = work.another()
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
        if outcome.found is not None:  # no read shows it, which may change: then it is named, and deleted once more
            assert work.finish(work.connector.begin_delete(outcome.found.ref)) is None

    # Once ------------------------------------------------------------------------------------------------------------

    def test_the_same_call_makes_no_second_where_the_cloud_promises_that(self, work: Work, kind: Kind) -> None:
        """Where it does not, the second is real, and whoever drives the connector must look before it calls again."""
        work.lay_ground(kind)
        desired = work.desired(kind)
        first = work.connector.begin_create(desired, "token")
        work.settle()
        world = work.place.world()
        again = work.another().connector.begin_create(desired, "token")
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
        again = work.finish(work.connector.begin_create(desired, "token-2"))
        assert again is not None
        assert again.state is State.READY

    def test_a_place_that_something_else_holds_is_a_conflict(self, work: Work, placed_kind: Kind) -> None:
        work.lay_ground(placed_kind)
        work.make(placed_kind)
        work.settle()
        stranger = work.stranger()
        stranger.ids = work.ids
        assert stranger.refused(stranger.desired(placed_kind)).code == "cloud_conflict"

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
        counted = kind not in {*work.kinds.parts, *work.kinds.uncounted}
        assert len(work.place.world()) == len(before) + counted

    # Order -----------------------------------------------------------------------------------------------------------

    def test_what_is_in_use_is_not_deleted(self, work: Work, used_and_user: tuple[Kind, Kind]) -> None:
        used, user = used_and_user
        work.lay_ground(user)
        work.make(user)
        work.settle()
        ref = Ref(key="", kind=used, id=work.ids[used.value], region=work.place.region)
        assert work.why_not(lambda: work.connector.begin_delete(ref)).code == "cloud_in_use"
        assert work.connector.observe(ref).state is State.READY

    def test_a_resource_goes_when_all_that_hung_on_it_went(self, work: Work) -> None:
        made = [work.make(kind) for kind in work.kinds.all_of(*work.kinds.shapes)]
        work.settle()
        for found in reversed([found for found in made if found.ref.kind not in work.kinds.parts]):
            work.finish(work.connector.begin_delete(found.ref))
        assert work.place.world() == []

    # Listing ---------------------------------------------------------------------------------------------------------

    def test_the_list_shows_all_that_bears_the_fabrics_tag(self, work: Work) -> None:
        work.make_all()
        work.settle()
        listed = work.listed()
        brought = {Kind.DISK, Kind.NIC} - set(work.kinds.shapes)
        assert {found.ref.kind for found in listed} - brought == set(work.kinds.whole)
        carriers = {found.ref.id for found in listed if found.tags}
        assert all(found.tags.get(TAG_FABRIC) == work.fabric or _hangs_on(found, carriers) for found in listed)
        billable = {found.ref.kind for found in listed if found.billable}
        assert billable - {Kind.ADDRESS} == {Kind.MACHINE, Kind.DISK}

    def test_what_is_listed_can_be_observed_and_deleted(self, work: Work) -> None:
        """All that a teardown has when every local file is lost."""
        work.make_all()
        work.settle()
        later = work.another()
        refs = {found.ref.kind: found.ref for found in later.listed()}
        assert {later.connector.observe(ref).state for ref in refs.values()} == {State.READY}
        for kind in reversed(work.kinds.whole):  # some may be gone by then: those that go with a machine
            later.finish(later.connector.begin_delete(refs[kind]))
        assert later.listed() == []
        assert work.place.world() == []

    def test_what_is_foreign_is_neither_listed_nor_found(self, work: Work) -> None:
        ours = work.desired(work.kinds.whole[0])
        work.place.plant(fabric=work.stranger().fabric, key=ours.key)
        work.place.plant(fabric="", key="")
        work.settle()
        assert work.connector.find(ours) is None
        assert work.listed() == []

    def test_a_copy_of_our_tags_is_listed_for_the_signature_to_judge(self, work: Work) -> None:
        planted = work.place.plant(fabric=work.fabric, key="f" * 32)
        work.settle()
        assert [found.ref.id for found in work.listed()] == [planted]

    # Updating --------------------------------------------------------------------------------------------------------

    def test_new_tags_replace_the_old_ones(self, work: Work, retagged_kind: Kind) -> None:
        work.lay_ground(retagged_kind)
        made = work.make(retagged_kind)
        work.settle()
        desired = work.desired(retagged_kind)
        desired = msgspec.structs.replace(desired, tags={**desired.tags, TAG_EXPIRES: "1900009999"})
        world = work.place.world()
        for _ in range(2):  # repeating it is harmless
            found = work.finish(work.connector.begin_update(made.ref, desired))
            assert found is not None
            assert found.ref.id == made.ref.id
        work.settle()
        assert dict(work.connector.observe(made.ref).tags) == dict(desired.tags)
        assert work.place.world() == world

    def test_what_is_gone_gets_no_new_tags(self, work: Work, retagged_kind: Kind) -> None:
        work.lay_ground(retagged_kind)
        made = work.make(retagged_kind)
        work.settle()
        work.finish(work.connector.begin_delete(made.ref))
        late = work.why_not(lambda: work.connector.begin_update(made.ref, work.desired(retagged_kind)))
        assert late.code == "cloud_not_found"

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
            refusal = work.fails(work.desired(Kind.MACHINE))
        assert (refusal.code, refusal.ambiguous) == ("cloud_quota", False)

    def test_a_refusal_survives_the_journal(self, work: Work) -> None:
        work.lay_ground(Kind.MACHINE)
        with work.place.with_room_for(0):
            refusal = work.fails(work.desired(Kind.MACHINE))
        again = CloudError.from_wire(msgspec.json.decode(msgspec.json.encode(refusal.to_wire())))
        assert again.to_wire() == refusal.to_wire()

    @pytest.mark.parametrize(
        ("like", "change"),
        [
            (Kind.NETWORK, {"key": "short"}),
            (Kind.NETWORK, {"name": "No Capitals"}),
            (Kind.NETWORK, {"kind": Kind.DISK}),
            (Kind.NETWORK, {"tags": {}}),
            (Kind.NETWORK, {"tags": {TAG_FABRIC: FABRIC, TAG_KEY: "another"}}),
            (Kind.NETWORK, {"inputs": {"colour": "red"}}),
            (Kind.SUBNET, {"needs": {}}),
            (Kind.SUBNET, {"needs": {"network": "x", "moon": "y"}}),
            (Kind.SUBNET, {"inputs": {}}),
            (Kind.SUBNET, {"inputs": {"cidr": "10.0.0.0/24", "colour": "red"}}),
            (Kind.SUBNET, {"inputs": {"cidr": 1}}),
            (Kind.SUBNET, {"inputs": {"cidr": "10.77.1.7/24"}}),
            (Kind.SUBNET, {"inputs": {"cidr": "10.77.1.7"}}),
            (Kind.SUBNET, {"inputs": {"cidr": "2001:db8::/64"}}),
        ],
        ids=str,
    )
    def test_what_no_cloud_could_make_is_refused_before_any_call(
        self, work: Work, like: Kind, change: dict[str, Any]
    ) -> None:
        work.pretend_ground()
        desired = msgspec.structs.replace(work.desired(like), **change)
        assert work.refused(desired).code == "cloud_invalid"

    def test_what_stands_in_a_zone_is_not_made_without_one(self, work: Work) -> None:
        work.pretend_ground()
        for kind, shape in work.kinds.shapes.items():
            desired = msgspec.structs.replace(work.desired(kind), zone="")
            if shape.zoned:
                assert work.refused(desired).code == "cloud_invalid"

    @pytest.mark.parametrize("token", ["", "x" * 65, "umläut", "new\nline"])
    def test_a_token_that_not_every_cloud_takes_is_refused(self, work: Work, token: str) -> None:
        work.pretend_ground()
        assert work.refused(work.desired(Kind.NETWORK), token).code == "cloud_invalid"

    # Facts -----------------------------------------------------------------------------------------------------------

    def test_the_facts_that_a_plan_needs_are_told(self, work: Work) -> None:
        connector, region, machine_type = work.connector, work.place.region, work.place.machine_type
        offers = connector.offers(region, machine_type)
        assert {offer.machine_type for offer in offers} == {machine_type}
        assert all(offer.region == region and offer.cpu_cores > 0 and offer.mem_bytes > 0 for offer in offers)
        assert all(re.fullmatch(work.kinds.zones, offer.zone) for offer in offers)
        assert {offer.arch for offer in offers} == {work.place.arch}
        price = connector.price(region, machine_type)
        assert min(price.machine_per_hour, price.disk_per_gib_month, price.address_per_hour) > 0
        assert 0 <= price.spot_per_hour <= price.machine_per_hour
        assert price.fictional == connector.identity().emulated
        image = connector.image(region, work.place.arch)
        assert image.arch == work.place.arch
        assert image.python.startswith("3.")
        assert connector.identity().account
        assert connector.quotas(region)
        assert connector.missing_permissions(region, work.kinds.actions) == ()
        assert connector.obstacles(region, machine_type) == ()

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
        many = work.kinds.many
        work.lay_ground(many)
        names = [f"{work.prefix}-one-of-many-{number}" for number in range(24)]
        with ThreadPoolExecutor(8) as pool:
            wanted = [work.desired(many, name) for name in names]
            made = list(pool.map(work.connector.begin_create, wanted, names))
            work.settle()
            found = list(pool.map(work.connector.find, wanted))
        assert [each.ref.id for each in found if each] == [operation.ref.id for operation in made]


class KeyIsATagClaims(Claims):
    """Where a resource is found by the tag that bears its key, and any number may bear the same."""

    def test_every_process_finds_the_same_one_of_two(self, work: Work) -> None:
        desired = work.desired(work.kinds.whole[0])
        planted = [work.place.plant(fabric=work.fabric, key=desired.key) for _ in range(3)]
        work.settle()
        found = {work.another().connector.find(desired).ref.id for _ in range(3)}  # type: ignore[union-attr]
        assert len(found) == 1
        assert found <= set(planted)


class NameIsUniqueClaims(Claims):
    """Where a resource is found by its name, of which the cloud never has a second."""

    def test_a_stranger_under_our_name_is_shown_without_our_key(self, work: Work, placed_kind: Kind) -> None:
        """So that whoever asked refuses it, and does not believe that nothing is there."""
        stranger = work.stranger()
        stranger.lay_ground(placed_kind)
        theirs = stranger.make(placed_kind)
        work.settle()
        work.ids = stranger.ids
        ours = work.desired(placed_kind)
        found = work.connector.find(ours)
        assert found is not None
        assert found.ref.id == theirs.ref.id
        assert found.ref.key != ours.key
        assert found.tags.get(TAG_FABRIC) != work.fabric


class TokensAreForgottenClaims(NameIsUniqueClaims):
    """Where the cloud remembers no token, and a name is free again when what bore it is gone."""

    def test_the_token_of_a_dead_machine_is_used_up(self, work: Work) -> None:
        """Not there: the same call makes the next machine."""
        work.lay_ground(Kind.MACHINE)
        desired = work.desired(Kind.MACHINE)
        operation = work.connector.begin_create(desired, "token")
        work.finish(operation)
        work.finish(work.connector.begin_delete(operation.ref))
        assert work.connector.find(desired) is None
        work.settle()
        for need in (Kind.ADDRESS, Kind.NIC):  # they went with the machine
            work.make(need)
        again = work.finish(work.connector.begin_create(desired, "token"))
        assert again is not None
        assert again.state is State.READY


def _hangs_on(found: Found, carriers: set[str]) -> bool:
    """A kind without tags of its own says on what it hangs."""
    return not found.tags and found.attributes.get("carrier") in carriers
