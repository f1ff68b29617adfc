"""What follows from a machine type's family, the first part of its name: architecture, disks, maintenance, prices.

Source: https://cloud.google.com/compute/docs/machine-resource and its pages on each family.
"""

from __future__ import annotations

import re

# A family's letters end with a digit or with what follows it: e2, n2d, c4a, t2a.
TYPE_PATTERN = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)+")
ARM_FAMILIES = frozenset({"a4x", "c4a", "n4a", "t2a"})
# Machines with a GPU, and some others, are stopped when their host is maintained.
STOPPED_FOR_MAINTENANCE = frozenset({"a2", "a3", "a4", "a4x", "g2", "g4", "h3", "h4d"})
# These take Hyperdisks only.
HYPERDISK_FAMILIES = frozenset({"a4", "a4x", "c4", "c4a", "c4d", "h4d", "m4", "n4", "n4a", "n4d", "x4"})
PERSISTENT_DISK, HYPERDISK = "pd-balanced", "hyperdisk-balanced"
# The part of a core that a shared-core machine pays for.
SHARED_CORES = {"e2-micro": 0.25, "e2-small": 0.5, "e2-medium": 1.0}


def family_of(machine_type: str) -> str:
    return machine_type.partition("-")[0]


def is_arm(machine_type: str) -> bool:
    return family_of(machine_type) in ARM_FAMILIES


def stays_through_maintenance(machine_type: str) -> bool:
    """Whether it may be moved to another host while it runs."""
    return family_of(machine_type) not in STOPPED_FOR_MAINTENANCE


def disk_type(machine_type: str) -> str:
    """The disk that the machine takes; both kinds are the balanced ones."""
    return HYPERDISK if family_of(machine_type) in HYPERDISK_FAMILIES else PERSISTENT_DISK
