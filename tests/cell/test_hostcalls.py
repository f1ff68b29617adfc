"""What each import does: docs/reference/tasklet-abi.md, sections 3 to 5. A probe returns what the call answered."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tasklets import context_of, run_tasklet, tasklet, text_at

from grafos_cell import abi
from grafos_cell.hostcalls import HostCalls, is_json, plain_text
from grafos_cell.run import MemoryLease, RunOutcome

pytestmark = pytest.mark.usefixtures("call_layer")
PAGE = abi.PAGE_BYTES
LEASE = MemoryLease(1000, 60.0)


def probe(run: str, data: bytes | None = b"", top: str = "", **changes: Any) -> RunOutcome:
    return run_tasklet(tasklet(run, top=top), data, **changes)


def answer(run: str, data: bytes | None = b"", top: str = "", **changes: Any) -> int | None:
    return probe(run, data, top, **changes).returned


def narrow(call: str) -> str:
    return f"(i32.wrap_i64 {call})"


# --- buffers and context --------------------------------------------------------------------------------------------


def test_the_input_is_read_through_its_handle() -> None:
    outcome = probe(
        """(drop (call $buffer_read (local.get $handle) (i32.const 0) (i32.const 10) (local.get $length)))
        (drop (call $output_write (i32.const 10) (local.get $length))) (i32.const 0)""",
        b"some input",
    )
    assert outcome.output == b"some input"


def test_the_context_is_the_documented_json() -> None:
    module = tasklet(
        init="""(drop (call $buffer_read (local.get $handle) (i32.const 0) (i32.const 0) (local.get $length)))
        (drop (call $response_write (i32.const 0) (local.get $length)))"""
    )
    context = context_of(module)
    expected = (
        f'{{"provider":"local","cell_id":"local-7d2x0c","region":"here","run_id":"{context.run_id}",'
        f'"tasklet":"probe","module_sha256":"{context.module_sha256}"}}'
    )
    assert run_tasklet(module).response.decode() == expected


def test_an_input_may_be_the_context_itself() -> None:
    outcome = probe(
        """(drop (call $buffer_read (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 9999)))
        (drop (call $output_write (i32.const 0) (local.get $length))) (i32.const 0)""",
        None,
    )
    assert json.loads(outcome.output)["tasklet"] == "probe"


def test_the_handles_are_one_and_two() -> None:
    module = tasklet("(local.get $handle)", init="(drop (call $log_write (i32.const 0) (local.get $handle)))")
    outcome = run_tasklet(module)
    assert (len(outcome.log), outcome.returned) == (abi.CONTEXT_HANDLE, abi.INPUT_HANDLE)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((2, 0, 0, 100), 5),  # shorter than asked
        ((2, 3, 0, 100), 2),
        ((2, 0, 0, 3), 3),
        ((2, 0, 0, 0), 0),
        ((2, 5, 0, 100), 0),  # the end
        ((2, 6, 0, 100), abi.INVALID_ARGUMENT),
        ((2, -1, 0, 1), abi.INVALID_ARGUMENT),
        ((0, 0, 0, 1), abi.INVALID_ARGUMENT),
        ((3, 0, 0, 1), abi.INVALID_ARGUMENT),
        ((-1, 0, 0, 1), abi.INVALID_ARGUMENT),
        ((2, 0, PAGE - 100, 100), 5),
        ((2, 0, PAGE, 0), 0),
        ((2, 0, PAGE - 99, 100), abi.INVALID_ARGUMENT),
        ((2, 0, PAGE + 1, 0), abi.INVALID_ARGUMENT),
        ((2, 0, -1, 1), abi.INVALID_ARGUMENT),
        ((2, 0, 0, -1), abi.INVALID_ARGUMENT),
        ((2, 0, -1, -1), abi.INVALID_ARGUMENT),
    ],
)
def test_reading_a_buffer_keeps_to_buffer_and_memory(arguments: tuple[int, ...], expected: int) -> None:
    constants = " ".join(f"(i32.const {value})" for value in arguments)
    assert answer(f"(call $buffer_read {constants})", b"input") == expected


def test_a_refused_read_moves_nothing() -> None:
    run = f"""(drop (call $buffer_read (i32.const 2) (i32.const 0) (i32.const {PAGE - 4}) (i32.const 5)))
        (i32.load (i32.const {PAGE - 4}))"""
    assert answer(run, b"input") == 0


@pytest.mark.parametrize("call", ["response_write", "output_write", "log_write", "fail"])
@pytest.mark.parametrize(("pointer", "length"), [(PAGE, 1), (PAGE - 1, 2), (-1, 1), (0, -1), (-1, -1), (1, PAGE)])
def test_what_a_guest_writes_must_lie_in_its_memory(call: str, pointer: int, length: int) -> None:
    run = f"(call ${call} (i32.const {pointer}) (i32.const {length}))"
    assert answer(run) == abi.INVALID_ARGUMENT


def test_memory_that_grew_counts() -> None:
    run = f"""(drop (memory.grow (i32.const 1)))
        (call $buffer_read (i32.const 2) (i32.const 0) (i32.const {2 * PAGE - 5}) (i32.const 5))"""
    assert answer(run, b"input") == 5


# --- response -------------------------------------------------------------------------------------------------------


def write_response(text: str | bytes) -> str:
    length = len(text.encode() if isinstance(text, str) else text)
    return f"(call $response_write (i32.const 0) (i32.const {length}))"


def test_a_response_is_kept_byte_for_byte() -> None:
    text = ' {"a" : [1, 2.50, "\\u00e9é"], "a": null}\n'
    assert probe(write_response(text), top=text_at(0, text)).response == text.encode()


def test_the_last_response_counts() -> None:
    outcome = probe(f"(drop {write_response('11')}) (call $response_write (i32.const 5) (i32.const 2))",
        top=text_at(0, "11") + text_at(5, "22"))  # fmt: skip
    assert outcome.response == b"22"


def test_a_finished_run_without_a_response_answers_null() -> None:
    outcome = probe("(i32.const 0)")
    assert (outcome.code, outcome.response) == ("finished", b"null")


@pytest.mark.parametrize("text", [b"", b"{", b"nope", b"1 2", b"\xef\xbb\xbf1", b'"\xff"', b"NaN", b"[1,]"])
def test_a_response_that_is_no_json_is_refused_and_ends_the_run(text: bytes) -> None:
    segment = text_at(0, text)
    assert answer(write_response(text), top=segment) == abi.INVALID_ARGUMENT
    outcome = probe(f"(drop {write_response(text)}) (i32.const 0)", top=segment)
    assert (outcome.code, outcome.response) == ("response_invalid", b"")


def test_a_refused_response_is_made_good_by_another() -> None:
    outcome = probe(f"(drop {write_response('{')}) (call $response_write (i32.const 1) (i32.const 1))",
        top=text_at(0, "{7"))  # fmt: skip
    assert (outcome.code, outcome.response) == ("finished", b"7")


def test_a_refused_response_leaves_the_earlier_one_to_a_program_error() -> None:
    outcome = probe(f"(drop {write_response('7')}) (call $response_write (i32.const 1) (i32.const 1))",
        top=text_at(0, "7{"))  # fmt: skip
    assert (outcome.code, outcome.response) == ("program_error", b"7")


def test_a_response_has_a_limit() -> None:
    over = f"(call $response_write (i32.const 0) (i32.const {abi.RESPONSE_BYTES_MAX + 1}))"
    module = tasklet(f"(drop {over}) (i32.const 0)", memory="17")
    assert run_tasklet(module).code == "output_too_large"
    assert run_tasklet(tasklet(over, memory="17")).returned == abi.CAPACITY_EXCEEDED


def test_a_response_may_fill_its_limit() -> None:
    run = f"""(memory.fill (i32.const 0) (i32.const 49) (i32.const {abi.RESPONSE_BYTES_MAX}))
        (memory.fill (i32.const 0) (i32.const 32) (i32.const {abi.RESPONSE_BYTES_MAX - 1}))
        (call $response_write (i32.const 0) (i32.const {abi.RESPONSE_BYTES_MAX}))"""
    outcome = run_tasklet(tasklet(run, memory="17"), fuel=10**8)
    assert (outcome.code, len(outcome.response)) == ("finished", abi.RESPONSE_BYTES_MAX)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[" * 64 + "]" * 64, True),
        ("[" * 65 + "]" * 65, False),
        ('{"a":[' * 32 + "1" + "]}" * 32, True),
        ('[{"a":' * 33 + "1" + "}]" * 33, False),
        ('"' + "[" * 1000 + '"', True),
        ("[" * 500_000, False),
        ("1" * 300, True),
        ("1" * 301, False),
        ('"' + "1" * 301 + '"', True),
        ("1e309", False),
        ("-1.5e-400", True),
        ('"\\ud800"', False),
        ('"\\ud83d\\ude00"', True),
        ('"' + '\\"' * 500_000, False),
        ("\\" * 100_000, False),
    ],
)
def test_json_has_a_depth_and_numbers_a_length(*, text: str, expected: bool) -> None:
    assert is_json(text.encode()) is expected


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(10**50), 10**50)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)


@given(st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20))
def test_whatever_a_json_writer_writes_is_json(value: Any) -> None:
    assert is_json(json.dumps(value, ensure_ascii=True).encode())


@given(st.binary(max_size=60))
def test_whatever_passes_as_json_is_read_by_another_reader(data: bytes) -> None:
    if is_json(data):
        json.loads(data)


# --- output ---------------------------------------------------------------------------------------------------------


def test_output_is_appended() -> None:
    outcome = probe(
        """(drop (call $output_write (i32.const 0) (i32.const 3)))
        (drop (call $output_write (i32.const 0) (i32.const 0)))
        (call $output_write (i32.const 1) (i32.const 2))""",
        top=text_at(0, b"\x00\xff\x01"),
    )
    assert outcome.output == b"\x00\xff\x01\xff\x01"


def test_output_may_fill_its_limit_and_not_pass_it() -> None:
    """Sixteen times half a megabyte is the limit."""
    half = f"(call $output_write (i32.const 0) (i32.const {abi.OUTPUT_BYTES_MAX // 16}))"
    full = "".join(f"(drop {half})" for _ in range(16))
    assert len(run_tasklet(tasklet(full + "(i32.const 0)", memory="9"), fuel=10**9).output) == abi.OUTPUT_BYTES_MAX
    one_more = "(call $output_write (i32.const 0) (i32.const 1))"
    assert run_tasklet(tasklet(full + one_more, memory="9"), fuel=10**9).returned == abi.CAPACITY_EXCEEDED
    outcome = run_tasklet(tasklet(f"{full} (drop {one_more}) (i32.const 0)", memory="9"), fuel=10**9)
    assert (outcome.code, outcome.output) == ("output_too_large", b"")


# --- log and texts --------------------------------------------------------------------------------------------------


def test_log_entries_are_lines() -> None:
    entry = "(drop (call $log_write (i32.const {}) (i32.const 3)))"
    outcome = probe(entry.format(0) + entry.format(3) + "(i32.const 0)", top=text_at(0, "onetwo"))
    assert (outcome.log, outcome.is_log_cut) == ("one\ntwo", False)


def test_a_log_entry_has_a_limit_and_the_run_goes_on() -> None:
    run = "(drop (call $log_write (i32.const 0) (i32.const {}))) (i32.const 0)"
    outcome = probe(run.format(abi.LOG_ENTRY_BYTES_MAX))
    assert (len(outcome.log), outcome.is_log_cut) == (abi.LOG_ENTRY_BYTES_MAX, False)
    outcome = probe(run.format(abi.LOG_ENTRY_BYTES_MAX + 1))
    assert (outcome.code, outcome.log, outcome.is_log_cut) == ("finished", "", True)


@pytest.mark.parametrize(("length", "entries"), [(0, 65536), (1, 32768), (4095, 16), (4096, 15)])
def test_the_log_has_a_limit_and_each_entry_counts_one_more(length: int, entries: int) -> None:
    """An endless loop of logging ends the log, not the memory of the cell."""
    run = f"""(loop (if (i32.eqz (call $log_write (i32.const 0) (i32.const {length})))
        (then (local.set $n (i32.add (local.get $n) (i32.const 1))) (br 1)))) (local.get $n)"""
    outcome = run_tasklet(tasklet(run, run_locals="(local $n i32)"), fuel=10**8)
    assert (outcome.returned, outcome.is_log_cut) == (entries, True)


def test_texts_cannot_drive_a_terminal() -> None:
    assert plain_text(b"a\tb\nc\r\x1b[2J\x00\x7f\xc2\x9b1\xff") == "a\tb\nc\ufffd\ufffd[2J\ufffd\ufffd\ufffd1\ufffd"


def test_a_program_error_has_the_text_of_fail() -> None:
    outcome = probe("(drop (call $fail (i32.const 0) (i32.const 9))) (i32.const 1)", top=text_at(0, "bad_input"))
    assert (outcome.code, outcome.text, outcome.returned) == ("program_error", "bad_input", 1)


def test_the_last_text_of_fail_counts_and_is_one_line() -> None:
    outcome = probe(
        "(drop (call $fail (i32.const 4) (i32.const 4))) (drop (call $fail (i32.const 0) (i32.const 3))) (i32.const 1)",
        top=text_at(0, "a\nb-----"),
    )
    assert outcome.text == "a b"


def test_of_a_long_text_of_fail_the_beginning_is_kept() -> None:
    run = """(memory.fill (i32.const 0) (i32.const 120) (i32.const 5000))
        (drop (call $fail (i32.const 0) (i32.const 5000))) (i32.const 1)"""
    assert probe(run).text == "x" * abi.FAIL_TEXT_BYTES_MAX


class WideGuest:
    """A guest with four gigabytes and all the fuel there is, which notes what is copied out of it."""

    def __init__(self) -> None:
        self.copied = 0
        self.fuel = abi.FUEL_MAX

    def holds(self, pointer: int, length: int) -> bool:
        return pointer + length <= abi.MEMORY_BYTES_MAX

    def read(self, pointer: int, length: int) -> bytes:
        assert self.holds(pointer, length)
        self.copied += length
        return bytes(min(length, abi.FAIL_TEXT_BYTES_MAX))

    def write(self, pointer: int, data: bytes | memoryview) -> None:
        raise AssertionError("nothing is written")

    def fuel_left(self) -> int:
        return self.fuel

    def pay(self, units: int) -> bool:
        self.fuel -= units
        return self.fuel >= 0

    def refuel(self, units: int) -> None:
        self.fuel += units


def test_a_long_text_of_fail_costs_its_length_and_no_memory_of_the_cell() -> None:
    host, guest = HostCalls(b"", b"", abi.FUEL_MAX), WideGuest()
    host.attach(guest)
    assert host.fail(0, -1) == abi.OK
    assert (guest.copied, abi.FUEL_MAX - guest.fuel) == (abi.FAIL_TEXT_BYTES_MAX, 2**32 - 1)


def test_a_text_of_fail_without_a_failure_is_not_used() -> None:
    assert probe("(call $fail (i32.const 0) (i32.const 4))", top=text_at(0, "oops")).code == "finished"


# --- clock and fuel -------------------------------------------------------------------------------------------------


def test_the_clock_begins_at_zero_and_shows_the_fuel_used() -> None:
    clock_and_fuel = "(i64.add (call $clock_ns) (call $fuel_remaining))"
    near = answer(narrow(clock_and_fuel), fuel=1000)
    assert near is not None
    assert 990 <= near <= 1000  # the two are read a few instructions apart
    first = answer(narrow("(call $clock_ns)"))
    assert first is not None
    assert 0 < first < 10


def test_two_readings_of_the_clock_are_never_equal() -> None:
    assert answer(narrow("(i64.sub (call $clock_ns) (call $clock_ns))")) == -1


def test_the_clock_is_the_same_in_every_run() -> None:
    module = tasklet(f"(loop (br_if 0 (i64.lt_u (call $clock_ns) (i64.const 10000)))) {narrow('(call $clock_ns)')}")
    assert run_tasklet(module).returned == run_tasklet(module).returned


def test_moving_bytes_costs_a_unit_a_byte() -> None:
    """As `memory.copy` does; else host calls would be a way around fuel."""
    run = "(drop (call $output_write (i32.const 0) (i32.const {}))) (i32.const 0)"
    assert probe(run.format(1000)).fuel_used - probe(run.format(0)).fuel_used == 1000


def test_reading_costs_what_was_read_and_not_what_was_asked() -> None:
    run = "(drop (call $buffer_read (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 60000))) (i32.const 0)"
    assert probe(run, b"12345").fuel_used - probe(run, b"").fuel_used == 5


@pytest.mark.parametrize(
    "call",
    [
        "$buffer_read (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 60000)",
        "$output_write (i32.const 0) (i32.const 60000)",
        "$fail (i32.const 0) (i32.const 60000)",
        "$response_write (i32.const 0) (i32.const 60000)",
    ],
)
def test_a_move_without_enough_fuel_ends_the_run(call: str) -> None:
    outcome = probe(f"(drop (call {call})) (i32.const 0)", bytes(60000), fuel=50000)
    assert (outcome.code, outcome.fuel_used, outcome.output) == ("fuel_exhausted", 50000, b"")


def test_a_refused_call_costs_no_more_than_its_instructions() -> None:
    run = "(drop (call $output_write (i32.const 0) (i32.const {}))) (i32.const 0)"
    assert probe(run.format(PAGE + 1)).fuel_used == probe(run.format(0)).fuel_used


# --- leased memory --------------------------------------------------------------------------------------------------


def test_leased_memory_tells_its_size() -> None:
    assert answer(narrow("(call $fbmu_size (i32.const 0))"), memory_leases=(LEASE,)) == 1000


def test_leased_memory_is_zero_and_keeps_what_is_written() -> None:
    run = """(drop (call $fbmu_read (i32.const 0) (i64.const 0) (i32.const 100) (i32.const 4)))
        (if (i32.load (i32.const 100)) (then unreachable))
        (drop (call $fbmu_write (i32.const 0) (i64.const 990) (i32.const 0) (i32.const 10)))
        (drop (call $fbmu_read (i32.const 0) (i64.const 992) (i32.const 100) (i32.const 8)))
        (call $output_write (i32.const 100) (i32.const 8))"""
    assert probe(run, top=text_at(0, "0123456789"), memory_leases=(LEASE,)).output == b"23456789"


def test_each_lease_has_its_own_slot() -> None:
    run = """(drop (call $fbmu_write (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 4)))
        (drop (call $fbmu_read (i32.const 1) (i64.const 0) (i32.const 100) (i32.const 4)))
        (i32.load (i32.const 100))"""
    assert answer(run, top=text_at(0, "abcd"), memory_leases=(LEASE, LEASE)) == 0


def test_leased_memory_of_a_run_is_gone_with_it() -> None:
    run = """(drop (call $fbmu_read (i32.const 0) (i64.const 0) (i32.const 100) (i32.const 4)))
        (drop (call $fbmu_write (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 4)))
        (i32.load (i32.const 100))"""
    module = tasklet(run, top=text_at(0, "abcd"))
    assert [run_tasklet(module, memory_leases=(LEASE,)).returned for _ in range(2)] == [0, 0]


@pytest.mark.parametrize("call", ["fbmu_read", "fbmu_write"])
@pytest.mark.parametrize(
    ("slot", "offset", "pointer", "length", "expected"),
    [
        (0, 0, 0, 1000, 0),
        (0, 1000, 0, 0, 0),
        (0, 1, 0, 1000, abi.CAPACITY_EXCEEDED),
        (0, 1001, 0, 0, abi.CAPACITY_EXCEEDED),
        (0, -1, 0, 1, abi.CAPACITY_EXCEEDED),
        (0, -1, 0, 2, abi.CAPACITY_EXCEEDED),
        (0, 0, PAGE - 1, 2, abi.INVALID_ARGUMENT),
        (0, 0, -1, 1, abi.INVALID_ARGUMENT),
        (0, 0, 0, -1, abi.INVALID_ARGUMENT),
        (0, 5000, -1, 1, abi.INVALID_ARGUMENT),
        (1, 0, 0, 1, abi.UNSUPPORTED),
        (-1, 0, -1, 1, abi.UNSUPPORTED),
    ],
)
def test_leased_memory_keeps_to_region_and_guest(
    call: str, slot: int, offset: int, pointer: int, length: int, expected: int
) -> None:
    run = f"(call ${call} (i32.const {slot}) (i64.const {offset}) (i32.const {pointer}) (i32.const {length}))"
    assert answer(run, memory_leases=(LEASE,)) == expected


@pytest.mark.parametrize(
    "call",
    [
        narrow("(call $fbmu_size (i32.const 0))"),
        "(call $fbmu_read (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 1))",
        "(call $fbmu_write (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 1))",
    ],
)
def test_a_lease_that_ended_is_not_reached_any_more(call: str) -> None:
    assert answer(call, memory_leases=(MemoryLease(1000, 0.0),)) == abi.LEASE_EXPIRED


def test_a_lease_may_end_under_a_run() -> None:
    run = """(loop (br_if 0 (i32.eqz (call $fbmu_write (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 1)))))
        (call $fbmu_write (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 1))"""
    assert answer(run, fuel=10**12, memory_leases=(MemoryLease(8, 0.05),)) == abi.LEASE_EXPIRED


def test_without_a_lease_there_is_no_slot() -> None:
    assert answer(narrow("(call $fbmu_size (i32.const 0))")) == abi.UNSUPPORTED


def test_leased_memory_costs_a_unit_a_byte() -> None:
    run = "(call $fbmu_write (i32.const 0) (i64.const 0) (i32.const 0) (i32.const {}))"
    costs = [probe(run.format(length), memory_leases=(LEASE,)).fuel_used for length in (0, 1000)]
    assert costs[1] - costs[0] == 1000


# --- known, and not there yet ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "name"),
    [(module, name) for module in (abi.BLOCK_MODULE, abi.SERVICE_MODULE) for name in abi.IMPORTS[module]],
)
def test_block_and_services_answer_unsupported(module: str, name: str) -> None:
    signature = abi.IMPORTS[module][name]
    call = f"(call ${name} {' '.join(f'({kind}.const 0)' for kind in signature.params)})"
    assert answer(call if signature.results == ("i32",) else narrow(call)) == abi.UNSUPPORTED


@pytest.mark.parametrize(("result", "wrap"), [("i32", "{}"), ("i64", "(i32.wrap_i64 {})")])
def test_every_gpu_call_answers_unsupported(result: str, wrap: str) -> None:
    line = f'(import "fabricbios_gpu_v1" "launch" (func $launch (param i32 i64 f32 f64) (result {result})))'
    call = "(call $launch (i32.const 1) (i64.const 2) (f32.const 3) (f64.const 4))"
    assert run_tasklet(tasklet(wrap.format(call), imports=line)).returned == abi.UNSUPPORTED
