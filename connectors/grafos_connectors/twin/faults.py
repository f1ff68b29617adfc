"""What goes wrong in the twin, and when: a plan of rules drawn from one seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from grafos_connectors.contract import CloudError, Kind


class Effect(StrEnum):
    """What a fault does to the call that it hits."""

    REFUSE = "refuse"  # the cloud answers with an error and does nothing
    LOSE_ANSWER = "lose_answer"  # the cloud does its work, and the answer is lost
    LOSE_REQUEST = "lose_request"  # the cloud never hears of it; the caller cannot tell this from a lost answer
    DIE_LATER = "die_later"  # a create is accepted, and the resource fails before it is ready


@dataclass(frozen=True)
class Fault:
    """One rule. It hits calls of ``operation`` ("begin_create", "begin_delete", "poll", ...) on ``kind`` (None: any).

    The first ``skip`` matching calls pass, then at most ``times`` are hit, each with ``probability``. ``code`` is the
    error's class for ``REFUSE`` and ``DIE_LATER``, ``alternatives`` and ``retry_after_s`` go into it.
    """

    operation: str
    effect: Effect
    kind: Kind | None = None
    code: str = "cloud_unknown"
    alternatives: tuple[str, ...] = ()
    retry_after_s: float = 0.0
    skip: int = 0
    times: int = 1
    probability: float = 1.0

    def error(self) -> CloudError:
        """The refusal in the cloud's words."""
        return CloudError(
            self.code,
            f"The cloud refused {self.operation}.",
            why="planned fault",
            cloud_code="PlannedFault",
            alternatives=self.alternatives,
            retry_after_s=self.retry_after_s,
        )


class FaultPlan:
    """Rules in order; the first that hits a call decides. Draws from ``chance`` only when a rule has a probability."""

    def __init__(self, faults: Sequence[Fault] = (), *, chance: random.Random | None = None) -> None:
        self._rules = [_Rule(fault) for fault in faults]
        self._chance = chance or random.Random(0)  # noqa: S311  a plan must replay from its seed

    def add(self, fault: Fault) -> None:
        self._rules.append(_Rule(fault))

    def draw(self, operation: str, kind: Kind | None) -> Fault | None:
        """The fault that hits this call, if any; counts the call."""
        hits = [rule.fault for rule in self._rules if rule.meets(operation, kind, self._chance.random)]
        return hits[0] if hits else None


class _Rule:
    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self._seen = 0
        self._hit = 0

    def meets(self, operation: str, kind: Kind | None, draw: Callable[[], float]) -> bool:
        fault = self.fault
        if operation != fault.operation or (fault.kind is not None and kind is not fault.kind):
            return False
        self._seen += 1
        if self._seen <= fault.skip or self._hit >= fault.times:
            return False
        if fault.probability < 1.0 and draw() >= fault.probability:
            return False
        self._hit += 1
        return True


def lost_answer(operation: str) -> CloudError:
    """What a caller sees when no answer came: the call may or may not have had its effect."""
    return CloudError(
        "cloud_unreachable", f"The answer to {operation} was lost.", cloud_code="ConnectionClosed", ambiguous=True
    )
