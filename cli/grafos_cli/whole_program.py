"""Runs all tasklets of a program: one hold for the whole, each after those that it needs, at once what can be.

    foresee each -> reserve their worst cases together -> run, pass on what was left by its hash, run ... -> settle

Who asks again after a crash, a Ctrl-C or a lost answer goes on where it was (``program_keys``).
"""

from __future__ import annotations

import base64
import secrets
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from grafos_cell import abi
from grafos_cli import graph
from grafos_cli.graph import DONE, FAILED, GOING, WAITING
from grafos_cli.interrupts import resumable
from grafos_cli.manifest import ALL_RESPONSES
from grafos_cli.program_keys import PendingProgram, ProgramKeys, new_program
from grafos_cli.run_keys import RUN_KEY_BYTES
from grafos_cli.running import (
    NO_ANSWER,
    PATIENCE_S,
    UNSEEN,
    Asking,
    Ended,
    begin_under,
    failed_run,
    prepare,
    request_for,
    wait_for,
    what_is_asked,
)
from grafos_cli.steps import Steps, show_steps
from grafos_core.errors import GrafosError
from grafos_scheduler.reservation_messages import TTL_S_MAX, ReservationRequest, ReservationView

if TYPE_CHECKING:
    from grafos_cli.manifest import Program, Tasklet
    from grafos_cli.reach import Reach
    from grafos_cli.terminal import Terminal
    from grafos_core.tiers import Tier
    from grafos_scheduler.client import SchedulerClient
    from grafos_scheduler.messages import RunView

ATTEMPTS_MAX = 3
NOT_ITS_FAULT = frozenset({"cell_lost", "cell_revoked", "lease_expired", "lease_revoked"})
"""Of these a run dies that would have gone well elsewhere. It left nothing behind but in regions that it shares."""
AT_ONCE_MAX = 8
"""Runs that this command waits for at a time; a cell of that many cores is rare, and the scheduler queues nothing."""
ROOM_WITHIN_S = 120.0
"""How long a tasklet whose turn it is waits for room or quota that others have, once none of the program runs."""
ASK_AGAIN_S = 0.5
CANCELLED = "cancelled"
LINGER_S = 600.0
"""The money is held so much longer than the tasklets may last, for whoever has to ask again."""
GO_ON = "run the same command again: it goes on from here, and nothing is charged twice"


class Ran(NamedTuple):
    """One tasklet's end. ``attempts``: how many runs it took."""

    ended: Ended
    attempts: int


class ProgramEnd(NamedTuple):
    """What became of each tasklet, by name, and of the money: what was held and spent."""

    ran: dict[str, Ran]
    money: ReservationView


class Work(NamedTuple):
    """A program as it was asked for. ``askings`` are its tasklets by name; those that need others have no input yet."""

    program: Program
    askings: dict[str, Asking]

    @property
    def needs(self) -> dict[str, Sequence[str]]:
        return {tasklet.name: tasklet.needs for tasklet in self.program.tasklets}


def prepare_all(program: Program, tier: Tier | None, tenant: str) -> Work:
    """Every module and every input that lies in a file, each read once."""
    askings = {}
    for tasklet in program.tasklets:
        module, data = prepare(program, tasklet, None)
        askings[tasklet.name] = Asking(
            program.name, tasklet, module, data, tasklet.mem, tasklet.block, tier or tasklet.tier, tenant
        )
    return Work(program, askings)


def run_program(work: Work, reach: Reach, project: Path, terminal: Terminal) -> ProgramEnd:
    """Runs it to its end and settles it. The first tasklet that fails is the error, once none runs any more."""
    keys = ProgramKeys(project, _identity(work, reach))
    with reach.client(PATIENCE_S) as client:
        with resumable(f"Stopped before {work.program.name} began", GO_ON):
            pending, is_over = keys.find(), False
            if pending is not None:
                # One that is over was seen to its end by nobody: its answer was lost on the way. Its runs still answer.
                is_over = _reserve(client, pending, work).closed
            else:
                pending = _with_money(client, work, reach, keys)
        try:
            return _to_the_end(client, work, reach, pending, keys, terminal)
        except GrafosError as error:
            if not is_over or error.code != "not_found":
                raise
        terminal.note("note: what was held ran out before the program was through; it runs anew")
        with resumable(f"Stopped before {work.program.name} began", GO_ON):
            pending = _with_money(client, work, reach, keys)
        return _to_the_end(client, work, reach, pending, keys, terminal)


