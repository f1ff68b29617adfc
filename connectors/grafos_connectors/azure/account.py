"""What the subscription and its locations say: who we are, limits, what is switched off, images."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any

from grafos_connectors.azure import skus
from grafos_connectors.azure.client import AzureCalls
from grafos_connectors.azure.errors import no_answer
from grafos_connectors.contract import ON_DEMAND, SPOT, CloudError, Identity, Image, Quota
from grafos_connectors.unoffered import unoffered

# Debian's own images, https://wiki.debian.org/Cloud/MicrosoftAzure
IMAGE_PUBLISHER, IMAGE_OFFER = "Debian", "debian-13"
IMAGE_SKUS = {"amd64": "13-gen2", "arm64": "13-arm64-gen2"}
IMAGE_PYTHON = "3.13"  # of that release
IMAGE_DISK_GIB = 30  # the size of those images, which no disk may be smaller than

# The namespaces that a subscription must have registered before anything in them can be made.
NAMESPACES = ("Microsoft.Compute", "Microsoft.Network", "Microsoft.DevTestLab")
REGISTERED = frozenset({"Registered", "Registering"})

# Our names of limits, and Azure's; each family of machine types has one more, by Azure's name of it.
COMPUTE_QUOTAS = {
    "cores": ("machine_cores", "cores"),
    "lowPriorityCores": ("spot_cores", "cores"),
    "virtualMachines": ("machines", "machines"),
}
NETWORK_QUOTAS = {
    "VirtualNetworks": ("networks", "networks"),
    "NetworkSecurityGroups": ("firewalls", "firewalls"),
    "NetworkInterfaces": ("nics", "nics"),
    "StandardSkuPublicIpAddresses": ("addresses", "addresses"),
}
FAMILY = "family"  # within Azure's name of a family's limit, "standardBSFamily"
FAMILY_QUOTA = "machine_cores"  # before that name in ours
PRINCIPAL_CLAIMS = ("upn", "unique_name", "app_displayname", "appid", "oid")  # the most telling first


def identity(calls: AzureCalls) -> Identity:
    """Who the token says we are, once the subscription has answered us."""
    told, server_time = calls.get(f"/subscriptions/{calls.subscription}")
    if not told.get("subscriptionId"):
        raise no_answer("the question about the subscription", "")
    return Identity(
        provider="azure",
        account=str(told["subscriptionId"]),
        principal=principal_in(calls.token_text()) or "emulated",
        emulated=calls.emulated,
        server_time=server_time,
    )


def principal_in(token: str) -> str:
    """Whom an access token was given to, by its claims, which are read and not verified: ARM does that."""
    try:
        body = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (IndexError, ValueError):
        return ""
    return next((str(claims[name]) for name in PRINCIPAL_CLAIMS if claims.get(name)), "")


def quotas(calls: AzureCalls, region: str, machine_type: str) -> tuple[Quota, ...]:
    calls.check_region(region)
    compute = calls.items("compute", "usage.list", region, region)
    network = calls.items("network", "usages.list", region, region)
    families = {name: (f"{FAMILY_QUOTA} {name}", "cores") for name in map(_name_of, compute) if FAMILY in name.lower()}
    sku = skus.named(calls, region, machine_type) if machine_type else None
    takes = taken_by(sku) if sku is not None else {}
    names = {**families, **COMPUTE_QUOTAS}
    return (*_quotas_in(compute, names, takes), *_quotas_in(network, NETWORK_QUOTAS, takes))


def taken_by(sku: Mapping[str, Any]) -> dict[str, int]:
    """What one machine of the type counts for, by Azure's names of the limits; a spot machine's cores count for the
    spot limit alone, the others' for the region's and for the family's."""
    cores = int(skus.capabilities(sku).get("vCPUs", "0"))
    ones = ("virtualMachines", "NetworkInterfaces", "StandardSkuPublicIpAddresses")
    return {"cores": cores, "lowPriorityCores": cores, str(sku.get("family", "")): cores, **dict.fromkeys(ones, 1)}


def _quotas_in(
    usages: Iterable[Mapping[str, Any]], names: Mapping[str, tuple[str, str]], takes: Mapping[str, int]
) -> Iterable[Quota]:
    for usage in usages:
        if (called := _name_of(usage)) in names:
            name, unit = names[called]
            limit, used = _whole(usage.get("limit")), _whole(usage.get("currentValue"))
            market = (SPOT if name == "spot_cores" else ON_DEMAND) if unit == "cores" else ""
            yield Quota(name, unit, limit, used, takes.get(called, 0), market)


def _name_of(usage: Mapping[str, Any]) -> str:
    return str((usage.get("name") or {}).get("value", ""))


def _whole(number: object) -> int | None:
    """A limit, or None where there is none: Azure writes "unlimited" as a negative number."""
    return int(number) if isinstance(number, int | float) and number >= 0 else None


def obstacles(calls: AzureCalls, region: str, machine_type: str) -> tuple[CloudError, ...]:
    """Namespaces that the subscription has not registered, and a type that it is not sold."""
    found = [unregistered(name, region) for name in NAMESPACES if not _is_registered(calls, name, region)]
    unsold = _unsold(calls, region, machine_type) if machine_type else None
    return (*found, *([unsold] if unsold else []))


def _unsold(calls: AzureCalls, region: str, machine_type: str) -> CloudError | None:
    if skus.named(calls, region, machine_type) is not None:
        return skus.restricted(calls, region, machine_type)
    here = {str(sku.get("name")) for sku in skus.of_location(calls, region)}
    return unoffered("azure", region, machine_type, here, skus.regions_of(calls, machine_type))


def _is_registered(calls: AzureCalls, namespace: str, region: str) -> bool:
    told = calls.read("resources", "providers.get", region, namespace)
    return told.get("registrationState") in REGISTERED


def unregistered(namespace: str, region: str) -> CloudError:
    return CloudError(
        "cloud_denied",
        f"The subscription is not registered to use {namespace}.",
        where=f"azure {region}",
        next=f"Register it: az provider register --namespace {namespace} --wait.",
        cloud_code="MissingSubscriptionRegistration",
    )


def image(calls: AzureCalls, region: str, arch: str) -> Image:
    """The newest stock Debian, by its URN."""
    if arch not in IMAGE_SKUS:
        raise CloudError("cloud_invalid", f"There is no architecture {arch!r}.", next="Use amd64 or arm64.")
    calls.check_region(region)
    sku = IMAGE_SKUS[arch]
    told = calls.read("compute", "virtual_machine_images.list", region, region, IMAGE_PUBLISHER, IMAGE_OFFER, sku)
    versions = {str(version["name"]): version for version in told}
    if not versions:
        raise CloudError(
            "cloud_invalid",
            f"No {IMAGE_OFFER} image for {arch} is offered in {region}.",
            where=f"azure {region}",
            next="Use another region or architecture.",
        )
    newest = max(versions, key=version_order)
    return Image(
        id=f"{IMAGE_PUBLISHER}:{IMAGE_OFFER}:{sku}:{newest}",
        name=f"{IMAGE_OFFER} {sku} {newest}",
        arch=arch,
        python=(versions[newest].get("tags") or {}).get("python", IMAGE_PYTHON),
        disk_gib=IMAGE_DISK_GIB,
    )


def version_order(version: str) -> tuple[int, ...]:
    """A version such as 0.20260112.2355 as numbers."""
    return tuple(int(part) if part.isdecimal() else 0 for part in version.split("."))
