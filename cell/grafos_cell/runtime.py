"""Runs one tasklet: hooks in their order, limits around them, and one typed end whatever happens.

``Runtime.run`` is the whole story of a run, ``_conclude`` the rule that names its end. What is said here about ends is
section 8 of ``docs/reference/tasklet-abi.md``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from grafos_cell import abi
from grafos_cell.engine import Compiled, Engine
from grafos_cell.hostcalls import HostCalls, LeasedBlocks
from grafos_cell.instance import Instance
from grafos_cell.memory_calls import LeasedMemory
from grafos_cell.module import ModuleFacts, check_module
from grafos_cell.run import FINISHED, Hook, LeaseDesk, RunOutcome, RunSpec, check_spec, no_desk
from grafos_cell.traps import StoppedError
from grafos_cell.worker_messages import CODE_BYTES_MAX, ModuleCode
from grafos_core.clock import Clock
from grafos_core.errors import CODES, GrafosError

MODULES_KEPT_MAX = 32
"""Compiled modules that one process keeps."""
MODULE_BYTES_KEPT_MAX = 32 * 1024 * 1024
"""Of their source bytes; compiled code is a few times larger."""


MakeHostCalls = Callable[[bytes, bytes, int, Sequence[LeasedMemory], Sequence[LeasedBlocks]], HostCalls]
"""Makes the host calls of one run from its context, input, fuel, memory and blocks."""


class LoadedModule:
    """A module that passed the static check and was compiled."""

    def __init__(self, facts: ModuleFacts, compiled: Compiled) -> None:
        self.facts = facts
        self.compiled = compiled


class Ending(msgspec.Struct, frozen=True):
    """What happened, before it is given its name. ``stopped`` and ``why`` are ``StoppedError``'s, or empty."""

    hook: Hook
    returned: int | None = None
    stopped: Literal["", "fuel", "deadline", "trap"] = ""
    why: str = ""
    memory_bytes: int = 0
    is_memory_full: bool = False


class Runtime:
    """Runs tasklets in this process, one at a time. Keeps compiled modules; ``close`` it in the end.

    It closes ``engine``, too, which is a new one if none is given.
    """

    def __init__(self, clock: Clock, engine: Engine | None = None) -> None:
        self._clock = clock
        self._engine = engine or Engine()
        self._loaded: OrderedDict[str, LoadedModule] = OrderedDict()

    def close(self) -> None:
        self._loaded.clear()
        self._engine.close()

    def find(self, sha256: str) -> LoadedModule | None:
        """A module that ``load`` made and that is still kept."""
        found = self._loaded.get(sha256)
        if found is not None:
            self._loaded.move_to_end(sha256)
        return found

    def load(self, data: bytes) -> LoadedModule:
        """Checks, compiles and keeps the module. ``module_invalid`` or ``memory_exceeded`` when it is refused."""
        facts = check_module(data, abi.MEMORY_BYTES_MAX)
        found = self.find(facts.sha256)
        if found is not None:
            return found
        facts.refuse_if_found()
        return self._keep(LoadedModule(facts, self._engine.compile(data)))

    def compile(self, data: bytes) -> ModuleCode:
        """As ``load``, but gives the compiled code and keeps nothing."""
        facts = check_module(data, abi.MEMORY_BYTES_MAX)
        facts.refuse_if_found()
        code = self._engine.compile(data).serialize()
        if len(code) > CODE_BYTES_MAX:
            what = f"the module's compiled code has {len(code)} bytes, more than {CODE_BYTES_MAX}"
            raise GrafosError("module_invalid", what)
        return ModuleCode(msgspec.structs.replace(facts, imports=(), exports=()), code)

    def adopt(self, code: ModuleCode) -> LoadedModule:
        """Keeps a module that ``compile`` compiled in another process; ``module_invalid`` if the engine differs."""
        return self._keep(LoadedModule(code.facts, self._engine.load(code.code)))

    def _keep(self, loaded: LoadedModule) -> LoadedModule:
        self._loaded[loaded.facts.sha256] = loaded
        while len(self._loaded) > 1 and (
            len(self._loaded) > MODULES_KEPT_MAX or self._kept_bytes() > MODULE_BYTES_KEPT_MAX
        ):
            self._loaded.popitem(last=False)
        return loaded

    def run(
        self, module: LoadedModule, spec: RunSpec, desk: LeaseDesk = no_desk, host_calls: MakeHostCalls = HostCalls
    ) -> RunOutcome:
        """Runs the module's hooks, whose leases are at ``desk``. Every end of the guest's making is an outcome.
        ``host_calls`` are what it may call, a service's for an instance of one.

        Whoever takes the spec in has had ``check_spec`` look at it. Raises ``blob_mismatch`` for another module's.
        """
        if spec.context.module_sha256 != module.facts.sha256:
            raise GrafosError("blob_mismatch", "the context names another module than the one to run")
        context = spec.context.to_json()
        data = context if spec.input is None else spec.input
        started_at = self._clock.monotonic()
        if module.facts.memory_min_bytes > spec.memory_bytes:
            wanted = module.facts.memory_min_bytes
            what = f"the module wants {wanted} bytes of memory to begin with, its limit is {spec.memory_bytes}"
            return RunOutcome("memory_exceeded", what)
        try:
            regions = self._regions(spec, started_at, desk)
        except MemoryError:
            what = f"the cell has no room left for the {sum(one.size_bytes for one in spec.memory_leases)} bytes"
            return RunOutcome("placement_failed", f"{what} of memory that the run leases")
        blocks = [LeasedBlocks(lease.blocks, slot, desk) for slot, lease in enumerate(spec.block_leases)]
        host = host_calls(context, data, spec.fuel, regions, blocks)
        try:
            ending, fuel_used = self._call_hooks(module, spec, host, len(context), len(data))
        except GrafosError as error:
            return RunOutcome(error.code, error.what)
        except Exception as fault:  # noqa: BLE001 - a bug of ours must not take the worker's other runs with it
            return RunOutcome("internal", f"the runtime failed: {type(fault).__name__}: {fault}")
        return _conclude(ending, host, spec, fuel_used, self._clock.monotonic() - started_at)

    def _regions(self, spec: RunSpec, started_at: float, desk: LeaseDesk) -> list[LeasedMemory]:
        """The memory that the run leases, all zero; ``MemoryError`` when there is not that much."""
        return [
            LeasedMemory(lease.size_bytes, started_at + lease.seconds_left, self._clock, slot, desk)
            for slot, lease in enumerate(spec.memory_leases)
        ]

    def _call_hooks(
        self, module: LoadedModule, spec: RunSpec, host: HostCalls, context_length: int, input_length: int
    ) -> tuple[Ending, int]:
        """How the hooks went, and the fuel that they used."""
        hook: Hook = "load"
        returned: int | None = None
        instance: Instance | None = None
        stopped: StoppedError | None = None
        try:
            instance = self._engine.open(
                module.compiled, host, fuel=spec.fuel, memory_bytes=spec.memory_bytes, deadline_s=spec.deadline_s
            )
            hook = "init"
            instance.call(abi.INIT_EXPORT, abi.CONTEXT_HANDLE, context_length)
            hook = "run"
            returned = instance.call(abi.RUN_EXPORT, abi.INPUT_HANDLE, input_length)
            hook = "finalize"
            instance.call(abi.FINALIZE_EXPORT)
        except StoppedError as caught:
            stopped = caught
        finally:
            size, fuel_left = (instance.memory_bytes(), instance.fuel_left()) if instance else (0, spec.fuel)
            if instance is not None:
                instance.close()
        return Ending(
            hook,
            returned,
            stopped.reason if stopped else "",
            stopped.what if stopped else "",
            size,
            _is_full(size, module.facts.memory_max_bytes, spec.memory_bytes),
        ), host.fuel_given - fuel_left

    def _kept_bytes(self) -> int:
        return sum(loaded.facts.size_bytes for loaded in self._loaded.values())


