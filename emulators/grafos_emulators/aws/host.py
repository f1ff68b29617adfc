"""What the emulated images take over from the host that runs them."""

from __future__ import annotations

import platform

from grafos_core.errors import GrafosError

_EC2_ARCHITECTURES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}


def host_architecture() -> str:
    """EC2's word for the host's architecture: ``x86_64`` or ``arm64``."""
    machine = platform.machine().lower()
    if machine not in _EC2_ARCHITECTURES:
        raise GrafosError("unsupported", f"EC2 has no machines of this host's architecture, {machine}")
    return _EC2_ARCHITECTURES[machine]
