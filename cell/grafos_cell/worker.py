"""One worker process: takes runs from its parent on stdin, answers on stdout, one at a time; or compiles one module.

It is started as ``python -m grafos_cell.worker`` by ``pool`` and by nobody else; ``worker_messages`` has their talk.
It inherits no secret, and no file or socket but its three pipes, and it ends when its parent ends. Before it hears of
any module it closes itself off (``confinement``).
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import time
from typing import BinaryIO

from grafos_cell import abi
from grafos_cell.confinement import confine, seal
from grafos_cell.run import LeaseAnswer, LeaseCall, RunOutcome, RunSpec, aged
from grafos_cell.runtime import Runtime
from grafos_cell.worker_messages import (
    CODE_FRAME_BYTES_MAX,
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
from grafos_core.ids import sha256_of

COMPILE_BYTES_MAX = 2 * 1024**3
"""Of memory while it compiles; large modules take a tenth, and the worst within the time for it about as much."""
_SMALLEST = bytes.fromhex(
    "0061736d01000000010f0360027f7f0060027f7f017f6000000304030001020503010001075204145f677261666f735f7461"
    "736b6c65745f696e69740000135f677261666f735f7461736b6c65745f72756e0001185f677261666f735f7461736b6c6574"
    "5f66696e616c697a650002066d656d6f727902000a0c0302000b040041000b02000b"
)
"""A module of the profile whose hooks do nothing."""


class Worker:
    """Answers jobs from ``source`` on ``sink`` until ``source`` ends."""

    def __init__(self, source: BinaryIO, sink: BinaryIO, runtime: Runtime, unsealed: str = "") -> None:
        self._source = source
        self._sink = sink
        self._runtime = runtime
        self._unsealed = unsealed

    def serve(self) -> None:
        self._send(Ready(os.getpid(), self._unsealed))
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
    warm_up(runtime)
    unsealed = seal()
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        Worker(source, sink, runtime, unsealed).serve()
    # Straight out: nothing here needs tidying, and a parent that ended does not wait for it.
    os._exit(0)


def warm_up(runtime: Runtime) -> None:
    """Runs a program of ours once: what is opened, loaded or started at first use is, before that is over."""
    context = abi.RunContext("", "", "", "", "", sha256_of(_SMALLEST))
    assert runtime.run(runtime.load(_SMALLEST), RunSpec(context)).is_finished


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
