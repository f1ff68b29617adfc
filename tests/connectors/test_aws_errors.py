"""EC2's refusals and the SDK's own failures become ours, over the real wire format where the wire matters."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from botocore import exceptions as sdk

from grafos_connectors.aws import account, describe, errors
from grafos_connectors.aws.client import CHANGE_ATTEMPTS, READ_ATTEMPTS, AwsCalls
from grafos_connectors.contract import TAG_FABRIC, TAG_KEY, CloudError, Desired, Kind, Ref
from grafos_connectors.registry import open_connector
from grafos_core.emulated import EMULATED_ACCESS_KEY_PREFIX
from grafos_core.errors import CODES

NO_CAPACITY = (
    "We currently do not have sufficient t4g.medium capacity in the Availability Zone you requested (us-east-1a). "
    "Our system will be working on provisioning additional capacity. You can currently get t4g.medium capacity by not "
    "specifying an Availability Zone in your request or choosing us-east-1b, us-east-1c."
)
NOT_IN_ZONE = (
    "Your requested instance type (t4g.medium) is not supported in your requested Availability Zone (us-east-1e). "
    "Please retry your request by not specifying an Availability Zone or choosing us-east-1a, us-east-1b."
)

CONSOLE = b"<GetConsoleOutputResponse><output>Ym9vdGVkCg==</output></GetConsoleOutputResponse>"

# SDK exceptions that no call of ours can raise: other services, streams, tests, deprecations, or abstract bases. They
# become cloud_unknown, and a new one in the SDK must be looked at before it is put here.
NEVER_MET = {
    "ApiVersionNotFoundError",
    "AwsChunkedWrapperError",
    "BaseEndpointResolverError",
    "BotoCoreError",
    "CapacityNotAvailableError",
    "DataNotFoundError",
    "FlexibleChecksumError",
    "ImminentRemovalWarning",
    "InvalidChecksumConfigError",
    "InvalidDNSNameError",
    "InvalidDefaultsMode",
    "InvalidEndpointDiscoveryConfigurationError",
    "InvalidExpressionError",
    "InvalidHostLabelError",
    "InvalidIMDSEndpointError",
    "InvalidIMDSEndpointModeError",
    "InvalidMaxRetryAttemptsError",
    "InvalidRetryConfigurationError",
    "InvalidRetryModeError",
    "InvalidS3AddressingStyleError",
    "InvalidS3UsEast1RegionalEndpointConfigError",
    "InvalidSTSRegionalEndpointsConfigError",
    "MD5UnavailableError",
    "MissingServiceIdError",
    "OperationNotPageableError",
    "PaginationError",
    "StubAssertionError",
    "StubResponseError",
    "UnStubbedResponseError",
    "UndefinedModelAttributeError",
    "UnknownClientMethodError",
    "UnknownFIPSEndpointError",
    "UnknownServiceError",
    "UnknownServiceStyle",
    "UnknownSignatureVersionError",
    "UnseekableStreamError",
    "UnsupportedOutpostResourceError",
    "UnsupportedS3AccesspointConfigurationError",
    "UnsupportedS3ArnError",
    "UnsupportedS3ConfigurationError",
    "UnsupportedS3ControlArnError",
    "UnsupportedS3ControlConfigurationError",
    "UnsupportedServiceProtocolsError",
    "UnsupportedSignatureVersionError",
    "UnsupportedTLSVersionWarning",
    "WaiterConfigError",
    "WaiterError",
}
ANSWERS = {"ClientError", "EventStreamError"}  # the cloud's answers: the code in them decides


class WireCloud:
    """Answers every request on loopback with what the test says, or not at all, and counts them.

    A request that holds one of the words in ``special`` gets that status and body instead.
    """

    def __init__(self) -> None:
        self.special: dict[str, tuple[int, bytes]] = {}
        self.status, self.body, self.headers = 200, b"", {"Content-Type": "text/xml"}
        self.drops = False
        self.requests: list[str] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())

    def refuse(self, status: int, code: str, message: str = "no", **headers: str) -> None:
        self.status = status
        self.headers = {"Content-Type": "text/xml", **{name.replace("_", "-"): text for name, text in headers.items()}}
        self.body = refusal_body(code, message)

    def environment(self) -> dict[str, str]:
        host, port = self.server.server_address[:2]
        return {
            "AWS_ENDPOINT_URL": f"http://{host!s}:{port}",
            "AWS_ACCESS_KEY_ID": EMULATED_ACCESS_KEY_PREFIX + "00",
            "AWS_SECRET_ACCESS_KEY": "none",
        }

    def calls(self) -> AwsCalls:
        return AwsCalls("us-east-1", environment=self.environment())

    def _handler(cloud) -> type[BaseHTTPRequestHandler]:  # noqa: N805  the handler's `self` is another
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = self.rfile.read(int(self.headers["Content-Length"])).decode()
                cloud.requests.append(request)
                if cloud.drops:
                    return
                special = (answer for word, answer in cloud.special.items() if word in request)
                status, body = next(special, (cloud.status, cloud.body))
                self.send_response(status)
                for name, value in {**cloud.headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler


def refusal_body(code: str, message: str) -> bytes:
    return (
        f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>"
        "<RequestID>r-1</RequestID></Response>"
    ).encode()


@pytest.fixture
def cloud() -> Iterator[WireCloud]:
    wire = WireCloud()
    thread = threading.Thread(target=wire.server.serve_forever, args=(0.01,))
    thread.start()
    yield wire
    wire.server.shutdown()
    thread.join()
    wire.server.server_close()


def refused(cloud: WireCloud, *, changing: bool = True) -> CloudError:
    calls = cloud.calls()
    changes = partial(calls.change, "create_vpc", CidrBlock="10.0.0.0/16")
    reads = partial(calls.read, "ec2", "describe_vpcs")
    with pytest.raises(CloudError) as raised:
        (changes if changing else reads)()
    return raised.value


def console_of(cloud: WireCloud) -> str:
    connector = open_connector("aws", "us-east-1", environment=cloud.environment())
    return connector.console(Ref(key="", kind=Kind.MACHINE, id="i-1", region="us-east-1"))


def test_a_capacity_error_is_not_retried_and_names_the_zones_that_have_room(cloud: WireCloud) -> None:
    """It comes with HTTP 500: the SDK's own retries would burn all attempts on it at once."""
    cloud.refuse(500, "InsufficientInstanceCapacity", NO_CAPACITY)
    error = refused(cloud)
    assert error.code == "cloud_capacity"
    assert error.alternatives == ("us-east-1b", "us-east-1c")
    assert not error.ambiguous
    assert len(cloud.requests) == CHANGE_ATTEMPTS == 1
    assert (error.why, error.cloud_code, error.request_id) == (NO_CAPACITY, "InsufficientInstanceCapacity", "r-1")


