"""Modules made to harm: to hold the cell up, to fill its memory, to make it compile for ever, to get out."""

from __future__ import annotations

from grafos_cell import abi
from grafos_cell.conformance.case import Case, Expected
from grafos_cell.conformance.wat import bare_text, call, dropped, tasklet_text

_LOTS = 10**9
"""Of fuel: so much that something else ends the run first, and yet an end."""


def _endless(name: str, rule: str, body: str, **parts: str) -> Case:
    source = tasklet_text(f"(loop {body} (br 0)) (i32.const 0)", **parts)
    return Case(f"endless-{name}", rule, source, Expected("fuel_exhausted", hook="run", fuel_used=abi.FUEL_DEFAULT))


FUEL_ATTACKS = (
    _endless("memory-fill", "6", "(memory.fill (i32.const 0) (i32.const 1) (i32.const 30000000))", memory="480"),
    _endless("memory-copy", "6", "(memory.copy (i32.const 0) (i32.const 9) (i32.const 30000000))", memory="480"),
    _endless(
        "table-fill", "6", "(table.fill (i32.const 0) (ref.null func) (i32.const 60000))", top="(table 65536 funcref)"
    ),
    _endless("table-grow", "6", "(drop (table.grow (ref.null func) (i32.const 1)))", top="(table 0 funcref)"),
    _endless("memory-grow", "7", "(drop (memory.grow (i32.const 1)))"),
    _endless("memory-grow-refused", "7", "(drop (memory.grow (i32.const -1)))"),
    _endless("log", "10 log", dropped("log_write", 0, 1)),
    _endless("empty-log", "10 log", dropped("log_write", 0, 0)),
    _endless("output", "10 output", dropped("output_write", 0, 60_000)),
    _endless("empty-output", "10 output", dropped("output_write", 0, 0)),
    _endless("response", "10 response", dropped("response_write", 0, 1)),
    _endless("fail", "10 text of a program error", dropped("fail", 0, 60_000)),
    _endless("input", "4.2 buffer_read", dropped("buffer_read", 2, 0, 0, 60_000)),
    _endless(
        "indirect-calls",
        "6",
        "(call_indirect (i32.const 0))",
        top="(func $f) (table 1 funcref) (elem (i32.const 0) $f)",
    ),
    Case(
        "output-until-nothing-more-fits",
        "10 output",
        tasklet_text(f"(loop (br_if 0 (i32.eqz {call('output_write', 0, 65_536)}))) (i32.const 0)"),
        Expected("output_too_large", output=b""),
        fuel=_LOTS,
    ),
)

_DOWN = "(func $down (param i64 i64 i64 i64) (call $down (i64.const 1) (i64.const 2) (i64.const 3) (local.get 0)))"
_DOWN_CALL = "(call $down (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0)) (i32.const 0)"
_STACK_FULL = Expected("trapped", "call stack is full", hook="run")

STACK_ATTACKS = (
    Case("recursion-with-arguments", "10 call stack", tasklet_text(_DOWN_CALL, top=_DOWN), _STACK_FULL, fuel=_LOTS),
    Case(
        "recursion-through-a-table",
        "10 call stack",
        tasklet_text(
            "(call $down) (i32.const 0)",
            top="(table 1 funcref) (elem (i32.const 0) $down) (func $down (call_indirect (i32.const 0)))",
        ),
        _STACK_FULL,
        fuel=_LOTS,
    ),
    Case(
        "recursion-in-init",
        "10 call stack",
        tasklet_text(init="(call $down)", top="(func $down (call $down))"),
        Expected("trapped", "call stack is full", hook="init"),
        fuel=_LOTS,
    ),
    Case(
        "recursion-with-host-calls",
        "10 call stack",
        tasklet_text("(call $down) (i32.const 0)", top=f"(func $down {dropped('log_write', 0, 0)} (call $down))"),
        _STACK_FULL,
        fuel=_LOTS,
    ),
    Case(
        "recursion-with-large-frames",
        "10 call stack",
        lambda: _many_locals(20_000),
        _STACK_FULL,
        fuel=_LOTS,
    ),
)


