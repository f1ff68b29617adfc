"""What a module must look like: sections 1 and 9 of the ABI page, but for the proposals that it refuses."""

from __future__ import annotations

from wasmtime import wat2wasm

from grafos_cell import abi
from grafos_cell.conformance.case import Case, Expected
from grafos_cell.conformance.wat import bare_text, tasklet, tasklet_text, text_at

CORE_HEAD = b"\0asm\x01\0\0\0"

_FINISHED = Expected()


def _refused(name: str, rule: str, source: str | bytes, text: str) -> Case:
    return Case(name, rule, source, Expected("module_invalid", text, hook="load", fuel_used=0))


def _allowed(name: str, source: str, expected: Expected = _FINISHED) -> Case:
    return Case(f"allowed-{name}", f"1 allowed: {name.replace('-', ' ')}", source, expected)


def _too_large() -> bytes:
    """A module of the profile, but for a custom section that nobody reads."""
    module, room = tasklet(), abi.MODULE_BYTES_MAX
    length = bytes([0x80 | (room & 0x7F), 0x80 | (room >> 7 & 0x7F), 0x80 | (room >> 14 & 0x7F), room >> 21])
    return module + b"\0" + length + bytes(room)


def _at_the_limit() -> bytes:
    module = tasklet()
    room = abi.MODULE_BYTES_MAX - len(module) - 5
    length = bytes([0x80 | (room & 0x7F), 0x80 | (room >> 7 & 0x7F), 0x80 | (room >> 14 & 0x7F), room >> 21])
    return module + b"\0" + length + bytes(room)


_WRONG_INIT = '(func (export "_grafos_tasklet_init") (param i32))'
_WRONG_RUN = '(func (export "_grafos_tasklet_run") (param i32 i32))'
_WRONG_FINALIZE = '(func (export "_grafos_tasklet_finalize") (result i32) (i32.const 0))'
_BUFFER_READ = '(import "grafos_tasklet_v0" "buffer_read" (func (param i32)))'
_TWO_TABLES = """(table $a 1 funcref) (table $b 1 funcref) (elem (table $b) (i32.const 0) func $three)
    (func $three (result i32) (i32.const 3))"""


def _doubled_export() -> bytes:
    """Which is no text that the library takes."""
    fields = '(func $f) (export "name 1" (func $f)) (export "name 2" (func $f))'
    return bytes(wat2wasm(bare_text(fields))).replace(b"name 1", b"\x1b[2J\n!").replace(b"name 2", b"\x1b[2J\n!")


_NANS = """(f64.store (i32.const 0) (f64.div (f64.const 0) (f64.const 0)))
    (f64.store (i32.const 8) (f64.add (f64.const -nan:0x123) (f64.const 1)))
    (f32.store (i32.const 16) (f32.sqrt (f32.const -1)))
    (f64.store (i32.const 20) (f64.promote_f32 (f32.const nan:0x1)))
    (f32.store (i32.const 28) (f32.demote_f64 (f64.const -nan:0x1)))
    (call $output_write (i32.const 0) (i32.const 32))"""
_CANONICAL_NANS = bytes.fromhex("000000000000f87f000000000000f87f0000c07f000000000000f87f0000c07f")

EXPORT_CASES = (
    Case("smallest-module", "1", bare_text(), Expected(response=b"null", output=b"", log="", fuel_used=4)),
    Case("other-exports", "1", bare_text('(global (export "g") i32 (i32.const 1)) (func (export "f"))')),
    _refused("no-memory", "1 memory", bare_text(memory=""), "'memory' is missing"),
    _refused("memory-that-is-none", "1 memory", bare_text('(func (export "memory"))', memory=""), "not the memory"),
    _refused("no-init", "1 _grafos_tasklet_init", bare_text(init=""), "_grafos_tasklet_init"),
    _refused(
        "init-of-another-type", "1 _grafos_tasklet_init", bare_text(init=_WRONG_INIT), "not (func (param i32 i32))"
    ),
    _refused("no-run", "1 _grafos_tasklet_run", bare_text(run=""), "_grafos_tasklet_run"),
    _refused("run-of-another-type", "1 _grafos_tasklet_run", bare_text(run=_WRONG_RUN), "(result i32)"),
    _refused("no-finalize", "1 _grafos_tasklet_finalize", bare_text(last=""), "_grafos_tasklet_finalize"),
    _refused("finalize-of-another-type", "1 _grafos_tasklet_finalize", bare_text(last=_WRONG_FINALIZE), "not (func)"),
    _refused("wasi", "1", bare_text('(import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))'), "no cell"),
    Case(
        "nan-is-canonical",
        "1",
        tasklet_text(_NANS),
        Expected(output=_CANONICAL_NANS),
    ),
)

