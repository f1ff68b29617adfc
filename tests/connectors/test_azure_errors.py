"""ARM's refusals and the SDK's own failures become ours, over the real wire format where the wire matters."""

from __future__ import annotations

import inspect
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import azure.identity
import pytest
import requests
from azure.core import exceptions as sdk
from azure_place import AzurePlace
from contract_work import Work
from urllib3 import exceptions as wire

from grafos_connectors.azure import errors
from grafos_connectors.azure.client import AzureCalls
from grafos_connectors.azure.errors import Refusal, code_of, refusal_in, refused, sdk_failure
from grafos_connectors.azure.ids import parse
from grafos_connectors.azure.kind_calls import read_resource
from grafos_connectors.contract import CloudError, Failed, Kind, State
from grafos_core.clock import VirtualClock
from grafos_core.emulated import EMULATED_SUBSCRIPTION
from grafos_core.errors import CODES
from grafos_emulators.emulator import EmulatedClouds, Settings
from grafos_emulators.faults import Effect, ErrorClass, Fault, FaultRule

SOLD_OUT = (
    "The requested VM size for resource 'Following SKUs have failed for Capacity Restrictions: Standard_B2s' is "
    "currently not available in location 'eastus'. Please try another size or deploy to a different location or "
    "different zone. See https://aka.ms/azureskunotavailable for details."
)
NO_QUOTA = (
    "Operation could not be completed as it results in exceeding approved Total Regional Cores quota. Additional "
    "details - Deployment Model: Resource Manager, Location: eastus, Current Limit: 10, Current Usage: 8"
)

# What ARM says, with which HTTP number (0: in an operation), and what that is to us.
TABLE: list[tuple[str, int, str, str]] = [
    ("SkuNotAvailable", 409, SOLD_OUT, "cloud_capacity"),
    ("AllocationFailed", 0, "Allocation failed.", "cloud_capacity"),
    ("ZonalAllocationFailed", 0, "Allocation failed.", "cloud_capacity"),
    ("OverconstrainedAllocationRequest", 0, "", "cloud_capacity"),
    ("OverconstrainedZonalAllocationRequest", 0, "", "cloud_capacity"),
    ("OperationNotAllowed", 409, NO_QUOTA, "cloud_quota"),
    ("OperationNotAllowed", 409, "Disk d is attached to VM v.", "cloud_in_use"),
    ("OperationNotAllowed", 409, "The VM is being resized.", "cloud_conflict"),
    ("OperationNotAllowed", 429, "too many requests", "cloud_throttled"),
    ("QuotaExceeded", 400, "", "cloud_quota"),
    ("PublicIPCountLimitReached", 400, "", "cloud_quota"),
    ("ResourceQuotaExceeded", 409, "", "cloud_quota"),
    ("TooManyRequests", 429, "", "cloud_throttled"),
    ("SubscriptionRequestsThrottled", 429, "", "cloud_throttled"),
    ("ServerBusy", 503, "", "cloud_throttled"),
    ("ExpiredAuthenticationToken", 401, "", "cloud_auth"),
    ("InvalidAuthenticationTokenTenant", 401, "", "cloud_auth"),
    ("InvalidAuthenticationTokenSomethingNew", 401, "", "cloud_auth"),
    ("AuthorizationFailed", 403, "", "cloud_denied"),
    ("LinkedAuthorizationFailed", 403, "", "cloud_denied"),
    ("RequestDisallowedByPolicy", 403, "", "cloud_denied"),
    ("MissingSubscriptionRegistration", 409, "", "cloud_denied"),
    ("ScopeLocked", 409, "", "cloud_denied"),
    ("SubscriptionNotFound", 404, "", "cloud_denied"),
    ("ReadOnlyDisabledSubscription", 409, "", "cloud_denied"),
    ("PreconditionFailed", 412, "", "cloud_conflict"),
    ("Conflict", 409, "", "cloud_conflict"),
    ("PropertyChangeNotAllowed", 409, "", "cloud_conflict"),
    ("ResourceGroupBeingDeleted", 409, "", "cloud_conflict"),
    ("AnotherOperationInProgress", 429, "", "cloud_throttled"),
    ("NetcfgSubnetRangesOverlap", 400, "", "cloud_conflict"),
    ("ResourceNotFound", 404, "", "cloud_not_found"),
    ("ResourceGroupNotFound", 404, "", "cloud_not_found"),
    ("ParentResourceNotFound", 404, "", "cloud_not_found"),
    ("InvalidResourceReference", 400, "", "cloud_not_found"),
    ("NicInUse", 400, "", "cloud_in_use"),
    ("NicReservedForAnotherVm", 400, "", "cloud_in_use"),
    ("InUseSubnetCannotBeDeleted", 400, "", "cloud_in_use"),
    ("InUseNetworkSecurityGroupCannotBeDeleted", 400, "", "cloud_in_use"),
    ("PublicIPAddressCannotBeDeleted", 400, "", "cloud_in_use"),
    ("InvalidParameter", 400, "", "cloud_invalid"),
    ("BadRequest", 400, "", "cloud_invalid"),
    ("InvalidRequestContent", 400, "", "cloud_invalid"),
    ("PlatformImageNotFound", 404, "", "cloud_invalid"),
    ("LocationNotAvailableForResourceType", 400, "", "cloud_invalid"),
    ("InternalServerError", 500, "", "cloud_unreachable"),
    ("ServiceUnavailable", 503, "", "cloud_unreachable"),
    ("VMStartTimedOut", 0, "", "cloud_unreachable"),
    ("SomethingNewThatBroke", 500, "", "cloud_unreachable"),
    ("SomethingNew", 409, "never heard of", "cloud_unknown"),
    ("", 401, "", "cloud_auth"),
    ("", 404, "", "cloud_not_found"),
    ("", 502, "", "cloud_unreachable"),
    ("", 418, "", "cloud_unknown"),
    ("", 0, "", "cloud_unknown"),
]

