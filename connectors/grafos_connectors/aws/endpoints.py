"""Which credentials may go to which endpoint: real ones to AWS only, an emulator's to loopback only."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from grafos_connectors.contract import CloudError
from grafos_connectors.loopback import is_loopback
from grafos_core.emulated import EMULATED_ACCESS_KEY_PREFIX

NEXT_STEP = (
    "For the emulated AWS set the variables that `grafos emulate` prints; "
    "for a real account unset AWS_ENDPOINT_URL and the other AWS_* variables that came with it."
)


def is_aws(endpoint_url: str, dns_suffixes: Sequence[str]) -> bool:
    """Whether the endpoint is one of AWS's own: HTTPS, under a domain of one of its partitions."""
    parts = urlsplit(endpoint_url)
    host = parts.hostname or ""
    return parts.scheme == "https" and any(host.endswith("." + suffix) for suffix in dns_suffixes)


def check_pairing(endpoint_url: str, access_key_id: str, dns_suffixes: Sequence[str]) -> None:
    """Raises ``credentials_mixed`` unless key and endpoint are both real or both emulated."""
    dummy = access_key_id.startswith(EMULATED_ACCESS_KEY_PREFIX)
    if is_loopback(endpoint_url) and not dummy:
        raise mixed(endpoint_url, "real credentials would be sent to an emulator")
    if not is_loopback(endpoint_url) and dummy:
        raise mixed(endpoint_url, "an emulator's credentials would be sent to a real endpoint")
    if not is_loopback(endpoint_url) and not is_aws(endpoint_url, dns_suffixes):
        raise mixed(endpoint_url, "real credentials would be sent to an endpoint that is not AWS's")


def mixed(endpoint_url: str, why: str) -> CloudError:
    """The refusal to mix; nothing was sent."""
    return CloudError(
        "credentials_mixed",
        "Credentials and endpoint do not belong together.",
        where=endpoint_url,
        why=why,
        next=NEXT_STEP,
    )
