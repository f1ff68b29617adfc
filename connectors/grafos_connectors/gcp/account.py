"""What the project and its regions offer: identity, machine types, limits, obstacles, images."""

from __future__ import annotations

import math
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from grafos_connectors.contract import ON_DEMAND, SPOT, CloudError, Identity, Image, Offer, Quota
from grafos_connectors.gcp.catalog import Catalog
from grafos_connectors.gcp.client import GcpCalls
from grafos_connectors.gcp.describe import Item, last_part
from grafos_connectors.gcp.endpoints import check_region
from grafos_connectors.gcp.errors import API_OFF, BILLING_OFF
from grafos_connectors.gcp.families import family_of, is_arm
from grafos_connectors.unanswered import UNANSWERED
from grafos_connectors.unoffered import unoffered

MIB = 1 << 20
IMAGE_PROJECT = "debian-cloud"  # Debian's own, https://wiki.debian.org/Cloud/GoogleComputeEngineImage
IMAGE_FAMILIES = {"amd64": "debian-13", "arm64": "debian-13-arm64"}
IMAGE_PYTHON = "3.13"  # of that release
SMALLEST_DISK_GIB = 10  # of Debian's images
ARCHITECTURES = {"X86_64": "amd64", "ARM64": "arm64"}
PYTHON_VERSION = re.compile(r"[Pp]ython[ /:=]?(\d+\.\d+)")
COMPUTE_API = "compute.googleapis.com"
UNASKED = UNANSWERED | {"unsupported"}  # nobody answers it there, and it is beside the point

# Names of quotas by Google's metrics; families of machines and GPUs have metrics of their own, named by rule.
REGION_QUOTAS = {
    "CPUS": ("machine_cores", "cores"),
    "PREEMPTIBLE_CPUS": ("spot_machine_cores", "cores"),
    "INSTANCES": ("machines", "machines"),
    "IN_USE_ADDRESSES": ("addresses", "addresses"),
    "SSD_TOTAL_GB": ("disk_gib", "GiB"),  # balanced disks count as SSDs
}
PROJECT_QUOTAS = {
    "NETWORKS": ("networks", "networks"),
    "SUBNETWORKS": ("subnets", "subnets"),
    "CPUS_ALL_REGIONS": ("machine_cores_all_regions", "cores"),
    "GPUS_ALL_REGIONS": ("gpus_all_regions", "GPUs"),
}
CORES, SPOT_CORES = "machine_cores", "spot_machine_cores"
FAMILY_METRIC = re.compile(r"(?!COMMITTED)([A-Z]\d+[A-Z]*)_CPUS")
GPU_METRIC = re.compile(r"(PREEMPTIBLE_)?(NVIDIA_[A-Z0-9_]+)_GPUS")


def identity(calls: GcpCalls) -> Identity:
    """By asking for the project: so credentials that may not see it are told at once."""
    project = calls.read("projects", "get")
    return Identity(
        provider="gcp",
        account=project["name"],
        principal=calls.principal,
        emulated=calls.emulated,
        server_time=calls.server_time,
    )


def offers(catalog: Catalog, region: str, machine_type: str, arch: str) -> tuple[Offer, ...]:
    made = (_offer(region, item) for item in catalog.machine_types(region, machine_type))
    fitting = (offer for offer in made if arch in {"", offer.arch})
    return tuple(sorted(fitting, key=lambda offer: (offer.machine_type, offer.zone)))


def _offer(region: str, item: Item) -> Offer:
    its_arch = ARCHITECTURES.get(item.get("architecture", "")) or ("arm64" if is_arm(item["name"]) else "amd64")
    return Offer(
        region=region,
        zone=last_part(item["zone"]),
        machine_type=item["name"],
        arch=its_arch,
        cpu_cores=item["guestCpus"],
        mem_bytes=item["memoryMb"] * MIB,
        gpu_count=sum(gpu.get("guestAcceleratorCount", 0) for gpu in item.get("accelerators", ())),
    )


def quotas(calls: GcpCalls, catalog: Catalog, region: str, machine_type: str) -> tuple[Quota, ...]:
    """The region's and the project's; Google counts the usage itself."""
    check_region(region)
    try:
        of_region = calls.read("regions", "get", region=region)
    except CloudError as refusal:
        if refusal.code == "cloud_not_found":
            raise CloudError("cloud_invalid", f"Google Cloud has no region {region!r}.", where="gcp") from refusal
        raise
    told = [*_quotas_in(of_region, REGION_QUOTAS), *_quotas_in(calls.read("projects", "get"), PROJECT_QUOTAS)]
    items = catalog.machine_types(region, machine_type) if machine_type else []
    return tuple(sorted(counted(told, items[0] if items else None), key=lambda quota: quota.name))


def counted(told: Iterable[Quota], item: Item | None) -> list[Quota]:
    """The limits with what one machine of the type takes of each, and whether spot machines count.

    Families with a limit of their own count against that and not against the common one. A project that has no limit
    for spot machines uses the others' for them: https://cloud.google.com/compute/docs/instances/spot (quotas).
    """
    limits = {quota.name: quota for quota in told}
    own_spot = bool(limits[SPOT_CORES].limit) if SPOT_CORES in limits else False
    takes = _taken_by(item, limits) if item is not None else {}
    return [
        msgspec.structs.replace(quota, each=takes.get(quota.name, 0), market=_market(quota.name, own_spot=own_spot))
        for quota in limits.values()
        if own_spot or quota.name != SPOT_CORES
    ]


