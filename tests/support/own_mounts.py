"""Programs that see another machine than this one: its disks, tools and keys, without any right on it."""

from __future__ import annotations

import subprocess
from pathlib import Path

OWN_MOUNTS = ("unshare", "--user", "--map-root-user", "--mount", "--propagation", "private", "sh", "-ec")
RUN_S_MAX = 300.0


def with_own_mounts(script: str, *words: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Runs a shell script with mounts of its own, as whoever is root in them."""
    return subprocess.run(
        [*OWN_MOUNTS, script, "sh", *words], cwd=home, capture_output=True, text=True, check=False, timeout=RUN_S_MAX
    )
