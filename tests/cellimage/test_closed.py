"""The image is closed: what its daemons may do, and what of it listens."""

from __future__ import annotations

import json
import re
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest

EXPOSURE_MAX = 1.5
UNITS = Path(str(files("grafos_cellimage"))) / "inside" / "etc" / "systemd" / "system"
SERVICES = ("grafos-cell.service", "grafos-end.service", "grafos-first-boot.service")


@pytest.mark.parametrize("unit", SERVICES)
@pytest.mark.needs("image")
def test_a_daemon_is_closed_off_from_what_it_does_not_need(unit: str) -> None:
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", "--json=short", str(UNITS / unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    text = subprocess.run([*command[:4], str(UNITS / unit)], capture_output=True, text=True, check=False).stdout
    score = re.search(r"Overall exposure level for \S+: ([0-9.]+)", text)
    assert score, done.stderr
    open_ways = [entry["description"] for entry in json.loads(done.stdout or "[]") if not entry.get("set")]
    assert float(score[1]) <= EXPOSURE_MAX, open_ways


@pytest.mark.parametrize("unit", SERVICES)
def test_no_unit_asks_for_a_right(unit: str) -> None:
    text = (UNITS / unit).read_text()
    assert "CapabilityBoundingSet=\n" in text
    assert "NoNewPrivileges=yes\n" in text
    assert "AmbientCapabilities=CAP" not in text


def test_the_state_can_hold_no_program_and_no_device() -> None:
    options = re.search(r"^Options=(.*)$", (UNITS / "var-lib-private.mount").read_text(), re.MULTILINE)
    assert options
    assert {"nosuid", "nodev", "noexec"} <= set(options[1].split(","))
