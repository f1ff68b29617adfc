"""One worker, seen from the pool: a process that is started, asked, not believed without a look, and ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

import msgspec

from grafos_cell import abi
from grafos_cell.hostcalls import CONTROL
from grafos_cell.region_calls import RegionDesk, RegionWish, no_region_desk
from grafos_cell.run import LeaseCall, LeaseDesk, RunOutcome, RunSpec, no_desk
from grafos_cell.service_messages import Serve
from grafos_cell.worker_messages import (
    CODE_FRAME_BYTES_MAX,
    FRAME_BYTES_MAX,
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
    decode_up,
    frame,
    frame_length,
)
from grafos_core.errors import CODES, GrafosError

TEXT_LENGTH_MAX = 4096
"""Characters of an outcome's text; the runtime's are shorter."""
UNSEALED_LENGTH_MAX = 200
"""Characters of why a worker is not closed off; for the log."""
ENDING_S_MAX = 1.0
"""From a worker's pipe breaking to its process being gone."""
OWN_ENDS = frozenset(-number for number in (signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGSEGV))
"""How a compiler ends that cannot go on, mostly because a module makes it need more memory than it may have: the same
module ends the next one alike. Whoever kills it from outside does so otherwise."""
LAST_WORDS_BYTES_MAX = 4096
"""Of a worker's stderr, kept to say why it ended."""


class PoolLimits(NamedTuple):
    """What keeps a pool bounded."""

    queue: int = 256
    """Runs that wait for a worker; one more is refused with ``cell_busy``, so that waiting has an end."""
    start_s: float = 30.0
    """From starting a worker's process to its ``Ready``; a fraction of a second, but machines can be busy."""
    compile_s: float = 60.0
    """From sending a module to its code: checking and compiling it."""
    load_s: float = 30.0
    """From sending a job to its ``Started``: sending and loading compiled code; some milliseconds."""
    grace_s: float = 2.0
    """What a run may take over its deadline, for the interruption to work and the outcome to travel."""


class WorkerLostError(Exception):
    """The worker's process ended, or broke the protocol. ``has_started``: the run's own code may have run."""

    def __init__(self, why: str, *, has_started: bool) -> None:
        super().__init__(why)
        self.has_started = has_started


class CodeRefusedError(Exception):
    """The worker's engine does not take the compiled code that it was given."""


