"""Networks, subnetworks, firewall rules and reserved addresses.

A network is of custom mode, or of auto mode without the subnetworks that Google would put into it. Nothing here carries
labels, and a description is set once: the API has no method that changes one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from grafos_emulators.gcp import quotas
from grafos_emulators.gcp.calls import ApiCall, Handler, only
from grafos_emulators.gcp.catalog import SCOPES_BY_REGION, check_region
from grafos_emulators.gcp.changes import change, delete, make
from grafos_emulators.gcp.errors import (
    OperationError,
    bad_request,
    condition_not_met,
    in_use,
    invalid,
    operation_in_use,
    required,
)
from grafos_emulators.gcp.labels import checked, setter
from grafos_emulators.gcp.listing import readers
from grafos_emulators.gcp.project import Project, Resource, fingerprint

DEFAULT_MTU = 1460
SMALLEST_SUBNET_PREFIX, LARGEST_SUBNET_PREFIX = 29, 4
NETWORK_USERS = frozenset({"subnetwork", "firewall", "instance"})
_NETWORK_FIELDS = frozenset({"autoCreateSubnetworks", "description", "mtu", "routingConfig"})
_SUBNET_FIELDS = frozenset({"description", "ipCidrRange", "network", "privateIpGoogleAccess", "region"})
_USUAL_SUBNET = {
    "privateIpv6GoogleAccess": "DISABLE_GOOGLE_ACCESS",
    "purpose": "PRIVATE",
    "stackType": "IPV4_ONLY",
}


def handlers(project: Project) -> dict[str, Handler]:
    """The methods of all four collections."""
    return _networks(project) | _subnetworks(project) | _firewalls(project) | _addresses(project)


# Networks


def _networks(project: Project) -> dict[str, Handler]:
    def view(network: Resource) -> dict[str, Any]:
        inside = sorted(each.path for each in project.users_of(network.path, kinds=frozenset({"subnetwork"})))
        return network.body | ({"subnetworks": [project.link(each) for each in inside]} if inside else {})

    def insert(call: ApiCall) -> dict[str, Any]:
        body = call.body
        only(body, _NETWORK_FIELDS, "a network")
        path = f"global/networks/{body['name']}"
        if body.get("autoCreateSubnetworks") is None:
            raise bad_request("Legacy networks cannot be made any more: autoCreateSubnetworks must be set.", "invalid")
        project.refuse_taken(path)
        quotas.check_kind(project, "network", "global")
        kept = {name: body[name] for name in ("description", "autoCreateSubnetworks", "routingConfig") if name in body}
        usual = {
            "mtu": body.get("mtu", DEFAULT_MTU),
            "networkFirewallPolicyEnforcementOrder": "AFTER_CLASSIC_FIREWALL",
            "routingConfig": {"routingMode": "REGIONAL"},
            "selfLinkWithId": project.link(path),
        }
        return make(project, call, "network", path, usual | kept)

    def remove(call: ApiCall) -> dict[str, Any]:
        network = project.changeable(call.target)

        def refusal() -> OperationError | None:
            """Others report this error by the operation, not by the request."""
            user = project.user_of(network.path, kinds=NETWORK_USERS)
            return operation_in_use("network", network.path, user.path, project.project_id) if user else None

        return delete(project, call, network, refusal)

    def patch(call: ApiCall) -> dict[str, Any]:
        network = project.changeable(call.target)
        _refuse_changes(network, call.body, {"routingConfig", "mtu", "networkFirewallPolicyEnforcementOrder"})
        return change(project, call, network, call.body)

    return readers(project, "networks", "network", view) | {
        "compute.networks.insert": insert,
        "compute.networks.delete": remove,
        "compute.networks.patch": patch,
    }


# Subnetworks


def _subnetworks(project: Project) -> dict[str, Handler]:
    def view(subnet: Resource) -> dict[str, Any]:
        return {**subnet.body, "fingerprint": _subnet_fingerprint(subnet)}

    def insert(call: ApiCall) -> dict[str, Any]:
        check_region(call.path["region"])
        body = call.body
        only(body, _SUBNET_FIELDS, "a subnetwork", _USUAL_SUBNET)
        path = f"{call.scope}/subnetworks/{_name_in(body)}"
        network = referenced(project, body.get("network"), "resource.network", "network")
        cidr = _subnet_cidr(project, network, body.get("ipCidrRange", ""))
        project.refuse_taken(path)
        quotas.check_kind(project, "subnetwork", "global")
        kept = {name: body[name] for name in ("description", "privateIpGoogleAccess") if name in body}
        usual = {
            "network": project.link(network.path),
            "ipCidrRange": str(cidr),
            "gatewayAddress": str(cidr[1]),
            "region": project.link(call.scope),
            "privateIpGoogleAccess": False,
            **_USUAL_SUBNET,
        }
        return make(project, call, "subnetwork", path, usual | kept)

    def remove(call: ApiCall) -> dict[str, Any]:
        subnet = project.changeable(call.target)
        refuse_used(project, subnet, frozenset({"instance", "address"}))
        return delete(project, call, subnet)

    def patch(call: ApiCall) -> dict[str, Any]:
        subnet = project.changeable(call.target)
        if call.body.get("fingerprint") != _subnet_fingerprint(subnet):
            raise condition_not_met("Invalid fingerprint.")
        changes = {name: value for name, value in call.body.items() if name != "fingerprint"}
        _refuse_changes(subnet, changes, {"privateIpGoogleAccess"})
        return change(project, call, subnet, changes)

    return readers(project, "subnetworks", "subnetwork", view, scopes=SCOPES_BY_REGION) | {
        "compute.subnetworks.insert": insert,
        "compute.subnetworks.delete": remove,
        "compute.subnetworks.patch": patch,
    }


def _subnet_fingerprint(subnet: Resource) -> str:
    return fingerprint(sorted(subnet.body.items(), key=lambda field: field[0]))


def _subnet_cidr(project: Project, network: Resource, text: str) -> ipaddress.IPv4Network:
    where = "resource.ipCidrRange"
    try:
        cidr = ipaddress.IPv4Network(text)
    except ValueError:
        raise invalid(where, text, "Must be a CIDR address range.") from None
    if not LARGEST_SUBNET_PREFIX <= cidr.prefixlen <= SMALLEST_SUBNET_PREFIX:
        raise invalid(where, text, "The range is too small or too large for a subnetwork.")
    for other in project.users_of(network.path, kinds=frozenset({"subnetwork"})):
        if cidr.overlaps(ipaddress.IPv4Network(other.body["ipCidrRange"])):
            raise bad_request(
                f"Invalid IPCidrRange: {text} conflicts with existing subnetwork '{other.name}' in region"
                f" '{other.scope.removeprefix('regions/')}'.",
                "invalid",
            )
    return cidr


# Firewall rules


def _firewalls(project: Project) -> dict[str, Handler]:
    def insert(call: ApiCall) -> dict[str, Any]:
        body = call.body
        path = f"global/firewalls/{body['name']}"
        network = referenced(project, body.get("network", "global/networks/default"), "resource.network", "network")
        if bool(body.get("allowed")) == bool(body.get("denied")):
            raise bad_request("Exactly one of allowed and denied must be specified.", "invalid")
        project.refuse_taken(path)
        quotas.check_kind(project, "firewall", "global")
        usual: dict[str, Any] = {"direction": "INGRESS", "priority": 1000, "disabled": False}
        if body.get("direction", "INGRESS") == "INGRESS" and not body.get("sourceTags"):
            usual["sourceRanges"] = ["0.0.0.0/0"]
        return make(project, call, "firewall", path, usual | dict(body) | {"network": project.link(network.path)})

    def remove(call: ApiCall) -> dict[str, Any]:
        return delete(project, call, project.changeable(call.target))

    return readers(project, "firewalls", "firewall", lambda firewall: dict(firewall.body)) | {
        "compute.firewalls.insert": insert,
        "compute.firewalls.delete": remove,
    }


# Addresses


def _addresses(project: Project) -> dict[str, Handler]:
    def view(address: Resource) -> dict[str, Any]:
        user = project.holder_of(address)
        users = {"users": [project.link(user.path)]} if user else {}
        return address.body | users | {"status": "IN_USE" if user else "RESERVED"}

    def insert(call: ApiCall) -> dict[str, Any]:
        check_region(call.path["region"])
        path = f"{call.scope}/addresses/{call.body['name']}"
        if call.body.get("addressType", "EXTERNAL") != "EXTERNAL" or call.body.get("ipVersion", "IPV4") != "IPV4":
            raise invalid("resource.addressType", call.body.get("addressType"), "Only external IPv4 is emulated.")
        project.refuse_taken(path)
        quotas.check_kind(project, "address", call.scope)
        usual = {
            "address": project.addresses.take(),
            "addressType": "EXTERNAL",
            "networkTier": "PREMIUM",
            "region": project.link(call.scope),
        }
        kept = {"description": call.body["description"]} if "description" in call.body else {}
        return make(project, call, "address", path, usual | kept | checked(call.body.get("labels"), "resource.labels"))

    def remove(call: ApiCall) -> dict[str, Any]:
        address = project.changeable(call.target)
        holder = project.holder_of(address)
        if holder is not None:
            raise in_use("address", address.path, holder.path, project.project_id)
        return delete(project, call, address)

    own: dict[str, Handler] = {"compute.addresses.insert": insert, "compute.addresses.delete": remove}
    return readers(project, "addresses", "address", view, scopes=SCOPES_BY_REGION) | own | setter(project, "addresses")


# What they share


def referenced(project: Project, reference: str | None, where: str, kind: str) -> Resource:
    """The resource that a field names by URL, ready for use; Compute Engine's refusals otherwise."""
    if not reference:
        raise required(where)
    path = project.path_of(reference)
    resource = project.resources.get(path) if path else None
    if resource is None or resource.kind != kind:
        raise invalid(where, reference, f"The referenced {kind} resource cannot be found.")
    return project.changeable(resource.path)


def refuse_used(project: Project, resource: Resource, kinds: frozenset[str]) -> None:
    """``resourceInUseByAnotherResource`` while a resource of ``kinds`` names it."""
    user = project.user_of(resource.path, kinds=kinds)
    if user is not None:
        raise in_use(resource.kind, resource.path, user.path, project.project_id)


def _name_in(body: Mapping[str, Any]) -> str:
    if not body.get("name"):
        raise required("resource.name")
    return str(body["name"])


def _refuse_changes(resource: Resource, changes: Mapping[str, Any], changeable: set[str]) -> None:
    for name, value in changes.items():
        if name not in changeable and value != resource.body.get(name):
            raise bad_request(
                f"Invalid value for field 'resource.{name}': it cannot be changed after creation.", "invalid"
            )
