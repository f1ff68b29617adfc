"""Google Cloud's refusals and the SDK's own failures become ours, over the real wire format where the wire matters."""

from __future__ import annotations

import inspect
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests
from google.api_core import exceptions as api
from google.auth import exceptions as auth

from grafos_connectors.contract import TAG_FABRIC, TAG_KEY, CloudError, Desired, Kind, Ref, Scope
from grafos_connectors.gcp import describe, errors, listing
from grafos_connectors.gcp.client import GcpCalls
from grafos_connectors.gcp.connector import GcpConnector
from grafos_connectors.gcp.wire import READ_ATTEMPTS
from grafos_core.errors import CODES

NO_CAPACITY = (
    "The zone 'projects/p/zones/us-central1-a' does not have enough resources available to fulfill the request.  "
    "'(resource type:compute)'."
)
RATE = (
    "Quota exceeded for quota metric 'Read requests' and limit 'Read requests per minute per region' of service "
    "'compute.googleapis.com' for consumer 'project_number:1'."
)
TOLD_BY_THEIR_ANSWER = "GoogleAPICallError"  # an answer of the cloud: what is in it decides, not its class
# Exceptions of google-api-core that are no answers, and that no call of ours raises: asynchronous clients, clients that
# are made wrongly. They become cloud_unknown; a new one must be looked at before it is put here.
NEVER_MET = {
    "AsyncRestUnsupportedParameterError",
    "DuplicateCredentialArgs",
    "GoogleAPIError",
    "RetryError",  # opened before: its cause is told
}
# The same of requests: what a stream, a form, an adapter or a redirect of somebody else may raise.
NEVER_SENT = {
    "HTTPError",
    "InvalidJSONError",
    "JSONDecodeError",
    "RequestException",
    "RetryError",
    "StreamConsumedError",
    "TooManyRedirects",
    "URLRequired",
    "UnrewindableBodyError",
}


