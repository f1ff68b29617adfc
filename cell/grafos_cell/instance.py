"""Our own call layer: one guest's instance, reached through wasmtime's C functions without the binding in between.

The binding looks up every export and rebuilds every type at each call, and its callbacks convert each value through an
object. Here types are compared once for each module, and values are read where they lie. What that gains, and the care
that it takes: ``docs/decisions/call-layer.md``.

* An unchecked call trusts the types: ``Engine`` compares those of all hooks and imports before it links a module.
* A callback never raises, because there is nothing above it that could catch: it keeps what happened, and traps.
* Whatever belongs to a run lies in its ``Instance``: no state is shared between two of them.
* Addresses live as long as their store. After ``close`` there is something in their place that
  no function takes.
* Linear memory is looked at anew where a range ends outside of what was seen. It never shrinks, and the configuration
  has it that it never moves.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from wasmtime import FuncType, Linker, TrapCode, WasmtimeError
from wasmtime import _bindings as c_api
from wasmtime._ffi import dll
from wasmtime._managed import Managed

from grafos_cell import abi
from grafos_cell.hostcalls import HostCalls
from grafos_cell.traps import StoppedError, invalid, reason_of, stopped_by

if TYPE_CHECKING:
    from grafos_cell.engine import Compiled, Engine

# --- the library's functions ----------------------------------------------------------------------------------------

_SHORT = ctypes.PyDLL(dll._name)  # noqa: SLF001 - ctypes has no other way to say which file it loaded
_LONG = ctypes.CDLL(dll._name)  # noqa: SLF001 - as above


class _Address(ctypes.c_size_t):
    """As a result it stays what it is, so that it need not be converted at each further call. As an argument it takes
    an integer or its like, and nothing in the place of one."""


def _function(name: str, result: Any = None, library: ctypes.CDLL = _SHORT) -> Callable[..., Any]:
    """A function that is called at each run, with arguments that are what C wants them to be: to convert them would
    cost more than the call. From ``_SHORT`` it keeps the interpreter's lock, to let go of which costs more, too; what
    may run for long is from ``_LONG``, or no deadline would be noticed."""
    function = library[name]
    function.restype = result
    found: Callable[..., Any] = function
    return found


def _rare(name: str, *arguments: Any, result: Any = None) -> Callable[..., Any]:
    """A function that is called now and then, with plain values."""
    function = _function(name, result)
    function.argtypes = arguments  # type: ignore[attr-defined]  # of ctypes
    return function


_Nullable, _Size = ctypes.c_void_p, ctypes.c_size_t
_store_new = _function("wasmtime_store_new", _Address)
_store_context = _function("wasmtime_store_context", _Address)
_store_limiter = _function("wasmtime_store_limiter")
_store_delete = _function("wasmtime_store_delete")
_set_fuel = _function("wasmtime_context_set_fuel")  # its error, that the engine counts no fuel, cannot be
_get_fuel = _function("wasmtime_context_get_fuel")  # as above
_set_epoch_deadline = _function("wasmtime_context_set_epoch_deadline")
_instantiate = _function("wasmtime_instance_pre_instantiate", _Nullable, _LONG)
_export_get = _function("wasmtime_instance_export_get", ctypes.c_bool)
_call = _function("wasmtime_func_call_unchecked", _Nullable, _LONG)
_memory_data = _function("wasmtime_memory_data", _Address)
_memory_size = _function("wasmtime_memory_data_size", _Size)
_trap_new = _rare("wasmtime_trap_new", ctypes.c_char_p, _Size, result=_Nullable)
_trap_code = _rare("wasmtime_trap_code", _Address, _Address, result=ctypes.c_bool)
_trap_delete = _rare("wasm_trap_delete", _Address)

_view_of = ctypes.pythonapi.PyMemoryView_FromMemory
_view_of.argtypes = [_Address, ctypes.c_ssize_t, ctypes.c_int]
_view_of.restype = ctypes.py_object
_READ_AND_WRITE = 0x200  # PyBUF_WRITE

_Callback = ctypes.CFUNCTYPE(_Size, _Nullable, _Nullable, ctypes.POINTER(ctypes.c_int64), _Size)
_FAULT = b"the host failed"
_define_func = _rare(
    "wasmtime_linker_define_func_unchecked",
    _Address,
    *(ctypes.c_char_p, _Size, ctypes.c_char_p, _Size),
    *(_Address, _Callback, _Nullable, _Nullable),
    result=_Nullable,
)


class _Cells(ctypes.Structure):
    """All that the C functions read and write for one instance, allocated in one piece.

    Arguments and results lie in cells of 16 bytes, of which an i64 uses the first eight and an i32 the first four.
    """

    _fields_ = (
        ("instance", c_api.wasmtime_instance_t),
        ("trap", _Nullable),
        ("first", ctypes.c_int64),
        ("_first", ctypes.c_int64),
        ("second", ctypes.c_int64),
        ("_second", ctypes.c_int64),
        ("memory", c_api.wasmtime_extern_t),
        ("init", c_api.wasmtime_extern_t),
        ("run", c_api.wasmtime_extern_t),
        ("finalize", c_api.wasmtime_extern_t),
    )


def _offset(field: str) -> int:
    return int(getattr(_Cells, field).offset)


_IN_EXTERN = int(getattr(c_api.wasmtime_extern_t, "of").offset)  # noqa: B009 - as ctypes has it, not its types
_INSTANCE, _TRAP, _VALUES = (_offset(field) for field in ("instance", "trap", "first"))
_FIELDS = {abi.MEMORY_EXPORT: "memory", abi.INIT_EXPORT: "init", abi.RUN_EXPORT: "run", abi.FINALIZE_EXPORT: "finalize"}
_EXPORTS = [
    (ctypes.create_string_buffer(name.encode()), _Size(len(name)), _offset(field)) for name, field in _FIELDS.items()
]
_PLACES = {name: _offset(field) + _IN_EXTERN for name, field in _FIELDS.items()}
_NOTHING = ctypes.c_void_p()
_ONE = ctypes.c_int64(1)
_LIMITS = (ctypes.c_int64(abi.TABLE_ELEMENTS_MAX), _ONE, ctypes.c_int64(abi.TABLES_MAX), _ONE)
_VALUES_COUNT = _Size(2)  # the most that a hook has
_RETURNS = frozenset(name for name, signature in abi.HOOKS.items() if signature.results)
NO_ADDRESS = object()
"""Stands where an address is not there, or not any more: no function takes it for one, as it would take None."""
_LOW_32, _SIGN_32 = 0xFFFF_FFFF, 0x8000_0000


class Instance:
    """One guest: an instance in a store of its own. Close it in every case; closing twice is harmless.

    It is the ``hostcalls.Guest`` of its host calls.
    """

    __slots__ = (
        *("fault", "host"),
        *("_cells", "_context", "_engine", "_fuel", "_fuel_at", "_memory_at", "_size", "_store", "_trap_at", "_view"),
    )

    def __init__(self, engine: Engine, host: HostCalls) -> None:
        self.host = host
        self.fault: BaseException | None = None
        self._engine = engine
        self._cells = _Cells()
        self._trap_at = ctypes.byref(self._cells, _TRAP)
        self._memory_at = ctypes.byref(self._cells, _PLACES[abi.MEMORY_EXPORT])
        self._fuel = ctypes.c_uint64()
        self._fuel_at = ctypes.byref(self._fuel)
        self._size = -1  # of the memory that ``_view`` shows
        self._view: memoryview | None = None
        self._store: object = _store_new(engine.address, _NOTHING, _NOTHING)
        self._context: object = _store_context(self._store)
        _set_epoch_deadline(self._context, _ONE)  # before the deadline's clock runs, which may be over at once

    def start(self, compiled: Compiled, *, fuel: int, memory_bytes: int) -> None:
        """Sets the limits and instantiates. No code of the guest runs: a start function was refused before."""
        context, cells = self._context, self._cells
        _store_limiter(self._store, ctypes.c_int64(memory_bytes), *_LIMITS)
        self._fuel.value = fuel
        _set_fuel(context, self._fuel)
        instance_at = ctypes.byref(cells, _INSTANCE)
        self._raise_if_stopped(_instantiate(compiled.address, context, instance_at, self._trap_at))
        for name, length, offset in _EXPORTS:
            is_there = _export_get(context, instance_at, name, length, ctypes.byref(cells, offset))
            assert is_there, "a module without its exports was linked"
        self.host.attach(self)

    def call(self, hook: str, *arguments: int) -> int:
        """Calls a hook; what it returns, 0 for a hook without a result. Raises ``StoppedError``."""
        cells = self._cells
        if arguments:
            cells.first, cells.second = arguments
        function_at, values_at = ctypes.byref(cells, _PLACES[hook]), ctypes.byref(cells, _VALUES)
        self._raise_if_stopped(_call(self._context, function_at, values_at, _VALUES_COUNT, self._trap_at))
        return ((cells.first & _LOW_32) ^ _SIGN_32) - _SIGN_32 if hook in _RETURNS else 0

    def close(self) -> None:
        store, self._store = self._store, NO_ADDRESS
        if store is not NO_ADDRESS:
            self._context, self._view, self._size = NO_ADDRESS, None, -1
            self._engine.release()
            _store_delete(store)

    def _raise_if_stopped(self, error: int | None) -> None:
        """Raises how the guest was stopped in the call that answered ``error``, if it was."""
        if error or self._cells.trap:  # a fault of the host's own is a trap, too
            raise self._end_of(error)
        if self.host.is_out_of_fuel:
            raise StoppedError("fuel", "a host call cost more than was left")

    def _end_of(self, error: int | None) -> BaseException:
        trap, self._cells.trap = self._cells.trap, None
        code, refusal = None, None
        if trap:
            number = ctypes.c_uint8()
            code = TrapCode(number.value) if _trap_code(trap, ctypes.addressof(number)) else None
            _trap_delete(trap)
        if error:
            owned = ctypes.cast(error, ctypes.POINTER(c_api.wasmtime_error_t))
            refusal = invalid(reason_of(WasmtimeError._from_ptr(owned)))  # noqa: SLF001 - it frees what it is given
        return self.fault or refusal or stopped_by(code)

    # --- hostcalls.Guest --------------------------------------------------------------------------------------------

    def memory_bytes(self) -> int:
        """The size of linear memory. It never shrinks, so after the last hook this is the peak."""
        size: int = _memory_size(self._context, self._memory_at)
        return size

    def holds(self, pointer: int, length: int) -> bool:
        end = pointer + length
        if end > self._size:
            self._look_at_memory()
        return end <= self._size

    def _look_at_memory(self) -> None:
        """Sees memory as large as it is now. It neither shrinks nor moves, so what was seen before stays true."""
        self._size = _memory_size(self._context, self._memory_at)
        self._view = _view_of(_memory_data(self._context, self._memory_at), self._size, _READ_AND_WRITE)

    def read(self, pointer: int, length: int) -> bytes:
        assert self._view is not None, "a range is read before it was asked for"
        return bytes(self._view[pointer : pointer + length])

    def write(self, pointer: int, data: bytes | memoryview) -> None:
        assert self._view is not None, "a range is written before it was asked for"
        self._view[pointer : pointer + len(data)] = data

    def fuel_left(self) -> int:
        _get_fuel(self._context, self._fuel_at)
        return self._fuel.value

    def pay(self, units: int) -> bool:
        fuel, context = self._fuel, self._context
        _get_fuel(context, self._fuel_at)
        left = fuel.value - units
        is_enough = left >= 0
        fuel.value = left if is_enough else 0
        _set_fuel(context, fuel)
        return is_enough

    def refuel(self, units: int) -> None:
        _get_fuel(self._context, self._fuel_at)
        self._fuel.value += units
        _set_fuel(self._context, self._fuel)


def define(linker: Linker, module: str, name: str, function_type: FuncType, callback: Any) -> None:
    """Binds an import to what ``callback_of`` made; whoever links it keeps it alive."""
    texts = module.encode(), name.encode()
    error = _define_func(
        address_of(linker), texts[0], len(texts[0]), texts[1], len(texts[1]), address_of(function_type), callback, 0, 0
    )
    assert not error, "a linker has each name once"


def callback_of(engine: Engine, method: str, params: int) -> Any:
    """A function for the library that calls this method of the running guest's host calls with so many integers.

    Of an i32 only the low 32 bits mean anything, as ``HostCalls`` has it.
    """
    places = slice(0, 2 * params, 2)

    def call(_environment: Any, _caller: Any, values: Any, _count: int) -> int:
        instance = engine.current
        try:
            # An empty slice of a pointer is not empty where the interpreter divides as C does.
            arguments = values[places] if params else ()
            values[0] = getattr(instance.host, method)(*arguments)  # type: ignore[union-attr]
        except BaseException as fault:  # noqa: BLE001 - see the module's docstring; raised again after the call
            if instance is not None:
                instance.fault = fault
            trap: int = _trap_new(_FAULT, len(_FAULT))
            return trap
        return 0

    return _Callback(call)


def address_of(owner: Managed[Any]) -> _Address:
    """Where a thing of the binding is; the binding frees it when nobody has ``owner`` any more."""
    address = ctypes.cast(owner.ptr(), ctypes.c_void_p).value
    assert address is not None
    return _Address(address)
