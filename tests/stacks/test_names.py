"""Whose a resource is, its signed tags say: a copy, an alteration or another fabric's tags never pass."""

from __future__ import annotations

import msgspec
import pytest
from twin_ground import TwinGround

from grafos_connectors.contract import Found, Kind, Ref, State
from grafos_stacks.names import (
    Ownership,
    attempt_in,
    claim_secret,
    cloud_name,
    expiry_in,
    key_of,
    ours_among,
    ownership,
    sealed_tags,
    token_of,
)

KEY = "0123456789abcdef" * 2


@pytest.fixture
def ground() -> TwinGround:
    return TwinGround()


def found(kind: Kind, tags: dict[str, str], region: str = "us-east-1", **attributes: str) -> Found:
    named = {"name": cloud_name("aws-one", "machine", KEY)} | attributes
    return Found(Ref(KEY, kind, "id-1", region), State.READY, tags, named)


def tags(ground: TwinGround, kind: Kind = Kind.MACHINE) -> dict[str, str]:
    return sealed_tags(ground.fabric, "aws-one", kind, KEY, 3, expires_at=1_800_000_000)


def test_what_bears_our_whole_signature_is_ours(ground: TwinGround) -> None:
    assert ownership(ground.fabric, found(Kind.MACHINE, tags(ground))) is Ownership.OURS


@pytest.mark.parametrize("kind", [Kind.DISK, Kind.NIC, Kind.ADDRESS])
def test_what_came_with_a_machine_bears_its_tags_and_is_ours(ground: TwinGround, kind: Kind) -> None:
    assert ownership(ground.fabric, found(kind, tags(ground))) is Ownership.OURS


@pytest.mark.parametrize("kind", [Kind.FIREWALL, Kind.NETWORK, Kind.GATEWAY])
def test_our_tags_on_another_kind_of_resource_are_a_copy(ground: TwinGround, kind: Kind) -> None:
    assert ownership(ground.fabric, found(kind, tags(ground))) is Ownership.COPIED


@pytest.mark.parametrize("name", ["theirs", "", "grafos-aws-two-machine-01234567", "grafos-aws-one-machine-76543210"])
def test_our_tags_on_what_is_called_otherwise_are_a_copy(ground: TwinGround, name: str) -> None:
    assert ownership(ground.fabric, found(Kind.MACHINE, tags(ground), name=name)) is Ownership.COPIED


def test_where_the_name_is_the_resource_itself_its_id_tells_it(ground: TwinGround) -> None:
    for given, wanted in ((cloud_name("aws-one", "machine", KEY), Ownership.OURS), ("theirs", Ownership.COPIED)):
        for ref_id in (f"zones/z/instances/{given}", f"/subscriptions/s/virtualMachines/{given.upper()}"):
            named = Found(Ref(KEY, Kind.MACHINE, ref_id, "us-east1"), State.READY, tags(ground))
            assert ownership(ground.fabric, named) is wanted, ref_id


def test_a_part_may_bear_its_machine_s_name_and_more(ground: TwinGround) -> None:
    name = cloud_name("aws-one", "machine", KEY) + "_OsDisk_1_ab"
    assert ownership(ground.fabric, found(Kind.DISK, tags(ground), name=name)) is Ownership.OURS
    assert ownership(ground.fabric, found(Kind.MACHINE, tags(ground), name=name)) is Ownership.COPIED


def test_a_shutdown_schedule_is_known_by_its_machine_s_name(ground: TwinGround) -> None:
    name = "shutdown-computevm-" + cloud_name("aws-one", "machine", KEY[::-1])
    assert ownership(ground.fabric, found(Kind.DEADLINE, tags(ground, Kind.DEADLINE), name=name)) is Ownership.OURS
    copy = found(Kind.DEADLINE, tags(ground, Kind.DEADLINE), name="shutdown-computevm-theirs")
    assert ownership(ground.fabric, copy) is Ownership.COPIED


def test_the_token_that_launched_a_machine_must_be_its_attempt_s(ground: TwinGround) -> None:
    for token, wanted in ((token_of(KEY, 3), Ownership.OURS), (token_of(KEY, 2), Ownership.COPIED)):
        assert ownership(ground.fabric, found(Kind.MACHINE, tags(ground), client_token=token)) is wanted
    assert ownership(ground.fabric, found(Kind.MACHINE, tags(ground), client_token="none")) is Ownership.COPIED


