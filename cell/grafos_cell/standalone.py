"""A standalone cell's supervisor: keeps a scheduler and a cell daemon alive on one machine, and ends it in time.

The bootstrap of a cloud machine becomes this program once it has unpacked the cell's software:

    python3 -I -S -c "import sys; sys.path.insert(0, SITE); from grafos_cell.standalone import main; main()" FLAGS

It makes no decision about leases or runs. It starts both programs, starts one again when it ended (after a pause that
doubles while it keeps ending), and when the machine's time is over it kills both and switches the machine off, over
and over until that works. Whatever kills the supervisor kills its children too. On a baked machine it has no right to
switch anything off: that is done by the machine's timer, and it ends its programs alone.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from grafos_cell import service
from grafos_cell.ending import Ending, asking
from grafos_core.machine_files import END_FILE, END_WANTED_FILE
from grafos_core.program import say

PAUSE_S_FIRST, PAUSE_S_MOST = 0.1, 10.0
"""Before a program that ended is started again."""
STEADY_S = 30.0
"""A program that ran for so long begins with the first pause again."""
STOP_S_MAX = 5.0
"""What the programs get to end in good order; then they are killed."""
SWITCH_OFF_EVERY_S = 10.0
LONGEST_WAIT_S = 1.0
"""The wall clock may be set, so the expiry is not waited for in one go."""
HEALTHY_AFTER_S, HEARTBEAT_EVERY_S = 1.0, 0.25
"""Scheduler and cell share a machine: a second of steady heartbeats tells as much as thirty over a network."""
SWITCH_OFF = ("shutdown", "-P", "now")
_PR_SET_PDEATHSIG = 1
RUN_ISOLATED = (
    "import os, runpy, sys; sys.path[:0] = sys.argv[1].split(os.pathsep); "
    "sys.argv[:] = sys.argv[2:]; runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
)


@dataclass
class Program:
    """One program that is to run all the time."""

    name: str
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    began_at: float = 0.0
    start_at: float = 0.0
    pause_s: float = PAUSE_S_FIRST


@dataclass
class Supervisor:
    """Runs ``programs`` until it is told to stop or ``expires_at`` (Unix seconds, 0 = never) is over.

    ``ending`` lets the operator move that end; without it nobody does. Without a command to ``switch_off`` the machine
    is left to its timer. The service manager, if there is one, hears at each round that we are there.
    """

    programs: Sequence[Program]
    expires_at: float
    switch_off: Sequence[str] = SWITCH_OFF
    say: Callable[[str], object] = say
    stopping: bool = False
    ending: Ending | None = None

    def run(self) -> None:
        """Returns after SIGTERM or SIGINT; at expiry only if the machine cannot be switched off and is told to stop."""
        with _wakeups(self._stop) as wakeup:
            if self.ending is not None:
                self.ending.begin()
            service.notify("READY=1")
            while not self.stopping and not self._is_over():
                self._start_due()
                self._wait(wakeup)
                self._reap()
                self._beat()
            self._end_all(at_once=not self.stopping)
            while not self.stopping:
                self._switch_off()
                select.select([wakeup], [], [], SWITCH_OFF_EVERY_S)
                self._beat()

    def _beat(self) -> None:
        service.notify("WATCHDOG=1")

    def _stop(self) -> None:
        self.stopping = True

    def _is_over(self) -> bool:
        if self.ending is not None:
            self.ending.follow()
            self.expires_at = self.ending.at
        return bool(self.expires_at) and time.time() >= self.expires_at

    def _start_due(self) -> None:
        now = time.monotonic()
        for program in self.programs:
            if program.process is None and now >= program.start_at:
                program.began_at = now
                try:
                    program.process = subprocess.Popen(
                        program.command,
                        stdin=subprocess.DEVNULL,
                        env={name: value for name, value in os.environ.items() if name not in service.OF_THE_MANAGER},
                        preexec_fn=_die_with_parent,  # noqa: PLW1509  this process has one thread only
                    )
                except (OSError, subprocess.SubprocessError) as error:
                    # No memory or no process left, for now; whoever is to switch the machine off must live on.
                    self._again_later(program, now, f"does not start ({error})")

    def _wait(self, wakeup: int) -> None:
        """Until a program ended, a signal came, or there is something to start."""
        now = time.monotonic()
        waits = [program.start_at - now for program in self.programs if program.process is None]
        if self.expires_at:
            waits.append(self.expires_at - time.time())
        running = [os.pidfd_open(program.process.pid) for program in self.programs if program.process is not None]
        try:
            select.select([wakeup, *running], [], [], max(0.0, min([LONGEST_WAIT_S, *waits])))
        finally:
            for handle in running:
                os.close(handle)
        with contextlib.suppress(BlockingIOError):
            os.read(wakeup, 4096)

    def _reap(self) -> None:
        now = time.monotonic()
        for program in self.programs:
            if program.process is None or program.process.poll() is None:
                continue
            if now - program.began_at >= STEADY_S:
                program.pause_s = PAUSE_S_FIRST
            self._again_later(program, now, f"ended with {program.process.returncode}")

    def _again_later(self, program: Program, now: float, why: str) -> None:
        self.say(f"{program.name} {why}; again in {program.pause_s:g} s")
        program.process = None
        program.start_at = now + program.pause_s
        program.pause_s = min(2 * program.pause_s, PAUSE_S_MOST)

    def _end_all(self, *, at_once: bool) -> None:
        """At expiry nothing may go on for a moment longer; on SIGTERM the programs end in good order."""
        alive = [program.process for program in self.programs if program.process is not None]
        for process in alive:
            process.send_signal(signal.SIGKILL if at_once else signal.SIGTERM)
        until = time.monotonic() + STOP_S_MAX
        for process in alive:
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _switch_off(self) -> None:
        if not self.switch_off:
            return
        self.say("the cell's time is over: switching the machine off")
        try:
            subprocess.run(self.switch_off, stdin=subprocess.DEVNULL, check=True, timeout=SWITCH_OFF_EVERY_S)
        except (OSError, subprocess.SubprocessError) as error:
            self.say(f"it does not switch off: {error}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 after SIGTERM or SIGINT."""
    given = _parser().parse_args(arguments)
    Supervisor(programs_of(given), given.expires_at, switch_off_of(given), ending=ending_of(given)).run()
    return 0


