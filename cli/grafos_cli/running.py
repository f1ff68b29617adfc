"""Carries one asking for a run through: upload, ask, wait, fetch what it left."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from grafos_cell import abi
from grafos_cli.building import built_module
from grafos_cli.cancelling import UNDER_WAY, cancel_and_wait
from grafos_cli.interrupts import interrupted, parting, resumable
from grafos_cli.manifest import Program, Tasklet
from grafos_cli.reach import Reach
from grafos_cli.run_keys import RUN_KEY_BYTES, Place, RunKeys
from grafos_cli.steps import Steps, show_steps
from grafos_core.errors import GrafosError
from grafos_core.ids import sha256_of
from grafos_core.tiers import Tier
from grafos_scheduler import messages

if TYPE_CHECKING:
    from grafos_cli.terminal import Terminal
    from grafos_scheduler.client import SchedulerClient

PATIENCE_S = 5.0
"""How long a scheduler that is out of reach is tried again: a restart takes less than a second."""
WAIT_BEYOND_DEADLINE_S = 300.0
"""A run that has not ended so long after its deadline will be found by `grafos runs show`; nobody waits for it here."""
SHOW_AGAIN_AFTER_S = 0.5
"""A run that takes longer is looked at once more, so that a person sees that it runs; then its end is waited for."""
UNSEEN = "unseen_run_id"
"""In an error's context: the run whose end nobody here saw, and which may go on."""
NO_ANSWER = (
    "answer_invalid",
    "certificate_expired",
    "certificate_refused",
    "credentials_missing",
    "internal",
    "operator_replaced",
    "order_refused",
    "rights_missing",
    "scheduler_unreachable",
    "token_expired",
    "token_refused",
)
"""These say nothing of the run, which an earlier asking may have begun, so its key is kept; any other error does."""


class Asking(NamedTuple):
    """What is asked for. ``data`` None means that the input is the context. ``tenant`` and ``cell_id`` are empty unless
    somebody named them; ``most_micro_cents`` None means at any price. ``among`` names the schedulers of which the
    cheapest is taken, and is empty where there is only one to ask. With a ``reservation`` it is paid from that."""

    program: str
    tasklet: Tasklet
    module: bytes
    data: bytes | None
    lease_mem_bytes: int
    lease_block_bytes: int
    tier: Tier
    tenant: str = ""
    cell_id: str = ""
    most_micro_cents: int | None = None
    among: str = ""
    reservation: str = ""


class Ended(NamedTuple):
    """How it ended, and what it left if it left anything. ``considered`` are the cells that were asked, where one of
    several was chosen."""

    view: messages.RunView
    artifacts: messages.Artifacts | None
    considered: Sequence[dict[str, object]] = ()


def failed_run(ended: Ended) -> GrafosError | None:
    """The error of a run that did not finish."""
    view, left = ended.view, ended.artifacts
    if view.state == "finished":
        return None
    error = GrafosError.from_wire({"code": view.code, "what": view.what or "The run did not finish"})
    error.where = f"run {view.run_id} on cell {view.cell_id or 'none'}"
    error.next = f"grafos artifacts {view.run_id}" if left else f"grafos runs show {view.run_id}"
    error.context = {"run": msgspec.to_builtins(view)}
    return error


def prepare(program: Program, tasklet: Tasklet, input_file: Path | None) -> tuple[bytes, bytes | None]:
    """The built module and the input, each read once; None for an input that is the context, or that others leave."""
    _, module = built_module(program, tasklet)
    path = input_file or tasklet.input_file
    return module, None if path is None else read_input(path)


def read_input(path: Path) -> bytes:
    """The file's bytes, at most what a tasklet may be given."""
    try:
        with path.open("rb") as file:
            data = file.read(abi.INPUT_BYTES_MAX + 1)
    except OSError as error:
        why = error.strerror or str(error)
        raise GrafosError("usage", f"The input {path} cannot be read", why=why, next="name a file") from error
    if len(data) > abi.INPUT_BYTES_MAX:
        raise GrafosError(
            "body_too_large",
            f"The input has more than {abi.INPUT_BYTES_MAX} bytes",
            where=str(path),
            next="give the tasklet a smaller input",
        )
    return data


