"""Each error of ARM and of the SDK becomes one of ours, by its code; an unknown one keeps the cloud's words.

The SDK's exception classes follow from HTTP numbers (any 409 is a ``ResourceExistsError``, also one that says that a
machine size is sold out), so they say nothing. Only the code in the answer does, or where there is none, the number.

Sources: https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/common-deployment-errors and
https://learn.microsoft.com/azure/virtual-machines/error-codes
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from azure.core import exceptions as sdk
from azure.identity import CredentialUnavailableError
from requests import exceptions as transport
from urllib3 import exceptions as wire

from grafos_connectors.contract import CloudError

# The whole code, first. What is not here goes by the words, beginnings and ends below.
CODES: dict[str, str] = {
    "AllocationFailed": "cloud_capacity",
    "AnotherOperationInProgress": "cloud_conflict",
    "AuthenticationFailed": "cloud_auth",
    "AuthenticationFailedInvalidHeader": "cloud_auth",
    "AuthorizationFailed": "cloud_denied",
    "BadRequest": "cloud_invalid",
    "Canceled": "cloud_conflict",
    "CannotDeleteResource": "cloud_in_use",
    "Conflict": "cloud_conflict",
    "ConflictingUserInput": "cloud_conflict",
    "DisallowedOperation": "cloud_denied",
    "DisallowedProvider": "cloud_denied",
    "ExpiredAuthenticationToken": "cloud_auth",
    "Forbidden": "cloud_denied",
    "GatewayTimeout": "cloud_unreachable",
    "ImageNotFound": "cloud_invalid",  # asking again does not make an image appear
    "InternalExecutionError": "cloud_unreachable",
    "InternalOperationError": "cloud_unreachable",
    "InternalServerError": "cloud_unreachable",
    "InvalidAuthenticationInfo": "cloud_auth",
    "InvalidAuthenticationToken": "cloud_auth",
    "InvalidAuthenticationTokenAudience": "cloud_auth",
    "InvalidAuthenticationTokenTenant": "cloud_auth",
    "InvalidResourceGroup": "cloud_invalid",
    "InvalidResourceLocation": "cloud_conflict",
    "InvalidResourceReference": "cloud_not_found",
    "LinkedAuthorizationFailed": "cloud_denied",
    "LocationDoesNotSupportAvailabilityZones": "cloud_invalid",
    "LocationNotAvailableForResourceGroup": "cloud_invalid",
    "LocationNotAvailableForResourceType": "cloud_invalid",
    "LocationRequired": "cloud_invalid",
    "LocationNotSupportAvailabilityZones": "cloud_invalid",
    "MarketplacePurchaseEligibilityFailed": "cloud_denied",
    "MissingApiVersionParameter": "cloud_invalid",
    "MissingSubscriptionRegistration": "cloud_denied",
    "NetcfgInvalidSubnet": "cloud_invalid",
    "NetcfgSubnetRangesOverlap": "cloud_conflict",
    "NetworkingInternalOperationError": "cloud_unreachable",
    "NicInUse": "cloud_in_use",
    "NicReservedForAnotherVm": "cloud_in_use",
    "NoRegisteredProviderFound": "cloud_invalid",
    "NotFound": "cloud_not_found",
    "OSProvisioningClientError": "cloud_invalid",
    "OSProvisioningInternalError": "cloud_unreachable",
    "OSProvisioningTimedOut": "cloud_unreachable",
    "OperationNotAllowed": "cloud_conflict",  # or a quota, by its words
    "OperationPreempted": "cloud_conflict",
    "OverconstrainedAllocationRequest": "cloud_capacity",
    "OverconstrainedZonalAllocationRequest": "cloud_capacity",
    "ParentResourceNotFound": "cloud_not_found",
    "PlatformImageNotFound": "cloud_invalid",
    "PreconditionFailed": "cloud_conflict",
    "PropertyChangeNotAllowed": "cloud_conflict",
    "PublicIPAddressInUse": "cloud_in_use",
    "QuotaExceeded": "cloud_quota",
    "ReadOnlyDisabledSubscription": "cloud_denied",
    "ReferencedResourceNotProvisioned": "cloud_not_found",
    "RequestDisallowedByAzure": "cloud_denied",
    "RequestDisallowedByPolicy": "cloud_denied",
    "ResourceGroupBeingDeleted": "cloud_conflict",
    "ResourceGroupNotFound": "cloud_not_found",
    "ResourceNotFound": "cloud_not_found",
    "ResourcePurchaseValidationFailed": "cloud_denied",
    "RetryableError": "cloud_unreachable",
    "ScopeLocked": "cloud_denied",
    "ServerBusy": "cloud_throttled",
    "ServerTimeout": "cloud_unreachable",
    "ServiceUnavailable": "cloud_unreachable",
    "SkuNotAvailable": "cloud_capacity",
    "SubscriptionNotFound": "cloud_denied",
    "SubscriptionNotRegistered": "cloud_denied",
    "SubscriptionRequestsThrottled": "cloud_throttled",
    "TooManyRequests": "cloud_throttled",
    "UnsupportedApiVersion": "cloud_invalid",
    "VMStartTimedOut": "cloud_unreachable",
    "ZonalAllocationFailed": "cloud_capacity",
}
# Codes that ARM gives to many refusals, and words of the message that tell one of them.
WORDS: tuple[tuple[str, str, str], ...] = (
    ("OperationNotAllowed", "quota", "cloud_quota"),
    ("OperationNotAllowed", "is attached to", "cloud_in_use"),  # DELETE of a disk
    ("Conflict", "is attached to", "cloud_in_use"),
)
ENDINGS: tuple[tuple[str, str], ...] = (
    ("CannotBeDeleted", "cloud_in_use"),
    ("QuotaExceeded", "cloud_quota"),
    ("LimitReached", "cloud_quota"),
    ("LimitExceeded", "cloud_quota"),
    ("Throttled", "cloud_throttled"),
    ("NotFound", "cloud_not_found"),
    ("AlreadyExists", "cloud_conflict"),
)
BEGINNINGS: tuple[tuple[str, str], ...] = (
    ("InUse", "cloud_in_use"),
    ("InvalidAuthenticationToken", "cloud_auth"),
    ("Invalid", "cloud_invalid"),
    ("VMSizeDoesntSupport", "cloud_invalid"),
)
# Codes that only say that something inside was refused; the first of their details says what.
WRAPPERS = frozenset(
    {"DeploymentFailed", "MultipleErrorsOccurred", "ResourceOperationFailure", "ResourceDeploymentFailure"}
)
# The number of an answer without any code, as a gateway on the way gives it.
STATUSES: dict[int, str] = {
    400: "cloud_invalid",
    401: "cloud_auth",
    403: "cloud_denied",
    404: "cloud_not_found",
    408: "cloud_unreachable",
    409: "cloud_conflict",
    412: "cloud_conflict",
    429: "cloud_throttled",
}
THROTTLED, SERVER_ERROR = 429, 500

# The SDK's own exceptions, the first that fits: its class, our code, and whether the request may have been sent.
SDK_EXCEPTIONS: tuple[tuple[type[Exception], str, bool], ...] = (
    (CredentialUnavailableError, "credentials_missing", False),
    (sdk.ClientAuthenticationError, "cloud_auth", False),  # of a token that was asked for, not of ARM's answer
    (sdk.ServiceRequestTimeoutError, "cloud_unreachable", False),
    (sdk.ServiceRequestError, "cloud_unreachable", False),  # unless ``may_be_sent``
    (sdk.ServiceResponseError, "cloud_unreachable", True),
    (sdk.IncompleteReadError, "cloud_unreachable", True),
    (sdk.StreamConsumedError, "cloud_unreachable", True),
    (sdk.StreamClosedError, "cloud_unreachable", True),
    (sdk.ResponseNotReadError, "cloud_unreachable", True),
    (sdk.DecodeError, "cloud_unknown", True),
    (sdk.TooManyRedirectsError, "cloud_unknown", True),
    (sdk.HttpResponseError, "cloud_unknown", True),
    (sdk.SerializationError, "cloud_invalid", False),
    (sdk.DeserializationError, "cloud_unknown", True),
    (sdk.AzureError, "cloud_unknown", True),
)
# What the SDK's readers raise over an answer that is no answer: none of its own classes.
NONSENSE = (AttributeError, KeyError, TypeError, ValueError)
# What the HTTP library says when it did not get as far as sending. The SDK calls more than these "not sent".
NOT_SENT = (
    wire.NewConnectionError,
    wire.ConnectTimeoutError,
    wire.NameResolutionError,
    wire.ProxyError,
    wire.SSLError,
    transport.ConnectTimeout,
    transport.ProxyError,
    transport.SSLError,
)

NEXT_STEPS: dict[str, str] = {
    "cloud_auth": "Sign in again (`az login`) and check this machine's clock; `az account show` must work.",
    "cloud_capacity": "Take another zone, region or machine type, or try again later.",
    "cloud_denied": "Ask the subscription's owner for the permission that the message names.",
    "cloud_quota": "Ask Azure for a higher quota (Quotas in the portal), or free what is not needed.",
    "cloud_throttled": "Wait a little and try again.",
    "cloud_unreachable": "Check the network; an emulated Azure is started by `grafos emulate up`.",
    "credentials_missing": "Run `az login`, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET; "
    "or use `grafos emulate`.",
}
CODE_NEXT_STEPS: dict[str, str] = {
    "MissingSubscriptionRegistration": "Register it: az provider register --namespace NAMESPACE --wait.",
    "ReadOnlyDisabledSubscription": "Switch the subscription on again; it is disabled and can only be read.",
    "RequestDisallowedByPolicy": "Ask whoever keeps the subscription's Azure Policy; the message names the rule.",
    "ScopeLocked": "Remove the lock that the message names: az lock delete.",
    "SubscriptionNotFound": "Check AZURE_SUBSCRIPTION_ID; `az account list` shows yours.",
}

# Classes of refusals that say that the cloud did nothing, whatever HTTP status they came with.
WITHOUT_EFFECT = frozenset({"cloud_auth", "cloud_capacity", "cloud_denied", "cloud_quota", "cloud_throttled"})
QUERY = re.compile(r"\?[^\s'\")]*")  # of an address within a message; that of a console's text holds a signature
DEPTH_MAX = 4  # of details within details


class Refusal(NamedTuple):
    """What an answer says went wrong: the code, in ARM's words, and the message."""

    code: str = ""
    message: str = ""


