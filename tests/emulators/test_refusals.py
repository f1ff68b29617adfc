"""What the emulated AWS will not do, and how it says so."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from grafos_emulators.emulator import EmulatedClouds
from grafos_emulators.http import MAX_BODY_BYTES


def code_of(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


@pytest.mark.parametrize(
    "verb", ["import_snapshot", "describe_ipams", "describe_conversion_tasks", "describe_id_format"]
)
def test_an_action_that_is_not_emulated_is_refused_in_so_many_words(ec2: Any, verb: str) -> None:
    with pytest.raises(ClientError, match="does not imitate ec2:") as error:
        getattr(ec2, verb)()
    assert code_of(error) == "NotEmulated"
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("register_image", {"Name": "name"}),
        ("create_image", {"InstanceId": "i-0123456789abcdef0", "Name": "name"}),
        ("reboot_instances", {"InstanceIds": ["i-0123456789abcdef0"]}),
        ("request_spot_instances", {}),
    ],
)
def test_what_would_be_done_wrongly_is_not_done_at_all(
    aws: EmulatedClouds, ec2: Any, verb: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(ClientError) as error:
        getattr(ec2, verb)(**arguments)
    assert code_of(error) == "NotEmulated"
    assert aws.world() == ()


def test_a_filter_that_is_not_emulated_is_refused_and_not_ignored(ec2: Any, launch: Any) -> None:
    launch()
    with pytest.raises(ClientError) as error:
        ec2.describe_instances(Filters=[{"Name": "hibernation-options.configured", "Values": ["true"]}])
    assert code_of(error) == "NotEmulated"


@pytest.mark.parametrize(
    ("service", "verb", "arguments"),
    [
        ("s3", "list_buckets", {}),
        ("lambda", "list_functions", {}),
        ("dynamodb", "list_tables", {}),
        ("sts", "get_session_token", {}),
        ("iam", "list_users", {}),
        ("pricing", "describe_services", {}),
        ("service-quotas", "list_services", {}),
    ],
)
def test_a_service_that_is_not_emulated_is_refused_in_its_own_protocol(
    client: Any, service: str, verb: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(ClientError) as error:
        getattr(client(service), verb)(**arguments)
    assert code_of(error) == "NotEmulated"


def test_a_region_that_does_not_exist_is_refused(client: Any) -> None:
    with pytest.raises(ClientError, match="mars-north-1") as error:
        client("ec2", region_name="mars-north-1").describe_instances()
    assert code_of(error) == "NotEmulated"


@pytest.mark.parametrize("service", ["ec2", "sts", "pricing"])
def test_any_other_access_key_is_refused(aws: EmulatedClouds, client: Any, service: str) -> None:
    """A real key must never be used here, not even by mistake."""
    verb, extra = {
        "ec2": ("run_instances", {"MinCount": 1, "MaxCount": 1}),
        "sts": ("get_caller_identity", {}),
        "pricing": ("get_products", {"ServiceCode": "AmazonEC2"}),
    }[service]
    with pytest.raises(ClientError) as error:
        getattr(client(service, aws_access_key_id="AKIAIOSFODNN7EXAMPLE"), verb)(**extra)
    assert code_of(error) == "AuthFailure"
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 401
    assert aws.world() == ()


def ask(aws: EmulatedClouds, method: str, path: str, **headers: str) -> tuple[int, bytes]:
    host, port = aws.endpoint.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_an_unsigned_request_is_refused(aws: EmulatedClouds) -> None:
    status, body = ask(aws, "GET", "/?Action=DescribeInstances&Version=2016-11-15")
    assert status == 401
    assert b"<Code>AuthFailure</Code>" in body


@pytest.mark.parametrize("path", ["/", "/_grafos/world", "/imds/i-1/latest/meta-data/"])
def test_a_name_that_is_not_loopback_is_refused(aws: EmulatedClouds, path: str) -> None:
    """So that no web page reaches an emulator through a name that it makes point here."""
    status, _ = ask(aws, "GET", path, Host="emulator.example.com")
    assert status == 403


@pytest.mark.parametrize("path", ["/", "/_grafos/set", "/imds/i-1/latest/api/token"])
def test_no_web_page_may_use_an_emulator(aws: EmulatedClouds, path: str) -> None:
    """A form or a script of any page can send a request here; its browser names the page's origin."""
    connection = http.client.HTTPConnection(aws.endpoint.removeprefix("http://"), timeout=10)
    connection.request("POST", path, b'{"starting_s": 9}', {"Origin": "http://example.com"})
    assert connection.getresponse().status == 403
    connection.close()
    assert aws.set({})["starting_s"] == 0.5


STRANGER = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
    connection.sendall(b"GET " + sys.argv[2].encode() + b" HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
    print(connection.recv(100).split()[1].decode())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a program as another user")
@pytest.mark.parametrize("path", ["/", "/_grafos/world", "/imds/i-1/latest/user-data"])
def test_another_user_of_the_host_is_refused(aws: EmulatedClouds, path: str) -> None:
    """Else everybody on the host could run programs as the emulator's owner: the access key is public."""
    port = aws.endpoint.rpartition(":")[2]
    python = Path(sys.executable).resolve()
    if any(not folder.stat().st_mode & 0o001 for folder in python.parents):
        python = Path("/usr/bin/python3")  # ours is in a private folder
    ran = subprocess.run(
        [str(python), "-I", "-S", "-c", STRANGER, port, path],
        user=65534,
        group=65534,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert ran.stdout.strip() == "403"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: [\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", b"411"),
    ],
)
def test_what_is_no_request_is_told_so(aws: EmulatedClouds, head: bytes, status: bytes) -> None:
    with socket.create_connection(("127.0.0.1", int(aws.endpoint.rpartition(":")[2])), timeout=10) as connection:
        connection.sendall(head)
        assert connection.recv(100).split()[1] == status


def test_a_body_over_the_limit_is_refused(aws: EmulatedClouds) -> None:
    status, _ = ask(aws, "POST", "/", **{"Content-Length": str(MAX_BODY_BYTES + 1)})
    assert status == 413


def test_the_emulator_listens_on_loopback_only(aws: EmulatedClouds) -> None:
    assert aws.endpoint.startswith("http://127.0.0.1:")


def test_the_caller_is_told_who_it_is(aws: EmulatedClouds, client: Any) -> None:
    identity = client("sts").get_caller_identity()
    assert identity["Account"] == aws.account_id
    assert identity["Arn"] == f"arn:aws:iam::{aws.account_id}:user/emulated-by-grafos"
