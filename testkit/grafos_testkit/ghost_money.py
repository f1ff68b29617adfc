"""What must be true of money in a simulated fabric; ``ghost`` has all else.

* No account has more spent and held than its cap, and held is exactly what runs, regions, instances and reservations
  that are under way hold: no hold without one of them, and none of them without its hold.
* At each commit all that was spent is all that ended runs, regions and instances cost, to the micro-cent.
* A run costs what its cell's receipt shows, and nothing when nobody saw it end; a region the time that it was there; an
  instance each period that was renewed, and the last one up to what its cell's receipt shows. A cost never shrinks, and
  the cost of what has ended never grows, so nobody is charged twice.
* No hold is for less than what it is held for may come to.
"""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from grafos_core import ledger
from grafos_core.changes import Batch
from grafos_core.money import cost_micro_cents
from grafos_scheduler import regions, rows, runs, service_instances
from grafos_scheduler.region_rows import REGION, Region
from grafos_scheduler.service_rows import INSTANCE, Instance, InstanceLog
from grafos_testkit.receipts import open_instance_receipt

if TYPE_CHECKING:
    from grafos_scheduler.state import State
    from grafos_testkit.world import World

PAID_FOR = frozenset({rows.RUN, REGION, INSTANCE})
ABOUT_MONEY = PAID_FOR | {ledger.ACCOUNT, ledger.HOLD, rows.RESERVATION}
CLOCKS_OFF_S = 5.0
"""An instance may be billed by its cell's clock, which may be ahead."""
NOTHING_IS_DUE = frozenset({"cell_lost", "placement_failed"})
"""Ends of a region that nobody has had, or that its cell lost."""
CLOSED_STATES = frozenset({*runs.ENDED, regions.ENDED, service_instances.ENDED})


class MoneyWatch:
    """Remembers what was spent and what for."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._spent: dict[str, int] = {}
        self._cost: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._is_final: set[tuple[str, str]] = set()
        self._held: dict[str, int] = {}
        self._instances: dict[str, Instance] = {}
        self._ends_shown: dict[str, float] = {}
        self._total_spent = 0
        self._total_cost = 0

    def loaded(self, state: State) -> None:
        """The scheduler came back from its disk."""
        for name, spent in self._spent.items():
            assert state.ledger.accounts[name].spent_micro_cents >= spent, "spent money came back"
        self.check(state)

    def check(self, state: State) -> None:
        """The books as the scheduler has them in memory."""
        held: defaultdict[str, int] = defaultdict(int)
        open_holds = set()
        for hold in state.ledger.holds.values():
            if hold.state == ledger.OPEN:
                held[hold.account] += hold.amount_micro_cents
                open_holds.add(hold.hold_id)
        for account in state.ledger.accounts.values():
            assert account.held_micro_cents == held[account.name], f"{account} has {held[account.name]} held"
            assert 0 <= account.spent_micro_cents + account.held_micro_cents <= account.cap_micro_cents, f"{account}"
        holders = {run.hold_id for run in state.runs_under_way()}
        holders |= {region.lease_id for region in state.regions.values() if region.state != regions.ENDED}
        holders |= {instance.hold_id for instance in state.all_instances()} - {""}
        holders |= {each.account for each in state.reservations.values() if not each.settled_at}
        assert open_holds <= holders, f"held for nothing: {sorted(open_holds - holders)}"
        assert open_holds >= holders, f"without a hold: {sorted(holders - open_holds)}"

    def committed(self, batch: Batch) -> None:
        """What became durable at the scheduler."""
        for kind, key, row in batch:
            if kind == ledger.ACCOUNT:
                spent = 0 if row is None else _account(row).spent_micro_cents
                self._total_spent += spent - self._spent.pop(key, 0)
                if row is not None:
                    self._spent[key] = spent
            elif isinstance(row, ledger.Hold):
                self._held[key] = row.amount_micro_cents
            elif isinstance(row, InstanceLog):
                self._ends_shown[key] = open_instance_receipt(row.receipt).ended_at
            elif kind in PAID_FOR and row is not None:
                self._paid(kind, key, row)
        assert self._total_spent == self._total_cost, f"{self._total_spent} spent on what costs {self._total_cost}"

    def _paid(self, kind: str, key: str, row: Any) -> None:
        """What it costs by now; what it cost in an earlier attempt was nothing, since that was refused."""
        cost, place = row.cost_micro_cents, (kind, key)
        assert cost >= self._cost[place], f"{kind} {key} was {self._cost[place]} and is {cost}"
        if place in self._is_final:
            assert cost == self._cost[place], f"{kind} {key} has ended, and was charged again"
        if row.state in CLOSED_STATES:
            self._is_final.add(place)
        self._total_cost += cost - self._cost[place]
        self._cost[place] = cost
        if isinstance(row, Region):
            self._region_paid(row)
        elif isinstance(row, Instance):
            self._instance_paid(self._instances.get(key), row)
            self._instances[key] = row

    def _region_paid(self, row: Region) -> None:
        if row.state != regions.ENDED:
            most = _worth(row, row.expires_at - row.since)
            assert self._held[row.lease_id] >= most, f"{self._held[row.lease_id]} is held for {row}"
            return
        due = _worth(row, min(row.ended_at, row.expires_at) - row.since)
        if "refused the lease" in row.what:  # nobody knows how much longer it was there than when that was asked for
            assert row.cost_micro_cents <= due, f"{row} costs more than {due}"
            return
        due = 0 if row.code in NOTHING_IS_DUE else due
        assert row.cost_micro_cents == due, f"{row} costs {row.cost_micro_cents} where {due} is due"

    def _instance_paid(self, before: Instance | None, row: Instance) -> None:
        most = _worth(row, self._now - row.created_at + CLOCKS_OFF_S) + row.holds
        assert row.cost_micro_cents <= most, f"{row} costs more than {most}"
        due = before.cost_micro_cents if before is not None else 0
        if before is not None and row.holds > before.holds:
            due += self._period(before, row.billed_from)
        shown = self._ends_shown.get(row.instance_id)
        is_over = row.state == service_instances.ENDED
        if is_over and shown is not None and before is not None and before.state != row.state:
            due += self._period(row, shown)
        assert row.cost_micro_cents == due, f"{row} costs {row.cost_micro_cents} where {due} is due"

    def _period(self, row: Instance, until: float) -> int:
        """What the period that the row was in cost, if it lasted so long."""
        return min(_worth(row, until - row.billed_from), self._held[f"{row.instance_id}/{row.holds}"])

    @property
    def _now(self) -> float:
        return self._world.clock.now()


def _account(row: Any) -> ledger.Account:
    assert isinstance(row, ledger.Account)
    return row


def _worth(row: Region | Instance, seconds: float) -> int:
    return cost_micro_cents(Fraction(row.share), row.rate_micro_cents_per_hour, max(0.0, seconds))