class WireCloud:
    """Answers every request on loopback with what the test says, or not at all, and counts them."""

    def __init__(self) -> None:
        self.status, self.body, self.headers = 200, b"{}", {"Content-Type": "application/json"}
        self.answers: list[tuple[int, bytes]] = []  # before the usual one, in this order
        self.drops = False
        self.requests: list[str] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())

    def refuse(self, status: int, reason: str, message: str = "no", **headers: str) -> None:
        self.status, self.body = status, refusal_body(status, reason, message)
        self.headers |= {name.replace("_", "-"): text for name, text in headers.items()}

    def answer(self, document: Any) -> None:
        self.body = json.dumps(document).encode()

    def environment(self) -> dict[str, str]:
        host, port = self.server.server_address[:2]
        return {"GRAFOS_GCP_ENDPOINT": f"http://{host!s}:{port}"}

    def calls(self) -> GcpCalls:
        return GcpCalls("us-central1", environment=self.environment())

    def connector(self) -> GcpConnector:
        return GcpConnector("us-central1", environment=self.environment())

    def _handler(cloud) -> type[BaseHTTPRequestHandler]:  # noqa: N805  the handler's `self` is another
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                cloud.requests.append(f"{self.command} {self.path}")
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if cloud.drops:
                    return
                status, body = cloud.answers.pop(0) if cloud.answers else (cloud.status, cloud.body)
                self.send_response(status)
                for name, value in {**cloud.headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_DELETE = do_GET  # noqa: N815  the server's names

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler


def refusal_body(status: int, reason: str, message: str = "no") -> bytes:
    one = {"message": message, "domain": "global", "reason": reason}
    return json.dumps({"error": {"code": status, "message": message, "errors": [one]}}).encode()


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
    changes = partial(calls.change, "networks", "insert", network_resource={"name": "n"})
    reads = partial(calls.read, "networks", "get", network="n")
    with pytest.raises(CloudError) as raised:
        (changes if changing else reads)()
    return raised.value


def network() -> Desired:
    key = "0" * 32
    tags = {TAG_FABRIC: "f", TAG_KEY: key}
    return Desired(key=key, kind=Kind.NETWORK, name="grafos-n", region="us-central1", tags=tags)


# The wire ------------------------------------------------------------------------------------------------------------


def test_a_changing_call_is_sent_once_whatever_comes_back(cloud: WireCloud) -> None:
    cloud.refuse(503, "backendError")
    error = refused(cloud)
    assert (error.code, error.ambiguous) == ("cloud_unreachable", True)
    assert len(cloud.requests) == 1


def test_a_read_is_tried_three_times_and_leaves_nothing_in_doubt(cloud: WireCloud) -> None:
    cloud.refuse(503, "backendError")
    error = refused(cloud, changing=False)
    assert (error.code, error.ambiguous) == ("cloud_unreachable", False)
    assert len(cloud.requests) == READ_ATTEMPTS


def test_a_read_that_is_answered_the_second_time_is_answered(cloud: WireCloud) -> None:
    cloud.answers = [(502, b"<html>Bad Gateway</html>")]
    cloud.answer({"name": "n"})
    assert cloud.calls().read("networks", "get", network="n") == {"name": "n"}


@pytest.mark.parametrize("status", [403, 429])
@pytest.mark.parametrize("changing", [True, False])
def test_a_throttled_call_is_not_repeated_and_says_how_long_to_wait(
    cloud: WireCloud, status: int, *, changing: bool
) -> None:
    """Compute Engine's rate limit comes as 403 too, where other refusals are for good."""
    cloud.refuse(status, "rateLimitExceeded", RATE, Retry_After="7")
    error = refused(cloud, changing=changing)
    assert (error.code, error.retry_after_s, error.retryable, error.ambiguous) == ("cloud_throttled", 7.0, True, False)
    assert error.why == RATE
    assert len(cloud.requests) == 1


def test_a_dropped_connection_is_ambiguous_and_the_call_is_not_sent_twice(cloud: WireCloud) -> None:
    cloud.drops = True
    error = refused(cloud)
    assert (error.code, error.ambiguous) == ("cloud_unreachable", True)
    assert len(cloud.requests) == 1


def test_where_nobody_listens_nothing_was_sent() -> None:
    wire = WireCloud()
    calls = wire.calls()
    wire.server.server_close()
    with pytest.raises(CloudError) as raised:
        calls.change("networks", "insert", network_resource={"name": "n"})
    assert (raised.value.code, raised.value.ambiguous) == ("cloud_unreachable", False)


def test_an_answer_that_cannot_be_read_is_ambiguous(cloud: WireCloud) -> None:
    cloud.body = b'{"name": "operation-1", '
    error = refused(cloud)
    assert (error.code, error.ambiguous) == ("cloud_unknown", True)


def test_a_page_of_a_proxy_is_no_answer_of_the_cloud(cloud: WireCloud) -> None:
    cloud.status, cloud.body, cloud.headers = 502, b"<html>Bad Gateway</html>", {"Content-Type": "text/html"}
    error = refused(cloud)
    assert (error.code, error.ambiguous) == ("cloud_unreachable", True)


def test_an_answer_that_points_elsewhere_is_not_followed(cloud: WireCloud) -> None:
    """A request must not be carried off loopback, nor a token away from Google, by an answer."""
    cloud.status, cloud.headers["Location"] = 307, "http://192.0.2.1/"
    assert refused(cloud).code == "cloud_unknown"
    assert len(cloud.requests) == 1


def test_a_login_that_is_not_accepted_keeps_the_clouds_own_words(cloud: WireCloud) -> None:
    """The SDK would renew the login of nobody, and say that that does not work."""
    cloud.refuse(401, "authError", "Invalid Credentials")
    error = refused(cloud)
    assert (error.code, error.why, error.ambiguous) == ("cloud_auth", "Invalid Credentials", False)


def test_an_unknown_error_fails_closed_and_keeps_the_clouds_own_words(cloud: WireCloud) -> None:
    cloud.refuse(400, "neverHeardOfIt", "the moon is in the wrong phase")
    error = refused(cloud)
    assert (error.code, error.retryable, error.ambiguous) == ("cloud_unknown", False, True)
    assert error.why == "the moon is in the wrong phase"
    assert "neverHeardOfIt" in error.what


def test_what_newer_interfaces_say_in_details_is_read_too(cloud: WireCloud) -> None:
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "SERVICE_DISABLED"}
    error = {"code": 403, "message": "off", "status": "PERMISSION_DENIED", "details": [info]}
    cloud.status, cloud.body = 403, json.dumps({"error": error}).encode()
    with pytest.raises(CloudError) as raised:
        cloud.calls().ask("cloudbilling", "v1/services/x/skus")
    assert raised.value.cloud_code == "SERVICE_DISABLED"
    assert "gcloud services enable" in raised.value.next


