"""ARM's refusals and the SDK's own failures become ours, over the real wire format where the wire matters."""

from __future__ import annotations

import inspect
import json

import azure.identity
import pytest
import requests
from azure.core import exceptions as sdk
from urllib3 import exceptions as wire

from grafos_connectors.azure import errors
from grafos_connectors.azure.errors import Refusal, code_of, refusal_in, refused, sdk_failure
from grafos_core.errors import CODES

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
