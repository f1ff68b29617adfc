"""How a run goes and how it ends: docs/reference/tasklet-abi.md, sections 1, 2, 6, 7 and 8."""

from __future__ import annotations

import hashlib
import struct
import subprocess
import sys
import threading

import msgspec
import pytest
import wasmtime
from call_layers import new_engine
from tasklets import context_of, run_tasklet, spec_of, tasklet, text_at

import grafos_cell.runtime as runtime_module
from grafos_cell import abi
from grafos_cell.hostcalls import HostCalls
from grafos_cell.run import MemoryLease, RunOutcome, RunSpec
from grafos_cell.runtime import Runtime, run_module
from grafos_cell.traps import Watchdog
from grafos_core.clock import SystemClock
from grafos_core.errors import GrafosError

pytestmark = pytest.mark.usefixtures("call_layer")
PAGE = abi.PAGE_BYTES
FOR_EVER = "(loop (br 0)) (i32.const 0)"
PAGES_OF_32_MIB = 512


def log(offset: int) -> str:
    """Logs the byte at this offset."""
    return f"(drop (call $log_write (i32.const {offset}) (i32.const 1)))"


def test_leased_memory_that_the_cell_does_not_have_is_an_end_of_the_run_and_not_of_the_worker() -> None:
    runtime, module = Runtime(SystemClock(), new_engine()), tasklet("(i32.const 0)")
    loaded = runtime.load(module)
    outcome = runtime.run(loaded, spec_of(module, memory_leases=(MemoryLease(1 << 62, 60.0),)))
    assert (outcome.code, outcome.hook) == ("placement_failed", "load")
    assert f"{1 << 62} bytes" in outcome.text
    assert runtime.run(loaded, spec_of(module)).is_finished
    runtime.close()


# --- hooks ----------------------------------------------------------------------------------------------------------


def test_the_hooks_are_called_once_in_order() -> None:
    module = tasklet(f"{log(1)} (i32.const 0)", init=log(0), finalize=log(2), top=text_at(0, "irf"))
    assert run_tasklet(module).log == "i\nr\nf"


def test_a_finished_run_says_so() -> None:
    outcome = run_tasklet(tasklet())
    assert (outcome.code, outcome.text, outcome.returned, outcome.hook) == ("finished", "", 0, "finalize")
    assert outcome.is_finished
    assert outcome.error() is None


@pytest.mark.parametrize("returned", [1, 2, 2**31 - 1, -1, -(2**31)])
def test_any_other_answer_than_zero_is_a_program_error(returned: int) -> None:
    outcome = run_tasklet(tasklet(f"(i32.const {returned})"))
    assert (outcome.code, outcome.returned, outcome.hook) == ("program_error", returned, "run")
    assert outcome.text == f"returned {returned} without a text"


def test_finalize_runs_after_a_program_error_too() -> None:
    outcome = run_tasklet(tasklet("(i32.const 3)", finalize=log(0), top=text_at(0, "f")))
    assert (outcome.code, outcome.log) == ("program_error", "f")


def test_finalize_may_still_write_and_even_fail() -> None:
    finalize = """(drop (call $output_write (i32.const 0) (i32.const 1)))
        (drop (call $response_write (i32.const 0) (i32.const 1)))
        (drop (call $fail (i32.const 0) (i32.const 1)))"""
    outcome = run_tasklet(tasklet("(i32.const 3)", finalize=finalize, top=text_at(0, "7")))
    assert (outcome.text, outcome.response, outcome.output) == ("7", b"7", b"7")


@pytest.mark.parametrize(
    ("bodies", "hook", "lines"),
    [
        ({"init": f"{log(0)} unreachable", "run": "unreachable", "finalize": log(2)}, "init", "i"),
        ({"init": log(0), "run": f"{log(1)} unreachable", "finalize": log(2)}, "run", "i\nr"),
        ({"init": log(0), "run": "(i32.const 0)", "finalize": f"{log(2)} unreachable"}, "finalize", "i\nf"),
    ],
)
def test_after_a_trap_no_further_hook_is_called(bodies: dict[str, str], hook: str, lines: str) -> None:
    outcome = run_tasklet(tasklet(**bodies, top=text_at(0, "irf")))
    assert (outcome.code, outcome.hook, outcome.log) == ("trapped", hook, lines)


