"""Each refusal of Google Cloud and each failure of the SDK becomes one of ours; an unknown one keeps the cloud's words.

Two channels say no: an HTTP error with a ``reason``, and an operation that ends with an error ``code``. Many words are
the same in both, written ``quotaExceeded`` here and ``QUOTA_EXCEEDED`` there; one table holds them.

Source: https://cloud.google.com/compute/docs/troubleshooting/troubleshooting-vm-creation and the error reasons of
https://cloud.google.com/storage/docs/json_api/v1/status-codes, which Google's JSON interfaces share.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import requests
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.protobuf import json_format
from urllib3 import exceptions as wire

from grafos_connectors.contract import CloudError

# By reason or code, in small letters and without what separates words.
REASONS: dict[str, str] = {
    "accessnotconfigured": "cloud_denied",
    "accesstokenexpired": "cloud_auth",
    "accesstokenscopeinsufficient": "cloud_denied",
    "accountdeleted": "cloud_denied",
    "accountdisabled": "cloud_denied",
    "accountunverified": "cloud_denied",
    "alreadyexists": "cloud_conflict",
    "apikeyinvalid": "cloud_auth",
    "autherror": "cloud_auth",
    "backenderror": "cloud_unreachable",
    "badrequest": "cloud_invalid",
    "billingdisabled": "cloud_denied",
    "billingnotenabled": "cloud_denied",
    "concurrentlimitexceeded": "cloud_throttled",
    "conditionnotmet": "cloud_conflict",  # or denied, when the message names an organization's constraint
    "conflict": "cloud_conflict",
    "consumerinvalid": "cloud_denied",
    "consumersuspended": "cloud_denied",
    "credentialsmissing": "cloud_auth",
    "dailylimitexceeded": "cloud_quota",
    "deadlineexceeded": "cloud_unreachable",
    "deleted": "cloud_not_found",
    "deprovisioned": "cloud_not_found",
    "duplicate": "cloud_conflict",
    "expired": "cloud_auth",
    "fieldblocked": "cloud_invalid",
    "forbidden": "cloud_denied",
    "iampermissiondenied": "cloud_denied",
    "insufficientpermissions": "cloud_denied",
    "internal": "cloud_unreachable",
    "internalerror": "cloud_unreachable",
    "invalid": "cloud_invalid",
    "invalidargument": "cloud_invalid",
    "invalidcredentials": "cloud_auth",
    "invalidparameter": "cloud_invalid",
    "invalidusage": "cloud_invalid",
    "ipspaceexhausted": "cloud_capacity",
    "ipspaceexhaustedwithdetails": "cloud_capacity",
    "keyexpired": "cloud_auth",
    "keyinvalid": "cloud_auth",
    "limitexceeded": "cloud_quota",
    "liveserviceagentnotfound": "cloud_denied",
    "methodnotallowed": "cloud_invalid",
    "notfound": "cloud_not_found",
    "notimplemented": "unsupported",
    "operationcanceledbyuser": "cloud_conflict",
    "orgpolicyviolated": "cloud_denied",
    "parseerror": "cloud_invalid",
    "permissiondenied": "cloud_denied",
    "permissionserror": "cloud_denied",
    "quotaexceeded": "cloud_quota",
    "ratelimitexceeded": "cloud_throttled",
    "required": "cloud_invalid",
    "resourcealreadyexists": "cloud_conflict",
    "resourceavailability": "cloud_capacity",
    "resourceinuse": "cloud_in_use",
    "resourceinusebyanotherresource": "cloud_in_use",
    "resourcenotfound": "cloud_not_found",
    "resourcenotready": "cloud_not_found",  # there, and not usable yet
    "resourceoperationrateexceeded": "cloud_throttled",
    "resourcepoolexhausted": "cloud_capacity",
    "resourcepoolexhaustedwithdetails": "cloud_capacity",
    "responsetoolarge": "cloud_invalid",
    "servicedisabled": "cloud_denied",
    "stockout": "cloud_capacity",
    "unauthorized": "cloud_auth",
    "unavailable": "cloud_unreachable",
    "unsupportedoperation": "cloud_invalid",
    "userratelimitexceeded": "cloud_throttled",
    "userprojectdenied": "cloud_denied",
    "zoneresourcepoolexhausted": "cloud_capacity",
    "zoneresourcepoolexhaustedwithdetails": "cloud_capacity",
}
# Reasons that are given to many refusals, and words of the message that tell one of them.
WORDS: tuple[tuple[str, str, str], ...] = (
    ("conditionnotmet", "constraints/", "cloud_denied"),  # a policy of the organization
    ("invalid", "cannot be found", "cloud_not_found"),  # "The referenced network resource cannot be found."
    ("invalid", "conflicts with existing subnetwork", "cloud_conflict"),
    ("invalid", "is not ready", "cloud_not_found"),
    ("invalid", "is already being used by", "cloud_in_use"),
    ("unsupportedoperation", "does not have enough resources", "cloud_capacity"),
)
# By the answer's status, when neither reason nor code is known: these numbers mean the same whatever is said with them.
STATUSES = {401: "cloud_auth", 429: "cloud_throttled"}
SERVER_ERROR = 500
BARE_SERVER_ERRORS = {500, 502, 503, 504}  # of a front end, when no document says more

# Failures of the SDK and of what it stands on, the first that fits: class, our code, whether the request may have been
# sent. A ``requests.ConnectionError`` is looked into: most often no connection was made.
SDK_EXCEPTIONS: tuple[tuple[type[Exception], str, bool], ...] = (
    (auth.InvalidOperation, "cloud_auth", False),
    (auth.DefaultCredentialsError, "credentials_missing", False),
    (auth.TransportError, "cloud_unreachable", False),  # of the login service: the request itself waits for its token
    (auth.TimeoutError, "cloud_unreachable", False),
    (auth.ResponseError, "cloud_auth", False),
    (auth.GoogleAuthError, "cloud_auth", False),
    (requests.ConnectTimeout, "cloud_unreachable", False),
    (requests.exceptions.ProxyError, "cloud_unreachable", False),
    (requests.exceptions.InvalidURL, "cloud_invalid", False),
    (requests.exceptions.InvalidSchema, "cloud_invalid", False),
    (requests.exceptions.MissingSchema, "cloud_invalid", False),
    (requests.exceptions.InvalidHeader, "cloud_invalid", False),
    (requests.ConnectionError, "cloud_unreachable", True),
    (requests.Timeout, "cloud_unreachable", True),
    (requests.exceptions.ChunkedEncodingError, "cloud_unreachable", True),
    (requests.exceptions.ContentDecodingError, "cloud_unreachable", True),
    (requests.RequestException, "cloud_unknown", True),
    (api.GoogleAPIError, "cloud_unknown", True),
    (json_format.ParseError, "cloud_unknown", True),
)

NEXT_STEPS: dict[str, str] = {
    "cloud_auth": "Log in again: gcloud auth application-default login; a service account's key may have been revoked.",
    "cloud_capacity": "Take another zone or machine type, or try again later.",
    "cloud_denied": "Ask the project's owner for the permission that the message names.",
    "cloud_quota": "Ask for a higher quota (IAM & Admin, Quotas, in the console), or free what is not needed.",
    "cloud_throttled": "Wait a little and try again.",
    "cloud_unreachable": "Check the network; an emulated Google Cloud is started by `grafos emulate up`.",
    "credentials_missing": (
        "Run gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS; or use `grafos emulate`."
    ),
}
API_OFF = "Switch it on: gcloud services enable compute.googleapis.com cloudbilling.googleapis.com."
BILLING_OFF = "Link a billing account to the project: gcloud billing projects link PROJECT --billing-account=ACCOUNT."
REASON_NEXT_STEPS: dict[str, str] = {
    "accessnotconfigured": API_OFF,
    "servicedisabled": API_OFF,
    "billingdisabled": BILLING_OFF,
    "billingnotenabled": BILLING_OFF,
    "conditionnotmet": "A policy of the organization may forbid this; ask its administrator.",
}

# Classes of refusals that say that the cloud did nothing, whatever HTTP status they came with.
WITHOUT_EFFECT = frozenset({"cloud_auth", "cloud_capacity", "cloud_denied", "cloud_quota", "cloud_throttled"})
WORDS_MAX_CHARACTERS = 2000  # of what the cloud says, in one error


@contextmanager
def translated(operation: str, where: str, *, changing: bool) -> Iterator[None]:
    """Turns whatever the SDK raises inside into a ``CloudError``; ``changing`` decides whether it can be ambiguous."""
    try:
        yield
    except api.RetryError as error:  # a read's attempts took too long; the last of them says why
        raise _told(error.cause or error, operation, where, changing=changing) from error
    except (api.GoogleAPIError, auth.GoogleAuthError, requests.RequestException, json_format.ParseError) as error:
        raise _told(error, operation, where, changing=changing) from error


def _told(error: Exception, operation: str, where: str, *, changing: bool) -> CloudError:
    response = error.response if isinstance(error, api.GoogleAPICallError) else None
    if isinstance(response, requests.Response):
        headers = {name.lower(): value for name, value in response.headers.items()}
        return refusal(response.status_code, response.content, headers, operation, where, changing=changing)
    return sdk_failure(error, operation, where, changing=changing)


def code_of(reason: str, message: str = "") -> str:
    """Our class of a reason or of an operation's error code; ``cloud_unknown`` for one that is not in the table."""
    plain = _plain(reason)
    for ambiguous, words, code in WORDS:
        if plain == ambiguous and words in message:
            return code
    return REASONS.get(plain, "cloud_unknown")


