"""grafos' tags on ARM's resources, and two of its own that no other cloud needs.

ARM takes our names as they are. Beside ours a resource bears a digest of what its create call asked for: ARM never
tells a machine's user data again, and only so can a second call be told from an equal one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from grafos_connectors.azure.ids import canonical
from grafos_connectors.contract import TAG_PREFIX, Desired, Kind

ASKED = "grafos-asked"
ENDS_AT = "grafos-ends-at"
DESCRIPTION = "description"
DIGEST_CHARACTERS = 32


def of(desired: Desired) -> dict[str, str]:
    """The tags of a create call."""
    own = {ASKED: digest(desired)}
    if desired.kind is Kind.DEADLINE:
        own[ENDS_AT] = str(desired.inputs["ends_at"])
    if "description" in desired.inputs:
        own[DESCRIPTION] = str(desired.inputs["description"])
    return {**desired.tags, **own}


def renewed(there: Mapping[str, str] | None, desired: Desired) -> dict[str, str]:
    """The tags of a resource that is given those of ``desired``: all of ours are replaced, nobody else's."""
    kept = {name: value for name, value in (there or {}).items() if not name.startswith(TAG_PREFIX)}
    ends_at = {ENDS_AT: str(desired.inputs["ends_at"])} if desired.kind is Kind.DEADLINE else {}
    return {**kept, **desired.tags, **ends_at}


def ours(there: Any) -> dict[str, str]:
    """Those of a resource's tags that are grafos'."""
    return {name: str(value or "") for name, value in (there or {}).items() if name.startswith(TAG_PREFIX)}


def asks_for(there: Mapping[str, str] | None, desired: Desired) -> bool:
    """Whether a resource with these tags was made by a call that asked for the same."""
    told = there or {}
    wanted = of(desired)
    return all(told.get(name) == wanted.get(name) for name in (ASKED, ENDS_AT))


def digest(desired: Desired) -> str:
    """What a create call asks for, but for its tags and a deadline's moment, which both may change later."""
    needs = {role: canonical(need) for role, need in desired.needs.items()}
    inputs = {name: value for name, value in desired.inputs.items() if name != "ends_at"}
    asked = ["grafos-asked-1", desired.kind.value, desired.region, desired.zone, needs, inputs]
    return hashlib.sha256(json.dumps(asked, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[
        :DIGEST_CHARACTERS
    ]