def test_a_trap_in_finalize_changes_nothing_about_a_program_error() -> None:
    outcome = run_tasklet(tasklet("(i32.const 4)", finalize="unreachable"))
    assert (outcome.code, outcome.returned, outcome.hook) == ("program_error", 4, "run")


def test_what_was_written_is_kept_after_a_program_error_and_dropped_after_a_trap() -> None:
    write = """(drop (call $response_write (i32.const 0) (i32.const 1)))
        (drop (call $output_write (i32.const 0) (i32.const 1)))"""
    kept = run_tasklet(tasklet(f"{write} (i32.const 1)", top=text_at(0, "7")))
    dropped = run_tasklet(tasklet(f"{write} {log(0)} unreachable", top=text_at(0, "7")))
    assert (kept.response, kept.output) == (b"7", b"7")
    assert (dropped.response, dropped.output, dropped.log) == (b"", b"", "7")


def test_a_program_error_without_a_response_has_none() -> None:
    assert run_tasklet(tasklet("(i32.const 1)")).response == b""


def test_nothing_is_shared_between_two_runs_of_a_module() -> None:
    run = """(global.set $g (i32.add (global.get $g) (i32.const 1)))
        (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1)))
        (i32.add (global.get $g) (i32.load (i32.const 0)))"""
    module = tasklet(run, top="(global $g (mut i32) (i32.const 0))")
    runtime = Runtime(SystemClock(), new_engine())
    loaded = runtime.load(module)
    assert [runtime.run(loaded, spec_of(module)).returned for _ in range(3)] == [2, 2, 2]
    runtime.close()


# --- fuel and deadline ----------------------------------------------------------------------------------------------


def test_a_loop_for_ever_ends_when_its_fuel_is_used_up() -> None:
    outcome = run_tasklet(tasklet(FOR_EVER))
    assert (outcome.code, outcome.fuel_used, outcome.hook) == ("fuel_exhausted", abi.FUEL_DEFAULT, "run")
    assert str(abi.FUEL_DEFAULT) in outcome.text


@pytest.mark.parametrize("hook", ["init", "finalize"])
def test_fuel_is_for_all_hooks_together(hook: str) -> None:
    spend = "(memory.fill (i32.const 0) (i32.const 0) (i32.const 60000))"
    module = tasklet(f"{spend} (i32.const 0)", **{hook: spend})
    assert run_tasklet(module, fuel=100_000).code == "fuel_exhausted"
    assert run_tasklet(module, fuel=130_000).code == "finished"


@pytest.mark.parametrize(
    ("code", "cost"),
    [
        ("nop", 0),
        ("(block)", 0),
        ("(i32.const 1) drop", 1),
        ("(drop (i32.add (i32.const 1) (i32.const 2)))", 3),
        ("(call $nothing)", 2),
        ("(memory.fill (i32.const 0) (i32.const 0) (i32.const 1000))", 1004),
        ("(memory.copy (i32.const 0) (i32.const 5) (i32.const 1000))", 1004),
        ("(drop (memory.grow (i32.const 7)))", 9),
        ("(drop (memory.grow (i32.const 70000)))", 2),
        ("(table.fill (i32.const 0) (ref.null func) (i32.const 10))", 14),
    ],
)
def test_instructions_cost_what_the_page_says(code: str, cost: int) -> None:
    top = "(func $nothing) (table 10 funcref)"
    with_code = run_tasklet(tasklet(f"{code} (i32.const 0)", top=top, memory="1"))
    without = run_tasklet(tasklet("(i32.const 0)", top=top, memory="1"))
    assert with_code.fuel_used - without.fuel_used == cost


def test_bulk_instructions_are_no_way_around_fuel() -> None:
    run = f"(loop (memory.fill (i32.const 0) (i32.const 1) (i32.const {30 * 1024 * 1024})) (br 0)) (i32.const 0)"
    assert run_tasklet(tasklet(run, memory="480")).code == "fuel_exhausted"


def test_a_loop_with_all_the_fuel_there_is_ends_at_the_deadline() -> None:
    outcome = run_tasklet(tasklet(FOR_EVER), fuel=abi.FUEL_MAX, deadline_s=0.05)
    assert (outcome.code, outcome.hook) == ("deadline_exceeded", "run")
    assert "0.05 s" in outcome.text


def test_a_loop_of_host_calls_ends_at_the_deadline() -> None:
    run = "(loop (drop (call $clock_ns)) (br 0)) (i32.const 0)"
    assert run_tasklet(tasklet(run), fuel=abi.FUEL_MAX, deadline_s=0.05).code == "deadline_exceeded"


