"""Where the SDK may connect and as whom: real keys to AWS only, an emulator's to loopback only, nothing by surprise."""

from __future__ import annotations

from pathlib import Path

import pytest

from grafos_connectors.aws.client import AwsCalls
from grafos_connectors.aws.endpoints import check_pairing, is_aws
from grafos_connectors.contract import CloudError
from grafos_connectors.loopback import is_loopback
from grafos_connectors.registry import open_connector
from grafos_core.emulated import EMULATED_ACCESS_KEY_PREFIX

DUMMY = EMULATED_ACCESS_KEY_PREFIX + "00"
REAL = "AKIAIOSFODNN7EXAMPLE"  # the one in AWS's own documentation
LOOPBACK = "http://127.0.0.1:9"
SUFFIXES = ("amazonaws.com", "amazonaws.com.cn", "api.aws")
EMULATED = {
    "AWS_ENDPOINT_URL": LOOPBACK,
    "AWS_ACCESS_KEY_ID": DUMMY,
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_REGION": "us-east-1",
}


def refusal_of(**changes: str) -> CloudError:
    calls = {**EMULATED, **changes}
    with pytest.raises(CloudError) as raised:
        AwsCalls(environment=calls).read("sts", "get_caller_identity")
    return raised.value


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The process's own environment, without the metadata service that the SDK would ask at the end."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    return monkeypatch


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:4566", "http://127.8.9.10", "http://[::1]:80", "http://localhost:1", "https://127.0.0.1"]
)
def test_loopback_is_known_by_its_literal_address(url: str) -> None:
    assert is_loopback(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1",
        "http://127.0.0.1.example.net",
        "http://localhost.example.net",
        "https://ec2.amazonaws.com",
        "http://[::1",
        "x",
    ],
)
def test_nothing_else_is_loopback(url: str) -> None:
    assert not is_loopback(url)


@pytest.mark.parametrize(
    ("url", "aws"),
    [
        ("https://ec2.us-east-1.amazonaws.com", True),
        ("https://vpce-1.ec2.us-east-1.vpce.amazonaws.com", True),
        ("https://ec2.us-east-1.api.aws", True),
        ("https://ec2.cn-north-1.amazonaws.com.cn", True),
        ("http://ec2.us-east-1.amazonaws.com", False),
        ("https://amazonaws.com.example.net", False),
        ("https://fakeamazonaws.com", False),
        ("https://192.0.2.1", False),
    ],
)
def test_an_endpoint_is_aws_by_its_domain_and_over_tls(url: str, *, aws: bool) -> None:
    assert is_aws(url, SUFFIXES) is aws


@pytest.mark.parametrize(
    ("url", "key"),
    [
        (LOOPBACK, REAL),
        ("https://ec2.us-east-1.amazonaws.com", DUMMY),
        ("https://emulator.example.net", REAL),
        ("https://emulator.example.net", DUMMY),
        ("http://ec2.us-east-1.amazonaws.com", REAL),
    ],
)
def test_real_and_emulated_are_never_mixed(url: str, key: str) -> None:
    with pytest.raises(CloudError) as raised:
        check_pairing(url, key, SUFFIXES)
    assert raised.value.code == "credentials_mixed"
    assert "grafos emulate" in raised.value.next
    assert REAL not in str(raised.value.to_wire())


def test_what_belongs_together_passes() -> None:
    check_pairing(LOOPBACK, DUMMY, SUFFIXES)
    check_pairing("https://ec2.eu-central-1.amazonaws.com", REAL, SUFFIXES)


def test_a_real_key_is_not_sent_to_an_emulator() -> None:
    assert refusal_of(AWS_ACCESS_KEY_ID=REAL).code == "credentials_mixed"


def test_an_emulators_key_is_not_sent_to_aws() -> None:
    assert refusal_of(AWS_ENDPOINT_URL="").code == "credentials_mixed"


def test_one_service_cannot_be_real_while_another_is_emulated() -> None:
    assert refusal_of(AWS_ENDPOINT_URL_STS="https://sts.amazonaws.com").code == "credentials_mixed"
    assert refusal_of(AWS_ENDPOINT_URL_EC2="https://ec2.us-east-1.amazonaws.com").code == "credentials_mixed"


def test_missing_credentials_say_the_next_step() -> None:
    error = refusal_of(AWS_ACCESS_KEY_ID="")
    assert error.code == "credentials_missing"
    assert "AWS_ACCESS_KEY_ID" in error.next


def test_a_wrong_region_names_the_nearest() -> None:
    error = refusal_of(AWS_REGION="eu-cetnral-1")
    assert (error.code, error.next) == ("cloud_invalid", "Did you mean 'eu-central-1'?")


def test_a_missing_region_says_how_to_give_one() -> None:
    error = refusal_of(AWS_REGION="")
    assert error.code == "cloud_invalid"
    assert "AWS_REGION" in error.next


