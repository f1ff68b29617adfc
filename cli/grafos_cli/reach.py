"""From the name of a provider to a scheduler that can be asked, with the credentials for it.

`local` is the local fabric of this project. A cloud is a standalone cell of `.grafos/cloud/aws-cells.json`: the one
that is named, else the newest that is not past its expiry. Where there is none, it is the fabric's orchestrator, which
picks one of the cells that enrolled there.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from grafos_cli.settings import value_of
from grafos_core.errors import GrafosError

if TYPE_CHECKING:
    from grafos_cli.local_state import LocalFabric
    from grafos_cli.terminal import Terminal
    from grafos_core.fabric import Fabric
    from grafos_scheduler.client import SchedulerClient
    from grafos_scheduler.services_client import ServicesClient
    from grafos_stacks.orchestrators import OrchestratorHome
    from grafos_stacks.records import CellHome, CellRecord

LOCAL = "local"
CLOUDS = ("aws", "azure", "gcp")


class Reach(NamedTuple):
    """One scheduler as a tenant reaches it. ``note`` says why this one, where there was a choice.

    ``cell_id`` is the scheduler's name: that of its only cell, or an orchestrator's. ``provider`` is empty for all
    that an orchestrator has.
    """

    fabric: Fabric
    provider: str
    cell_id: str
    url: str
    tenant: str
    note: str = ""
    is_orchestrator: bool = False

    def client(self, patience_s: float = 0.0) -> SchedulerClient:
        """A client to close when done; it keeps trying for ``patience_s`` while the scheduler is out of reach."""
        from grafos_stacks.records import tenant_name

        return self._home().client(tenant_name(self.tenant), self.url, patience_s=patience_s)

    def services(self) -> ServicesClient:
        """The same, for services and the way to sessions with them."""
        from grafos_scheduler.services_client import ServicesClient
        from grafos_stacks.records import tenant_name

        home, who = self._home(), tenant_name(self.tenant)
        home.client(who, self.url).close()  # which renews what is due
        return home.open_client(ServicesClient, who, self.url)

    def operator(self) -> SchedulerClient:
        """The same with the operator's rights."""
        from grafos_stacks.records import OPERATOR

        return self._home().client(OPERATOR, self.url)

    def reader(self) -> SchedulerClient:
        """Whoever of us sees the most there: the operator, who sees what is of every tenant; else the tenant."""
        try:
            return self.operator()
        except GrafosError as error:
            if error.code not in ("credentials_missing", "rights_missing"):
                raise
        return self.client()

    def _home(self) -> CellHome | OrchestratorHome:
        from grafos_stacks.orchestrators import OrchestratorHome
        from grafos_stacks.records import CellHome

        return OrchestratorHome(self.fabric) if self.is_orchestrator else CellHome(self.fabric, self.cell_id)


def resolve(provider: str, fabric: Fabric, project: Path, cell_id: str = "") -> Reach:
    """The scheduler for a run on ``provider``; ``runtime_not_ready``, ``cell_unknown`` or ``unsupported``. The setting
    ``fabric`` names its address when it is to be no other."""
    if provider == LOCAL:
        record = _local_record(project)
        if record is None:
            raise GrafosError(
                "runtime_not_ready", "No local fabric runs in this project", where=str(project), next="grafos dev up"
            )
        return _as_addressed([_resolve_local(fabric, project, record, cell_id)], provider)
    orchestrator = _orchestrator(fabric, provider)
    if provider in CLOUDS and value_of("fabric") and not cell_id:
        cells = (cell for cell in _project_cells(provider, fabric, project) if _lives(cell))
        return _as_addressed([_reach(fabric, cell) for cell in cells] + orchestrator, provider)
    if provider in CLOUDS:
        return _as_addressed([_resolve_cloud(provider, fabric, project, cell_id, orchestrator)], provider)
    if orchestrator:
        return _as_addressed([_unpicked(each, cell_id) for each in orchestrator], provider)
    raise GrafosError(
        "unsupported",
        f"This fabric runs nothing on {provider[:40]!r}",
        next="use --provider local or aws; or run an orchestrator (fabric init), or sign in to one (account login)",
    )