def test_constants_of_globals_are_free_and_what_computes_is_not() -> None:
    plain, computed = "(global i32 (i32.const 1))", "(global i32 (i32.add (i32.const 1) (i32.const 2)))"
    nothing = run_tasklet(tasklet()).fuel_used
    assert run_tasklet(tasklet(top=plain * 50)).fuel_used == nothing
    assert run_tasklet(tasklet(top=computed * 50)).fuel_used >= nothing + 150


def test_a_deep_recursion_ends_at_the_deadline_or_in_a_full_stack() -> None:
    module = tasklet("(call $down) (i32.const 0)", top="(func $down (call $down))")
    outcome = run_tasklet(module, fuel=abi.FUEL_MAX)
    assert outcome.code == "trapped"
    assert "call stack is full" in outcome.text


def test_a_deadline_that_passed_does_not_strike_the_next_run() -> None:
    module, quick = tasklet(FOR_EVER), tasklet("(i32.const 0)")
    runtime = Runtime(SystemClock(), new_engine())
    for _ in range(3):
        slow_end = runtime.run(runtime.load(module), spec_of(module, fuel=abi.FUEL_MAX, deadline_s=0.01)).code
        quick_end = runtime.run(runtime.load(quick), spec_of(quick)).code
        assert (slow_end, quick_end) == ("deadline_exceeded", "finished")
    runtime.close()


def test_the_watchdog_barks_once_for_the_earliest_deadline_and_not_after_disarming() -> None:
    barked = threading.Semaphore(0)
    dog = Watchdog(barked.release)
    dog.arm(60)
    dog.disarm()
    dog.arm(0.01)
    assert barked.acquire(timeout=60)
    assert not barked.acquire(timeout=0.05)
    dog.close()
    dog.close()


# --- memory ---------------------------------------------------------------------------------------------------------


def grow(pages: int) -> str:
    return f"(memory.grow (i32.const {pages}))"


def test_memory_grows_to_its_limit_and_not_further() -> None:
    module = tasklet(f"(drop {grow(PAGES_OF_32_MIB - 1)}) {grow(1)}")
    outcome = run_tasklet(module)
    assert outcome.returned == -1
    assert outcome.memory_bytes == abi.MEMORY_BYTES_DEFAULT


def test_a_program_that_was_refused_memory_may_go_on() -> None:
    assert run_tasklet(tasklet(f"(drop {grow(100_000)}) (i32.const 0)")).code == "finished"


def test_a_limit_counts_in_whole_pages() -> None:
    assert run_tasklet(tasklet(grow(1)), memory_bytes=2 * PAGE - 1).returned == -1
    assert run_tasklet(tasklet(grow(1)), memory_bytes=2 * PAGE).returned == 1


def test_a_minimum_over_the_limit_ends_the_run_before_it_starts() -> None:
    outcome = run_tasklet(tasklet(memory="3"), memory_bytes=2 * PAGE)
    assert (outcome.code, outcome.hook, outcome.fuel_used) == ("memory_exceeded", "load", 0)


def test_a_maximum_over_the_limit_has_no_effect() -> None:
    assert run_tasklet(tasklet(grow(2), memory="1 65536"), memory_bytes=2 * PAGE).returned == -1


def test_a_program_that_gives_up_for_want_of_memory_says_so() -> None:
    give_up = f"(drop {grow(100_000)}) (drop (call $out_of_memory (i64.const 6553600000)))"
    for end in ("unreachable", "(i32.const 5)"):
        outcome = run_tasklet(tasklet(f"{give_up} {end}"))
        assert outcome.code == "memory_exceeded"
        assert "wanted 6553600000 bytes more" in outcome.text


def test_a_program_that_managed_without_the_memory_is_done() -> None:
    assert run_tasklet(tasklet("(call $out_of_memory (i64.const 1))")).code == "finished"


def test_a_trap_with_full_memory_is_for_want_of_memory() -> None:
    outcome = run_tasklet(tasklet(f"(drop {grow(1)}) unreachable"), memory_bytes=2 * PAGE)
    assert outcome.code == "memory_exceeded"
    outcome = run_tasklet(tasklet(f"(drop {grow(1)}) unreachable"), memory_bytes=3 * PAGE)
    assert outcome.code == "trapped"
    assert f"{2 * PAGE} of {3 * PAGE} bytes" in outcome.text