# SDK exceptions that no call of ours can raise, or that ARM's answers raise and whose code then speaks. A new one in
# the SDK must be looked at before it is put here.
SPOKEN_FOR_BY_CODE = {"HttpResponseError", "ODataV4Error", "ResourceExistsError", "ResourceModifiedError"} | {
    "ResourceNotFoundError",
    "ResourceNotModifiedError",
}


@pytest.mark.parametrize(("cloud_code", "status", "message", "code"), TABLE)
def test_each_code_of_arm_has_its_class(cloud_code: str, status: int, message: str, code: str) -> None:
    assert code_of(cloud_code, message, status) == code


def test_every_class_in_the_tables_is_one_of_ours() -> None:
    told = {*errors.CODES.values(), *errors.STATUSES.values(), *(row[-1] for row in errors.WORDS)}
    told |= {code for _, code in (*errors.ENDINGS, *errors.BEGINNINGS)} | {row[1] for row in errors.SDK_EXCEPTIONS}
    assert told <= set(CODES)


def test_an_unknown_code_fails_closed_with_azures_own_words() -> None:
    told = refused(Refusal("Mystery", "something odd"), 409, {}, "op", "eastus", changing=True)
    assert (told.code, told.cloud_code, told.why, told.ambiguous) == ("cloud_unknown", "Mystery", "something odd", True)


