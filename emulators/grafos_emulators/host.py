"""What emulated machines take over from the host that runs them, on whichever cloud."""

from __future__ import annotations

import sys


def host_python() -> str:
    """The version of this Python, which the machines have too, as ``3.13``; a real Debian 13 has 3.13."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"