def _to_the_end(
    client: SchedulerClient, work: Work, reach: Reach, pending: PendingProgram, keys: ProgramKeys, terminal: Terminal
) -> ProgramEnd:
    """What became of each tasklet; what is held for a program that failed is free when its failure is raised."""
    next_steps = f"{GO_ON}\nto give it up: grafos deploy cancel {pending.key}"
    with resumable(f"Stopped while {work.program.name} ran", next_steps), show_steps(terminal) as steps:
        try:
            ran = _Running(work, reach, pending, steps).to_the_end()
        except GrafosError as error:
            if error.code not in NO_ANSWER and UNSEEN not in error.context:
                _give_back(client, pending, keys, error)
            raise
        money = client.end_reservation(pending.key)
        keys.done(pending.key)
    return ProgramEnd(ran, money)


def _give_back(client: SchedulerClient, pending: PendingProgram, keys: ProgramKeys, failure: GrafosError) -> None:
    """Frees what is held for a program that failed. Where that fails too, it is the failure that counts, and the key is
    kept: asked for again, the program shows its failure and frees what is held."""
    try:
        client.end_reservation(pending.key)
    except GrafosError as error:
        failure.why = "; ".join(filter(None, (failure.why, f"what was held for it is not free yet: {error.what}")))
        return
    keys.done(pending.key)


def _with_money(client: SchedulerClient, work: Work, reach: Reach, keys: ProgramKeys) -> PendingProgram:
    """A new program under way, for which the worst case is held."""
    pending = keys.begin(new_program(_worst_case(client, work, reach), held_for_s(work.program.tasklets)))
    try:
        _reserve(client, pending, work)
    except GrafosError as error:
        if error.code not in NO_ANSWER:
            keys.done(pending.key)
        raise
    return pending


def _reserve(client: SchedulerClient, pending: PendingProgram, work: Work) -> ReservationView:
    left_s = max(1.0, pending.asked_at + pending.ttl_s - time.time())
    return client.reserve(ReservationRequest(pending.key, pending.micro_cents, left_s, work.program.name))


def _worst_case(client: SchedulerClient, work: Work, reach: Reach) -> int:
    """Of all tasklets together, in micro-cents; the refusal of the first that would not be admitted."""
    total = 0
    for asking in work.askings.values():
        provider = asking.tasklet.provider_of(reach.provider)
        answer = client.foresee(request_for(asking, provider, secrets.token_hex(RUN_KEY_BYTES)))
        if not answer.admitted:
            raise GrafosError(answer.code, answer.what, where=f"tasklet {asking.tasklet.name}", next=answer.next)
        total += answer.worst_case_micro_cents
    return total


def held_for_s(tasklets: Sequence[Tasklet]) -> float:
    """How long the money is held at most, in seconds: where there is room for one at a time, they run one by one."""
    lasts_s = sum(tasklet.deadline_s + ROOM_WITHIN_S for tasklet in tasklets)
    return min(TTL_S_MAX, ATTEMPTS_MAX * lasts_s + LINGER_S)


def _identity(work: Work, reach: Reach) -> dict[str, object]:
    """Everything by which an asking for the whole program is the same one."""
    return {
        "scheduler": f"{reach.fabric.id}/{reach.cell_id}/{reach.provider}",
        "tasklets": [
            {
                **what_is_asked(asking),
                "needs": asking.tasklet.needs,
                "input_of": asking.tasklet.input_of,
                **({"provider": asking.tasklet.provider} if asking.tasklet.provider else {}),
            }
            for asking in work.askings.values()
        ],
    }


