"""From a module to its compiled code: kept, or compiled by a process that never ran a guest and ends after it.

A worker may be a guest that broke out, so what a worker would compile is not code that another tenant's run may load.
Each module is compiled before its run takes a worker: what takes long to compile holds up nobody whose code is there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Sequence

from grafos_cell import abi
from grafos_cell.code_cache import CodeCache
from grafos_cell.module import ModuleFacts
from grafos_cell.worker_messages import ModuleCode
from grafos_cell.worker_process import PoolLimits, WorkerLostError, WorkerProcess
from grafos_core.errors import GrafosError
from grafos_core.ids import sha256_of

KEPT_BYTES_MAX = 64 * 1024 * 1024
"""Of compiled code in the daemon's memory; what is let go of is in the cache."""


class Compilers:
    """At most ``size`` modules are compiled at a time, each by a process of its own; one such process is kept ready."""

    def __init__(self, size: int, command: Sequence[str], limits: PoolLimits, cache: CodeCache | None) -> None:
        self._command = command
        self._limits = limits
        self._cache = cache
        self._turns = asyncio.Semaphore(size)
        self._kept: OrderedDict[str, ModuleCode] = OrderedDict()
        self._going: dict[str, asyncio.Task[ModuleCode]] = {}
        self._spare: asyncio.Task[WorkerProcess] | None = None
        self._is_closed = False

    def warm_up(self) -> None:
        """Begins to start a process for the next module. If that fails, the module that needs one tells."""
        if self._spare is None and not self._is_closed:
            self._spare = asyncio.create_task(WorkerProcess.start(self._command, self._limits.start_s))
            self._spare.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def code_of(self, module: bytes, sha256: str) -> ModuleCode:
        """The code of the module with that hash; who asks for the same at the same time waits for the same.

        ``module_invalid`` or ``memory_exceeded`` when it may not run, ``blob_mismatch`` when it is another,
        ``draining`` when closed; ``WorkerLostError`` or ``OSError`` when no process could do it.
        """
        found = self._kept.get(sha256)
        if found is not None:
            self._kept.move_to_end(sha256)
            return found
        self._refuse_if_closed()
        if sha256 not in self._going:
            task = asyncio.create_task(self._find_or_compile(module, sha256))
            self._going[sha256] = task
            task.add_done_callback(lambda done: self._over(sha256, done))
        try:
            # Several runs may wait for it; that one of them is stopped must not stop the others.
            return await asyncio.shield(self._going[sha256])
        except asyncio.CancelledError:
            waiting = asyncio.current_task()
            if waiting is None or not waiting.cancelling():  # it was not the run that was stopped
                self._refuse_if_closed()
            raise

    def forget(self, code: ModuleCode) -> None:
        """Lets go of code that does not load, so that the next run compiles it anew."""
        self._kept.pop(code.facts.sha256, None)
        if self._cache is not None:
            self._cache.forget(code.facts.sha256)

    async def close(self) -> None:
        """Ends what is being compiled, and the process that is kept ready; closing twice is harmless."""
        self._is_closed = True
        going = list(self._going.values())
        for task in going:
            task.cancel()
        await asyncio.gather(*going, return_exceptions=True)
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.cancel()
            await asyncio.gather(spare, return_exceptions=True)
            if not spare.cancelled() and spare.exception() is None:
                await spare.result().end()

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise GrafosError("draining", "the cell starts no more runs")

    def _over(self, sha256: str, task: asyncio.Task[ModuleCode]) -> None:
        del self._going[sha256]
        if task.cancelled() or task.exception() is not None:
            return
        self._kept[sha256] = task.result()
        while len(self._kept) > 1 and sum(len(code.code) for code in self._kept.values()) > KEPT_BYTES_MAX:
            self._kept.popitem(last=False)

    async def _find_or_compile(self, module: bytes, sha256: str) -> ModuleCode:
        if len(module) > abi.MODULE_BYTES_MAX:  # not even its frame may have a length without bound
            what = f"the module has {len(module)} bytes, more than {abi.MODULE_BYTES_MAX}"
            raise GrafosError("module_invalid", what)
        if sha256_of(module) != sha256:
            raise GrafosError("blob_mismatch", "the context names another module than the one to run")
        found = await asyncio.to_thread(self._cache.get, sha256) if self._cache is not None else None
        if found is not None:
            return found
        async with self._turns:
            code = await self._compile(module, sha256)
        if self._cache is not None:
            await asyncio.to_thread(self._cache.put, code)
        return code

    async def _compile(self, module: bytes, sha256: str) -> ModuleCode:
        """What the process says of the module is believed, for a lie would harm that module's runs alone; which module
        it is we know ourselves."""
        process = await self._take()
        try:
            answer = await process.compile(module, self._limits)
        finally:
            await process.end()
            self.warm_up()
        said = answer.facts
        facts = ModuleFacts(
            sha256, len(module), memory_min_bytes=said.memory_min_bytes, memory_max_bytes=said.memory_max_bytes
        )
        return ModuleCode(facts, answer.code)

    async def _take(self) -> WorkerProcess:
        """The process that is kept ready, or a new one; it is used once."""
        while (spare := self._spare) is not None:
            self._spare = None
            with contextlib.suppress(WorkerLostError, OSError):  # one that is started now may fare better
                process = await spare
                if process.is_usable:
                    return process
                await process.end()
        return await WorkerProcess.start(self._command, self._limits.start_s)
