"""What the parts of a cell are called in a program, where their zone is not known yet.

A role is a plan's name for a resource, but for a subnet that bears its zone in its name: there it is only ``subnet``.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from grafos_connectors.contract import Image, Kind, Offer, Price
from grafos_core.errors import GrafosError
from grafos_core.ids import FabricId
from grafos_stacks.layouts import layout_of
from grafos_stacks.plan import CellFacts, Lifetime, Planned, StackPlan
from grafos_stacks.planner import NO_BUNDLE
from grafos_stacks.spec import SHARED_PREFIX, CellSpec


class Role(NamedTuple):
    """A part of every cell on a cloud. ``needs`` maps what the cloud calls it to a role; ``shared``: it belongs to the
    region; ``dies_with`` is the role of the part that takes it along, "" if none does."""

    name: str
    kind: Kind
    needs: dict[str, str]
    shared: bool
    dies_with: str


def role_of(what: Planned) -> str:
    """The role of a planned resource."""
    return "subnet" if what.kind is Kind.SUBNET else what.name


def keys_of(plan: StackPlan) -> dict[str, str]:
    """The key of each part, by its role."""
    return {role_of(what): what.key for what in plan.resources}


def in_role(plan: StackPlan, role: str) -> Planned:
    """The resource of the plan that has the role."""
    found = next((what for what in plan.resources if role_of(what) == role), None)
    if found is None:
        raise GrafosError("config_invalid", f"a cell on {plan.spec.provider} has no part {role!r}", where="role")
    return found


def kinds_upon(provider: str, role: str) -> frozenset[Kind]:
    """The kinds of the parts that need the part of that role, or need one that does, and do not go along with it."""
    upon = {role}
    roles = roles_on(provider)
    for each in roles:  # each stands after all that it needs
        if upon & set(each.needs.values()):
            upon.add(each.name)
    return frozenset(each.kind for each in roles if each.name in upon - {role} and each.dies_with != role)


@cache
def roles_on(provider: str) -> tuple[Role, ...]:
    """The parts of a cell on that cloud, each after all it needs: those of a specimen, since they follow from nothing
    that a person chooses."""
    layout = layout_of(provider)
    spec = CellSpec(provider=provider, cell_id="specimen", region="r", operator_cidr="127.0.0.1/32")
    facts = CellFacts(
        account="",
        emulated=True,
        offer=Offer("r", "ra", "t", "amd64", 1, 1),
        image=Image("i", "i", "amd64", "3.13"),
        price=Price("r", "t", 0, 0, 0, "", "", fictional=True),
        bundle=NO_BUNDLE,
    )
    parts = layout.resources(FabricId("specimen"), spec, facts, Lifetime(0, 0))
    by_name = {what.name: role_of(what) for what in parts}
    by_kind = {what.kind: role_of(what) for what in parts}
    return tuple(
        Role(
            role_of(what),
            what.kind,
            {role: by_name[name] for role, name in what.needs.items()},
            what.stack.startswith(SHARED_PREFIX),
            by_kind.get(layout.dies_with[what.kind], "") if what.kind in layout.dies_with else "",
        )
        for what in parts
    )
