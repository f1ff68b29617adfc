"""The direct engine: changes and unmakes resources by the connector's calls, with a journal; ``creating`` makes them.

It decides nothing: ``recovery`` says what is next, the engine does it and writes down what came of it. The order is
always the same: journal the intent, call, journal the outcome. So it may be killed anywhere, and the next run, or the
undoing of the stack, goes on from what the journal and the cloud show. All waiting in grafos' provisioning is here;
the time and the sleep are arguments.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from grafos_connectors.contract import (
    CloudError,
    Connector,
    Desired,
    Done,
    Failed,
    Found,
    Identity,
    Kind,
    Operation,
    Pending,
    Ref,
    Scope,
    State,
)
from grafos_core.clock import Clock
from grafos_core.errors import GrafosError
from grafos_core.fabric import Fabric
from grafos_stacks.asking import Answer, ask, identity_of
from grafos_stacks.journal import Journal, Life, ResourceRow
from grafos_stacks.listings import Listings
from grafos_stacks.names import ours_among
from grafos_stacks.progress import BEGUN, DONE, WAITING, Progress, Step, unheard
from grafos_stacks.recovery import (
    CALLS_MAX,
    back_off_s,
)

PATIENCE_S = 600.0
"""How long one operation of the cloud may take; the slowest that was ever seen took under six minutes."""
IN_USE_PATIENCE_S = {Kind.FIREWALL: 240.0}
"""A firewall is held by the card of a machine that has ended, for seconds to minutes."""
OTHER_IN_USE_PATIENCE_S = 60.0
ENDED_BY_ITSELF = "ended by itself"
"""Why a machine's row is gone that was not there any more when its teardown began."""
STOPPED_BY_ITSELF = "stopped by itself"
"""The same of one that was there, but stopped so that only what hangs on it still billed."""
REPEATED_DELETES = ("cloud_in_use", "cloud_throttled", "cloud_unreachable", "cloud_not_found")
REPEATED_UPDATES = ("cloud_throttled", "cloud_unreachable", "cloud_conflict", "cloud_in_use")
"""A conflict, because somebody else may have changed the same tags in the moment between our read and our call."""
POLL_S_MIN, POLL_S_MAX = 0.02, 5.0


@dataclass(frozen=True)
class Hands:
    """What the engine works with. ``sleep`` takes seconds. ``listings`` are those of the connector's account."""

    fabric: Fabric
    connector: Connector
    journal: Journal
    clock: Clock
    sleep: Callable[[float], object]
    progress: Progress = unheard
    listings: Listings = field(default_factory=Listings)

    def identity(self) -> Identity:
        """Who asks the cloud; a cloud that asks for fewer requests is given its minute here too."""
        return identity_of(self.connector, self.sleep)