ALLOWED_CASES = (
    _allowed("the-MVP", tasklet_text("(i32.sub (i32.const 5) (i32.const 5))")),
    _allowed("mutable-globals", bare_text('(global (export "g") (mut i32) (i32.const 0))')),
    _allowed("sign-extension", tasklet_text("(i32.extend8_s (i32.const 255))"), Expected("program_error", returned=-1)),
    _allowed(
        "saturating-float-to-int-conversion",
        tasklet_text("(i32.trunc_sat_f32_s (f32.const 1e30))"),
        Expected("program_error", returned=2**31 - 1),
    ),
    _allowed(
        "multi-value",
        tasklet_text("(call $two) i32.add", top="(func $two (result i32 i32) (i32.const 3) (i32.const 4))"),
        Expected("program_error", returned=7),
    ),
    _allowed(
        "bulk-memory",
        tasklet_text(
            "(memory.copy (i32.const 4) (i32.const 0) (i32.const 4)) (i32.load8_u (i32.const 4))",
            top=text_at(0, b"\x09"),
        ),
        Expected("program_error", returned=9),
    ),
    _allowed(
        "reference-types-as-far-as-they-concern-functions",
        tasklet_text(
            "(table.set $a (i32.const 0) (table.get $b (i32.const 0))) (call_indirect $a (result i32) (i32.const 0))",
            top=_TWO_TABLES,
        ),
        Expected("program_error", returned=3),
    ),
    _allowed(
        "extended-constant-expressions",
        tasklet_text("(global.get $g)", top="(global $g i32 (i32.add (i32.const 2) (i32.const 3)))"),
        Expected("program_error", returned=5),
    ),
)

_MANY_EXPORTS = "(func $f)" + "".join(f'(export "e{number}" (func $f))' for number in range(abi.EXPORTS_MAX))
_TWO_TYPES = "".join(f'(import "fabricbios_gpu_v1" "f" (func (result {one})))' for one in ("i32", "i64"))
_IMPORT = '(import "grafos_tasklet_v0" "clock_ns" (func (result i64)))'

