"""What an isolated tasklet run and a leased memory call cost, each beside its peers, in one run of this program.

    python benchmarks/invocation.py [--quick] [--json]

* isolated run: a fresh instance in a store of its own with fuel, deadline and limits, three hooks, 1 KiB in through
  ``buffer_read`` and out through ``output_write``: all that ``Runtime.run`` does. Beside a C program that does the same
  on the same shared library with the same configuration, beside Node's V8 with a fresh ``WebAssembly.Instance`` (which
  has neither fuel nor a deadline), and beside the same run through wasmtime's own Python calls. Twice: with memory as
  compilers lay it out (a stack of 1 MiB, then data), and in one page, where an instance costs least.
* leased memory call: a guest reads 4 KiB of its lease in a loop; beside a host function that does its duties (lease,
  bounds, fuel) the way wasmtime's Python binding offers, through ``Caller``.
* code from the cache: a module's code read, checked and loaded, beside compiling the module.

Figures are CPU microseconds of the process that does the work.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import table
import wasmtime
from wasmtime._ffi import filename as library

from grafos_cell import abi, engine_config
from grafos_cell.code_cache import CodeCache
from grafos_cell.engine import Engine
from grafos_cell.hostcalls import HostCalls
from grafos_cell.memory_calls import LeasedMemory
from grafos_cell.run import RunSpec
from grafos_cell.runtime import Runtime
from grafos_core.clock import SystemClock

HERE = Path(__file__).parent
BYTES = 1024
LEASED_BYTES, CALLS_A_TURN = 4096, 2000
HOOKS = """(func (export "_grafos_tasklet_init") (param i32 i32))
    (func (export "_grafos_tasklet_run") (param $handle i32) (param $length i32) (result i32) (local $i i32) {run})
    (func (export "_grafos_tasklet_finalize"))"""
ECHO = """(module
    (import "grafos_tasklet_v0" "buffer_read" (func $buffer_read (param i32 i32 i32 i32) (result i32)))
    (import "grafos_tasklet_v0" "output_write" (func $output_write (param i32 i32) (result i32)))
    (memory (export "memory") {pages})
    {hooks})"""
ECHO_RUN = """(drop (call $buffer_read (local.get $handle) (i32.const 0) (i32.const {at}) (local.get $length)))
    (call $output_write (i32.const {at}) (local.get $length))"""
LEASED = f"""(module
    (import "fabricbios_fbmu_v0" "fbmu_read" (func $fbmu_read (param i32 i64 i32 i32) (result i32)))
    (memory (export "memory") 1)
    {
    HOOKS.format(
        run=f'''(loop (drop (call $fbmu_read (i32.const 0) (i64.const 8) (i32.const 16) (i32.const {LEASED_BYTES})))
    (br_if 0 (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const {CALLS_A_TURN}))))
    (call $fbmu_read (i32.const 0) (i64.const 8) (i32.const 16) (i32.const {LEASED_BYTES}))''',
    )
})"""
FUNCTION = """(func (param i32) (result i32) (local i32)
    (loop (local.set 1 (i32.add (local.get 1) (i32.load offset={n} (local.get 0))))
        (br_if 0 (i32.lt_u (local.get 1) (i32.const {n})))) (local.get 1))"""

Work = Callable[[int], float]
"""CPU seconds of so many of what is measured."""


class Row(NamedTuple):
    """``goal``: the most that ours over the peer may be, or, if ``is_gain``, the least that the peer over ours."""

    name: str
    peer: str
    runs: int
    ours: Work
    theirs: Work | None
    missing: str = ""
    goal: float | None = None
    is_gain: bool = False


# --- ours ------------------------------------------------------------------------------------------------------------


def timed(act: Callable[[], Any]) -> Work:
    def work(count: int) -> float:
        began = time.process_time()
        for _ in range(count):
            act()
        return time.process_time() - began

    return work


def our_run(runtime: Runtime, module: bytes) -> Work:
    """All of a run but what the worker's pipe adds."""
    loaded = runtime.load(module)
    spec = RunSpec(context_of(module), bytes(BYTES))
    outcome = runtime.run(loaded, spec)
    assert outcome.is_finished, outcome
    assert len(outcome.output) == BYTES
    return timed(lambda: runtime.run(loaded, spec))


def our_leased_calls(engine: Engine, module: bytes, region: LeasedMemory) -> Work:
    compiled, fuel = engine.compile(module), abi.FUEL_MAX

    def turn() -> None:
        host = HostCalls(b"", b"", fuel, [region])
        instance = engine.open(compiled, host, fuel=fuel, memory_bytes=abi.PAGE_BYTES, deadline_s=60.0)
        assert instance.call(abi.RUN_EXPORT, 0, 0) == abi.OK
        instance.close()

    return timed(turn)


