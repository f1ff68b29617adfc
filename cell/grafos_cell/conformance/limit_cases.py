"""Fuel, memory and limits: sections 6, 7 and 10 of the ABI page."""

from __future__ import annotations

from grafos_cell import abi
from grafos_cell.conformance.case import Case, Expected
from grafos_cell.conformance.wat import dropped, tasklet_text
from grafos_cell.run import BlockLease, MemoryLease

_PAGE = abi.PAGE_BYTES
_EMPTY_FUEL = 4
"""What a run of a module costs that does nothing: three entries, and the 0 that it returns."""
_TOP = "(func $nothing) (table 10 funcref)"


def _cost(name: str, code: str, units: int) -> Case:
    source = tasklet_text(f"{code} (i32.const 0)", top=_TOP)
    return Case(f"fuel-of-{name}", "6", source, Expected(fuel_used=_EMPTY_FUEL + units))


FUEL_CASES = (
    _cost("nothing", "", 0),
    *(_cost(code, f"({code})", 0) for code in ("nop", "block", "loop")),
    _cost("drop", "(drop (i32.const 1))", 1),
    _cost("addition", "(drop (i32.add (i32.const 1) (i32.const 2)))", 3),
    _cost("a-call", "(call $nothing)", 2),
    _cost("memory-fill", "(memory.fill (i32.const 0) (i32.const 0) (i32.const 1000))", 1004),
    _cost("memory-copy", "(memory.copy (i32.const 0) (i32.const 5) (i32.const 1000))", 1004),
    _cost("memory-grow", "(drop (memory.grow (i32.const 7)))", 9),
    _cost("memory-grow-refused", "(drop (memory.grow (i32.const 70000)))", 2),
    _cost("table-fill", "(table.fill (i32.const 0) (ref.null func) (i32.const 10))", 14),
    Case(
        "fuel-of-constants",
        "6",
        tasklet_text(top="(global i32 (i32.const 1))" * 50),
        Expected(fuel_used=_EMPTY_FUEL),
    ),
    Case(
        "fuel-for-exactly-this",
        "6",
        tasklet_text("(drop (i32.const 1)) (i32.const 0)"),
        Expected(fuel_used=_EMPTY_FUEL + 1),
        fuel=_EMPTY_FUEL + 2,
    ),
    Case("fuel-least", "10 fuel", tasklet_text(), Expected("fuel_exhausted"), fuel=1),
    Case("fuel-most", "10 fuel", tasklet_text(), Expected(fuel_used=_EMPTY_FUEL), fuel=abi.FUEL_MAX),
    Case("fuel-none", "10 fuel", tasklet_text(), Expected("limit_exceeded", "units of fuel"), fuel=0),
    Case(
        "fuel-too-much", "10 fuel", tasklet_text(), Expected("limit_exceeded", "units of fuel"), fuel=abi.FUEL_MAX + 1
    ),
)


def _grow(pages: int) -> str:
    return f"(memory.grow (i32.const {pages}))"


def _memory(name: str, code: str, expected: Expected, pages: int | None = None, memory: str = "1") -> Case:
    limit = abi.MEMORY_BYTES_DEFAULT if pages is None else pages * _PAGE
    return Case(f"memory-{name}", "7", tasklet_text(code, memory=memory), expected, memory_bytes=limit)


_WANTS_MORE = "(drop (call $out_of_memory (i64.const 99999)))"

MEMORY_CASES = (
    _memory(
        "grows-to-its-limit-and-not-further",
        f"(drop {_grow(511)}) {_grow(1)}",
        Expected("program_error", returned=-1, memory_bytes=abi.MEMORY_BYTES_DEFAULT),
    ),
    _memory("refused-and-goes-on", f"(drop {_grow(65_000)}) (i32.const 0)", Expected(memory_bytes=_PAGE)),
    _memory("maximum-over-the-limit", _grow(2), Expected("program_error", returned=-1), 2, "1 65536"),
    Case(
        "memory-limit-in-whole-pages",
        "7",
        tasklet_text(_grow(1)),
        Expected("program_error", returned=-1),
        memory_bytes=2 * _PAGE - 1,
    ),
    _memory(
        "minimum-over-a-limit-of-its-own",
        "(i32.const 0)",
        Expected("memory_exceeded", hook="load", fuel_used=0),
        2,
        "3",
    ),
    _memory("given-up-with-a-trap", f"{_WANTS_MORE} unreachable", Expected("memory_exceeded", "99999 bytes more")),
    _memory("given-up-with-an-error", f"{_WANTS_MORE} (i32.const 5)", Expected("memory_exceeded", "99999 bytes more")),
    _memory("full-and-trapped", f"(drop {_grow(1)}) unreachable", Expected("memory_exceeded", "filled"), 2),
    _memory("with-room-and-trapped", f"(drop {_grow(1)}) unreachable", Expected("trapped", "131072 of 196608"), 3),
    _memory("full-by-its-own-maximum", "unreachable", Expected("trapped"), 2, "2 2"),
)


