"""What goes wrong in the emulated clouds, and when: rules that a test or a person sets, drawn for each call."""

from __future__ import annotations

import random
import threading
from collections.abc import Collection, Mapping
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

import msgspec

LONGEST_WAIT_S = 366 * 86400.0


class Effect(StrEnum):
    """How a call goes wrong.

    ``REFUSE``: it is answered with ``error`` and has no effect. ``DELAY``: it is answered ``after_s`` later.
    ``LOST_REQUEST`` and ``LOST_ANSWER``: the connection breaks before, or after, its effect. ``OPERATION_ERROR``: it is
    accepted, and what it began ends with ``error``. ``SAYS_DONE_AND_IS_NOT``: it is said to be done, and nothing came
    of it. ``LAUNCH_THEN_DIE``: the machine runs and dies ``after_s`` later. ``SPOT_NOTICE``: ``after_s`` after a spot
    machine runs it is told that the cloud takes it back.
    """

    REFUSE = "refuse"
    DELAY = "delay"
    LOST_REQUEST = "lost_request"
    LOST_ANSWER = "lost_answer"
    OPERATION_ERROR = "operation_error"
    SAYS_DONE_AND_IS_NOT = "says_done_and_is_not"
    LAUNCH_THEN_DIE = "launch_then_die"
    SPOT_NOTICE = "spot_notice"


ANY_CALL = frozenset({Effect.REFUSE, Effect.DELAY, Effect.LOST_REQUEST, Effect.LOST_ANSWER})
"""What may befall a read as well; all else needs something to befall."""


def carried(*, mutating: bool, begins: bool, launches: bool, spot: bool) -> frozenset[Effect]:
    """What a call can carry out. ``begins``: it may be answered before it has failed; ``launches``: a machine comes of
    it; ``spot``: one that the cloud may take back."""
    if not mutating:
        return ANY_CALL
    found = {*ANY_CALL, Effect.SAYS_DONE_AND_IS_NOT}
    if begins:
        found.add(Effect.OPERATION_ERROR)
    if launches:
        found.add(Effect.LAUNCH_THEN_DIE)
    if launches and spot:
        found.add(Effect.SPOT_NOTICE)
    return frozenset(found)


class ErrorClass(StrEnum):
    """What an error is about; each cloud says it in its own words."""

    CAPACITY = "capacity"
    QUOTA = "quota"
    THROTTLED = "throttled"
    DENIED = "denied"
    AUTH = "auth"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


class Fault(msgspec.Struct, frozen=True):
    """What happens to one call. ``retry_after_s`` is what a throttled caller is told, None for nothing."""

    effect: Effect
    error: ErrorClass = ErrorClass.INTERNAL
    after_s: float = 0.0
    retry_after_s: float | None = None


class FaultRule(msgspec.Struct, frozen=True):
    """``fault`` befalls calls whose provider and operation (``RunInstances``, ``*.delete``) match, whose fields match
    too, and that can carry it out: ``times`` times (0: always), each time with ``probability``."""

    fault: Fault
    provider: str = "*"
    operation: str = "*"
    fields: Mapping[str, str] = {}
    times: int = 1
    probability: float = 1.0

    def __post_init__(self) -> None:
        """ValueError for a rule that says nothing."""
        if self.times < 0 or not 0.0 <= self.probability <= 1.0:
            raise ValueError("a rule's times are 0 or more, its probability is from 0 to 1")
        waits = (self.fault.after_s, self.fault.retry_after_s or 0.0)
        if not all(0.0 <= wait <= LONGEST_WAIT_S for wait in waits):
            raise ValueError(f"a rule waits from 0 to {LONGEST_WAIT_S:g} seconds")

    def matches(self, provider: str, operation: str, fields: Mapping[str, Any]) -> bool:
        """Whether the rule is about such a call."""
        return (
            fnmatchcase(provider, self.provider)
            and fnmatchcase(operation, self.operation)
            and all(fnmatchcase(str(fields.get(name, "")), pattern) for name, pattern in self.fields.items())
        )


class FaultPlan:
    """The rules in the order in which they were set; the first that matches is drawn. ``chance`` decides what is left
    to it, so one seed gives one run. Thread-safe."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._lock = threading.Lock()
        self._rules: list[FaultRule] = []
        self._left: list[int] = []

    def add(self, rule: FaultRule) -> None:
        """From the next call on."""
        with self._lock:
            self._rules.append(rule)
            self._left.append(rule.times)

    def clear(self) -> int:
        """Takes all rules back; how many of them could still befall a call."""
        with self._lock:
            count = len(self._in_force())
            self._rules, self._left = [], []
            return count

    def rules(self) -> tuple[FaultRule, ...]:
        """The rules that can still befall a call, with the times that are left to each."""
        with self._lock:
            return self._in_force()

    def _in_force(self) -> tuple[FaultRule, ...]:
        return tuple(
            msgspec.structs.replace(rule, times=left)
            for rule, left in zip(self._rules, self._left, strict=True)
            if rule.times == 0 or left > 0
        )

    def draw(
        self, provider: str, operation: str, fields: Mapping[str, Any], can: Collection[Effect] = tuple(Effect)
    ) -> Fault | None:
        """What befalls this call, which ``can`` carry out these effects: no rule is spent on another."""
        with self._lock:
            for number, rule in enumerate(self._rules):
                spent = rule.times > 0 and self._left[number] == 0
                if spent or rule.fault.effect not in can or not rule.matches(provider, operation, fields):
                    continue
                if rule.probability < 1.0 and self._chance.random() >= rule.probability:
                    continue
                self._left[number] -= 1 if rule.times > 0 else 0
                return rule.fault
            return None
