"""Brings the local fabric up and down: a standalone cell on loopback, claimed like any other.

Both daemons are spawned first; their imports and ours then overlap. The scheduler's port is bound here and handed
down, so the cell's daemon knows it at once.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import select
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from grafos_cli.daemons import Daemon, daemons_that_name, last_words, start_daemon, stop_daemons
from grafos_cli.local_state import (
    STATE_NAME,
    LocalFabric,
    dev_folder,
    forget_local_fabric,
    only_one,
    read_local_fabric,
    write_local_fabric,
)
from grafos_cli.sizes import size_text
from grafos_core.errors import GrafosError
from grafos_core.ids import random_text
from grafos_core.paths import data_home, private_folder, write_private

if TYPE_CHECKING:
    from grafos_core.fabric import Fabric

LOOPBACK = "127.0.0.1"
MEM_CAPACITY_BYTES = 128 * 1024
"""The public design's default pool of leasable memory."""
ASK_EVERY_S = 0.01
START_S_MAX = 60.0
"""A scheduler answers within half a second; one that hangs is given up, on however slow a machine."""
HEARTBEAT_EVERY_S = "1"
LISTEN_BACKLOG = 512
MODULES = {"scheduler": "grafos_scheduler", "cell": "grafos_cell"}

Announce = Callable[[str], object]


class Up(NamedTuple):
    """``how``: started, resumed (after a crash) or running (it was up already)."""

    record: LocalFabric
    how: str


class Down(NamedTuple):
    """``kept``: the runs are not at home, because the daemons had crashed or bringing them failed; the state waits for
    the next `dev up`."""

    was_up: bool
    runs_brought_home: int
    kept: bool = False
    set_aside: str = ""


def bring_up(project: Path, mem_capacity_bytes: int | None, announce: Announce) -> Up:
    """A local fabric that answers: the one that runs, the one that crashed with its state, or a fresh one.

    ``mem_capacity_bytes`` None: the pool as it was, or of the default size. ``dev_running`` when one runs with another.
    """
    with only_one(project):
        record = read_local_fabric(project)
        if record is not None and record.ready and record.is_alive:
            _refuse_another_pool(record, mem_capacity_bytes)
            return Up(_reopened(project, record, announce), "running")
        # Processes that a `dev up` had no time to record are known by the folder that they work in.
        stop_daemons([*(record.daemons if record else ()), *_unrecorded(project)])
        if record is not None and record.ready:
            capacity = record.mem_capacity_bytes if mem_capacity_bytes is None else mem_capacity_bytes
            return Up(_reopened(project, _start(project, record, capacity, announce), announce), "resumed")
        # What a `dev up` left that was cut short has neither runs nor leases: it begins anew.
        for name in ("trust", "state"):
            shutil.rmtree(dev_folder(project) / name, ignore_errors=True)
        capacity = MEM_CAPACITY_BYTES if mem_capacity_bytes is None else mem_capacity_bytes
        return Up(_start(project, None, capacity, announce), "started")


def _reopened(project: Path, record: LocalFabric, announce: Announce) -> LocalFabric:
    """The same fabric, which admits runs again if a `dev down` was interrupted that had stopped it."""
    if not record.ending:
        return record
    from grafos_cli.possession import reopen

    reopen(_open_fabric(announce), record)
    record = msgspec.structs.replace(record, ending=False)
    write_local_fabric(project, record)
    return record


def _refuse_another_pool(record: LocalFabric, asked_bytes: int | None) -> None:
    if asked_bytes not in (None, record.mem_capacity_bytes):
        raise GrafosError(
            "dev_running",
            f"The local fabric runs already, with a pool of {size_text(record.mem_capacity_bytes)}",
            where=record.scheduler_url,
            next="grafos dev down, then grafos dev up with the other size",
        )


