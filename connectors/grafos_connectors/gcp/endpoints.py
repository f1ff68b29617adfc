"""Where requests go, for which project, and that neither an emulator nor a real cloud gets the other's credentials."""

from __future__ import annotations

import re
from collections.abc import Mapping

from grafos_connectors.contract import CloudError
from grafos_connectors.loopback import is_loopback
from grafos_core.emulated import EMULATED_PROJECT

ENDPOINT_VARIABLE = "GRAFOS_GCP_ENDPOINT"
PROJECT_VARIABLE = "GOOGLE_CLOUD_PROJECT"
REGION_VARIABLE = "CLOUDSDK_COMPUTE_REGION"
REGION_STEP = f"Pass --region, or set {REGION_VARIABLE}."
REAL_COMPUTE = "https://compute.googleapis.com"
UNIVERSE = "googleapis.com"  # the public one; the sovereign ones have accounts, images and prices of their own
REGION_PATTERN = re.compile(r"[a-z]+(?:-[a-z]+)+\d+")
OTHER_CLOUDS_REGION = re.compile(r"([a-z]+-[a-z]+)-(\d+)[a-z]?")
ZONE_PATTERN = re.compile(r"([a-z]+(?:-[a-z]+)+\d+)-[a-z]")

NEXT_STEP = (
    f"For the emulated Google Cloud set the variables that `grafos emulate` prints; "
    f"for a real project unset {ENDPOINT_VARIABLE}."
)


def endpoint_in(variables: Mapping[str, str]) -> str:
    """The emulator's address, empty for the real cloud. Raises ``credentials_mixed`` for an endpoint elsewhere."""
    said = variables.get(ENDPOINT_VARIABLE, "").rstrip("/")
    if not said:
        return ""
    if not (said.startswith(("http://", "https://")) and is_loopback(said)):
        raise mixed(said, "an emulator answers on this machine's loopback only")
    return said


def project_in(variables: Mapping[str, str], endpoint: str) -> str:
    """The project that the settings name; the emulator's for an emulator, and ``credentials_mixed`` for a mixture."""
    project = variables.get(PROJECT_VARIABLE, "")
    if endpoint and project not in {"", EMULATED_PROJECT}:
        raise mixed(endpoint, f"{PROJECT_VARIABLE} names the project {project}, which is not the emulator's")
    return EMULATED_PROJECT if endpoint else check_real_project(project)


def check_real_project(project: str) -> str:
    """Raises ``credentials_mixed`` when the emulator's project would be looked for in the real cloud."""
    if project == EMULATED_PROJECT:
        raise mixed(REAL_COMPUTE, f"the project {project} is an emulator's, and {ENDPOINT_VARIABLE} is not set")
    return project


def region_in(variables: Mapping[str, str]) -> str:
    return variables.get(REGION_VARIABLE, "")


def check_region(region: str) -> None:
    """Raises ``cloud_invalid`` unless it has the form of a region's name; whether it exists the cloud says."""
    if REGION_PATTERN.fullmatch(region):
        return
    zone, other = ZONE_PATTERN.fullmatch(region), OTHER_CLOUDS_REGION.fullmatch(region)
    step = REGION_STEP
    if zone:
        step = f"Did you mean {zone[1]!r}, the region of that zone?"
    elif other:
        step = f"Did you mean {other[1] + other[2]!r}?"
    what = f"Google Cloud has no region {region!r}." if region else "No Google Cloud region is given."
    raise CloudError("cloud_invalid", what, where="gcp", next=step)


def region_of(zone: str) -> str:
    """The region of a zone: us-central1 of us-central1-a."""
    return zone.rpartition("-")[0]


def mixed(where: str, why: str) -> CloudError:
    """The refusal to mix; nothing was sent."""
    return CloudError(
        "credentials_mixed",
        "Project and endpoint do not belong together.",
        where=where,
        why=why,
        next=NEXT_STEP,
    )