def known_reaches(
    fabric: Fabric, project: Path, terminal: Terminal, failed: list[tuple[str, GrafosError]] | None = None
) -> list[Reach]:
    """Every scheduler of the fabric that may still live. Troubles are remarks, and go to ``failed`` with the name of
    the one that cannot be asked for it."""
    found: list[Reach] = []
    failed = [] if failed is None else failed
    with _as_remark(LOCAL, failed, terminal):
        if (record := _local_record(project)) is not None:
            found.append(_resolve_local(fabric, project, record, ""))
    found += [_reach(fabric, record) for record in _fabric_cells(fabric, failed, terminal)]
    with _as_remark("the orchestrator", failed, terminal):
        found += _orchestrator(fabric)
    if not value_of("fabric"):
        return found
    failed.clear()  # nobody else is to be asked
    return [_as_addressed(found, "any provider")]


def recorded(fabric: Fabric, scheduler: str, provider: str) -> Reach | None:
    """The scheduler of that name, also past the end that its record tells: it may have been extended from another home.
    None if it is known to be gone; ``fabric_invalid`` for a record that cannot be read."""
    from grafos_stacks.records import CellHome
    from grafos_stacks.spec import ORCHESTRATOR

    for each in _orchestrator(fabric, provider):
        if (each.fabric.id, each.cell_id) == (fabric.id, scheduler):
            return each
    if scheduler not in fabric.cell_ids() or not CellHome(fabric, scheduler).is_recorded:
        return None
    record = CellHome(fabric, scheduler).record()
    is_over = record.gone_at or not record.url or record.pattern == ORCHESTRATOR
    return None if is_over else _reach(fabric, record)


@contextlib.contextmanager
def _as_remark(name: str, failed: list[tuple[str, GrafosError]], terminal: Terminal) -> Iterator[None]:
    """Inside, what goes wrong is told and kept, and nothing more."""
    try:
        yield
    except GrafosError as error:
        failed.append((name, error))
        terminal.note(f"note: {error.what} ({error.where}); next: {error.next}")


def _as_addressed(known: list[Reach], provider: str) -> Reach:
    """The one at the address that the setting ``fabric`` names, else the first; ``cell_unknown``."""
    address = value_of("fabric")
    if not address:
        return known[0]
    for reach in known:
        if urlsplit(reach.url).netloc == address:
            return reach
    there = ", ".join(urlsplit(reach.url).netloc for reach in known) or "none"
    raise GrafosError(
        "cell_unknown",
        f"No scheduler that you hold credentials for on {provider} has the address {address[:60]}",
        where="--fabric or GRAFOS_FABRIC",
        why=f"there are {there}",
        next="name one of these, or leave it out",
    )


def _orchestrator(fabric: Fabric, provider: str = "") -> list[Reach]:
    """The fabric's orchestrator, if it has one; then that of the fabric where we are signed in, if we are."""
    from grafos_core.guest import Guest, open_guest
    from grafos_stacks.orchestrators import DEFAULT_TENANT, OrchestratorHome

    guest = None if isinstance(fabric, Guest) else open_guest()
    found = []
    for each in (fabric, guest):
        record = OrchestratorHome(each).record() if each is not None else None
        if each is not None and record is not None:
            tenant = each.account.tenant if isinstance(each, Guest) else DEFAULT_TENANT
            found.append(Reach(each, provider, record.name, record.url, tenant, is_orchestrator=True))
    return found


def _unpicked(orchestrator: Reach, cell_id: str) -> Reach:
    """The orchestrator, unless somebody names the cell, which is the orchestrator's to choose: ``unsupported``."""
    if cell_id:
        raise GrafosError(
            "unsupported",
            f"Cell {cell_id[:60]!r} is no standalone cell of this project; an orchestrator picks the cell itself",
            next="leave out --cell-id; see: grafos fabric cells",
        )
    return orchestrator


def _local_record(project: Path) -> LocalFabric | None:
    """The record of the local fabric, unless no `dev up` has come to its end here."""
    from grafos_cli.local_state import read_local_fabric

    record = read_local_fabric(project)
    return record if record is not None and record.ready else None


def _resolve_local(fabric: Fabric, project: Path, record: LocalFabric, cell_id: str) -> Reach:
    from grafos_cli.local_health import check

    check(record, project)
    if cell_id not in ("", record.cell_id):
        raise GrafosError(
            "cell_unknown", f"The local cell is {record.cell_id}, not {cell_id[:60]!r}", next="leave out --cell-id"
        )
    return Reach(fabric, LOCAL, record.cell_id, record.scheduler_url, record.tenant)