def _limit(name: str, row: str, text: str, **changes: object) -> Case:
    return Case(name, f"10 {row}", tasklet_text(), Expected("limit_exceeded", text), **changes)  # type: ignore[arg-type]


_LOG_ALL = """(loop (if (i32.eqz (call $log_write (i32.const 0) (i32.const {length})))
    (then (local.set $n (i32.add (local.get $n) (i32.const 1))) (br 1)))) (local.get $n)"""
_LEASE, _BLOCK = MemoryLease(1, 60.0), BlockLease(1)


def _log(length: int, entries: int) -> Case:
    source = tasklet_text(_LOG_ALL.format(length=length), run_locals="(local $n i32)")
    expected = Expected("program_error", returned=entries, is_log_cut=True)
    return Case(f"log-of-{length}-bytes-an-entry", "10 log", source, expected, fuel=10**7)


def _tables(name: str, elements: int, answer: int) -> Case:
    source = tasklet_text(f"(table.grow $t (ref.null func) (i32.const {elements}))", top="(table $t 0 funcref)")
    return Case(name, "10 tables", source, Expected("program_error" if answer else "finished", returned=answer))


LIMIT_CASES_10 = (
    Case(
        "input-at-its-limit",
        "10 input",
        tasklet_text("(i32.sub (local.get $length) (i32.const 8388608))"),
        input=bytes(abi.INPUT_BYTES_MAX),
    ),
    _limit("input-over-its-limit", "input", "bytes of input", input=bytes(abi.INPUT_BYTES_MAX + 1)),
    _log(0, 65_536),
    _log(4095, 16),
    _log(4096, 15),
    Case(
        "log-entry-over-its-limit",
        "10 log",
        tasklet_text(dropped("log_write", 0, abi.LOG_ENTRY_BYTES_MAX + 1) + "(i32.const 0)"),
        Expected(log="", is_log_cut=True),
    ),
    _limit("linear-memory-too-little", "linear memory", "bytes of memory", memory_bytes=_PAGE - 1),
    _limit("linear-memory-too-much", "linear memory", "bytes of memory", memory_bytes=abi.MEMORY_BYTES_MAX + 1),
    Case("linear-memory-least", "10 linear memory", tasklet_text(), Expected(memory_bytes=_PAGE), memory_bytes=_PAGE),
    _limit("deadline-too-short", "deadline", "seconds of deadline", deadline_s=0.0),
    _limit("deadline-too-long", "deadline", "seconds of deadline", deadline_s=abi.DEADLINE_S_MAX + 1),
    _limit("deadline-no-number", "deadline", "seconds of deadline", deadline_s=float("nan")),
    _limit(
        "memory-leases-too-many",
        "memory leases of a run",
        "memory leases",
        memory_leases=(_LEASE,) * (abi.MEMORY_LEASES_MAX + 1),
    ),
    Case(
        "memory-leases-as-many-as-allowed",
        "10 memory leases of a run",
        tasklet_text("(i32.wrap_i64 (call $fbmu_size (i32.const 15)))"),
        Expected("program_error", returned=1),
        memory_leases=(_LEASE,) * abi.MEMORY_LEASES_MAX,
    ),
    _limit(
        "block-leases-too-many",
        "block leases of a run",
        "block leases",
        block_leases=(_BLOCK,) * (abi.BLOCK_LEASES_MAX + 1),
    ),
    Case("tables-as-many-as-allowed", "10 tables", tasklet_text(top="(table 1 funcref)" * abi.TABLES_MAX)),
    _tables("table-grows-to-its-limit", abi.TABLE_ELEMENTS_MAX, 0),
    _tables("table-grows-not-further", abi.TABLE_ELEMENTS_MAX + 1, -1),
    Case(
        "call-stack",
        "10 call stack",
        tasklet_text("(call $down) (i32.const 0)", top="(func $down (call $down))"),
        Expected("trapped", "call stack is full"),
        fuel=10**9,
    ),
)

LIMIT_CASES = (*FUEL_CASES, *MEMORY_CASES, *LIMIT_CASES_10)
