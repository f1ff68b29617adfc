"""Emulated clouds as a daemon: ``start``, ``read``, ``stop``, and what they can be asked while they run.

Light: nothing of the emulator itself is imported into the calling process.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from grafos_core.errors import GrafosError
from grafos_core.paths import private_folder
from grafos_core.virtual_machines import check_emulator
from grafos_emulators import state
from grafos_emulators.boot.processes import kill_of_machine
from grafos_emulators.clocks import REAL
from grafos_emulators.clouds import CLOUDS, PROCESSES, QEMU
from grafos_emulators.credentials import DEFAULT_REGION
from grafos_emulators.notes import PRICE_NOTE

START_TIMEOUT_S = 30.0  # half a second on an idle machine
STOP_TIMEOUT_S = 15.0  # machines are killed, not asked; most of it is patience with a busy host
ANSWER_TIMEOUT_S = 5.0
POLL_S = 0.02
MAX_ANSWER_BYTES = 64 << 20  # the journal of a long demo
READY = b"ready"
LOG_TAIL_BYTES = 2000
_NOT_FOR_THE_DAEMON = ("AWS_", "AZURE_", "BOTO_", "CLOUDSDK_", "GOOGLE_", "GRAFOS_AZURE_", "GRAFOS_GCP_", "MOTO_")


@dataclass(frozen=True)
class EmulatorInfo:
    """A running emulator. ``environment`` sends the clouds' SDKs to it; ``price_note`` belongs beside each price."""

    endpoint: str
    pid: int
    account_id: str
    started_at: float
    state_dir: Path
    clouds: tuple[str, ...] = ()
    clock: str = REAL
    boot: str = PROCESSES
    now: float = 0.0
    region: str = DEFAULT_REGION
    price_note: str = PRICE_NOTE
    environment: dict[str, str] = field(default_factory=dict)


def start(state_dir: Path, clock: str = REAL, clouds: tuple[str, ...] = CLOUDS, boot: str = PROCESSES) -> EmulatorInfo:
    """The emulator of this state directory, started if none runs; it answers when this returns. One that runs keeps its
    clock, its clouds and its way to boot.

    Two that start at once get the same one. Errors: ``emulator_not_running`` with what the log says,
    ``emulator_invalid`` for a directory that cannot be used, ``tool_missing`` where no machine could boot that way.
    """
    info = _read_if_up(state_dir)
    if info is not None:
        return info
    if boot == QEMU:
        check_emulator("amd64")
    try:
        said = _spawn(private_folder(state_dir), ("--clock", clock, "--clouds", ",".join(clouds), "--boot", boot))
    except OSError as problem:
        raise GrafosError(
            "emulator_invalid", "the state directory cannot be used", where=str(state_dir), why=str(problem)
        ) from problem
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        info = _read_if_up(state_dir)
        if info is not None:
            return info
        if said != READY and not state.is_locked(state_dir):
            break  # ours did not come up, and no other is on its way
        time.sleep(POLL_S)
    raise GrafosError(
        "emulator_not_running",
        "the emulated cloud did not start",
        where=str(state_dir / state.LOG_NAME),
        why=_log_tail(state_dir),
    )


def read(state_dir: Path) -> EmulatorInfo | None:
    """The running emulator, or None: what a dead one left behind counts for nothing.

    Errors: ``emulator_invalid`` (one runs, and its file cannot be read), ``emulator_not_running`` (it does not answer).
    """
    if not state.is_locked(state_dir):
        return None
    known = state.load(state_dir)
    if known is None or not state.is_alive(known):
        return None  # one is just starting, and has not written its own file yet
    health = _ask(known.endpoint, "health")
    if health.get("pid") != known.pid:
        return None
    return EmulatorInfo(
        endpoint=known.endpoint,
        pid=known.pid,
        account_id=known.account_id,
        started_at=known.started_at,
        state_dir=state_dir,
        clouds=tuple(health["clouds"]),
        clock=str(health["clock"]),
        boot=str(health["boot"]),
        now=float(health["now"]),
        environment=dict(health["environment"]),
    )


def stop(state_dir: Path) -> bool:
    """Ends the emulator and all its machines; False if none ran. When it returns, none of their processes is left."""
    if not state.is_locked(state_dir):
        _clear(state_dir)
        return False
    known = _await_state(state_dir)
    for number in (signal.SIGTERM, signal.SIGKILL):
        _signal(known, number)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while time.monotonic() < deadline:
            if not state.is_locked(state_dir):
                _clear(state_dir)
                return True
            time.sleep(POLL_S)
    raise GrafosError("emulator_invalid", f"the emulator (process {known.pid}) does not end", where=str(state_dir))


def _clear(state_dir: Path) -> None:
    """Removes what an emulator leaves that was killed: its file, and machines that are just noticing its death."""
    state.remove(state_dir)
    kill_of_machine(state_dir.resolve() / state.MACHINES_NAME)