def test_a_read_is_tried_again_when_the_cloud_asks_for_fewer_requests(cloud: WireCloud) -> None:
    cloud.refuse(503, "RequestLimitExceeded", "Request limit exceeded.", Retry_After="7")
    error = refused(cloud, changing=False)
    assert (error.code, error.retry_after_s, error.retryable) == ("cloud_throttled", 7.0, True)
    assert len(cloud.requests) == READ_ATTEMPTS


def test_a_server_error_after_a_changing_call_is_ambiguous(cloud: WireCloud) -> None:
    cloud.refuse(500, "InternalError", "An internal error has occurred")
    error = refused(cloud)
    assert (error.code, error.ambiguous) == ("cloud_unreachable", True)
    assert len(cloud.requests) == 1


def test_a_server_error_after_a_read_leaves_nothing_in_doubt(cloud: WireCloud) -> None:
    cloud.refuse(500, "InternalError")
    assert not refused(cloud, changing=False).ambiguous


def test_a_dropped_connection_is_ambiguous_and_the_call_is_not_sent_twice(cloud: WireCloud) -> None:
    cloud.drops = True
    error = refused(cloud)
    assert (error.code, error.ambiguous) == ("cloud_unreachable", True)
    assert len(cloud.requests) == 1


def test_a_page_of_a_proxy_is_no_answer_of_ec2(cloud: WireCloud) -> None:
    cloud.status, cloud.body, cloud.headers = 502, b"<html>Bad Gateway</html>", {"Content-Type": "text/html"}
    error = refused(cloud)
    assert (error.code, error.ambiguous) == ("cloud_unreachable", True)


def test_an_answer_that_cannot_be_read_is_ambiguous(cloud: WireCloud) -> None:
    cloud.status, cloud.body = 200, b"<CreateVpcResponse><vpc>"
    error = refused(cloud)
    assert (error.code, error.ambiguous) == ("cloud_unknown", True)


def test_where_nobody_listens_nothing_was_sent() -> None:
    wire = WireCloud()
    calls = wire.calls()
    wire.server.server_close()
    with pytest.raises(CloudError) as raised:
        calls.change("create_vpc", CidrBlock="10.0.0.0/16")
    assert (raised.value.code, raised.value.ambiguous) == ("cloud_unreachable", False)


