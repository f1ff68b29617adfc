"""A plan in a file: shown and agreed to today, carried out later, if the world is still the one that it was made for.

The file holds no secret. It is never carried out as it stands: what it asks for is planned anew, and only if that comes
to the very same (fabric, account, offer, image, price, software, resources, bound, limits) is it made. So a plan that
somebody altered is as stale as one that the world has left behind. The time of the cell's life counts from the moment
at which it is carried out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from grafos_connectors.contract import Quota
from grafos_core.errors import GrafosError
from grafos_core.money import format_cents
from grafos_core.paths import write_private
from grafos_stacks.plan import Planned, StackPlan
from grafos_stacks.provision import Prepared

SCHEMA_VERSION = 1
KIND = "grafos-plan"
PLAN_BYTES_MAX = 4 << 20
"""A place takes some 10 KB, and there are 64 of them at most."""
TIMED_INPUTS = ("ends_at",)
"""What follows from the moment at which a plan was made."""


class Place(msgspec.Struct, frozen=True):
    """One candidate as it was shown: its plan, and the limits that it was held against."""

    plan: StackPlan
    quotas: tuple[Quota, ...] = ()


class PlanFile(msgspec.Struct, frozen=True):
    """``names`` are the cells to be made; ``places`` their plans in the order of trying, under the first name."""

    names: tuple[str, ...]
    places: tuple[Place, ...]
    max_hourly_cents: int | None = None
    kind: str = KIND
    schema_version: int = SCHEMA_VERSION


def keep(path: Path, file: PlanFile) -> None:
    """Writes the plan, for its owner alone; ``store_failed`` if it cannot be."""
    try:
        write_private(path, msgspec.json.format(msgspec.json.encode(file), indent=1) + b"\n")
    except OSError as error:
        why = error.strerror or str(error)
        raise GrafosError(
            "store_failed", "the plan could not be written", where=str(path), why=why, next="name another file"
        ) from error


def read(path: Path) -> PlanFile:
    """The plan in a file; ``config_invalid`` for what is none, ``schema_newer`` for one of a newer grafos."""
    try:
        body = path.read_bytes()
        head = msgspec.json.decode(body[:PLAN_BYTES_MAX], type=_Head)
        if head.kind != KIND or len(body) > PLAN_BYTES_MAX:
            raise _no_plan(path, "it is another document")
        if head.schema_version > SCHEMA_VERSION:
            raise GrafosError("schema_newer", "the plan is of a newer grafos", where=str(path), next="plan it anew")
        file = msgspec.json.decode(body, type=PlanFile)
    except OSError as error:
        raise _no_plan(path, error.strerror or str(error)) from error
    except msgspec.DecodeError as error:
        raise _no_plan(path, str(error)) from error
    if not file.names or not file.places:
        raise _no_plan(path, "it plans nothing")
    return file


class _Head(msgspec.Struct):
    kind: str = ""
    schema_version: int = 0


def _no_plan(path: Path, why: str) -> GrafosError:
    return GrafosError(
        "config_invalid",
        "the file holds no plan",
        where=str(path),
        why=why,
        next="make one: grafos cloud provision PROVIDER --plan-out FILE",
    )


# --- whether the world has moved ----------------------------------------------------------------------------------


def refuse_moved(kept: Place, fresh: Prepared) -> None:
    """``plan_stale`` naming all that is not as it was planned."""
    if changed := moved_since(kept, fresh):
        raise GrafosError(
            "plan_stale",
            f"the plan of {kept.plan.stack} no longer holds: {'; '.join(changed)}",
            where=f"{kept.plan.spec.provider} {kept.plan.spec.region}",
            next=f"plan it anew: grafos cloud provision {kept.plan.spec.provider} --cell-id {kept.plan.stack} "
            "--plan-out FILE, with the flags of the first time",
            context={"moved": changed},
        )


def moved_since(kept: Place, fresh: Prepared) -> list[str]:
    """What differs between the plan as it was kept and the one that is made of the same inputs now. Pure."""
    old, new = kept.plan, fresh.plan
    found = []
    pairs: list[tuple[str, object, object]] = [
        ("fabric", old.fabric, new.fabric),
        ("account", old.facts.account, new.facts.account),
        ("inputs", old.spec, new.spec),
        ("offer", _offer(old), _offer(new)),
        ("image", old.facts.image.id, new.facts.image.id),
        ("software", old.facts.bundle.sha256[:12], new.facts.bundle.sha256[:12]),
    ]
    found += [f"{name} {before} is now {after}" for name, before, after in pairs if before != after]
    found += _price_moved(old, new)
    found += limits_moved(kept.quotas, fresh.quotas)
    if not found and old.bill.total_micro_cents != new.bill.total_micro_cents:
        before, after = format_cents(old.bill.total_micro_cents), format_cents(new.bill.total_micro_cents)
        found.append(f"bound {before} is now {after}")
    if not found and _timeless(old.resources) != _timeless(new.resources):
        found.append("resources are not those that a plan of these inputs consists of")
    return found


def _offer(plan: StackPlan) -> str:
    offer = plan.facts.offer
    memory = f"{offer.mem_bytes >> 20} MiB"
    return f"{offer.machine_type} in {offer.zone or offer.region} ({offer.cpu_cores} cores, {memory}, {offer.arch})"


def _price_moved(old: StackPlan, new: StackPlan) -> list[str]:
    """What is held must be what was agreed to. A spot price moves by the hour; only a higher one is another price."""
    before, after = old.facts.price, new.facts.price
    pairs = [
        ("machine", before.machine_per_hour, after.machine_per_hour),
        ("disk", before.disk_per_gib_month, after.disk_per_gib_month),
        ("address", before.address_per_hour, after.address_per_hour),
    ]
    if old.is_spot and after.spot_per_hour > before.spot_per_hour:
        pairs.append(("spot", before.spot_per_hour, after.spot_per_hour))
    return [f"price of the {name} {format_cents(a)} is now {format_cents(b)}" for name, a, b in pairs if a != b]


def limits_moved(before: Sequence[Quota], after: Sequence[Quota]) -> list[str]:
    """Limits that the machine counts against and that are others now. How much is in use is not among them: whether
    there is room was asked anew."""
    limits = {quota.name: quota.limit for quota in after}
    return [
        f"quota {quota.name} {quota.limit} is now {limits.get(quota.name)}"
        for quota in before
        if quota.each and quota.limit != limits.get(quota.name)
    ]


def _timeless(resources: Sequence[Planned]) -> list[Planned]:
    """The resources without what follows from the moment of planning."""
    return [
        msgspec.structs.replace(
            what, expires_at=0, inputs={key: value for key, value in what.inputs.items() if key not in TIMED_INPUTS}
        )
        for what in resources
    ]
