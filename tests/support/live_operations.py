"""What a request on the wire asks of which cloud: the same name whether it goes to the cloud or to an emulator of it.

``ec2.RunInstances``, ``compute.instances.insert``, ``virtualMachines.put``. What is about credentials has no name here,
so nothing that hears only named requests ever sees a login.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

AWS_SERVICES = {"ec2", "sts", "pricing", "servicequotas"}
GCP_SERVICES = {"compute", "cloudbilling", "serviceusage", "cloudresourcemanager"}
ARM_HOST, RETAIL_HOST = "management.azure.com", "prices.azure.com"
LOOPBACK = {"127.0.0.1", "localhost"}
READING_ACTIONS = ("Describe", "Get", "List")
READING_VERBS = ("get", "list", "aggregatedList", "getFromFamily", "testIamPermissions", "serialPort", "post")

_SCOPE = re.compile(r"Credential=[^/,]+/\d{8}/[^/]+/([a-z0-9-]+)/aws4_request")
_GCP_COLLECTIONS = {
    "disks", "images", "instances", "machineTypes", "networks", "operations", "projects", "regions", "services", "skus",
    "subnetworks", "zones",
}  # fmt: skip


class Asked(NamedTuple):
    """A request by its name. ``mutating``: it may change something."""

    cloud: str
    operation: str
    mutating: bool


def operation_of(method: str, url: str, headers: Mapping[str, str], body: bytes | str | None) -> Asked | None:
    """The name of a request to a cloud or its emulator; None for everything else."""
    parts = urlsplit(url)
    host, path, loopback = parts.hostname or "", parts.path, (parts.hostname or "") in LOOPBACK
    lower = {name.lower(): _text(value) for name, value in headers.items()}
    if scope := _SCOPE.search(lower.get("authorization", "")):
        known = scope[1] in AWS_SERVICES and (loopback or host.endswith(".amazonaws.com"))
        return _of_aws(scope[1], lower, body) if known else None
    service = host.removesuffix(".googleapis.com")
    if loopback and path.startswith("/gcp/"):
        service, path = path.split("/")[2], "/" + path.split("/", 3)[3]
    elif loopback and path.startswith("/compute/"):
        service = "compute"
    if service in GCP_SERVICES and service != host:
        return _of_gcp(service, method, path)
    if host == RETAIL_HOST or (loopback and path.startswith("/azure/api/retail/")):
        return Asked("azure", "retail.prices.list", mutating=False)
    if host == ARM_HOST or (loopback and path.lower().startswith(("/subscriptions", "/providers"))):
        return _of_azure(method, path)
    return None


def _of_aws(service: str, headers: Mapping[str, str], body: bytes | str | None) -> Asked | None:
    action = headers.get("x-amz-target", "").rpartition(".")[2]
    if not action:
        action = parse_qs(_text(body or "")).get("Action", [""])[0]
    if not action:
        return None
    return Asked("aws", f"{service}.{action}", mutating=not action.startswith(READING_ACTIONS))


def _of_gcp(service: str, method: str, path: str) -> Asked:
    path, _, custom = path.partition(":")
    words = [word for word in path.split("/") if word]
    while words and (words[0] == "compute" or re.fullmatch(r"v\d\w*", words[0])):
        words.pop(0)
    collection, named, aggregated = "", False, False
    while words:
        word = words.pop(0)
        if word in ("global", "aggregated"):
            aggregated = word == "aggregated"
        elif word in _GCP_COLLECTIONS:
            collection, named = word, bool(words)
            following = words.pop(0) if words else ""
            if following == "family":
                custom = "getFromFamily"
                words.clear()
        else:
            custom = word
    usual = {"GET": "get" if named else "list", "POST": "insert", "PATCH": "patch", "DELETE": "delete"}
    verb = custom or ("aggregatedList" if aggregated else usual.get(method, method.lower()))
    return Asked("gcp", f"{service}.{collection}.{verb}", mutating=verb not in READING_VERBS)


def _of_azure(method: str, path: str) -> Asked:
    words = [word for word in path.split("/") if word]
    below = words[2:] if words[:1] and words[0].lower() == "subscriptions" else words
    kind, odd = "subscriptions", len(words) == 1
    while below:
        kind = below.pop(0)
        odd = not below
        following = below.pop(0) if below else ""
        if kind.lower() == "providers" and below:
            kind = following
        elif kind.lower() == "resourcegroups":
            kind = "resourceGroups"
    verb = {"GET": "list" if odd else "get"}.get(method, method.lower())
    return Asked("azure", f"{kind}.{verb}", mutating=method != "GET")


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