class WorkerProcess:
    """One worker, seen from the pool. ``end`` it in every case; ending twice is harmless."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._process = process
        self._to = process.stdin
        self._from = process.stdout
        self._is_between_runs = True
        self._last_words = b""
        self.unsealed = ""
        """Why the kernel does not close this process off; empty when it does."""
        self._reading = asyncio.Lock()  # a stream has one reader at a time, and closing the pool ends a run under way
        self._listening = asyncio.create_task(self._listen(process.stderr))

    @classmethod
    async def start(cls, command: Sequence[str], start_s: float) -> Self:
        """Starts a process and waits until it is ready. ``WorkerLostError`` or ``OSError`` when that fails."""
        worker = cls(
            await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=environment(),
                cwd="/",
                close_fds=True,
                start_new_session=True,
            )
        )
        try:
            async with asyncio.timeout(start_s):
                message = await worker._receive(has_started=False)
            if not isinstance(message, Ready):
                raise WorkerLostError("its first message was not that it is ready", has_started=False)
            worker.unsealed = message.unsealed[:UNSEALED_LENGTH_MAX]
        except TimeoutError:
            await worker.end()
            raise WorkerLostError(f"it was not ready within {start_s:g} s", has_started=False) from None
        except BaseException:
            await worker.end()
            raise
        return worker

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_usable(self) -> bool:
        """Whether it lives and is not in the middle of something."""
        return self._is_between_runs and self._process.returncode is None and not self._from.at_eof()

    async def run(
        self,
        code: ModuleCode,
        spec: RunSpec,
        limits: PoolLimits,
        desk: LeaseDesk = no_desk,
        regions: RegionDesk = no_region_desk,
    ) -> RunOutcome:
        """One run, whose leases are at ``desk``, and what it attaches to at ``regions``. After anything but an outcome
        of the worker's own the worker is not usable any more."""
        self._is_between_runs = False
        try:
            async with asyncio.timeout(limits.load_s):
                await self._hand_over(code, Job(spec))
        except TimeoutError:
            raise WorkerLostError(f"it did not load the module within {limits.load_s:g} s", has_started=False) from None
        try:
            async with asyncio.timeout(spec.deadline_s + limits.grace_s):
                done = await self._receive(has_started=True)
                while isinstance(done, LeaseCall | RegionWish):
                    answer = desk(done) if isinstance(done, LeaseCall) else await regions(done)
                    await self._send(answer, has_started=True)
                    done = await self._receive(has_started=True)
        except TimeoutError:
            text = f"the tasklet ran longer than its deadline of {spec.deadline_s:g} s, and its worker was ended"
            return RunOutcome("deadline_exceeded", text)
        if not isinstance(done, Done) or not is_sound(done.outcome, spec.fuel):
            raise WorkerLostError("it broke the protocol", has_started=True)
        self._is_between_runs = True
        return done.outcome

    async def compile(self, module: bytes, limits: PoolLimits) -> ModuleCode:
        """The module's code, from a process that did nothing before and does nothing after.

        ``module_invalid`` or ``memory_exceeded`` for a module that may not run, or that its compiler breaks on. A
        process that ends otherwise is a ``WorkerLostError`` with ``has_started`` once it had the module.
        """
        self._is_between_runs = False
        try:
            async with asyncio.timeout(limits.compile_s):
                await self._send(Compile(module), has_started=False)
                answer = await self._receive(has_started=True, bytes_max=CODE_FRAME_BYTES_MAX)
        except TimeoutError:
            what = f"the module was not compiled within {limits.compile_s:g} s"
            raise GrafosError("module_invalid", what) from None
        except WorkerLostError as lost:
            if not lost.has_started or self._process.returncode not in OWN_ENDS:
                raise
            raise GrafosError("module_invalid", f"the compiler broke on the module: {lost}") from None
        if isinstance(answer, Refused) and answer.code in CODES and _is_sound_text(answer.what):
            raise GrafosError(answer.code, answer.what)
        if not isinstance(answer, ModuleCode):
            raise WorkerLostError("it broke the protocol", has_started=True)
        return answer

    async def end(self) -> None:
        """Kills the process, with whatever it started, and waits until it is gone."""
        self._is_between_runs = False
        if self._process.returncode is None or not self._listening.done():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)  # it leads a session of its own
        await self._process.wait()
        self._to.close()
        with contextlib.suppress(OSError):
            await self._to.wait_closed()
        # Both pipes are read to their end: a transport that nobody closed would outlive the loop. Whoever left the
        # session may hold them for ever.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ENDING_S_MAX):
                await self._listening
                async with self._reading:
                    while await self._from.read(LAST_WORDS_BYTES_MAX):
                        pass

    async def _hand_over(self, code: ModuleCode, job: Job | Serve) -> None:
        """Sends the job and, if asked, the code; returns when the run has started."""
        await self._send(job, has_started=False)
        message = await self._receive(has_started=False)
        if isinstance(message, CodeWanted):
            await self._send(code, has_started=False)
            message = await self._receive(has_started=False)
        if isinstance(message, CodeRefused):
            raise CodeRefusedError(message.why[:TEXT_LENGTH_MAX])
        if not isinstance(message, Started):
            raise WorkerLostError("it broke the protocol", has_started=False)

    async def _send(self, message: Down, *, has_started: bool) -> None:
        try:
            self._to.write(frame(message))
            await self._to.drain()
        except OSError as error:
            raise WorkerLostError(await self._why(error), has_started=has_started) from None

    async def _receive(self, *, has_started: bool, bytes_max: int = FRAME_BYTES_MAX) -> Up:
        try:
            async with self._reading:
                length = frame_length(await self._from.readexactly(4), bytes_max)
                body = await self._from.readexactly(length)
            message: Up = decode_up(body)
        except (OSError, asyncio.IncompleteReadError, GrafosError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise WorkerLostError(await self._why(error), has_started=has_started) from None
        return message

    async def _why(self, error: Exception) -> str:
        """How the process ended, if it did, else the error; with its last line on stderr."""
        why = f"{type(error).__name__}: {error}"
        if isinstance(error, OSError | asyncio.IncompleteReadError):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ENDING_S_MAX):
                    code = await self._process.wait()
                    why = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        lines = self._last_words.decode("utf-8", "replace").strip().splitlines()
        words = [line for line in lines if not line.startswith("note: ")]  # of a library: how it could say more
        return f"{why}, {words[-1][:200]!r}" if words else why

    async def _listen(self, stderr: asyncio.StreamReader) -> None:
        while words := await stderr.read(LAST_WORDS_BYTES_MAX):
            self._last_words = (self._last_words + words)[-LAST_WORDS_BYTES_MAX:]


def worker_command() -> Sequence[str]:
    """Starts a worker with this interpreter: no site, no user's folder, not the current folder on its path."""
    return (sys.executable, "-S", "-P", "-s", "-m", "grafos_cell.worker")


def environment() -> dict[str, str]:
    """All that a worker inherits: where the modules are, since ``-S`` finds none, and whose child it is."""
    path = os.pathsep.join(str(Path(place).absolute()) for place in sys.path if place)
    return {"PYTHONPATH": path, PARENT_VARIABLE: str(os.getpid())}


def is_sound(outcome: RunOutcome, fuel_given: int) -> bool:
    """Whether a worker may say this at all: a known end, results within the limits of the ABI, texts without what would
    drive a terminal."""
    return (
        (outcome.is_finished or outcome.code in CODES)
        and len(outcome.response) <= abi.RESPONSE_BYTES_MAX
        and _is_sound_text(outcome.text)
        and len(outcome.output) <= abi.OUTPUT_BYTES_MAX
        and len(outcome.log) <= abi.LOG_BYTES_MAX
        and 0 <= outcome.fuel_used <= fuel_given
        and not CONTROL.search(outcome.log)
    )


def _is_sound_text(text: str) -> bool:
    return len(text) <= TEXT_LENGTH_MAX and not CONTROL.search(text)