def bring_down(project: Path, announce: Announce) -> Down:
    """Ends both daemons; their runs are brought home first. The logs stay."""
    with only_one(project):
        try:
            record = read_local_fabric(project)
        except GrafosError as error:
            if error.code != "dev_state_invalid":
                raise
            return _end_unrecorded(project)
        if record is None:
            left = _unrecorded(project)
            stop_daemons(left)
            return Down(was_up=bool(left), runs_brought_home=0)
        if record.ready and not record.is_alive:
            stop_daemons([*record.daemons, *_unrecorded(project)])
            return Down(was_up=False, runs_brought_home=0, kept=True)
        write_local_fabric(project, msgspec.structs.replace(record, ending=True))
        brought = _bring_home(record, announce) if record.ready else 0
        stop_daemons(record.daemons)
        if brought is None:
            return Down(was_up=True, runs_brought_home=0, kept=True)
        forget_local_fabric(project)
        return Down(was_up=True, runs_brought_home=brought)


def _unrecorded(project: Path) -> list[Daemon]:
    """Our daemons of this project, whatever a record says."""
    return daemons_that_name(str(dev_folder(project) / "state"), tuple(MODULES.values()))


def _end_unrecorded(project: Path) -> Down:
    """The record is unreadable: our daemons are known by the state folder that their command lines name."""
    folder, found = dev_folder(project), _unrecorded(project)
    stop_daemons(found)
    aside = folder / f"{STATE_NAME}.unreadable"
    (folder / STATE_NAME).replace(aside)
    return Down(was_up=bool(found), runs_brought_home=0, set_aside=str(aside))


# --- starting -----------------------------------------------------------------------------------------------------


class _Birth(NamedTuple):
    """What a fresh or resumed start is made of."""

    folder: Path
    cell_id: str
    fabric: str
    listening: socket.socket
    port: int
    secret_file: Path
    secret: bytes

    @property
    def url(self) -> str:
        return f"https://{LOOPBACK}:{self.port}"


def _start(project: Path, old: LocalFabric | None, mem_capacity_bytes: int, announce: Announce) -> LocalFabric:
    fabric_id = _known_fabric() or _open_fabric(announce).id
    birth = _birth(dev_folder(project), old, fabric_id)
    ready_read, ready_write = os.pipe()
    daemons: list[Daemon] = []
    try:
        _spawn(birth, mem_capacity_bytes, ready_write, daemons)
        record = LocalFabric(
            fabric=fabric_id,
            cell_id=birth.cell_id,
            scheduler_url=birth.url,
            mem_capacity_bytes=mem_capacity_bytes,
            started_at=time.time(),
            daemons=daemons,
            ready=old is not None,
            ending=old is not None and old.ending,
        )
        # A crash from here on leaves a record by which the next command finds the processes, and the state of before.
        write_local_fabric(project, record)
        record = _take_possession(birth, record, ready_read, announce)
    except BaseException:
        stop_daemons(daemons)
        if old is None:
            forget_local_fabric(project)
        raise
    record = msgspec.structs.replace(record, ready=True)
    write_local_fabric(project, record)
    return record


def _birth(folder: Path, old: LocalFabric | None, fabric_id: str) -> _Birth:
    secret, secret_file = secrets.token_bytes(32), folder / "claim-secret"
    for name in ("trust", "state"):
        private_folder(folder / name)
    if old is None:
        write_private(secret_file, secret.hex().encode())
    listening = _listen(int(old.scheduler_url.rpartition(":")[2]) if old else 0)
    cell_id = old.cell_id if old else f"local-{random_text(6, random.SystemRandom())}"
    return _Birth(folder, cell_id, fabric_id, listening, listening.getsockname()[1], secret_file, secret)


