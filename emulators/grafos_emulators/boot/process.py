"""The boot driver: each machine is a tree of local processes under an ``init`` of its own, which runs its user data.

If it ``boots_disks``, a machine that was made from a published image is a virtual one instead (``virtual``), and its
first process a ``keeper``; beyond that there is no difference.

A machine dies with its emulator: ``init`` holds one end of a pipe and kills everything when the other end closes.
Should ``init`` itself be killed, what it leaves is found by its home directory and killed too, at the latest when the
next emulator starts on the same state directory.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

from grafos_core.clock import Clock
from grafos_emulators.boot import virtual
from grafos_emulators.boot.console import newest
from grafos_emulators.boot.driver import Handle, MachineSetup, WentOff
from grafos_emulators.boot.init import OFF
from grafos_emulators.boot.machine_files import lay_out
from grafos_emulators.boot.processes import kill_of_machine
from grafos_emulators.state import CONSOLES_NAME, MACHINES_NAME

CONSOLE_BYTES = 65536  # what EC2 keeps of a console
HALT_PATIENCE_S = 5.0  # after this, ``init`` itself is killed
CLOSE_POLL_S = 0.005
START = (  # isolated, and without the packages of the environment: a machine must not depend on them
    "import sys; sys.path.insert(0, {!r}); from importlib import import_module; "
    "sys.exit(import_module({!r}).main(sys.argv[1:]))"
)


class _Booted:
    """A machine's ``init``, and the thread that hears how it ends."""

    def __init__(self, root: Path, process: subprocess.Popen[bytes], went_off: WentOff) -> None:
        self.machine_id = root.name
        self.halted_at: float | None = None
        self.gone = threading.Event()
        self._root = root
        self._process = process
        self._went_off = went_off
        self._lock = threading.Lock()
        threading.Thread(target=self._hear, name=f"machine-{root.name}", daemon=True).start()

    def halt(self, now: float) -> None:
        with self._lock:
            if self.halted_at is None and self._process.stdin is not None:
                self.halted_at = now
                self._process.stdin.close()

    def kill(self) -> None:
        """Kills ``init`` itself; ``_hear`` then kills what it leaves."""
        with self._lock:
            if not self.gone.is_set():
                self._process.kill()

    def _hear(self) -> None:
        assert self._process.stdout is not None, "init is started with both pipes"
        said = self._process.stdout.read()
        self._process.stdout.close()
        clean = self._process.wait() == 0
        if not clean:
            kill_of_machine(self._root)
        with self._lock:
            halted = self.halted_at is not None
            if self._process.stdin is not None:
                self._process.stdin.close()
            self.gone.set()
        if not halted:
            self._went_off(crashed=said != OFF)


class ProcessDriver:
    """Boots machines under ``state_dir``: files in ``machines/``, consoles in ``consoles/``, emptied at the start."""

    def __init__(self, state_dir: Path, clock: Clock, *, boots_disks: bool = False) -> None:
        self._boots_disks = boots_disks
        self._machines = state_dir.resolve() / MACHINES_NAME
        self._consoles = state_dir.resolve() / CONSOLES_NAME
        self._clock = clock
        self._booted: dict[str, _Booted] = {}
        kill_of_machine(self._machines)
        for directory in (self._machines, self._consoles):
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True, mode=0o700)

    def start(self, setup: MachineSetup, went_off: WentOff) -> Handle | None:
        root = self._machines / setup.machine_id
        if self._boots_disks and setup.disk is not None:
            virtual.lay_out(root, setup)
            process = self._begin("grafos_emulators.boot.keeper", root, setup.disk.content.fileno())
        elif setup.runs_user_data or setup.runs_image:
            lay_out(root, setup)
            process = self._begin("grafos_emulators.boot.init", root)
        else:
            return None
        booted = _Booted(root, process, went_off)
        self._booted[setup.machine_id] = booted
        return booted

    def _begin(self, first: str, root: Path, *files: int) -> subprocess.Popen[bytes]:
        """A machine's first process, with these open files."""
        console = self._console_path(root.name)
        words = [str(root), str(console), *(str(file) for file in files)]
        with console.open("ab") as errors:
            return subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", START.format(package_root(), first), *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={},
                cwd=root,
                pass_fds=files,
                start_new_session=True,
            )

    def halt(self, handle: Handle) -> None:
        self._booted[handle.machine_id].halt(self._clock.monotonic())

    def ended(self, handle: Handle) -> bool:
        booted = self._booted[handle.machine_id]
        if booted.gone.is_set():
            return True
        if booted.halted_at is not None and self._clock.monotonic() - booted.halted_at > HALT_PATIENCE_S:
            booted.kill()
        return False

    def console(self, machine_id: str) -> bytes:
        return newest(self._console_path(machine_id), CONSOLE_BYTES)

    def discard(self, machine_id: str) -> None:
        self._booted.pop(machine_id, None)
        shutil.rmtree(self._machines / machine_id, ignore_errors=True)

    def close(self) -> None:
        booted = list(self._booted.values())
        for machine in booted:
            machine.halt(self._clock.monotonic())
        deadline = time.monotonic() + HALT_PATIENCE_S
        for machine in booted:
            if not machine.gone.wait(max(deadline - time.monotonic(), CLOSE_POLL_S)):
                machine.kill()
                machine.gone.wait(HALT_PATIENCE_S)
            self.discard(machine.machine_id)
        kill_of_machine(self._machines)

    def _console_path(self, machine_id: str) -> Path:
        return self._consoles / f"{machine_id}.log"


def package_root() -> str:
    """Where ``init`` finds this package, whichever way it was installed."""
    return str(Path(__file__).resolve().parent.parent.parent)
