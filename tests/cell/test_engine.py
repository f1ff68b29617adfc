"""What an engine promises of every instance, whichever layer calls it; and the care that our own layer takes."""

from __future__ import annotations

import ctypes
import gc
import sys

import pytest
import wasmtime
from call_layers import new_engine
from hypothesis import given, settings
from hypothesis import strategies as st
from tasklets import import_lines, run_tasklet, spec_of, tasklet

from grafos_cell import abi, engine_config
from grafos_cell.engine import Compiled, Engine
from grafos_cell.hostcalls import HostCalls
from grafos_cell.instance import Instance
from grafos_cell.run import MemoryLease
from grafos_cell.runtime import Runtime
from grafos_cell.traps import StoppedError
from grafos_core.clock import SystemClock
from grafos_core.errors import GrafosError

pytestmark = pytest.mark.usefixtures("call_layer")
PAGE = abi.PAGE_BYTES
FUEL = 10**9


def opened(engine: Engine, module: bytes, host: HostCalls | None = None) -> Instance:
    host = host or HostCalls(b"", b"", FUEL)
    return engine.open(engine.compile(module), host, fuel=FUEL, memory_bytes=8 * 1024 * 1024, deadline_s=30)


def refusal(module: bytes) -> str:
    engine = new_engine()
    with pytest.raises(GrafosError) as refused:
        opened(engine, module)
    engine.close()
    assert refused.value.code == "module_invalid"
    return refused.value.what


# --- types are compared before anything trusts them -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("(module)", "_grafos_tasklet_init"),
        ('(module (func (export "_grafos_tasklet_init") (param i64 i32)))', "(func (param i32 i32))"),
        (
            """(module (func (export "_grafos_tasklet_init") (param i32 i32)) (memory (export "memory") 1)
            (func (export "_grafos_tasklet_run") (param i32 i32) (result i64) i64.const 0))""",
            "_grafos_tasklet_run",
        ),
        (
            """(module (func (export "_grafos_tasklet_init") (param i32 i32)) (global (export "memory") i32 i32.const 0)
            (func (export "_grafos_tasklet_run") (param i32 i32) (result i32) i32.const 0)
            (func (export "_grafos_tasklet_finalize")))""",
            "no memory",
        ),
    ],
)
def test_a_module_with_other_exports_is_never_called(text: str, why: str) -> None:
    assert why in refusal(wasmtime.wat2wasm(text))


@pytest.mark.parametrize(
    "imported",
    [
        '(import "grafos_tasklet_v0" "clock_ns" (func (result i32)))',
        '(import "grafos_tasklet_v0" "clock_ns" (func (param i64) (result i64)))',
        '(import "fabricbios_fbmu_v0" "fbmu_size" (func (param i64) (result i64)))',
        '(import "grafos_tasklet_v0" "no_such_call" (func))',
        '(import "fabricbios_gpu_v1" "launch" (func (param funcref) (result i32)))',
        '(import "fabricbios_gpu_v1" "launch" (func))',
    ],
)
def test_a_module_that_imports_with_another_type_is_never_linked(imported: str) -> None:
    assert "has the type" in refusal(tasklet(imports=imported))


def test_floats_in_a_call_of_a_gpu_are_answered_like_all_others() -> None:
    launch = '(import "fabricbios_gpu_v1" "launch" (func $launch (param f32 f64 i32 i64) (result i64)))'
    run = "(i32.wrap_i64 (call $launch (f32.const 1) (f64.const 2) (i32.const 3) (i64.const 4)))"
    assert run_tasklet(tasklet(run, imports=launch)).returned == abi.UNSUPPORTED


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1))
def test_values_arrive_whole_and_answers_too(wide: int, narrow: int) -> None:
    class Mirror(HostCalls):
        def out_of_memory(self, wanted: int) -> int:
            return wanted  # as an i32: its low half

        def fbmu_read(self, slot: int, offset: int, dst: int, length: int) -> int:
            low = 0xFFFF_FFFF
            assert (slot & low, offset % 2**64, dst & low, length & low) == (narrow, wide, 7, narrow)
            return narrow

    call = f"(call $fbmu_read (i32.const {narrow}) (i64.const {wide}) (i32.const 7) (i32.const {narrow}))"
    engine = new_engine()
    for run, expected in ((call, narrow), (f"(call $out_of_memory (i64.const {wide}))", wide % 2**32)):
        instance = opened(engine, tasklet(run), Mirror(b"", b"", FUEL))
        assert instance.call(abi.RUN_EXPORT, 0, 0) % 2**32 == expected
        instance.close()
    engine.close()


# --- one guest after the other --------------------------------------------------------------------------------------

PAGES = 64
"""Sixteen times what is kept resident of a memory, so both ways of emptying it are tried."""
FILL = f"""(drop (memory.grow (i32.const {PAGES - 1})))
    (memory.fill (i32.const 0) (i32.const 0xAA) (i32.const {PAGES * PAGE}))
    (table.fill $t (i32.const 0) (ref.func $f) (i32.const 1000)) (i32.const 0)"""
SUM = f"""(drop (memory.grow (i32.const {PAGES - 1})))
    (loop (local.set $s (i64.or (local.get $s) (i64.load (local.get $i))))
        (br_if 0 (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 8))) (i32.const {PAGES * PAGE}))))
    (local.set $i (i32.const 0))
    (block (loop (br_if 1 (i32.eqz (ref.is_null (table.get $t (local.get $i)))))
        (br_if 0 (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 1000)))))
    (i32.or (i64.ne (local.get $s) (i64.const 0)) (i32.ne (local.get $i) (i32.const 1000)))"""