# The tables ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("ZONE_RESOURCE_POOL_EXHAUSTED", "cloud_capacity"),
        ("ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", "cloud_capacity"),
        ("QUOTA_EXCEEDED", "cloud_quota"),
        ("quotaExceeded", "cloud_quota"),
        ("rateLimitExceeded", "cloud_throttled"),
        ("RATE_LIMIT_EXCEEDED", "cloud_throttled"),
        ("userRateLimitExceeded", "cloud_throttled"),
        ("RESOURCE_OPERATION_RATE_EXCEEDED", "cloud_throttled"),
        ("authError", "cloud_auth"),
        ("forbidden", "cloud_denied"),
        ("PERMISSIONS_ERROR", "cloud_denied"),
        ("accessNotConfigured", "cloud_denied"),
        ("billingNotEnabled", "cloud_denied"),
        ("alreadyExists", "cloud_conflict"),
        ("RESOURCE_ALREADY_EXISTS", "cloud_conflict"),
        ("conditionNotMet", "cloud_conflict"),
        ("notFound", "cloud_not_found"),
        ("RESOURCE_NOT_FOUND", "cloud_not_found"),
        ("resourceNotReady", "cloud_not_found"),
        ("resourceInUseByAnotherResource", "cloud_in_use"),
        ("RESOURCE_IN_USE_BY_ANOTHER_RESOURCE", "cloud_in_use"),
        ("invalid", "cloud_invalid"),
        ("required", "cloud_invalid"),
        ("badRequest", "cloud_invalid"),
        ("backendError", "cloud_unreachable"),
        ("INTERNAL_ERROR", "cloud_unreachable"),
        ("", "cloud_unknown"),
    ],
)
def test_a_reason_has_its_class_however_it_is_written(reason: str, code: str) -> None:
    assert errors.code_of(reason) == code


@pytest.mark.parametrize(
    ("reason", "message", "code"),
    [
        ("conditionNotMet", "Constraint constraints/compute.vmExternalIpAccess violated for p.", "cloud_denied"),
        ("invalid", "Invalid value for field 'resource.network'. The referenced network resource cannot be found.",
         "cloud_not_found"),
        ("invalid", "Invalid IPCidrRange: 10.0.0.0/24 conflicts with existing subnetwork 'a'.", "cloud_conflict"),
        ("invalid", "Invalid value for field 'resource.name': 'X'.", "cloud_invalid"),
    ],
)  # fmt: skip
def test_a_reason_for_many_refusals_is_told_apart_by_its_words(reason: str, message: str, code: str) -> None:
    assert errors.code_of(reason, message) == code


@pytest.mark.parametrize(
    "code", [*errors.REASONS.values(), *errors.STATUSES.values(), *(code for _, _, code in errors.WORDS)]
)
def test_every_class_in_the_tables_exists(code: str) -> None:
    assert code in CODES


def test_the_tables_words_are_written_as_they_are_looked_up() -> None:
    assert all(word.isalnum() and word.islower() for word in errors.REASONS)
    assert {word for word, _, _ in errors.WORDS} <= set(errors.REASONS)
    assert set(errors.REASON_NEXT_STEPS) <= set(errors.REASONS)


def unmapped(module: Any, generic: set[type[Exception]]) -> set[str]:
    """The exceptions of a module for which no entry of the table was made."""
    public = {
        name: kind
        for name, kind in vars(module).items()
        if inspect.isclass(kind) and issubclass(kind, Exception) and kind.__module__ == module.__name__
    }
    entries = [entry for entry, _, _ in errors.SDK_EXCEPTIONS if entry not in generic]
    return {name for name, kind in public.items() if not any(issubclass(kind, entry) for entry in entries)}


