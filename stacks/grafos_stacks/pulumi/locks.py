"""Who holds a Pulumi stack, as an engine's refusal tells it, and whether that is known to be dead.

An engine looks for the locks of its backend itself, whatever the backend is, and names each with process, host and
moment. A lock has no end of its own, and the engine's own `cancel` asks nobody: so it is for a dead process of this
machine alone.
"""

from __future__ import annotations

import os
import re
import socket
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from grafos_core.errors import GrafosError

_TOLD = re.compile(r"created by (\S*)@(\S+) \(pid (\d+)\) at (\S+)")


class Holder(NamedTuple):
    """A process that holds a stack, on a host, since when (Unix seconds; 0 unknown)."""

    user: str
    host: str
    pid: int
    since: float

    @property
    def is_dead(self) -> bool:
        """Whether it is known that it is."""
        if self.host != socket.gethostname():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return _is_zombie(self.pid)


def holders_in(refusal: str) -> tuple[Holder, ...]:
    """All that an engine's refusal names."""
    return tuple(Holder(user, host, int(pid), _moment(at)) for user, host, pid, at in _TOLD.findall(refusal))


def held(stack: str, holders: tuple[Holder, ...], now: float) -> GrafosError:
    """``stack_busy``, naming who holds the stack and for how long."""
    living = [one for one in holders if not one.is_dead]
    who = ", ".join(f"process {one.pid} of {one.user} on {one.host}{_for(one, now)}" for one in living)
    here = any(one.host == socket.gethostname() for one in living)
    dead = "" if here else "; if it is dead there: pulumi cancel, on that machine"
    return GrafosError(
        "stack_busy",
        f"the Pulumi stack {stack} is held by {who or 'another command'}",
        next=f"wait until it has ended, then run this again{dead}",
    )


def _for(holder: Holder, now: float) -> str:
    return f", for {max(0.0, now - holder.since):.0f} s" if holder.since else ""


def _moment(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0


def _is_zombie(pid: int) -> bool:
    """Whether only its entry is left, since nobody fetched its exit code; told where there is a /proc."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"Z"
    except (OSError, IndexError):
        return False
