"""Who a cloud resource is: its key, and the name, tags and token that follow from it.

    key    hash of fabric, stack, kind, plan name and the inputs whose change means another resource (32 hex)
    name   what people see in the cloud's console; on clouds with names of their own it is also how it is found
    token  makes a create call repeatable: one for each key and attempt
    tags   fabric, stack, kind, key, attempt (and expiry), signed with the fabric's key

Everything here can be made anew from the fabric's key and what the person asked for, so a lost journal loses nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from enum import StrEnum

from grafos_connectors.contract import (
    TAG_EXPIRES,
    TAG_FABRIC,
    TAG_KEY,
    TAG_PREFIX,
    TAG_SIGNATURE,
    TAG_STACK,
    Found,
    Kind,
    Scalar,
)
from grafos_core.fabric import Fabric

TAG_KIND = "grafos:kind"
TAG_ATTEMPT = "grafos:attempt"

KEY_CHARACTERS = 32
"""128 bits: nobody meets another's key by chance."""
NAME_TAIL_CHARACTERS = 8
"""Of the key, at the end of a name: two fabrics in one account then never ask for one name."""
TOKEN_CHARACTERS = 48


class Ownership(StrEnum):
    """Whose a resource is, as far as its tags prove it."""

    OURS = "ours"
    FOREIGN = "foreign"  # no tags of ours, another fabric's, or altered ones
    COPIED = "copied"  # our signature, but over the tags of another kind of resource


def key_of(fabric: str, stack: str, kind: Kind, name: str, replace_inputs: Mapping[str, Scalar]) -> str:
    """The key of a resource: 32 hex digits."""
    parts = ["grafos-key-1", fabric, stack, kind.value, name, dict(sorted(replace_inputs.items()))]
    return hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).hexdigest()[:KEY_CHARACTERS]


def cloud_name(stack: str, plan_name: str, key: str) -> str:
    """The resource's name in the cloud: ``grafos-<stack>-<plan name>-<tail of the key>``, at most 63 characters."""
    tail = key[:NAME_TAIL_CHARACTERS]
    return f"grafos-{stack}-{plan_name}"[: 62 - NAME_TAIL_CHARACTERS].rstrip("-") + f"-{tail}"


def token_of(key: str, attempt: int) -> str:
    """The token of a create call: the same for each repeat of one attempt, another for the next."""
    return "g" + hashlib.sha256(f"grafos-token-1:{key}:{attempt}".encode()).hexdigest()[: TOKEN_CHARACTERS - 1]


def claim_secret(fabric: Fabric, key: str, attempt: int) -> str:
    """The one-time secret in a machine's user data, hex: the same bytes on each retry of one token, and of no use
    once the cell is claimed."""
    return fabric.derive_secret(f"claim:{key}:{attempt}").hex()


def sealed_tags(fabric: Fabric, stack: str, kind: Kind, key: str, attempt: int, expires_at: int = 0) -> dict[str, str]:
    """The tags of a resource's create call. ``expires_at`` (Unix seconds) tells any sweep when it is overdue."""
    tags = {
        TAG_FABRIC: str(fabric.id),
        TAG_STACK: stack,
        TAG_KIND: kind.value,
        TAG_KEY: key,
        TAG_ATTEMPT: str(attempt),
    }
    if expires_at:
        tags[TAG_EXPIRES] = str(expires_at)
    return tags | {TAG_SIGNATURE: fabric.tag_signature(*_signed_parts(tags))}


def ownership(fabric: Fabric, found: Found) -> Ownership:
    """Whose the resource is. A part without tags of its own shows those of what carries it, or of its machine."""
    tags = found.tags
    signature = tags.get(TAG_SIGNATURE, "")
    if tags.get(TAG_FABRIC) != fabric.id or not fabric.tag_signature_holds(signature, *_signed_parts(tags)):
        return Ownership.FOREIGN
    return Ownership.OURS if found.ref.kind.value in _kinds_under(tags.get(TAG_KIND, "")) else Ownership.COPIED


def attempt_in(tags: Mapping[str, str]) -> int:
    """Which attempt made the resource; 1 when the tag is not a number, which a signed one always is."""
    text = tags.get(TAG_ATTEMPT, "")
    return int(text) if text.isdecimal() else 1


def expiry_in(tags: Mapping[str, str]) -> int:
    """When the resource must be gone (Unix seconds), 0 if it has no expiry."""
    text = tags.get(TAG_EXPIRES, "")
    return int(text) if text.isdecimal() else 0


# What a cloud may make inside the create call of another kind, with that kind's tags.
_PARTS = {
    Kind.MACHINE: (Kind.DISK, Kind.NIC, Kind.ADDRESS, Kind.DEADLINE),
    Kind.GATEWAY: (Kind.GATEWAY_ATTACHMENT,),
    Kind.NETWORK: (Kind.ROUTE,),
    Kind.FIREWALL: (Kind.FIREWALL_RULE,),
}


def _kinds_under(tagged: str) -> tuple[str, ...]:
    parts = next((parts for kind, parts in _PARTS.items() if kind.value == tagged), ())
    return (tagged, *(part.value for part in parts))


def _signed_parts(tags: Mapping[str, str]) -> list[str]:
    """Every tag of ours but the signature itself, so that none can be altered, added or taken away."""
    ours = sorted(name for name in tags if name.startswith(TAG_PREFIX) and name != TAG_SIGNATURE)
    return ["grafos-tags-1", *(f"{name}={tags[name]}" for name in ours)]
