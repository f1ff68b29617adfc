"""What a cell consists of on each cloud."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from grafos_connectors.contract import Identity, Kind
from grafos_core.errors import GrafosError
from grafos_core.ids import FabricId
from grafos_stacks.aws import AwsLayout
from grafos_stacks.azure import AzureLayout
from grafos_stacks.gcp import GcpLayout
from grafos_stacks.plan import CellFacts, Lifetime, Planned, StackPlan
from grafos_stacks.spec import CellSpec


class Layout(Protocol):
    """One cloud's way to build a cell."""

    default_types: Mapping[str, str]
    """The machine type for an architecture when the person named none; the first one is tried first."""
    dies_with: Mapping[Kind, Kind]
    """Kinds that go when another goes, without a call of their own."""

    ahead_s_min: int
    ahead_s_max: int
    """How far ahead an end may lie when it is set: what the cloud's own deadline, or its timer, can stand for."""
    make_ahead_s_min: int
    """How long before its end a machine may still be made, so that the cloud's own deadline comes in time; 0 if that
    does not matter there."""
    moves_deadline: bool
    """Whether the end of a machine that runs can be moved past what was held for from the start."""
    left_behind: tuple[str, ...]
    """Parts of the bill that may cost on after the last layer that nobody has to start ended the machine."""

    def timer_at(self, life: Lifetime) -> int:
        """When the operating system's own timer fires (Unix seconds)."""
        ...

    def resources(self, fabric: FabricId, spec: CellSpec, facts: CellFacts, life: Lifetime) -> tuple[Planned, ...]:
        """A cell's resources, in the pattern of its cloud: the shared network's first, each after all it needs."""
        ...


_LAYOUTS: dict[str, Layout] = {"aws": AwsLayout(), "gcp": GcpLayout(), "azure": AzureLayout()}


def layout_of(provider: str) -> Layout:
    """The layout of a cloud, or ``unsupported``."""
    if provider not in _LAYOUTS:
        raise GrafosError(
            "unsupported",
            f"cells on {provider!r} cannot be provisioned by this version",
            next=f"use one of: {', '.join(_LAYOUTS)}",
        )
    return _LAYOUTS[provider]


def timer_of(spec: CellSpec, facts: CellFacts, life: Lifetime) -> int:
    """When the operating system's own timer fires (Unix seconds): where nobody moves it, for the latest end."""
    latest = Lifetime(life.held_until, life.held_until)
    return layout_of(spec.provider).timer_at(latest if stands_still(spec, facts) else life)


def stands_still(spec: CellSpec, facts: CellFacts) -> bool:
    """Whether nothing in the machine looks if it was extended. A registered cell reads its cloud's tags for that on a
    stock image alone; whoever has a port is told by its operator."""
    return bool(facts.baked) and spec.joins


def moves_end(plan: StackPlan) -> bool:
    """Whether the end of the plan's machine can be moved past what was held for from the start."""
    return layout_of(plan.spec.provider).moves_deadline and not stands_still(plan.spec, plan.facts)


def going_along(spec: CellSpec) -> Mapping[Kind, Kind]:
    """Kinds that go when another goes; not the address of an orchestrator's machine, which outlives that."""
    stays = Kind.ADDRESS if spec.orchestrates else None
    return {kind: whole for kind, whole in layout_of(spec.provider).dies_with.items() if kind is not stays}


def outliving(*, orchestrates: bool) -> tuple[str, ...]:
    """The parts of the bill that cost on when the machine is gone: the address at which an orchestrator is dialled."""
    return ("address",) if orchestrates else ()


def left_behind(provider: str, *, orchestrates: bool) -> tuple[str, ...]:
    """The parts of the bill that may cost on after the last layer that nobody has to start ended the machine."""
    kept = outliving(orchestrates=orchestrates)
    return tuple(dict.fromkeys((*layout_of(provider).left_behind, *kept)))


def check_ahead(provider: str, ends_at: float, now: float) -> None:
    """``config_invalid`` for an end so near or so far ahead that the cloud's own deadline cannot stand for it."""
    layout, ahead_s = layout_of(provider), ends_at - now
    if layout.ahead_s_min <= ahead_s <= layout.ahead_s_max:
        return
    near = ahead_s < layout.ahead_s_min
    bound = f"at least {layout.ahead_s_min / 60:g} min" if near else f"at most {layout.ahead_s_max / 3600:g} h"
    raise GrafosError(
        "config_invalid",
        f"on {provider} a cell's end lies {bound} ahead when it is set",
        where="ttl",
        why="the deadline that the cloud itself keeps for the machine stands for nothing else",
        next="ask for a later end" if near else "ask for less, and extend the cell while it lives: grafos cloud extend",
    )


def check_time_left(plan: StackPlan, now: float) -> None:
    """``plan_stale`` for a machine made so shortly before its end that the cloud's own deadline would come too late."""
    left_s, provider = plan.expires_at - now, plan.spec.provider
    least_s = layout_of(provider).make_ahead_s_min
    if not least_s or left_s >= least_s:
        return
    raise GrafosError(
        "plan_stale",
        f"{plan.stack} ends in {max(0.0, left_s) / 60:.0f} min, and its machine is not made yet",
        where="ttl",
        why=f"the deadline that {provider} itself keeps for a machine could not stand in time",
        next=f"grafos cloud teardown {provider} --cell-id {plan.stack}   then provision it with a new --ttl",
    )


CLOCK_OFF_S_MAX = 60.0
"""How far our clock may be off the cloud's. Ends are counted by ours, and what is held covers two minutes more."""


def check_clock(identity: Identity, now: float) -> None:
    """``config_invalid`` if our clock is not the cloud's: the cell would end at another time than is paid for, and a
    schedule that knows no date perhaps on another day. A cloud that did not tell its time leaves it open, and an
    emulated one, which costs nothing, may live by a clock of its own."""
    ahead_s = now - identity.server_time
    if identity.emulated or not identity.server_time or abs(ahead_s) <= CLOCK_OFF_S_MAX:
        return
    raise GrafosError(
        "config_invalid",
        f"this machine's clock is {abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} the cloud's",
        where=f"the clock, asked of {identity.provider}",
        why="when a cell ends is counted by it",
        next="set the clock: timedatectl set-ntp true",
    )


UNMAKE_ORDER = (
    Kind.IMAGE,
    Kind.IMAGE_FAMILY,
    Kind.GALLERY,
    Kind.SNAPSHOT,
    Kind.OBJECT,
    Kind.BUCKET,
    Kind.MACHINE,
    Kind.DEADLINE,
    Kind.NIC,
    Kind.ADDRESS_ATTACHMENT,
    Kind.ADDRESS,
    Kind.DISK,
    Kind.FIREWALL_RULE,
    Kind.FIREWALL,
    Kind.ROUTE,
    Kind.SUBNET,
    Kind.GATEWAY_ATTACHMENT,
    Kind.GATEWAY,
    Kind.NETWORK,
    Kind.GROUP,
)
"""What is deleted before what, on every cloud: whatever needs another goes before it. A deadline is the exception: it
stays until its machine is gone, because it is what ends the machine if we do not."""