REFUSED_CASES = (
    _refused("empty", "9 not_wasm", b"", "do not begin as WebAssembly"),
    _refused("text-format", "9 not_wasm", b"(module)", "do not begin as WebAssembly"),
    _refused("another-version", "9 not_wasm", b"\0asm\x02\0\0\0", "version 02000000"),
    _refused("another-format", "9 not_wasm", b"\x7fELF" + bytes(60), "do not begin as WebAssembly"),
    Case("too-large", "9 too_large", _too_large, Expected("module_invalid", "more than 8388608")),
    Case("as-large-as-allowed", "10 module", _at_the_limit),
    Case("cut-short", "9 malformed", lambda: tasklet()[:-1], Expected("module_invalid", "does not parse")),
    _refused("section-doubled", "9 malformed", CORE_HEAD + b"\x01\x01\0" * 2, "doubled or out of order"),
    _refused("section-unknown", "9 malformed", CORE_HEAD + b"\x0e\x00", "no section 14"),
    _refused("section-longer-than-the-module", "9 malformed", CORE_HEAD + b"\x01\x7f\x00", "longer than the module"),
    _refused("count-that-cannot-be", "9 malformed", CORE_HEAD + b"\x01\x05\xff\xff\xff\xff\x0f", "more than there are"),
    _refused("number-without-end", "9 malformed", CORE_HEAD + b"\x01\x06\x80\x80\x80\x80\x80\x00", "number has"),
    _refused("export-missing", "9 export_missing", bare_text(last=""), "is missing"),
    _refused("export-type", "9 export_type", bare_text(init=_WRONG_INIT), "not (func (param i32 i32))"),
    _refused("export-doubled", "9 export_doubled", _doubled_export(), "two exports are called"),
    _refused("import-of-two-types", "9 import_type", bare_text(_TWO_TYPES), "and also"),
    _refused(
        "import-name-unknown", "9 import_unknown", bare_text('(import "grafos_tasklet_v0" "q" (func))'), "unknown"
    ),
    _refused("import-module-unknown", "9 import_unknown", bare_text('(import "env" "q" (func))'), "no cell provides"),
    _refused("import-type", "9 import_type", bare_text(_BUFFER_READ), "not (func (param i32 i32 i32 i32)"),
    _refused(
        "import-memory",
        "9 import_kind",
        bare_text('(import "a" "m" (memory 1)) (export "memory" (memory 0))', memory=""),
        "imports a memory",
    ),
    _refused("import-table", "9 import_kind", bare_text('(import "a" "t" (table 1 funcref))'), "imports a table"),
    _refused("import-global", "9 import_kind", bare_text('(import "a" "g" (global i32))'), "imports a global"),
    _refused("import-tag", "9 import_kind", bare_text('(import "a" "t" (tag))'), "imports a tag"),
    _refused("start-function", "9 start", bare_text("(func $s) (start $s)"), "start function"),
    _refused("start-function-endless", "9 start", bare_text("(func $s (loop (br 0))) (start $s)"), "start function"),
    _refused("start-function-trap", "9 start", bare_text("(func $s unreachable) (start $s)"), "start function"),
    _refused("two-memories", "9 memory_count", bare_text("(memory 1)"), "2 memories"),
    _refused("shared-memory", "9 memory_kind", bare_text(memory='(memory (export "memory") 1 1 shared)'), "shared"),
    Case(
        "memory-minimum-over-the-limit",
        "9 memory_minimum",
        bare_text(memory='(memory (export "memory") 513)'),
        Expected("memory_exceeded", "wants 33619968 bytes", hook="load", fuel_used=0),
    ),
    _refused("tables-too-many", "9 table_limit", bare_text("(table 1 funcref)" * (abi.TABLES_MAX + 1)), "9 tables"),
    _refused("table-too-long", "9 table_limit", bare_text(f"(table {abi.TABLE_ELEMENTS_MAX + 1} funcref)"), "65537"),
    _refused("tag", "9 proposal", bare_text("(tag)"), "exceptions"),
    _refused("imports-too-many", "9 too_many", bare_text(_IMPORT * (abi.IMPORTS_MAX + 1)), "513 imports"),
    _refused("exports-too-many", "9 too_many", bare_text(_MANY_EXPORTS), "1028 exports"),
    _refused(
        "types-too-many", "9 too_many", bare_text("(type (func))" * (abi.TYPES_MAX + 1)), "types, more than 16384"
    ),
    _refused("code-not-valid", "9 code", bare_text("(func (result i32) (i64.const 0))"), "type mismatch"),
    _refused("code-short-of-values", "9 code", bare_text("(func (drop (i32.add)))"), "type mismatch"),
    _refused("code-with-refused-features", "9 code", bare_text("(func (drop (v128.const i64x2 0 0)))"), "SIMD"),
    Case(
        "data-outside-of-memory",
        "9",
        tasklet_text(top=text_at(abi.PAGE_BYTES, "x")),
        Expected("trapped", "memory out of bounds", hook="load"),
    ),
    Case(
        "elements-outside-of-a-table",
        "9",
        bare_text("(table 1 funcref) (func $f) (elem (i32.const 1) $f)"),
        Expected("trapped", "table out of bounds", hook="load"),
    ),
)

MODULE_CASES = (*EXPORT_CASES, *ALLOWED_CASES, *REFUSED_CASES)
