"""When a standalone cell ends, and how its operator moves that.

    <state>/end-wanted   Unix seconds; the scheduler writes it when its operator tells new terms
    <state>/end          Unix seconds; what holds. The supervisor writes it once the machine's own timer stands there

The supervisor is the only one that moves the timer. It takes no end that lies past the last moment that the machine was
born with, so no mistake of the cell's software makes a machine immortal. The daemon, the scheduler's answer to the
operator, and the bootstrap after a reboot follow the second file: whoever dies on the way leaves the earlier end.

On a baked machine the supervisor is no more than its daemons are, and asks ``grafos_cell.moving_end``, which is root,
to move the timer (``asking``).
"""

from __future__ import annotations

import contextlib
import math
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from grafos_core.machine_files import END_FILE, END_WANTED_FILE, moment_text, read_moment
from grafos_core.paths import write_private

COMMAND_S_MAX = 10.0
TIMER_UNIT = "grafos-expiry-{at}"
"""The timer for a moment that the bootstrap makes where ``shutdown`` does not take the order."""
SYSTEMD = Path("/run/systemd/system")
"""There where systemd runs the machine."""
LOGINS = "systemd-logind.service"
"""Who keeps an order of ``shutdown`` for later."""

Mover = Callable[[int, int, Callable[[str], object]], bool]
"""Whether the machine switches itself off at the first moment now, and no longer at the second."""


@dataclass
class Ending:
    """The supervisor's side. ``at`` is the end that holds, ``at_most`` the latest that will be taken; ``move`` is
    another way to move the timer than ``move_timer``."""

    state: Path
    at: float
    at_most: float
    say: Callable[[str], object]
    refused: int = 0
    move: Mover | None = None

    def begin(self) -> None:
        """Takes up an end that was moved before the machine, or this program, started again."""
        kept = read_moment(self.state / END_FILE)
        if kept and kept <= self.at_most:
            self.at = float(kept)
        self._write()

    def follow(self) -> None:
        """Moves the timer to where the operator wants it. Harmless when there is nothing to do, or no disk left."""
        wanted = read_moment(self.state / END_WANTED_FILE)
        if not wanted or wanted in (int(self.at), self.refused):
            return
        if wanted > self.at_most:
            self.refused = wanted
            self.say(f"an end at {wanted} is not taken: this machine ends at {self.at_most:.0f} at the latest")
        elif (self.move or move_timer)(wanted, int(self.at), self.say):
            self.at = float(wanted)
            self._write()
            self.say(f"the machine's end was moved to {wanted}")

    def _write(self) -> None:
        with contextlib.suppress(OSError):
            write_private(self.state / END_FILE, moment_text(self.at))


def move_timer(at: int, before: int, say: Callable[[str], object]) -> bool:
    """Whether the operating system switches the machine off at ``at`` now, and no longer at ``before``."""
    minutes = max(0, math.ceil((at - time.time()) / 60))
    if keeps_orders(SYSTEMD, say) and _runs(["shutdown", "-P", f"+{minutes}" if minutes else "now"], say):
        return True
    return set_timer(at, before, say)


def asking(asked: Path, told: Path) -> Mover:
    """Asks somebody else, by one file, to move the timer; the other one tells where it stands. So it is asked again
    and again, and moved when that is told."""

    def move(at: int, before: int, say: Callable[[str], object]) -> bool:  # noqa: ARG001  the shape of a Mover
        if read_moment(told) == at:
            return True
        with contextlib.suppress(OSError):
            write_moment(asked, at)
        return False

    return move


def write_moment(path: Path, at: float) -> None:
    """For everybody to read, whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(moment_text(at))
    part.chmod(0o644)
    part.replace(path)


def keeps_orders(systemd: Path, say: Callable[[str], object]) -> bool:
    """Whether ``shutdown`` can be told a time. Where systemd runs and nobody manages log-ins, it takes any for now: a
    baked machine would end at once."""
    return not systemd.is_dir() or _runs(["systemctl", "is-active", "--quiet", LOGINS], say)


def set_timer(at: int, before: int, say: Callable[[str], object]) -> bool:
    """As ``move_timer``, with a timer of systemd: where nobody manages log-ins that is the only way."""
    unit, moment = TIMER_UNIT.format(at=at), max(at, int(time.time()) + 5)  # a moment that has passed never comes
    is_set = _runs(["systemctl", "is-active", "--quiet", f"{unit}.timer"], say)  # by one who died before he noted it
    order = ["systemd-run", f"--unit={unit}", f"--on-calendar=@{moment}", "shutdown", "-P", "now"]
    if not is_set and not _runs(order, say):
        return False
    if before:
        _runs(["systemctl", "stop", f"{TIMER_UNIT.format(at=before)}.timer"], say)
    return True


def _runs(command: Sequence[str], say: Callable[[str], object]) -> bool:
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, check=False, timeout=COMMAND_S_MAX).returncode == 0
    except (OSError, subprocess.SubprocessError) as error:
        say(f"{command[0]}: {error}")
        return False
