"""Whether an address is this machine's own: an emulator answers there and nowhere else."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def is_loopback(url: str) -> bool:
    """Whether the URL is on this machine's loopback, by its literal address or as ``localhost``; False for what is no
    URL.

    No name is looked up: what a resolver says may change between the check and the call.
    """
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