def run_to_end(asking: Asking, reach: Reach, project: Path, terminal: Terminal) -> Ended:
    """Asks under a run key that is on disk first, and waits for the end."""
    keys, asked = RunKeys(project), _identity(asking, reach)
    again = "run the same command again: it finds this run and is not charged twice"
    view, run_key = None, ""
    try:
        with reach.client(PATIENCE_S) as client, show_steps(terminal) as steps:
            with resumable("Stopped before the scheduler's answer came", again):
                view, run_key = _asked_for(client, asking, reach, keys, steps)
            with parting(_goes_on(view.run_id)), _told_to_go_on(view, steps):
                ended = _ended(client, view, asking, steps, "run")
    except KeyboardInterrupt:
        if view is None:
            raise
        raise _stopped_waiting(view, reach, terminal) from None
    keys.done(asked, run_key)
    return ended


def _asked_for(
    client: SchedulerClient, asking: Asking, reach: Reach, keys: RunKeys, steps: Steps
) -> tuple[messages.RunView, str]:
    """The run of the pending key if there is one, else a new one; with its key. A run that was cancelled
    meanwhile is not what somebody wants who asks again."""
    asked = _identity(asking, reach)
    while True:
        pending = keys.key_for(asked, new_key := secrets.token_hex(RUN_KEY_BYTES), _place(asking, reach))
        try:
            view = _ask(client, asking, reach.provider, pending.run_key, steps)
        except GrafosError as error:
            if error.code not in NO_ANSWER:
                keys.done(asked, pending.run_key)
            raise
        if view.state != "cancelled" or pending.run_key == new_key:
            return view, pending.run_key
        keys.done(asked, pending.run_key)


def begin_under(run_key: str, client: SchedulerClient, asking: Asking, provider: str, steps: Steps) -> messages.RunView:
    """Asks under a key that the caller will know again. Asked again, it is the same run. Its only step bears the
    tasklet's name."""
    steps.began(asking.tasklet.name, "asking")
    _put_blobs(client, asking)
    return client.start_run(request_for(asking, provider, run_key))


def wait_for(client: SchedulerClient, view: messages.RunView, asking: Asking, steps: Steps) -> Ended:
    """The end of a run that was begun so."""
    return _ended(client, view, asking, steps, asking.tasklet.name)


def request_for(asking: Asking, provider: str, run_key: str) -> messages.RunRequest:
    """The request; module and input are named by their hashes."""
    return messages.RunRequest(
        run_key=run_key,
        provider=provider,
        program=asking.program,
        tasklet=asking.tasklet.name,
        module_sha256=sha256_of(asking.module),
        input_sha256="" if asking.data is None else sha256_of(asking.data),
        fuel=asking.tasklet.fuel,
        memory_bytes=asking.tasklet.memory_bytes,
        lease_mem_bytes=asking.lease_mem_bytes,
        lease_block_bytes=asking.lease_block_bytes,
        deadline_s=asking.tasklet.deadline_s,
        tier=asking.tier,
        cell_id=asking.cell_id,
        max_micro_cents=asking.most_micro_cents,
        reservation=asking.reservation,
    )


def pending_place(asking: Asking, project: Path) -> Place | None:
    """Where this very asking went before whose end was not seen, whichever scheduler is the cheapest by now."""
    pending = RunKeys(project).find(_identity_among(asking))
    return pending.place if pending is not None else None


def settle_place(asking: Asking, reach: Reach, project: Path) -> Place:
    """That the run is asked for at ``reach``, on the disk; or where another command settled it just before."""
    place = _place(asking, reach)
    assert place is not None, "one of several"
    pending = RunKeys(project).key_for(_identity_among(asking), secrets.token_hex(RUN_KEY_BYTES), place)
    return pending.place or place


def forget_pending(asking: Asking, project: Path) -> None:
    """The scheduler that was asked is none of the fabric's any more; the next asking is a new one."""
    keys, asked = RunKeys(project), _identity_among(asking)
    if (pending := keys.find(asked)) is not None:
        keys.done(asked, pending.run_key)


def _place(asking: Asking, reach: Reach) -> Place | None:
    if not asking.among:
        return None
    return Place(str(reach.fabric.id), reach.cell_id, reach.provider, asking.cell_id)


def _goes_on(run_id: str) -> str:
    return f"Run {run_id} goes on; next: grafos runs show {run_id}, or grafos runs cancel {run_id}"


@contextmanager
def _told_to_go_on(view: messages.RunView, steps: Steps) -> Iterator[None]:
    """Who stops waiting sees that the run goes on, and not that it failed."""
    try:
        yield
    except KeyboardInterrupt:
        steps.changed("run", f"goes on on {view.cell_id}" if view.cell_id else "goes on")
        raise


