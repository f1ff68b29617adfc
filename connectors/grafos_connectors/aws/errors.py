"""Each error of EC2 and of the SDK becomes one of ours, by its code; an unknown one keeps the cloud's words.

Source of the codes: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore import exceptions as sdk
from botocore.parsers import ResponseParserError

from grafos_connectors.contract import CloudError

# The whole code, first. What is not here goes by the ends of codes below, as EC2 forms them by rule.
CODES: dict[str, str] = {
    "AccessDenied": "cloud_denied",
    "AccessDeniedException": "cloud_denied",
    "AuthFailure": "cloud_auth",
    "Blocked": "cloud_denied",
    "ConcurrentLimitExceededException": "cloud_throttled",  # EBS direct: so many snapshots at once
    "ConflictException": "cloud_conflict",
    "DependencyViolation": "cloud_in_use",
    "EC2ThrottledException": "cloud_throttled",
    "ExpiredToken": "cloud_auth",
    "ExpiredTokenException": "cloud_auth",
    "Gateway.NotAttached": "cloud_not_found",
    "IdempotentInstanceTerminated": "cloud_conflict",
    "IdempotentParameterMismatch": "cloud_conflict",
    "IncompleteSignature": "cloud_auth",
    "IncorrectInstanceState": "cloud_conflict",
    "IncorrectState": "cloud_conflict",
    "InsufficientAddressCapacity": "cloud_capacity",
    "InsufficientCapacity": "cloud_capacity",
    "InsufficientFreeAddressesInSubnet": "cloud_capacity",
    "InsufficientHostCapacity": "cloud_capacity",
    "InsufficientInstanceCapacity": "cloud_capacity",
    "InsufficientReservedInstanceCapacity": "cloud_capacity",
    "InsufficientVolumeCapacity": "cloud_capacity",
    "InternalError": "cloud_unreachable",
    "InternalFailure": "cloud_unreachable",
    "InternalServerError": "cloud_unreachable",
    "InternalServerException": "cloud_unreachable",
    "InvalidAMIID.NotFound": "cloud_invalid",  # asking again does not make an image appear
    "InvalidAMIID.Unavailable": "cloud_invalid",
    "InvalidBlockDeviceMapping": "cloud_invalid",
    "InvalidClientTokenId": "cloud_auth",
    "InvalidInstanceType": "cloud_invalid",
    "InvalidRequest": "cloud_invalid",
    "InvalidSubnet.Conflict": "cloud_conflict",
    "InvalidSubnet.Range": "cloud_invalid",
    "InvalidVpc.Range": "cloud_invalid",
    "MaxSpotInstanceCountExceeded": "cloud_quota",
    "MissingAuthenticationToken": "cloud_auth",
    "MissingParameter": "cloud_invalid",
    "NoSuchResourceException": "cloud_not_found",
    "OperationNotPermitted": "cloud_denied",  # TerminateInstances, when somebody switched its protection on
    "OptInRequired": "cloud_auth",
    "PendingVerification": "cloud_denied",
    "PriorRequestNotComplete": "cloud_throttled",
    "RequestExpired": "cloud_auth",
    "RequestLimitExceeded": "cloud_throttled",
    "RequestThrottled": "cloud_throttled",
    "RequestThrottledException": "cloud_throttled",
    "Resource.AlreadyAssociated": "cloud_conflict",
    "ResourceNotFoundException": "cloud_not_found",
    "RouteAlreadyExists": "cloud_conflict",
    "ServiceQuotaExceededException": "cloud_quota",
    "ServiceUnavailable": "cloud_unreachable",
    "SignatureDoesNotMatch": "cloud_auth",
    "Throttling": "cloud_throttled",
    "ThrottlingException": "cloud_throttled",
    "TooManyRequestsException": "cloud_throttled",
    "UnauthorizedOperation": "cloud_denied",
    "Unavailable": "cloud_unreachable",
    "UnrecognizedClientException": "cloud_auth",
    "Unsupported": "cloud_invalid",  # or capacity, when the message names zones that have the type
    "UnsupportedOperation": "cloud_invalid",
    "ValidationError": "cloud_invalid",
    "ValidationException": "cloud_invalid",
}
# Codes that EC2 gives to many refusals, and words of the message that tell one of them.
WORDS: tuple[tuple[str, str, str], ...] = (
    ("InvalidParameterValue", "is currently in use", "cloud_in_use"),  # DeleteNetworkInterface
    ("InvalidParameterValue", "already has an internet gateway", "cloud_conflict"),  # AttachInternetGateway
)
ENDINGS: tuple[tuple[str, str], ...] = (
    ("LimitExceeded", "cloud_quota"),
    (".NotFound", "cloud_not_found"),
    (".Duplicate", "cloud_conflict"),
    ("InUse", "cloud_in_use"),
    (".Malformed", "cloud_invalid"),
)
BEGINNINGS: tuple[tuple[str, str], ...] = (("InvalidParameter", "cloud_invalid"), ("Unknown", "cloud_invalid"))

# The SDK's own exceptions, the first that fits: its class, our code, and whether the request may have been sent.
SDK_EXCEPTIONS: tuple[tuple[type[Exception], str, bool], ...] = (
    (sdk.NoCredentialsError, "credentials_missing", False),
    (sdk.PartialCredentialsError, "credentials_missing", False),
    (sdk.ProfileNotFound, "credentials_missing", False),
    (sdk.UnknownCredentialError, "credentials_missing", False),
    (sdk.ConfigNotFound, "credentials_missing", False),
    (sdk.ConfigParseError, "credentials_missing", False),
    (sdk.InfiniteLoopConfigError, "credentials_missing", False),
    (sdk.InvalidConfigError, "credentials_missing", False),
    (sdk.CredentialRetrievalError, "cloud_auth", False),
    (sdk.MetadataRetrievalError, "cloud_auth", False),
    (sdk.NoAuthTokenError, "cloud_auth", False),
    (sdk.RefreshWithMFAUnsupportedError, "cloud_auth", False),
    (sdk.SSOError, "cloud_auth", False),
    (sdk.LoginError, "cloud_auth", False),
    (sdk.TokenRetrievalError, "cloud_auth", False),
    (sdk.UnknownTokenProviderError, "cloud_auth", False),
    (sdk.MissingDependencyException, "unsupported", False),  # credentials of `aws login` need botocore[crt]
    (sdk.ConnectTimeoutError, "cloud_unreachable", False),
    (sdk.EndpointConnectionError, "cloud_unreachable", False),
    (sdk.ProxyConnectionError, "cloud_unreachable", False),
    (sdk.ConnectionError, "cloud_unreachable", True),
    (sdk.HTTPClientError, "cloud_unreachable", True),
    (sdk.IncompleteReadError, "cloud_unreachable", True),
    (sdk.ChecksumError, "cloud_unreachable", True),
    (sdk.NoRegionError, "cloud_invalid", False),
    (sdk.InvalidRegionError, "cloud_invalid", False),
    (sdk.UnknownRegionError, "cloud_invalid", False),
    (sdk.ServiceNotInRegionError, "cloud_invalid", False),
    (sdk.UnknownEndpointError, "cloud_invalid", False),
    (sdk.EndpointProviderError, "cloud_invalid", False),
    (sdk.EndpointVariantError, "cloud_invalid", False),
    (sdk.InvalidEndpointConfigurationError, "cloud_invalid", False),
    (sdk.InvalidProxiesConfigError, "cloud_invalid", False),
    (sdk.ValidationError, "cloud_invalid", False),
    (sdk.MissingParametersError, "cloud_invalid", False),
    (sdk.ParamValidationError, "cloud_invalid", False),
    (ResponseParserError, "cloud_unknown", True),
    (sdk.BotoCoreError, "cloud_unknown", True),
)

# Why a machine ended before it ran (``StateReason.Code``).
STATE_REASONS: dict[str, str] = {
    "Client.InstanceInitiatedShutdown": "cloud_conflict",
    "Client.InternalError": "cloud_invalid",  # most often a key that encrypts the disk and may not be used
    "Client.InvalidSnapshot.NotFound": "cloud_invalid",
    "Client.UserInitiatedHibernate": "cloud_conflict",
    "Client.UserInitiatedShutdown": "cloud_conflict",
    "Client.VolumeLimitExceeded": "cloud_quota",
    "Server.InsufficientInstanceCapacity": "cloud_capacity",
    "Server.InternalError": "cloud_unreachable",
    "Server.ScheduledStop": "cloud_conflict",
    "Server.SpotInstanceShutdown": "cloud_capacity",
    "Server.SpotInstanceTermination": "cloud_capacity",
}

NEXT_STEPS: dict[str, str] = {
    "cloud_auth": "Check the credentials and this machine's clock; `aws sts get-caller-identity` must work.",
    "cloud_capacity": "Take another zone or machine type, or try again later.",
    "cloud_denied": "Ask the account's owner for the permission that the message names.",
    "cloud_quota": "Ask AWS for a higher quota (Service Quotas in the console), or free what is not needed.",
    "cloud_throttled": "Wait a little and try again.",
    "cloud_unreachable": "Check the network and the region; an emulated AWS is started by `grafos emulate up`.",
    "credentials_missing": "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; or use `grafos emulate`.",
}
SWITCHED_OFF = (
    "Check the credentials and this machine's clock; a region that the account has not switched on answers so too."
)
CODE_NEXT_STEPS: dict[str, str] = {
    "AuthFailure": SWITCHED_OFF,
    "InvalidClientTokenId": SWITCHED_OFF,
    "OperationNotPermitted": "If the machine has termination protection, switch it off and try again.",
    "OptInRequired": "Switch the region on, or sign the account up for EC2, in the account's settings.",
    "PendingVerification": "AWS still verifies the account; this takes up to four hours.",
    "RequestExpired": "Set this machine's clock.",
    "VpcLimitExceeded": "Delete a VPC in the region, use another region, or ask AWS for a higher quota.",
}

# Classes of refusals that say that the cloud did nothing, whatever HTTP status they came with.
WITHOUT_EFFECT = frozenset({"cloud_auth", "cloud_capacity", "cloud_denied", "cloud_quota", "cloud_throttled"})
SERVER_ERROR = 500
ZONE_PATTERN = re.compile(r"\b[a-z]{2,}(?:-[a-z]+)+-\d[a-z]\b")


@contextmanager
def translated(operation: str, region: str, *, changing: bool) -> Iterator[None]:
    """Turns whatever the SDK raises inside into a ``CloudError``; ``changing`` decides whether it can be ambiguous."""
    try:
        yield
    except sdk.ClientError as error:
        raise refusal(dict(error.response), operation, region, changing=changing) from error
    except (sdk.BotoCoreError, ResponseParserError) as error:
        raise sdk_failure(error, operation, region, changing=changing) from error


def code_of(cloud_code: str, message: str = "") -> str:
    """Our class of an EC2 error code."""
    if cloud_code == "Unsupported" and offered_zones(message):
        return "cloud_capacity"
    for ambiguous_code, words, code in WORDS:
        if cloud_code == ambiguous_code and words in message:
            return code
    if cloud_code in CODES:
        return CODES[cloud_code]
    by_end = (code for ending, code in ENDINGS if cloud_code.endswith(ending))
    by_start = (code for beginning, code in BEGINNINGS if cloud_code.startswith(beginning))
    return next(by_end, None) or next(by_start, "cloud_unknown")


def offered_zones(message: str) -> tuple[str, ...]:
    """The zones that AWS says have room: those after the word "choosing"."""
    _, found, offer = message.partition("choosing ")
    return tuple(dict.fromkeys(ZONE_PATTERN.findall(offer))) if found else ()


def refusal(response: dict[str, Any], operation: str, region: str, *, changing: bool) -> CloudError:
    """The error in an answer of the cloud."""
    error, meta = response.get("Error", {}), response.get("ResponseMetadata", {})
    cloud_code, message = str(error.get("Code", "")), str(error.get("Message", ""))
    status = int(meta.get("HTTPStatusCode", 0))
    code = code_of(cloud_code, message)
    if code == "cloud_unknown" and cloud_code.isdigit() and int(cloud_code) >= SERVER_ERROR:
        code = "cloud_unreachable"  # a gateway on the way answered, without EC2's envelope
    return CloudError(
        code,
        f"AWS refused {operation}: {cloud_code or 'no code'}.",
        where=f"aws {region}",
        why=message,
        next=CODE_NEXT_STEPS.get(cloud_code, NEXT_STEPS.get(code, "")),
        cloud_code=cloud_code,
        request_id=str(meta.get("RequestId", "")),
        alternatives=offered_zones(message),
        retry_after_s=_seconds(meta.get("HTTPHeaders", {}).get("retry-after", "")),
        ambiguous=changing and code not in WITHOUT_EFFECT and (status >= SERVER_ERROR or code == "cloud_unknown"),
    )


def sdk_failure(error: Exception, operation: str, region: str, *, changing: bool) -> CloudError:
    """An error of the SDK itself: nothing sent, no answer, or an answer that it could not read."""
    code, sent = next((code, sent) for kind, code, sent in SDK_EXCEPTIONS if isinstance(error, kind))
    return CloudError(
        code,
        f"{operation} did not succeed: {type(error).__name__}.",
        where=f"aws {region}",
        why=" ".join(str(error).split()),
        next=NEXT_STEPS.get(code, ""),
        cloud_code=type(error).__name__,
        ambiguous=changing and sent,
    )


def ended_early(cloud_code: str, why: str, region: str) -> CloudError:
    """Why a machine that AWS had accepted ended before it ran; ``cloud_code`` is its ``StateReason.Code``."""
    code = STATE_REASONS.get(cloud_code, "cloud_unknown")
    return CloudError(
        code,
        f"The machine ended before it was ready: {cloud_code or 'no reason given'}.",
        where=f"aws {region}",
        why=why,
        next=NEXT_STEPS.get(code, ""),
        cloud_code=cloud_code,
    )


def _seconds(header: str) -> float:
    """Retry-After's value; 0 when there is none or when it is a date, which EC2 never sends."""
    return float(header) if header.isdigit() else 0.0
