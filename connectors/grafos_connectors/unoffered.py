"""What is told of a machine type that a region does not offer: alike on all clouds."""

from __future__ import annotations

from collections.abc import Collection

from grafos_connectors.contract import CloudError
from grafos_connectors.likeness import did_you_mean

NAMES = {"aws": "AWS", "azure": "Azure", "gcp": "Google Cloud"}
REGIONS_SHOWN = 8


def unoffered(
    provider: str, region: str, machine_type: str, here: Collection[str], elsewhere: Collection[str]
) -> CloudError:
    """``cloud_invalid`` for a type that the cloud has nowhere, with the nearest of the types ``here``; for one that
    regions ``elsewhere`` have, ``cloud_capacity`` with their names."""
    where = f"{provider} {region}"
    if not elsewhere:
        step = did_you_mean(machine_type, here, "Choose another machine type or region.")
        return CloudError(
            "cloud_invalid", f"{NAMES[provider]} has no machine type {machine_type!r}.", where=where, next=step
        )
    shown = ", ".join(sorted(elsewhere)[:REGIONS_SHOWN])
    more = f" and {len(elsewhere) - REGIONS_SHOWN} more" if len(elsewhere) > REGIONS_SHOWN else ""
    return CloudError(
        "cloud_capacity",
        f"{region} does not offer {machine_type}.",
        where=where,
        next=f"Choose another machine type, or a region that offers it: {shown}{more}.",
    )