class Engine:
    """Looks, changes and unmakes. Whoever calls it holds the stack's lock."""

    def __init__(self, hands: Hands) -> None:
        self._hands = hands
        self._fabric, self._connector, self._journal = hands.fabric, hands.connector, hands.journal
        self._now = hands.clock.now

    # --- changing -----------------------------------------------------------------------------------------------

    def update(self, ref: Ref, call: Desired, name: str) -> None:
        """Gives a living resource the tags of ``call``, and a deadline its time; waits until a read shows them.

        The call is harmless to repeat, and is repeated when its answer was lost. Raises what the cloud refuses with.
        """
        begun_at = self._now()
        for calls in itertools.count(1):
            try:
                outcome = self._await(self._connector.begin_update(ref, call), name, begun_at)
                if isinstance(outcome, Done):
                    return
                error = outcome.cloud_error()
            except CloudError as raised:
                error = raised
            if not (error.ambiguous or error.code in REPEATED_UPDATES) or calls >= CALLS_MAX:
                raise error
            self._tell(name, WAITING, begun_at, error.what)
            self._hands.sleep(max(error.retry_after_s, back_off_s(calls)))

    # --- unmaking -----------------------------------------------------------------------------------------------

    def unmake(self, row: ResourceRow) -> ResourceRow:
        """Deletes one resource and waits until it is gone; gives the row as it then is.

        ``row`` may come from the journal or from a listing. Raises what the cloud refuses with for good.
        """
        assert row.ref is not None
        begun_at = self._now()
        name = row.name or f"{row.kind.value} {row.ref.id}"
        self._tell(name, BEGUN, begun_at, "delete")
        under_way = row.operation if row.life is Life.UNMAKING else None
        why = row.why if row.life is Life.UNMAKING else self._how_found(row)
        intent = row.moved(Life.UNMAKING, begun_at, intended_at=begun_at, operation=under_way, why=why)
        self._journal.write(intent)
        if under_way is None or not isinstance(self._await(under_way, name, begun_at), Done):
            note = _noting(self._journal, intent)
            self._delete(row.ref, name, begun_at, note)
        gone = intent.moved(Life.GONE, self._now(), operation=None)
        self._journal.write(gone)
        self._tell(name, DONE, begun_at, "deleted")
        return gone

    def listing(self, region: str) -> tuple[float, tuple[Found, ...]]:
        """All that bears the fabric's tag there ("" is every region) and proves to be ours; and when it was asked."""
        at, found = self.tagged((region,) if region else ())
        return at, ours_among(self._fabric, found)

    def tagged(self, regions: tuple[str, ...] = ()) -> tuple[float, tuple[Found, ...]]:
        """All that bears the fabric's tag in these regions, in every region without any, whoever put it there."""
        return self._hands.listings.ask(regions, lambda: self._tagged(Scope(str(self._fabric.id), regions)))

    def _tagged(self, scope: Scope) -> tuple[float, tuple[Found, ...]]:
        at = self._now()
        pages = self._ask(lambda: list(self._connector.list(scope)))
        return at, tuple(found for page in pages for found in page)

    def observe(self, ref: Ref) -> Found:
        """The resource as it is now."""
        return self._ask(lambda: self._connector.observe(ref))

    def wait_until(self, moment: float, name: str) -> None:
        """Lets time pass until a read can be believed."""
        self._wait_until(moment, name, self._now())

    def _how_found(self, row: ResourceRow) -> str:
        """Whether a machine still billed when its end began: one that ended itself did not."""
        assert row.ref is not None
        if row.kind is not Kind.MACHINE:
            return ""
        seen = self.observe(row.ref)
        if seen.state is State.GONE:
            return ENDED_BY_ITSELF
        return STOPPED_BY_ITSELF if seen.state is State.STOPPED and not seen.billable else ""

    def _delete(self, ref: Ref, name: str, begun_at: float, note: Callable[[Operation], None]) -> None:
        """Calls, notes the operation, and waits; calls again when it did not find its resource, or finds it in use."""
        patience = self._now() + IN_USE_PATIENCE_S.get(ref.kind, OTHER_IN_USE_PATIENCE_S)
        for calls in itertools.count(1):
            try:
                operation = self._connector.begin_delete(ref)
                note(operation)
                outcome = self._await(operation, name, begun_at)
                if isinstance(outcome, Done):
                    return
                error = outcome.cloud_error()
            except CloudError as raised:
                error = raised
            if not (error.ambiguous or error.code in REPEATED_DELETES) or self._now() > patience:
                raise error
            self._tell(name, WAITING, begun_at, error.what)
            self._hands.sleep(max(error.retry_after_s, back_off_s(calls)))

    # --- waiting ------------------------------------------------------------------------------------------------

    def _await(self, operation: Operation, name: str, begun_at: float) -> Done | Failed:
        """Asks until the operation has ended, or ``cloud_slow``."""
        until = self._now() + PATIENCE_S
        while True:
            progress = self._ask(lambda: self._connector.poll(operation))
            if not isinstance(progress, Pending):
                return progress
            if self._now() > until:
                raise GrafosError(
                    "cloud_slow",
                    f"the cloud did not finish to {operation.verb} {operation.ref.id} in {PATIENCE_S:.0f} s",
                    where=operation.ref.region,
                    next="run the same command again: it goes on where this one stopped",
                )
            self._tell(name, WAITING, begun_at)
            self._hands.sleep(min(max(progress.again_after_s, POLL_S_MIN), POLL_S_MAX))

    def _ask(self, question: Callable[[], Answer]) -> Answer:
        """A read, repeated when it did not get through."""
        return ask(question, self._hands.sleep)

    def _wait_until(self, moment: float, name: str, begun_at: float) -> None:
        while (left := moment - self._now()) > 0:
            self._tell(name, WAITING, begun_at, "until the cloud's listing can be believed")
            self._hands.sleep(min(left, POLL_S_MAX))

    def _tell(self, name: str, state: str, begun_at: float, note: str = "") -> None:
        self._hands.progress(Step(name, state, self._now() - begun_at, note))


def _noting(journal: Journal, intent: ResourceRow) -> Callable[[Operation], None]:
    return lambda operation: journal.write(intent.moved(Life.UNMAKING, intent.changed_at, operation=operation))
