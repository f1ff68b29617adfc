"""What `grafos dev doctor` looks at: the record, what it says of processes and clock, and what the fabric answers.

Each finding is one line. Where a finding stops the ones after it, these are left out: a fabric that is down answers
nothing.
"""

from __future__ import annotations

import http.client
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from grafos_cli.local_health import ANEW, Trouble, program_of, reused_by, troubles, way_on
from grafos_cli.local_state import BEARER_NAME, LocalFabric, dev_folder, read_local_fabric, writing
from grafos_core.clock import SystemClock
from grafos_core.errors import GrafosError
from grafos_core.fabric import open_fabric

ANSWER_S_MAX = 3.0
PROJECT_FILE = "grafos.toml"


class Found(NamedTuple):
    """``why`` says what was seen; ``next`` is the step that helps when it is not ok."""

    name: str
    ok: bool
    why: str
    next: str = ""


def look(project: Path) -> Iterator[Found]:
    """Everything, from the record on disk to the answers over the wire."""
    yield _writable(project)
    try:
        record = read_local_fabric(project)
    except GrafosError as error:
        yield _failed("record", error)
        return
    if record is None or not record.ready:
        yield Found("record", ok=False, why=f"no local fabric runs in {project}", next="grafos dev up")
        return
    yield Found("record", ok=True, why=f"cell {record.cell_id}, started {_when(record.started_at)}")
    found = list(troubles(record, project))
    yield from _standing(record, found)
    if any(trouble.stops for trouble in found):
        yield from _port(record)
        return
    yield from _answers(record)
    yield _helper(record, project)


def _writable(project: Path) -> Found:
    """Tried, not guessed: whoever looks may be somebody whom no mode stops."""
    try:
        with writing(project), tempfile.TemporaryFile(dir=dev_folder(project)):
            pass
    except GrafosError as error:
        return Found("writable", ok=False, why=f"{error.where}: {error.why}", next=error.next)
    return Found("writable", ok=True, why=str(dev_folder(project)))


def _standing(record: LocalFabric, found: list[Trouble]) -> Iterator[Found]:
    """One finding for the folder, the clock and each process."""
    by_name = {trouble.name: trouble for trouble in found}
    said = {"folder": record.folder or "as it was", "clock": "as it was when the fabric started"}
    for name, why in said.items():
        trouble = by_name.get(name)
        yield Found(name, ok=False, why=trouble.what, next=trouble.next) if trouble else Found(name, ok=True, why=why)
    following = way_on([daemon for daemon in record.daemons if not daemon.is_alive])
    for daemon in record.daemons:
        if daemon.is_alive:
            yield Found(daemon.name, ok=True, why=f"process {daemon.pid}")
            continue
        other = reused_by(daemon)
        now = f" (that number is {other}'s now)" if other else ""
        yield Found(
            daemon.name, ok=False, why=f"process {daemon.pid} ended{now}; its log is {daemon.log}", next=following
        )


def _port(record: LocalFabric) -> Iterator[Found]:
    """Whether another program has the port of a scheduler that is gone."""
    parts = urlsplit(record.scheduler_url)
    assert parts.port is not None
    inode = _listener(parts.port)
    if inode and not record.daemons[0].is_alive:
        who = _owner(inode)
        why = f"{parts.netloc} is taken by another program{f' ({who})' if who else ''}"
        yield Found("port", ok=False, why=why, next="grafos dev up  (it takes another port)")


def _answers(record: LocalFabric) -> Iterator[Found]:
    """`/health`, the tenant listing and the readiness signals, over mTLS as any command asks."""
    from grafos_stacks.records import OPERATOR, CellHome

    try:
        home = CellHome(open_fabric(SystemClock()), record.cell_id)
        with home.client(OPERATOR, record.scheduler_url) as client:
            health = client.health()
            yield Found("health", ok=True, why=f"{record.scheduler_url} answers, version {health.version}")
            names = [tenant.name for tenant in client.tenants()]
            known = record.tenant in names
            yield Found("tenants", known, ", ".join(names) or "none", "" if known else ANEW)
            cells = client.cells()
    except GrafosError as error:
        yield _failed("health", error)
        return
    unmet = [f"{name}: {signal.why}" for cell in cells for name, signal in cell.readiness.items() if not signal.met]
    yield Found("readiness", not unmet, "; ".join(unmet) or "all six signals are met", ANEW if unmet else "")
    if record.ending:
        why = "a dev down was interrupted: no run is admitted"
        yield Found("admission", ok=False, why=why, next="grafos dev up, or grafos dev down")


def _helper(record: LocalFabric, project: Path) -> Found:
    """Asked with its bearer, as a page asks."""
    again = "grafos dev up  (it starts the helper again)"
    if record.helper is None or not record.helper.is_alive:
        return Found("helper", ok=False, why="it does not run; runs go on without it", next=again)
    try:
        bearer = (dev_folder(project) / BEARER_NAME).read_text().strip()
        connection = http.client.HTTPConnection(urlsplit(record.helper_url).netloc, timeout=ANSWER_S_MAX)
        connection.request("GET", "/api/v1/runs", headers={"Authorization": f"Bearer {bearer}"})
        status = connection.getresponse().status
        connection.close()
    except (OSError, http.client.HTTPException) as error:
        return Found("helper", ok=False, why=f"{record.helper_url} does not answer: {error}", next=again)
    if status != http.client.OK:
        return Found("helper", ok=False, why=f"{record.helper_url} answers with {status}", next=again)
    return Found("helper", ok=True, why=f"{record.helper_url} answers")


def _failed(name: str, error: GrafosError) -> Found:
    why = error.why.splitlines()[0] if error.why else error.where
    return Found(name, ok=False, why=f"{error.code}: {error.what}" + (f" ({why})" if why else ""), next=error.next)


def _listener(port: int) -> str:
    """The inode of the socket that listens on this port of IPv4, or nothing."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
            return fields[9]
    return ""


def _owner(inode: str) -> str:
    """Which process has the socket, if we may see that."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if link.readlink().name == f"socket:[{inode}]":
                pid = int(link.parts[2])
                return f"process {pid}, {program_of(pid)}"
        except OSError:
            continue
    return ""


def _when(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