def _listen(wanted_port: int) -> socket.socket:
    """A listening socket on loopback: on the port of before if that is free, else on any."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((LOOPBACK, wanted_port))
    except OSError:
        listening.bind((LOOPBACK, 0))
    listening.listen(LISTEN_BACKLOG)
    return listening


def _spawn(birth: _Birth, mem_capacity_bytes: int, ready_fd: int, daemons: list[Daemon]) -> None:
    """Starts both and puts each among ``daemons`` at once, so that an interrupt finds what there is to end."""
    state, trust = birth.folder / "state", str(birth.folder / "trust")
    listen_fd = birth.listening.fileno()
    scheduler = ["--mode", "cell", "--auth-mode", "mtls+token", "--bind", birth.url.removeprefix("https://")]
    scheduler += ["--state", str(state / "scheduler"), "--trust", trust, "--fabric", birth.fabric]
    scheduler += ["--cell-id", birth.cell_id, "--provider", "local", "--region", "local"]
    scheduler += ["--claim-secret-file", str(birth.secret_file), "--healthy-after-s", "0"]
    scheduler += ["--heartbeat-every-s", HEARTBEAT_EVERY_S, "--listen-fd", str(listen_fd), "--ready-fd", str(ready_fd)]
    cell = ["control-server", "--scheduler", birth.url, "--trust", trust, "--state", str(state / "cell")]
    cell += ["--mem-capacity", str(mem_capacity_bytes)]
    log = birth.folder
    try:
        passed = (listen_fd, ready_fd)
        daemons.append(start_daemon("scheduler", MODULES["scheduler"], scheduler, log / "scheduler.log", passed))
        daemons.append(start_daemon("cell", MODULES["cell"], cell, log / "cell.log"))
    finally:
        birth.listening.close()
        os.close(ready_fd)


def _known_fabric() -> str:
    """The fabric's id from its public record, without touching its key; empty at first use."""
    try:
        return str(json.loads((data_home() / "default" / "fabric.json").read_bytes())["id"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _open_fabric(announce: Announce) -> Fabric:
    from grafos_core.clock import SystemClock
    from grafos_core.fabric import open_fabric

    return open_fabric(SystemClock(), announce=announce)


# --- possession ---------------------------------------------------------------------------------------------------


def _await_scheduler(ready_read: int, scheduler: Daemon) -> None:
    """Until the scheduler says that it answers; its log tells why when it does not."""
    with os.fdopen(ready_read) as ready:
        can_be_read, _, _ = select.select([ready], [], [], START_S_MAX)
        if not can_be_read or not ready.readline():
            raise _did_not_start(scheduler)


def _did_not_start(daemon: Daemon) -> GrafosError:
    return GrafosError(
        "runtime_not_ready",
        f"The local {daemon.name} did not start",
        where=daemon.log,
        why=last_words(daemon),
        next="mend what its log says, then grafos dev up",
    )


def _take_possession(birth: _Birth, record: LocalFabric, ready_read: int, announce: Announce) -> LocalFabric:
    """The record with the tenant's credentials, once the cell meets all readiness signals."""
    # Imported, and the key read, while the daemons do their own importing.
    from grafos_cli.possession import credential_files, take_possession

    fabric = _open_fabric(announce)
    _await_scheduler(ready_read, record.daemons[0])

    def check_alive() -> str:
        for daemon in record.daemons:
            if not daemon.is_alive:
                raise _did_not_start(daemon)
        return "\n".join(last_words(daemon) for daemon in record.daemons)

    take_possession(fabric, record, birth.secret, check_alive)
    return msgspec.structs.replace(record, **credential_files(fabric, record))


# --- ending -------------------------------------------------------------------------------------------------------


def _bring_home(record: LocalFabric, announce: Announce) -> int | None:
    """Copies every run that ended into the fabric's archive; how many, or None when that failed: then the state is
    kept, for it is all that there is of them."""
    from grafos_cli.possession import bring_home_from, note_gone

    fabric = _open_fabric(announce)
    try:
        brought = bring_home_from(fabric, record)
    except GrafosError as error:
        why = error.why or error.where
        announce(f"the runs could not be brought home: {error.what}" + (f" ({why})" if why else ""))
        return None
    note_gone(fabric, record)
    return brought
