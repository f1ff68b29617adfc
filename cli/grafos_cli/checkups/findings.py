"""What a check-up found."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum

import msgspec

from grafos_core.errors import GrafosError


class Status(StrEnum):
    """``NONE``: there is nothing of the kind here, which is no fault. ``FIXED``: it was wrong until just now."""

    OK = "ok"
    NONE = "none"
    FIXED = "fixed"
    WARN = "warn"
    FAIL = "fail"


class Finding(msgspec.Struct, frozen=True):
    """One line of the doctor's: where, what was looked at, how it is, and what to do about it."""

    area: str
    name: str
    status: Status
    what: str
    next: str = ""


Check = Callable[[], Iterable[Finding]]


def findings_of(area: str, name: str, check: Check) -> list[Finding]:
    """What the check gives; an error of ours is a finding too, and ends this check alone."""
    try:
        return list(check())
    except GrafosError as error:
        why = error.why or error.where
        what = f"{error.code}: {error.what}" + (f" ({why})" if why else "")
        return [Finding(area, name, Status.FAIL, what, error.next)]
    except OSError as error:
        return [Finding(area, name, Status.FAIL, f"{type(error).__name__}: {error}")]