def _many_locals(count: int) -> str:
    """A function that calls itself, whose locals all live across the call, so that they must be in its frame."""
    sets = "".join(f"(local.set {n} (i64.add (local.get {n}) (local.get 0)))" for n in range(1, count))
    sums = "".join(f"(local.get {n}) i64.add " for n in range(1, count))
    big = f"""(func $big (param i64) (result i64) (local {"i64 " * count})
        {sets} (call $big (i64.const 1)) (drop) (i64.const 0) {sums})"""
    return tasklet_text("(i32.wrap_i64 (call $big (i64.const 1)))", top=big)


def _nested(depth: int) -> str:
    return bare_text(f"(func {'block ' * depth}{'end ' * depth})")


def _branches(count: int) -> str:
    return bare_text(f"(func (param i32) (block (br_table {'0 ' * count} (local.get 0))))")


def _functions(count: int) -> str:
    return bare_text("(func)" * count)


def _long_function(count: int) -> str:
    step = "(local.set 0 (i32.mul (i32.add (local.get 0) (i32.const 7)) (local.get 1)))"
    return bare_text(f"(func (param i32 i32) {step * count})")


def _globals(count: int) -> str:
    return bare_text("(global i64 (i64.const 1))" * count)


def _segments(count: int) -> str:
    return bare_text('(data (i32.const 0) "x")' * count)


def _locals_declared(count: int) -> str:
    return bare_text(f"(func (local {'i64 ' * count}))")


def many_values(labels: int, values: int, branches: int) -> str:
    """Branches to each of many blocks, all with many values: a short module whose code has the product of the three."""
    results, pushed = f"(result {'i64 ' * values})", "(i64.const 1) " * values
    targets = " ".join(str(label) for label in range(1, labels + 1))
    branch = f"block {pushed} local.get 0 br_table {targets} end "
    opened = f"block {results} " * labels
    return bare_text(f"(func (param i32) {results} {opened} {branch * branches} {pushed} {'end ' * labels})")


COMPILE_ATTACKS = (
    Case("compile-deep-blocks", "10 compiling", lambda: _nested(20_000)),
    Case("compile-a-wide-branch", "10 compiling", lambda: _branches(50_000)),
    Case("compile-many-functions", "10 compiling", lambda: _functions(20_000)),
    Case("compile-a-long-function", "10 compiling", lambda: _long_function(20_000)),
    Case("compile-many-globals", "10 compiling", lambda: _globals(100_000)),
    Case("compile-many-segments", "10 compiling", lambda: _segments(50_000)),
    Case("compile-branches-with-many-values", "10 compiling", lambda: many_values(100, 100, 20)),
    Case(
        "compile-too-many-locals",
        "10 compiling",
        lambda: _locals_declared(60_000),
        Expected("module_invalid", "too many locals"),
    ),
)

_LOOK_AROUND = """(if (i32.ne (i32.load8_u (i32.const 0)) (i32.const 0)) (then (return (i32.const 1))))
    (memory.fill (i32.const 0) (i32.const 255) (i32.const 65536)) (i32.const 0)"""

ISOLATION_ATTACKS = (
    Case("memory-left-behind", "2.1", tasklet_text(_LOOK_AROUND), Expected(returned=0)),
    Case("memory-looked-for", "2.1", tasklet_text(_LOOK_AROUND), Expected(returned=0)),
    Case(
        "memory-that-grew-is-zero",
        "2.1",
        tasklet_text(
            """(drop (memory.grow (i32.const 100)))
            (loop (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then (return (i32.const 1))))
            (local.set $at (i32.add (local.get $at) (i32.const 4096)))
            (br_if 0 (i32.lt_u (local.get $at) (i32.const 6600000))))
            (memory.fill (i32.const 0) (i32.const 255) (i32.const 6600000)) (i32.const 0)""",
            run_locals="(local $at i32)",
        ),
        Expected(returned=0),
        fuel=10**8,
    ),
)

ATTACK_CASES = (*FUEL_ATTACKS, *STACK_ATTACKS, *COMPILE_ATTACKS, *ISOLATION_ATTACKS)