def test_every_exception_of_the_sdk_is_mapped_or_looked_at() -> None:
    """A new version of the SDK may bring one that nobody has thought about."""
    answers = {
        name for name, kind in vars(api).items() if inspect.isclass(kind) and issubclass(kind, api.GoogleAPICallError)
    }
    assert TOLD_BY_THEIR_ANSWER in answers
    assert unmapped(api, {api.GoogleAPIError}) - answers == NEVER_MET
    assert unmapped(auth, set()) == set()
    warnings = {
        name for name, kind in vars(requests.exceptions).items() if inspect.isclass(kind) and issubclass(kind, Warning)
    }
    assert unmapped(requests.exceptions, {requests.RequestException}) - warnings == NEVER_SENT


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (auth.DefaultCredentialsError("no"), "credentials_missing"),
        (auth.RefreshError("expired", {"error": "invalid_grant"}), "cloud_auth"),
        (auth.ReauthFailError(), "cloud_auth"),
        (auth.TransportError("no route"), "cloud_unreachable"),
        (requests.ConnectTimeout(), "cloud_unreachable"),
    ],
)
def test_what_fails_before_a_request_is_sent_is_never_ambiguous(error: Exception, code: str) -> None:
    told = errors.sdk_failure(error, "instances.insert", "gcp", changing=True)
    assert (told.code, told.ambiguous) == (code, False)


# Operations ----------------------------------------------------------------------------------------------------------


def failed_operation(code: str, message: str = "", **more: Any) -> dict[str, Any]:
    error = {"code": code, "message": message, **more}
    return {"status": "DONE", "operationType": "insert", "error": {"errors": [error]}, "httpErrorStatusCode": 503}


def test_a_full_zone_names_those_that_have_room() -> None:
    metadatas = {"vmType": "e2-medium", "zone": "us-central1-a", "zonesAvailable": "us-central1-b,us-central1-f"}
    info = {"reason": "resource_availability", "domain": "compute.googleapis.com", "metadatas": metadatas}
    document = failed_operation(
        "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", NO_CAPACITY, errorDetails=[{"errorInfo": info}]
    )
    error = errors.operation_error(document, "gcp us-central1-a")
    assert error is not None
    assert (error.code, error.alternatives) == ("cloud_capacity", ("us-central1-b", "us-central1-f"))
    assert (error.why, error.ambiguous) == (" ".join(NO_CAPACITY.split()), False)


def test_a_full_zone_that_names_no_other_gives_none() -> None:
    info = {"reason": "resource_availability", "metadatas": {"zonesAvailable": ""}}
    assert errors.offered_zones([{"errorInfo": info}, {"localizedMessage": {}}]) == ()


def test_a_quota_that_an_operation_meets_tells_its_limit() -> None:
    quota = {"limitName": "CPUS-per-project-region", "limit": 8.0}
    document = failed_operation("QUOTA_EXCEEDED", "Quota 'CPUS' exceeded.", errorDetails=[{"quotaInfo": quota}])
    error = errors.operation_error(document, "gcp")
    assert error is not None
    assert error.code == "cloud_quota"
    assert "CPUS-per-project-region: 8.0" in error.why


def test_an_operation_that_ended_well_has_no_error() -> None:
    assert errors.operation_error({"status": "DONE"}, "gcp") is None


def test_an_unknown_error_of_an_operation_fails_closed() -> None:
    error = errors.operation_error(failed_operation("SOMETHING_NEW", "odd"), "gcp")
    assert error is not None
    assert (error.code, error.why) == ("cloud_unknown", "odd")


def test_the_project_tells_the_clouds_time(cloud: WireCloud) -> None:
    cloud.answer({"name": "p"})
    identity = cloud.connector().identity()
    assert identity.account == "p"
    assert identity.server_time > 0


def test_the_console_is_read_from_its_end(cloud: WireCloud) -> None:
    """Compute Engine keeps a MiB; what a machine that does not start wrote last is at its end."""
    cloud.answer({"contents": "booted\n", "next": "7"})
    ref = Ref(key="", kind=Kind.MACHINE, id="zones/us-central1-a/instances/m", region="us-central1")
    assert cloud.connector().console(ref) == "booted\n"
    assert "serialPort?port=1&start=-65536" in cloud.requests[0]


# What answers may leave out ------------------------------------------------------------------------------------------


def test_a_list_that_leaves_a_zone_out_is_not_believed(cloud: WireCloud) -> None:
    """It comes with status 200; what stands in the zone would be left behind, and bill."""
    warning = {"code": "UNREACHABLE", "message": "zone us-central1-b"}
    cloud.answer({"items": {"zones/us-central1-a": {"instances": []}, "zones/us-central1-b": {"warning": warning}}})
    with pytest.raises(CloudError) as raised:
        list(cloud.connector().list(Scope(fabric="f")))
    assert (raised.value.code, raised.value.why) == ("cloud_unreachable", "zone us-central1-b")
    with pytest.raises(CloudError):
        listing.check_whole({"items": {}, "unreachables": ["zones/us-central1-c"]})


