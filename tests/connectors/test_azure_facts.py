"""What Azure says of itself, read in our words: offers, restrictions, quotas, permissions, prices."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from azure_place import AzurePlace
from contract_work import Work

from grafos_connectors.azure import account, permissions, prices, skus
from grafos_connectors.azure.client import AzureCalls
from grafos_connectors.contract import CloudError, Kind
from grafos_core.clock import VirtualClock
from grafos_core.money import from_usd
from grafos_emulators.emulator import EmulatedClouds, Settings


@pytest.fixture
def place(tmp_path: Path) -> Iterator[AzurePlace]:
    clock = VirtualClock()
    with EmulatedClouds(tmp_path, Settings(clouds=("azure",), boots=False), clock=clock) as clouds:
        yield AzurePlace(clouds, clock)


@pytest.fixture
def work(place: AzurePlace) -> Work:
    return Work(place)


def test_the_fabric_of_an_identity_is_the_subscription_and_the_clock_is_told(work: Work, place: AzurePlace) -> None:
    identity = work.connector.identity()
    assert (identity.provider, identity.account) == ("azure", place.environment()["AZURE_SUBSCRIPTION_ID"])
    assert identity.emulated


def test_the_principal_is_read_from_the_tokens_claims() -> None:
    def token(**claims: str) -> str:
        body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
        return f"head.{body}.signature"

    assert account.principal_in(token(upn="me@example.org", oid="o")) == "me@example.org"
    assert account.principal_in(token(oid="o", appid="a")) == "a"
    assert account.principal_in(token()) == ""
    assert account.principal_in("") == ""
    assert account.principal_in("no token at all") == ""


@pytest.mark.parametrize(
    ("typed", "meant"), [("estus", "eastus"), ("eastsu", "eastus"), ("us-east", "eastus"), ("europewest", "westeurope")]
)
def test_a_mistyped_location_names_the_one_meant(place: AzurePlace, work: Work, typed: str, meant: str) -> None:
    with pytest.raises(CloudError) as raised:
        work.connector.offers(typed, place.machine_type)
    assert (raised.value.code, raised.value.next) == ("cloud_invalid", f"Did you mean {meant!r}?")


def test_threads_with_one_question_ask_it_once_and_do_not_hold_up_another(place: AzurePlace) -> None:
    calls = AzureCalls(environment=place.environment(), clock=place.clock)
    asked: list[str] = []
    other_is_answered = threading.Event()

    def ask() -> str:
        asked.append("asked")
        assert other_is_answered.wait(10)
        return "answer"

    with ThreadPoolExecutor(5) as threads:
        answers = [threads.submit(calls.remembered, ("one",), ask) for _ in range(4)]
        assert threads.submit(calls.remembered, ("other",), lambda: "other").result() == "other"
        other_is_answered.set()
        assert [answer.result() for answer in answers] == ["answer"] * 4
    assert asked == ["asked"]


def test_a_type_that_is_restricted_is_not_offered_and_is_an_obstacle(place: AzurePlace, work: Work) -> None:
    place.clouds.azure.restricted[place.machine_type, place.region] = "NotAvailableForSubscription"
    connector = place.open()
    assert connector.offers(place.region, place.machine_type) == ()
    (obstacle,) = connector.obstacles(place.region, place.machine_type)
    assert (obstacle.code, obstacle.cloud_code) == ("cloud_capacity", "SkuNotAvailable")
    assert "NotAvailableForSubscription" in obstacle.why


def test_a_namespace_that_is_not_registered_is_an_obstacle_with_its_command(place: AzurePlace, work: Work) -> None:
    place.clouds.azure.registered.discard("microsoft.devtestlab")
    (obstacle,) = place.open().obstacles(place.region, place.machine_type)
    assert obstacle.cloud_code == "MissingSubscriptionRegistration"
    assert "az provider register --namespace Microsoft.DevTestLab" in obstacle.next


def test_nothing_is_registered_behind_ones_back(place: AzurePlace, work: Work) -> None:
    """The SDK's own chain would: a changing call that nobody journalled."""
    work.lay_ground(Kind.FIREWALL)
    place.clouds.azure.registered.discard("microsoft.network")
    refusal = work.refused(work.desired(Kind.FIREWALL))
    assert (refusal.code, refusal.cloud_code) == ("cloud_denied", "MissingSubscriptionRegistration")
    assert "microsoft.network" not in place.clouds.azure.registered


def test_zones_that_do_not_sell_the_type_are_left_out() -> None:
    sku = {
        "name": "Standard_B2s",
        "capabilities": [{"name": "vCPUs", "value": "2"}, {"name": "MemoryGB", "value": "0.5"}],
        "locationInfo": [{"location": "EastUS", "zones": ["3", "1", "2"]}],
        "restrictions": [{"type": "Zone", "restrictionInfo": {"zones": ["2"]}, "reasonCode": "QuotaId"}],
    }
    offers = skus.offers_of(sku, "eastus")
    assert [offer.zone for offer in offers] == ["1", "3"]
    assert (offers[0].cpu_cores, offers[0].mem_bytes, offers[0].arch) == (2, 1 << 29, "amd64")


def test_a_location_without_zones_offers_the_region_itself(work: Work, place: AzurePlace) -> None:
    assert {offer.zone for offer in work.connector.offers("westus", place.machine_type)} == {""}


def test_gpus_are_counted(work: Work) -> None:
    offers = work.connector.offers("eastus", "Standard_NC4as_T4_v3")
    assert {offer.gpu_count for offer in offers} == {1}