def world(info: EmulatorInfo) -> list[dict[str, Any]]:
    """Everything that somebody made in the emulated account and nobody removed."""
    return list(_ask(info.endpoint, "world"))


def journal(info: EmulatorInfo) -> list[dict[str, Any]]:
    """Every call of the emulated API so far, oldest first."""
    return list(_ask(info.endpoint, "journal"))


def machines(info: EmulatorInfo) -> dict[str, dict[str, str]]:
    """State and address of each machine by its id, those lately gone included."""
    return dict(_ask(info.endpoint, "machines"))


def faults(info: EmulatorInfo) -> list[dict[str, Any]]:
    """The fault rules that can still befall a call."""
    return list(_ask(info.endpoint, "faults"))


def add_fault(info: EmulatorInfo, rule: dict[str, Any]) -> list[dict[str, Any]]:
    """One more rule, as ``faults.FaultRule`` reads it; all that hold then. ``usage`` for one that cannot be read."""
    return list(_ask(info.endpoint, "faults", rule))


def clear_faults(info: EmulatorInfo) -> int:
    """Takes all rules back; how many there were."""
    return int(_ask(info.endpoint, "faults/clear", {})["cleared"])


def advance(info: EmulatorInfo, seconds: float) -> float:
    """Lets time pass in emulated clouds whose clock is stepped; what it shows then. ``usage`` for another clock."""
    return float(_ask(info.endpoint, "clock", {"advance_s": seconds})["now"])


def _read_if_up(state_dir: Path) -> EmulatorInfo | None:
    try:
        return read(state_dir)
    except GrafosError as problem:
        if problem.code == "emulator_not_running":
            return None  # it may still be coming up
        raise


def _spawn(state_dir: Path, flags: tuple[str, ...]) -> bytes:
    """Starts the daemon and waits for its word: ``READY``, or empty if it ended."""
    read_end, write_end = os.pipe()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_FOR_THE_DAEMON)}
    # -P: a file of the caller's folder that happens to be called like a module must not be run as one.
    command = [
        sys.executable,
        "-P",
        "-m",
        "grafos_emulators",
        "serve",
        "--state-dir",
        str(state_dir.absolute()),
        *flags,
    ]
    with _closing(read_end, write_end), (state_dir / state.LOG_NAME).open("ab") as log:
        subprocess.run(
            [*command, "--ready", str(write_end)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            cwd=state_dir,  # the caller's may be unmounted one day
            pass_fds=[write_end],
            start_new_session=True,
            check=False,  # the daemon itself goes on after this returns; the pipe tells how it fares
        )
        os.close(write_end)
        return os.read(read_end, len(READY))


@contextlib.contextmanager
def _closing(*descriptors: int) -> Iterator[None]:
    try:
        yield
    finally:
        for descriptor in descriptors:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _await_state(state_dir: Path) -> state.State:
    """The file of the emulator that holds the lock; one that is just starting gets a moment to write it."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        known = state.load(state_dir)
        if known is not None and state.is_alive(known):
            return known
        time.sleep(POLL_S)
    raise GrafosError("emulator_invalid", "an emulator runs, but has left no state file", where=str(state_dir))


def _signal(known: state.State, number: signal.Signals) -> None:
    """Signals the emulator's process, and surely no other that has its number by now."""
    try:
        process = os.pidfd_open(known.pid)
    except ProcessLookupError:
        return
    try:
        if state.is_alive(known):
            signal.pidfd_send_signal(process, number)
    except ProcessLookupError:
        pass  # it ended meanwhile
    finally:
        os.close(process)


def _ask(endpoint: str, name: str, change: dict[str, Any] | None = None) -> Any:
    host, _, port = endpoint.removeprefix("http://").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=ANSWER_TIMEOUT_S)
    try:
        body = None if change is None else msgspec.json.encode(change)
        connection.request("GET" if change is None else "POST", f"/_grafos/{name}", body)
        answer = connection.getresponse()
        told = answer.read(MAX_ANSWER_BYTES)
        if answer.status == http.client.BAD_REQUEST:
            raise GrafosError("usage", str(msgspec.json.decode(told)["error"]), where=endpoint)
        if answer.status != http.client.OK:
            raise http.client.HTTPException(f"{answer.status}: {told[:LOG_TAIL_BYTES].decode(errors='replace')}")
        return msgspec.json.decode(told)
    except (OSError, http.client.HTTPException, msgspec.DecodeError) as problem:
        raise GrafosError(
            "emulator_not_running", "the emulated cloud does not answer", where=endpoint, why=str(problem)
        ) from problem
    finally:
        connection.close()


def _log_tail(state_dir: Path) -> str:
    try:
        return (state_dir / state.LOG_NAME).read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").strip()
    except FileNotFoundError:
        return ""