def test_an_empty_zone_is_whole() -> None:
    listing.check_whole({"items": {"zones/us-central1-a": {"warning": {"code": "NO_RESULTS_ON_PAGE"}}}})
    listing.check_whole({"items": [{"name": "n"}]})


def test_a_status_that_nobody_knows_is_no_guess() -> None:
    item = {
        "name": "m",
        "selfLink": "https://x/compute/v1/projects/p/zones/us-central1-a/instances/m",
        "status": "DREAMING",
    }
    with pytest.raises(CloudError) as raised:
        describe.found(Kind.MACHINE, item)
    assert raised.value.code == "cloud_unknown"


def test_a_network_that_is_not_ready_to_be_deleted_is_not_taken_for_one_that_is_gone(cloud: WireCloud) -> None:
    """Both are ``cloud_not_found``: one exists."""
    cloud.refuse(400, "resourceNotReady", "The resource 'projects/p/global/networks/grafos-n' is not ready")
    ref = Ref(key="", kind=Kind.NETWORK, id="global/networks/grafos-n", region="us-central1")
    with pytest.raises(CloudError) as raised:
        cloud.connector().begin_delete(ref)
    assert raised.value.code == "cloud_not_found"


def test_what_is_there_and_not_ready_is_not_gone(cloud: WireCloud) -> None:
    cloud.refuse(400, "resourceNotReady", "The resource 'projects/p/global/networks/grafos-n' is not ready")
    ref = Ref(key="", kind=Kind.NETWORK, id="global/networks/grafos-n", region="us-central1")
    with pytest.raises(CloudError) as raised:
        cloud.connector().observe(ref)
    assert raised.value.code == "cloud_not_found"


def test_an_answer_that_names_no_operation_leaves_the_create_in_doubt(cloud: WireCloud) -> None:
    with pytest.raises(CloudError) as raised:
        cloud.connector().begin_create(network(), "token")
    assert (raised.value.code, raised.value.ambiguous) == ("cloud_unknown", True)


def test_a_suspended_machine_bills_and_a_stopped_one_does_not() -> None:
    """Its memory is kept, and paid for."""
    item = {"name": "m", "selfLink": "projects/p/zones/us-central1-a/instances/m"}
    bills = {
        status: describe.found(Kind.MACHINE, {**item, "status": status}).billable
        for status in ("SUSPENDING", "SUSPENDED", "TERMINATED")
    }
    assert bills == {"SUSPENDING": True, "SUSPENDED": True, "TERMINATED": False}


def test_what_has_our_name_and_other_properties_is_a_conflict(cloud: WireCloud) -> None:
    theirs = {"name": "grafos-n", "selfLink": "projects/p/global/networks/grafos-n", "description": "mine"}
    cloud.answers = [(409, refusal_body(409, "alreadyExists", "it already exists"))]
    cloud.answer(theirs)
    with pytest.raises(CloudError) as raised:
        cloud.connector().begin_create(network(), "token")
    assert (raised.value.code, raised.value.ambiguous, raised.value.cloud_code) == (
        "cloud_conflict",
        False,
        "alreadyExists",
    )


def test_what_existed_a_moment_ago_and_is_gone_can_be_made_again(cloud: WireCloud) -> None:
    cloud.answers = [(409, refusal_body(409, "alreadyExists"))]
    cloud.refuse(404, "notFound")
    with pytest.raises(CloudError) as raised:
        cloud.connector().begin_create(network(), "token")
    assert (raised.value.code, raised.value.retryable) == ("cloud_not_found", True)


@pytest.mark.parametrize("id", ["", "n", "global/firewalls/n", "zones/z/networks", "a/b/c/networks/n"])
def test_an_id_of_another_kind_is_refused_before_any_call(cloud: WireCloud, id: str) -> None:
    with pytest.raises(CloudError) as raised:
        cloud.connector().observe(Ref(key="", kind=Kind.NETWORK, id=id, region="us-central1"))
    assert raised.value.code == "cloud_invalid"
    assert cloud.requests == []
