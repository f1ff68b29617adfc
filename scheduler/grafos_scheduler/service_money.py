"""What an instance costs: held for one lease period at a time, before its leases are asked for or renewed.

With each renewal the period before is settled for the time that it lasted, since its cell has granted it. What the last
one comes to is known by the cell's receipt alone; without one it costs nothing, as with runs.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from msgspec.structs import replace

from grafos_core import ledger
from grafos_core.errors import GrafosError
from grafos_core.money import cost_micro_cents, format_cents
from grafos_scheduler import tenants
from grafos_scheduler.service_rows import Instance

if TYPE_CHECKING:
    from grafos_scheduler.draft import Draft


def period_micro_cents(draft: Draft, instance: Instance) -> int:
    """The most that one lease period of the instance may cost."""
    settings = draft.state.settings
    seconds = settings.service_lease_s + settings.clock_skew_max_s
    return cost_micro_cents(Fraction(instance.share), instance.rate_micro_cents_per_hour, seconds)


def hold_next(draft: Draft, instance: Instance) -> Instance:
    """Holds the next period, then settles the one before; ``budget_exceeded`` if there is no money for it."""
    amount, until = period_micro_cents(draft, instance), draft.now + draft.state.settings.service_lease_s
    names = [account.name for account in tenants.purses(draft.state, draft.state.tenants[instance.tenant], until)]
    account = next((name for name in names if draft.ledger.account(name).free_micro_cents >= amount), None)
    if account is None:
        raise GrafosError(
            "budget_exceeded",
            f"the next period of an instance of {instance.service} may cost {format_cents(amount)}, and tenant "
            f"{instance.tenant} has not so much left here",
            why="" if names else "no budget outlasts it",
            next="raise the tenant's budget, or have fewer replicas",
            context={"tenant": instance.tenant, "asked_micro_cents": amount},
        )
    hold_id = f"{instance.instance_id}/{instance.holds + 1}"
    draft.book(ledger.hold(draft.ledger, hold_id, account, amount, f"service {instance.service}"))
    settled = settle(draft, instance, draft.now)
    return replace(settled, hold_id=hold_id, holds=instance.holds + 1, billed_from=draft.now)


def settle(draft: Draft, instance: Instance, ended_at: float) -> Instance:
    """Settles the open hold for the time up to ``ended_at``, never above what is held."""
    held = draft.ledger.holds.get(instance.hold_id)
    if held is None:
        return replace(instance, hold_id="")
    seconds = max(0.0, ended_at - instance.billed_from)
    actual = cost_micro_cents(Fraction(instance.share), instance.rate_micro_cents_per_hour, seconds)
    actual = min(actual, held.amount_micro_cents)
    draft.book(ledger.settle(draft.ledger, held.hold_id, actual))
    draft.remove(ledger.HOLD, held.hold_id)
    return replace(instance, hold_id="", cost_micro_cents=instance.cost_micro_cents + actual)
