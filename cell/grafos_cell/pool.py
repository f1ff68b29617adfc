"""The cell's workers: one process per core, one run at a time in each, and a typed end for every run.

``WorkerPool.run`` lends a worker to one run. A worker that dies, hangs, or says something that it should not is killed
and another takes its place; a run whose waiting task is cancelled takes its worker with it. Workers are started in the
background and kept. Nothing that a worker says is believed without a look: it may be a guest that broke out.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from grafos_cell import abi
from grafos_cell.run import RunOutcome, RunSpec, aged, check_spec
from grafos_cell.worker_messages import (
    PARENT_VARIABLE,
    Done,
    Down,
    Job,
    ModuleBytes,
    ModuleWanted,
    Ready,
    Started,
    Up,
    decode_up,
    frame,
    frame_length,
)
from grafos_core.errors import CODES, GrafosError

ATTEMPTS_MAX = 2
"""A worker lost before a run started costs nothing but another try; one that always kills workers is ended."""
TEXT_LENGTH_MAX = 4096
"""Characters of an outcome's text; the runtime's are shorter."""
ENDING_S_MAX = 1.0
"""From a worker's pipe breaking to its process being gone."""
LAST_WORDS_BYTES_MAX = 4096
"""Of a worker's stderr, kept to say why it ended."""


class PoolLimits(NamedTuple):
    """What keeps a pool bounded."""

    queue: int = 256
    """Runs that wait for a worker; one more is refused with ``cell_busy``, so that waiting has an end."""
    start_s: float = 30.0
    """From starting a worker's process to its ``Ready``; a fraction of a second, but machines can be busy."""
    compile_s: float = 60.0
    """From sending a job to its ``Started``: sending the module, checking and compiling it."""
    grace_s: float = 2.0
    """What a run may take over its deadline, for the interruption to work and the outcome to travel."""


class WorkerLostError(Exception):
    """The worker's process ended, or broke the protocol. ``has_started``: the run's own code may have run."""

    def __init__(self, why: str, *, has_started: bool) -> None:
        super().__init__(why)
        self.has_started = has_started