def ending_of(given: argparse.Namespace) -> Ending | None:
    """How the machine's end is moved: by the supervisor itself, or by whom it asks."""
    if not given.expires_at:
        return None
    move = asking(given.end_asked, given.end_told) if given.end_asked else None
    return Ending(given.state, given.expires_at, max(given.expires_at, given.ends_at_most), say, move=move)


def switch_off_of(given: argparse.Namespace) -> Sequence[str]:
    """The command that switches the machine off; none where the supervisor has no right to."""
    return () if given.end_asked else SWITCH_OFF


def programs_of(given: argparse.Namespace) -> list[Program]:
    """The two programs with their command lines."""
    state: Path = given.state
    trust = state / "trust"
    scheduler = ["--mode", "cell", "--auth-mode", "mtls+token", "--bind", given.bind, "--trust", str(trust)]
    scheduler += ["--state", str(state / "scheduler"), "--fabric", given.fabric, "--cell-id", given.cell_id]
    scheduler += ["--provider", given.provider, "--region", given.region]
    scheduler += ["--claim-secret-file", str(given.claim_secret_file)]
    scheduler += ["--healthy-after-s", f"{HEALTHY_AFTER_S:g}", "--heartbeat-every-s", f"{HEARTBEAT_EVERY_S:g}"]
    scheduler += ["--end-wanted-file", str(state / END_WANTED_FILE), "--end-file", str(state / END_FILE)]
    for name in given.name:
        scheduler += ["--name", name]
    cell = ["control-server", "--scheduler", f"https://{given.bind}", "--trust", str(trust)]
    cell += ["--state", str(state / "cell"), "--mem-capacity", str(given.mem_capacity)]
    cell += ["--expires-at", f"{given.expires_at:.0f}", "--on-expiry", " ".join(switch_off_of(given))]
    cell += ["--end-file", str(state / END_FILE)]
    return [
        Program("scheduler", _command("grafos_scheduler", scheduler)),
        Program("cell daemon", _command("grafos_cell", cell)),
    ]


def _command(module: str, arguments: list[str]) -> list[str]:
    """A program of ours in a fresh, isolated interpreter that finds what this one finds."""
    return [sys.executable, "-I", "-S", "-c", RUN_ISOLATED, os.pathsep.join(sys.path), module, *arguments]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="grafos-standalone", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--state", required=True, type=Path, metavar="DIR")
    add("--bind", required=True, metavar="ADDR:PORT")
    add("--name", action="append", default=[], metavar="IP", help="a further address that clients dial; repeatable")
    add("--fabric", required=True, metavar="ID")
    add("--cell-id", required=True, metavar="ID")
    add("--provider", required=True, metavar="NAME")
    add("--region", required=True, metavar="NAME")
    add("--claim-secret-file", required=True, type=Path, metavar="FILE")
    add("--mem-capacity", required=True, metavar="SIZE")
    add("--expires-at", type=float, default=0.0, metavar="UNIX")
    add(
        "--ends-at-most", type=float, default=0.0, metavar="UNIX", help="the latest end that is taken from the operator"
    )
    add_asking(parser)
    return parser


def add_asking(parser: argparse.ArgumentParser) -> None:
    """The flags of a supervisor that cannot move the machine's timer itself."""
    parser.add_argument(
        "--end-asked", type=Path, metavar="FILE", help="where to ask for another end; on a baked machine"
    )
    parser.add_argument("--end-told", type=Path, metavar="FILE", help="where it is told when the machine ends")


@contextlib.contextmanager
def _wakeups(stop: Callable[[], object]) -> Iterator[int]:
    """A descriptor that becomes readable when a signal came; ``stop`` is called for SIGTERM and SIGINT."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = {number: signal.signal(number, lambda *_: stop()) for number in (signal.SIGTERM, signal.SIGINT)}
    old = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(old)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)


def _die_with_parent() -> None:
    """For a child just forked: the kernel kills it when its parent ends."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main())
