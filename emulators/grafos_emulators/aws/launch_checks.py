"""What EC2 refuses at launch, as far as grafos can meet it; pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence

from grafos_emulators.aws.errors import AwsRefusalError, not_emulated
from grafos_emulators.aws.faulted import too_many_cores, too_many_spot_instances

MAX_USER_DATA_BYTES = 16384  # before base64; RunInstances' reference
REFUSED_PARAMETERS = ("LaunchTemplate.", "CapacityReservationSpecification.", "Ipv6")


def check_emulated(parameters: Mapping[str, str]) -> None:
    """Refuses what would be launched as something else than was asked for."""
    for name in parameters:
        if name.startswith(REFUSED_PARAMETERS):
            raise not_emulated(f"RunInstances with {name.partition('.')[0]}")


def is_spot(parameters: Mapping[str, str]) -> bool:
    """Whether a spot instance is asked for, of the one kind that is emulated."""
    options = {name: value for name, value in parameters.items() if name.startswith("InstanceMarketOptions.")}
    market = options.pop("InstanceMarketOptions.MarketType", "spot" if options else "")
    if market not in {"", "spot"}:
        raise not_emulated(f"RunInstances on the market {market}")
    prefix = "InstanceMarketOptions.SpotOptions."
    for name, emulated in (("SpotInstanceType", "one-time"), ("InstanceInterruptionBehavior", "terminate")):
        if options.pop(prefix + name, emulated) != emulated:
            raise not_emulated(f"spot instances but for {name}={emulated}")
    if options:
        raise not_emulated(f"RunInstances with {min(options)}")
    return market == "spot"


def read_user_data(encoded: str) -> bytes:
    """The user data's bytes; refuses what is not base64 or is over the limit."""
    try:
        user_data = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise AwsRefusalError("InvalidUserData.Malformed", "Invalid BASE64 encoding of user data.") from None
    if len(user_data) > MAX_USER_DATA_BYTES:
        raise AwsRefusalError("InvalidParameterValue", f"User data is limited to {MAX_USER_DATA_BYTES} bytes")
    return user_data


def check_architecture(instance_type: str, of_type: Sequence[str], of_image: str) -> None:
    if of_image not in of_type:
        raise AwsRefusalError(
            "InvalidParameterValue",
            f"The architecture '{','.join(of_type)}' of the instance type {instance_type} does not match the "
            f"architecture '{of_image}' of the image.",
        )


def check_offered(instance_type: str, zone: str | None, zones_with_type: Sequence[str]) -> None:
    """``zone`` is the one asked for, or None for any."""
    if not zones_with_type:
        raise AwsRefusalError("Unsupported", f"The instance type {instance_type} is not offered in this region.")
    if zone is not None and zone not in zones_with_type:
        raise AwsRefusalError(
            "Unsupported",
            f"Your requested instance type ({instance_type}) is not supported in your requested Availability Zone "
            f"({zone}). Please retry your request by not specifying an Availability Zone or choosing "
            f"{', '.join(zones_with_type)}.",
        )


def check_spot_quota(wanted_vcpus: int, used_vcpus: int, limit_vcpus: int) -> None:
    if used_vcpus + wanted_vcpus > limit_vcpus:
        raise too_many_spot_instances()


def check_quota(wanted_vcpus: int, used_vcpus: int, limit_vcpus: int) -> None:
    if used_vcpus + wanted_vcpus > limit_vcpus:
        raise too_many_cores(limit_vcpus)
