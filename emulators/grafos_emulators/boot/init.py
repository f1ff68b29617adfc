"""The first process of an emulated machine: runs its user data, its services and its timers, and takes it down.

The emulator starts it with a pipe as standard input. When that pipe breaks, because the machine is halted or because
the emulator died however suddenly, ``init`` kills everything that the machine ever started and ends. When the machine
switches itself off (``shutdown``, ``poweroff``, a timer), it kills everything too, then writes ``off`` to standard
output before it ends: so whoever reads ``off`` knows that nothing is left. Linux, standard library only.
"""

from __future__ import annotations

import json
import os
import secrets
import selectors
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from grafos_emulators.boot import orders
from grafos_emulators.boot.confinement import confine
from grafos_emulators.boot.console import Console
from grafos_emulators.boot.processes import adopt_orphans, die_with_parent, give_up_privileges, kill_descendants
from grafos_emulators.boot.units import Due, Units

OFF = b"off\n"
MAX_ORDER_BYTES = 65536  # a command line of systemd-run with its environment
ORDER_TIMEOUT_S = 5.0
LONGEST_WAIT_S = 60.0
_CONTROL_FD, _STATUS_FD = 0, 1


class Init:
    """``root`` is the machine's directory, laid out by ``machine_files``."""

    def __init__(self, root: Path, console_path: Path, environment: dict[str, str]) -> None:
        self._root = root
        self._environment = environment
        self._console = Console(console_path)
        self._units = Units(spawn=self._spawn, say=self._console.say)
        self._power_off: Due | None = None
        self._halted = False
        self._selector = selectors.DefaultSelector()

    def run(self) -> int:
        """Boots, and lives until the machine is halted or switches itself off."""
        if not confine(self._root):
            self._console.say("this kernel has no Landlock: the machine's programs are not kept from the host's")
        self._selector.register(_CONTROL_FD, selectors.EVENT_READ, self._hear_control)
        self._selector.register(self._console.read_end, selectors.EVENT_READ, self._console.relay)
        wakeups = _wakeups()
        self._selector.register(wakeups, selectors.EVENT_READ, lambda: os.read(wakeups, 4096))
        listener = self._listen()
        self._selector.register(listener, selectors.EVENT_READ, lambda: self._obey(listener))
        self._boot()
        while not self._halted and not (self._power_off and self._power_off.is_now()):
            for key, _ in self._selector.select(self._wait_s()):
                key.data()
            for pid, status in _reaped():
                self._units.ended(pid, status)
            self._units.run_due()
        return self._go_down()

    def _boot(self) -> None:
        self._console.say(f"emulated machine {self._root.name} boots, python {sys.version.split()[0]}")
        script = self._root / "var/lib/cloud/scripts/part-001"
        if not script.exists():
            return
        if script.read_bytes()[:2] != b"#!":
            self._console.say("user data is not a script: nothing is run (an emulated machine knows no cloud-config)")
            return
        self._units.start(orders.RunService("user-data", (str(script),)))

    def _go_down(self) -> int:
        if not self._halted:
            self._console.say("machine powers off")
        clean = kill_descendants()
        self._console.drain()
        if not self._halted and clean:
            try:
                os.write(_STATUS_FD, OFF)
            except BrokenPipeError:
                pass  # the emulator died in the same moment; there is nobody to tell
        return 0 if clean else 1

    def _hear_control(self) -> None:
        self._halted = os.read(_CONTROL_FD, 1) == b""

    def _wait_s(self) -> float:
        dues = [*self._units.dues(), *([self._power_off] if self._power_off else [])]
        return max(min([LONGEST_WAIT_S, *(due.wait_s() for due in dues)]), 0.0)

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        directory = os.open(self._root / "run", os.O_RDONLY | os.O_DIRECTORY)
        (self._root / "run/init.sock").unlink(missing_ok=True)
        listener.bind(f"/proc/self/fd/{directory}/init.sock")  # a socket's path may have 107 bytes only
        os.close(directory)
        listener.listen(16)
        return listener

    def _obey(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(ORDER_TIMEOUT_S)
            try:
                asked = json.loads(_read_line(connection))
                status, text = self._carry_out(asked["tool"], asked["arguments"])
                connection.sendall(json.dumps({"status": status, "text": text}).encode() + b"\n")
            except (OSError, ValueError, KeyError, TypeError):
                pass  # a command that was killed, or something else than our tools: nothing was ordered

    def _carry_out(self, tool: str, arguments: list[str]) -> tuple[int, str]:
        order = orders.parse(tool, arguments, now=time.time(), fresh_name=f"run-{secrets.token_hex(4)}")
        if isinstance(order, orders.Refused):
            return 1, order.text
        if isinstance(order, orders.PowerOff):
            self._power_off = _due(order.when)
            return 0, "" if order.when == orders.When() else "the machine will power off as ordered"
        if isinstance(order, orders.CancelPowerOff):
            self._power_off = None
        elif isinstance(order, orders.StopUnits):
            self._units.stop(order.names)
        elif isinstance(order, orders.AskActive):
            states = [self._units.state(name) for name in order.names]
            return (0 if "active" in states else 3), "\n".join(states)
        elif isinstance(order, orders.RunService):
            return self._run_service(order)
        return 0, ""

    def _run_service(self, order: orders.RunService) -> tuple[int, str]:
        if self._units.state(order.name) == "active":
            return 1, f"unit {order.name} is there already"
        if self._resolve(order.command[0]) is None:
            return 1, f"no such program on this machine: {order.command[0]}"
        if order.timer is not None:
            self._units.start_later(order, _due(order.timer))
            return 0, f"running timer as unit: {order.name}.timer"
        if not self._units.start(order):
            return 1, f"unit {order.name} does not start, the console says why"
        return 0, f"running as unit: {order.name}.service"

    def _resolve(self, program: str) -> str | None:
        """The file of ``program``, where a path into the host's system means the machine's own commands."""
        own = self._root / "usr/bin" / Path(program).name
        in_system = Path(program).parent in {Path(place) for place in ("/bin", "/sbin", "/usr/bin", "/usr/sbin")}
        if "/" not in program or (in_system and own.exists()):
            return str(own) if own.exists() else None
        if in_system and Path(program).name in {"reboot", "halt", "init", "telinit", "loginctl", "kexec"}:
            return None
        return program if Path(program).exists() else None

    def _spawn(self, order: orders.RunService) -> int | None:
        program = self._resolve(order.command[0])
        try:
            child = subprocess.Popen(
                [order.command[0], *order.command[1:]],
                executable=program,
                env={**self._environment, **order.environment},
                cwd=order.directory or self._root,
                stdin=subprocess.DEVNULL,
                stdout=self._console.write_end,
                stderr=self._console.write_end,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509  this process has one thread only
            )
        except OSError as problem:
            self._console.say(f"{order.name} does not start: {problem}")
            return None
        child.returncode = 0  # reaped below with all others; subprocess must not do it
        return child.pid


def _due(when: orders.When) -> Due:
    return Due(unix_time=when.at) if when.at is not None else Due(monotonic=time.monotonic() + when.after_s)


def _read_line(connection: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n") and len(line) < MAX_ORDER_BYTES:
        part = connection.recv(MAX_ORDER_BYTES)
        if not part:
            break
        line += part
    return line


def _wakeups() -> int:
    """A descriptor that becomes readable when a child ended."""
    read_end, write_end = os.pipe()
    for end in (read_end, write_end):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return read_end


def _reaped() -> list[tuple[int, int]]:
    ended: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended.append((pid, os.waitstatus_to_exitcode(status)))


def main(arguments: list[str]) -> int:
    """``init ROOT CONSOLE``: see the module's text."""
    root, console_path = Path(arguments[0]), Path(arguments[1])
    environment: dict[str, Any] = json.loads((root / "run/environment.json").read_text())
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Only the pipe ends a machine. A handler, because what is ignored would be ignored by every child too.
        signal.signal(number, lambda *_: None)
    adopt_orphans()
    give_up_privileges()
    return Init(root, console_path, environment).run()
