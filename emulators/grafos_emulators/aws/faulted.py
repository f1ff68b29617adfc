"""Faults in AWS' words: what the fault plan calls capacity or quota is a code, a status and a sentence here.

EC2 has codes of its own; the query services (STS, IAM) and the JSON services (Pricing, Service Quotas) share AWS'
common ones. Codes and sentences as AWS documents them, or as others report them:
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
"""

from __future__ import annotations

from dataclasses import dataclass

from grafos_emulators.aws.account import Account
from grafos_emulators.aws.calls import AwsCall
from grafos_emulators.aws.errors import AwsRefusalError
from grafos_emulators.aws.quotas import limit_of, quota_for
from grafos_emulators.faults import ErrorClass, Fault

Words = tuple[str, str, int]
"""Code, message, HTTP status."""

_EC2: dict[ErrorClass, Words] = {
    ErrorClass.THROTTLED: ("RequestLimitExceeded", "Request limit exceeded.", 503),
    ErrorClass.AUTH: ("AuthFailure", "AWS was not able to validate the provided access credentials", 401),
    ErrorClass.UNAVAILABLE: ("Unavailable", "The service is unavailable. Please try again shortly.", 503),
    ErrorClass.INTERNAL: ("InternalError", "An internal error has occurred.", 500),
}
_QUERY: dict[ErrorClass, Words] = {
    ErrorClass.THROTTLED: ("Throttling", "Rate exceeded", 400),
    ErrorClass.AUTH: ("ExpiredToken", "The security token included in the request is expired", 403),
    ErrorClass.UNAVAILABLE: ("ServiceUnavailable", "The service is unavailable.", 503),
    ErrorClass.INTERNAL: ("InternalFailure", "The request processing has failed because of an unknown error.", 500),
}
_JSON: dict[ErrorClass, Words] = _QUERY | {
    ErrorClass.THROTTLED: ("ThrottlingException", "Rate exceeded", 400),
    ErrorClass.AUTH: ("ExpiredTokenException", "The security token included in the request is expired", 400),
}
_LIMITS = {
    "AllocateAddress": "AddressLimitExceeded",
    "CreateInternetGateway": "InternetGatewayLimitExceeded",
    "CreateSecurityGroup": "SecurityGroupLimitExceeded",
    "CreateSubnet": "SubnetLimitExceeded",
    "CreateVolume": "VolumeLimitExceeded",
    "CreateVpc": "VpcLimitExceeded",
}  # what else than cores an action may have too many of
_NO_ROOM = {"AllocateAddress": "InsufficientAddressCapacity", "CreateVolume": "InsufficientVolumeCapacity"}


@dataclass(frozen=True)
class Place:
    """The zone that a launch asks for, empty for any, and the others that offer its machine type."""

    zone: str = ""
    others: tuple[str, ...] = ()


def refusal_of(fault: Fault, call: AwsCall, account: Account, place: Place) -> AwsRefusalError:
    """The refusal that a call gets."""
    if fault.error is ErrorClass.DENIED:
        refusal = denied(call)
    elif fault.error is ErrorClass.CAPACITY:
        refusal = _capacity(call, place)
    elif fault.error is ErrorClass.QUOTA:
        refusal = _quota(call, account)
    else:
        spoken = _JSON if call.json_protocol else _EC2 if call.service == "ec2" else _QUERY
        refusal = AwsRefusalError(*spoken[fault.error])
    if fault.error is ErrorClass.THROTTLED and fault.retry_after_s is not None:
        refusal.headers = {"Retry-After": f"{fault.retry_after_s:g}"}
    return refusal


def denied(call: AwsCall) -> AwsRefusalError:
    """What a caller is told who lacks the right to an action."""
    if call.service == "ec2":
        return AwsRefusalError(
            "UnauthorizedOperation", f"You are not authorized to perform this operation: ec2:{call.action}", 403
        )
    code, status = ("AccessDeniedException", 400) if call.json_protocol else ("AccessDenied", 403)
    return AwsRefusalError(code, f"User is not authorized to perform: {call.service}:{call.action}", status)


def no_capacity(instance_type: str, zone: str, others: tuple[str, ...] = ()) -> AwsRefusalError:
    """EC2 names the zones that have room; the sentence is parsed by many clients."""
    offered = f" or choosing {', '.join(others)}" if others else ""
    return AwsRefusalError(
        "InsufficientInstanceCapacity",
        f"We currently do not have sufficient {instance_type} capacity in the Availability Zone you requested ({zone})."
        " Our system will be working on provisioning additional capacity. You can currently get "
        f"{instance_type} capacity by not specifying an Availability Zone in your request{offered}.",
        500,
    )


def no_spot_capacity() -> AwsRefusalError:
    """For spot instances EC2 names no other zone."""
    return AwsRefusalError(
        "InsufficientInstanceCapacity", "There is no Spot capacity available that matches your request.", 500
    )


def too_many_cores(limit_vcpus: int) -> AwsRefusalError:
    return AwsRefusalError(
        "VcpuLimitExceeded",
        f"You have requested more vCPU capacity than your current vCPU limit of {limit_vcpus} allows for the "
        "instance bucket that the specified instance type belongs to. Please visit "
        "http://aws.amazon.com/contact-us/ec2-request to request an adjustment to this limit.",
    )


def too_many_spot_instances() -> AwsRefusalError:
    return AwsRefusalError("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded")


def is_spot(call: AwsCall) -> bool:
    return any(name.startswith("InstanceMarketOptions.") for name in call.parameters)


def _capacity(call: AwsCall, place: Place) -> AwsRefusalError:
    code = _NO_ROOM.get(call.action)
    if code is not None:
        return AwsRefusalError(code, "There is not enough capacity to fulfil your request.", 500)
    if is_spot(call):
        return no_spot_capacity()
    return no_capacity(str(call.parameters.get("InstanceType", "")), place.zone, place.others)


def _quota(call: AwsCall, account: Account) -> AwsRefusalError:
    code = _LIMITS.get(call.action)
    if code is not None:
        return AwsRefusalError(code, "The maximum number of such resources has been reached.")
    if is_spot(call):
        return too_many_spot_instances()
    quota = quota_for(str(call.parameters.get("InstanceType", "")), spot=False)
    return too_many_cores(limit_of(account, quota) if quota else account.vcpu_limit)
