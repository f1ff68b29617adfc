"""From a registered cell's machine that has booted to a cell that is ready at its orchestrator, or to the reason why it
never will be.

Nobody can ask the machine, so what counts is what the orchestrator sees of it; the console is read for the reason.
"""

from __future__ import annotations

from grafos_connectors.contract import Found
from grafos_core.errors import GrafosError
from grafos_scheduler.orchestrator_client import OrchestratorClient
from grafos_stacks.booting import console_tail, wait_booted
from grafos_stacks.direct import Hands
from grafos_stacks.inviting import Patience, invitation_of
from grafos_stacks.making import Made
from grafos_stacks.orchestrated import SeenCell, seen_at
from grafos_stacks.orchestrators import OrchestratorHome
from grafos_stacks.plan import StackPlan
from grafos_stacks.progress import BEGUN, DONE, WAITING, Step
from grafos_stacks.records import OPERATOR

AWAY_S_MAX = 60.0
"""How long an orchestrator may be away while its cell is waited for."""
LOOK_EVERY_S = 5.0
"""How often to look whether the machine still lives."""
ASK_EVERY_S, ASK_EVERY_S_MAX = 0.1, 1.0
UNNAMED = ("enrolment_expired", "enrolment_refused", "not_found")
"""How the orchestrator says that it expects this machine no longer."""


def wait_joined(hands: Hands, made: Made, patience: Patience) -> GrafosError | None:
    """Waits until the cell is ready; else why it will not be, when its machine is of no use any more.

    Raises ``cell_gone`` when the machine ended, ``scheduler_unreachable`` when the orchestrator cannot be asked, so
    that nothing is known.
    """
    with OrchestratorHome(hands.fabric).client(OPERATOR, patience_s=AWAY_S_MAX) as client:
        waiting = _Waiting(hands, made, client)
        return (
            waiting.until_named()
            or waiting.until_booted()
            or waiting.until_enrolled(patience.enrol_s)
            or waiting.until_ready(patience.ready_s)
        )


def wait_ready_again(hands: Hands, made: Made, patience: Patience) -> None:
    """The same for a cell that was ready before: it is only told when it is not, ``cell_not_ready``."""
    with OrchestratorHome(hands.fabric).client(OPERATOR, patience_s=AWAY_S_MAX) as client:
        error = _Waiting(hands, made, client).until_ready(patience.ready_s)
    if error is not None:
        error.next = "look at its log; or end it: " + _teardown(made.plan)
        raise error


class _Waiting:
    """For one cell; the methods give the reason why it came to nothing, None when it went well."""

    def __init__(self, hands: Hands, made: Made, client: OrchestratorClient) -> None:
        self._hands, self._client = hands, client
        self._plan, self._machine = made.plan, made.machine
        self._invitation = invitation_of(hands, made.plan, made.attempt)
        self._looked = hands.clock.monotonic()
        self._pause_s = ASK_EVERY_S

    def until_named(self) -> GrafosError | None:
        """Where the machine is expected: that it is this one, by the name that its cloud signs."""
        if self._invitation is None or not self._invitation.expectation_id:
            return None
        machine_id = self._machine.attributes.get("signed_id", self._machine.ref.id)
        try:
            self._client.name_machine(self._invitation.expectation_id, machine_id)
        except GrafosError as error:
            came = self._seen().enrolled
            if error.code not in UNNAMED or (came and error.code == "enrolment_refused"):
                raise
            return None if came else error  # one that came was named before, and is expected no longer
        return None

    def until_booted(self) -> GrafosError | None:
        """It also says whether it could set its own timer."""
        try:
            wait_booted(self._hands, self._plan.stack, self._machine)
        except GrafosError as error:
            if error.code != "cell_not_ready":
                raise
            return error
        return None

    def until_enrolled(self, patience_s: float) -> GrafosError | None:
        now = self._hands.clock.now
        lapses_at = self._invitation.valid_until if self._invitation else now() + patience_s
        began = self._begin("enrol")
        while True:
            is_over = now() > lapses_at
            if self._seen().enrolled:
                self._end("enrol", began)
                return None
            if is_over:
                return self._reason("enrolment_expired", "its machine did not enrol before its invitation lapsed")
            self._wait("enrol", began)

    def until_ready(self, patience_s: float) -> GrafosError | None:
        began = self._begin("ready")
        while not (seen := self._seen()).ready:
            if self._hands.clock.monotonic() - began > patience_s:
                lacks = "; ".join(f"{name}: {why}" for name, why in seen.unmet.items()) or "it is not known there"
                return self._reason("cell_not_ready", f"the cell is not ready at its orchestrator: {lacks}")
            self._wait("ready", began, ", ".join(seen.unmet))
        self._end("ready", began)
        return None

    def _seen(self) -> SeenCell:
        return seen_at(self._client, self._plan.spec.provider, self._plan.stack)

    def _begin(self, name: str) -> float:
        self._pause_s = ASK_EVERY_S
        self._hands.progress(Step(name, BEGUN, 0.0))
        return self._hands.clock.monotonic()

    def _end(self, name: str, began: float) -> None:
        self._hands.progress(Step(name, DONE, self._hands.clock.monotonic() - began))

    def _wait(self, name: str, began: float, note: str = "") -> None:
        now = self._hands.clock.monotonic()
        if now - self._looked > LOOK_EVERY_S:
            self._looked = now
            console_tail(self._hands, self._machine)
        self._hands.progress(Step(name, WAITING, now - began, note))
        self._hands.sleep(self._pause_s)
        self._pause_s = min(2 * self._pause_s, ASK_EVERY_S_MAX)

    def _reason(self, code: str, what: str) -> GrafosError:
        machine: Found = self._machine
        tail = console_tail(self._hands, machine)
        why = f"its console ends with:\n{tail}" if tail else "its console says nothing"
        return GrafosError(code, what, where=f"{machine.ref.region} {machine.ref.id}", why=why)


def _teardown(plan: StackPlan) -> str:
    return f"grafos cloud teardown {plan.spec.provider} --cell-id {plan.stack}"