def refusal(
    status: int, content: bytes, headers: Mapping[str, str], operation: str, where: str, *, changing: bool
) -> CloudError:
    """The error in an HTTP answer; ``headers`` by small letters."""
    error = _error_in(content)
    reasons = _reasons(error)
    message = str(error.get("message") or "")
    codes = [(code_of(reason, message), reason) for reason in reasons]
    code, reason = next(
        (pair for pair in codes if pair[0] != "cloud_unknown"),
        (STATUSES.get(status, "cloud_unknown"), reasons[0] if reasons else ""),
    )
    if not error and status in BARE_SERVER_ERRORS:
        code = "cloud_unreachable"
    return CloudError(
        code,
        f"Google Cloud refused {operation}: {reason or f'HTTP {status}'}.",
        where=where,
        why=_short(message or content.decode(errors="replace")),
        next=_next_step(code, reason),
        cloud_code=reason or str(status),
        request_id=headers.get("x-goog-request-id", ""),
        alternatives=offered_zones(error.get("details", ())),
        retry_after_s=_seconds(headers.get("retry-after", "")),
        ambiguous=changing and code not in WITHOUT_EFFECT and (status >= SERVER_ERROR or code == "cloud_unknown"),
    )


def says_not_found(refusal: CloudError) -> bool:
    """Whether the cloud has no such resource; others of the class say that there is one, which is not ready."""
    return _plain(refusal.cloud_code) in {"notfound", "resourcenotfound"}


