"""Which of EC2's actions may make something: those whose work the census counts, and no others.

An action that makes what nobody counts would be a leak that no test sees. So each that sounds like making is refused,
unless it is listed here.
"""

from __future__ import annotations

MAKING_VERBS = ("Allocate", "Copy", "Create", "Import", "Purchase", "Register", "Request", "Run")

MAKES: dict[str, str] = {
    "AllocateAddress": "address",
    "CopySnapshot": "snapshot",
    "CreateInternetGateway": "gateway",
    "CreateKeyPair": "key_pair",
    "CreateLaunchTemplate": "launch_template",
    "CreateNatGateway": "nat_gateway",
    "CreateNetworkInterface": "nic",
    "CreateRouteTable": "route_table",
    "CreateSecurityGroup": "security_group",
    "CreateSnapshot": "snapshot",
    "CreateSubnet": "subnet",
    "CreateVolume": "volume",
    "CreateVpc": "vpc",
    "CreateVpcEndpoint": "vpc_endpoint",
    "ImportKeyPair": "key_pair",
    "RegisterImage": "image",
    "RunInstances": "instance",
}
"""The census' kind by action."""

PARTS: dict[str, str] = {
    "CreateLaunchTemplateVersion": "launch_template",
    "CreateRoute": "route_table",
    "CreateTags": "*",
}
"""Actions that only add to what is counted already, and what that is."""


def is_counted(action: str) -> bool:
    """Whether all that the action makes is in the census."""
    return not action.startswith(MAKING_VERBS) or action in MAKES or action in PARTS
