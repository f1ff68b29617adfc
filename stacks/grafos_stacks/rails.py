"""Guard rails: what nobody may ask for here, whichever engine makes it. The command line and Pulumi's provider both ask
this module, before anything is made.

Some hold always and are nobody's to set: a cell's port is never open to the world, its disk is encrypted by its cloud,
and everything bears its fabric, its owner's key and its end among its tags. Those are in ``spec`` and in the layouts.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from grafos_core.errors import GrafosError
from grafos_core.money import format_cents, from_cents
from grafos_stacks.plan import StackPlan
from grafos_stacks.spec import CellSpec, typed


class Rails(msgspec.Struct, frozen=True):
    """What is allowed; empty and 0 bound nothing. ``cells`` and ``cents_per_hour`` are for all cells that are asked for
    together."""

    regions: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    ttl_s: int = 0
    cells: int = 0
    cents_per_hour: int = 0

    def check_asked(self, spec: CellSpec, count: int = 1) -> None:
        """``config_invalid`` or ``limit_exceeded`` for what the inputs alone tell."""
        if self.regions and spec.region not in self.regions:
            raise _barred("region", spec.region, self.regions)
        if self.types and spec.machine_type and spec.machine_type not in self.types:
            raise _barred("type", spec.machine_type, self.types)
        self.check_life(spec.longest_s)
        if self.cells and count > self.cells:
            raise GrafosError(
                "limit_exceeded",
                f"{count} cells are more than the {self.cells} that the guard rails allow at once",
                where="count",
                next=f"ask for {self.cells} or less",
            )

    def check_life(self, seconds: int) -> None:
        """``config_invalid`` for a cell that would live longer, from its beginning to its end."""
        if self.ttl_s and seconds > self.ttl_s:
            raise GrafosError(
                "config_invalid",
                f"a life of {typed(seconds)} is more than the {typed(self.ttl_s)} that the guard rails allow",
                where="ttl",
                next=f"ask for {typed(self.ttl_s)} or less",
            )

    def check_planned(self, plan: StackPlan, count: int = 1) -> None:
        """``config_invalid`` for a machine that is not allowed, ``budget_exceeded`` for a rate that is too high."""
        if self.types and plan.facts.offer.machine_type not in self.types:
            raise _barred("type", plan.facts.offer.machine_type, self.types)
        rate = count * plan.billed_micro_cents_per_hour
        if self.cents_per_hour and rate > from_cents(self.cents_per_hour):
            cells = f"{count} cells like {plan.stack} cost" if count > 1 else f"{plan.stack} costs"
            raise GrafosError(
                "budget_exceeded",
                f"{cells} {format_cents(rate)} an hour, disk and address included, and the guard rails allow "
                f"at most {format_cents(from_cents(self.cents_per_hour))}",
                next="choose a smaller type, or less of them",
            )


def _barred(name: str, value: str, allowed: Sequence[str]) -> GrafosError:
    return GrafosError(
        "config_invalid",
        f"{value} is not among what the guard rails allow",
        where=name,
        next=f"use one of {', '.join(allowed)}",
    )
