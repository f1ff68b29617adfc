"""Compiling modules, linking them to the host calls, and opening instances with their limits: wasmtime's one owner.

Everything else in this room sees ``Engine``, ``Compiled`` and ``Instance``. ``engine_config`` has the configuration,
``instance`` the call layer, ``hostcalls`` what a guest may call. One process runs one guest at a time.
"""

from __future__ import annotations

from typing import Any

import wasmtime

from grafos_cell import abi, instance
from grafos_cell.engine_config import configuration
from grafos_cell.hostcalls import HostCalls
from grafos_cell.instance import Instance, address_of
from grafos_cell.traps import Watchdog, invalid, reason_of

_BOUND = {abi.TASKLET_MODULE, abi.MEMORY_MODULE, abi.BLOCK_MODULE, abi.SERVICE_MODULE}


class Compiled:
    """A module compiled by, and usable with, one ``Engine``."""

    def __init__(self, module: wasmtime.Module) -> None:
        self.module = module
        self.linked: wasmtime.InstancePre | None = None
        self.address: object = instance.NO_ADDRESS
        """Of ``linked``, once it is."""

    def serialize(self) -> bytes:
        """The compiled code, for ``Engine.load``."""
        return bytes(self.module.serialize())


class Engine:
    """Compiles modules and opens instances. ``close`` ends its watchdog; a closed engine opens nothing more."""

    def __init__(self) -> None:
        self._engine = wasmtime.Engine(configuration())
        self.address = address_of(self._engine)
        self.current: Instance | None = None
        """The one instance that is open."""
        self._watchdog = Watchdog(self._engine.increment_epoch)
        self._callbacks: dict[tuple[str, int], Any] = {}

    def close(self) -> None:
        self._watchdog.close()

    def compile(self, data: bytes) -> Compiled:
        """Compiles the bytes; ``module_invalid`` with the compiler's reason when they are no module of the profile.

        Imports are bound at the first instance, so a module with unknown imports compiles.
        """
        # The binding takes text as well, as WAT; a module is binary or it is none.
        if data[:4] != b"\0asm":
            raise invalid("the bytes do not begin as WebAssembly does")
        try:
            return Compiled(wasmtime.Module(self._engine, data))
        except wasmtime.WasmtimeError as error:
            raise invalid(reason_of(error)) from None

    def load(self, code: bytes) -> Compiled:
        """What ``serialize`` gave; to load it is to run it, so it must come from this cell's own compiler.

        ``module_invalid`` when it is for another library, configuration or processor.
        """
        try:
            return Compiled(wasmtime.Module.deserialize(self._engine, code))
        except wasmtime.WasmtimeError as error:
            raise invalid(reason_of(error)) from None

    def open(self, compiled: Compiled, host: HostCalls, *, fuel: int, memory_bytes: int, deadline_s: float) -> Instance:
        """A fresh instance with its limits set and its deadline running; ``StoppedError`` or ``module_invalid``."""
        assert self.current is None, "one process runs one guest at a time"
        if compiled.linked is None:
            self._link(compiled)
        opened = self._instance(host)
        self.current = opened
        try:
            self._watchdog.arm(deadline_s)
            opened.start(compiled, fuel=fuel, memory_bytes=memory_bytes)
        except BaseException:
            opened.close()
            raise
        return opened

    def release(self) -> None:
        """Stops the deadline's clock and forgets the instance; instances call it as they close."""
        self._watchdog.disarm()
        self.current = None

    def _link(self, compiled: Compiled) -> None:
        """Binds the imports, after all types were compared: calls in both directions trust them from here on."""
        _compare_exports(compiled.module)
        linker = wasmtime.Linker(self._engine)
        seen: set[tuple[str, str | None]] = set()
        for imported in compiled.module.imports:
            if (imported.module, imported.name) in seen or imported.module not in abi.IMPORTS:
                continue  # an unknown module is refused below, in the linker's words
            seen.add((imported.module, imported.name))
            if isinstance(imported.type, wasmtime.FuncType) and imported.name is not None:
                self._define(linker, imported.module, imported.name, imported.type)
        try:
            compiled.linked = linker.instantiate_pre(compiled.module)
        except wasmtime.WasmtimeError as error:
            raise invalid(reason_of(error)) from None
        compiled.address = address_of(compiled.linked)

    def _define(self, linker: wasmtime.Linker, module: str, name: str, function_type: wasmtime.FuncType) -> None:
        signature, known = signature_of(function_type), abi.IMPORTS[module].get(name)
        is_right = signature == known if known else module == abi.GPU_MODULE and abi.gpu_signature_allowed(signature)
        if not is_right:
            raise invalid(f"the import {module}.{name} has the type {signature}")
        method = name if module in _BOUND and hasattr(HostCalls, name) else "unsupported"
        self._bind(linker, module, name, function_type, method)

    # --- the call layer ---------------------------------------------------------------------------------------------

    def _instance(self, host: HostCalls) -> Instance:
        return Instance(self, host)

    def _bind(
        self, linker: wasmtime.Linker, module: str, name: str, function_type: wasmtime.FuncType, method: str
    ) -> None:
        """Makes the import call this method of the host calls."""
        key = (method, len(function_type.params))
        if key not in self._callbacks:  # kept as long as the engine: linked modules call it
            self._callbacks[key] = instance.callback_of(self, *key)
        instance.define(linker, module, name, function_type, self._callbacks[key])


def signature_of(function_type: wasmtime.FuncType) -> abi.Signature:
    """The type in our words."""
    params, results = (tuple(str(one) for one in side) for side in (function_type.params, function_type.results))
    return abi.Signature(params, results)  # type: ignore[arg-type]  # of other value types, which equal no known ones


def _compare_exports(module: wasmtime.Module) -> None:
    """``module_invalid`` unless the hooks and the memory are there, with their types."""
    exports = {export.name: export.type for export in module.exports}
    for name, signature in abi.HOOKS.items():
        found = exports.get(name)
        if not isinstance(found, wasmtime.FuncType) or signature_of(found) != signature:
            raise invalid(f"the export {name} is not there, or has another type than {signature}")
    if not isinstance(exports.get(abi.MEMORY_EXPORT), wasmtime.MemoryType):
        raise invalid("it exports no memory")
