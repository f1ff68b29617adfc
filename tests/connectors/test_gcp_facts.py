"""What Google Cloud tells of a project and its regions, and what it costs there."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from contract_work import Work
from gcp_place import GcpPlace, gcp_place

from grafos_connectors.contract import CloudError, Kind, Quota
from grafos_connectors.gcp import account, catalog, permissions, prices
from grafos_connectors.gcp.catalog import PriceRow
from grafos_core.emulated import EMULATED_PROJECT
from grafos_core.money import from_usd
from grafos_emulators.gcp.permissions import permission_for

MIB_PER_GIB = 1024


@pytest.fixture
def place(tmp_path: Path) -> Iterator[GcpPlace]:
    with gcp_place(tmp_path) as place:
        yield place


@pytest.fixture
def work(place: GcpPlace) -> Work:
    return Work(place)


# Facts ---------------------------------------------------------------------------------------------------------------


def test_the_project_says_who(work: Work) -> None:
    identity = work.connector.identity()
    assert (identity.account, identity.principal, identity.emulated) == (EMULATED_PROJECT, "emulated", True)


def test_every_machine_type_of_a_region_is_offered_when_none_is_named(work: Work) -> None:
    offers = work.connector.offers("us-central1")
    by_type = {offer.machine_type: offer for offer in offers}
    assert {"e2-medium", "t2a-standard-1", "g2-standard-4"} <= set(by_type)
    assert by_type["t2a-standard-1"].arch == "arm64"
    assert by_type["g2-standard-4"].gpu_count == 1
    assert {offer.arch for offer in work.connector.offers("us-central1", arch="arm64")} == {"arm64"}


def test_a_type_without_the_field_has_the_architecture_of_its_family() -> None:
    item = {"name": "c4a-standard-1", "zone": "us-central1-a", "guestCpus": 1, "memoryMb": 4096}
    assert account._offer("us-central1", item).arch == "arm64"


def test_a_region_that_does_not_exist_names_the_nearest(work: Work) -> None:
    with pytest.raises(CloudError) as raised:
        work.connector.offers("us-centrol1", "e2-medium")
    assert raised.value.next == "Did you mean 'us-central1'?"


def test_the_quotas_count_what_a_machine_uses(place: GcpPlace, work: Work) -> None:
    quotas = {quota.name: quota for quota in work.connector.quotas("us-central1")}
    assert {"machine_cores", "n2_machine_cores", "nvidia_l4_gpus", "spot_nvidia_l4_gpus", "networks"} <= set(quotas)
    assert quotas["disk_gib"] == Quota(name="disk_gib", unit="GiB", limit=40960, used=0)
    work.lay_ground(Kind.MACHINE)
    work.make(Kind.MACHINE)
    counted = {quota.name: quota.used for quota in work.connector.quotas("us-central1")}
    cores = "machine_cores" if place.arch == "amd64" else "t2a_machine_cores"
    assert (counted[cores], counted["networks"], counted["disk_gib"]) == (2, 1, work.image.disk_gib)


def counted(told: list[Quota], **item: Any) -> dict[str, tuple[int, str]]:
    found = account.counted(told, {"guestCpus": 4, "memoryMb": 4096, **item})
    return {quota.name: (quota.each, quota.market) for quota in found}


def test_a_part_of_a_core_in_use_counts_as_one_and_a_part_of_a_limit_as_none() -> None:
    region = {"quotas": [{"metric": "CPUS", "limit": 8.5, "usage": 2.25}]}
    assert list(account._quotas_in(region, account.REGION_QUOTAS)) == [Quota("machine_cores", "cores", 8, 3)]


def limits(**names: int) -> list[Quota]:
    return [Quota(name, "cores", limit, 0) for name, limit in names.items()]


def test_a_machine_counts_for_its_familys_own_limit_or_else_for_the_common_one() -> None:
    told = limits(machine_cores=8, n2_machine_cores=8, spot_machine_cores=8, machines=9)
    assert counted(told, name="e2-standard-4") == {
        "machine_cores": (4, "on_demand"),
        "n2_machine_cores": (0, "on_demand"),
        "spot_machine_cores": (4, "spot"),
        "machines": (1, ""),
    }
    assert counted(told, name="n2-standard-4")["n2_machine_cores"] == (4, "on_demand")
    assert counted(told, name="n2-standard-4")["machine_cores"] == (0, "on_demand")


def test_a_project_without_a_limit_for_spot_machines_counts_them_with_the_others() -> None:
    assert counted(limits(machine_cores=8, spot_machine_cores=0), name="e2-standard-4") == {"machine_cores": (4, "")}


def test_gpus_are_counted_where_they_are_limited() -> None:
    gpu = {"guestAcceleratorType": "nvidia-l4", "guestAcceleratorCount": 1}
    told = limits(nvidia_l4_gpus=1, spot_nvidia_l4_gpus=1, gpus_all_regions=1)
    assert counted(told, name="g2-standard-4", accelerators=[gpu]) == {
        "nvidia_l4_gpus": (1, "on_demand"),
        "spot_nvidia_l4_gpus": (1, "spot"),
        "gpus_all_regions": (1, ""),
    }


def test_what_is_committed_is_no_limit_of_a_machine() -> None:
    assert account._named_by_rule("COMMITTED_N2_CPUS") is None
    assert account._named_by_rule("C2D_CPUS") == ("c2d_machine_cores", "cores")


def test_a_permission_that_was_taken_away_is_missing(place: GcpPlace, work: Work) -> None:
    place.project.denied.add("compute.instances.create")
    assert work.connector.missing_permissions("us-central1") == ("compute.instances.create",)
    fragment = work.connector.policy_fragment(["compute.instances.create"])
    assert "includedPermissions:\n- compute.instances.create" in fragment


def test_every_permission_that_a_call_needs_is_asked_for(place: GcpPlace, work: Work) -> None:
    """Else a cell could be made by somebody who may not remove it."""
    made = [*work.make_all()]
    machine = made[-1]
    work.settle()
    work.connector.begin_update(
        machine.ref, msgspec.structs.replace(work.desired(Kind.MACHINE), tags={"grafos:a": "b"})
    )
    work.connector.console(machine.ref)
    work.connector.quotas(place.region)
    work.connector.offers(place.region)
    assert work.listed()
    place.pass_time(600)
    for found in reversed(made):
        work.finish(work.connector.begin_delete(found.ref))
    calls = {call.action for call in place.clouds.journal() if call.service == "compute"}
    assert len(calls) > 20
    needed = {permission_for(f"compute.{call}") for call in calls} - {"compute.images.getFromFamily"}  # open to all
    assert needed <= set(permissions.ACTIONS)


def test_an_interface_that_is_switched_off_is_an_obstacle(place: GcpPlace, work: Work) -> None:
    place.project.disabled_services.add("compute.googleapis.com")
    (obstacle,) = work.connector.obstacles("us-central1", "e2-medium")
    assert (obstacle.code, obstacle.cloud_code) == ("cloud_denied", "accessNotConfigured")
    assert "gcloud services enable" in obstacle.next


def test_a_type_that_no_zone_offers_is_an_obstacle(work: Work) -> None:
    (obstacle,) = work.connector.obstacles("europe-west1", "t2a-standard-1")
    assert obstacle.code == "cloud_capacity"
    assert "us-central1" in obstacle.next
    (unknown,) = work.connector.obstacles("europe-west1", "t2d-standard-1")
    assert (unknown.code, unknown.next) == ("cloud_invalid", "Did you mean 'e2-standard-2'?")


def test_an_image_says_its_python_or_its_release_does() -> None:
    assert account.python_of({"description": "Debian 13, emulated, python 3.12"}) == "3.12"
    assert account.python_of({"description": "Debian, trixie, amd64"}) == "3.13"


# Prices --------------------------------------------------------------------------------------------------------------


def rows(*entries: tuple[str, str, str]) -> list[PriceRow]:
    return [PriceRow(text, usage, Decimal(usd), "2026-11-01") for text, usage, usd in entries]


E2 = rows(
    ("E2 Instance Core running in Americas", "OnDemand", "0.02181159"),
    ("E2 Instance Ram running in Americas", "OnDemand", "0.00292353"),
    ("E2 Custom Instance Core running in Americas", "OnDemand", "9"),
    ("Commitment v1: E2 Cpu in Americas for 1 Year", "Commit1Yr", "9"),
    ("E2 Sole Tenancy Instance Core running in Americas", "OnDemand", "9"),
    ("N2D AMD Instance Core running in Americas", "OnDemand", "9"),
)


@pytest.mark.parametrize(
    ("name", "cpus", "memory_gib", "micro_cents"),
    [
        ("e2-medium", 2, 4, 3_350_571),  # one core of two
        ("e2-micro", 2, 1, 837_643),  # a quarter of one
        ("e2-standard-2", 2, 8, 6_701_142),
    ],
)
def test_a_machines_price_is_its_cores_and_its_memory(name: str, cpus: int, memory_gib: int, micro_cents: int) -> None:
    """e2-medium: 1 x 0.02181159 + 4 x 0.00292353 = 0.03350571 USD an hour, as public tables say."""
    item = {"name": name, "guestCpus": cpus, "memoryMb": memory_gib * MIB_PER_GIB}
    usd, used = prices.machine_usd(item, E2, "OnDemand", "us-central1")
    assert from_usd(usd) == micro_cents
    assert len(used) == 2


def sku(text: str, unit: str, currency: str = "USD", usd: str = "1") -> dict[str, Any]:
    """A row of the list as Google writes it."""
    rate = {"startUsageAmount": 0, "unitPrice": {"currencyCode": currency, "units": usd, "nanos": 0}}
    return {
        "description": text,
        "category": {"usageType": "OnDemand"},
        "serviceRegions": ["us-central1"],
        "pricingInfo": [{"pricingExpression": {"usageUnit": unit, "tieredRates": [rate]}}],
    }


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("E2 Instance Core running in Americas", "h"),
        ("E2 Instance Ram running in Americas", "GiBy.h"),
        ("Nvidia L4 GPU running in Americas", "h"),
        ("Nvidia L4 GPU attached to Spot Preemptible VMs running in Americas", "h"),
        ("Balanced PD Capacity", "GiBy.mo"),
        ("Hyperdisk Balanced Capacity in Iowa", "GiBy.mo"),
        ("External IP Charge on a Standard VM", "h"),
        ("Micro Instance with burstable CPU running in Americas", "h"),
        ("Small Instance with 1 VCPU running in Americas", "h"),
    ],
)
def test_a_row_counts_by_the_unit_that_it_is_taken_for_and_no_other(text: str, unit: str) -> None:
    """A price for a month that is taken for one of an hour, or the reverse, is no bound."""
    assert len(list(catalog.rows_of(sku(text, unit)))) == 1
    for other in {"h", "GiBy.h", "GiBy.mo", "mo"} - {unit}:
        assert list(catalog.rows_of(sku(text, other))) == []
    assert list(catalog.rows_of(sku(text, unit, "EUR"))) == []


def test_the_oldest_machines_are_one_row_each() -> None:
    item = {"name": "f1-micro", "guestCpus": 1, "memoryMb": 614}
    listed = [row for _, row in catalog.rows_of(sku("Micro Instance with burstable CPU running in Americas", "h"))]
    usd, _ = prices.machine_usd(item, listed, "OnDemand", "us-central1")
    assert usd == 1


def test_a_gpu_is_paid_beside_cores_and_memory() -> None:
    item = {
        "name": "g2-standard-4",
        "guestCpus": 4,
        "memoryMb": 16 * MIB_PER_GIB,
        "accelerators": [{"guestAcceleratorType": "nvidia-l4", "guestAcceleratorCount": 2}],
    }
    listed = rows(
        ("G2 Instance Core running in Americas", "OnDemand", "0.01"),
        ("G2 Instance Ram running in Americas", "OnDemand", "0.001"),
        ("Nvidia L4 GPU running in Americas", "OnDemand", "0.5"),
    )
    usd, _ = prices.machine_usd(item, listed, "OnDemand", "us-central1")
    assert usd == Decimal("1.056")


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "n2-standard-2"},
        {"bundledLocalSsds": {"partitionCount": 1}},
        {"accelerators": [{"guestAcceleratorType": "tpu-of-tomorrow", "guestAcceleratorCount": 1}]},
    ],
)
def test_what_cannot_be_priced_whole_has_no_price(changes: dict[str, Any]) -> None:
    """A price that leaves a part out would hold too little."""
    item = {"name": "e2-standard-2", "guestCpus": 2, "memoryMb": 8192, **changes}
    with pytest.raises(CloudError) as raised:
        prices.machine_usd(item, E2, "OnDemand", "us-central1")
    assert raised.value.code == "price_missing"


@pytest.mark.parametrize(
    ("machine_type", "per_hour", "disk"),
    [("e2-medium", 3_350_571, 10_000_000), ("c4a-standard-1", 4_490_000, 8_000_000)],
)
def test_the_plans_price_is_the_list_price(work: Work, machine_type: str, per_hour: int, disk: int) -> None:
    price = work.connector.price("us-central1", machine_type)
    assert (price.machine_per_hour, price.disk_per_gib_month, price.address_per_hour) == (per_hour, disk, 500_000)
    assert 0 < price.spot_per_hour < price.machine_per_hour
    assert (price.fictional, price.as_of) == (True, "2026-11-21")
    assert "emulated" in price.source


def test_one_reading_of_the_price_list_serves_every_type_and_region(place: GcpPlace, work: Work) -> None:
    """It has some ten pages of thousands of rows."""
    for region, name in (("us-central1", "e2-medium"), ("us-central1", "n2-standard-2"), ("europe-west1", "e2-medium")):
        assert work.connector.price(region, name).machine_per_hour > 0
    assert place.asked().count("services.skus.list") == 1


def test_every_type_that_the_emulator_offers_has_a_price(work: Work) -> None:
    types = {offer.machine_type for offer in work.connector.offers("us-central1")}
    assert all(work.connector.price("us-central1", name).machine_per_hour > 0 for name in types)
