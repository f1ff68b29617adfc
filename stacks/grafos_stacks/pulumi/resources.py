"""What a Pulumi program declares: a cell, or a fleet of them, and the resources that they consist of.

    from grafos_stacks.pulumi.resources import Cell

    cell = Cell("build", provider="aws", region="eu-central-1", ttl="2h", allow="203.0.113.7/32")
    pulumi.export("url", cell.scheduler_url)

What is left open (zone, type, image, price, expiry) is resolved when the cell is made and stays with it: a newer image
or another price is no difference to what was declared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import pulumi

from grafos_stacks.pulumi.roles import Role, roles_on
from grafos_stacks.pulumi.schema import HANDOVER, PLAN, token_of_kind
from grafos_stacks.pulumi.shares import CELLS_OF_A_STACK_MAX, shares_of

Value = TypeVar("Value")


class _Output(Generic[Value]):
    """An output under its name as Python spells it; a program's other languages know it as ``schedulerUrl``."""

    def __set_name__(self, owner: type, name: str) -> None:
        head, *rest = name.split("_")
        self._name = head + "".join(part.capitalize() for part in rest)

    def __get__(self, resource: pulumi.Resource, owner: type) -> pulumi.Output[Value]:
        found: pulumi.Output[Value] = resource.__dict__[self._name]
        return found