@pytest.mark.parametrize("url", ["nonsense", "http://[::1"])
def test_an_endpoint_that_is_no_url_is_refused(url: str) -> None:
    assert refusal_of(AWS_ENDPOINT_URL=url).code == "config_invalid"


def test_a_profiles_endpoint_that_is_no_url_is_refused(variables: pytest.MonkeyPatch, home: Path) -> None:
    (home / ".aws").mkdir()
    (home / ".aws" / "config").write_text("[profile lab]\nregion=us-east-1\nendpoint_url=nonsense\n")
    variables.setenv("AWS_PROFILE", "lab")
    with pytest.raises(CloudError) as raised:
        open_connector("aws")
    assert raised.value.code == "config_invalid"


@pytest.mark.parametrize("region", ["cn-north-1", "us-gov-west-1", "eusc-de-east-1"])
def test_a_region_of_another_partition_is_refused_before_any_call(region: str) -> None:
    """Debian's account and the price list that are asked are those of the commercial partition."""
    error = refusal_of(AWS_REGION=region)
    assert error.code == "unsupported"
    assert "us-east-1" in error.next


def test_given_variables_shut_out_the_process_and_its_files(variables: pytest.MonkeyPatch, home: Path) -> None:
    (home / ".aws").mkdir()
    (home / ".aws" / "credentials").write_text(f"[default]\naws_access_key_id={REAL}\naws_secret_access_key=x\n")
    variables.setenv("AWS_PROFILE", "no-such-profile")
    variables.setenv("AWS_ACCESS_KEY_ID", REAL)
    assert refusal_of(AWS_ACCESS_KEY_ID="").code == "credentials_missing"


def test_real_keys_of_a_file_are_not_sent_to_an_emulator(variables: pytest.MonkeyPatch, home: Path) -> None:
    (home / ".aws").mkdir()
    (home / ".aws" / "credentials").write_text(f"[default]\naws_access_key_id={REAL}\naws_secret_access_key=x\n")
    variables.setenv("AWS_ENDPOINT_URL", LOOPBACK)
    with pytest.raises(CloudError) as raised:
        open_connector("aws").identity()
    assert raised.value.code == "credentials_mixed"


def test_a_profile_cannot_lead_real_keys_to_loopback_by_its_own_endpoint(
    variables: pytest.MonkeyPatch, home: Path
) -> None:
    (home / ".aws").mkdir()
    (home / ".aws" / "config").write_text(f"[profile lab]\nregion=us-east-1\nendpoint_url={LOOPBACK}\n")
    (home / ".aws" / "credentials").write_text(f"[lab]\naws_access_key_id={REAL}\naws_secret_access_key=x\n")
    variables.setenv("AWS_PROFILE", "lab")
    with pytest.raises(CloudError) as raised:
        open_connector("aws").identity()
    assert raised.value.code == "credentials_mixed"


def test_a_role_is_not_taken_on_when_the_cloud_is_emulated(variables: pytest.MonkeyPatch, home: Path) -> None:
    """The SDK would sign the request for the role with real keys and send it to the emulator."""
    (home / ".aws").mkdir()
    role = "[profile lab]\nrole_arn=arn:aws:iam::123456789012:role/x\nsource_profile=base\n"
    (home / ".aws" / "config").write_text(role)
    (home / ".aws" / "credentials").write_text(f"[base]\naws_access_key_id={REAL}\naws_secret_access_key=x\n")
    variables.setenv("AWS_PROFILE", "lab")
    variables.setenv("AWS_ENDPOINT_URL", LOOPBACK)
    with pytest.raises(CloudError) as raised:
        open_connector("aws").identity()
    assert raised.value.code == "credentials_missing"


def test_a_profile_that_does_not_exist_is_said_so(variables: pytest.MonkeyPatch) -> None:
    variables.setenv("AWS_PROFILE", "no-such-profile")
    with pytest.raises(CloudError) as raised:
        open_connector("aws")
    assert raised.value.code == "credentials_missing"
    assert "no-such-profile" in raised.value.why


def test_loopback_is_never_reached_through_a_proxy(variables: pytest.MonkeyPatch) -> None:
    """The proxy would carry the request, and its signature, off this machine."""
    variables.setenv("HTTP_PROXY", "http://192.0.2.1:3128")
    with pytest.raises(CloudError) as raised:
        AwsCalls(environment=EMULATED).read("sts", "get_caller_identity")
    assert raised.value.cloud_code == "EndpointConnectionError"


@pytest.mark.parametrize("provider", ["mars", "AWS", ""])
def test_a_cloud_that_nobody_knows_is_refused_with_a_next_step(provider: str) -> None:
    with pytest.raises(CloudError) as raised:
        open_connector(provider)
    assert raised.value.code == "unsupported"
    assert raised.value.next