def test_a_trap_at_the_module_s_own_maximum_is_a_trap() -> None:
    """A higher limit would not have helped."""
    assert run_tasklet(tasklet("unreachable", memory="2 2"), memory_bytes=2 * PAGE).code == "trapped"


def test_tables_have_a_limit() -> None:
    run = "(table.grow $t (ref.null func) (i32.const {}))"
    top = "(table $t 0 funcref)"
    assert run_tasklet(tasklet(run.format(abi.TABLE_ELEMENTS_MAX), top=top)).returned == 0
    assert run_tasklet(tasklet(run.format(abi.TABLE_ELEMENTS_MAX + 1), top=top)).returned == -1


# --- traps ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("unreachable", "executed `unreachable`"),
        ("(i32.load (i32.const 65536))", "memory out of bounds"),
        ("(i32.load (i32.const -1))", "memory out of bounds"),
        ("(i32.div_s (i32.const 1) (i32.const 0))", "divided an integer by zero"),
        ("(i32.div_s (i32.const -2147483648) (i32.const -1))", "division overflowed"),
        ("(i32.trunc_f32_s (f32.const nan))", "no integer can hold"),
        ("(call_indirect (result i32) (i32.const 5))", "table out of bounds"),
        ("(call_indirect (result i32) (i32.const 0))", "empty table entry"),
        ("(call_indirect (result i32) (i32.const 1))", "another type"),
    ],
)
def test_a_trap_is_named(code: str, why: str) -> None:
    outcome = run_tasklet(tasklet(code, top="(func $f) (table 2 funcref) (elem (i32.const 1) $f)"))
    assert outcome.code == "trapped"
    assert why in outcome.text
    assert "in run" in outcome.text


def test_data_outside_of_memory_is_a_trap_at_the_start() -> None:
    outcome = run_tasklet(tasklet(top=text_at(PAGE, "x")))
    assert (outcome.code, outcome.hook) == ("trapped", "load")


# --- modules that cannot run ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"no module", tasklet()[:-3], wasmtime.wat2wasm("(module)")])
def test_what_is_no_module_of_the_profile_is_not_run(data: bytes) -> None:
    assert run_tasklet(data).code == "module_invalid"


def test_a_module_with_refused_code_is_not_run() -> None:
    outcome = run_tasklet(tasklet("(i8x16.extract_lane_s 0 (i8x16.splat (i32.const 1)))"))
    assert outcome.code == "module_invalid"
    assert "SIMD" in outcome.text


def test_a_module_other_than_the_context_names_is_not_run() -> None:
    spec = spec_of(tasklet("(i32.const 1)"))
    with pytest.raises(GrafosError) as refused:
        run_module(tasklet(), spec, SystemClock())
    assert refused.value.code == "blob_mismatch"


@pytest.mark.parametrize(
    "change",
    [
        {"fuel": 0},
        {"fuel": abi.FUEL_MAX + 1},
        {"memory_bytes": PAGE - 1},
        {"memory_bytes": abi.MEMORY_BYTES_MAX + 1},
        {"deadline_s": 0.0},
        {"deadline_s": float("nan")},
        {"deadline_s": abi.DEADLINE_S_MAX + 1},
        {"input": bytes(abi.INPUT_BYTES_MAX + 1)},
        {"memory_leases": (MemoryLease(1, 1.0),) * (abi.MEMORY_LEASES_MAX + 1)},
        {"memory_leases": (MemoryLease(0, 1.0),)},
    ],
)
def test_a_run_outside_the_limits_is_refused(change: dict[str, object]) -> None:
    spec = msgspec.structs.replace(spec_of(tasklet()), **change)
    with pytest.raises(GrafosError) as refused:
        run_module(tasklet(), spec, SystemClock())
    assert refused.value.code == "limit_exceeded"


# --- the same everywhere --------------------------------------------------------------------------------------------


def repeatable(outcome: RunOutcome) -> RunOutcome:
    return msgspec.structs.replace(outcome, wall_s=0.0)


BUSY = """
    (drop (call $buffer_read (local.get $handle) (i32.const 0) (i32.const 0) (local.get $length)))
    (loop
        (local.set $x (i32.add (i32.mul (local.get $x) (i32.const 1103515245)) (i32.load8_u (local.get $i))))
        (i32.store (i32.const 1000) (local.get $x))
        (drop (call $output_write (i32.const 1000) (i32.const 4)))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if 0 (i32.lt_u (local.get $i) (local.get $length))))
    (i64.store (i32.const 1000) (call $clock_ns))
    (call $output_write (i32.const 1000) (i32.const 8))
"""


