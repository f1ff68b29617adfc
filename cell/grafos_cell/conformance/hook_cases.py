"""Hooks, their order, handles, and each end that a run can come to: sections 2, 3 and 8 of the ABI page."""

from __future__ import annotations

from grafos_cell import abi
from grafos_cell.conformance.case import Case, Expected
from grafos_cell.conformance.wat import call, dropped, tasklet_text, text_at

_ENDLESS = "(loop (br 0)) (i32.const 0)"
_LETTERS = text_at(0, "irf7")
_LOG_I, _LOG_R, _LOG_F = (dropped("log_write", offset, 1) for offset in range(3))
_SEVEN = dropped("response_write", 3, 1) + dropped("output_write", 3, 1)
_COUNT = """(global.set $g (i32.add (global.get $g) (i32.const 1)))
    (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1)))
    (i32.add (global.get $g) (i32.load (i32.const 0)))"""
_TABLE = "(func $f) (table 2 funcref) (elem (i32.const 1) $f)"


def _hooks(name: str, rule: str, expected: Expected, **bodies: str) -> Case:
    return Case(name, rule, tasklet_text(**{"top": _LETTERS, **bodies}), expected)


def _trap(name: str, code: str, text: str) -> Case:
    return Case(f"trap-{name}", "8 trapped", tasklet_text(code, top=_TABLE), Expected("trapped", text, hook="run"))


def _returned(number: int) -> Case:
    expected = Expected("program_error", f"returned {number} without a text", hook="run", returned=number)
    return Case(f"returns-{number}", "2.2", tasklet_text(f"(i32.const {number})"), expected)


ORDER_CASES = (
    _hooks(
        "hooks-in-order", "2.1", Expected(log="i\nr\nf"), init=_LOG_I, run=f"{_LOG_R} (i32.const 0)", finalize=_LOG_F
    ),
    Case(
        "a-fresh-instance",
        "2.1",
        tasklet_text(_COUNT, top="(global $g (mut i32) (i32.const 0))"),
        Expected("program_error", returned=2),
    ),
    *(_returned(number) for number in (1, 2, 2**31 - 1, -1, -(2**31))),
    _hooks(
        "finalize-after-a-program-error",
        "2.3",
        Expected("program_error", hook="run", returned=3, response=b"7", output=b"7", log="f"),
        run="(i32.const 3)",
        finalize=_SEVEN + _LOG_F,
    ),
    _hooks(
        "trap-in-init",
        "2.4",
        Expected("trapped", "executed `unreachable`", hook="init", log="i"),
        init=f"{_LOG_I} unreachable",
        run=f"{_LOG_R} (i32.const 0)",
        finalize=_LOG_F,
    ),
    _hooks(
        "trap-in-run",
        "2.4",
        Expected("trapped", "executed `unreachable`", hook="run", log="i\nr"),
        init=_LOG_I,
        run=f"{_LOG_R} unreachable",
        finalize=_LOG_F,
    ),
    _hooks(
        "trap-in-finalize",
        "2.5",
        Expected("trapped", "executed `unreachable`", hook="finalize", returned=0, response=b"", output=b"", log="f"),
        run=f"{_SEVEN} (i32.const 0)",
        finalize=f"{_LOG_F} unreachable",
    ),
    _hooks(
        "trap-in-finalize-after-a-program-error",
        "2.5",
        Expected("program_error", hook="run", returned=4, response=b"7"),
        run=f"{_SEVEN} (i32.const 4)",
        finalize="unreachable",
    ),
    *(
        _hooks(
            f"endless-{hook}", "2.6", Expected("fuel_exhausted", hook=hook, fuel_used=abi.FUEL_DEFAULT), **{hook: body}
        )
        for hook, body in (("init", "(loop (br 0))"), ("run", _ENDLESS), ("finalize", "(loop (br 0))"))
    ),
)

_ECHO_CONTEXT = f"""(drop (call $buffer_read (local.get $handle) {" ".join(["(i32.const 0)"] * 2)} (local.get $length)))
    (drop (call $response_write (i32.const 0) (local.get $length)))"""
_ECHO_INPUT = """(drop (call $buffer_read (local.get $handle) (i32.const 0) (i32.const 10) (local.get $length)))
    (call $output_write (i32.const 10) (local.get $length))"""