@pytest.mark.parametrize(
    ("cloud_code", "status", "is_ambiguous"),
    [
        ("InternalServerError", 500, True),
        ("ServiceUnavailable", 503, True),
        ("", 502, True),
        ("SkuNotAvailable", 500, False),
        ("TooManyRequests", 429, False),
        ("Conflict", 409, False),
        ("InvalidParameter", 400, False),
    ],
)
def test_a_changing_call_is_ambiguous_when_the_server_broke(
    cloud_code: str,
    status: int,
    is_ambiguous: bool,  # noqa: FBT001  a table's column
) -> None:
    told = refused(Refusal(cloud_code, ""), status, {}, "op", "", changing=True)
    assert told.ambiguous is is_ambiguous
    assert not refused(Refusal(cloud_code, ""), status, {}, "op", "", changing=False).ambiguous


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"error": {"code": "A", "message": "m"}}, ("A", "m")),
        ({"status": "Failed", "error": {"code": "A", "message": "m"}}, ("A", "m")),
        ({"code": "A", "message": "m"}, ("A", "m")),
        ({"error": {"code": "DeploymentFailed", "details": [{"code": "B", "message": "n"}]}}, ("B", "n")),
        ({"error": {"code": "DeploymentFailed", "message": "m", "details": []}}, ("DeploymentFailed", "m")),
        ({"error": {"code": "A", "message": "m", "details": [{"code": "B"}]}}, ("A", "m")),
        ({"error": "invalid_client"}, ("", "")),
        ({"error": None}, ("", "")),
        ([], ("", "")),
        ("text", ("", "")),
    ],
)
def test_the_code_is_found_in_each_envelope(body: object, expected: tuple[str, str]) -> None:
    assert refusal_in(json.dumps(body)) == expected


def test_what_is_no_json_has_no_code() -> None:
    assert refusal_in("<html>502</html>") == Refusal()
    assert refusal_in("") == Refusal()


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "17"}, 17.0),
        ({"retry-after-ms": "50"}, 0.05),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, 0.0),
        ({}, 0.0),
    ],
)
def test_how_long_to_wait_is_told(headers: dict[str, str], seconds: float) -> None:
    told = refused(Refusal("TooManyRequests", ""), 429, headers, "op", "", changing=False)
    assert told.retry_after_s == pytest.approx(seconds)


# The SDK's own exceptions ---------------------------------------------------------------------------------------------


def exceptions_of(module: object) -> set[type[Exception]]:
    return {one for _, one in inspect.getmembers(module, inspect.isclass) if issubclass(one, Exception)}


@pytest.mark.parametrize(
    "kind", sorted(exceptions_of(sdk) | exceptions_of(azure.identity), key=lambda one: one.__name__)
)
def test_each_exception_of_the_sdk_has_its_class(kind: type[Exception]) -> None:
    listed = {one for one, _, _ in errors.SDK_EXCEPTIONS}
    by_parent = kind.__name__ in SPOKEN_FOR_BY_CODE or kind.__module__.startswith("azure.identity")
    assert kind in listed or by_parent or kind.__name__ == "ServiceResponseTimeoutError", kind
    assert any(issubclass(kind, one) for one in listed), kind


def test_an_exception_of_its_own_class_does_not_hide_behind_its_parents() -> None:
    for position, (kind, _, _) in enumerate(errors.SDK_EXCEPTIONS):
        assert not any(issubclass(kind, earlier) for earlier, _, _ in errors.SDK_EXCEPTIONS[:position]), kind


@pytest.mark.parametrize(
    ("error", "code", "is_ambiguous"),
    [
        (azure.identity.CredentialUnavailableError("none"), "credentials_missing", False),
        (sdk.ClientAuthenticationError("wrong"), "cloud_auth", False),
        (sdk.ServiceResponseError("gone"), "cloud_unreachable", True),
        (sdk.ServiceResponseTimeoutError("slow"), "cloud_unreachable", True),
        (sdk.DecodeError("no JSON"), "cloud_unknown", True),
        (sdk.IncompleteReadError("half"), "cloud_unreachable", True),
        (sdk.SerializationError("what"), "cloud_invalid", False),
        (sdk.AzureError("new"), "cloud_unknown", True),
    ],
)
def test_a_failure_of_the_sdk_says_whether_the_call_may_have_had_its_effect(
    error: Exception,
    code: str,
    is_ambiguous: bool,  # noqa: FBT001  a table's column
) -> None:
    told = sdk_failure(error, "op", "eastus", changing=True)
    assert (told.code, told.ambiguous) == (code, is_ambiguous)
    assert not sdk_failure(error, "op", "eastus", changing=False).ambiguous


POOL = None