def test_the_same_run_gives_the_same_answer_and_costs_the_same() -> None:
    module = tasklet(BUSY, run_locals="(local $x i32) (local $i i32)")
    outcomes = [repeatable(run_tasklet(module, b"some input of a run")) for _ in range(3)]
    assert outcomes[0].code == "finished"
    assert outcomes[0] == outcomes[1] == outcomes[2]


def test_the_same_run_fails_the_same_way() -> None:
    module = tasklet(BUSY + "drop unreachable", run_locals="(local $x i32) (local $i i32)")
    assert repeatable(run_tasklet(module, b"ab")) == repeatable(run_tasklet(module, b"ab"))


def test_a_nan_has_the_same_bits_wherever_it_comes_from() -> None:
    run = """(f64.store (i32.const 0) (f64.div (f64.const 0) (f64.const 0)))
        (f64.store (i32.const 8) (f64.add (f64.const -nan:0x123) (f64.const 1)))
        (call $output_write (i32.const 0) (i32.const 16))"""
    assert struct.unpack("<QQ", run_tasklet(tasklet(run)).output) == (0x7FF8000000000000, 0x7FF8000000000000)


# --- the engine -----------------------------------------------------------------------------------------------------


def test_the_configuration_does_not_abort_the_process() -> None:
    """Some combinations of switches make the library end the whole process, so this is tried in another one."""
    code = "from grafos_cell.engine import Engine; Engine().close(); print('alive')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "alive\n")


class Broken(HostCalls):
    """Host calls with a bug."""

    def __init__(self, fault: BaseException) -> None:
        super().__init__(b"", b"", 1000)
        self._fault = fault

    def clock_ns(self) -> int:
        raise self._fault


@pytest.mark.parametrize("fault", [RuntimeError("bug"), KeyboardInterrupt(), SystemExit(3)])
def test_a_fault_in_a_host_call_stops_the_guest_and_comes_out_once(fault: BaseException) -> None:
    """The binding keeps the last exception of a host function in a module global; ours never get that far."""
    engine = new_engine()
    compiled = engine.compile(tasklet("(loop (drop (call $clock_ns)) (br 0)) (i32.const 0)"))
    instance = engine.open(compiled, Broken(fault), fuel=10**9, memory_bytes=2 * PAGE, deadline_s=30)
    with pytest.raises(type(fault)) as raised:
        instance.call(abi.RUN_EXPORT, 0, 0)
    assert raised.value is fault
    assert wasmtime._func.LAST_EXCEPTION is None
    instance.close()
    instance.close()
    engine.close()


def test_a_process_runs_one_guest_at_a_time() -> None:
    engine = new_engine()
    compiled = engine.compile(tasklet())
    host = HostCalls(b"", b"", 1000)
    instance = engine.open(compiled, host, fuel=1000, memory_bytes=PAGE, deadline_s=30)
    with pytest.raises(AssertionError):
        engine.open(compiled, host, fuel=1000, memory_bytes=PAGE, deadline_s=30)
    instance.close()
    engine.open(compiled, host, fuel=1000, memory_bytes=PAGE, deadline_s=30).close()
    engine.close()


def test_a_runtime_keeps_a_bounded_number_of_modules() -> None:
    runtime = Runtime(SystemClock(), new_engine())
    modules = [tasklet(f"(i32.const {number})") for number in range(runtime_module.MODULES_KEPT_MAX + 1)]
    digests = [runtime.load(module).facts.sha256 for module in modules]
    assert runtime.find(digests[0]) is None
    assert runtime.find(digests[1]) is runtime.load(modules[1])
    runtime.load(tasklet("(i32.const 1000)"))
    assert runtime.find(digests[1]) is not None  # it was used lately
    assert runtime.find(digests[2]) is None
    runtime.close()


def test_a_spec_and_an_outcome_survive_the_wire() -> None:
    module = tasklet()
    spec = RunSpec(context_of(module), None, memory_leases=(MemoryLease(5, 1.5),))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(spec), type=RunSpec) == spec
    assert spec.context.module_sha256 == hashlib.sha256(module).hexdigest()
    outcome = run_tasklet(module)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(outcome), type=RunOutcome) == outcome