def test_the_tags_of_a_region_s_network_are_a_copy_in_another_region(ground: TwinGround) -> None:
    sealed = sealed_tags(ground.fabric, "net-aws-us-east-1", Kind.NETWORK, KEY, 1)
    name = cloud_name("net-aws-us-east-1", "network", KEY)
    assert ownership(ground.fabric, found(Kind.NETWORK, sealed, name=name)) is Ownership.OURS
    assert ownership(ground.fabric, found(Kind.NETWORK, sealed, "eu-west-1", name=name)) is Ownership.COPIED


def test_what_bears_no_key_of_its_own_is_ours_if_its_carrier_is(ground: TwinGround) -> None:
    gateway = found(Kind.GATEWAY, tags(ground, Kind.GATEWAY))
    copy = msgspec.structs.replace(gateway, ref=msgspec.structs.replace(gateway.ref, id="copy"), attributes={})

    def attachment(carrier: Found) -> Found:
        ref = Ref("", Kind.GATEWAY_ATTACHMENT, f"{carrier.ref.id}|vpc-1", "us-east-1")
        return Found(ref, State.READY, carrier.tags, {"carrier": carrier.ref.id})

    listed = [attachment(gateway), attachment(copy), copy, gateway]
    assert ours_among(ground.fabric, listed) == (attachment(gateway), gateway)


@pytest.mark.parametrize("name", ["fabric", "stack", "kind", "key", "attempt", "expires", "signature"])
def test_no_tag_can_be_altered_or_taken_away(ground: TwinGround, name: str) -> None:
    name = f"grafos:{name}"
    assert name in tags(ground)
    altered = tags(ground) | {name: "0"}
    missing = {other: value for other, value in tags(ground).items() if other != name}
    assert ownership(ground.fabric, found(Kind.MACHINE, altered)) is Ownership.FOREIGN
    assert ownership(ground.fabric, found(Kind.MACHINE, missing)) is Ownership.FOREIGN


def test_no_tag_of_ours_can_be_added_and_others_do_not_matter(ground: TwinGround) -> None:
    assert ownership(ground.fabric, found(Kind.MACHINE, tags(ground) | {"grafos:more": "1"})) is Ownership.FOREIGN
    assert ownership(ground.fabric, found(Kind.MACHINE, tags(ground) | {"team": "blue"})) is Ownership.OURS


def test_another_fabric_with_the_same_names_is_foreign(ground: TwinGround) -> None:
    other = TwinGround()
    assert ownership(other.fabric, found(Kind.MACHINE, tags(ground))) is Ownership.FOREIGN
    assert ownership(ground.fabric, found(Kind.MACHINE, {})) is Ownership.FOREIGN


def test_tags_tell_attempt_and_expiry(ground: TwinGround) -> None:
    assert (attempt_in(tags(ground)), expiry_in(tags(ground))) == (3, 1_800_000_000)
    assert (attempt_in({}), expiry_in({})) == (1, 0)


def test_a_claim_secret_is_the_same_for_one_attempt_and_another_for_the_next(ground: TwinGround) -> None:
    one = claim_secret(ground.fabric, KEY, 1)
    assert one == claim_secret(ground.fabric, KEY, 1)
    assert len({one, claim_secret(ground.fabric, KEY, 2), claim_secret(TwinGround().fabric, KEY, 1)}) == 3
    assert len(bytes.fromhex(one)) == 32


def test_keys_differ_in_everything_that_makes_them() -> None:
    base = ("fab", "stack", Kind.MACHINE, "machine", {"a": 1})
    keys = {key_of(*base)}
    for place, other in enumerate(("fab2", "stack2", Kind.DISK, "machine2", {"a": 2})):
        changed = list(base)
        changed[place] = other
        keys.add(key_of(*changed))
    assert len(keys) == 6
    assert key_of(*base) == key_of("fab", "stack", Kind.MACHINE, "machine", {"a": 1})
    assert key_of("fab", "s", Kind.DISK, "d", {"a": 1, "b": 2}) == key_of("fab", "s", Kind.DISK, "d", {"b": 2, "a": 1})


def test_a_long_name_is_cut_in_the_middle_and_keeps_the_key() -> None:
    name = cloud_name("x" * 40, "gateway-attachment", KEY)
    assert len(name) <= 63
    assert name.startswith("grafos-xxx")
    assert name.endswith("-01234567")
    assert token_of(KEY, 1).isascii()