@pytest.mark.parametrize(
    ("cause", "is_ambiguous"),
    [
        (requests.ConnectionError(wire.MaxRetryError(POOL, "/", wire.NewConnectionError(POOL, "no"))), False),  # type: ignore[arg-type]
        (requests.ConnectTimeout(wire.MaxRetryError(POOL, "/", wire.ConnectTimeoutError("no"))), False),  # type: ignore[arg-type]
        (requests.exceptions.SSLError("no"), False),
        (requests.ConnectionError(wire.ReadTimeoutError(POOL, "/", "half of the body")), True),  # type: ignore[arg-type]
        (requests.ConnectionError("whatever"), True),
        (None, False),  # the SDK itself refused, before it sent anything
    ],
)
def test_only_a_connection_that_never_was_is_believed_to_have_sent_nothing(
    cause: Exception | None,
    is_ambiguous: bool,  # noqa: FBT001  a table's column
) -> None:
    """The SDK calls each connection error "not sent", also one in the middle of the answer's body."""
    told = sdk_failure(sdk.ServiceRequestError("no", error=cause), "op", "", changing=True)
    assert (told.code, told.ambiguous) == ("cloud_unreachable", is_ambiguous)


def test_a_signature_in_an_address_is_not_told() -> None:
    error = sdk.ServiceRequestError("Max retries exceeded with url: /log?sig=SECRET&se=1 (Caused by …)")
    assert "SECRET" not in sdk_failure(error, "op", "", changing=False).why


# Over the wire --------------------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path) -> Iterator[AzurePlace]:
    clock = VirtualClock()
    with EmulatedClouds(tmp_path, Settings(clouds=("azure",), boots=False), clock=clock) as clouds:
        yield AzurePlace(clouds, clock)


@pytest.fixture
def work(place: AzurePlace) -> Work:
    return Work(place)


def goes_wrong(place: AzurePlace, operation: str, effect: Effect, error: ErrorClass = ErrorClass.INTERNAL) -> None:
    place.clouds.faults.add(FaultRule(Fault(effect, error), provider="azure", operation=operation))


MAKE, DELETE = "virtualMachines.createOrUpdate", "virtualMachines.delete"


@pytest.mark.parametrize(
    ("error", "code", "is_ambiguous"),
    [
        (ErrorClass.CAPACITY, "cloud_capacity", False),
        (ErrorClass.QUOTA, "cloud_quota", False),
        (ErrorClass.THROTTLED, "cloud_throttled", False),
        (ErrorClass.DENIED, "cloud_denied", False),
        (ErrorClass.AUTH, "cloud_auth", False),
        (ErrorClass.UNAVAILABLE, "cloud_unreachable", True),
        (ErrorClass.INTERNAL, "cloud_unreachable", True),
    ],
)
def test_a_refused_create_is_sent_once_and_told_in_our_words(
    place: AzurePlace,
    work: Work,
    error: ErrorClass,
    code: str,
    is_ambiguous: bool,  # noqa: FBT001  a table's column
) -> None:
    work.lay_ground(Kind.MACHINE)
    goes_wrong(place, MAKE, Effect.REFUSE, error)
    refusal = work.refused(work.desired(Kind.MACHINE))
    assert (refusal.code, refusal.ambiguous) == (code, is_ambiguous)
    assert refusal.request_id
    assert [call.action for call in place.clouds.journal()].count(MAKE) == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ErrorClass.CAPACITY, "cloud_capacity"),
        (ErrorClass.QUOTA, "cloud_quota"),
        (ErrorClass.INTERNAL, "cloud_unreachable"),
    ],
)
def test_a_machine_that_fails_after_it_was_accepted_stays_behind_and_is_named(
    place: AzurePlace, work: Work, error: ErrorClass, code: str
) -> None:
    work.lay_ground(Kind.MACHINE)
    goes_wrong(place, MAKE, Effect.OPERATION_ERROR, error)
    operation = work.connector.begin_create(work.desired(Kind.MACHINE), "token")
    outcome = work.outcome(operation)
    assert isinstance(outcome, Failed)
    failure = outcome.cloud_error()
    assert (failure.code, failure.ambiguous) == (code, False)
    assert outcome.found is not None
    assert (outcome.found.ref.id, outcome.found.state) == (operation.ref.id, State.FAILED)
    assert work.finish(work.connector.begin_delete(outcome.found.ref)) is None


