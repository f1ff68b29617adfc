"""The reference for our call layer: the same engine, called through wasmtime's own binding alone.

A test module that has ``pytestmark = pytest.mark.usefixtures("call_layer")`` runs once on each.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import wasmtime

from grafos_cell import abi
from grafos_cell.engine import Compiled, Engine
from grafos_cell.hostcalls import HostCalls
from grafos_cell.traps import StoppedError, invalid, reason_of, stopped_by


class PlainEngine(Engine):
    """Calls through the binding, with its checks and its conversions."""

    def _instance(self, host: HostCalls) -> Any:
        return PlainInstance(self, self._engine, host)

    def _bind(
        self, linker: wasmtime.Linker, module: str, name: str, function_type: wasmtime.FuncType, method: str
    ) -> None:
        def call(*arguments: int) -> int:
            instance = self.current
            assert instance is not None, "a guest called and none was running"
            try:
                answer: int = getattr(instance.host, method)(*arguments)
            except BaseException as fault:  # noqa: BLE001 - the binding would keep it in a global of the process
                instance.fault = fault
                self._engine.increment_epoch()
                return abi.DISCONNECTED
            return answer

        linker.define_func(module, name, function_type, call)


class PlainInstance:
    """As ``grafos_cell.instance.Instance``."""

    def __init__(self, engine: Engine, owner: wasmtime.Engine, host: HostCalls) -> None:
        self.host = host
        self.fault: BaseException | None = None
        self._engine = engine
        self._store = wasmtime.Store(owner)
        self._store.set_epoch_deadline(1)
        self._exports: dict[str, Any] = {}
        self._is_open = True

    def start(self, compiled: Compiled, *, fuel: int, memory_bytes: int) -> None:
        self._store.set_limits(memory_bytes, abi.TABLE_ELEMENTS_MAX, 1, abi.TABLES_MAX, 1)
        self._store.set_fuel(fuel)
        assert compiled.linked is not None
        linked = compiled.linked
        exports = self._guarded(lambda: linked.instantiate(self._store)).exports(self._store)
        self._exports = {name: exports[name] for name in (*abi.HOOKS, abi.MEMORY_EXPORT)}
        self.host.attach(self)

    def call(self, hook: str, *arguments: int) -> int:
        return self._guarded(lambda: self._exports[hook](self._store, *arguments)) or 0

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._engine.release()
            self._store.close()

    def _guarded(self, act: Callable[[], Any]) -> Any:
        try:
            result = act()
        except wasmtime.Trap as trap:
            raise self.fault or stopped_by(trap.trap_code) from None
        except wasmtime.WasmtimeError as error:
            raise self.fault or invalid(reason_of(error)) from None
        if self.fault is not None:
            raise self.fault
        if self.host.is_out_of_fuel:
            raise StoppedError("fuel", "a host call cost more than was left")
        return result

    def memory_bytes(self) -> int:
        return int(self._exports[abi.MEMORY_EXPORT].data_len(self._store))

    def holds(self, pointer: int, length: int) -> bool:
        return pointer + length <= self.memory_bytes()

    def read(self, pointer: int, length: int) -> bytes:
        return ctypes.string_at(self._base() + pointer, length) if length else b""

    def write(self, pointer: int, data: bytes | memoryview) -> None:
        if len(data):
            ctypes.memmove(self._base() + pointer, bytes(data), len(data))

    def fuel_left(self) -> int:
        return self._store.get_fuel()

    def pay(self, units: int) -> bool:
        left = self.fuel_left() - units
        self._store.set_fuel(max(left, 0))
        return left >= 0

    def refuel(self, units: int) -> None:
        self._store.set_fuel(self.fuel_left() + units)

    def _base(self) -> int:
        return ctypes.addressof(self._exports[abi.MEMORY_EXPORT].data_ptr(self._store).contents)


LAYERS: dict[str, type[Engine]] = {"own": Engine, "plain": PlainEngine}
_under_test: list[type[Engine]] = [Engine]


def new_engine() -> Engine:
    """An engine of the layer under test."""
    return _under_test[-1]()


def use(layer: str) -> None:
    """Puts this layer under test, until ``use_no_more``."""
    _under_test.append(LAYERS[layer])


def use_no_more() -> None:
    _under_test.pop()
