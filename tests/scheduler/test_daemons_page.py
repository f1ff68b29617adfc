from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "daemons.md").read_text()


@pytest.mark.parametrize(
    ("title", "command"),
    [
        ("`grafos-scheduler`", ["grafos_scheduler"]),
        ("`fabricbiosd control-server`", ["grafos_cell", "control-server"]),
        ("`grafos-cell-agent`", ["grafos_cell.registered"]),
    ],
)
def test_the_page_has_exactly_the_flags_of_the_program(title: str, command: list[str]) -> None:
    section = PAGE.partition(f"## {title}")[2].partition("\n## ")[0]
    told = subprocess.run([sys.executable, "-m", *command, "--help"], capture_output=True, text=True, check=True).stdout
    flags = set(re.findall(r"--[a-z][a-z-]*", told.partition("options:")[2].partition("example:")[0])) - {"--help"}
    assert set(re.findall(r"^\| `(--[a-z-]+)`", section, re.MULTILINE)) == flags