class WorkerPool:
    """``await start()`` once, ``await run(...)`` as often as wanted, ``await close()`` in the end; one event loop.

    ``workers``: how many processes, one per core if not said. ``command`` starts one; only a test needs another.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        limits: PoolLimits | None = None,
        command: Sequence[str] | None = None,
    ) -> None:
        self._size = workers or cores()
        self._limits = limits or PoolLimits()
        self._command = command or worker_command()
        self._turns = asyncio.Semaphore(self._size)
        self._idle: list[WorkerProcess] = []
        self._all: set[WorkerProcess] = set()
        self._starting: set[asyncio.Task[None]] = set()
        self._waiting = 0
        self._is_closed = False

    @property
    def size(self) -> int:
        """How many runs go at the same time."""
        return self._size

    @property
    def waiting(self) -> int:
        """How many runs wait for a worker."""
        return self._waiting

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers that are ready or at work."""
        return [worker.pid for worker in self._all]

    async def start(self) -> None:
        """Begins to start all workers and returns at once; a run waits for the one that it gets."""
        for _ in range(self._size):
            self._start_in_background()

    async def run(self, module: bytes, spec: RunSpec) -> RunOutcome:
        """Runs ``spec`` on the next free worker. Every end is an outcome, also ``worker_lost``.

        Raises ``limit_exceeded`` for a spec outside the ABI's limits, ``cell_busy`` when too many runs wait, and
        ``draining`` when the pool is closed. Cancelling ends the run at once, and its worker with it.
        """
        check_spec(spec)
        self._refuse_if_closed()
        handed_in_at = time.monotonic()
        if self._waiting >= self._limits.queue:
            raise GrafosError("cell_busy", f"{self._waiting} runs wait for a worker already", next="try again later")
        self._waiting += 1
        try:
            await self._turns.acquire()
        finally:
            self._waiting -= 1
        try:
            return await self._attempt(module, spec, handed_in_at)
        finally:
            self._turns.release()

    async def close(self) -> None:
        """Ends all workers, also under a run, which then ends as ``worker_lost``; closing twice is harmless."""
        self._is_closed = True
        starting = list(self._starting)
        for task in starting:
            task.cancel()
        await asyncio.gather(*starting, return_exceptions=True)
        await asyncio.gather(*(self._end(worker) for worker in list(self._all)))

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise GrafosError("draining", "the cell starts no more runs")

    async def _attempt(self, module: bytes, spec: RunSpec, handed_in_at: float) -> RunOutcome:
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                worker = await self._take()
            except (WorkerLostError, OSError) as lost:
                return RunOutcome("worker_lost", f"no worker could be started: {lost}")
            try:
                return await worker.run(module, aged(spec, time.monotonic() - handed_in_at), self._limits)
            except WorkerLostError as lost:
                if lost.has_started or attempt == ATTEMPTS_MAX:
                    return RunOutcome("worker_lost", f"the worker ended under the run: {lost}")
            finally:
                await self._give_back(worker)
        raise AssertionError("the last attempt returns")

    async def _take(self) -> WorkerProcess:
        """An idle worker that lives, or the next that gets ready; ``draining`` when the pool is closed meanwhile."""
        started: asyncio.Task[None] | None = None
        while True:
            self._refuse_if_closed()
            while self._idle:
                worker = self._idle.pop()
                if worker.is_usable:
                    return worker
                await self._end(worker)
            if not self._starting:
                if started is not None:
                    started.result()  # what kept a worker from starting that was started for this run
                started = self._start_in_background()
            await asyncio.wait(self._starting, return_when=asyncio.FIRST_COMPLETED)

    async def _give_back(self, worker: WorkerProcess) -> None:
        if worker.is_usable and not self._is_closed:
            self._idle.append(worker)
            return
        await self._end(worker)
        if not self._is_closed:
            self._start_in_background()

    async def _end(self, worker: WorkerProcess) -> None:
        await worker.end()
        self._all.discard(worker)

    def _start_in_background(self) -> asyncio.Task[None]:
        """Begins to start a worker. If that fails it is no news yet: the run that needs one tries again and tells."""
        task = asyncio.create_task(self._start_idle())
        self._starting.add(task)
        task.add_done_callback(self._over)
        return task

    async def _start_idle(self) -> None:
        worker = await WorkerProcess.start(self._command, self._limits.start_s)
        self._all.add(worker)
        self._idle.append(worker)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._starting.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, or asyncio would complain that nobody did


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
        self._reading = asyncio.Lock()  # a stream has one reader at a time, and closing the pool ends a run under way
        self._listening = asyncio.create_task(self._listen(process.stderr))

    @classmethod
    async def start(cls, command: Sequence[str], start_s: float) -> WorkerProcess:
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

    async def run(self, module: bytes, spec: RunSpec, limits: PoolLimits) -> RunOutcome:
        """One run. After anything but an outcome of the worker's own the worker is not usable any more."""
        self._is_between_runs = False
        try:
            async with asyncio.timeout(limits.compile_s):
                done: Up | None = await self._prepare(module, spec)
        except TimeoutError:
            return RunOutcome("module_invalid", f"the module was not compiled within {limits.compile_s:g} s")
        if done is None:
            try:
                async with asyncio.timeout(spec.deadline_s + limits.grace_s):
                    done = await self._receive(has_started=True)
            except TimeoutError:
                text = f"the tasklet ran longer than its deadline of {spec.deadline_s:g} s, and its worker was ended"
                return RunOutcome("deadline_exceeded", text)
        if not isinstance(done, Done) or not _is_sound(done.outcome, spec):
            raise WorkerLostError("it broke the protocol", has_started=True)
        self._is_between_runs = True
        return done.outcome

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

    async def _prepare(self, module: bytes, spec: RunSpec) -> Done | None:
        """Sends the job and, if asked, the module; None once the run has started, its end when it was refused."""
        if len(module) > abi.MODULE_BYTES_MAX:  # not even its frame may have a length without bound
            text = f"the module has {len(module)} bytes, more than {abi.MODULE_BYTES_MAX}"
            return Done(RunOutcome("module_invalid", text))
        await self._send(Job(spec))
        message = await self._receive(has_started=False)
        if isinstance(message, ModuleWanted):
            await self._send(ModuleBytes(module))
            message = await self._receive(has_started=False)
        if isinstance(message, Started):
            return None
        if isinstance(message, Done):
            return message
        raise WorkerLostError("it broke the protocol", has_started=False)

    async def _send(self, message: Down) -> None:
        try:
            self._to.write(frame(message))
            await self._to.drain()
        except OSError as error:
            raise WorkerLostError(await self._why(error), has_started=False) from None

    async def _receive(self, *, has_started: bool) -> Up:
        try:
            async with self._reading:
                body = await self._from.readexactly(frame_length(await self._from.readexactly(4)))
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
        words = self._last_words.decode("utf-8", "replace").strip().splitlines()
        return f"{why}, {words[-1][:200]!r}" if words else why

    async def _listen(self, stderr: asyncio.StreamReader) -> None:
        while words := await stderr.read(LAST_WORDS_BYTES_MAX):
            self._last_words = (self._last_words + words)[-LAST_WORDS_BYTES_MAX:]


def worker_command() -> Sequence[str]:
    """Starts a worker with this interpreter: no site, no user's folder, not the current folder on its path."""
    return (sys.executable, "-S", "-P", "-s", "-m", "grafos_cell.worker")


def cores() -> int:
    """The cores that this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def environment() -> dict[str, str]:
    """All that a worker inherits: where the modules are, since ``-S`` finds none, and whose child it is."""
    path = os.pathsep.join(str(Path(place).absolute()) for place in sys.path if place)
    return {"PYTHONPATH": path, PARENT_VARIABLE: str(os.getpid())}


def _is_sound(outcome: RunOutcome, spec: RunSpec) -> bool:
    """Whether a worker may say this at all: a known end, and results within the limits of the ABI."""
    return (
        (outcome.is_finished or outcome.code in CODES)
        and len(outcome.response) <= abi.RESPONSE_BYTES_MAX
        and len(outcome.text) <= TEXT_LENGTH_MAX
        and len(outcome.output) <= abi.OUTPUT_BYTES_MAX
        and len(outcome.log) <= abi.LOG_BYTES_MAX
        and 0 <= outcome.fuel_used <= spec.fuel
    )
