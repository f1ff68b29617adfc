"""The one place that talks to wasmtime: one fixed configuration, compiling, and calling a guest's hooks.

Everything else in this room sees ``Engine``, ``Compiled`` and ``Instance``, so another call layer to the same library
can take this module's place under the same tests. What the guest may call is in ``hostcalls``.

Three properties of the binding shape this module:

* some combinations of feature switches abort the whole process, so the configuration is decided here, once;
* it keeps the last exception of a host function in a module global, so no host function of ours ever raises;
* linear memory may move when it grows, so its address is asked for anew at each access.

One process runs one guest at a time.
"""

from __future__ import annotations

import ctypes
import math
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

import wasmtime
from wasmtime import TrapCode

from grafos_cell import abi
from grafos_cell.hostcalls import HostCalls
from grafos_core.errors import GrafosError

StopReason = Literal["fuel", "deadline", "trap"]

_TRAPS = {
    TrapCode.UNREACHABLE: "it executed `unreachable`",
    TrapCode.STACK_OVERFLOW: "its call stack is full",
    TrapCode.MEMORY_OUT_OF_BOUNDS: "it accessed memory out of bounds",
    TrapCode.TABLE_OUT_OF_BOUNDS: "it accessed a table out of bounds",
    TrapCode.INDIRECT_CALL_TO_NULL: "it called an empty table entry",
    TrapCode.BAD_SIGNATURE: "it called a function as if it had another type",
    TrapCode.INTEGER_OVERFLOW: "an integer division overflowed",
    TrapCode.INTEGER_DIVISION_BY_ZERO: "it divided an integer by zero",
    TrapCode.BAD_CONVERSION_TO_INTEGER: "a float was converted that no integer can hold",
    TrapCode.NULL_REFERENCE: "it used a null reference",
}


class StoppedError(Exception):
    """The guest was stopped, and its instance is not to be used again. ``what`` is one clause, the same everywhere."""

    def __init__(self, reason: StopReason, what: str) -> None:
        super().__init__(what)
        self.reason = reason
        self.what = what


class Compiled:
    """A module compiled by, and usable with, one ``Engine``."""

    def __init__(self, module: wasmtime.Module, linked: wasmtime.InstancePre | None = None) -> None:
        self.module = module
        self.linked = linked


class Engine:
    """Compiles modules and opens instances. ``close`` ends its watchdog; a closed engine opens nothing more."""

    def __init__(self) -> None:
        self._engine = wasmtime.Engine(_configuration())
        self._watchdog = Watchdog(self._engine.increment_epoch)
        self._current: Instance | None = None

    def close(self) -> None:
        self._watchdog.close()

    def compile(self, data: bytes) -> Compiled:
        """Compiles the bytes; ``module_invalid`` with the compiler's reason when they are no module of the profile.

        Imports are bound at the first instance, so a module with unknown imports compiles.
        """
        # The binding takes text as well, as WAT; a module is binary or it is none.
        if data[:4] != b"\0asm":
            raise _invalid("the bytes do not begin as WebAssembly does")
        try:
            return Compiled(wasmtime.Module(self._engine, data))
        except wasmtime.WasmtimeError as error:
            raise _invalid(_reason(error)) from None

    def open(self, compiled: Compiled, host: HostCalls, *, fuel: int, memory_bytes: int, deadline_s: float) -> Instance:
        """A fresh instance with its limits set and its deadline running; ``StoppedError`` or ``module_invalid``."""
        assert self._current is None, "one process runs one guest at a time"
        if compiled.linked is None:
            compiled.linked = self._link(compiled.module)
        store = wasmtime.Store(self._engine)
        instance = Instance(self, store, host)
        self._current = instance
        try:
            store.set_fuel(fuel)
            store.set_epoch_deadline(1)
            store.set_limits(memory_bytes, abi.TABLE_ELEMENTS_MAX, 1, abi.TABLES_MAX, 1)
            self._watchdog.arm(deadline_s)
            instance.start(compiled.linked)
        except BaseException:
            instance.close()
            raise
        return instance

    def release(self) -> None:
        """Stops the deadline's clock and forgets the instance; instances call it as they close."""
        self._watchdog.disarm()
        self._current = None

    def _link(self, module: wasmtime.Module) -> wasmtime.InstancePre:
        linker = wasmtime.Linker(self._engine)
        seen: set[tuple[str, str | None]] = set()
        for imported in module.imports:
            names = abi.IMPORTS.get(imported.module)
            if (imported.module, imported.name) in seen or names is None:
                continue  # an unknown module is refused below, in the linker's words
            seen.add((imported.module, imported.name))
            function_type = imported.type
            if isinstance(function_type, wasmtime.FuncType) and imported.name is not None:
                callback = self._callback(imported.module, imported.name)
                linker.define_func(imported.module, imported.name, function_type, callback)
        try:
            return linker.instantiate_pre(module)
        except wasmtime.WasmtimeError as error:
            raise _invalid(_reason(error)) from None

    def _callback(self, module: str, name: str) -> Callable[..., int]:
        is_there = module in {abi.TASKLET_MODULE, abi.MEMORY_MODULE} and name in abi.IMPORTS[module]
        method = name if is_there else "unsupported"

        def call(*arguments: int) -> int:
            instance = self._current
            assert instance is not None, "a guest called and none was running"
            try:
                answer: int = getattr(instance.host, method)(*arguments)
            except BaseException as fault:  # noqa: BLE001 - see the module's docstring; raised again after the call
                instance.fault = fault
                self._engine.increment_epoch()
                return abi.DISCONNECTED
            return answer

        return call


