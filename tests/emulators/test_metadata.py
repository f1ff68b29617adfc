"""Source: the EC2 user guide on the instance metadata service, version 2."""

from __future__ import annotations

import http.client
from typing import Any

import pytest

from grafos_emulators.emulator import EmulatedClouds

TTL = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN = "X-aws-ec2-metadata-token"


class Metadata:
    """The metadata service of one instance, asked as its software does."""

    def __init__(self, aws: EmulatedClouds, instance_id: str) -> None:
        self._address = aws.endpoint.removeprefix("http://")
        self._base = f"/imds/{instance_id}/"

    def ask(self, method: str, path: str, **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(self._address, timeout=10)
        try:
            connection.request(method, self._base + path, headers={k.replace("_", "-"): v for k, v in headers.items()})
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def token(self, ttl_s: int = 60) -> str:
        status, token = self.ask("PUT", "latest/api/token", **{TTL: str(ttl_s)})
        assert status == 200
        return token

    def get(self, path: str, token: str = "") -> tuple[int, str]:
        return self.ask("GET", f"latest/{path}", **{TOKEN: token or self.token()})


@pytest.fixture
def instance(launch: Any) -> dict[str, Any]:
    launched: dict[str, Any] = launch(
        UserData="#!/bin/sh\n",
        MetadataOptions={"HttpTokens": "required", "InstanceMetadataTags": "enabled"},
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "cell 1"}]}],
    )
    return launched


@pytest.fixture
def metadata(aws: EmulatedClouds, instance: dict[str, Any]) -> Metadata:
    return Metadata(aws, instance["InstanceId"])


def test_an_instance_learns_about_itself(metadata: Metadata, instance: dict[str, Any]) -> None:
    expected = {
        "meta-data/instance-id": instance["InstanceId"],
        "meta-data/local-ipv4": instance["PrivateIpAddress"],
        "meta-data/public-ipv4": instance["PublicIpAddress"],
        "meta-data/instance-type": instance["InstanceType"],
        "meta-data/ami-id": instance["ImageId"],
        "meta-data/placement/availability-zone": instance["Placement"]["AvailabilityZone"],
        "meta-data/placement/region": "us-east-1",
        "meta-data/tags/instance/Name": "cell 1",
        "user-data": "#!/bin/sh\n",
    }
    assert {path: metadata.get(path)[1] for path in expected} == expected


def test_a_path_lists_what_is_below_it(metadata: Metadata) -> None:
    assert metadata.get("")[1].split() == ["dynamic/", "meta-data/", "user-data"]
    assert "placement/" in metadata.get("meta-data/")[1].split()
    assert metadata.get("meta-data/placement/")[1].split() == ["availability-zone", "region"]


def test_without_a_token_nothing_is_told(metadata: Metadata) -> None:
    assert metadata.ask("GET", "latest/meta-data/instance-id")[0] == 401
    assert metadata.ask("GET", "latest/user-data", **{TOKEN: "guessed"})[0] == 401


def test_a_token_is_its_instances_own(aws: EmulatedClouds, launch: Any, metadata: Metadata) -> None:
    other = Metadata(aws, launch()["InstanceId"])
    assert metadata.get("user-data", other.token())[0] == 401


def test_a_token_ends_when_its_time_has_passed(metadata: Metadata, clock: Any) -> None:
    token = metadata.token(ttl_s=30)
    clock.advance(29)
    assert metadata.get("user-data", token)[0] == 200
    clock.advance(2)
    assert metadata.get("user-data", token)[0] == 401


@pytest.mark.parametrize("ttl", ["", "0", "21601", "-1", "many"])
def test_a_token_needs_a_life_between_a_second_and_six_hours(metadata: Metadata, ttl: str) -> None:
    assert metadata.ask("PUT", "latest/api/token", **({TTL: ttl} if ttl else {}))[0] == 400


def test_no_token_is_given_through_a_proxy_or_for_a_get(metadata: Metadata) -> None:
    assert metadata.ask("PUT", "latest/api/token", **{TTL: "60", "X-Forwarded-For": "127.0.0.1"})[0] == 403
    assert metadata.ask("GET", "latest/api/token", **{TTL: "60"})[0] == 405


def test_tags_are_told_only_where_that_is_switched_on(aws: EmulatedClouds, launch: Any) -> None:
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "cell 1"}]}]
    quiet = Metadata(aws, launch(TagSpecifications=tags)["InstanceId"])
    assert quiet.get("meta-data/tags/instance/Name")[0] == 404


def test_what_is_not_there_is_not_found(metadata: Metadata, aws: EmulatedClouds, launch: Any) -> None:
    assert metadata.get("meta-data/spot/instance-action")[0] == 404
    assert metadata.get("dynamic/instance-identity/pkcs7")[0] == 404
    assert Metadata(aws, launch()["InstanceId"]).get("user-data")[0] == 404
    assert Metadata(aws, "i-0123456789abcdef0").ask("PUT", "latest/api/token", **{TTL: "60"})[0] == 404


def test_an_endpoint_that_is_switched_off_tells_nothing(aws: EmulatedClouds, launch: Any) -> None:
    off = Metadata(aws, launch(MetadataOptions={"HttpEndpoint": "disabled"})["InstanceId"])
    assert off.ask("PUT", "latest/api/token", **{TTL: "60"})[0] == 403


def test_a_terminated_instance_has_no_metadata(metadata: Metadata, ec2: Any, instance: Any, clock: Any) -> None:
    token = metadata.token()
    ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
    assert metadata.get("user-data", token)[0] == 200
    clock.advance(1)
    assert metadata.get("user-data", token)[0] == 403


def test_the_sdk_reads_the_region_through_its_own_setting(aws: EmulatedClouds, instance: dict[str, Any]) -> None:
    from botocore.utils import InstanceMetadataRegionFetcher

    endpoint = f"{aws.endpoint}/imds/{instance['InstanceId']}/"
    fetcher = InstanceMetadataRegionFetcher(user_agent="test", config={"ec2_metadata_service_endpoint": endpoint})
    assert fetcher.retrieve_region() == "us-east-1"