def test_the_newest_image_is_newest_by_number_and_not_by_letters() -> None:
    assert max(["0.9.1", "0.20260112.2355", "0.20251117.2299"], key=account.version_order) == "0.20260112.2355"


def test_quotas_tell_the_regions_cores_and_each_familys(work: Work) -> None:
    quotas = {quota.name: quota for quota in work.connector.quotas("eastus")}
    assert quotas["machine_cores"].limit == 100
    assert quotas["machine_cores standardBSFamily"].unit == "cores"
    assert quotas["addresses"].used == 0
    asked = {quota.name: (quota.each, quota.market) for quota in work.connector.quotas("eastus", "Standard_D4s_v5")}
    assert {name: told for name, told in asked.items() if told[0]} == {
        "machine_cores": (4, "on_demand"),
        "machine_cores standardDSv5Family": (4, "on_demand"),
        "spot_cores": (4, "spot"),
        "machines": (1, ""),
        "nics": (1, ""),
        "addresses": (1, ""),
    }


@pytest.mark.parametrize(
    ("actions", "not_actions", "is_allowed"),
    [
        (["*"], [], True),
        (["Microsoft.Compute/*"], [], True),
        (["*/write"], [], True),
        (["microsoft.compute/virtualmachines/WRITE"], [], True),
        (["*/read"], [], False),
        ([], [], False),
        (["*"], ["Microsoft.Compute/*/write"], False),
        (["*"], ["Microsoft.Network/*"], True),
        (["Microsoft.Compute/virtualMachines/writeX"], [], False),
    ],
)
def test_an_action_is_allowed_by_wildcards_without_what_they_take_out(
    actions: list[str],
    not_actions: list[str],
    is_allowed: bool,  # noqa: FBT001  a table's column
) -> None:
    permission = {"actions": actions, "notActions": not_actions}
    assert permissions.allowed("Microsoft.Compute/virtualMachines/write", [permission]) is is_allowed


def test_what_one_role_takes_out_another_may_give() -> None:
    roles = [{"actions": ["*"], "notActions": ["*/write"]}, {"actions": ["Microsoft.Compute/*"], "notActions": []}]
    assert permissions.allowed("Microsoft.Compute/disks/write", roles)


def test_what_is_lacking_is_named_and_the_role_that_grants_it_told(place: AzurePlace, work: Work) -> None:
    place.clouds.azure.denied = ("Microsoft.DevTestLab/*",)
    missing = work.connector.missing_permissions("eastus")
    assert missing == tuple(f"Microsoft.DevTestLab/schedules/{verb}" for verb in ("delete", "read", "write"))
    role = json.loads(work.connector.policy_fragment(missing))
    assert role["Actions"] == list(missing)
    assert role["AssignableScopes"] == [f"/subscriptions/{place.environment()['AZURE_SUBSCRIPTION_ID']}"]


# Prices ---------------------------------------------------------------------------------------------------------------


def row(sku: str, usd: float, product: str = "Virtual Machines BS Series", **fields: Any) -> dict[str, Any]:
    usual = {"unitOfMeasure": "1 Hour", "type": "Consumption", "currencyCode": "USD", "meterName": sku}
    return {"skuName": sku, "retailPrice": usd, "productName": product, **usual, **fields}


def test_windows_spot_and_reserved_rows_are_not_taken_for_the_price() -> None:
    rows = [
        row("B2s", 0.0416),
        row("B2s Spot", 0.01),
        row("B2s Low Priority", 0.008),
        row("B2s", 0.05, product="Virtual Machines BS Series Windows"),
        row("B2s Spot", 0.02, product="Virtual Machines BS Series Windows"),
        row("B2s", 240.0, type="Reservation"),
        row("B2s", 0.04, currencyCode="EUR"),
        row("B2s", 0.0),
    ]
    usual, spot = prices.machine_rows(rows)
    assert [one["retailPrice"] for one in usual] == [0.0416]
    assert [one["retailPrice"] for one in spot] == [0.01]


def disk_row(tier: int, usd: float, meter: str = "") -> dict[str, Any]:
    return {
        "skuName": f"E{tier} LRS",
        "meterName": meter or f"E{tier} LRS Disk",
        "retailPrice": usd,
        "currencyCode": "USD",
        "unitOfMeasure": "1/Month",
    }


def test_the_price_of_a_gib_bounds_every_disk_that_the_image_fits_on() -> None:
    """A disk of 33 GiB is billed as one of 64."""
    tiers = {3: 1.2, 4: 2.4, 6: 4.8, 10: 9.6, 15: 19.2}
    rows = [disk_row(tier, usd) for tier, usd in tiers.items()] + [disk_row(6, 99.0, "E6 LRS Disk Mount")]
    per_gib = prices.disk_per_gib_month(rows, "eastus")
    for size_gib in range(account.IMAGE_DISK_GIB, 257):
        billed = next(usd for tier, usd in tiers.items() if prices.TIER_GIB[tier] >= size_gib)
        assert per_gib * size_gib >= from_usd(Decimal(str(billed)))
        assert per_gib * size_gib < 2 * from_usd(Decimal(str(billed))) + size_gib


def test_a_region_without_disk_prices_has_no_price() -> None:
    with pytest.raises(CloudError) as raised:
        prices.disk_per_gib_month([], "eastus")
    assert raised.value.code == "price_missing"


def test_a_price_is_told_with_its_spot_price_where_there_is_one(work: Work) -> None:
    price = work.connector.price("eastus", "Standard_D2s_v5")
    assert 0 < price.spot_per_hour < price.machine_per_hour
    assert work.connector.price("eastus", "Standard_B2s").spot_per_hour == 0
