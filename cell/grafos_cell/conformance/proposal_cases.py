"""Each proposal that section 1 of the ABI page refuses, in every place where a module can use it."""

from __future__ import annotations

from grafos_cell.conformance.case import Case, Expected
from grafos_cell.conformance.wat import bare_text


def _refused(name: str, proposal: str, source: str, text: str = "") -> Case:
    return Case(name, f"1 refused: {proposal}", source, Expected("module_invalid", text, hook="load", fuel_used=0))


def _memory(kind: str) -> str:
    return bare_text(memory=f'(memory (export "memory") {kind})')


_STRUCT = "(type $s (struct (field i32)))"

PROPOSAL_CASES = (
    _refused("simd-in-code", "SIMD", bare_text("(func (drop (i8x16.splat (i32.const 1))))"), "SIMD"),
    _refused("simd-in-a-type", "SIMD", bare_text("(func (param v128))"), "SIMD"),
    _refused("simd-in-a-local", "SIMD", bare_text("(func (local v128))")),
    _refused("simd-in-a-global", "SIMD", bare_text("(global v128 (v128.const i64x2 0 0))")),
    _refused(
        "relaxed-simd",
        "relaxed SIMD",
        bare_text("""(func (drop (i8x16.extract_lane_s 0 (i8x16.relaxed_swizzle
            (v128.const i64x2 0 0) (v128.const i64x2 0 0)))))"""),
    ),
    _refused("threads-shared-memory", "threads", _memory("1 1 shared"), "shared"),
    _refused("threads-fence", "threads", bare_text("(func (atomic.fence))"), "threads"),
    _refused("atomics-load", "atomics", bare_text("(func (drop (i32.atomic.load (i32.const 0))))"), "threads"),
    _refused(
        "atomics-wait",
        "atomics",
        bare_text("(func (drop (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const -1))))"),
        "threads",
    ),
    _refused("tail-call", "tail calls", bare_text("(func $f (return_call $f))"), "tail call"),
    _refused(
        "tail-call-indirect",
        "tail calls",
        bare_text("(table 1 funcref) (func (return_call_indirect (i32.const 0)))"),
        "tail call",
    ),
    _refused("exceptions-tag", "exceptions", bare_text("(tag)"), "exceptions"),
    _refused("exceptions-throw", "exceptions", bare_text("(tag $t) (func (throw $t))"), "exceptions"),
    _refused("exceptions-try", "exceptions", bare_text("(func (try_table))")),
    _refused("exceptions-reference", "exceptions", bare_text("(func (param exnref))"), "exceptions"),
    _refused("gc-struct", "garbage collection", bare_text(_STRUCT), "garbage collection"),
    _refused("gc-array", "garbage collection", bare_text("(type (array i32))"), "garbage collection"),
    _refused(
        "gc-recursion", "garbage collection", bare_text("(rec (type (func)) (type (func)))"), "garbage collection"
    ),
    _refused("gc-subtype", "garbage collection", bare_text("(type (sub (func)))"), "garbage collection"),
    _refused("gc-i31", "garbage collection", bare_text("(func (drop (ref.i31 (i32.const 1))))")),
    _refused("gc-anyref", "garbage collection", bare_text("(func (param anyref))"), "garbage collection"),
    _refused("externref-in-a-type", "externref", bare_text("(func (param externref))"), "externref"),
    _refused("externref-in-a-table", "externref", bare_text("(table 1 externref)"), "externref"),
    _refused("externref-in-code", "externref", bare_text("(func (drop (ref.null extern)))")),
    _refused("externref-in-a-global", "externref", bare_text("(global externref (ref.null extern))")),
    _refused(
        "typed-reference-in-a-type",
        "typed function references",
        bare_text("(type $t (func)) (func (param (ref $t)))"),
        "typed function references",
    ),
    _refused(
        "typed-reference-call",
        "typed function references",
        bare_text("(type $t (func)) (func (call_ref $t (ref.null $t)))"),
    ),
    _refused(
        "typed-reference-table",
        "typed function references",
        bare_text("(func $f) (table 1 (ref func) (ref.func $f))"),
        "typed function references",
    ),
    _refused("memory64", "memory64", _memory("i64 1"), "64-bit"),
    _refused("table64", "memory64", bare_text("(table i64 1 funcref)"), "memory64"),
    _refused("several-memories", "several memories", bare_text("(memory 1)"), "2 memories"),
    _refused("several-memories-in-code", "several memories", bare_text("(memory $m 1) (func (drop (memory.size $m)))")),
    _refused("page-size", "custom page sizes", _memory("1 (pagesize 1)"), "custom page size"),
    _refused(
        "wide-arithmetic-addition",
        "wide arithmetic",
        bare_text("""(func (result i64 i64)
            (i64.add128 (i64.const 1) (i64.const 0) (i64.const 1) (i64.const 0)))"""),
    ),
    _refused(
        "wide-arithmetic-product",
        "wide arithmetic",
        bare_text("(func (result i64 i64) (i64.mul_wide_u (i64.const 1) (i64.const 2)))"),
    ),
    _refused("stack-switching", "stack switching", bare_text("(type $f (func)) (type (cont $f))"), "stack switching"),
    Case(
        "component",
        "9 component",
        "(component)",
        Expected("module_invalid", "component", hook="load", fuel_used=0),
    ),
    _refused("component-with-a-module", "the component model", "(component (core module))", "component"),
)
