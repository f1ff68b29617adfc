"""From what a person asks and what the cloud says to a plan.

``read_facts`` asks the cloud and changes nothing; ``plan_cell`` decides and asks nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from grafos_connectors.contract import CloudError, Connector, Image, Kind, Offer
from grafos_core.errors import GrafosError
from grafos_core.ids import FabricId
from grafos_stacks.bill import worst_case
from grafos_stacks.layouts import check_ahead, layout_of, left_behind, timer_of
from grafos_stacks.plan import BundlePin, CellFacts, Lifetime, Planned, StackPlan, shared_stack_of
from grafos_stacks.prices import PriceFor, price_today
from grafos_stacks.spec import NOT_AT_ALL, CellSpec, check_spec

PREDICTED_S: dict[Kind, float] = {Kind.MACHINE: 12.0}
PREDICTED_OTHER_S = 1.0
PREDICTED_BOOT_S = 30.0
"""From a running machine to a ready cell. EC2 starts a guest about 26 s after the call, as public benchmarks say."""
PREDICTED_EMULATED_S = 6.0
PREDICTED_INSTALL_S = 15.0
"""The part of these that a baked image saves: the first-start work of a whole distribution, and 20 MB of software that
are fetched, unpacked and compiled."""
PREDICTED_EMULATED_INSTALL_S = 2.0
PREDICTED_JOIN_S = 35.0
"""Of a registered cell: half a minute of steady heartbeats, before it counts as healthy."""

NO_BUNDLE = BundlePin("", 0)
"""A machine that joins nothing gets no software."""

BundleFor = Callable[[str, str], BundlePin]
"""Gives the software for an architecture and a version of Python ("arm64", "3.13")."""


def read_facts(
    connector: Connector, spec: CellSpec, bundle_for: BundleFor, price_for: PriceFor = price_today
) -> CellFacts:
    """What the plan needs to know; the choices that ``spec`` leaves open are made here.

    Besides what the cloud may raise: ``cloud_capacity`` when no zone offers the type, ``config_invalid`` when type,
    architecture and disk do not go together, ``price_missing``, ``price_stale`` or ``price_implausible``.
    """
    check_spec(spec)
    identity = connector.identity()
    image, machine_type = image_and_type(connector, spec)
    check_disk(spec, image)
    offer = choose_offer(spec, connector.offers(spec.region, machine_type), machine_type, image.arch)
    return CellFacts(
        account=identity.account,
        emulated=identity.emulated,
        offer=offer,
        image=image,
        price=price_for(connector, identity, offer),
        bundle=bundle_of(spec, image, bundle_for),
    )


def plan_cell(spec: CellSpec, facts: CellFacts, fabric: FabricId, now: float) -> StackPlan:
    """The plan of a cell, its worst-case bill and its expiry. Pure: the same arguments give the same plan.

    ``config_invalid`` for a TTL that reaches farther than the cloud's own deadline.
    """
    layout = layout_of(spec.provider)
    check_ahead(spec.provider, now + spec.ttl_s, now)
    life = Lifetime(int(now) + spec.ttl_s, int(now) + spec.longest_s)
    resources = layout.resources(fabric, spec, facts, life)
    behind = left_behind(spec.provider, orchestrates=spec.orchestrates)
    return StackPlan(
        fabric=fabric,
        stack=spec.cell_id,
        shared_stack=shared_stack_of(spec.provider, spec.region),
        spec=spec,
        facts=facts,
        made_at=now,
        expires_at=life.expires_at,
        resources=resources,
        bill=worst_case(facts.price, spec.disk_gib, spec.longest_s, behind, spec.provider),
        predicted_s=_predicted(resources, facts) + (PREDICTED_JOIN_S if spec.joins else 0.0),
        held_until=life.held_until,
        timer_at=timer_of(spec, facts, life),
    )


def in_zone(plan: StackPlan, offer: Offer) -> StackPlan:
    """The same cell in another zone of its region: the same key, price and end, so the next attempt at one machine."""
    return _with_facts(plan, msgspec.structs.replace(plan.facts, offer=offer))


def started_from(
    plan: StackPlan, image: Image, baked: str, bundle: BundlePin, *, secure_boot: bool = False
) -> StackPlan:
    """The same machine from another image and with other software: the same key, price and end."""
    facts = msgspec.structs.replace(plan.facts, image=image, baked=baked, bundle=bundle, secure_boot=secure_boot)
    return _with_facts(plan, facts)


def _with_facts(plan: StackPlan, facts: CellFacts) -> StackPlan:
    resources = layout_of(plan.spec.provider).resources(FabricId(plan.fabric), plan.spec, facts, plan.life)
    return msgspec.structs.replace(plan, facts=facts, resources=resources)


def instead_of(before: StackPlan, after: StackPlan) -> StackPlan:
    """What ``after`` makes, with the end and the bound of ``before``, whose hold pays for it."""
    resources = layout_of(after.spec.provider).resources(FabricId(after.fabric), after.spec, after.facts, before.life)
    return msgspec.structs.replace(
        after,
        made_at=before.made_at,
        expires_at=before.expires_at,
        held_until=before.held_until,
        timer_at=before.timer_at,
        bill=before.bill,
        resources=resources,
    )


def bundle_of(spec: CellSpec, image: Image, bundle_for: BundleFor) -> BundlePin:
    """The software that such a cell's machine accepts; none for one that was baked, which has no use for a Python."""
    return NO_BUNDLE if spec.joining == NOT_AT_ALL or not image.python else bundle_for(image.arch, image.python)