def _taken_by(item: Item, limits: Container[str]) -> dict[str, int]:
    cores, family = item["guestCpus"], f"{family_of(item['name'])}_{CORES}"
    takes = {SPOT_CORES: cores, "machine_cores_all_regions": cores, "machines": 1, "addresses": 1}
    takes[family if family in limits else CORES] = cores
    for gpu in item.get("accelerators", ()):
        count = gpu.get("guestAcceleratorCount", 0)
        name = f"{str(gpu.get('guestAcceleratorType', '')).replace('-', '_')}_gpus"
        takes |= {name: count, f"spot_{name}": count, "gpus_all_regions": count}
    return takes


def _market(name: str, *, own_spot: bool) -> str:
    if name.startswith("spot_"):
        return SPOT
    of_family = name.endswith((f"_{CORES}", "_gpus")) or name == CORES
    return ON_DEMAND if of_family and (own_spot or name.endswith("_gpus")) else ""


def _quotas_in(document: Item, names: Mapping[str, tuple[str, str]]) -> Iterator[Quota]:
    for quota in document.get("quotas", ()):
        named = names.get(quota.get("metric", "")) or _named_by_rule(quota.get("metric", ""))
        if named is not None:
            limit, used = quota.get("limit"), quota.get("usage")
            yield Quota(
                name=named[0],
                unit=named[1],
                limit=None if limit is None else math.floor(limit),
                used=math.ceil(used or 0),  # a usage of nothing is left out
            )


def _named_by_rule(metric: str) -> tuple[str, str] | None:
    """As in: N2_CPUS is "n2_machine_cores", PREEMPTIBLE_NVIDIA_L4_GPUS is "spot_nvidia_l4_gpus"."""
    family, gpu = FAMILY_METRIC.fullmatch(metric), GPU_METRIC.fullmatch(metric)
    if family:
        return f"{family[1].lower()}_machine_cores", "cores"
    if gpu:
        return f"{'spot_' if gpu[1] else ''}{gpu[2].lower()}_gpus", "GPUs"
    return None


def obstacles(calls: GcpCalls, catalog: Catalog, region: str, machine_type: str) -> tuple[CloudError, ...]:
    """An interface that is switched off, billing that is not set up, a region that is down, a type not offered."""
    service = _asked(calls, "serviceusage", f"v1/projects/{calls.project}/services/{COMPUTE_API}")
    if service.get("state") == "DISABLED":
        return (_obstacle("accessNotConfigured", "Compute Engine is switched off in this project", region, API_OFF),)
    met = []
    if _asked(calls, "cloudbilling", f"v1/projects/{calls.project}/billingInfo").get("billingEnabled") is False:
        met.append(_obstacle("billingNotEnabled", "This project has no billing account", region, BILLING_OFF))
    catalog.check_region(region)
    if catalog.regions()[region].get("status") == "DOWN":
        met.append(_obstacle("regionDown", f"The region {region} is down", region, "Use another region."))
    if machine_type and not catalog.machine_types(region, machine_type):
        elsewhere = catalog.regions_of(machine_type)
        here = () if elsewhere else {str(item["name"]) for item in catalog.machine_types(region)}
        met.append(unoffered("gcp", region, machine_type, here, elsewhere))
    return tuple(met)


def _asked(calls: GcpCalls, service: str, path: str) -> Mapping[str, Any]:
    """An answer, or nothing where one may not ask: the interface that is asked may itself be switched off."""
    try:
        answer: Mapping[str, Any] = calls.ask(service, path)
    except CloudError as refusal:
        if refusal.code in UNASKED:
            return {}
        raise
    return answer


def _obstacle(cloud_code: str, what: str, region: str, step: str, code: str = "cloud_denied") -> CloudError:
    return CloudError(code, f"{what}.", where=f"gcp {region}", next=step, cloud_code=cloud_code)


def image(calls: GcpCalls, region: str, arch: str) -> Image:
    """The newest stock Debian, which its family names; images are the same in every region."""
    check_region(region)
    if arch not in IMAGE_FAMILIES:
        raise CloudError("cloud_invalid", f"There is no architecture {arch!r}.", next="Use amd64 or arm64.")
    try:
        newest = calls.read("images", "get_from_family", project=IMAGE_PROJECT, family=IMAGE_FAMILIES[arch])
    except CloudError as refusal:
        if refusal.code == "cloud_not_found":
            what = f"Google Cloud has no image of the family {IMAGE_FAMILIES[arch]}."
            raise CloudError("cloud_invalid", what, where="gcp", next="Use another architecture.") from refusal
        raise
    return Image(
        id=f"projects/{IMAGE_PROJECT}/global/images/{newest['name']}",
        name=newest["name"],
        arch=arch,
        python=python_of(newest),
        disk_gib=max(SMALLEST_DISK_GIB, int(newest.get("diskSizeGb", 0))),
    )


def python_of(image: Item) -> str:
    """What the image says of its Python, else what the release ships."""
    told = PYTHON_VERSION.search(image.get("description", ""))
    return told[1] if told else IMAGE_PYTHON