def test_an_unknown_error_fails_closed_and_keeps_the_clouds_own_words(cloud: WireCloud) -> None:
    cloud.refuse(400, "NeverHeardOfIt", "the moon is in the wrong phase")
    error = refused(cloud)
    assert (error.code, error.retryable, error.ambiguous) == ("cloud_unknown", False, True)
    assert error.why == "the moon is in the wrong phase"
    assert "NeverHeardOfIt" in error.what


@pytest.mark.parametrize(
    ("cloud_code", "code"),
    [
        ("RequestLimitExceeded", "cloud_throttled"),
        ("InsufficientInstanceCapacity", "cloud_capacity"),
        ("VcpuLimitExceeded", "cloud_quota"),
        ("MaxSpotInstanceCountExceeded", "cloud_quota"),
        ("VpcLimitExceeded", "cloud_quota"),
        ("InstanceLimitExceeded", "cloud_quota"),
        ("InvalidInstanceID.NotFound", "cloud_not_found"),
        ("InvalidGroup.NotFound", "cloud_not_found"),
        ("InvalidSubnetID.NotFound", "cloud_not_found"),
        ("IdempotentParameterMismatch", "cloud_conflict"),
        ("IdempotentInstanceTerminated", "cloud_conflict"),
        ("InvalidGroup.Duplicate", "cloud_conflict"),
        ("DependencyViolation", "cloud_in_use"),
        ("InvalidIPAddress.InUse", "cloud_in_use"),
        ("VolumeInUse", "cloud_in_use"),
        ("UnauthorizedOperation", "cloud_denied"),
        ("AuthFailure", "cloud_auth"),
        ("RequestExpired", "cloud_auth"),
        ("InvalidAMIID.NotFound", "cloud_invalid"),
        ("InvalidAMIName.Duplicate", "cloud_conflict"),
        ("InvalidParameterValue", "cloud_invalid"),
        ("InvalidParameterCombination", "cloud_invalid"),
        ("InvalidInstanceID.Malformed", "cloud_invalid"),
        ("Unsupported", "cloud_invalid"),
        ("PendingVerification", "cloud_denied"),
        ("OptInRequired", "cloud_auth"),
        ("Blocked", "cloud_denied"),
        ("OperationNotPermitted", "cloud_denied"),
        ("InsufficientVolumeCapacity", "cloud_capacity"),
        ("InvalidBlockDeviceMapping", "cloud_invalid"),
        ("ThrottlingException", "cloud_throttled"),
        ("ValidationException", "cloud_invalid"),
        ("", "cloud_unknown"),
    ],
)
def test_a_code_of_ec2_has_its_class(cloud_code: str, code: str) -> None:
    assert errors.code_of(cloud_code) == code


def test_a_type_that_other_zones_have_is_a_matter_of_capacity() -> None:
    """The engine then moves to an offered zone, as it does when a zone is full."""
    assert errors.code_of("Unsupported", NOT_IN_ZONE) == "cloud_capacity"
    assert errors.offered_zones(NOT_IN_ZONE) == ("us-east-1a", "us-east-1b")


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("Network interface 'eni-1' is currently in use.", "cloud_in_use"),
        ("Network vpc-1 already has an internet gateway attached", "cloud_conflict"),
        ("Value (10.0.0.7) for parameter cidrIp is invalid.", "cloud_invalid"),
    ],
)
def test_a_code_for_many_refusals_is_told_apart_by_its_words(message: str, code: str) -> None:
    """EC2 answers InvalidParameterValue to DeleteNetworkInterface of one in use, and to a second gateway."""
    assert errors.code_of("InvalidParameterValue", message) == code


def test_a_network_that_has_another_gateway_is_a_conflict(cloud: WireCloud) -> None:
    cloud.refuse(400, "InvalidParameterValue", "Network vpc-1 already has an internet gateway attached")
    connector = open_connector("aws", "us-east-1", environment=cloud.environment())
    attachment = Desired(
        key="0" * 32,
        kind=Kind.GATEWAY_ATTACHMENT,
        name="n",
        region="us-east-1",
        needs={"network": "vpc-1", "gateway": "igw-2"},
    )
    with pytest.raises(CloudError) as raised:
        connector.begin_create(attachment, "token")
    assert (raised.value.code, raised.value.ambiguous) == ("cloud_conflict", False)