def context_of(module: bytes) -> abi.RunContext:
    digest = hashlib.sha256(module).hexdigest()
    return abi.RunContext("local", "local-7d2x0c", "here", "run-0a1b2c-3d4e5f-aaaaaaaaaaaaaaaa", "echo", digest)


# --- the binding as it comes -----------------------------------------------------------------------------------------


def binding_run(module: bytes) -> Work:
    """The same isolated run with wasmtime's Python objects."""
    engine = wasmtime.Engine(engine_config.configuration())
    linker, i32 = wasmtime.Linker(engine), wasmtime.ValType.i32()
    data, output = bytes(BYTES), bytearray()
    stores: list[wasmtime.Store] = []

    def pay(units: int) -> None:
        stores[-1].set_fuel(stores[-1].get_fuel() - units)

    def buffer_read(caller: wasmtime.Caller, handle: int, offset: int, dst: int, length: int) -> int:
        part = data[offset : offset + length]
        memory: Any = caller["memory"]
        if handle != abi.INPUT_HANDLE or dst + length > memory.data_len(caller):
            return abi.INVALID_ARGUMENT
        pay(len(part))
        memory.write(caller, part, dst)
        return len(part)

    def output_write(caller: wasmtime.Caller, src: int, length: int) -> int:
        memory: Any = caller["memory"]
        if src + length > memory.data_len(caller):
            return abi.INVALID_ARGUMENT
        pay(length)
        output[:] = memory.read(caller, src, src + length)
        return abi.OK

    for function, params in ((buffer_read, 4), (output_write, 2)):
        function_type = wasmtime.FuncType([i32] * params, [i32])
        linker.define_func(abi.TASKLET_MODULE, function.__name__, function_type, function, access_caller=True)
    linked = linker.instantiate_pre(wasmtime.Module(engine, module))

    def run() -> None:
        with wasmtime.Store(engine) as store:
            stores[:] = [store]
            store.set_limits(abi.MEMORY_BYTES_DEFAULT, abi.TABLE_ELEMENTS_MAX, 1, abi.TABLES_MAX, 1)
            store.set_fuel(abi.FUEL_DEFAULT)
            store.set_epoch_deadline(1)
            exports: Any = linked.instantiate(store).exports(store)
            exports[abi.INIT_EXPORT](store, abi.CONTEXT_HANDLE, 200)
            assert exports[abi.RUN_EXPORT](store, abi.INPUT_HANDLE, BYTES) == 0
            exports[abi.FINALIZE_EXPORT](store)
            store.get_fuel()

    run()
    assert len(output) == BYTES
    return timed(run)


def binding_leased_calls(module: bytes, region: LeasedMemory) -> Work:
    """The duties of ``fbmu_read``, through ``Caller``."""
    engine = wasmtime.Engine(engine_config.configuration())
    linker, i32, i64 = wasmtime.Linker(engine), wasmtime.ValType.i32(), wasmtime.ValType.i64()
    stores: list[wasmtime.Store] = []

    def fbmu_read(caller: wasmtime.Caller, slot: int, offset: int, dst: int, length: int) -> int:
        if slot != 0:
            return abi.UNSUPPORTED
        status = region.status()
        if status != abi.OK:
            return status
        memory: Any = caller["memory"]
        if dst + length > memory.data_len(caller):
            return abi.INVALID_ARGUMENT
        left = stores[-1].get_fuel() - length
        if offset + length > len(region.data) or left < 0:
            return abi.CAPACITY_EXCEEDED
        stores[-1].set_fuel(left)
        memory.write(caller, region.data[offset : offset + length], dst)
        return abi.OK

    function_type = wasmtime.FuncType([i32, i64, i32, i32], [i32])
    linker.define_func(abi.MEMORY_MODULE, "fbmu_read", function_type, fbmu_read, access_caller=True)
    linked = linker.instantiate_pre(wasmtime.Module(engine, module))

    def turn() -> None:
        with wasmtime.Store(engine) as store:
            stores[:] = [store]
            store.set_fuel(abi.FUEL_MAX)
            store.set_epoch_deadline(1)
            exports: Any = linked.instantiate(store).exports(store)
            assert exports[abi.RUN_EXPORT](store, 0, 0) == abi.OK

    return timed(turn)


# --- peers in processes of their own ---------------------------------------------------------------------------------


class Peer:
    """A program that answers a number of runs with the nanoseconds that they took. ``close`` it in the end."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def work(self, count: int) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline()) / 1e9

    def close(self) -> None:
        self._process.communicate()


def c_compiler() -> list[str] | None:
    """The machine's own, or the one in the ``ziglang`` package."""
    for name in ("cc", "gcc", "clang"):
        if found := shutil.which(name):
            return [found]
    has_zig = subprocess.run([sys.executable, "-m", "ziglang", "version"], capture_output=True, check=False)
    return None if has_zig.returncode else [sys.executable, "-m", "ziglang", "cc"]