def says_already_exists(refusal: CloudError) -> bool:
    """Whether the name is taken; others of the class say that a condition is not met."""
    return _plain(refusal.cloud_code) in {"alreadyexists", "resourcealreadyexists"}


def operation_error(document: Mapping[str, Any], where: str) -> CloudError | None:
    """Why an operation failed, None if it did not. It says so for good: nothing about it is ambiguous."""
    errors = document.get("error", {}).get("errors", ())
    status = int(document.get("httpErrorStatusCode", 0))
    if not errors and not status:
        return None
    told = [(str(error.get("code", "")), str(error.get("message", "")), error) for error in errors]
    told = told or [(str(status), str(document.get("httpErrorMessage", "")), {})]
    cloud_code, message, error = next((each for each in told if code_of(*each[:2]) != "cloud_unknown"), told[0])
    code = code_of(cloud_code, message)
    zones = [zone for each in errors for zone in offered_zones(each.get("errorDetails", ()))]
    return CloudError(
        code,
        f"Google Cloud could not finish {document.get('operationType', 'the operation')}: {cloud_code}.",
        where=where,
        why=_short(message + _limits(error)),
        next=_next_step(code, cloud_code),
        cloud_code=cloud_code,
        request_id=str(document.get("name", "")),
        alternatives=tuple(dict.fromkeys(zones)),
    )


