"""Labels: their form, and how they are changed under a fingerprint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from grafos_emulators.gcp.calls import ApiCall, Handler
from grafos_emulators.gcp.changes import change
from grafos_emulators.gcp.errors import condition_not_met, invalid
from grafos_emulators.gcp.project import Project, fingerprint

MAX_LABELS = 64
_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_VALUE = re.compile(r"[a-z0-9_-]{0,63}")


def checked(labels: Mapping[str, str] | None, where: str) -> dict[str, Any]:
    """The fields of a resource with these labels; ``invalid`` for labels that Compute Engine does not take.

    International letters, which the real one takes too, are refused here.
    """
    labels = labels or {}
    if len(labels) > MAX_LABELS:
        raise invalid(where, len(labels), f"At most {MAX_LABELS} labels are allowed.")
    for key, value in labels.items():
        if not _KEY.fullmatch(key):
            raise invalid(where, key, "Label key must match [a-z][a-z0-9_-]{0,62}.")
        if not _VALUE.fullmatch(value):
            raise invalid(f"{where}.{key}", value, "Label value must match [a-z0-9_-]{0,63}.")
    shown = {"labels": dict(labels)} if labels else {}
    return {**shown, "labelFingerprint": fingerprint(sorted(labels.items()))}


def setter(project: Project, collection: str) -> dict[str, Handler]:
    """``setLabels`` of a collection: replaces all labels, under the fingerprint of those that it replaces."""

    def set_labels(call: ApiCall) -> dict[str, Any]:
        resource = project.changeable(call.target)
        if call.body.get("labelFingerprint", "") != resource.body["labelFingerprint"]:
            raise condition_not_met("Labels fingerprint either invalid or resource labels have changed")
        fields = checked(call.body.get("labels"), "labels")
        return change(project, call, resource, {"labels": {}, **fields})

    return {f"compute.{collection}.setLabels": set_labels}
