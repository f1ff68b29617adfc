"""The emulated clouds of whoever is at the shell: where they are, and whether they run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from grafos_core.errors import GrafosError
    from grafos_emulators.daemon import EmulatorInfo

OLD_NAME = "aws"
"""Below the emulator's folder: where one kept its state when it emulated AWS alone."""


def emulator_folder() -> Path:
    """Where the emulated clouds of this person keep their state and their machines."""
    from grafos_core.paths import state_home

    return state_home() / "emulate"


def running_emulator() -> EmulatorInfo:
    """The emulator that runs, else ``emulator_not_running`` with the command that starts it."""
    from grafos_core.errors import GrafosError
    from grafos_emulators import daemon

    info = daemon.read(emulator_folder())
    if info is None:
        raise GrafosError(
            "emulator_not_running", "No emulated cloud runs", where=str(emulator_folder()), next="grafos emulate up"
        )
    return info


def check_provider(provider: str, info: EmulatorInfo) -> None:
    """Refuses, as ``usage``, a cloud that the emulator does not serve; empty stands for all."""
    if provider and provider not in info.clouds:
        raise usage(f"There is no emulated {provider[:60]!r}", f"use one of: {', '.join(info.clouds)}")


def usage(what: str, next: str) -> GrafosError:
    """What was asked for cannot be."""
    from grafos_core.errors import GrafosError

    return GrafosError("usage", what, next=next)
