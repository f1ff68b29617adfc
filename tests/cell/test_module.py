"""The static check: docs/reference/tasklet-abi.md, sections 1, 4 and 9."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tasklets import import_lines, tasklet
from wasmtime import wat2wasm

from grafos_cell import abi
from grafos_cell.module import FINDINGS_MAX, check_module, compile_check
from grafos_core.errors import GrafosError

HOOKS = """
    (func (export "_grafos_tasklet_init") (param i32 i32))
    (func (export "_grafos_tasklet_run") (param i32 i32) (result i32) i32.const 0)
    (func (export "_grafos_tasklet_finalize"))
"""
MEMORY = '(memory (export "memory") 1)'


def module(fields: str, hooks: str = HOOKS, memory: str = MEMORY) -> bytes:
    return wat2wasm(f"(module {fields} {memory} {hooks})")


def rules(data: bytes, limit: int = abi.MEMORY_BYTES_DEFAULT) -> list[str]:
    return [finding.rule for finding in check_module(data, limit).findings]


def section(number: int, body: bytes) -> bytes:
    assert len(body) < 128
    return bytes([number, len(body)]) + body


def raw(*sections: bytes) -> bytes:
    return b"\0asm\x01\0\0\0" + b"".join(sections)


GOOD = tasklet()


def test_a_module_of_the_profile_passes_and_its_facts_are_told() -> None:
    facts = check_module(tasklet(memory="2 5"))
    assert facts.findings == ()
    assert (facts.memory_min_bytes, facts.memory_max_bytes) == (2 * abi.PAGE_BYTES, 5 * abi.PAGE_BYTES)
    assert {(one.module, one.name) for one in facts.imports} == {
        (name, function) for name, functions in abi.IMPORTS.items() for function in functions
    }
    assert [one.name for one in facts.exports] == ["memory", *abi.HOOKS]
    assert facts.exports[2].type == "(func (param i32 i32) (result i32))"


def test_the_digest_and_size_are_those_of_the_bytes() -> None:
    facts = check_module(GOOD)
    assert facts.sha256 == hashlib.sha256(GOOD).hexdigest()
    assert facts.size_bytes == len(GOOD)


def test_other_exports_are_allowed_and_ignored() -> None:
    assert rules(module('(global (export "g") i32 (i32.const 1)) (func (export "f"))')) == []


def test_every_import_of_the_profile_passes_with_its_type() -> None:
    assert rules(module(import_lines())) == []


@pytest.mark.parametrize(
    ("rule", "data"),
    [
        ("not_wasm", b""),
        ("not_wasm", b"\0as"),
        ("not_wasm", b"\0asm"),
        ("not_wasm", b"\0asm\x02\0\0\0"),
        ("not_wasm", b"\x7fELF" + bytes(60)),
        ("not_wasm", b"(module)"),
        ("component", wat2wasm("(component)")),
        ("too_large", GOOD + bytes(abi.MODULE_BYTES_MAX)),
        ("malformed", GOOD[:-1]),
        ("malformed", GOOD + b"\x01\x00"),
        ("malformed", raw(section(1, b"\0"), section(1, b"\0"))),
        ("malformed", raw(section(14, b""))),
        ("malformed", raw(section(1, b"\x01\x60\x00\x00\x00"))),
        ("malformed", raw(section(1, b"\xff\xff\xff\xff\x7f"))),
        ("malformed", raw(section(3, b"\x80\x80\x80\x80\x80\x00"))),
        ("malformed", raw(section(7, b"\x01\x02\xff\xfe\x00\x00"))),
        ("malformed", raw(b"\x01\x7f")),
        ("malformed", raw(section(2, b"\x01\x00\x00\x07\x00"))),
        ("import_kind", module('(import "grafos_tasklet_v0" "memory" (memory 1))', memory="")),
        ("import_kind", module('(import "a" "b" (table 1 funcref))')),
        ("import_kind", module('(import "a" "b" (global i32))')),
        ("start", module("(func $s) (start $s)")),
        ("memory_kind", module("", memory='(memory (export "memory") i64 1)')),
        ("memory_kind", module("", memory='(memory (export "memory") 1 1 shared)')),
        ("memory_kind", module("", memory='(memory (export "memory") 1 (pagesize 1))')),
        ("memory_count", module("(memory 1)")),
        ("table_limit", module("(table 65537 funcref)")),
        ("table_limit", module("(table 1 funcref)" * 9)),
        ("proposal", module("(type (struct))")),
        ("proposal", module("(type (array i32))")),
        ("proposal", module("(rec (type (func)) (type (func)))")),
        ("proposal", module("(type (sub (func)))")),
        ("proposal", module("(func (param v128))")),
        ("proposal", module("(func (param externref))")),
        ("proposal", module("(table 1 externref)")),
        ("proposal", module("(type $t (func)) (func (param (ref $t)))")),
        ("proposal", module("(table i64 1 funcref)")),
        ("proposal", module("(tag)")),
        ("proposal", module("(type $f (func)) (type (cont $f))")),
        ("too_many", module('(import "grafos_tasklet_v0" "clock_ns" (func (result i64)))' * 513)),
        ("too_many", module("(func $f)" + "".join(f'(export "{n}" (func $f))' for n in range(1100)))),
    ],
)
def test_what_the_profile_refuses_is_found_by_its_rule(rule: str, data: bytes) -> None:
    assert rule in rules(data)


@pytest.mark.parametrize("name", ["memory", *abi.HOOKS])
def test_each_of_the_four_exports_is_required(name: str) -> None:
    export = bytes([len(name)]) + name.encode()
    data = GOOD.replace(export, export[:-1] + b"X")
    (finding,) = check_module(data).findings
    assert finding.rule == "export_missing"
    assert name in finding.what
    assert name[:-1] in finding.next  # the nearest name is told


@pytest.mark.parametrize(
    "hooks",
    [
        HOOKS.replace("(param i32 i32))", "(param i32))", 1),
        HOOKS.replace("(result i32) i32.const 0", "", 1),
        HOOKS.replace("i32 i32) (result i32) i32.const 0", "i32 i64) (result i32) i32.const 0"),
        HOOKS.replace('(export "_grafos_tasklet_finalize")', '(export "_grafos_tasklet_finalize") (param i32)'),
        HOOKS.replace(
            '(func (export "_grafos_tasklet_finalize"))',
            '(global (export "_grafos_tasklet_finalize") i32 (i32.const 0))',
        ),
    ],
)
def test_an_export_of_another_type_is_refused(hooks: str) -> None:
    assert rules(module("", hooks)) == ["export_type"]


def test_an_export_called_memory_that_is_no_memory_is_refused() -> None:
    assert rules(module('(func (export "memory"))', memory="(memory 1)")) == ["export_type"]


def test_two_exports_of_one_name_are_refused_and_a_hostile_name_drives_no_terminal() -> None:
    named = module('(func $f) (export "12345678" (func $f)) (export "12345679" (func $f))')
    doubled = named.replace(b"12345678", b"\x1b[2J\n ok").replace(b"12345679", b"\x1b[2J\n ok")
    (finding,) = check_module(doubled).findings
    assert finding.rule == "export_doubled"
    assert finding.what == r"two exports are called '\x1b[2J\n ok'"
    with pytest.raises(GrafosError) as refused:
        compile_check(doubled)
    assert "\x1b" not in refused.value.what
    assert "\n" not in refused.value.what


def test_one_import_has_one_type() -> None:
    lines = [f'(import "fabricbios_gpu_v1" "f" (func {one}))' for one in ("(result i32)", "(result i64)")]
    assert rules(module(lines[0] * 2)) == []
    assert rules(module("".join(lines))) == ["import_type"]


@pytest.mark.parametrize(
    ("line", "next"),
    [
        ('(import "grafos_tasklet_v0" "buffer_reed" (func))', "did you mean buffer_read?"),
        ('(import "grafos_tasklet_v0" "q" (func))', "buffer_read, response_write"),
        ('(import "grafos_taskelt_v0" "buffer_read" (func))', "did you mean grafos_tasklet_v0?"),
        ('(import "env" "print" (func))', "grafos_tasklet_v0, fabricbios_fbmu_v0"),
        ('(import "wasi_snapshot_preview1" "fd_write" (func))', "no WASI"),
        ('(import "grafos_worker_v0" "barrier" (func))', ""),
    ],
)
def test_an_unknown_import_is_refused_and_the_nearest_name_told(line: str, next: str) -> None:
    (finding,) = check_module(module(line)).findings
    assert finding.rule == "import_unknown"
    assert next in finding.next


@pytest.mark.parametrize("name", [name for name in abi.IMPORTS if name != abi.GPU_MODULE])
def test_a_known_import_of_another_type_is_refused(name: str) -> None:
    for function in abi.IMPORTS[name]:
        assert rules(module(f'(import "{name}" "{function}" (func (param f64)))')) == ["import_type"]


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        ("(param i32 i64 f32 f64) (result i32)", []),
        ("(result i64)", []),
        ("", ["import_type"]),
        ("(result f32)", ["import_type"]),
        ("(result i32 i32)", ["import_type"]),
        (f"(param {'i32 ' * 17}) (result i32)", ["import_type"]),
        ("(param funcref) (result i32)", ["import_type"]),
    ],
)
def test_a_gpu_import_may_have_any_name_and_takes_numbers(signature: str, expected: list[str]) -> None:
    got = rules(module(f'(import "fabricbios_gpu_v1" "whatever" (func {signature}))'))
    assert got == expected


def test_a_minimum_of_memory_over_the_limit_has_a_code_of_its_own() -> None:
    facts = check_module(tasklet(memory="3"), 2 * abi.PAGE_BYTES)
    assert [finding.rule for finding in facts.findings] == ["memory_minimum"]
    with pytest.raises(GrafosError) as refused:
        facts.refuse_if_found()
    assert refused.value.code == "memory_exceeded"


def test_a_minimum_of_memory_at_the_limit_passes() -> None:
    assert rules(tasklet(memory="2 65536"), 2 * abi.PAGE_BYTES) == []


def test_a_refusal_counts_the_other_findings_and_carries_them() -> None:
    facts = check_module(module("(func $s) (start $s)", hooks=""))
    with pytest.raises(GrafosError) as refused:
        facts.refuse_if_found()
    assert refused.value.code == "module_invalid"
    assert "(and 3 more)" in refused.value.what
    assert [one["rule"] for one in refused.value.context["findings"]] == [*["export_missing"] * 3, "start"]


def test_a_module_with_nothing_wrong_is_not_refused() -> None:
    check_module(GOOD).refuse_if_found()


def test_a_hostile_module_gets_a_report_of_bounded_length() -> None:
    many = "".join(f'(import "env" "f{number}" (func))' for number in range(500))
    assert len(rules(module(many))) == FINDINGS_MAX


def test_a_name_from_a_stranger_stays_on_its_line_and_short() -> None:
    name = r"\1b[2J\0a" + "x" * 5000
    (finding,) = check_module(module(f'(import "{name}" "f" (func))')).findings
    assert finding.what.isprintable()
    assert len(finding.what) < 300


def test_a_type_that_nobody_would_write_stays_short() -> None:
    (finding,) = check_module(module(f'(import "grafos_svc_v0" "svc_close" (func (param {"f64 " * 999})))')).findings
    assert len(finding.what) < 500


@pytest.mark.parametrize(
    "body",
    [
        "i32.const 0 i8x16.splat drop",
        "i32.const 0 i32.atomic.load drop",
        "atomic.fence",
        "return_call 0",
        "i32.const 0 ref.i31 drop",
        "i64.const 0 i64.const 0 i64.mul_wide_s drop drop",
    ],
)
def test_what_only_code_shows_is_found_by_compiling(body: str) -> None:
    data = module(f"(func {body})")
    assert rules(data) == []
    with pytest.raises(GrafosError) as refused:
        compile_check(data)
    assert refused.value.code == "module_invalid"
    assert refused.value.why


@pytest.mark.parametrize(
    "body",
    [
        "i32.const 1 i32.extend8_s drop",
        "f32.const 1 i32.trunc_sat_f32_s drop",
        "i32.const 0 i32.const 0 i32.const 0 memory.fill",
        "ref.null func drop",
        "i32.const 1 i32.const 2 (block (param i32 i32) (result i32 i32)) drop drop",
    ],
)
def test_what_compilers_use_by_default_compiles(body: str) -> None:
    data = module(f"(table 1 funcref) (table 1 funcref) (func {body})")
    assert rules(data) == []
    compile_check(data)


def test_a_call_through_a_table_in_the_long_encoding_compiles() -> None:
    """LLVM writes table indices in five bytes since reference types are on by default, and Rust with it."""
    short = module("(type $f (func)) (table 1 funcref) (func i32.const 0 call_indirect (type $f))")
    body = short.rindex(b"\x41\x00\x11")
    type_index, end = short[body + 3], short[body + 5 :]
    code = short.index(b"\x0a", short.index(b"_finalize"))
    grown = bytearray(short[:body] + bytes([0x41, 0, 0x11, type_index, 0x80, 0x80, 0x80, 0x80, 0x00]) + end)
    grown[code + 1] += 4  # the section's length
    grown[code + 3] += 4  # the first function's
    compile_check(bytes(grown))


def test_text_is_not_taken_for_a_module() -> None:
    with pytest.raises(GrafosError) as refused:
        compile_check(b"(module)")
    assert refused.value.code == "module_invalid"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_give_facts_and_no_exception(data: bytes) -> None:
    check_module(data)
    facts = check_module(raw() + data)
    assert facts.size_bytes == len(data) + 8


MUTATED = module(
    import_lines() + "(table 2 funcref) (global (mut i32) (i32.const 1)) (func $f (param i64) (result f32) f32.const 1)"
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(MUTATED) - 1), st.integers(0, 255)), min_size=1, max_size=6), st.data())
def test_a_damaged_module_is_refused_or_passes_and_nothing_else(
    changes: list[tuple[int, int]], data: st.DataObject
) -> None:
    damaged = bytearray(MUTATED)
    for position, value in changes:
        damaged[position] = value
    cut = data.draw(st.integers(0, len(damaged)))
    for candidate in (bytes(damaged), bytes(damaged[:cut])):
        facts = check_module(candidate)
        # What wasmtime could parse and compile, ours must have been able to read.
        assert refusal_of(candidate) or "malformed" not in [finding.rule for finding in facts.findings]


def refusal_of(data: bytes) -> str:
    """The code with which compiling is refused; empty when it compiles."""
    try:
        compile_check(data)
    except GrafosError as refused:
        return refused.code
    return ""
