"""The machine that others dial: one port gets in, to it alone, at an address that outlives it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from azure_place import AzurePlace
from contract_work import Work
from gcp_place import gcp_place

from grafos_connectors.azure.network import firewall_body, nic_body
from grafos_connectors.contract import CloudError, Desired, Kind, State
from grafos_connectors.gcp.network import rule_body
from grafos_core.clock import VirtualClock
from grafos_emulators.emulator import EmulatedClouds, Settings


@pytest.fixture
def on_gcp(tmp_path: Path) -> Iterator[Work]:
    with gcp_place(tmp_path) as place:
        yield Work(place)


@pytest.fixture
def on_azure(tmp_path: Path) -> Iterator[Work]:
    clock = VirtualClock()
    with EmulatedClouds(tmp_path, Settings(clouds=("azure",), boots=False), clock=clock) as clouds:
        yield Work(AzurePlace(clouds, clock))


def dialled(work: Work, name: str = "", **inputs: Any) -> Desired:
    """A machine with the reserved address."""
    desired = work.desired(Kind.MACHINE, name, network_tag="grafos-door", **inputs)
    return msgspec.structs.replace(desired, needs={**desired.needs, "address": work.ids["address"]})


def test_a_rule_of_compute_engine_is_for_one_port_one_origin_and_one_tag(on_gcp: Work) -> None:
    on_gcp.make(Kind.NETWORK)
    body = rule_body(on_gcp.desired(Kind.FIREWALL_RULE, port=8443, cidr="203.0.113.7/32", target="grafos-one"), "p")
    assert body["allowed"] == [{"IPProtocol": "tcp", "ports": ["8443"]}]
    assert (body["sourceRanges"], body["targetTags"]) == (["203.0.113.7/32"], ["grafos-one"])
    assert body["direction"] == "INGRESS"


def test_a_machine_has_the_reserved_address_and_the_next_one_gets_it(on_gcp: Work) -> None:
    reserved = on_gcp.make(Kind.ADDRESS)
    on_gcp.lay_ground(Kind.MACHINE)
    first = on_gcp.finish(on_gcp.connector.begin_create(dialled(on_gcp), "one"))
    assert first is not None
    assert first.attributes["public_ip"] == reserved.attributes["public_ip"]
    assert on_gcp.connector.observe(reserved.ref).attributes["machine"] == first.ref.id
    on_gcp.finish(on_gcp.connector.begin_delete(first.ref))

    second = on_gcp.finish(on_gcp.connector.begin_create(dialled(on_gcp, "grafos-next"), "two"))
    assert second is not None
    assert second.attributes["public_ip"] == first.attributes["public_ip"]


def test_an_address_that_a_machine_has_is_neither_given_again_nor_deleted(on_gcp: Work) -> None:
    reserved = on_gcp.make(Kind.ADDRESS)
    on_gcp.lay_ground(Kind.MACHINE)
    on_gcp.finish(on_gcp.connector.begin_create(dialled(on_gcp), "one"))
    with pytest.raises(CloudError) as taken:
        on_gcp.connector.begin_create(dialled(on_gcp, "grafos-other"), "two")
    assert taken.value.code == "cloud_in_use"
    with pytest.raises(CloudError) as used:
        on_gcp.connector.begin_delete(reserved.ref)
    assert used.value.code == "cloud_in_use"


def test_a_machine_without_its_address_is_not_asked_for(on_gcp: Work) -> None:
    on_gcp.lay_ground(Kind.MACHINE)
    on_gcp.ids["address"] = f"regions/{on_gcp.place.region}/addresses/grafos-gone"
    with pytest.raises(CloudError) as raised:
        on_gcp.connector.begin_create(dialled(on_gcp), "one")
    assert raised.value.code == "cloud_not_found"


@pytest.mark.parametrize(("cidr", "source"), [("0.0.0.0/0", "*"), ("203.0.113.7/32", "203.0.113.7/32")])
def test_a_group_of_azure_opens_the_port_that_it_is_asked_for(on_azure: Work, cidr: str, source: str) -> None:
    on_azure.make(Kind.GROUP)
    closed = firewall_body(on_azure.desired(Kind.FIREWALL))
    assert closed["properties"] == {"securityRules": []}
    [rule] = firewall_body(on_azure.desired(Kind.FIREWALL, port=8443, cidr=cidr))["properties"]["securityRules"]
    told = rule["properties"]
    assert (told["access"], told["direction"], told["protocol"]) == ("Allow", "Inbound", "Tcp")
    assert (told["destinationPortRange"], told["sourceAddressPrefix"]) == ("8443", source)
    assert on_azure.make(Kind.FIREWALL, "grafos-door", port=8443, cidr=cidr).state is State.READY


def test_a_card_of_azure_takes_its_address_along_unless_it_is_kept(on_azure: Work) -> None:
    on_azure.lay_ground(Kind.NIC)

    def option(**inputs: Any) -> str:
        [configuration] = nic_body(on_azure.desired(Kind.NIC, **inputs))["properties"]["ipConfigurations"]
        return str(configuration["properties"]["publicIPAddress"]["properties"]["deleteOption"])

    assert (option(), option(keeps_address=True)) == ("Delete", "Detach")


def test_a_kept_address_of_azure_stays_when_its_machine_goes(on_azure: Work) -> None:
    on_azure.lay_ground(Kind.NIC)
    on_azure.make(Kind.NIC, keeps_address=True)
    machine = on_azure.make(Kind.MACHINE)
    on_azure.finish(on_azure.connector.begin_delete(machine.ref))
    on_azure.settle()
    kinds = {found.ref.kind for found in on_azure.listed()}
    assert Kind.ADDRESS in kinds
    assert not {Kind.MACHINE, Kind.NIC} & kinds
