from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from grafos_emulators.emulator import EmulatedClouds


@pytest.fixture
def pricing(client: Any) -> Any:
    return client("pricing")


def products(pricing: Any, service: str = "AmazonEC2", **fields: str) -> list[dict[str, Any]]:
    filters = [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in fields.items()]
    pages = pricing.get_paginator("get_products").paginate(ServiceCode=service, Filters=filters)
    return [json.loads(text) for page in pages for text in page["PriceList"]]


def usd(product: dict[str, Any]) -> str:
    (offer,) = product["terms"]["OnDemand"].values()
    (dimension,) = offer["priceDimensions"].values()
    price: str = dimension["pricePerUnit"]["USD"]
    return price


@pytest.mark.parametrize(
    ("machine_type", "region", "price"),
    [
        ("t4g.medium", "us-east-1", "0.0336000000"),
        ("t3.medium", "us-east-1", "0.0416000000"),
        ("t3.medium", "eu-central-1", "0.0480000000"),
    ],
)
def test_the_on_demand_price_of_a_machine_is_found_by_the_usual_filters(
    pricing: Any, machine_type: str, region: str, price: str
) -> None:
    (product,) = products(
        pricing,
        instanceType=machine_type,
        regionCode=region,
        operatingSystem="Linux",
        tenancy="Shared",
        preInstalledSw="NA",
        capacitystatus="Used",
    )
    assert usd(product) == price
    assert product["product"]["productFamily"] == "Compute Instance"


def test_too_loose_filters_find_capacity_reservations_too(pricing: Any) -> None:
    """As in AWS' own list, where one of them costs nothing."""
    found = products(pricing, instanceType="t3.medium", regionCode="us-east-1")
    assert sorted(usd(product) for product in found) == ["0.0000000000", "0.0416000000", "0.0416000000"]


def test_volumes_and_addresses_have_prices(pricing: Any) -> None:
    (volume,) = products(pricing, volumeApiName="gp3", regionCode="eu-west-1", productFamily="Storage")
    (address,) = products(pricing, "AmazonVPC", group="VPCPublicIPv4Address", regionCode="us-east-1")
    assert (usd(volume), usd(address)) == ("0.0800000000", "0.0050000000")
    assert address["product"]["attributes"]["usagetype"] == "PublicIPv4:InUseAddress"


def test_every_price_says_that_it_is_fictional(pricing: Any) -> None:
    for product in products(pricing):
        assert "fictional" in product["product"]["attributes"]["emulatorNote"]
        assert product["version"].startswith("fictional")


def test_a_long_list_comes_in_pages(pricing: Any) -> None:
    first = pricing.get_products(ServiceCode="AmazonEC2", MaxResults=5)
    second = pricing.get_products(ServiceCode="AmazonEC2", MaxResults=5, NextToken=first["NextToken"])
    assert len(first["PriceList"]) == len(second["PriceList"]) == 5
    assert not set(first["PriceList"]) & set(second["PriceList"])


def test_nothing_matches_what_is_not_there(pricing: Any) -> None:
    assert products(pricing, instanceType="t3.gigantic") == []
    assert products(pricing, "AmazonNothing") == []


def test_a_filter_that_is_not_emulated_is_refused(pricing: Any) -> None:
    with pytest.raises(ClientError) as error:
        pricing.get_products(ServiceCode="AmazonEC2", Filters=[{"Type": "CONTAINS", "Field": "memory", "Value": "4"}])
    assert error.value.response["Error"]["Code"] == "NotEmulated"


def test_the_price_list_has_an_endpoint_in_a_few_regions_only(client: Any) -> None:
    with pytest.raises(ClientError) as error:
        client("pricing", region_name="eu-west-1").get_products(ServiceCode="AmazonEC2")
    assert error.value.response["Error"]["Code"] == "NotEmulated"


def test_quotas_of_cores_are_told(aws: EmulatedClouds, client: Any) -> None:
    aws.set({"vcpu_limit": 32})
    quotas = client("service-quotas")
    assert quotas.get_service_quota(ServiceCode="ec2", QuotaCode="L-1216C47A")["Quota"]["Value"] == 32.0
    assert [quota["Value"] for quota in quotas.list_service_quotas(ServiceCode="ec2")["Quotas"]] == [
        32.0,
        640.0,
        64.0,
        64.0,
        64.0,
    ]
    with pytest.raises(ClientError) as error:
        quotas.get_service_quota(ServiceCode="ec2", QuotaCode="L-0")
    assert error.value.response["Error"]["Code"] == "NoSuchResourceException"
