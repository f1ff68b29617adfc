"""`grafos emulate`: three clouds in one process, their clock, their journal, and what goes wrong in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from command_line import Person, seconds

from grafos_emulators import daemon

ONE_ATTEMPT = Config(retries={"total_max_attempts": 1, "mode": "standard"})


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """Somebody whose emulated clouds run on a clock that they step."""
    somebody = Person(tmp_path_factory.mktemp("emulate"))
    up = somebody("emulate", "up", "--clock", "stepped")
    assert up.code == 0, up.err
    yield somebody
    somebody("emulate", "down")


@pytest.fixture(scope="module")
def ec2(person: Person) -> Iterator[Any]:
    env = person("emulate", "env", "--json").document["environment"]
    client = boto3.client(
        "ec2",
        endpoint_url=env["AWS_ENDPOINT_URL"],
        region_name=env["AWS_REGION"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        config=ONE_ATTEMPT,
    )
    yield client
    client.close()


@pytest.fixture(autouse=True)
def nothing_goes_wrong_afterwards(person: Person) -> Iterator[None]:
    yield
    person("emulate", "fault", "clear")


def test_one_process_serves_three_clouds_and_the_environment_leads_to_each(person: Person) -> None:
    status = person("emulate", "status", "--json").document["emulator"]
    assert status["clouds"] == ["aws", "azure", "gcp"]
    env = status["environment"]
    assert {env["AWS_ENDPOINT_URL"], env["GRAFOS_AZURE_ENDPOINT"], env["GRAFOS_GCP_ENDPOINT"]} == {status["endpoint"]}


def test_a_stepped_clock_moves_when_it_is_told(person: Person) -> None:
    before = seconds(person("emulate", "status", "--json").document["emulator"]["now"])
    assert seconds(person("emulate", "advance", "8h", "--json").document["now"]) == before + 8 * 3600
    assert seconds(person("emulate", "status", "--json").document["emulator"]["now"]) == before + 8 * 3600


def test_a_rule_befalls_the_calls_that_it_names_as_often_as_it_says(person: Person, ec2: Any) -> None:
    added = person(
        *("emulate", "fault", "add", "--provider", "aws", "--operation", "CreateVpc", "--error", "throttled", "--json")
    )
    assert [rule["operation"] for rule in added.document["rules"]] == ["CreateVpc"]
    ec2.describe_vpcs()
    with pytest.raises(ClientError) as raised:
        ec2.create_vpc(CidrBlock="10.1.0.0/16")
    assert raised.value.response["Error"]["Code"] == "RequestLimitExceeded"
    assert person("emulate", "fault", "ls").out == "Nothing is set to go wrong.\n"
    assert ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    assert person("emulate", "status", "--json").document["resources"][-1]["provider"] == "aws"


def test_a_rule_is_about_the_calls_whose_fields_match(person: Person, ec2: Any) -> None:
    narrow = ("--operation", "CreateVpc", "--match", "CidrBlock=10.2.*", "--error", "quota")
    assert person("emulate", "fault", "add", *narrow).code == 0
    assert "CreateVpc CidrBlock=10.2.*" in person("emulate", "fault", "ls").out
    assert ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]
    with pytest.raises(ClientError, match="VpcLimitExceeded"):
        ec2.create_vpc(CidrBlock="10.2.0.0/16")


def test_status_counts_what_somebody_made_by_cloud_and_kind(person: Person, ec2: Any) -> None:
    ec2.create_volume(AvailabilityZone="us-east-1a", Size=1)
    ec2.create_volume(AvailabilityZone="us-east-1a", Size=1)
    rows = [line.split() for line in person("emulate", "status").out.splitlines()]
    assert ["CLOUD", "KIND", "COUNT", "BILLED"] in rows
    assert ["aws", "volume", "2", "2"] in rows


def test_an_emulator_that_runs_is_not_said_to_be_another_one(person: Person) -> None:
    assert person("emulate", "up").code == 0
    assert person("emulate", "up", "--clock", "stepped", "--clouds", "aws,gcp").code == 0
    answer = person("emulate", "up", "--clock", "real", "--json")
    assert answer.error_code == "emulator_running"
    what = "Emulated clouds run already: aws, azure, gcp, clock stepped, boot processes"
    assert answer.document["error"]["what"] == what
    assert "grafos emulate down" in answer.document["error"]["next"]


def test_machines_boot_in_no_way_that_is_unknown_or_not_asked_for(person: Person) -> None:
    assert person("emulate", "up", "--boot", "moon", "--json").error_code == "usage"
    assert person("emulate", "up", "--boot", "processes", "--json").document["emulator"]["boot"] == "processes"
    assert "run as local processes" in person("emulate", "status").out
    refused = person("emulate", "up", "--boot", "qemu", "--json").error_code
    assert refused in ("emulator_running", "tool_missing"), "the second where there is no QEMU"


def test_clouds_that_are_not_asked_for_are_not_served(tmp_path: Path) -> None:
    somebody = Person(tmp_path)
    up = somebody("emulate", "up", "--clouds", "gcp")
    try:
        assert "Emulated Google Cloud run" in up.out
        status = somebody("emulate", "status", "--json").document["emulator"]
        assert (status["clouds"], status["clock"], status["account_id"]) == (["gcp"], "real", "")
        env = somebody("emulate", "env", "--json").document["environment"]
        assert [name for name in env if name.startswith(("AWS_", "GRAFOS_AZURE_"))] == []
        assert "AWS" not in somebody("emulate", "status").out
        assert somebody("emulate", "journal", "--provider", "aws", "--json").error_code == "usage"
        assert somebody("emulate", "up", "--clouds", "aws", "--json").error_code == "emulator_running"
    finally:
        assert somebody("emulate", "down").code == 0


def test_an_emulator_under_its_old_name_is_ended_too(tmp_path: Path) -> None:
    somebody = Person(tmp_path)
    old = somebody.home / "state" / "grafos" / "emulate" / "aws"
    daemon.start(old, clouds=("gcp",))
    assert somebody("emulate", "down").out == "The emulated clouds have ended.\n"
    assert daemon.read(old) is None


def test_the_rules_are_listed_and_taken_back(person: Person) -> None:
    words = ("emulate", "fault", "add", "--effect", "delay", "--after", "2s", "--times", "0", "--probability", "0.25")
    assert person(*words, "--retry-after", "3").code == 0
    assert person("emulate", "fault", "ls").out.splitlines()[1].split() == [
        *("*", "*", "delay", "internal", "endless", "0.25"),
    ]
    (rule,) = person("emulate", "fault", "ls", "--json").document["rules"]
    assert (rule["fault"]["after_s"], rule["fault"]["retry_after_s"]) == (2.0, 3.0)
    assert person("emulate", "fault", "clear").out == "1 rule taken back.\n"


def test_the_journal_tells_what_was_asked(person: Person, ec2: Any) -> None:
    ec2.describe_vpcs()
    ec2.describe_subnets()
    calls = person("emulate", "journal", "--provider", "aws", "--limit", "2", "--json").document["calls"]
    assert [call["action"] for call in calls] == ["DescribeVpcs", "DescribeSubnets"]
    assert person("emulate", "journal", "--limit", "1").out.splitlines()[1].split()[1:3] == ["aws", "DescribeSubnets"]
    assert person("emulate", "journal", "--provider", "gcp").out == "Nothing was asked yet.\n"


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("fault", "add", "--effect", "nonsense"), "nonsense"),
        (("fault", "add", "--error", "nonsense"), "nonsense"),
        (("fault", "add", "--provider", "ibm"), "There is no emulated 'ibm'"),
        (("fault", "add", "--times", "-1"), "--times must be 0 or more"),
        (("fault", "add", "--probability", "2"), "--probability 0 to 1"),
        (("fault", "add", "--match", "name"), "--match must be NAME=PATTERN"),
        (("fault", "add", "--effect", "delay", "--after", "9999d"), "a rule waits from 0 to"),
        (("journal", "--limit", "0"), "--limit must be 1 or more"),
        (("journal", "--provider", "ibm"), "There is no emulated 'ibm'"),
        (("up", "--clock", "sundial"), "'sundial' is no clock"),
        (("up", "--clouds", "aws,ibm"), "there is no emulated 'ibm'"),
        (("up", "--clock", "scaled:0"), "'scaled:0' is no clock"),
    ],
)
def test_what_cannot_be_used_is_told(person: Person, words: tuple[str, ...], what: str) -> None:
    answer = person("emulate", *words, "--json")
    assert (answer.code, answer.error_code) == (2, "usage")
    assert what in answer.document["error"]["what"]
    if "nonsense" in words:
        assert {"--effect": "lost_answer", "--error": "capacity"}[words[2]] in answer.document["error"]["next"]


def test_a_clock_that_moves_by_itself_cannot_be_stepped_and_can_be_faster(tmp_path: Path) -> None:
    somebody = Person(tmp_path)
    somebody("emulate", "up", "--clock", "scaled:3600")
    try:
        first = somebody("emulate", "status", "--json").document["emulator"]["now"]
        second = somebody("emulate", "status", "--json").document["emulator"]["now"]
        assert seconds(second) - seconds(first) > 100
        answer = somebody("emulate", "advance", "1h", "--json")
        assert (answer.code, answer.error_code) == (2, "usage")
        assert "--clock stepped" in answer.document["error"]["next"]
    finally:
        somebody("emulate", "down")