def c_floor(folder: Path, module: Path) -> Peer | None:
    compiler = c_compiler()
    if compiler is None:
        return None
    program = folder / "floor"
    subprocess.run([*compiler, "-O2", str(HERE / "invocation.c"), "-o", str(program), "-ldl"], check=True)
    switches = [f"config_{name}={int(value)}" for name, value in engine_config.SWITCHES.items()]
    pool = [f"pool_{name}={value}" for name, value in engine_config.POOL.items()]
    return Peer([str(program), str(library), str(module), *switches, "config_memory_may_move=0", *pool])


def v8(module: Path) -> Peer | None:
    node = shutil.which("node")
    return Peer([node, str(HERE / "invocation.mjs"), str(module)]) if node else None


# --- code from the cache ---------------------------------------------------------------------------------------------


def cached_code(folder: Path, runtime: Runtime, engine: Engine) -> tuple[Work, Work, int]:
    """Reading, checking and loading; compiling; and the module's bytes."""
    hooks = HOOKS.format(run="(i32.const 0)")
    functions = "".join(FUNCTION.format(n=number) for number in range(4000))
    module = bytes(wasmtime.wat2wasm(f'(module (memory (export "memory") 1) {functions} {hooks})'))
    cache, code = CodeCache(folder / "code"), runtime.compile(module)
    cache.put(code)

    def load() -> None:
        found = cache.get(code.facts.sha256)
        assert found is not None
        engine.load(found.code)

    return timed(load), timed(lambda: engine.compile(module)), len(module)


# --- the table -------------------------------------------------------------------------------------------------------


class Layout(NamedTuple):
    """Where a tasklet keeps its data: ``pages`` of memory, buffers at ``at``."""

    name: str
    pages: int
    at: int

    def module(self) -> bytes:
        hooks = HOOKS.format(run=ECHO_RUN.format(at=self.at))
        return bytes(wasmtime.wat2wasm(ECHO.format(pages=self.pages, hooks=hooks)))


LAYOUTS = (
    Layout("isolated run, compiler's memory", 17, (1 << 20) + 1024),  # 1 MiB of stack, then data: Rust's and LLVM's
    Layout("isolated run, one page", 1, 4096),
)


def run_rows(layout: Layout, folder: Path, runtime: Runtime, peers: list[Peer], count: int) -> list[Row]:
    module = layout.module()
    path = folder / f"{layout.pages}.wasm"
    path.write_bytes(module)
    floor, node, run = c_floor(folder, path), v8(path), our_run(runtime, module)
    peers.extend(peer for peer in (floor, node) if peer is not None)
    in_c, in_v8 = (peer.work if peer else None for peer in (floor, node))
    return [
        Row(layout.name, "C, same library", count, run, in_c, "no C compiler is here: apt install gcc", 4.5),
        Row(layout.name, "Node/V8, fresh Instance", count, run, in_v8, "Node is not here: apt install nodejs", 0.6),
        Row(layout.name, "wasmtime-py's own calls", count, run, binding_run(module)),
    ]


def other_rows(folder: Path, runtime: Runtime, engine: Engine) -> list[Row]:
    leased, clock = bytes(wasmtime.wat2wasm(LEASED)), SystemClock()
    region = LeasedMemory(1 << 20, clock.monotonic() + 1e6, clock)
    calls, their_calls = our_leased_calls(engine, leased, region), binding_leased_calls(leased, region)
    load, compiling, size = cached_code(folder, runtime, engine)
    turn = CALLS_A_TURN + 1
    return [
        Row(
            "leased memory call, 4 KiB",
            "wasmtime-py's Caller",
            turn,
            lambda _: calls(1),
            lambda _: their_calls(1),
            goal=8.0,
            is_gain=True,
        ),
        Row(f"code of a {size >> 10} KiB module, cached", "compiling it", 1, load, compiling, is_gain=True),
    ]


def table_rows(*, quick: bool) -> Iterator[table.Row]:
    """The rows of the table of all benchmarks, as they are measured."""
    runtime, engine, peers = Runtime(SystemClock()), Engine(), list[Peer]()
    turns, count = (1, 200) if quick else (9, 1000)
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            rows = [row for layout in LAYOUTS for row in run_rows(layout, folder, runtime, peers, count)]
            for row in [*rows, *other_rows(folder, runtime, engine)]:
                yield _as_row(row, turns)
    finally:
        for peer in peers:
            peer.close()
        runtime.close()
        engine.close()


def _as_row(row: Row, turns: int) -> table.Row:
    def figure(work: Work) -> table.Measure:
        return lambda: work(row.runs) / row.runs * 1e6

    goal = table.Goal(row.goal, is_least=row.is_gain) if row.goal is not None else None
    peer = figure(row.theirs) if row.theirs else None
    return table.compare(
        row.name, row.peer, "us", figure(row.ours), peer, turns=turns, goal=goal, note="" if peer else row.missing
    )


if __name__ == "__main__":
    table.run(__doc__, table_rows)
