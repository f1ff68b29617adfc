"""What every connector must do; each cloud runs these same claims.

A cloud is told by a ``Place``: a way to open connectors to one account, to let time pass in it, to break it, and to
count what truly exists in it. Nothing here knows which cloud it is.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, Protocol

import msgspec
import pytest

from grafos_connectors.contract import (
    TAG_EXPIRES,
    TAG_FABRIC,
    TAG_KEY,
    TAG_SIGNATURE,
    TAG_STACK,
    CloudError,
    Connector,
    Desired,
    Done,
    Failed,
    Found,
    Kind,
    Operation,
    Pending,
    Ref,
    Scope,
    State,
)
from grafos_connectors.shapes import SHAPES

FABRIC = "contract"
LONGEST_WAIT_S = 600.0
TOKEN = "token"
KINDS = list(SHAPES)
# What must exist before a resource of the kind can, in the order in which it is made.
GROUND: dict[Kind, tuple[Kind, ...]] = {
    Kind.NETWORK: (),
    Kind.GATEWAY: (),
    Kind.SUBNET: (Kind.NETWORK,),
    Kind.FIREWALL: (Kind.NETWORK,),
    Kind.GATEWAY_ATTACHMENT: (Kind.NETWORK, Kind.GATEWAY),
    Kind.ROUTE: (Kind.NETWORK, Kind.GATEWAY, Kind.GATEWAY_ATTACHMENT),
    Kind.FIREWALL_RULE: (Kind.NETWORK, Kind.FIREWALL),
    Kind.MACHINE: (Kind.NETWORK, Kind.SUBNET, Kind.FIREWALL),
}


class Place(Protocol):
    """One account in one cloud, as a test sees it."""

    region: str
    machine_type: str
    arch: str

    def open(self) -> Connector:
        """A connector of a process that has just started."""
        ...

    def pass_time(self, seconds: float) -> None: ...

    def world(self) -> list[str]:
        """The ids of everything that truly exists and that somebody made, but for what machines bring with them."""
        ...

    def plant(self, fabric: str, key: str) -> str:
        """A network that grafos did not make, with these tags; gives its id."""
        ...

    def losing_the_answer(self) -> AbstractContextManager[None]:
        """Inside, changing calls have their effect and their answers are lost."""
        ...

    def with_room_for(self, machines: int) -> AbstractContextManager[None]:
        """Inside, the account's quota allows that many machines."""
        ...


class Work:
    """One process's work on a place: makes what is asked for and waits by letting time pass."""

    def __init__(self, place: Place, fabric: str = FABRIC) -> None:
        self.place = place
        self.fabric = fabric
        self.connector = place.open()
        self.ids: dict[str, str] = {}
        offers = self.connector.offers(place.region, place.machine_type)
        self.zone = min(offer.zone for offer in offers)
        self.image = self.connector.image(place.region, place.arch)

    def desired(self, kind: Kind, name: str = "", **inputs: Any) -> Desired:
        name = name or f"grafos-{kind.value.replace('_', '-')}"
        key = hashlib.sha256(f"{self.fabric} {kind.value} {name}".encode()).hexdigest()[:32]

        shape = SHAPES[kind]
        return Desired(
            key=key,
            kind=kind,
            name=name,
            region=self.place.region,
            zone=self.zone if kind in {Kind.SUBNET, Kind.MACHINE} else "",
            needs={role: self.ids[role] for role in shape.needs},
            inputs={**self.usual_inputs(kind), **inputs},
            tags=self.tags(key) if shape.tagged else {},
        )

    def tags(self, key: str) -> dict[str, str]:
        return {
            TAG_FABRIC: self.fabric,
            TAG_STACK: "cell-1",
            TAG_KEY: key,
            TAG_SIGNATURE: "a" * 52,
            TAG_EXPIRES: "1900000000",
        }

    def usual_inputs(self, kind: Kind) -> dict[str, Any]:
        if kind is Kind.MACHINE:
            return {
                "machine_type": self.place.machine_type,
                "image": self.image.id,
                "root_device": self.image.root_device,
                "disk_gib": self.image.disk_gib,
                "user_data": "#!/bin/sh\necho hello\n",
            }
        return {
            Kind.NETWORK: {"cidr": "10.77.0.0/16"},
            Kind.SUBNET: {"cidr": "10.77.1.0/24"},
            Kind.ROUTE: {"cidr": "0.0.0.0/0"},
            Kind.FIREWALL: {"description": "a cell of grafos"},
            Kind.FIREWALL_RULE: {"port": 7443, "cidr": "192.0.2.7/32"},
        }.get(kind, {})

    def lay_ground(self, kind: Kind) -> None:
        for needed in GROUND[kind]:
            self.make(needed)

    def make(self, kind: Kind, name: str = "", **inputs: Any) -> Found:
        """Creates one resource and waits until it is ready; what hangs on it later finds it in ``ids``."""
        desired = self.desired(kind, name, **inputs)
        found = self.finish(self.connector.begin_create(desired, token=f"token-{desired.name}"))
        assert found is not None
        self.ids[kind.value] = found.ref.id
        return found

    def finish(self, operation: Operation) -> Found | None:
        done = self.outcome(operation)
        assert isinstance(done, Done), done
        return done.found

    def outcome(self, operation: Operation) -> Done | Failed:
        waited_s = 0.0
        while isinstance(progress := self.connector.poll(operation), Pending):
            assert waited_s < LONGEST_WAIT_S, f"still pending: {progress}"
            step_s = max(progress.again_after_s, 0.05)
            self.place.pass_time(step_s)
            waited_s += step_s
        return progress

    def settle(self) -> None:
        """Lets the listing lag pass."""
        self.place.pass_time(self.connector.traits.listing_lag_s + 0.01)

    def listed(self, *regions: str) -> list[Found]:
        scope = Scope(fabric=self.fabric, regions=regions or (self.place.region,))
        return [found for page in self.connector.list(scope) for found in page]

    def listed_everywhere(self) -> list[Found]:
        return [found for page in self.connector.list(Scope(fabric=self.fabric)) for found in page]

    def refused(self, desired: Desired, token: str = TOKEN) -> CloudError:
        with pytest.raises(CloudError) as raised:
            self.connector.begin_create(desired, token)
        return raised.value


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
        never = Ref(key="", kind=Kind.MACHINE, id=_other_id(made.ref.id), region=work.place.region)
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
        work.ids["network"] = _other_id(work.ids["network"])
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
        never = Ref(key="", kind=Kind.MACHINE, id=_other_id(made.ref.id), region=work.place.region)
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


def _other_id(id: str) -> str:
    """An id of the same form that nobody has."""
    last = id[-1]
    return id[:-1] + ("0" if last != "0" else "1")
