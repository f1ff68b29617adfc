"""What a ``Desired`` of each kind must say, checked at the border so that every connector refuses the same way."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network

import msgspec

from grafos_connectors.contract import (
    KEY_PATTERN,
    NAME_PATTERN,
    TAG_FABRIC,
    TAG_KEY,
    TAG_NAME_PATTERN,
    TAG_VALUE_PATTERN,
    TOKEN_MAX_CHARACTERS,
    CloudError,
    Desired,
    Kind,
)


class Shape(msgspec.Struct, frozen=True):
    """The roles and inputs of one kind in one cloud.

    ``may_need``: roles that it can do without. ``tagged``: it bears tags of its own; other kinds bear those of what
    they hang on.
    """

    needs: tuple[str, ...] = ()
    inputs: Mapping[str, type] = {}
    optional: Mapping[str, type] = {}
    tagged: bool = True
    zoned: bool = False
    may_need: tuple[str, ...] = ()


# The kinds of a cloud that has gateways and firewalls of their own: AWS, and the in-memory twin.
SHAPES: dict[Kind, Shape] = {
    Kind.NETWORK: Shape(inputs={"cidr": str}),
    Kind.SUBNET: Shape(needs=("network",), inputs={"cidr": str}, zoned=True),
    Kind.GATEWAY: Shape(),
    Kind.GATEWAY_ATTACHMENT: Shape(needs=("network", "gateway"), tagged=False),
    Kind.ROUTE: Shape(needs=("network", "gateway"), inputs={"cidr": str}, tagged=False),
    Kind.FIREWALL: Shape(needs=("network",), inputs={"description": str}),
    Kind.FIREWALL_RULE: Shape(needs=("firewall",), inputs={"port": int, "cidr": str}),
    Kind.MACHINE: Shape(
        needs=("subnet", "firewall"),
        inputs={"machine_type": str, "image": str, "root_device": str, "disk_gib": int, "user_data": str},
        optional={"public_address": bool, "spot": bool},
    ),
}


def check_desired(desired: Desired, shapes: Mapping[Kind, Shape] = SHAPES) -> None:
    """Raises ``CloudError("cloud_invalid")`` that names the first thing that no cloud call could carry.

    Source: the tables of ``docs/decisions/connector-contract.md``.
    """
    shape = shapes.get(desired.kind)
    if shape is None:
        made = ", ".join(sorted(kind.value for kind in shapes))
        raise _refusal(desired, "this cloud has no such kind", f"it has: {made}")
    if not KEY_PATTERN.fullmatch(desired.key):
        raise _refusal(desired, f"the key {desired.key!r} is not 32 hex digits")
    if not NAME_PATTERN.fullmatch(desired.name):
        raise _refusal(desired, f"the name {desired.name!r} is not one that every cloud allows", "a-z, 0-9, -; 1 to 63")
    if shape.zoned and not desired.zone:
        raise _refusal(desired, "it needs a zone")
    _check_needs(desired, shape)
    _check_inputs(desired, shape)
    _check_tags(desired, shape)


def check_token(desired: Desired, token: str) -> None:
    """Raises ``cloud_invalid`` unless ``token`` is what all clouds can take or hash."""
    if not (token.isascii() and token.isprintable() and 1 <= len(token) <= TOKEN_MAX_CHARACTERS):
        raise _refusal(desired, f"the token must be 1 to {TOKEN_MAX_CHARACTERS} printable ASCII characters")


def _check_needs(desired: Desired, shape: Shape) -> None:
    missing = [role for role in shape.needs if not desired.needs.get(role)]
    if missing:
        raise _refusal(desired, f"it needs a {missing[0]}")
    unknown = sorted(set(desired.needs) - {*shape.needs, *shape.may_need})
    if unknown:
        raise _refusal(desired, f"it has no use for a {unknown[0]}")


def _check_inputs(desired: Desired, shape: Shape) -> None:
    known = {**shape.inputs, **shape.optional}
    for name in shape.inputs:
        if name not in desired.inputs:
            raise _refusal(desired, f"the input {name} is missing")
    for name, value in desired.inputs.items():
        if name not in known:
            raise _refusal(desired, f"the input {name} is unknown", f"known: {', '.join(sorted(known))}")
        if type(value) is not known[name]:  # bool is an int to isinstance, and must not pass for one
            raise _refusal(desired, f"the input {name} must be of type {known[name].__name__}")
        if name == "cidr":
            _check_cidr(desired, str(value))


def _check_cidr(desired: Desired, cidr: str) -> None:
    """In the one form that clouds keep: EC2 stores 10.0.0.7/24 as 10.0.0.0/24, which no read would find again."""
    try:
        canonical = str(IPv4Network(cidr))
    except ValueError:
        canonical = ""
    if cidr != canonical:
        raise _refusal(desired, f"the cidr {cidr!r} is no IPv4 network", "as in 10.77.0.0/16, all host bits zero")


def _check_tags(desired: Desired, shape: Shape) -> None:
    for name, value in desired.tags.items():
        if not TAG_NAME_PATTERN.fullmatch(name) or not TAG_VALUE_PATTERN.fullmatch(value):
            raise _refusal(desired, f"the tag {name}={value!r} is not one that every cloud can hold")
    if shape.tagged and (desired.tags.get(TAG_KEY) != desired.key or not desired.tags.get(TAG_FABRIC)):
        raise _refusal(desired, f"its tags must hold {TAG_FABRIC}, and {TAG_KEY} equal to its key")


def _refusal(desired: Desired, why: str, next: str = "") -> CloudError:
    return CloudError(
        "cloud_invalid", f"The {desired.kind.value} {desired.name or desired.key!r} cannot be made: {why}.", next=next
    )