def sdk_failure(error: Exception, operation: str, where: str, *, changing: bool) -> CloudError:
    """A failure of the SDK itself: nothing sent, no answer, or an answer that it could not read."""
    fits = ((code, sent) for kind, code, sent in SDK_EXCEPTIONS if isinstance(error, kind))
    code, sent = next(fits, ("cloud_unknown", True))
    return CloudError(
        code,
        f"{operation} did not succeed: {type(error).__name__}.",
        where=where,
        why=_short(str(error)),
        next=NEXT_STEPS.get(code, ""),
        cloud_code=type(error).__name__,
        ambiguous=changing and sent and not _never_connected(error),
    )


def no_operation(operation: str, where: str) -> CloudError:
    """For an answer of status 200 to a changing call that says nothing: it may not come from Google at all."""
    return CloudError(
        "cloud_unknown",
        f"{operation} was answered without naming its operation.",
        where=where,
        next="Check whether a proxy stands between this machine and Google.",
        ambiguous=True,
    )


def offered_zones(details: object) -> tuple[str, ...]:
    """The zones with room that an error's details name (``zonesAvailable``: a list with commas, which may be empty)."""
    zones: list[str] = []
    for detail in details if isinstance(details, list | tuple) else ():
        info = detail.get("errorInfo", detail) if isinstance(detail, Mapping) else {}
        said = {**info.get("metadatas", {}), **info.get("metadata", {})}.get("zonesAvailable", "")
        zones += [zone.strip().rpartition("/")[2] for zone in said.split(",")]
    return tuple(dict.fromkeys(zone for zone in zones if zone))


def _error_in(content: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(content)
    except ValueError:
        return {}
    error = document.get("error") if isinstance(document, dict) else None
    return error if isinstance(error, dict) else {}


def _reasons(error: Mapping[str, Any]) -> list[str]:
    """What names the error, the most telling first: details (newer interfaces), ``errors``, the RPC status."""
    details = [detail for detail in error.get("details", ()) if isinstance(detail, Mapping)]
    listed = [each for each in error.get("errors", ()) if isinstance(each, Mapping)]
    said = [each.get("reason") for each in (*details, *listed)]
    return [str(reason) for reason in (*said, error.get("status")) if reason]


def _never_connected(error: Exception) -> bool:
    cause = error.args[0] if error.args else None
    return isinstance(getattr(cause, "reason", None), wire.NewConnectionError | wire.ConnectTimeoutError)


def _limits(error: Mapping[str, Any]) -> str:
    """The limit that was met, when the error's details tell it."""
    for detail in error.get("errorDetails", ()):
        quota = detail.get("quotaInfo")
        if quota:
            return f" ({quota.get('limitName', '')}: {quota.get('limit', '')})"
    return ""


def _next_step(code: str, reason: str) -> str:
    return REASON_NEXT_STEPS.get(_plain(reason), NEXT_STEPS.get(code, ""))


def _plain(word: str) -> str:
    return "".join(letter for letter in word.lower() if letter.isalnum())


def _short(text: str) -> str:
    return " ".join(text.split())[:WORDS_MAX_CHARACTERS]


def _seconds(header: str) -> float:
    """Retry-After's value; 0 when there is none or when it is a date, which Google never sends."""
    return float(header) if header.isdecimal() else 0.0
