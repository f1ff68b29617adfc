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
from collections.abc import Iterable, Mapping
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
from grafos_stacks.spec import SHARED_PREFIX

TAG_KIND = "grafos:kind"
TAG_ATTEMPT = "grafos:attempt"

KEY_CHARACTERS = 32
"""128 bits: nobody meets another's key by chance."""
NAME_TAIL_CHARACTERS = 8
"""Of the key, at the end of a name: two fabrics in one account then never ask for one name."""
TOKEN_CHARACTERS = 48
DEADLINE_NAME_PREFIX = "shutdown-computevm-"
"""Azure takes a machine's shutdown schedule under no other name."""


class Ownership(StrEnum):
    """Whose a resource is, as far as its tags, and what the cloud itself calls it, prove it."""

    OURS = "ours"
    FOREIGN = "foreign"  # no tags of ours, another fabric's, or altered ones
    COPIED = "copied"  # our tags and signature, on something that is not what they were made for


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
    """Whose the resource is. Tags can be copied, signature and all; so kind, name, place and token must fit them too.

    A part without a key of its own shows the tags of what carries it: it is ours if that is (``ours_among``).
    """
    tags = found.tags
    signature = tags.get(TAG_SIGNATURE, "")
    if tags.get(TAG_FABRIC) != fabric.id or not fabric.tag_signature_holds(signature, *_signed_parts(tags)):
        return Ownership.FOREIGN
    if found.ref.kind.value not in _kinds_under(tags.get(TAG_KIND, "")):
        return Ownership.COPIED
    bears_own = bool(found.ref.key)
    fits = not bears_own or (_name_fits(found) and _place_fits(found) and _token_fits(found))
    return Ownership.OURS if fits else Ownership.COPIED


def ours_among(fabric: Fabric, listed: Iterable[Found]) -> tuple[Found, ...]:
    """Those of a listing that are proved ours."""
    proved = [found for found in listed if ownership(fabric, found) is Ownership.OURS]
    ids = {found.ref.id for found in proved if found.ref.key}
    return tuple(found for found in proved if found.ref.key or found.attributes.get("carrier") in ids)


def _name_fits(found: Found) -> bool:
    """What we name begins with the stack and ends with the key's tail. On EC2 most names are a tag that nobody signed,
    which a copy may have too; elsewhere the name is the resource itself."""
    tags, kind = found.tags, found.ref.kind
    name = (found.attributes.get("name") or found.ref.id.rpartition("/")[2]).lower()
    head = _name_head(tags.get(TAG_STACK, ""))
    if kind is Kind.DEADLINE:  # ARM says what it is called: it is found by its machine's name
        return name.removeprefix(DEADLINE_NAME_PREFIX).startswith(head)
    tail = f"-{tags.get(TAG_KEY, '')[:NAME_TAIL_CHARACTERS]}"
    is_part = kind.value != tags.get(TAG_KIND)
    return name.startswith(head) and (tail in name if is_part else name.endswith(tail))


def _name_head(stack: str) -> str:
    return f"grafos-{stack}-"[: 62 - NAME_TAIL_CHARACTERS].rstrip("-")


def _place_fits(found: Found) -> bool:
    """A region's shared network says in its stack which region that is."""
    stack, region = found.tags.get(TAG_STACK, ""), found.ref.region
    return not stack.startswith(SHARED_PREFIX) or region in ("", "global") or stack.endswith(f"-{region}")


def _token_fits(found: Found) -> bool:
    """EC2 tells with which token a machine was launched, and nobody can launch another with it."""
    told = found.attributes.get("client_token", "")
    return not told or told == token_of(found.tags.get(TAG_KEY, ""), attempt_in(found.tags))


def attempt_in(tags: Mapping[str, str]) -> int:
    """Which attempt made the resource; 1 when the tag is not a number, which a signed one always is."""
    text = tags.get(TAG_ATTEMPT, "")
    return int(text) if text.isdecimal() else 1


def plan_name_in(found: Found) -> str:
    """What the plan calls the resource, as its name in the cloud tells it; "" if the name was cut or is not ours."""
    stack, key = found.tags.get(TAG_STACK, ""), found.ref.key
    name = (found.attributes.get("name") or found.ref.id.rpartition("/")[2]).lower()
    told = name.removeprefix(f"grafos-{stack}-").removesuffix(f"-{key[:NAME_TAIL_CHARACTERS]}")
    return told if cloud_name(stack, told, key) == name else ""


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
    Kind.BUCKET: (Kind.OBJECT,),
}


def _kinds_under(tagged: str) -> tuple[str, ...]:
    parts = next((parts for kind, parts in _PARTS.items() if kind.value == tagged), ())
    return (tagged, *(part.value for part in parts))


def _signed_parts(tags: Mapping[str, str]) -> list[str]:
    """Every tag of ours but the signature itself, so that none can be altered, added or taken away."""
    ours = sorted(name for name in tags if name.startswith(TAG_PREFIX) and name != TAG_SIGNATURE)
    return ["grafos-tags-1", *(f"{name}={tags[name]}" for name in ours)]
