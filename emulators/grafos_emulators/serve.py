"""The daemon's own process: emulated clouds that run until they are told to stop."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

from grafos_emulators import state
from grafos_emulators.clocks import REAL, clock_of
from grafos_emulators.clouds import CLOUDS, PROCESSES, QEMU
from grafos_emulators.daemon import READY
from grafos_emulators.emulator import EmulatedClouds, Settings


def serve(
    state_dir: Path, ready: int | None, clock: str = REAL, clouds: tuple[str, ...] = CLOUDS, boot: str = PROCESSES
) -> None:
    """Serves until SIGTERM, SIGINT or SIGHUP. ``ready`` is a pipe that hears when the emulator answers."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    settings = Settings(clouds=clouds, boots_disks=boot == QEMU)
    with contextlib.closing(EmulatedClouds(state_dir, settings, clock=clock_of(clock))) as emulator:
        emulator.listen()
        state.write(
            state_dir,
            state.State(
                pid=os.getpid(),
                started_ticks=state.started_ticks(os.getpid()) or 0,
                endpoint=emulator.endpoint,
                account_id=emulator.account_id,
                started_at=time.time(),
            ),
        )
        if ready is not None:
            _tell(ready)
        if "aws" in clouds:
            emulator.load("aws")
        stop.wait()
        state.remove(state_dir)


def detach() -> None:
    """Goes on as a process of its own, whose end nobody has to wait for: the caller's child ends here."""
    if os.fork() != 0:
        os._exit(0)


def _tell(ready: int) -> None:
    try:
        os.write(ready, READY)
    except BrokenPipeError:
        pass  # whoever started us is gone; that is no reason not to serve
    os.close(ready)
