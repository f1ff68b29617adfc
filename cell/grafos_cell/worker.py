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
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import BinaryIO

from grafos_cell import abi
from grafos_cell.confinement import confine, seal
from grafos_cell.hostcalls import HostCalls
from grafos_cell.region_calls import RegionReply, RegionWish
from grafos_cell.run import LeaseAnswer, LeaseCall, RunOutcome, RunSpec, aged
from grafos_cell.runtime import LoadedModule, Runtime
from grafos_cell.service_messages import FromInstance, Listen, Serve, ToInstance
from grafos_cell.svc_calls import ServiceCalls
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
            if isinstance(message, Job | Serve):
                self._work(message)
            elif isinstance(message, Compile):
                self._send(self._compile(message.module))

    def _work(self, job: Job | Serve) -> None:
        came_at = time.monotonic()
        module = self._find_or_ask(job.spec.context.module_sha256)
        if module is None:
            return
        self._send(Started())
        spec = aged(job.spec, time.monotonic() - came_at)
        try:
            if isinstance(job, Serve):
                channel = ServiceChannel(self._send, self._receive)
                outcome = self._runtime.run(module, spec, channel.ask, partial(ServiceCalls, job, channel))
            else:
                host_calls = partial(HostCalls, ask_regions=self._ask_regions)
                outcome = self._runtime.run(module, spec, self._ask, host_calls)
        except GrafosError as error:
            outcome = RunOutcome(error.code, error.what)
        self._send(Done(outcome))

    def _find_or_ask(self, sha256: str) -> LoadedModule | None:
        """The module, compiled; None when it cannot be had, which the parent knows."""
        module = self._runtime.find(sha256)
        if module is not None:
            return module
        self._send(CodeWanted())
        message = self._receive()
        if not isinstance(message, ModuleCode):
            return None  # the parent is gone
        try:
            return self._runtime.adopt(message)
        except GrafosError as error:
            self._send(CodeRefused(error.why))
            return None

    def _ask(self, call: LeaseCall) -> LeaseAnswer:
        """In the middle of a run: the guest waits, and its deadline goes on."""
        self._send(call)
        answer = self._receive()
        return answer if isinstance(answer, LeaseAnswer) else LeaseAnswer(abi.DISCONNECTED)

    def _ask_regions(self, wish: RegionWish) -> RegionReply:
        """The same, of a region that is no lease of the run."""
        self._send(wish)
        reply = self._receive()
        return reply if isinstance(reply, RegionReply) else RegionReply(abi.DISCONNECTED)

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


class ServiceChannel:
    """An instance's way to the daemon: an answer is waited for, and what else comes before it is kept in its order."""

    def __init__(self, send: Callable[[Up], None], receive: Callable[[], Down | None]) -> None:
        self._send = send
        self._receive = receive
        self._kept: deque[ToInstance] = deque()

    def send(self, message: FromInstance) -> None:
        self._send(message)

    def receive(self) -> ToInstance:
        return self._kept.popleft() if self._kept else self._next()

    def listen(self, listen: Listen) -> LeaseAnswer:
        return self.ask(listen)

    def ask(self, question: LeaseCall | Listen) -> LeaseAnswer:
        self._send(question)
        while not isinstance(message := self._any(), LeaseAnswer):
            self._kept.append(message)
        return message

    def _next(self) -> ToInstance:
        message = self._any()
        if isinstance(message, LeaseAnswer):
            raise EOFError("the daemon answers what nobody asked")
        return message

    def _any(self) -> ToInstance | LeaseAnswer:
        message = self._receive()
        if not isinstance(message, ToInstance | LeaseAnswer):
            raise EOFError("the daemon is gone")
        return message


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
