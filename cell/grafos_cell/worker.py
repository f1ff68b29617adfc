"""One worker process: takes runs from its parent on stdin, answers on stdout, one at a time; or compiles one module.

It is started as ``python -m grafos_cell.worker`` by ``pool`` and by nobody else; ``worker_messages`` has their talk.
It inherits no secret, and no file or socket but its three pipes, and it ends when its parent ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import BinaryIO

from grafos_cell import abi
from grafos_cell.run import LeaseAnswer, LeaseCall, RunOutcome, RunSpec, aged
from grafos_cell.runtime import Runtime
from grafos_cell.worker_messages import (
    CODE_FRAME_BYTES_MAX,
    PARENT_VARIABLE,
    CodeRefused,
    CodeWanted,
    Compile,
    Done,
    Down,
    Job,
    ModuleCode,
    Ready,
    Refused,
    Started,
    Up,
    decode_down,
    frame,
    frame_length,
)
from grafos_core.clock import SystemClock
from grafos_core.errors import GrafosError

NICENESS = 5
"""Below the daemon, whose leases and heartbeats must not wait for guests that use every core."""
OOM_SCORE = "1000"
"""When a machine runs out of memory, the kernel ends a worker first, and never the daemon that holds its leases."""
FILES_MAX = 64
"""Open files: the pipes, and what the interpreter needs for an import."""
COMPILE_BYTES_MAX = 2 * 1024**3
"""Of memory while it compiles; large modules take a tenth, and the worst within the time for it about as much."""


class Worker:
    """Answers jobs from ``source`` on ``sink`` until ``source`` ends."""

    def __init__(self, source: BinaryIO, sink: BinaryIO, runtime: Runtime) -> None:
        self._source = source
        self._sink = sink
        self._runtime = runtime

    def serve(self) -> None:
        self._send(Ready(os.getpid()))
        while (message := self._receive()) is not None:
            if isinstance(message, Job):
                self._work(message.spec)
            elif isinstance(message, Compile):
                self._send(self._compile(message.module))

    def _work(self, spec: RunSpec) -> None:
        came_at = time.monotonic()
        module = self._runtime.find(spec.context.module_sha256)
        if module is None:
            self._send(CodeWanted())
            message = self._receive()
            if not isinstance(message, ModuleCode):
                return  # the parent is gone
            try:
                module = self._runtime.adopt(message)
            except GrafosError as error:
                self._send(CodeRefused(error.why))
                return
        self._send(Started())
        try:
            outcome = self._runtime.run(module, aged(spec, time.monotonic() - came_at), self._ask)
        except GrafosError as error:
            outcome = RunOutcome(error.code, error.what)
        self._send(Done(outcome))

    def _ask(self, call: LeaseCall) -> LeaseAnswer:
        """In the middle of a run: the guest waits, and its deadline goes on."""
        self._send(call)
        answer = self._receive()
        return answer if isinstance(answer, LeaseAnswer) else LeaseAnswer(abi.DISCONNECTED)

    def _compile(self, module: bytes) -> ModuleCode | Refused:
        resource.setrlimit(resource.RLIMIT_DATA, (COMPILE_BYTES_MAX, COMPILE_BYTES_MAX))
        try:
            return self._runtime.compile(module)
        except GrafosError as error:
            return Refused(error.code, error.what)

    def _send(self, message: Up) -> None:
        self._sink.write(frame(message))
        self._sink.flush()

    def _receive(self) -> Down | None:
        """The next message, or None when the parent is gone."""
        head = self._source.read(4)
        if len(head) < 4:
            return None
        length = frame_length(head, CODE_FRAME_BYTES_MAX)
        body = self._source.read(length)
        return decode_down(body) if len(body) == length else None


def main() -> int:
    confine()
    source, sink = _take_pipes()
    runtime = Runtime(SystemClock())
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        Worker(source, sink, runtime).serve()
    # Straight out: nothing here needs tidying, and a parent that ended does not wait for it.
    os._exit(0)


def confine() -> None:
    """Takes from this process what a worker does not need. What the platform does not have is left out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the daemon, which then ends its workers
    os.umask(0o077)
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES_MAX, FILES_MAX))
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # where /proc is read-only
            Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)
        set_death_signal, set_no_new_privileges = 1, 38
        libc = ctypes.CDLL(None)
        libc.prctl(set_death_signal, signal.SIGKILL, 0, 0, 0)
        libc.prctl(set_no_new_privileges, 1, 0, 0, 0)
    # The parent may have ended before it could be tied to it: then this process belongs to somebody else by now.
    if os.environ.get(PARENT_VARIABLE) not in {None, str(os.getppid())}:
        os._exit(0)


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Stdin and stdout for the talk alone: whatever prints in this process goes to stderr."""
    source = os.fdopen(os.dup(0), "rb")
    sink = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return source, sink


if __name__ == "__main__":
    sys.exit(main())