@contextmanager
def translated(operation: str, region: str, *, changing: bool) -> Iterator[None]:
    """Turns whatever the SDK raises inside into a ``CloudError``; ``changing`` decides whether it can be ambiguous."""
    try:
        yield
    except sdk.HttpResponseError as error:
        response: Any = error.response
        if response is None or response.status_code < min(STATUSES) or _of_a_token(error):
            raise sdk_failure(error, operation, region, changing=changing) from error
        refusal = refusal_in(_text(response))
        raise refused(refusal, response.status_code, response.headers, operation, region, changing=changing) from error
    except (sdk.AzureError, sdk.SerializationError, sdk.DeserializationError, *NONSENSE) as error:
        raise sdk_failure(error, operation, region, changing=changing) from error


def code_of(cloud_code: str, message: str = "", status: int = 0) -> str:
    """Our class of one of ARM's codes; ``status`` is that of the answer, 0 in an operation's own error."""
    if status == THROTTLED:  # "OperationNotAllowed" and others come with it
        return "cloud_throttled"
    if not cloud_code:
        return STATUSES.get(status, "cloud_unreachable" if status >= SERVER_ERROR else "cloud_unknown")
    for ambiguous_code, words, code in WORDS:
        if cloud_code == ambiguous_code and words in message.lower():
            return code
    if cloud_code in CODES:
        return CODES[cloud_code]
    by_end = (code for ending, code in ENDINGS if cloud_code.endswith(ending))
    by_start = (code for beginning, code in BEGINNINGS if cloud_code.startswith(beginning))
    known = next(by_end, None) or next(by_start, None)
    return known or ("cloud_unreachable" if status >= SERVER_ERROR else "cloud_unknown")


