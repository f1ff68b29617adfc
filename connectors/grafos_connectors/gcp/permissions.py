"""What the credentials must allow, what they do not, and the role that would."""

from __future__ import annotations

from collections.abc import Sequence

from grafos_connectors.contract import CloudError
from grafos_connectors.gcp.account import UNASKED
from grafos_connectors.gcp.client import GcpCalls

ACTIONS = (
    "compute.addresses.create",
    "compute.addresses.delete",
    "compute.addresses.get",
    "compute.addresses.list",
    "compute.addresses.use",
    "compute.disks.create",
    "compute.disks.delete",
    "compute.disks.get",
    "compute.disks.list",
    "compute.disks.setLabels",
    "compute.firewalls.create",
    "compute.firewalls.delete",
    "compute.firewalls.get",
    "compute.firewalls.list",
    "compute.globalOperations.get",
    "compute.images.create",
    "compute.images.delete",
    "compute.images.get",
    "compute.images.list",
    "compute.images.setLabels",
    "compute.instances.create",
    "compute.instances.delete",
    "compute.instances.get",
    "compute.instances.getSerialPortOutput",
    "compute.instances.list",
    "compute.instances.setLabels",
    "compute.instances.setMetadata",
    "compute.instances.setTags",
    "compute.machineTypes.list",
    "compute.networks.create",
    "compute.networks.delete",
    "compute.networks.get",
    "compute.networks.list",
    "compute.networks.updatePolicy",
    "compute.projects.get",
    "compute.regionOperations.get",
    "compute.regions.get",
    "compute.regions.list",
    "compute.subnetworks.create",
    "compute.subnetworks.delete",
    "compute.subnetworks.get",
    "compute.subnetworks.list",
    "compute.subnetworks.use",
    "compute.subnetworks.useExternalIp",
    "compute.zoneOperations.get",
    "storage.buckets.create",
    "storage.buckets.delete",
    "storage.buckets.get",
    "storage.buckets.list",
    "storage.objects.create",
    "storage.objects.delete",
    "storage.objects.get",
)
PUBLISHING = tuple(
    action
    for action in ACTIONS
    if action.startswith(("storage.", "compute.images.")) and action != "compute.images.list"
)
"""Those that only who publishes an image needs."""
NEEDED = tuple(action for action in ACTIONS if action not in PUBLISHING)
"""All that this folder's calls of Compute Engine need. Debian's images and the price list are open to everybody."""
TESTED_AT_ONCE = 100  # projects.testIamPermissions takes that many


def missing(calls: GcpCalls, actions: Sequence[str]) -> tuple[str, ...]:
    """By ``projects.testIamPermissions``; nothing is known to be missing where one may not ask."""
    granted: set[str] = set()
    for start in range(0, len(actions), TESTED_AT_ONCE):
        asked = list(actions[start : start + TESTED_AT_ONCE])
        path = f"v1/projects/{calls.project}:testIamPermissions"
        try:
            answer = calls.ask("cloudresourcemanager", path, body={"permissions": asked})
        except CloudError as refusal:
            if refusal.code in UNASKED:
                return ()
            raise
        granted.update(answer.get("permissions", ()))
    return tuple(action for action in actions if action not in granted)


def fragment(actions: Sequence[str]) -> str:
    """The file of a role that allows them, for ``gcloud iam roles create grafos --project PROJECT --file FILE``."""
    lines = ["title: grafos", "stage: GA", "includedPermissions:", *(f"- {action}" for action in sorted(actions))]
    return "\n".join(lines)
