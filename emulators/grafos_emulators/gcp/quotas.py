"""Quotas: what a project may have in a region and in all, and how much of it is in use.

The usage is counted from what exists. Shared-core machines count their whole vCPUs, Spot machines against the
preemptible quota, machine families with a quota of their own against that.
"""

from __future__ import annotations

import functools
from collections import Counter
from typing import Any

from grafos_emulators.gcp.catalog import MACHINE_TYPES, MachineType
from grafos_emulators.gcp.errors import OperationError, quota_exceeded, quota_refusal
from grafos_emulators.gcp.project import Project, Resource, region_of

REGION_LIMITS: dict[str, float] = {
    "CPUS": 640.0,  # of E2 and other families without a quota of their own
    "DISKS_TOTAL_GB": 40960.0,
    "INSTANCES": 640.0,
    "IN_USE_ADDRESSES": 64.0,
    "N2_CPUS": 640.0,
    "NVIDIA_L4_GPUS": 1.0,
    "PREEMPTIBLE_CPUS": 640.0,
    "PREEMPTIBLE_NVIDIA_L4_GPUS": 1.0,
    "SSD_TOTAL_GB": 40960.0,
    "STATIC_ADDRESSES": 8.0,
    "T2A_CPUS": 640.0,
}
PROJECT_LIMITS: dict[str, float] = {
    "CPUS_ALL_REGIONS": 1280.0,
    "FIREWALLS": 100.0,
    "GPUS_ALL_REGIONS": 2.0,
    "NETWORKS": 15.0,
    "SUBNETWORKS": 100.0,
}
_OWN_QUOTA = {"n2": "N2_CPUS", "t2a": "T2A_CPUS"}
_BY_KIND = {"network": "NETWORKS", "subnetwork": "SUBNETWORKS", "firewall": "FIREWALLS", "address": "STATIC_ADDRESSES"}


def region_quotas(project: Project, region: str) -> list[dict[str, Any]]:
    """``quotas`` of a region, as ``regions.get`` shows them."""
    used = usage(project, region)
    return _shown({metric: limit_of(project, metric, region) for metric in REGION_LIMITS}, used)


def project_quotas(project: Project) -> list[dict[str, Any]]:
    """``quotas`` of the project, as ``projects.get`` shows them."""
    used = usage(project)
    return _shown({metric: limit_of(project, metric) for metric in PROJECT_LIMITS}, used)


def limit_of(project: Project, metric: str, region: str = "") -> float:
    """The limit in force: the one that was set for this emulator, else an account's usual one."""
    usual = (REGION_LIMITS if region else PROJECT_LIMITS)[metric]
    return project.quota_limits.get((metric, region), project.quota_limits.get((metric, ""), usual))


def usage(project: Project, region: str = "") -> Counter[str]:
    """How much of each metric is in use, in a region or in all."""
    used: Counter[str] = Counter()
    for resource in project.resources.values():
        if not region or region_of(resource.scope) == region:
            for metric, amount in _used_by(resource):
                used[metric] += amount
    return used


def cpu_metric(family: str, *, spot: bool) -> str:
    """Which metric the vCPUs of a machine family count against."""
    return "PREEMPTIBLE_CPUS" if spot else _OWN_QUOTA.get(family, "CPUS")


def needs(machine_type: MachineType, *, spot: bool, addresses: int) -> Counter[str]:
    """What a machine takes while it is not stopped."""
    cpus = cpu_metric(machine_type.family, spot=spot)
    wanted = Counter({cpus: machine_type.vcpus, "CPUS_ALL_REGIONS": machine_type.vcpus, "IN_USE_ADDRESSES": addresses})
    if machine_type.gpu:
        wanted[("PREEMPTIBLE_" if spot else "") + "NVIDIA_L4_GPUS"] += machine_type.gpus
        wanted["GPUS_ALL_REGIONS"] += machine_type.gpus
    return +wanted


def disk_needs(size_gib: int, disk_type: str) -> Counter[str]:
    """What a disk takes as long as it exists."""
    return Counter({"DISKS_TOTAL_GB" if disk_type == "pd-standard" else "SSD_TOTAL_GB": size_gib})


def machine_refusal(project: Project, region: str, wanted: Counter[str]) -> OperationError | None:
    """How the operation fails when a new machine would pass a quota; None when it fits."""
    passed = _passed(project, region, wanted)
    return None if passed is None else quota_exceeded(*passed)


def check(project: Project, region: str, wanted: Counter[str]) -> None:
    """For all but machines the request itself is refused: ``quotaExceeded``."""
    passed = _passed(project, region, wanted)
    if passed is not None:
        raise quota_refusal(*passed)


def check_kind(project: Project, kind: str, scope: str) -> None:
    """The same for one more resource of a kind that is counted by number."""
    check(project, region_of(scope), Counter({_BY_KIND[kind]: 1}))


def _passed(project: Project, region: str, wanted: Counter[str]) -> tuple[str, float, str] | None:
    used = {where: usage(project, where) for where in {region, ""}}
    for metric, amount in sorted(wanted.items()):
        where = region if metric in REGION_LIMITS else ""
        limit = limit_of(project, metric, where)
        if used[where][metric] + amount > limit:
            return metric, limit, where
    return None


def _used_by(resource: Resource) -> tuple[tuple[str, int], ...]:
    body = resource.body
    if resource.kind == "disk":
        return _of_disk(int(body["sizeGb"]), body["type"].rpartition("/")[2])
    if resource.kind != "instance":
        return ((_BY_KIND[resource.kind], 1),) if resource.kind in _BY_KIND else ()
    if not resource.uses_quota:
        return (("INSTANCES", 1),)
    spot = body["scheduling"]["provisioningModel"] == "SPOT"
    addresses = sum(len(each.get("accessConfigs", ())) for each in body["networkInterfaces"])
    return _of_machine(body["machineType"].rpartition("/")[2], spot=spot, addresses=addresses)


# Counted over all resources whenever one more is asked for: the few figures that there are, are kept.


@functools.cache
def _of_disk(size_gib: int, disk_type: str) -> tuple[tuple[str, int], ...]:
    return tuple(disk_needs(size_gib, disk_type).items())


@functools.cache
def _of_machine(name: str, *, spot: bool, addresses: int) -> tuple[tuple[str, int], ...]:
    return ("INSTANCES", 1), *needs(MACHINE_TYPES[name], spot=spot, addresses=addresses).items()


def _shown(limits: dict[str, float], used: Counter[str]) -> list[dict[str, Any]]:
    return [{"metric": metric, "limit": limit, "usage": float(used[metric])} for metric, limit in limits.items()]
