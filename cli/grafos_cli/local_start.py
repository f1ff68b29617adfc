"""Starts the local fabric's two daemons, and takes possession of their cell.

Both are spawned first; their imports and ours then overlap. The scheduler's port is bound here and handed down, so the
cell's daemon knows it at once.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from grafos_cli.daemons import Daemon, last_words, start_daemon, stop_daemons
from grafos_cli.local_health import DISCARD, damage_of
from grafos_cli.local_state import LocalFabric, dev_folder, forget_local_fabric, write_local_fabric
from grafos_core.errors import GrafosError
from grafos_core.ids import random_text
from grafos_core.paths import data_home, private_folder, write_private

if TYPE_CHECKING:
    from grafos_core.fabric import Fabric

LOOPBACK = "127.0.0.1"
START_S_MAX = 60.0
"""A scheduler answers within half a second; one that hangs is given up, on however slow a machine."""
HEARTBEAT_EVERY_S = "1"
LISTEN_BACKLOG = 512
MODULES = {"scheduler": "grafos_scheduler", "cell": "grafos_cell"}

Announce = Callable[[str], object]


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


def start(project: Path, old: LocalFabric | None, mem_capacity_bytes: int, announce: Announce) -> LocalFabric:
    """A fresh fabric, or ``old`` with its state; the record is on disk when this returns. What was begun is undone when
    it fails: ``runtime_not_ready``, or ``store_invalid`` when the state on disk is damaged."""
    fabric_id = _known_fabric() or open_default_fabric(announce).id
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
            folder=str(dev_folder(project)),
            helper_url=old.helper_url if old else "",
            origins=old.origins if old else [],
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
    listening = listen_on_loopback(int(old.scheduler_url.rpartition(":")[2]) if old else 0)
    cell_id = old.cell_id if old else f"local-{random_text(6, random.SystemRandom())}"
    return _Birth(folder, cell_id, fabric_id, listening, listening.getsockname()[1], secret_file, secret)


def listen_on_loopback(wanted_port: int) -> socket.socket:
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


def open_default_fabric(announce: Announce) -> Fabric:
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
    if damage := damage_of(daemon):
        what = f"The local {daemon.name} cannot read its state"
        return GrafosError(damage.code, what, where=daemon.log, why=damage.why, next=DISCARD)
    said = last_words(daemon)
    return GrafosError(
        "runtime_not_ready",
        f"The local {daemon.name} did not start",
        where=daemon.log,
        why=_last_that_says_something(said) if "Traceback" in said else said,
        next="mend what its log says, then grafos dev up",
    )


def _last_that_says_something(said: str) -> str:
    """Of a traceback the error; one of several errors at once is drawn into a frame."""
    lines = (line.strip(" |+-\t") for line in reversed(said.splitlines()))
    return next((line for line in lines if line), "")


def _take_possession(birth: _Birth, record: LocalFabric, ready_read: int, announce: Announce) -> LocalFabric:
    """The record with the tenant's credentials, once the cell meets all readiness signals."""
    # Imported, and the key read, while the daemons do their own importing.
    from grafos_cli.possession import credential_files, take_possession

    fabric = open_default_fabric(announce)
    _await_scheduler(ready_read, record.daemons[0])

    def check_alive() -> str:
        for daemon in record.daemons:
            if not daemon.is_alive:
                raise _did_not_start(daemon)
        return "\n".join(last_words(daemon) for daemon in record.daemons)

    take_possession(fabric, record, birth.secret, check_alive)
    return msgspec.structs.replace(record, **credential_files(fabric, record))