def refusal_in(text: str) -> Refusal:
    """The error in a body: ARM's envelope, an operation's status, or the bare error that some services send."""
    try:
        document = json.loads(text)
    except ValueError:
        return Refusal()
    return refusal_of(document)


def refusal_of(document: Any) -> Refusal:
    """The error in a document that was read already."""
    error = document.get("error", document) if isinstance(document, Mapping) else None
    for _ in range(DEPTH_MAX):
        if not isinstance(error, Mapping):
            break
        details = error.get("details")
        inner = details[0] if isinstance(details, list) and details else None
        if error.get("code") not in WRAPPERS or not isinstance(inner, Mapping) or not inner.get("code"):
            return Refusal(str(error.get("code") or ""), str(error.get("message") or ""))
        error = inner
    return Refusal()


def refused(
    refusal: Refusal, status: int, headers: Mapping[str, str], operation: str, region: str, *, changing: bool
) -> CloudError:
    """The error in an answer of the cloud."""
    code = code_of(refusal.code, refusal.message, status)
    return CloudError(
        code,
        f"Azure refused {operation}: {refusal.code or f'HTTP {status}'}.",
        where=f"azure {region}".strip(),
        why=refusal.message,
        next=CODE_NEXT_STEPS.get(refusal.code, NEXT_STEPS.get(code, "")),
        cloud_code=refusal.code or str(status),
        request_id=headers.get("x-ms-request-id", ""),
        retry_after_s=retry_after_s(headers),
        ambiguous=changing and code not in WITHOUT_EFFECT and (status >= SERVER_ERROR or code == "cloud_unknown"),
    )


