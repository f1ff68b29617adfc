"""`grafos events`: what happened to cells, to what they consist of, to runs and services, in the order of time.

Nothing is kept for it: every event is told from a moment that a record has anyway, so the list is the same whoever asks
and however often, and what a lost connection hid is there at the next look.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from grafos_cli.following import LOOK_EVERY_S, FollowFlag, Looked, follow, until_stopped
from grafos_cli.taught import new_command_app, taught, terminal_of

if TYPE_CHECKING:
    from grafos_cli.terminal import Terminal
    from grafos_scheduler.messages import RunView
    from grafos_scheduler.service_messages import InstanceView, ServiceView
    from grafos_stacks.journal import ResourceRow
    from grafos_stacks.records import CellRecord

app = new_command_app()

LIMIT_DEFAULT, LIMIT_MAX = 50, 10_000
RUNS_LOOKED_AT = 1000
"""The newest of each scheduler; a page is no longer."""


class Event(NamedTuple):
    """What happened to whom, and when (Unix seconds). ``kind`` is cell, resource, run or service; ``name`` is the id of
    the cell or run, or the name of the resource or service, of a replica with a slash and its number."""

    at: float
    kind: str
    name: str
    what: str
    cell_id: str
    detail: str = ""

    @property
    def key(self) -> tuple[float, str, str, str]:
        """What makes it this event; the cell of a run may become known later."""
        return self.at, self.kind, self.name, self.what


@app.command(
    cls=taught(
        examples=("grafos events", "grafos events -f", "grafos events --cell-id aws-k3f9q2 -f --json"),
        next="grafos runs ls",
        streams="events",
    ),
)
def events(
    ctx: typer.Context,
    cell_id: Annotated[str, typer.Option(metavar="ID", help="only of this cell, with its resources and runs")] = "",
    run_id: Annotated[str, typer.Option(metavar="ID", help="only of this run")] = "",
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=LIMIT_MAX, help="how many, the newest")] = LIMIT_DEFAULT,
    follow: FollowFlag = False,  # noqa: FBT002 - a flag of the command line
) -> None:
    """Tells what happened to the cells of the fabric, their resources, runs and services, the oldest first.

    Of runs the newest thousand of each scheduler are looked at. A scheduler that does not answer is a remark; with
    --follow what it knew is told once it answers again.
    """
    terminal = terminal_of(ctx)
    remarks = _Remarks(terminal)

    def wanted() -> list[Event]:
        found = sorted(one for one in _all(remarks.terminal) if _is_wanted(one, cell_id, run_id))
        remarks.tell()
        return found

    happened = wanted()
    if follow:
        with until_stopped(terminal):
            _follow(happened, limit, wanted, terminal)
        return
    from grafos_cli.tables import table

    rows = [_row(one) for one in happened[-limit:]]
    head = ("AT", "AGE", "WHAT", "NAME", "CELL", "DETAIL")
    text = table(head, rows, terminal, " r", spare=("AT", "DETAIL", "CELL")) if rows else "Nothing happened yet.\n"
    terminal.emit({"events": [one._asdict() for one in happened[-limit:]]}, text)


def _follow(happened: list[Event], limit: int, wanted: Callable[[], list[Event]], terminal: Terminal) -> None:
    known = {one.key for one in happened}  # also what is older than the first that are shown
    for one in happened[-limit:]:
        _show(one, terminal)

    def look() -> Looked[Event]:
        fresh = [one for one in wanted() if one.key not in known]
        known.update(one.key for one in fresh)
        return Looked(fresh)

    for one in follow(look, LOOK_EVERY_S, terminal.note):
        _show(one, terminal)


class _Remarks:
    """What a look remarks is told when it is another than the one before, not once a second."""

    def __init__(self, terminal: Terminal) -> None:
        self._real = terminal
        self._said = io.StringIO()
        self._told = ""
        self.terminal = replace(terminal, err=self._said)

    def tell(self) -> None:
        """Passes on what was said since the last time, each line once."""
        said = "".join(dict.fromkeys(self._said.getvalue().splitlines(keepends=True)))
        self._said.seek(0)
        self._said.truncate()
        if said != self._told:
            self._real.note(said.rstrip() or "note: all answer again")
        self._told = said


def _show(one: Event, terminal: Terminal) -> None:
    if terminal.json:
        terminal.emit_line(one._asdict())
    else:
        at, _, what, name, cell, detail = _row(one)
        where = [cell] if cell not in (name, "-") else []
        terminal.emit({}, "  ".join([terminal.paint("dim", at), what, name, *where, detail]).rstrip())


def _row(one: Event) -> list[str]:
    from grafos_cli.moments import age_text, moment_text

    at = moment_text(one.at, seconds=True)
    return [at, age_text(time.time() - one.at), f"{one.kind} {one.what}", one.name, one.cell_id or "-", one.detail]


def _is_wanted(one: Event, cell_id: str, run_id: str) -> bool:
    return (not cell_id or one.cell_id == cell_id) and (not run_id or (one.kind, one.name) == ("run", run_id))


# --- where moments are ----------------------------------------------------------------------------------------------


def _all(terminal: Terminal) -> Iterator[Event]:
    from grafos_cli.everywhere import Everywhere
    from grafos_cli.fabric import open_default
    from grafos_cli.gathering import gather_runs
    from grafos_cli.project import project_folder
    from grafos_cli.service_calls import services_that_answer
    from grafos_core.clock import SystemClock
    from grafos_stacks.journal import Journal
    from grafos_stacks.records import CellHome

    fabric = open_default(terminal)
    homes = [CellHome(fabric, cell_id) for cell_id in fabric.cell_ids()]
    for home in homes:
        if home.is_recorded:
            yield from events_of_cell(home.record(), time.time())
    if fabric.has_provisioned:
        journal = Journal(fabric, SystemClock())
        try:
            for row in journal.stacks():
                yield from events_of_resources(row.stack, journal.resources(row.stack).values())
        finally:
            journal.close()
    around = Everywhere(fabric, project_folder(), terminal)
    for one in gather_runs(around, RUNS_LOOKED_AT):
        yield from events_of_run(one.view)
    for view in services_that_answer(around):
        yield from events_of_service(view)


def events_of_cell(record: CellRecord, now: float) -> Iterator[Event]:
    """What its record tells of a cell. Its time is over when nobody tore it down before."""
    where = f"{record.provider} {record.region}".strip()
    yield Event(record.provisioned_at, "cell", record.cell_id, record.state, record.cell_id, where)
    ends_at = record.expires_at
    if 0 < ends_at < min(now, record.gone_at or now):
        yield Event(ends_at, "cell", record.cell_id, "expired", record.cell_id, where)
    if record.gone_at:
        yield Event(record.gone_at, "cell", record.cell_id, "gone", record.cell_id, where)


def events_of_resources(stack: str, rows: Iterable[ResourceRow]) -> Iterator[Event]:
    """The latest step of each resource of a cell; whoever follows sees every step."""
    for row in rows:
        detail = " ".join(word for word in (row.kind.value, row.ref.id if row.ref else "") if word)
        yield Event(row.changed_at, "resource", row.name or row.key, row.life.value, stack, detail)


def events_of_run(view: RunView) -> Iterator[Event]:
    """When it was asked for, and how and when it ended."""
    detail = f"{view.program} / {view.tasklet}"
    yield Event(view.created_at, "run", view.run_id, "asked", view.cell_id, detail)
    if view.ended_at:
        why = view.code if view.code not in ("", view.state) else ""
        yield Event(view.ended_at, "run", view.run_id, view.state, view.cell_id, why or detail)


def events_of_service(view: ServiceView) -> Iterator[Event]:
    """Its deploying, and what its instances went through, of those that ended the newest; named as in the audit log."""
    yield Event(view.created_at, "service", view.name, "ServiceDeployed", "", f"{view.spec.replica_count} replicas")
    instances = [*view.instances, *view.ended]
    restarted = {each.follows for each in instances if each.why == "restart"}
    for instance in instances:
        name = f"{view.name}/{instance.slot}"
        for at, what, detail in _moments(instance, restarted=instance.instance_id in restarted):
            if at:
                yield Event(at, "service", name, what, instance.cell_id, detail)


def _moments(instance: InstanceView, *, restarted: bool) -> Iterator[tuple[float, str, str]]:
    """Those of one instance; 0 for what has not been. One that crashed and began again on its cell is no failover."""
    yield instance.created_at, "InstanceProvisioned", instance.why
    yield (
        instance.active_at,
        "CutoverCompleted" if instance.why == "cutover" else "InstanceActive",
        instance.instance_id,
    )
    if instance.drain_until:
        yield instance.left_at, "CutoverStarted" if instance.code == "cutover" else "InstanceDraining", instance.code
    elif not restarted and instance.code not in ("cutover", "scaled", "removed"):
        yield instance.left_at, "FailoverStarted", instance.what
    yield instance.ended_at, "InstanceEnded", instance.code or "finished"