class Plan(pulumi.CustomResource):
    """A cell's plan and the hold of its worst case. Everything else of the cell comes after it and goes before it."""

    account = _Output[str]()
    """The account, project or subscription."""
    zone = _Output[str]()
    """Where the machine is made."""
    machine_type = _Output[str]()
    """The type that was chosen."""
    image = _Output[str]()
    """The cloud's id of the image that was chosen."""
    price = _Output[str]()
    """What the cell costs by the hour, as people read it."""
    rate_micro_cents_per_hour = _Output[int]()
    """The same, exactly."""
    held_micro_cents = _Output[int]()
    """The worst case that the fabric's ledger holds for it."""
    expires_at = _Output[int]()
    """When the machine ends itself (Unix seconds)."""
    keys = _Output[Mapping[str, str]]()
    """The key of each part, by its role."""

    def __init__(self, name: str, asked: Mapping[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        later = ("account", "zone", "machineType", "image", "price", "expiresAt", "keys", "document", "madeAt")
        numbers = ("rateMicroCentsPerHour", "heldMicroCents")
        super().__init__(PLAN, name, {**asked, **dict.fromkeys((*later, *numbers))}, opts)


class Part(pulumi.CustomResource):
    """One cloud resource of a cell."""

    state = _Output[str]()
    """What the cloud says of it: ``ready`` when all is well."""
    zone = _Output[str]()
    """Where it is, for what is in a zone."""
    public_ip = _Output[str]()
    """Of a machine: where it is reached."""
    private_ip = _Output[str]()
    """Of a machine: its address inside the network."""

    def __init__(
        self, name: str, role: Role, asked: Mapping[str, Any], opts: pulumi.ResourceOptions | None = None
    ) -> None:
        outputs = ("name", "stack", "state", "zone", "account", "publicIp", "privateIp", "machineType", "image")
        super().__init__(token_of_kind(role.kind), name, {**asked, **dict.fromkeys(outputs)}, opts)


class Handover(pulumi.CustomResource):
    """From a machine that runs to a cell that is ready; its end brings the cell's runs and receipts home."""

    scheduler_url = _Output[str]()
    """Where the cell's scheduler answers; empty for a registered cell, which nobody can dial."""
    state = _Output[str]()
    """``ready``, or ``booted`` for one that joins nothing."""

    def __init__(self, name: str, asked: Mapping[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(HANDOVER, name, {**asked, **dict.fromkeys(("schedulerUrl", "state", "tenant"))}, opts)


def declare_parts(
    name: str,
    provider: str,
    place: Mapping[str, str],
    plan: Plan,
    parent: pulumi.Resource | None = None,
    beside: Mapping[str, Part] | None = None,
) -> dict[str, Part]:
    """The cloud resources of a plan, by their roles. What a region's cells share is made one after the other, as the
    plan has it; the rest after what it needs. ``beside`` are those of another cell of the region in the same program,
    which has declared what they share: an engine writes all that it knows with each step, so what is declared twice
    costs twice."""
    declared = {role.name: beside[role.name] for role in roles_on(provider) if beside and role.shared}
    parts, shared = dict(declared), list(declared.values())
    for role in roles_on(provider):
        if role.name in declared:
            continue
        asked = {
            **place,
            "role": role.name,
            "key": plan.keys.apply(partial(_of_role, role.name)),
            "needs": {word: parts[needed].id for word, needed in role.needs.items()},
        }
        opts = pulumi.ResourceOptions(parent=parent, depends_on=[plan, *shared[-1:]])
        if role.dies_with in parts and not role.shared:
            opts = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(deleted_with=parts[role.dies_with]))
        parts[role.name] = Part(f"{name}-{role.name}", role, asked, opts)
        if role.shared:
            shared.append(parts[role.name])
    return parts


class Cell(pulumi.ComponentResource):
    """A cell: a machine with all it needs, its software, and its place in the fabric.

    ``cell_id`` is its name in the fabric, the resource's own unless given. ``ttl`` and ``max_ttl`` are written like
    90m, 8h, 2d. ``allow`` is who may reach a standalone cell. A raised ``renewal`` gives one that ran out a new life.
    ``rails`` are guard rails as the schema has them: maxHourlyCents, longestTtl, allowedRegions, allowedTypes.
    ``beside`` is another cell of the region in the same program, which has declared what they share.
    """

    cell_id: pulumi.Output[str]
    """Its name in the fabric, once it is ready."""
    scheduler_url: pulumi.Output[str]
    """Where its scheduler answers."""
    price: pulumi.Output[str]
    """What it costs by the hour, as people read it."""
    expires_at: pulumi.Output[int]
    """When its machine ends itself (Unix seconds)."""
    parts: Mapping[str, Part]
    """Its cloud resources, by their roles."""

    def __init__(
        self,
        name: str,
        *,
        provider: str,
        region: str,
        cell_id: str = "",
        ttl: str = "8h",
        max_ttl: str = "",
        renewal: int = 0,
        zone: str = "",
        type: str = "",
        arch: str = "",
        disk_gib: int = 0,
        port: int = 0,
        spot: bool = False,
        allow: pulumi.Input[str] = "",
        joining: str = "",
        rails: Mapping[str, Any] | None = None,
        beside: Cell | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("grafos:cell:Cell", name, None, opts)
        self.name = name
        wanted = {
            "maxTtl": max_ttl,
            "renewal": renewal,
            "zone": zone,
            "type": type,
            "arch": arch,
            "diskGib": disk_gib,
            "port": port,
            "spot": spot,
            "allow": allow,
            "joining": joining,
            **(rails or {}),
        }
        place = {"cellId": cell_id or name, "provider": provider, "region": region}
        asked = {**place, "ttl": ttl, **{key: value for key, value in wanted.items() if _is_set(value)}}
        self.plan = Plan(f"{name}-plan", asked, pulumi.ResourceOptions(parent=self))
        self.parts = declare_parts(name, provider, place, self.plan, self, beside.parts if beside else None)
        handed = {**place, "machine": self.parts["machine"].id}
        after = [*self.parts.values(), self.plan]
        self.handover = Handover(f"{name}-handover", handed, pulumi.ResourceOptions(parent=self, depends_on=after))
        self.cell_id, self.scheduler_url = self.handover.id, self.handover.scheduler_url
        self.price, self.expires_at = self.plan.price, self.plan.expires_at
        self.register_outputs(
            {
                "cellId": self.cell_id,
                "schedulerUrl": self.scheduler_url,
                "price": self.price,
                "expiresAt": self.expires_at,
            }
        )


class Fleet(pulumi.ComponentResource):
    """``count`` cells alike: ``<name>-1`` to ``<name>-<count>``, or ``<name>`` itself for one.

    A stack takes 64; more are more stacks: ``shares_of`` gives each one's ``count``, and ``first``, the number that
    its cells begin with.
    """

    cells: Sequence[Cell]
    """The cells, in their order."""

    def __init__(
        self, name: str, *, count: int, first: int = 1, opts: pulumi.ResourceOptions | None = None, **cell: Any
    ) -> None:
        if not 0 <= count <= CELLS_OF_A_STACK_MAX:
            raise ValueError(f"a stack takes {CELLS_OF_A_STACK_MAX} cells; {count} are {len(shares_of(count))} stacks")
        super().__init__("grafos:cell:Fleet", name, None, opts)
        alone = count == 1 and first == 1
        names = [name] if alone else [f"{name}-{number}" for number in range(first, first + count)]
        inner = pulumi.ResourceOptions(parent=self)
        cells: list[Cell] = []
        for each in names:
            cells.append(Cell(each, **cell, beside=cells[0] if cells else None, opts=inner))
        self.cells = tuple(cells)
        self.register_outputs({"cellIds": [each.cell_id for each in self.cells]})


def _of_role(role: str, keys: Mapping[str, str]) -> str:
    return keys[role]


def _is_set(value: object) -> bool:
    return isinstance(value, pulumi.Output) or value not in ("", 0, False, None)