TOP = "(table $t 1000 funcref) (func $f) (elem declare func $f)"


@pytest.mark.parametrize("end", ["", "unreachable", "(loop (br 0))"])
def test_a_guest_finds_nothing_of_the_one_before(end: str) -> None:
    """Its memory and table are places of a pool, used again; the next guest is another module or the same."""
    fill = tasklet(FILL.replace("(i32.const 0)", f"{end} (i32.const 0)") if end else FILL, top=TOP)
    look = tasklet(SUM, top=TOP, run_locals="(local $i i32) (local $s i64)")
    runtime = Runtime(SystemClock(), new_engine())
    limits = {"fuel": 10**8, "memory_bytes": PAGES * PAGE, "deadline_s": 0.5}
    for module in (fill, look, fill, fill, look):
        outcome = runtime.run(runtime.load(module), spec_of(module, **limits))
        if module is look:
            assert (outcome.code, outcome.returned) == ("finished", 0)
    runtime.close()


def test_a_host_call_sees_memory_as_it_is_after_it_grew() -> None:
    run = f"""(drop (call $fbmu_read (i32.const 0) (i64.const 0) (i32.const {PAGE - 8}) (i32.const 8)))
        (drop (memory.grow (i32.const 100)))
        (i32.store (i32.const {50 * PAGE}) (i32.const 0x01020304))
        (drop (call $fbmu_write (i32.const 0) (i64.const 4) (i32.const {50 * PAGE}) (i32.const 4)))
        (drop (call $fbmu_read (i32.const 0) (i64.const 0) (i32.const {100 * PAGE}) (i32.const 8)))
        (drop (call $output_write (i32.const {100 * PAGE}) (i32.const 8)))
        (i32.const 0)"""
    outcome = run_tasklet(tasklet(run), memory_leases=(MemoryLease(8, 60.0),))
    assert (outcome.code, outcome.output) == ("finished", b"\0\0\0\0\4\3\2\1")


def test_a_closed_instance_gives_no_way_to_what_was_its() -> None:
    engine = new_engine()
    instance = opened(engine, tasklet())
    assert instance.holds(0, 8)
    instance.close()
    for act in (
        instance.memory_bytes,
        instance.fuel_left,
        lambda: instance.pay(1),
        lambda: instance.holds(0, 1),
        lambda: instance.read(0, 1),
        lambda: instance.write(0, b"x"),
        lambda: instance.call(abi.FINALIZE_EXPORT),
    ):
        with pytest.raises((ctypes.ArgumentError, AssertionError, ValueError)):
            act()
    engine.close()


def test_callbacks_live_as_long_as_what_is_linked() -> None:
    """Nothing of Python's may be collected that compiled code still calls."""
    engine = new_engine()
    read = "(call $fbmu_read (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0))"
    compiled = engine.compile(tasklet(f"(drop (call $clock_ns)) {read}"))
    for _ in range(20):
        instance = engine.open(compiled, HostCalls(b"", b"", FUEL), fuel=FUEL, memory_bytes=PAGE, deadline_s=30)
        gc.collect()
        assert instance.call(abi.RUN_EXPORT, 0, 0) == abi.UNSUPPORTED
        instance.close()
    engine.close()


def run_without_time(engine: Engine, compiled: Compiled) -> None:
    host = HostCalls(b"", b"", 10 * FUEL)
    guest = engine.open(compiled, host, fuel=10 * FUEL, memory_bytes=8 * 1024 * 1024, deadline_s=0)
    try:
        guest.call(abi.RUN_EXPORT, 2, 0)
    finally:
        guest.close()


def test_a_deadline_that_passes_while_the_instance_is_made_ends_it_too() -> None:
    engine = new_engine()
    compiled = engine.compile(bytes(tasklet("(loop (br 0)) (i32.const 0)")))
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # so that the deadline's thread gets its turn anywhere
    try:
        for _ in range(300):
            with pytest.raises(StoppedError) as stopped:
                run_without_time(engine, compiled)
            assert stopped.value.reason == "deadline"
    finally:
        sys.setswitchinterval(before)
        engine.close()


def test_two_engines_do_not_know_of_each_other() -> None:
    engines = [new_engine() for _ in range(3)]
    module = tasklet("(i32.add (i32.load (i32.const 0)) (i32.const 5))")
    instances = [opened(engine, module) for engine in engines]
    assert [instance.call(abi.RUN_EXPORT, 0, 0) for instance in instances] == [5, 5, 5]
    for instance, engine in zip(instances, engines, strict=True):
        instance.close()
        engine.close()


# --- the pool's bounds are typed refusals ---------------------------------------------------------------------------


def test_a_module_with_more_globals_than_an_instance_holds_is_refused() -> None:
    bytes_of_a_global = 16
    count = engine_config.INSTANCE_BYTES_MAX // bytes_of_a_global + 1
    assert "exceeds the configured maximum of" in refusal(tasklet(imports="", top="(global i32 (i32.const 0))" * count))


def test_every_known_import_is_linked() -> None:
    assert run_tasklet(tasklet(imports=import_lines())).code == "finished"


def test_the_digest_of_the_configuration_is_the_same_in_another_process_and_names_the_library() -> None:
    first = engine_config.digest()
    assert first == engine_config.digest()
    assert len(first) == 64
