"""Brings the local fabric up and down: a standalone cell on loopback, claimed like any other (see ``local_start``), and
beside it the helper that a browser may ask."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from grafos_cli import local_health
from grafos_cli.daemons import Daemon, daemons_that_name, stop_daemons
from grafos_cli.local_start import MODULES, open_default_fabric, start
from grafos_cli.local_state import (
    STATE_NAME,
    LocalFabric,
    dev_folder,
    forget_local_fabric,
    only_one,
    read_local_fabric,
    write_local_fabric,
    writing,
)
from grafos_cli.run_locally.starting import MODULE as HELPER_MODULE
from grafos_cli.run_locally.starting import forget_bearer, start_helper
from grafos_cli.sizes import size_text
from grafos_core.errors import GrafosError

MEM_CAPACITY_BYTES = 128 * 1024
"""The public design's default pool of leasable memory."""
DISCARDED = "discarded"
"""Below the record's folder: the last state that was given up."""

Announce = Callable[[str], object]


class Up(NamedTuple):
    """``how``: started, resumed (after a crash) or running (it was up already)."""

    record: LocalFabric
    how: str


class Down(NamedTuple):
    """``kept``: not all runs are at home, because the daemons had crashed, bringing them failed, or those in ``left``
    had not ended; the state waits for the next `dev up`. ``set_aside`` and ``discarded`` are where a file and a state
    went that nobody can use."""

    was_up: bool
    runs_brought_home: int
    kept: bool = False
    left: tuple[str, ...] = ()
    set_aside: str = ""
    discarded: str = ""


def bring_up(project: Path, mem_capacity_bytes: int | None, origins: tuple[str, ...], announce: Announce) -> Up:
    """A local fabric that answers: the one that runs, the one that crashed with its state, or a fresh one.

    ``mem_capacity_bytes`` None: the pool as it was, or of the default size. ``origins`` are further web pages that may
    ask the helper. ``dev_running`` when one runs with another pool.
    """
    with writing(project), only_one(project, announce):
        record = _own_record(project, announce)
        if record is not None and record.ready and record.is_alive and not local_health.is_moved(record, project):
            _refuse_another_pool(record, mem_capacity_bytes)
            return Up(start_helper(project, _reopened(project, record, announce), origins), "running")
        # Processes that a `dev up` had no time to record are known by the folder that they work in.
        stop_daemons([*(record.processes if record else ()), *_unrecorded(project)])
        if record is not None and record.ready:
            capacity = record.mem_capacity_bytes if mem_capacity_bytes is None else mem_capacity_bytes
            resumed = _reopened(project, start(project, record, capacity, announce), announce)
            return Up(start_helper(project, resumed, origins), "resumed")
        # What a `dev up` left that was cut short has neither runs nor leases: it begins anew.
        for name in ("trust", "state"):
            shutil.rmtree(dev_folder(project) / name, ignore_errors=True)
        capacity = MEM_CAPACITY_BYTES if mem_capacity_bytes is None else mem_capacity_bytes
        return Up(start_helper(project, start(project, None, capacity, announce), origins), "started")


def _own_record(project: Path, announce: Announce) -> LocalFabric | None:
    """The record, if it is of this very folder: what came here in a copy belongs to the original, and is forgotten."""
    record = read_local_fabric(project)
    if record is None:
        return None
    if local_health.is_copy(record, project):
        announce(f"this project is a copy; the local fabric of {record.folder} stays as it is")
        forget_local_fabric(project)
        return None
    if local_health.is_moved(record, project):
        announce(f"the project was moved from {Path(record.folder).parents[1]}; its local fabric goes on here")
    return record


def _reopened(project: Path, record: LocalFabric, announce: Announce) -> LocalFabric:
    """The same fabric, which admits runs again if a `dev down` was interrupted that had stopped it."""
    if not record.ending:
        return record
    from grafos_cli.possession import reopen

    reopen(open_default_fabric(announce), record)
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


def bring_down(project: Path, patience_s: float, announce: Announce, *, discard: bool = False) -> Down:
    """Ends both daemons and the helper; their runs are brought home first, unless the state is to be discarded. A run
    that does not end within ``patience_s`` keeps the state. The logs stay."""
    with writing(project), only_one(project, announce):
        forget_bearer(project)
        try:
            record = _own_record(project, announce)
        except GrafosError as error:
            if error.code != "dev_state_invalid":
                raise
            ended = _end_unrecorded(project)
            return ended._replace(discarded=_discard(project)) if discard else ended
        if discard:
            return _discarded(project, record)
        if record is None:
            left = _unrecorded(project)
            stop_daemons(left)
            return Down(was_up=bool(left), runs_brought_home=0)
        if record.ready and not record.is_alive:
            stop_daemons([*record.processes, *_unrecorded(project)])
            return Down(was_up=False, runs_brought_home=0, kept=True)
        return _end(project, record, patience_s, announce)


def _end(project: Path, record: LocalFabric, patience_s: float, announce: Announce) -> Down:
    """The good end of one that runs."""
    write_local_fabric(project, msgspec.structs.replace(record, ending=True))
    brought, failed = 0, False
    left: tuple[str, ...] = ()
    if record.ready:
        try:
            brought, left = _bring_home(record, patience_s, announce)
        except GrafosError as error:
            failed, why = True, error.why or error.where
            announce(f"the runs could not be brought home: {error.what}" + (f" ({why})" if why else ""))
    stop_daemons(record.processes)
    if failed or left:
        return Down(was_up=True, runs_brought_home=brought, kept=True, left=left)
    forget_local_fabric(project)
    return Down(was_up=True, runs_brought_home=brought)


def _bring_home(record: LocalFabric, patience_s: float, announce: Announce) -> tuple[int, tuple[str, ...]]:
    """Copies every run into the fabric's archive; how many, and which had not ended: then nothing is final yet."""
    from grafos_cli.possession import bring_home_from, note_gone

    fabric = open_default_fabric(announce)
    brought, left = bring_home_from(fabric, record, patience_s, announce)
    if not left:
        note_gone(fabric, record)
    return brought, left


def _discarded(project: Path, record: LocalFabric | None) -> Down:
    """Ends what runs and gives its state up."""
    running = [*(record.processes if record else ()), *_unrecorded(project)]
    was_up = any(daemon.is_alive for daemon in running)
    stop_daemons(running)
    forget_local_fabric(project)
    return Down(was_up=was_up, runs_brought_home=0, discarded=_discard(project))


def _discard(project: Path) -> str:
    """Moves the state aside, in the place of what was given up before; where it is, or nothing."""
    folder = dev_folder(project)
    aside = folder / DISCARDED
    if not (folder / "state").exists():
        return ""
    shutil.rmtree(aside, ignore_errors=True)
    (folder / "state").rename(aside)
    return str(aside)


def _unrecorded(project: Path) -> list[Daemon]:
    """Our daemons of this project, whatever a record says."""
    return daemons_that_name(str(dev_folder(project) / "state"), (*MODULES.values(), HELPER_MODULE))


def _end_unrecorded(project: Path) -> Down:
    """The record is unreadable: our daemons are known by the state folder that their command lines name."""
    folder, found = dev_folder(project), _unrecorded(project)
    stop_daemons(found)
    aside = folder / f"{STATE_NAME}.unreadable"
    (folder / STATE_NAME).replace(aside)
    return Down(was_up=bool(found), runs_brought_home=0, set_aside=str(aside))