def test_a_process_that_lost_the_operation_learns_from_the_machine_why_it_failed(place: AzurePlace, work: Work) -> None:
    work.lay_ground(Kind.MACHINE)
    desired = work.desired(Kind.MACHINE)
    goes_wrong(place, MAKE, Effect.OPERATION_ERROR, ErrorClass.CAPACITY)
    work.outcome(work.connector.begin_create(desired, "token"))
    again = work.outcome(work.connector.begin_create(desired, "token"))
    assert isinstance(again, Failed)
    assert again.cloud_error().code == "cloud_capacity"
    assert again.found is not None


def test_an_operation_that_says_done_and_is_not_has_failed(place: AzurePlace, work: Work) -> None:
    work.lay_ground(Kind.FIREWALL)
    goes_wrong(place, "networkSecurityGroups.createOrUpdate", Effect.SAYS_DONE_AND_IS_NOT)
    outcome = work.outcome(work.connector.begin_create(work.desired(Kind.FIREWALL), "token"))
    assert isinstance(outcome, Failed)
    assert outcome.cloud_error().code == "cloud_not_found"


def test_a_delete_that_says_done_and_is_not_is_to_be_repeated(place: AzurePlace, work: Work) -> None:
    work.lay_ground(Kind.MACHINE)
    made = work.make(Kind.MACHINE)
    goes_wrong(place, DELETE, Effect.SAYS_DONE_AND_IS_NOT)
    outcome = work.outcome(work.connector.begin_delete(made.ref))
    assert isinstance(outcome, Failed)
    assert outcome.cloud_error().code == "cloud_not_found"
    assert outcome.found is not None
    assert work.finish(work.connector.begin_delete(made.ref)) is None


def test_a_delete_that_fails_later_says_why(place: AzurePlace, work: Work) -> None:
    work.lay_ground(Kind.MACHINE)
    made = work.make(Kind.MACHINE)
    goes_wrong(place, DELETE, Effect.OPERATION_ERROR, ErrorClass.DENIED)
    outcome = work.outcome(work.connector.begin_delete(made.ref))
    assert isinstance(outcome, Failed)
    assert outcome.cloud_error().code == "cloud_denied"


def test_a_lost_request_is_as_ambiguous_as_a_lost_answer(place: AzurePlace, work: Work) -> None:
    work.lay_ground(Kind.MACHINE)
    goes_wrong(place, MAKE, Effect.LOST_REQUEST)
    refusal = work.refused(work.desired(Kind.MACHINE))
    assert (refusal.code, refusal.ambiguous) == ("cloud_unreachable", True)
    assert work.connector.find(work.desired(Kind.MACHINE)) is None


def test_a_read_that_does_not_get_through_is_repeated(place: AzurePlace, work: Work) -> None:
    made = work.make(Kind.GROUP)
    for effect in (Effect.LOST_REQUEST, Effect.LOST_ANSWER):
        goes_wrong(place, "resourceGroups.get", effect)
    assert work.connector.observe(made.ref).state is State.READY


def test_a_lock_keeps_what_it_locks_and_is_named(place: AzurePlace, work: Work) -> None:
    work.lay_ground(Kind.FIREWALL)
    made = work.make(Kind.FIREWALL)
    place.clouds.azure.locks[made.ref.id] = "CanNotDelete"
    with pytest.raises(CloudError) as raised:
        work.connector.begin_delete(made.ref)
    assert (raised.value.code, raised.value.cloud_code) == ("cloud_denied", "ScopeLocked")
    assert "lock" in raised.value.next


# Servers that are no Azure --------------------------------------------------------------------------------------------


class Answers(BaseHTTPRequestHandler):
    status, body, headers_told = 200, b"", ()
    asked: ClassVar[list[str]] = []

    def _answer(self) -> None:
        self.asked.append(f"{self.command} {self.path} {self.headers.get('Authorization', '')}".strip())
        self.send_response(self.status)
        for name, value in self.headers_told:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    do_GET = do_PUT = do_DELETE = _answer  # noqa: N815  the base class looks for these names

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""