def operation_failed(refusal: Refusal, what: str, region: str) -> CloudError:
    """Why a change that ARM had accepted came to nothing. Nothing is ambiguous any more: the operation has ended."""
    code = code_of(refusal.code, refusal.message)
    return CloudError(
        code,
        f"{what} failed: {refusal.code or 'no reason given'}.",
        where=f"azure {region}".strip(),
        why=refusal.message,
        next=CODE_NEXT_STEPS.get(refusal.code, NEXT_STEPS.get(code, "")),
        cloud_code=refusal.code,
    )


def sdk_failure(error: Exception, operation: str, region: str, *, changing: bool) -> CloudError:
    """An error of the SDK itself: no token, nothing sent, no answer, or an answer that it could not read."""
    known = ((code, sent) for kind, code, sent in SDK_EXCEPTIONS if isinstance(error, kind))
    code, sent = next(known, ("cloud_unknown", True))
    if isinstance(error, sdk.ServiceRequestError):
        sent = may_be_sent(error)
    return CloudError(
        code,
        f"{operation} did not succeed: {type(error).__name__}.",
        where=f"azure {region}".strip(),
        why=QUERY.sub("?…", " ".join(str(error).split())),
        next=NEXT_STEPS.get(code, ""),
        cloud_code=type(error).__name__,
        ambiguous=changing and sent,
    )


def may_be_sent(error: sdk.ServiceRequestError) -> bool:
    """Whether a request may have arrived though the SDK calls it not sent.

    It does so of every connection error that is no protocol error, also of a body that stopped coming half-way.
    """
    cause: Any = error.inner_exception
    if cause is None:  # raised by the SDK itself, before the request went on its way
        return False
    while isinstance(cause, BaseException):
        if isinstance(cause, NOT_SENT):
            return False
        below = getattr(cause, "reason", None)
        cause = below if isinstance(below, BaseException) else next(iter(cause.args), None)
    return True


def no_answer(operation: str, region: str) -> CloudError:
    """Where the answer to a read should be is something else, as a captive portal's page."""
    return CloudError(
        "cloud_unknown",
        f"What was answered to {operation} is no answer of Azure's.",
        where=f"azure {region}".strip(),
        next="Check whether a proxy or a portal stands between this machine and Azure.",
    )


def retry_after_s(headers: Mapping[str, str]) -> float:
    """How long ARM asks to wait; 0 when it does not say, or says a date, which it does not send."""
    for name, unit_s in (("retry-after-ms", 0.001), ("x-ms-retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name, "")
        if text.replace(".", "", 1).isdigit():
            return float(text) * unit_s
    return 0.0


def _text(response: Any) -> str:
    try:
        return str(response.text())
    except Exception:  # noqa: BLE001  a body that cannot be read says nothing, whatever the SDK raises over it
        return ""


def _of_a_token(error: sdk.HttpResponseError) -> bool:
    """Whether it came from where tokens are made: there ``error`` is a word and no object, or nothing was answered."""
    if not isinstance(error, sdk.ClientAuthenticationError):
        return False
    try:
        document = json.loads(_text(error.response))
    except ValueError:
        return error.response is None
    return isinstance(document, dict) and isinstance(document.get("error"), str)
