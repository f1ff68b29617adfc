"""What EC2 will not delete or detach while something uses it, where moto would."""

from __future__ import annotations

from typing import Any

from grafos_emulators.aws.errors import AwsRefusalError


def _in_use(message: str) -> AwsRefusalError:
    return AwsRefusalError("DependencyViolation", message)


def check_security_group(backend: Any, group: Any) -> None:
    """A group is in use while a network interface has it, or a rule of another group names it."""
    if group.name == "default":
        raise AwsRefusalError(
            "CannotDelete", f"the specified group: {group.id} name: default cannot be deleted by a user"
        )
    interfaces = [eni for eni in backend.enis.values() if any(used.id == group.id for used in eni.group_set)]
    others = [other for other in _groups(backend) if other.id != group.id and _names(other, group.id)]
    if interfaces or others:
        raise _in_use(f"resource {group.id} has a dependent object")


def check_subnet(backend: Any, subnet_id: str) -> None:
    if any(eni.subnet.id == subnet_id for eni in backend.enis.values()):
        raise _in_use(f"The subnet '{subnet_id}' has dependencies and cannot be deleted.")


def check_vpc(backend: Any, vpc_id: str) -> None:
    """Moto itself looks at subnets, VPN gateways and route tables."""
    groups = [group for group in _groups(backend) if group.vpc_id == vpc_id and group.name != "default"]
    gateways = [gateway for gateway in backend.internet_gateways.values() if gateway.vpc and gateway.vpc.id == vpc_id]
    interfaces = [eni for eni in backend.enis.values() if eni.vpc_id == vpc_id]
    if groups or gateways or interfaces:
        raise _in_use(f"The vpc '{vpc_id}' has dependencies and cannot be deleted.")


def check_detach(backend: Any, vpc_id: str) -> None:
    if any(eni.public_ip for eni in backend.enis.values() if eni.vpc_id == vpc_id):
        raise _in_use(
            f"Network {vpc_id} has some mapped public address(es). Please unmap those public address(es) before "
            "detaching the gateway."
        )


def check_interface(backend: Any, interface_id: str) -> None:
    eni = backend.enis.get(interface_id)
    if eni is not None and eni.status == "in-use":
        raise AwsRefusalError(
            "InvalidNetworkInterface.InUse", f"The network interface '{interface_id}' is currently in use."
        )


def check_groups_exist(backend: Any, group_ids: list[str], vpc_id: str) -> None:
    """Groups named at a launch exist and are of the subnet's network; moto would invent missing ones."""
    for group_id in group_ids:
        group = backend.get_security_group_from_id(group_id)
        if group is None:
            raise AwsRefusalError("InvalidGroup.NotFound", f"The security group '{group_id}' does not exist")
        if group.vpc_id != vpc_id:
            raise AwsRefusalError(
                "InvalidParameter",
                f"Security group {group_id} and the subnet's network {vpc_id} do not belong together.",
            )


def _groups(backend: Any) -> list[Any]:
    return [group for of_vpc in backend.groups.values() for group in of_vpc.values()]


def _names(group: Any, group_id: str) -> bool:
    rules = [*group.ingress_rules, *group.egress_rules]
    return any((rule.source_group or {}).get("GroupId") == group_id for rule in rules)
