"""Faults in EC2's words: what the fault plan calls capacity or quota is a code, a status and a sentence here.

Codes and sentences as AWS documents them, or as others report them.
"""

from __future__ import annotations

from grafos_emulators.aws.calls import AwsCall
from grafos_emulators.aws.errors import AwsRefusalError
from grafos_emulators.faults import ErrorClass, Fault

_PLAIN: dict[ErrorClass, tuple[str, str, int]] = {
    ErrorClass.QUOTA: (
        "VcpuLimitExceeded",
        (
            "You have requested more vCPU capacity than your current vCPU limit of 8 allows for the instance bucket "
            "that the specified instance type belongs to. Please visit http://aws.amazon.com/contact-us/ec2-request "
            "to request an adjustment to this limit."
        ),
        400,
    ),
    ErrorClass.THROTTLED: ("RequestLimitExceeded", "Request limit exceeded.", 503),
    ErrorClass.DENIED: ("UnauthorizedOperation", "You are not authorized to perform this operation.", 403),
    ErrorClass.AUTH: ("RequestExpired", "Request has expired.", 400),
    ErrorClass.UNAVAILABLE: ("Unavailable", "The service is unavailable. Please try again shortly.", 503),
    ErrorClass.INTERNAL: ("InternalError", "An internal error has occurred.", 500),
}


def refusal_of(fault: Fault, call: AwsCall) -> AwsRefusalError:
    """The refusal that a call gets."""
    if fault.error is ErrorClass.CAPACITY:
        return no_capacity(
            str(call.parameters.get("InstanceType", "")), str(call.parameters.get("Placement.AvailabilityZone", ""))
        )
    return AwsRefusalError(*_PLAIN[fault.error])


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
