"""Which credentials may go to which endpoint: real ones to Azure only, none at all to an emulator on loopback."""

from __future__ import annotations

from urllib.parse import urlsplit

from grafos_connectors.contract import CloudError
from grafos_connectors.loopback import is_loopback
from grafos_core.emulated import EMULATED_SUBSCRIPTION

RESOURCE_MANAGER = "https://management.azure.com"
RETAIL_PRICES = "https://prices.azure.com/api/retail/prices"
STORAGE_SUFFIX = ".blob.storage.azure.net"  # where disks take their bytes
EMULATED_RETAIL_PRICES = "/azure/api/retail/prices"  # below the emulator's endpoint

NEXT_STEP = (
    "For the emulated Azure set the variables that `grafos emulate` prints; "
    "for a real subscription unset GRAFOS_AZURE_ENDPOINT and set AZURE_SUBSCRIPTION_ID."
)


def is_resource_manager(url: str) -> bool:
    """Whether it is Azure Resource Manager's own: HTTPS, its global name or one of its regions'."""
    parts = urlsplit(url)
    own = urlsplit(RESOURCE_MANAGER).hostname or ""
    host = parts.hostname or ""
    return parts.scheme == "https" and parts.port in {None, 443} and (host == own or host.endswith("." + own))


def same_origin(url: str, endpoint: str) -> bool:
    """Whether both are served by one server."""
    one, other = urlsplit(url), urlsplit(endpoint)
    return (one.scheme, one.hostname, one.port) == (other.scheme, other.hostname, other.port)


def check_pairing(endpoint: str, subscription: str) -> None:
    """Raises ``credentials_mixed`` unless subscription and endpoint are both real or both emulated."""
    emulated = subscription.lower() == EMULATED_SUBSCRIPTION
    if is_loopback(endpoint) and not emulated:
        raise mixed(endpoint, "a real subscription would be asked of an emulator")
    if not is_loopback(endpoint) and emulated:
        raise mixed(endpoint, "an emulator's subscription would be asked of a real endpoint")
    if not is_loopback(endpoint) and not is_resource_manager(endpoint):
        raise mixed(endpoint, "real credentials would be sent to an endpoint that is not Azure's")


def mixed(endpoint: str, why: str) -> CloudError:
    """The refusal to mix; nothing was sent."""
    return CloudError(
        "credentials_mixed",
        "Subscription and endpoint do not belong together.",
        where=endpoint,
        why=why,
        next=NEXT_STEP,
    )


def is_storage(url: str) -> bool:
    """Whether an address is of Azure's own storage: HTTPS, under its domain."""
    parts = urlsplit(url)
    return parts.scheme == "https" and (parts.hostname or "").endswith(STORAGE_SUFFIX)