@contextmanager
def server(status: int, body: bytes, **headers: str) -> Iterator[tuple[AzureCalls, list[str]]]:
    asked: list[str] = []
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    handler = type("Handler", (Answers,), {
        "status": status, "body": body, "headers_told": tuple(told.items()), "asked": asked,
    })  # fmt: skip
    serving = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    endpoint = f"http://127.0.0.1:{serving.server_address[1]}"
    try:
        environment = {"GRAFOS_AZURE_ENDPOINT": endpoint, "AZURE_SUBSCRIPTION_ID": EMULATED_SUBSCRIPTION}
        yield AzureCalls(environment=environment), asked
    finally:
        serving.shutdown()
        thread.join()
        serving.server_close()


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
def test_a_read_is_tried_three_times_and_a_change_once(status: int) -> None:
    with server(status, b"<html>", retry_after_ms="1") as (calls, asked):
        with pytest.raises(CloudError) as read:
            calls.read("resources", "resource_groups.get", "", "g")
        assert len(asked) == 3
        with pytest.raises(CloudError):
            calls.change("resources", "resource_groups.create_or_update", "", "g", {"location": "eastus"})
        with pytest.raises(CloudError):
            calls.change("resources", "resource_groups.begin_delete", "", "g")
        assert len(asked) == 5
    assert read.value.code in {"cloud_unreachable", "cloud_throttled"}


def test_who_is_asked_to_wait_long_is_told_so_and_does_not_wait() -> None:
    with server(429, b"", retry_after="1235") as (calls, asked):
        with pytest.raises(CloudError) as raised:
            calls.read("resources", "resource_groups.get", "", "g")
        assert len(asked) == 1
    assert (raised.value.code, raised.value.retry_after_s) == ("cloud_throttled", 1235.0)


@pytest.mark.parametrize("body", [b"", b"<html>hello</html>", b"{", b"[]", b'"text"', b"null", b"{}"])
def test_an_answer_that_is_none_is_an_error_of_ours(body: bytes) -> None:
    with server(200, body, content_type="application/json") as (calls, _):
        with pytest.raises(CloudError) as raised:
            read_resource(calls, parse("/subscriptions/s/resourceGroups/g"), "")
        assert raised.value.code == "cloud_unknown"
        if body != b"{}":
            with pytest.raises(CloudError):
                calls.get("/subscriptions/s")


def test_an_operation_that_is_asked_about_elsewhere_is_not_asked_about() -> None:
    """An answer that names another server's address gets no token sent there."""
    with server(202, b"", location="http://127.0.0.2:9/steal", retry_after_ms="1") as (calls, asked):
        begun = calls.change("resources", "resource_groups.begin_delete", "", "g")
        with pytest.raises(CloudError) as raised:
            calls.step(begun.token)
        assert len(asked) == 1
    assert raised.value.code == "credentials_mixed"


def test_a_redirection_is_not_followed() -> None:
    with server(307, b"", location="http://127.0.0.2:9/steal") as (calls, asked):
        with pytest.raises(CloudError) as raised:
            calls.read("resources", "resource_groups.get", "", "g")
        assert len(asked) == 1
    assert raised.value.code == "cloud_unknown"


def test_no_server_at_all_is_unreachable_and_sent_nothing() -> None:
    with server(200, b"") as (calls, _):
        pass
    with pytest.raises(CloudError) as raised:
        calls.change("resources", "resource_groups.begin_delete", "", "g")
    assert (raised.value.code, raised.value.ambiguous) == ("cloud_unreachable", False)
    assert "grafos emulate" in raised.value.next


def test_a_token_that_another_version_wrote_leaves_the_question_to_the_resource() -> None:
    with server(200, b"{}") as (calls, asked):
        for token in ("not base64!", "aGVsbG8=", "e30="):
            assert calls.step(token).state == "unknown"
        assert asked == []
