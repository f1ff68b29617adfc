"""What the account and its regions offer: identity, machine types, limits, permissions, images."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from grafos_connectors.aws.client import AwsCalls
from grafos_connectors.aws.listing import usable_regions
from grafos_connectors.contract import ON_DEMAND, SPOT, CloudError, Identity, Image, Offer, Quota
from grafos_connectors.server_time import server_time
from grafos_connectors.unanswered import UNANSWERED
from grafos_connectors.unoffered import unoffered

MIB = 1 << 20
REGIONS_AT_ONCE = 8  # each has request limits of its own
# Debian's own account, https://wiki.debian.org/Cloud/AmazonEC2Image
IMAGE_OWNER = "136693071363"
IMAGE_RELEASE = "debian-13"
IMAGE_PYTHON = "3.13"  # of that release
DEFAULT_ROOT_DEVICE = "/dev/xvda"
SMALLEST_DISK_GIB = 8  # Debian's images are smaller and would leave no room to work in
ARCHITECTURES = {"amd64": "x86_64", "arm64": "arm64"}
PYTHON_VERSION = re.compile(r"[Pp]ython[ /:=]?(\d+\.\d+)")
# What counts against the quota of standard machines, by the first letters of the type.
STANDARD_FAMILY = re.compile(r"[acdhimrtz]\d")
# Machines with GPUs have quotas of their own: of the families G and VT together, and of P.
GPU_FAMILIES = (("gpu_g", re.compile(r"(?:g|gr|vt)\d")), ("gpu_p", re.compile(r"p\d")))


class Limit(NamedTuple):
    """A quota by its code at Service Quotas, and which machines count against it."""

    service: str
    code: str
    unit: str
    market: str = ""
    family: str = ""


# Codes of EC2 and VPC. Spot machines of P have several quotas, by generation, which are not asked for. Source: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-quotas.html
QUOTAS = {
    "machine_cores": Limit("ec2", "L-1216C47A", "cores", ON_DEMAND, "standard"),
    "spot_machine_cores": Limit("ec2", "L-34B43A08", "cores", SPOT, "standard"),
    "gpu_g_machine_cores": Limit("ec2", "L-DB2E81BA", "cores", ON_DEMAND, "gpu_g"),
    "spot_gpu_g_machine_cores": Limit("ec2", "L-3819A6DF", "cores", SPOT, "gpu_g"),
    "gpu_p_machine_cores": Limit("ec2", "L-417A185B", "cores", ON_DEMAND, "gpu_p"),
    "networks": Limit("vpc", "L-F678F1CE", "networks"),
    "gateways": Limit("vpc", "L-A4707A72", "gateways"),
}


def identity(calls: AwsCalls) -> Identity:
    who = calls.read("sts", "get_caller_identity")
    return Identity(
        provider="aws",
        account=who["Account"],
        principal=who["Arn"],
        emulated=calls.emulated,
        server_time=server_time(who.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")),
    )


def offers(calls: AwsCalls, region: str, machine_type: str, arch: str) -> tuple[Offer, ...]:
    wanted = [{"Name": "instance-type", "Values": [machine_type]}] if machine_type else []
    answers = calls.pages(
        "ec2", "describe_instance_type_offerings", region, LocationType="availability-zone", Filters=wanted
    )
    zones = [
        (offer["InstanceType"], offer["Location"])
        for answer in answers
        for offer in answer["InstanceTypeOfferings"]
        if is_zone_of(region, offer["Location"])
    ]
    if not zones:
        return ()
    answers = calls.pages("ec2", "describe_instance_types", region, Filters=wanted)
    facts = {item["InstanceType"]: item for answer in answers for item in answer["InstanceTypes"]}
    made = (_offer(region, zone, facts[name], arch) for name, zone in sorted(zones) if name in facts)
    return tuple(offer for offer in made if offer is not None)


def is_zone_of(region: str, zone: str) -> bool:
    """Whether it is an availability zone proper ("us-east-1a").

    Local and Wavelength Zones ("us-east-1-bos-1a") are told with them once the account has opted in, and have other
    prices than the region.
    """
    return zone[:-1] == region and zone[-1:].isalpha()


def _offer(region: str, zone: str, facts: Mapping[str, Any], arch: str) -> Offer | None:
    supported = facts["ProcessorInfo"]["SupportedArchitectures"]
    its_arch = next((ours for ours, theirs in ARCHITECTURES.items() if theirs in supported), None)
    if its_arch is None or arch not in {"", its_arch}:
        return None
    return Offer(
        region=region,
        zone=zone,
        machine_type=facts["InstanceType"],
        arch=its_arch,
        cpu_cores=facts["VCpuInfo"]["DefaultVCpus"],
        mem_bytes=facts["MemoryInfo"]["SizeInMiB"] * MIB,
        gpu_count=sum(gpu.get("Count", 0) for gpu in facts.get("GpuInfo", {}).get("Gpus", ())),
    )


def quotas(calls: AwsCalls, region: str, machine_type: str) -> tuple[Quota, ...]:
    """Of the families of machines with GPUs only when such a type is asked about."""
    family = family_of(machine_type) if machine_type else ""
    cores = _cores_of(calls, region, machine_type) if family else 0
    running = [
        instance
        for answer in calls.pages("ec2", "describe_instances", region, Filters=[RUNNING])
        for reservation in answer["Reservations"]
        for instance in reservation["Instances"]
    ]
    counted = {
        "networks": len(calls.read("ec2", "describe_vpcs", region)["Vpcs"]),
        "gateways": len(calls.read("ec2", "describe_internet_gateways", region)["InternetGateways"]),
    }
    return tuple(
        Quota(
            name=name,
            unit=of.unit,
            limit=_limit(calls, region, of.service, of.code),
            used=cores_in_use(running, of.market, of.family) if of.family else counted[name],
            each=cores if of.family == family else 0,
            market=of.market,
        )
        for name, of in QUOTAS.items()
        if of.family in {"", "standard", family}
    )


RUNNING = {"Name": "instance-state-name", "Values": ["pending", "running"]}


def family_of(machine_type: str) -> str:
    """Which quota of cores a type counts against; "" for one of a family that grafos knows no quota of."""
    named = [name for name, pattern in GPU_FAMILIES if pattern.match(machine_type)]
    return "standard" if STANDARD_FAMILY.match(machine_type) else next(iter(named), "")


def _cores_of(calls: AwsCalls, region: str, machine_type: str) -> int:
    wanted = [{"Name": "instance-type", "Values": [machine_type]}]
    answers = calls.pages("ec2", "describe_instance_types", region, Filters=wanted)
    return max((item["VCpuInfo"]["DefaultVCpus"] for answer in answers for item in answer["InstanceTypes"]), default=0)


def cores_in_use(
    instances: Iterable[Mapping[str, Any]], market: str = ON_DEMAND, family: str = "standard"
) -> int | None:
    """Cores that count against the quota of a family on one market; None when an answer does not tell them."""
    total = 0
    for instance in instances:
        bought = SPOT if instance.get("InstanceLifecycle") == "spot" else ON_DEMAND
        if family_of(instance["InstanceType"]) == family and bought == market:
            options = instance.get("CpuOptions", {})
            if not options.get("CoreCount"):
                return None
            total += options["CoreCount"] * options.get("ThreadsPerCore", 1)
    return total


def _limit(calls: AwsCalls, region: str, service: str, code: str) -> int | None:
    try:
        answer = calls.read("service-quotas", "get_service_quota", region, ServiceCode=service, QuotaCode=code)
    except CloudError as error:
        if error.code in UNANSWERED:
            return None
        raise
    return int(answer["Quota"]["Value"])


def obstacles(calls: AwsCalls, region: str, machine_type: str) -> tuple[CloudError, ...]:
    """A region that the account has not switched on, or a type that it does not offer."""
    answer = calls.read("ec2", "describe_regions", calls.region, RegionNames=[region], AllRegions=True)
    if all(item.get("OptInStatus") != "not-opted-in" for item in answer["Regions"]):
        if not machine_type or _types_in(calls, region, machine_type):
            return ()
        elsewhere = calls.remembered(machine_type, lambda: _regions_of(calls, machine_type))
        here = () if elsewhere else _types_in(calls, region)
        return (unoffered("aws", region, machine_type, here, elsewhere),)
    return (
        CloudError(
            "cloud_auth",
            f"The region {region} is not switched on for this account.",
            where=f"aws {region}",
            next=f"Switch it on: aws account enable-region --region-name {region}.",
            cloud_code="OptInRequired",
        ),
    )


def _types_in(calls: AwsCalls, region: str, machine_type: str = "") -> set[str]:
    """The types that a region offers, or the one if it does."""
    wanted = [{"Name": "instance-type", "Values": [machine_type]}] if machine_type else []
    answers = calls.pages(
        "ec2", "describe_instance_type_offerings", region, LocationType="availability-zone", Filters=wanted
    )
    return {offer["InstanceType"] for answer in answers for offer in answer["InstanceTypeOfferings"]}


def _regions_of(calls: AwsCalls, machine_type: str) -> tuple[str, ...]:
    """The regions of the account that offer a type; asked at once, for each must be asked for itself."""
    regions = usable_regions(calls)
    with ThreadPoolExecutor(REGIONS_AT_ONCE, thread_name_prefix="offerings") as pool:
        found = list(pool.map(lambda region: _offers_it(calls, region, machine_type), regions))
    return tuple(region for region, offered in zip(regions, found, strict=True) if offered)


def _offers_it(calls: AwsCalls, region: str, machine_type: str) -> bool:
    """Whether a region offers a type; no for one that may not be asked."""
    try:
        return bool(_types_in(calls, region, machine_type))
    except CloudError as error:
        if error.code in UNANSWERED:
            return False
        raise


def image(calls: AwsCalls, region: str, arch: str) -> Image:
    """The newest stock Debian. An image may say which Python it has, by a tag or in its description."""
    if arch not in ARCHITECTURES:
        raise CloudError("cloud_invalid", f"There is no architecture {arch!r}.", next="Use amd64 or arm64.")
    filters = [
        {"Name": "name", "Values": [f"{IMAGE_RELEASE}-{arch}-*"]},
        {"Name": "architecture", "Values": [ARCHITECTURES[arch]]},
        {"Name": "state", "Values": ["available"]},
    ]
    images = calls.read("ec2", "describe_images", region, Owners=[IMAGE_OWNER], Filters=filters)["Images"]
    if not images:
        raise CloudError(
            "cloud_invalid",
            f"No {IMAGE_RELEASE} image for {arch} is offered in {region}.",
            where=f"aws {region}",
            next="Use another region or architecture.",
        )
    newest = max(images, key=lambda item: (item.get("CreationDate", ""), item["ImageId"]))
    return Image(
        id=newest["ImageId"],
        name=newest.get("Name", ""),
        arch=arch,
        python=python_of(newest),
        disk_gib=_disk_gib(newest),
        root_device=newest.get("RootDeviceName") or DEFAULT_ROOT_DEVICE,
    )


def python_of(image: Mapping[str, Any]) -> str:
    """The image's own word for its Python, else what the release ships."""
    tagged = next((tag["Value"] for tag in image.get("Tags", ()) if tag["Key"] == "python"), "")
    described = PYTHON_VERSION.search(image.get("Description", ""))
    return tagged or (described[1] if described else IMAGE_PYTHON)


def _disk_gib(image: Mapping[str, Any]) -> int:
    sizes = [int(mapping.get("Ebs", {}).get("VolumeSize", 0)) for mapping in image.get("BlockDeviceMappings", ())]
    return max([SMALLEST_DISK_GIB, *sizes])
