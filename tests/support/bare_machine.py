"""What the machines on which user data run as a program have in common."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Protocol


class Bare(Protocol):
    """A machine with a folder, and with tools in one that take notes there."""

    folder: Path
    tools: Path

    def tool(self, name: str, what: str) -> None: ...


SYSTEMD = """
case "$1 $2" in
  "is-active --quiet") test -e "timer-$3" ;;
  "stop "*) rm "timer-$2" ;;
esac"""
SYSTEMD_RUN = """
unit="${1#--unit=}.timer"
test -e "timer-$unit" && exit 1
for each; do case "$each" in --on-calendar=*) echo "${each#--on-calendar=}" > "timer-$unit" ;; esac; done"""


def without_shutdown(machine: Bare) -> None:
    """A machine whose ``shutdown`` takes no order; its systemd has timers, as files, and none of them twice."""
    machine.tool("shutdown", "exit 1")
    machine.tool("systemctl", SYSTEMD)
    machine.tool("systemd-run", SYSTEMD_RUN)
    for tool in ("sh", "rm"):
        (machine.tools / tool).symlink_to(shutil.which(tool) or "")


def timers(machine: Bare) -> dict[str, str]:
    return {file.name: file.read_text().strip() for file in machine.folder.glob("timer-grafos-*")}