def _stopped_waiting(view: messages.RunView, reach: Reach, terminal: Terminal) -> GrafosError:
    """Ctrl-C during a run: a person is asked what is to become of it, anybody else is told that it goes on."""
    run_id = view.run_id
    goes_on = interrupted(
        f"Stopped waiting; run {run_id} goes on",
        f"grafos runs show {run_id}\n"
        f"to wait for it: grafos runs logs {run_id} -f\n"
        f"to end it: grafos runs cancel {run_id}",
    )
    if not terminal.interactive:
        return goes_on
    with parting(_goes_on(run_id)):
        if not terminal.asks(f"Run {run_id} goes on. Keep it running, or cancel it? [K/c]", ("c", "cancel")):
            return goes_on
        # The connection was left in the middle of an answer.
        with reach.client(PATIENCE_S) as client:
            ended = cancel_and_wait(client, run_id)
    return interrupted(f"Run {run_id} is {ended.state}", f"grafos runs show {run_id}")


def _identity(asking: Asking, reach: Reach) -> dict[str, object]:
    """Everything by which an asking is the same one. Which of several schedulers it went to is no part of that."""
    return _identity_among(asking) if asking.among else {**_asked_at(asking, reach), **what_is_asked(asking)}


def _identity_among(asking: Asking) -> dict[str, object]:
    """The same of an asking that may go to any of several schedulers."""
    return {"among": asking.among, **what_is_asked(asking)}


def what_is_asked(asking: Asking) -> dict[str, object]:
    """Everything but the place by which an asking is the same one."""
    return {
        "program": asking.program,
        "tasklet": asking.tasklet.name,
        "module_sha256": sha256_of(asking.module),
        "input_sha256": sha256_of(asking.data) if asking.data is not None else "",
        "fuel": asking.tasklet.fuel,
        "memory_bytes": asking.tasklet.memory_bytes,
        "lease_mem_bytes": asking.lease_mem_bytes,
        "lease_block_bytes": asking.lease_block_bytes,
        "deadline_s": asking.tasklet.deadline_s,
        **({"tier": asking.tier.value} if asking.tier is not Tier.STANDARD else {}),
        **({"tenant": asking.tenant} if asking.tenant else {}),
        **({} if asking.most_micro_cents is None else {"most_micro_cents": asking.most_micro_cents}),
    }


def _asked_at(asking: Asking, reach: Reach) -> dict[str, object]:
    return {
        "cell_id": reach.cell_id,
        **({"provider": reach.provider} if reach.is_orchestrator else {}),
        **({"pin": asking.cell_id} if asking.cell_id else {}),
    }


def _ask(client: SchedulerClient, asking: Asking, provider: str, run_key: str, steps: Steps) -> messages.RunView:
    steps.began("upload", f"module {len(asking.module):,} bytes, input {len(asking.data or b''):,} bytes")
    _put_blobs(client, asking)
    steps.ended("upload")
    steps.began("run", "asking")
    return client.start_run(request_for(asking, provider, run_key))


def _put_blobs(client: SchedulerClient, asking: Asking) -> None:
    client.put_blob(asking.module)
    if asking.data is not None:
        client.put_blob(asking.data)


def _ended(client: SchedulerClient, view: messages.RunView, asking: Asking, steps: Steps, step: str) -> Ended:
    """The run when it has ended, with what it left."""
    view = _wait(client, view, asking.tasklet.deadline_s, steps, step)
    return Ended(view, _artifacts(client, view))


def _wait(
    client: SchedulerClient, view: messages.RunView, deadline_s: float, steps: Steps, step: str
) -> messages.RunView:
    until = time.monotonic() + deadline_s + WAIT_BEYOND_DEADLINE_S
    wait_s = SHOW_AGAIN_AFTER_S
    while view.state in UNDER_WAY:
        steps.changed(step, f"{view.state} on {view.cell_id}" if view.cell_id else view.state)
        if time.monotonic() > until:
            raise GrafosError(
                "deadline_exceeded",
                f"Run {view.run_id} has not ended long after its deadline",
                where=client.url,
                next=f"grafos runs show {view.run_id}",
                context={UNSEEN: view.run_id},
            )
        view, wait_s = client.run(view.run_id, wait_s=wait_s), messages.WAIT_S_MAX
    steps.ended(step, f"{view.state} on {view.cell_id}", failed=view.state != "finished")
    return view


def _artifacts(client: SchedulerClient, view: messages.RunView) -> messages.Artifacts | None:
    """None when the run left nothing, as one that was refused."""
    try:
        return client.artifacts(view.run_id)
    except GrafosError as error:
        if error.code == "artifact_missing":
            return None
        raise