@pytest.mark.parametrize("cloud_code", ["AuthFailure", "InvalidClientTokenId"])
def test_a_region_that_is_switched_off_looks_like_wrong_credentials_and_the_next_step_says_so(
    cloud: WireCloud, cloud_code: str
) -> None:
    """https://docs.aws.amazon.com/accounts/latest/reference/manage-acct-regions.html"""
    cloud.refuse(401, cloud_code, "AWS was not able to validate the provided access credentials")
    assert "region" in refused(cloud, changing=False).next


def test_the_console_is_what_the_machine_wrote_until_now(cloud: WireCloud) -> None:
    """Without Latest EC2 shows nothing in the minutes in which a machine that does not start is looked at."""
    cloud.body = CONSOLE
    assert console_of(cloud) == "booted\n"
    assert "Latest=true" in cloud.requests[0]


def test_a_machine_that_cannot_tell_the_latest_tells_what_was_kept(cloud: WireCloud) -> None:
    cloud.body = CONSOLE
    cloud.special["Latest=true"] = (400, refusal_body("UnsupportedOperation", "Only on Nitro."))
    assert console_of(cloud) == "booted\n"
    assert len(cloud.requests) == 2


def test_zones_with_prices_of_their_own_are_not_offered(cloud: WireCloud) -> None:
    """A Local Zone is told like any other once the account has opted in; its name even sorts first."""
    zones = ("us-east-1-bos-1a", "us-east-1-wl1-bos-wlz-1", "us-east-1b")
    items = "".join(f"<item><instanceType>t3.medium</instanceType><location>{zone}</location></item>" for zone in zones)
    cloud.body = (
        f"<Response><instanceTypeOfferingSet>{items}</instanceTypeOfferingSet><instanceTypeSet><item>"
        "<instanceType>t3.medium</instanceType><memoryInfo><sizeInMiB>4096</sizeInMiB></memoryInfo>"
        "<vCpuInfo><defaultVCpus>2</defaultVCpus></vCpuInfo><processorInfo><supportedArchitectures>"
        "<item>x86_64</item></supportedArchitectures></processorInfo></item></instanceTypeSet></Response>"
    ).encode()
    offers = account.offers(cloud.calls(), "us-east-1", "t3.medium", "")
    assert [offer.zone for offer in offers] == ["us-east-1b"]


def test_a_message_that_offers_nothing_gives_no_zones() -> None:
    assert errors.offered_zones("There is no Spot capacity available in us-east-1a.") == ()


@pytest.mark.parametrize("table", [errors.CODES, errors.STATE_REASONS, dict(errors.ENDINGS), dict(errors.BEGINNINGS)])
def test_every_class_in_the_tables_exists(table: dict[str, str]) -> None:
    assert set(table.values()) <= set(CODES)


def test_every_exception_of_the_sdk_is_mapped_or_looked_at() -> None:
    """A new version of the SDK may bring one that nobody has thought about."""
    public = {
        name: kind
        for name, kind in vars(sdk).items()
        if inspect.isclass(kind) and issubclass(kind, Exception) and kind.__module__ == sdk.__name__
    }
    generic = {sdk.BotoCoreError, Exception}
    mapped = {
        name
        for name, kind in public.items()
        for entry, _, _ in errors.SDK_EXCEPTIONS
        if entry not in generic and issubclass(kind, entry)
    }
    assert set(public) - mapped - ANSWERS == NEVER_MET


def test_a_machine_that_died_at_launch_says_why() -> None:
    error = errors.ended_early("Server.InsufficientInstanceCapacity", "no room after all", "us-east-1")
    assert (error.code, error.why) == ("cloud_capacity", "no room after all")
    assert errors.ended_early("Something.New", "odd", "us-east-1").code == "cloud_unknown"


def test_an_answer_without_an_id_is_ambiguous(cloud: WireCloud) -> None:
    cloud.body = b"<CreateVpcResponse></CreateVpcResponse>"
    connector = open_connector("aws", "us-east-1", environment=cloud.environment())
    key = "0" * 32
    network = Desired(
        key=key,
        kind=Kind.NETWORK,
        name="n",
        region="us-east-1",
        inputs={"cidr": "10.0.0.0/16"},
        tags={TAG_FABRIC: "f", TAG_KEY: key},
    )
    with pytest.raises(CloudError) as raised:
        connector.begin_create(network, "token")
    assert (raised.value.code, raised.value.ambiguous) == ("cloud_unknown", True)


def test_a_state_that_nobody_knows_is_no_guess() -> None:
    with pytest.raises(CloudError) as raised:
        describe.found(Kind.MACHINE, {"InstanceId": "i-1", "State": {"Name": "hibernating"}}, "us-east-1")
    assert raised.value.code == "cloud_unknown"