def _project_cells(provider: str, fabric: Fabric, project: Path) -> list[CellRecord]:
    from grafos_stacks.records import project_cells

    return [cell for cell in project_cells(project, provider) if cell.fabric == fabric.id]


def _resolve_cloud(provider: str, fabric: Fabric, project: Path, cell_id: str, orchestrator: list[Reach]) -> Reach:
    """The named cell, else the newest that is not past its expiry, else the orchestrator; the choice is told."""
    from grafos_stacks.records import READY

    cells = _project_cells(provider, fabric, project)
    if cell_id:
        chosen = [cell for cell in cells if cell.cell_id == cell_id]
        if orchestrator and not any(cell.url or cell.state != READY for cell in chosen):
            return _unpicked(orchestrator[0], cell_id)
        if not chosen:
            known = ", ".join(cell.cell_id for cell in cells) or "none"
            raise GrafosError(
                "cell_unknown",
                f"This project has no cell {cell_id[:60]!r} on {provider}",
                why=f"it has {known}",
                next="grafos cloud ls",
            )
        return _reach(fabric, _ready(chosen[0]))
    alive = sorted((cell for cell in cells if _lives(cell)), key=lambda cell: -cell.provisioned_at)
    if not alive and orchestrator:
        return orchestrator[0]
    if not alive:
        if booted := [cell for cell in cells if not _is_over(cell)]:
            _ready(booted[0])
        ended = ", ".join(cell.cell_id for cell in cells)
        raise GrafosError(
            "runtime_not_ready",
            f"This project has no cell on {provider} that runs",
            why=f"past their expiry: {ended}" if ended else "",
            next=f"grafos cloud provision {provider}",
        )
    others = ", ".join(cell.cell_id for cell in alive[1:])
    note = f"using {alive[0].cell_id}, the newest cell on {provider} (also there: {others})" if others else ""
    return _reach(fabric, alive[0])._replace(note=note)


def _fabric_cells(fabric: Fabric, failed: list[tuple[str, GrafosError]], terminal: Terminal) -> list[CellRecord]:
    """The cells on clouds that the fabric has and that may still live."""
    from grafos_stacks.records import CellHome

    found = []
    for cell_id in fabric.cell_ids():
        try:
            record = CellHome(fabric, cell_id).record()
        except GrafosError as error:
            if error.code != "cell_unknown":
                failed.append((cell_id, error))
                terminal.note(f"note: {error.what} ({error.where})")
            continue
        if record.provider != LOCAL and _lives(record):
            found.append(record)
    return found


def _lives(record: CellRecord) -> bool:
    """Whether its own scheduler may be asked something: it came as far as ready, and its time is not over. A registered
    cell has none: the orchestrator speaks for it, and the orchestrator's own machine is no cell."""
    from grafos_stacks.records import READY
    from grafos_stacks.spec import ORCHESTRATOR

    is_cell = record.pattern != ORCHESTRATOR
    return is_cell and record.state == READY and bool(record.url) and not _is_over(record)


def _is_over(record: CellRecord) -> bool:
    return bool(record.gone_at) or 0 < record.expires_at <= time.time()


def _ready(record: CellRecord) -> CellRecord:
    """The record of a cell that can run something, or ``runtime_not_ready`` with the reason."""
    from grafos_stacks.records import BOOTED, READY

    if record.state == READY and not record.url:
        raise GrafosError(
            "runtime_not_ready",
            f"Cell {record.cell_id} joined an orchestrator, and this fabric knows of none any more",
            next=f"grafos fabric claim URL; or: grafos cloud teardown {record.provider} --cell-id {record.cell_id}",
        )
    if record.state == READY:
        return record
    came = f"Cell {record.cell_id} on {record.provider} has booted, and is not ready to run anything"
    raise GrafosError(
        "runtime_not_ready",
        came if record.state == BOOTED else f"Cell {record.cell_id} on {record.provider} was never finished",
        why="it was asked to join no orchestrator (--no-join)" if record.state == BOOTED else "",
        next="use a cell on aws or the local fabric, or run an orchestrator for others: grafos fabric init; end this "
        f"one with: grafos cloud teardown {record.provider} --cell-id {record.cell_id}"
        if record.state == BOOTED
        else f"grafos cloud provision {record.provider} --cell-id {record.cell_id}  (it goes on)",
    )


def _reach(fabric: Fabric, record: CellRecord) -> Reach:
    return Reach(fabric, record.provider, record.cell_id, record.url, record.tenant)
