"""What is tried next when a cloud has no machine left: another zone of the region, at once.

A cell in another zone is the same cell: its key, price, hold and end stay, and what follows is the next attempt at the
same machine, under another token. The journal has the new zone before it is tried, and it is tried only after the
refused attempt left nothing, so a crash anywhere goes on with one machine. ``docs/decisions/candidates.md`` says why.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import msgspec

from grafos_connectors.contract import TAG_STACK, CloudError, Found, Kind, Offer
from grafos_core.errors import GrafosError
from grafos_stacks.asking import ask
from grafos_stacks.creating import LateInputs
from grafos_stacks.direct import Engine, Hands
from grafos_stacks.journal import Life, Move
from grafos_stacks.making import Made, make_stack
from grafos_stacks.plan import StackPlan
from grafos_stacks.planner import in_zone
from grafos_stacks.progress import BEGUN, DONE, Step
from grafos_stacks.records import CellRecord
from grafos_stacks.recovery import is_live

CAPACITY = "cloud_capacity"
MOVES_ON = (CAPACITY, "cloud_quota")
"""Refusals for which another candidate is tried; of these only missing capacity is a matter of the zone."""


def make_somewhere(
    hands: Hands, plan: StackPlan, late_inputs_of: Callable[[StackPlan], LateInputs], *, later: bool = False
) -> Made:
    """Has all resources of the plan, in its zone or in another one of the region if the person named none.

    As ``make_stack``, ``later`` too; ``cloud_capacity`` with every zone that was tried when no zone has a machine of
    the type.
    """
    refused: dict[str, CloudError] = {}

    def offers(region: str, machine_type: str) -> Sequence[Offer]:
        return ask(lambda: hands.connector.offers(region, machine_type), hands.sleep)

    while True:
        try:
            return make_stack(hands, plan, late_inputs_of(plan), later=later)
        except CloudError as refusal:
            zone = plan.facts.offer.zone
            tried_before, refused[zone] = zone in refused, refusal
            if refusal.code != CAPACITY or plan.spec.zone:
                raise
            if not left_nothing(hands, plan):
                if tried_before:
                    raise
                continue  # once more here: whether an unanswered call made it is found out first
            following = next_offer(refusal, plan, offers, refused)
            if following is None:
                raise _nowhere(plan, refused) from refusal
            plan = moved(hands, plan, in_zone(plan, following), refusal)


def left_nothing(hands: Hands, plan: StackPlan) -> bool:
    """Whether nothing can be there of the machine that was tried: elsewhere it would not be found again."""
    row = hands.journal.resources(plan.stack).get(plan.machine.key)
    if row is None or row.life is Life.GONE:
        return True
    refused_for_sure = row.life is Life.REFUSED and not row.doubt_at
    return refused_for_sure or (row.life is Life.FAILED and row.ref is None)


def next_offer(
    refusal: CloudError, plan: StackPlan, offers_of: Callable[[str, str], Sequence[Offer]], tried: Collection[str]
) -> Offer | None:
    """Where the machine is tried next: where the cloud says that it has some, else the next zone by name."""
    now = plan.facts.offer
    offers = [one for one in offers_of(now.region, now.machine_type) if one.arch == now.arch and one.zone not in tried]
    named = {zone: rank for rank, zone in enumerate(refusal.alternatives)}
    following = sorted(offers, key=lambda one: (named.get(one.zone, len(named)), one.zone < now.zone, one.zone))
    return following[0] if following else None


def moved(hands: Hands, before: StackPlan, after: StackPlan, refusal: GrafosError) -> StackPlan:
    """Pins the plan that is tried now, with the reason, in the journal. The caller holds the stack's lock."""
    row = hands.journal.stack(before.stack)
    assert row is not None, "what was tried is in the journal"
    move = Move(place_of(before), place_of(after), refusal.code, refusal.what)
    hands.journal.write(row.moved(row.state, hands.clock.now(), plan=after, moves=(*row.moves, move)))
    told(hands, move)
    return after


def told(hands: Hands, move: Move) -> None:
    """Lets the listener know."""
    name = f"move to {move.after}"
    hands.progress(Step(name, BEGUN, 0.0, move.why))
    hands.progress(Step(name, DONE, 0.0, f"{move.before}: {move.why}"))


def place_of(plan: StackPlan) -> str:
    """Where and how a plan's machine is bought, in one word or two."""
    return _place_in(plan, plan.facts.offer.zone)


def _place_in(plan: StackPlan, zone: str) -> str:
    offer = msgspec.structs.replace(plan.facts.offer, zone=zone)
    return f"{plan.spec.provider} {zone_of(offer)}" + (" spot" if plan.is_spot else "")


def zone_of(place: Offer | CellRecord) -> str:
    """The zone as people know it: Azure's are numbers within a region, and some of its regions have none."""
    return place.zone if place.zone.startswith(place.region) else f"{place.region} {place.zone}".strip()


def _nowhere(plan: StackPlan, refused: dict[str, CloudError]) -> CloudError:
    """Every zone's refusal, in the cloud's words."""
    last = next(reversed(refused.values()))
    offer = plan.facts.offer
    if len(refused) == 1:
        return last
    return CloudError(
        CAPACITY,
        f"no zone of {offer.region} has a {'spot ' if plan.is_spot else ''}machine {offer.machine_type} now",
        where=f"{plan.spec.provider} {offer.region}",
        why="\n".join(f"{_place_in(plan, zone)}: {error.what}" for zone, error in refused.items()),
        next="try again later, or let other regions and clouds be tried: --any",
        cloud_code=last.cloud_code,
        request_id=last.request_id,
    )


# --- a journal that does not know where the machine is ------------------------------------------------------------


def machines_of(hands: Hands, cell_id: str, regions: Sequence[str]) -> tuple[Found, ...]:
    """The machines of a cell of that name that live in these regions, as the cloud tells it, if the journal cannot: it
    was lost, or another home of the fabric has one. Waits until a listing shows all that was made before the loss.

    A journal that was never lost knows it better than any listing, and then nobody is asked.
    """
    lost_at = hands.journal.lost_at
    if not lost_at and not hands.fabric.is_shared:
        return ()
    engine = Engine(hands)
    if lost_at:
        engine.wait_until(lost_at + hands.connector.traits.listing_lag_s, cell_id)
    found = [one for region in dict.fromkeys(regions) for one in engine.listing(region)[1]]
    return tuple(
        one for one in found if one.ref.kind is Kind.MACHINE and one.tags.get(TAG_STACK) == cell_id and is_live(one)
    )


def as_it_lives(plan: StackPlan, machines: Sequence[Found]) -> StackPlan | None:
    """The plan in the zone in which one of the machines is that it describes; None if it describes none of them."""
    mine = [one for one in machines if one.ref.key == plan.machine.key]
    if not mine:
        return None
    offer, zone = plan.facts.offer, mine[0].ref.zone
    if zone in ("", offer.zone):
        return plan
    return in_zone(plan, msgspec.structs.replace(offer, zone=zone))