class _Running:
    """A program under way. Each run is waited for on a thread of its own, which says on ``_heard`` what came of it."""

    def __init__(self, work: Work, reach: Reach, pending: PendingProgram, steps: Steps) -> None:
        self._work, self._reach, self._pending, self._steps = work, reach, pending, steps
        self._states = dict.fromkeys(work.askings, WAITING)
        self._heard: SimpleQueue[tuple[str, Ran | Exception]] = SimpleQueue()
        self._ran: dict[str, Ran] = {}
        self._have_room: set[str] = set()
        """Those that go and wait for room no more."""

    def to_the_end(self) -> dict[str, Ran]:
        """What became of each; raises the first failure when nothing runs any more."""
        failure: GrafosError | None = None
        while True:
            going = sum(state == GOING for state in self._states.values())
            for name in graph.can_begin(self._work.needs, self._states)[: AT_ONCE_MAX - going]:
                self._begin(name)
            if GOING not in self._states.values():
                break
            name, what = self._heard.get()
            if not isinstance(what, Ran | GrafosError):
                raise what
            error = what if isinstance(what, GrafosError) else failed_run(what.ended)
            if isinstance(what, Ran):
                self._ran[name] = what
            self._states[name] = FAILED if error else DONE
            failure = failure or (error and self._told(name, error))
        if failure is not None:
            raise failure
        return self._ran

    def _begin(self, name: str) -> None:
        self._states[name] = GOING
        # A daemon thread: whoever presses Ctrl-C does not wait for a run that goes on without him.
        threading.Thread(target=self._to_its_end, args=(name,), daemon=True).start()

    def _to_its_end(self, name: str) -> None:
        try:
            with self._reach.client(PATIENCE_S) as client:
                asking = self._asking(client, self._work.askings[name])
                self._heard.put((name, self._attempts(client, asking)))
        except Exception as error:  # noqa: BLE001 - whoever waits for it raises it
            self._heard.put((name, error))

    def _attempts(self, client: SchedulerClient, asking: Asking) -> Ran:
        tasklet, attempt = asking.tasklet, 1
        while True:
            view = self._with_room(client, asking, self._pending.run_key(tasklet.name, attempt))
            # One that was cancelled before we asked is not what somebody wants who goes on.
            if view.state != CANCELLED:
                ended = self._ended(client, view, asking)
                if not tasklet.retry or ended.view.code not in NOT_ITS_FAULT or attempt >= ATTEMPTS_MAX:
                    return Ran(ended, attempt)
                self._steps.note(f"{tasklet.name} runs again: {ended.view.what or ended.view.code}")
            attempt += 1

    def _ended(self, client: SchedulerClient, view: RunView, asking: Asking) -> Ended:
        self._have_room.add(asking.tasklet.name)
        try:
            return wait_for(client, view, asking, self._steps)
        finally:
            self._have_room.discard(asking.tasklet.name)

    def _with_room(self, client: SchedulerClient, asking: Asking, run_key: str) -> RunView:
        """Asks until there is room and quota for it. While others of the program run, it is they who have it."""
        until = time.monotonic() + ROOM_WITHIN_S
        while True:
            try:
                provider = asking.tasklet.provider_of(self._reach.provider)
                return begin_under(run_key, client, asking, provider, self._steps)
            except GrafosError as error:
                if self._have_room:
                    until = time.monotonic() + ROOM_WITHIN_S
                if not error.retryable or error.code in NO_ANSWER or time.monotonic() > until:
                    self._steps.ended(asking.tasklet.name, error.what, failed=True)
                    raise
                self._steps.changed(asking.tasklet.name, f"waits: {error.what}")
            time.sleep(ASK_AGAIN_S)

    def _asking(self, client: SchedulerClient, asking: Asking) -> Asking:
        """The tasklet with its input. What another left lies at the scheduler already, under its hash."""
        asking = asking._replace(reservation=self._pending.key)
        tasklet = asking.tasklet
        if tasklet.input_of == ALL_RESPONSES:
            responses = {name: _response(self._ran[name].ended) for name in tasklet.needs}
            return asking._replace(data=_bounded(tasklet, msgspec.json.encode(responses)))
        if tasklet.input_of is not None:
            part, other = tasklet.input_of
            left = self._ran[other].ended
            client.keep_artifact(left.view.run_id, part)
            return asking._replace(data=_bounded(tasklet, _left(left, part)))
        return asking

    def _told(self, name: str, error: GrafosError) -> GrafosError:
        """The failure with what did not begin because of it."""
        never = [each for each, state in self._states.items() if state == WAITING]
        error.context = {**error.context, "tasklet": name, "not_begun": never}
        if never:
            error.why = "; ".join(filter(None, (error.why, f"not begun because of it: {', '.join(never)}")))
        return error


def _left(ended: Ended, part: str) -> bytes:
    left = ended.artifacts
    if left is None:
        return b""
    return base64.b64decode(left.output_b64) if part == "output" else left.response_json.encode()


def _response(ended: Ended) -> msgspec.Raw | None:
    """The response as it stands; None where none was written."""
    text = ended.artifacts.response_json if ended.artifacts else ""
    return msgspec.Raw(text.encode()) if text else None


def _bounded(tasklet: Tasklet, data: bytes) -> bytes:
    if len(data) > abi.INPUT_BYTES_MAX:
        raise GrafosError(
            "body_too_large",
            f"what {tasklet.name} would be given has {len(data):,} bytes, the limit is {abi.INPUT_BYTES_MAX:,}",
            where=f"tasklet {tasklet.name}",
            next="let the tasklets that it needs leave less",
        )
    return data