def check_disk(spec: CellSpec, image: Image) -> None:
    """``config_invalid`` for a disk that the image does not fit on."""
    if spec.disk_gib < image.disk_gib:
        raise GrafosError(
            "config_invalid",
            f"a disk of {spec.disk_gib} GiB is too small for the image {image.name}",
            next=f"choose {image.disk_gib} GiB or more",
        )


def image_and_type(connector: Connector, spec: CellSpec) -> tuple[Image, str]:
    """The default type follows the image, and the image the architecture, which a named type may settle."""
    layout, arches = layout_of(spec.provider), arches_of(connector, spec)
    for arch in arches[:-1]:
        try:
            return connector.image(spec.region, arch), spec.machine_type or layout.default_types[arch]
        except CloudError as error:
            if error.code not in ("cloud_invalid", "cloud_not_found"):
                raise  # no image for the architecture is no error while there is another one to try
    return connector.image(spec.region, arches[-1]), spec.machine_type or layout.default_types[arches[-1]]


def arches_of(connector: Connector, spec: CellSpec) -> list[str]:
    """The architectures that the machine may have, the preferred one first; ``cloud_capacity`` for a type that the
    region does not offer."""
    if spec.arch:
        return [spec.arch]
    if not spec.machine_type:
        return list(layout_of(spec.provider).default_types)
    arches = sorted({offer.arch for offer in connector.offers(spec.region, spec.machine_type)})
    if not arches:
        raise _not_offered(spec, spec.machine_type)
    return arches


def choose_offer(spec: CellSpec, offers: Sequence[Offer], machine_type: str, arch: str) -> Offer:
    """The first zone, by name, that offers the type; the same one each time, so that cells share a subnet.

    ``cloud_capacity`` when none does, ``config_invalid`` when it is of another architecture.
    """
    if offers and all(offer.arch != arch for offer in offers):
        raise GrafosError(
            "config_invalid",
            f"{machine_type} is a machine for {offers[0].arch}, not for {arch}",
            next="leave out --arch, or choose another machine type",
        )
    fitting = [offer for offer in offers if offer.arch == arch and spec.zone in ("", offer.zone)]
    if not fitting:
        raise _not_offered(spec, machine_type)
    return min(fitting, key=lambda offer: offer.zone)


def _not_offered(spec: CellSpec, machine_type: str) -> GrafosError:
    place = spec.zone or spec.region
    return GrafosError(
        "cloud_capacity",
        f"{place} does not offer {machine_type or 'a machine that fits'}",
        where=f"{spec.provider} {spec.region}",
        next="choose another machine type, zone or region",
        retryable=False,
    )


class Ways(NamedTuple):
    """How long a cell is predicted to take (seconds), by what its machine starts from."""

    image: float
    stock: float


def predicted_ways(plan: StackPlan) -> Ways:
    """The time of the plan's own way, and of the other one."""
    install_s = _install_s(plan.facts)
    stock_s = plan.predicted_s + (install_s if plan.facts.baked else 0.0)
    return Ways(stock_s - install_s, stock_s)


def _predicted(resources: tuple[Planned, ...], facts: CellFacts) -> float:
    made_s = sum(PREDICTED_S.get(what.kind, PREDICTED_OTHER_S) for what in resources)
    stock_s = PREDICTED_EMULATED_S if facts.emulated else PREDICTED_BOOT_S + made_s
    return stock_s - (_install_s(facts) if facts.baked else 0.0)


def _install_s(facts: CellFacts) -> float:
    return PREDICTED_EMULATED_INSTALL_S if facts.emulated else PREDICTED_INSTALL_S