def run_module(
    data: bytes, spec: RunSpec, clock: Clock, engine: Engine | None = None, desk: LeaseDesk = no_desk
) -> RunOutcome:
    """Checks, compiles and runs a module once, in this process; a refused module is an outcome, too.

    Raises ``limit_exceeded`` or ``blob_mismatch`` for a spec that cannot be run at all.
    """
    check_spec(spec)
    runtime = Runtime(clock, engine)
    try:
        return runtime.run(runtime.load(data), spec, desk)
    except GrafosError as error:
        if error.code == "blob_mismatch":
            raise
        return RunOutcome(error.code, error.what)
    finally:
        runtime.close()


def _is_full(size: int, declared_maximum: int | None, limit: int) -> bool:
    """Whether the run's limit, not the module's own maximum, keeps memory from growing by one page."""
    if declared_maximum is not None and declared_maximum <= limit:
        return False
    return size + abi.PAGE_BYTES > limit


def _conclude(ending: Ending, host: HostCalls, spec: RunSpec, fuel_used: int, wall_s: float) -> RunOutcome:
    """Gives the end its name, and decides what of the guest's writing is kept."""
    code, text = _name_end(ending, host, spec)
    assert code == FINISHED or code in CODES
    keeps_results = code in {FINISHED, "program_error"}
    response = host.response if keeps_results else b""
    if code == FINISHED and not response:
        response = b"null"
    return RunOutcome(
        code,
        text,
        "run" if ending.returned else ending.hook,
        ending.returned,
        response,
        bytes(host.output) if keeps_results else b"",
        host.log_text(),
        host.is_log_cut,
        fuel_used,
        ending.memory_bytes,
        wall_s,
    )


def _name_end(ending: Ending, host: HostCalls, spec: RunSpec) -> tuple[str, str]:
    """The first thing that went wrong: the run hook's answer comes before a trap in finalize."""
    if ending.returned:
        if host.wanted_bytes is not None:
            return "memory_exceeded", _memory_text(ending, host, spec)
        return "program_error", host.fail_text or f"returned {ending.returned} without a text"
    if ending.stopped:
        return _name_stop(ending, host, spec)
    if abi.CAPACITY_EXCEEDED in {host.refused_response, host.refused_output}:
        return "output_too_large", "the program wrote more than its response or output may hold"
    if host.refused_response == abi.INVALID_ARGUMENT:
        return "response_invalid", "the program's response is not JSON"
    return FINISHED, ""


def _name_stop(ending: Ending, host: HostCalls, spec: RunSpec) -> tuple[str, str]:
    if ending.stopped == "fuel":
        return "fuel_exhausted", f"the tasklet used up its fuel of {host.fuel_given} units in {ending.hook}"
    if ending.stopped == "deadline":
        return (
            "deadline_exceeded",
            f"the tasklet ran longer than its deadline of {spec.deadline_s:g} s, in {ending.hook}",
        )
    if host.wanted_bytes is not None or ending.is_memory_full:
        return "memory_exceeded", _memory_text(ending, host, spec)
    memory = f"it had {ending.memory_bytes} of {spec.memory_bytes} bytes of memory"
    return "trapped", f"the tasklet trapped in {ending.hook}: {ending.why}; {memory}"


def _memory_text(ending: Ending, host: HostCalls, spec: RunSpec) -> str:
    wanted = f"wanted {host.wanted_bytes} bytes more" if host.wanted_bytes is not None else "filled its memory"
    return f"the tasklet {wanted}; it had {ending.memory_bytes} of {spec.memory_bytes} bytes"
