"""The suite against a cell, end to end: each case is a run that a scheduler admits on that cell and no other.

What a run tells is less than what a runtime tells: its end, with words, and what it left. Where the suite alone decides
what a lease's holder says, or asks for what no wire would carry, there is no such run: ``left_out`` says why.
"""

from __future__ import annotations

import base64
import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from queue import SimpleQueue
from typing import NamedTuple

from grafos_cell import abi
from grafos_cell.conformance.case import Case, Row, judge
from grafos_cell.run import FINISHED, RunOutcome, RunSpec
from grafos_core.errors import GrafosError
from grafos_core.ids import sha256_of
from grafos_core.resources import Resources
from grafos_scheduler import messages
from grafos_scheduler.client import SchedulerClient

PROGRAM = "conformance"
"""The program and the tasklet that the runs bear."""
SEEN = ("code", "text", "response", "output", "log", "fuel_used")
"""The fields of ``Expected`` that a run shows to whoever asked for it; what it returned is in the words of its end,
where the guest gave none of its own."""
ROOM_WITHIN_S = 30.0
"""How long a case waits for the leases of the one before, or of anybody else, to be gone."""
LOOK_EVERY_S = 0.1
RUN_WITHIN_S = 120.0
"""From a case's admission to its end; the longest takes a few seconds."""
RUN_KEY_BYTES = 16
UPLOADED_AHEAD = 2
OpenClient = Callable[[], SchedulerClient]
UNDER_WAY = frozenset({"admitted", "placed", "running"})
_RETURNED = re.compile(r"returned (-?[0-9]+)\b")


class Tried(NamedTuple):
    """A case's row, and the run that it was."""

    row: Row
    run_id: str
    cost_micro_cents: int


def left_out(case: Case, total: Resources) -> str:
    """Why there is no run of this case on a cell that leases out ``total``; empty when there is one."""
    leased = (*case.memory_leases, *case.block_leases)
    is_made = not isinstance(case.source, str)  # a text is never that long, and takes time to turn into a module
    if case.expected.code == "limit_exceeded" or (is_made and len(case.module()) > messages.BLOB_BYTES_MAX):
        return "no such run can be asked for"
    if len(case.memory_leases) > 1 or len(case.block_leases) > 1:
        return "a run is asked for with one lease of a kind"
    if case.desk_status != abi.OK or any(lease.seconds_left <= 0 for lease in case.memory_leases):
        return "its lease would have to end at a moment of the suite's choice"
    wanted = _wanted(case)
    if leased and wanted.lacking(total):
        return f"the cell leases out too little: {', '.join(wanted.lacking(total))}"
    return ""


def try_each(cases: Sequence[Case], view: messages.CellView, open_client: OpenClient) -> Iterator[Tried]:
    """Each case on that cell, judged by what its run shows, in their order; as many at once as the cell has cores, and
    a few more that are uploaded meanwhile. ``open_client`` gives a client of a tenant who may run there."""
    count = max(1, view.total.cpu_cores) + UPLOADED_AHEAD
    with ExitStack() as closing:
        idle: SimpleQueue[_Runner] = SimpleQueue()
        for _ in range(count):
            idle.put(_Runner(closing.enter_context(open_client()), view))

        def attempt(case: Case) -> Tried:
            runner = idle.get()
            try:
                return runner.attempt(case)
            finally:
                idle.put(runner)

        workers = ThreadPoolExecutor(count)
        closing.callback(workers.shutdown, cancel_futures=True)
        yield from workers.map(attempt, cases)


class _Runner:
    """Runs one case after the other over one connection."""

    def __init__(self, client: SchedulerClient, view: messages.CellView) -> None:
        self._client = client
        self._view = view
        self._there: set[str] = set()

    def attempt(self, case: Case) -> Tried:
        module = case.module()
        try:
            view = self._ended(self._admitted(self._request(case, module)))
        except GrafosError as error:
            return Tried(judge(case, case.spec(module), RunOutcome(error.code, error.what), _seen_of(case)), "", 0)
        spec = _spec(case, module, view)
        return Tried(judge(case, spec, self._outcome(view), _seen_of(case)), view.run_id, view.cost.micro_cents)

    def _request(self, case: Case, module: bytes) -> messages.RunRequest:
        return messages.RunRequest(
            run_key=secrets.token_hex(RUN_KEY_BYTES),
            provider=self._view.provider,
            program=PROGRAM,
            tasklet=PROGRAM,
            module_sha256=self._put(module),
            input_sha256="" if case.input is None else self._put(case.input),
            fuel=case.fuel,
            memory_bytes=case.memory_bytes,
            deadline_s=case.deadline_s,
            lease_mem_bytes=_wanted(case).mem_bytes,
            lease_block_bytes=_wanted(case).block_bytes,
            cell_id=self._view.cell_id,
        )

    def _put(self, data: bytes) -> str:
        """Uploads it, once; most cases have the same input."""
        sha256 = sha256_of(data)
        if sha256 not in self._there:
            self._there.add(self._client.put_blob(data))
        return sha256

    def _admitted(self, request: messages.RunRequest) -> messages.RunView:
        until = time.monotonic() + ROOM_WITHIN_S
        while True:
            try:
                return self._client.start_run(request)
            except GrafosError as error:
                if error.code != "placement_failed" or time.monotonic() > until:
                    raise
            time.sleep(LOOK_EVERY_S)

    def _ended(self, view: messages.RunView) -> messages.RunView:
        until = time.monotonic() + RUN_WITHIN_S
        while view.state in UNDER_WAY:
            if time.monotonic() > until:
                raise GrafosError("deadline_exceeded", f"run {view.run_id} has not ended after {RUN_WITHIN_S:g} s")
            view = self._client.run(view.run_id, wait_s=messages.WAIT_S_MAX)
        return view

    def _outcome(self, view: messages.RunView) -> RunOutcome:
        left = self._client.artifacts(view.run_id)
        returned = _RETURNED.search(view.what)
        return RunOutcome(
            FINISHED if view.state == FINISHED else view.code,
            view.what,
            returned=0 if view.state == FINISHED else int(returned[1]) if returned else None,
            response=left.response_json.encode(),
            output=base64.b64decode(left.output_b64),
            log=left.log,
            fuel_used=view.fuel_used,
        )


def _seen_of(case: Case) -> tuple[str, ...]:
    expected = case.expected
    tells = expected.code == FINISHED or (expected.code == "program_error" and not expected.text)
    return (*SEEN, "returned") if tells else SEEN


def _wanted(case: Case) -> Resources:
    return Resources(
        mem_bytes=sum(lease.size_bytes for lease in case.memory_leases),
        block_bytes=sum(lease.blocks for lease in case.block_leases) * abi.BLOCK_BYTES,
    )


def _spec(case: Case, module: bytes, view: messages.RunView) -> RunSpec:
    """What the run was given, with the context that its cell filled in."""
    context = abi.RunContext(view.provider, view.cell_id, view.region, view.run_id, PROGRAM, sha256_of(module))
    return RunSpec(context, case.input, case.fuel, case.memory_bytes, case.deadline_s)
