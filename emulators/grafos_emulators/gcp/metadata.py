"""The metadata service of the machines: ``/imds/<instance-id>/computeMetadata/v1/…``.

On a real machine it is http://metadata.google.internal/computeMetadata/v1/. Sources: "About VM metadata" and "Verify VM
identity" in Compute Engine's documentation. A directory ends with a slash and lists its names; with ``recursive=true``
it is told whole, as JSON with the names in camel case. ``wait_for_change`` is refused.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs

from grafos_emulators import imds
from grafos_emulators.attesting import GcpSigner
from grafos_emulators.gcp.instance_life import Instance
from grafos_emulators.gcp.project import Project
from grafos_emulators.http import Request, Response

ROOT = "computeMetadata/v1"
_IDENTITY = re.compile(f"{ROOT}/instance/service-accounts/([^/]+)/identity")
_FLAVOR = {"metadata-flavor": "Google"}
_TEXT = {"content-type": "application/text", **_FLAVOR}
_JSON = {"content-type": "application/json", **_FLAVOR}

Tree = dict[str, Any]  # names as they stand in a path; leaves are text, numbers or lists


def answer(project: Project, request: Request, signer: GcpSigner | None = None) -> Response:
    """The answer to a request below ``/imds/``."""
    machine_id, place = imds.asked_of(request)
    with project.world.lock:
        instance = project.launched.get(machine_id)
        if not isinstance(instance, Instance):
            return Response(404, b"no such machine\n", _TEXT)
        tree = _tree(project, instance)
    if request.method != "GET":
        return Response(405, b"only GET\n", _TEXT)
    if request.headers.get("metadata-flavor") != "Google" or "x-forwarded-for" in request.headers:
        return Response(403, b"Missing Metadata-Flavor:Google header, or the request came through a proxy.\n", _TEXT)
    if place.strip("/") in {"", "computeMetadata"}:
        return Response(200, b"computeMetadata/\n" if not place.strip("/") else b"v1/\n", _TEXT)
    if place.strip("/") != ROOT and not place.startswith(f"{ROOT}/"):
        return Response(404, b"not found\n", _TEXT)
    query = {name: values[-1] for name, values in parse_qs(request.query).items()}
    if query.get("wait_for_change", "false").lower() == "true":
        return Response(501, b"the emulated metadata service does not wait for changes: ask again\n", _TEXT)
    if signer is not None and (account := _IDENTITY.fullmatch(place)):
        return _identity(project, instance, account[1], query, signer)
    return _found(
        tree, place.removeprefix(ROOT), recursive=query.get("recursive", "false").lower() == "true", query=query
    )


def _identity(project: Project, instance: Instance, account: str, query: dict[str, str], signer: GcpSigner) -> Response:
    """The identity token of the machine's service account, for the audience that is asked for."""
    email = _email(project, instance)
    if not email or account not in {"default", email}:
        return Response(404, b"the machine has no such service account\n", _TEXT)
    audience = query.get("audience", "")
    if not audience:
        return Response(400, b"non-empty audience parameter required\n", _TEXT)
    more: Tree = {}
    if query.get("format") == "full":
        machine = {
            "instance_creation_timestamp": int(datetime.fromisoformat(instance.body["creationTimestamp"]).timestamp()),
            "instance_id": instance.machine_id,
            "instance_name": instance.name,
            "project_id": project.project_id,
            "project_number": int(project.number),
            "zone": instance.plan.zone,
        }
        more = {"email": email, "email_verified": True, "google": {"compute_engine": machine}}
    return Response(200, signer.token(audience, f"1{instance.machine_id}", more).encode(), _TEXT)


def _email(project: Project, instance: Instance) -> str:
    """The service account's address, empty for a machine that has none."""
    accounts = instance.body.get("serviceAccounts", ())
    email = str(accounts[0].get("email", "default")) if accounts else ""
    return f"{project.number}-compute@developer.gserviceaccount.com" if email == "default" else email


def _found(tree: Tree, place: str, *, recursive: bool, query: dict[str, str]) -> Response:
    value: Any = tree
    for name in place.strip("/").split("/") if place.strip("/") else ():
        if isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        elif isinstance(value, dict) and name in value:
            value = value[name]
        else:
            return Response(404, b"not found\n", _TEXT)
    if recursive or query.get("alt") == "json":
        return Response(200, json.dumps(_camel(value)).encode(), _JSON)
    if isinstance(value, dict | list):
        if not place.endswith("/") and place:
            return Response(301, b"", {**_FLAVOR, "location": f"{place.rpartition('/')[2]}/"})
        return Response(200, "".join(f"{name}\n" for name in _names(value)).encode(), _TEXT)
    return Response(200, str(value).encode(), _TEXT)


def _names(value: Tree | list[Any]) -> list[str]:
    pairs = enumerate(value) if isinstance(value, list) else sorted(value.items())
    return [f"{name}/" if isinstance(each, dict | list) else str(name) for name, each in pairs]


def _camel(value: Any, *, verbatim: bool = False) -> Any:
    """As the service writes JSON: ``network-interfaces`` is ``networkInterfaces``; attributes keep their names."""
    if isinstance(value, dict):
        return {
            name if verbatim else _camel_name(name): _camel(each, verbatim=name == "attributes")
            for name, each in value.items()
        }
    return [_camel(each) for each in value] if isinstance(value, list) else value


def _camel_name(name: str) -> str:
    first, *others = name.split("-")
    return first + "".join(other.capitalize() for other in others)


def _tree(project: Project, instance: Instance) -> Tree:
    scheduling = instance.scheduling
    zone = instance.plan.zone
    interface: Tree = {
        "ip": instance.address,
        "network": f"projects/{project.number}/networks/{_last(instance.body['networkInterfaces'][0]['network'])}",
        "access-configs": [],
    }
    if instance.plan.external:
        interface["access-configs"] = [{"external-ip": instance.address, "type": "ONE_TO_ONE_NAT"}]
    own: Tree = {
        "attributes": instance.items,
        "hostname": f"{instance.name}.{zone}.c.{project.project_id}.internal",
        "id": int(instance.machine_id),
        "image": instance.plan.disks[0].body.get("sourceImage", "") if instance.plan.disks else "",
        "machine-type": f"projects/{project.number}/machineTypes/{instance.plan.machine_type.name}",
        "name": instance.name,
        "network-interfaces": [interface],
        "preempted": "TRUE" if instance.preempted else "FALSE",
        "scheduling": {
            "automatic-restart": str(scheduling.shown["automaticRestart"]).upper(),
            "on-host-maintenance": scheduling.shown["onHostMaintenance"],
            "preemptible": str(scheduling.spot).upper(),
        },
        "tags": list(instance.body["tags"].get("items", ())),
        "zone": f"projects/{project.number}/zones/{zone}",
    }
    return {
        "instance": own,
        "project": {"attributes": {}, "numeric-project-id": int(project.number), "project-id": project.project_id},
    }


def _last(link: str) -> str:
    return link.rpartition("/")[2]
