"""grafos' tags as Google Cloud keeps them, and back: labels where there are labels, else JSON in a description.

A label has 63 characters of ``[a-z0-9_-]`` in name and value, and its name begins with a letter: ``grafos:key`` becomes
``grafos_key``. Networks and subnets have no labels; their description is written once and cannot be changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from grafos_connectors.contract import TAG_PREFIX, CloudError, Desired

LABEL_PREFIX = "grafos_"
REGION_FIELD = "region"  # a network is global, and belongs to the cells of one region
DESCRIPTION_MAX_CHARACTERS = 2048  # Compute Engine's limit


def labels(tags: Mapping[str, str]) -> dict[str, str]:
    """Our tags as labels."""
    return {LABEL_PREFIX + name.removeprefix(TAG_PREFIX): value for name, value in sorted(tags.items())}


def ours(labels: Mapping[str, str]) -> dict[str, str]:
    """Our tags among a resource's labels."""
    return {
        TAG_PREFIX + name.removeprefix(LABEL_PREFIX): value
        for name, value in labels.items()
        if name.startswith(LABEL_PREFIX)
    }


def retagged(labels_now: Mapping[str, str], tags: Mapping[str, str]) -> dict[str, str]:
    """All labels of a resource after ours were replaced; a person's own stay."""
    theirs = {name: value for name, value in labels_now.items() if not name.startswith(LABEL_PREFIX)}
    return {**theirs, **labels(tags)}


def label_filter(tag: str, value: str) -> str:
    """The filter of a list for one tag."""
    return f'labels.{LABEL_PREFIX}{tag.removeprefix(TAG_PREFIX)} = "{value}"'


def description(desired: Desired) -> str:
    """Tags and region as the description of what has no labels. Raises ``cloud_invalid`` when they do not fit."""
    text = json.dumps({**desired.tags, REGION_FIELD: desired.region}, sort_keys=True, separators=(",", ":"))
    if len(text) > DESCRIPTION_MAX_CHARACTERS:
        raise CloudError("cloud_invalid", f"The tags of the {desired.kind.value} {desired.name} are too long.")
    return text


def described(description: str) -> tuple[dict[str, str], str]:
    """Our tags and the region in a description; nothing from one that somebody else wrote."""
    try:
        said: Any = json.loads(description or "{}")
    except ValueError:
        return {}, ""
    if not isinstance(said, dict):
        return {}, ""
    texts = {name: value for name, value in said.items() if isinstance(value, str)}
    return {name: value for name, value in texts.items() if name.startswith(TAG_PREFIX)}, texts.get(REGION_FIELD, "")
