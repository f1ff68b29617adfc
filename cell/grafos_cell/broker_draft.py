"""A decision of the broker in the making: what one event changes and does, collected while its rules are worked
through."""

from __future__ import annotations

from collections import ChainMap

import msgspec

from grafos_cell import holdings
from grafos_cell.broker_events import Decision, Effect, Renewed, Report, Reportable
from grafos_cell.holdings import BrokerState, HeldLease, TakenInstance, TakenRun
from grafos_core.changes import Change, last_of_each


class Draft:
    """``leases``, ``runs`` and ``instances`` show what this event has changed so far; ``state`` stays as it was."""

    def __init__(self, state: BrokerState, now: float) -> None:
        self.state = state
        self.settings = state.settings
        self.now = now
        self.leases: ChainMap[str, HeldLease] = ChainMap({}, state.leases)
        self.runs: ChainMap[str, TakenRun] = ChainMap({}, state.runs)
        self.instances: ChainMap[str, TakenInstance] = ChainMap({}, state.instances)
        self._batch: list[Change] = []
        self._effects: list[Effect] = []
        self._renewed: list[Renewed] = []

    def put_lease(self, lease: HeldLease) -> None:
        known = self.leases.get(lease.lease_id)
        may = known is None or known.state == lease.state or lease.state in holdings.NEXT_OF_LEASE[known.state]
        assert may, f"a lease does not go from {known and known.state} to {lease.state}"
        self.leases[lease.lease_id] = lease
        self._put(holdings.LEASE, lease.lease_id, lease)

    def put_run(self, run: TakenRun) -> None:
        self.runs[run.run_id] = run
        self._put(holdings.RUN, run.run_id, run)

    def put_instance(self, instance: TakenInstance) -> None:
        self.instances[instance.instance_id] = instance
        self._put(holdings.INSTANCE, instance.instance_id, instance)

    def put_boot(self, boot: holdings.Boot) -> None:
        self._put(holdings.BOOT, holdings.THE_BOOT, boot)

    def forget(self, kind: str, key: str) -> None:
        self._put(kind, key, None)

    def report(self, frame: Reportable) -> None:
        self.do(Report(frame))

    def do(self, effect: Effect) -> None:
        self._effects.append(effect)

    def renew(self, renewed: Renewed) -> None:
        self._renewed.append(renewed)

    def decision(self) -> Decision:
        return Decision(last_of_each(self._batch), tuple(self._effects), tuple(self._renewed))

    def _put(self, kind: str, key: str, row: msgspec.Struct | None) -> None:
        self._batch.append(Change(kind, key, row))