class Instance:
    """One guest: an instance in a store of its own. Close it in every case; closing twice is harmless.

    It is the ``hostcalls.Guest`` of its host calls.
    """

    def __init__(self, engine: Engine, store: wasmtime.Store, host: HostCalls) -> None:
        self.host = host
        self.fault: BaseException | None = None
        self._engine = engine
        self._store = store
        self._exports: dict[str, Any] = {}
        self._memory: wasmtime.Memory | None = None
        self._is_open = True

    def start(self, linked: wasmtime.InstancePre) -> None:
        """Instantiates. No code of the guest runs: a module with a start function was refused before."""
        instance = self._guarded(lambda: linked.instantiate(self._store))
        exports = instance.exports(self._store)
        self._exports = {name: exports[name] for name in abi.HOOKS}
        self._memory = exports[abi.MEMORY_EXPORT]
        self.host.attach(self)

    def call(self, hook: str, *arguments: int) -> int:
        """Calls a hook; what it returns, 0 for a hook without a result. Raises ``StoppedError``."""
        function = self._exports[hook]
        return self._guarded(lambda: function(self._store, *arguments)) or 0

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._engine.release()
            self._store.close()

    def _guarded(self, act: Callable[[], Any]) -> Any:
        """Does ``act`` and says in our words how the guest was stopped in it."""
        try:
            result = act()
        except wasmtime.Trap as trap:
            self._raise_fault()
            raise _stopped(trap) from None
        except wasmtime.WasmtimeError as error:
            self._raise_fault()
            raise _invalid(_reason(error)) from None
        self._raise_fault()
        if self.host.is_out_of_fuel:
            raise StoppedError("fuel", "a host call cost more than was left")
        return result

    def _raise_fault(self) -> None:
        if self.fault is not None:
            raise self.fault

    # --- hostcalls.Guest --------------------------------------------------------------------------------------------

    def memory_bytes(self) -> int:
        """The size of linear memory. It never shrinks, so after the last hook this is the peak."""
        return self._memory.data_len(self._store) if self._memory is not None else 0

    def holds(self, pointer: int, length: int) -> bool:
        return pointer + length <= self.memory_bytes()

    def read(self, pointer: int, length: int) -> bytes:
        return ctypes.string_at(self._base() + pointer, length) if length else b""

    def write(self, pointer: int, data: bytes | memoryview) -> None:
        if len(data):
            ctypes.memmove(self._base() + pointer, bytes(data), len(data))

    def fuel_left(self) -> int:
        return self._store.get_fuel()

    def set_fuel(self, units: int) -> None:
        self._store.set_fuel(units)

    def _base(self) -> int:
        assert self._memory is not None, "there is no memory before the instance started"
        return ctypes.addressof(self._memory.data_ptr(self._store).contents)


class Watchdog:
    """Calls ``bark`` once when an armed deadline passes; wall time, because that is what a cell has to give.

    A thread of its own, started at first use: the guest holds the main thread, but not the interpreter's lock.
    After ``disarm`` returned, the bark of that deadline will not come any more. Arming wakes the thread only when it
    would otherwise sleep too long, so a short run costs no switch between threads.
    """

    def __init__(self, bark: Callable[[], None]) -> None:
        self._bark = bark
        self._changed = threading.Condition()
        self._due = math.inf
        self._wakes_at = -math.inf
        self._is_closed = False
        self._thread: threading.Thread | None = None

    def arm(self, seconds: float) -> None:
        with self._changed:
            assert not self._is_closed, "a closed engine opens no instance"
            self._due = time.monotonic() + seconds
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="deadline", daemon=True)
                self._thread.start()
            elif self._due < self._wakes_at:
                self._changed.notify()

    def disarm(self) -> None:
        with self._changed:
            self._due = math.inf

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        with self._changed:
            while not self._is_closed:
                left = self._due - time.monotonic()
                if left <= 0:
                    self._due = math.inf
                    self._bark()
                    continue
                self._wakes_at = self._due
                self._changed.wait(None if left == math.inf else left)


def _configuration() -> wasmtime.Config:
    """The features of the profile and nothing else; a test proves in a process of its own that it does not abort."""
    config = wasmtime.Config()
    config.consume_fuel = True
    config.epoch_interruption = True
    config.cranelift_nan_canonicalization = True
    config.max_wasm_stack = abi.STACK_BYTES_MAX
    config.parallel_compilation = False  # one worker process per core; and its threads are counted
    config.gc_support = False  # also refuses externref; reference types stay on, compilers use their encoding
    config.shared_memory = False
    for feature in (
        "component_model",
        "custom_page_sizes",
        "exceptions",
        "function_references",
        "gc",
        "memory64",
        "multi_memory",
        "relaxed_simd",
        "simd",
        "stack_switching",
        "tail_call",
        "threads",
        "wide_arithmetic",
    ):
        setattr(config, f"wasm_{feature}", False)
    return config


def _stopped(trap: wasmtime.Trap) -> StoppedError:
    code = trap.trap_code
    if code is TrapCode.OUT_OF_FUEL:
        return StoppedError("fuel", "it used up its fuel")
    if code is TrapCode.INTERRUPT:
        return StoppedError("deadline", "it ran longer than its deadline")
    if code in _TRAPS:
        return StoppedError("trap", _TRAPS[code])
    return StoppedError("trap", code.name.lower().replace("_", " ") if code else "it trapped")


def _reason(error: wasmtime.WasmtimeError) -> str:
    """The last and most telling clause of wasmtime's chain of causes, on one line and not long."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = lines[-1] if lines else "no reason given"
    return last.split(": ", 1)[-1][:300] if last[:1].isdigit() else last[:300]


def _invalid(why: str) -> GrafosError:
    return GrafosError("module_invalid", f"the module does not compile: {why}", why=why)