HANDLE_CASES = (
    Case(
        "handle-0",
        "3 0",
        tasklet_text(call("buffer_read", 0, 0, 0, 1)),
        Expected("program_error", returned=abi.INVALID_ARGUMENT),
        input=b"x",
    ),
    Case(
        "context",
        "3 1",
        tasklet_text(init=_ECHO_CONTEXT),
        Expected(response=lambda spec: spec.context.to_json()),
    ),
    Case(
        "input", "3 2", tasklet_text(_ECHO_INPUT), Expected(output=b"some \x00input\xff"), input=b"some \x00input\xff"
    ),
    Case("input-empty", "3 2", tasklet_text("(local.get $length)"), Expected(returned=0)),
    Case(
        "input-is-the-context",
        "3",
        tasklet_text(_ECHO_INPUT),
        Expected(output=lambda spec: spec.context.to_json()),
        input=None,
    ),
    Case(
        "handles-in-every-hook",
        "3",
        tasklet_text(finalize=dropped("buffer_read", 2, 0, 0, 5) + dropped("log_write", 0, 5)),
        Expected(log="input"),
        input=b"input",
    ),
    Case(
        "handle-unknown",
        "3",
        tasklet_text(call("buffer_read", 3, 0, 0, 1)),
        Expected("program_error", returned=abi.INVALID_ARGUMENT),
    ),
)

END_CASES = (
    Case("finished", "8 finished", tasklet_text(), Expected(hook="finalize", returned=0)),
    Case(
        "program-error-with-a-text",
        "8 program_error",
        tasklet_text(dropped("fail", 0, 9) + "(i32.const 1)", top=text_at(0, "bad input")),
        Expected("program_error", "bad input", returned=1),
    ),
    Case(
        "fuel",
        "8 fuel_exhausted",
        tasklet_text(_ENDLESS),
        Expected("fuel_exhausted", "500000 units in run", fuel_used=abi.FUEL_DEFAULT, response=b"", output=b""),
    ),
    Case(
        "deadline",
        "8 deadline_exceeded",
        tasklet_text(_ENDLESS),
        Expected("deadline_exceeded", "deadline of 0.2 s", hook="run", response=b"", output=b""),
        fuel=abi.FUEL_MAX,
        deadline_s=0.2,
    ),
    Case(
        "deadline-in-host-calls",
        "8 deadline_exceeded",
        tasklet_text("(loop (drop (call $clock_ns)) (br 0)) (i32.const 0)"),
        Expected("deadline_exceeded", "deadline of 0.2 s", hook="run"),
        fuel=abi.FUEL_MAX,
        deadline_s=0.2,
    ),
    Case(
        "memory-given-up",
        "8 memory_exceeded",
        tasklet_text("(drop (call $out_of_memory (i64.const 65536000000))) (i32.const 5)"),
        Expected("memory_exceeded", "wanted 65536000000 bytes more", returned=5),
    ),
    Case(
        "response-not-json",
        "8 response_invalid",
        tasklet_text(dropped("response_write", 0, 1) + "(i32.const 0)", top=text_at(0, "{")),
        Expected("response_invalid", "not JSON", response=b""),
    ),
    Case(
        "output-over-its-limit",
        "8 output_too_large",
        tasklet_text(dropped("output_write", 0, abi.OUTPUT_BYTES_MAX + 1) + "(i32.const 0)", memory="129"),
        Expected("output_too_large", "response or output", output=b""),
        fuel=10**8,
    ),
    Case(
        "module-invalid",
        "8 module_invalid",
        lambda: b"\0asm",
        Expected("module_invalid", hook="load", fuel_used=0),
    ),
    _trap("unreachable", "unreachable", "executed `unreachable`"),
    _trap("memory-end", "(i32.load (i32.const 65533))", "memory out of bounds"),
    _trap("memory-far", "(i32.load8_u offset=4294967295 (i32.const -1))", "memory out of bounds"),
    _trap("memory-store", "(i64.store (i32.const 65529) (i64.const 1)) (i32.const 0)", "memory out of bounds"),
    _trap("division-by-zero", "(i32.div_s (i32.const 1) (i32.const 0))", "divided an integer by zero"),
    _trap("remainder-by-zero", "(i32.wrap_i64 (i64.rem_u (i64.const 1) (i64.const 0)))", "divided an integer by zero"),
    _trap("division-overflow", "(i32.div_s (i32.const -2147483648) (i32.const -1))", "division overflowed"),
    _trap("conversion-of-nan", "(i32.trunc_f32_s (f32.const nan))", "no integer can hold"),
    _trap("conversion-of-a-large-float", "(i32.trunc_f64_u (f64.const 1e20))", "overflowed"),
    _trap("call-outside-of-the-table", "(call_indirect (result i32) (i32.const 5))", "table out of bounds"),
    _trap("call-of-an-empty-entry", "(call_indirect (result i32) (i32.const 0))", "empty table entry"),
    _trap("call-as-another-type", "(call_indirect (result i32) (i32.const 1))", "another type"),
)

HOOK_CASES = (*ORDER_CASES, *HANDLE_CASES, *END_CASES)
