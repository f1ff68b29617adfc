"""Leased memory and blocks, and what is not there for a run: sections 4.1 and 4.3 to 4.6 of the ABI page."""

from __future__ import annotations

from grafos_cell import abi
from grafos_cell.conformance.case import Case, Expected
from grafos_cell.conformance.wat import bare_text, constants, tasklet_text, text_at
from grafos_cell.run import BlockLease, MemoryLease

_BYTES, _BLOCKS = 1000, 4
_LIVING, _OVER = MemoryLease(_BYTES, 600.0), MemoryLease(_BYTES, -1.0)


def _memory(name: str, code: str, answer: int, *, lease: MemoryLease | None = _LIVING, desk: int = abi.OK) -> Case:
    expected = Expected("program_error" if answer else "finished", returned=answer)
    leases = (lease,) if lease else ()
    rule = f"4.3 {code.partition('$')[2].partition(' ')[0]}"
    return Case(f"memory-{name}", rule, tasklet_text(code), expected, memory_leases=leases, desk_status=desk)


def _moved(call: str, slot: int, offset: int, pointer: int, length: int) -> str:
    return f"(call ${call} (i32.const {slot}) (i64.const {offset}) {constants(pointer, length)})"


def _block(name: str, code: str, answer: int, *, leases: int = 1, desk: int = abi.OK, rule: str = "") -> Case:
    expected = Expected("program_error" if answer else "finished", returned=answer)
    rule = rule or f"4.4 {code.partition('$')[2].partition(' ')[0]}"
    blocks = (BlockLease(_BLOCKS),) * leases
    return Case(f"block-{name}", rule, tasklet_text(code), expected, block_leases=blocks, desk_status=desk)


def _block_moved(call: str, slot: int, lba: int, pointer: int) -> str:
    return f"(call ${call} (i32.const {slot}) (i64.const {lba}) (i32.const {pointer}))"


def _narrow(code: str) -> str:
    return f"(i32.wrap_i64 {code})"


_SIZE = _narrow("(call $fbmu_size (i32.const 0))")
_COUNT = _narrow("(call $fbbu_get_num_blocks (i32.const 0))")
_ECHO_MEMORY = f"""(drop {_moved("fbmu_write", 0, 996, 0, 4)}) (drop {_moved("fbmu_read", 0, 992, 100, 8)})
    (call $output_write (i32.const 100) (i32.const 8))"""
_READ_BACK = _block_moved("fbbu_read_block", 0, 3, 1024)
_ECHO_BLOCK = f"""(drop {_block_moved("fbbu_write_block", 0, 3, 0)}) (drop {_READ_BACK})
    (call $output_write (i32.const 1024) (i32.const 512))"""

_ADD_TWICE = """(drop (call $fbmu_fetch_add (i32.const 0) (i64.const 8) (i64.const 5) (i32.const 0)))
    (drop (call $fbmu_fetch_add (i32.const 0) (i64.const 8) (i64.const 5) (i32.const 0)))
    (call $output_write (i32.const 0) (i32.const 8))"""
_EXCHANGE_NOTHING = """(drop (call $fbmu_compare_exchange (i32.const 0) (i64.const 8) (i64.const 1) (i64.const 2)
        (i32.const 0)))
    (drop (call $fbmu_read (i32.const 0) (i64.const 8) (i32.const 0) (i32.const 8)))
    (call $output_write (i32.const 0) (i32.const 8))"""


def _is(call: str, status: int) -> str:
    """A run that is well if the call answers so."""
    return f"(i32.ne {call} (i32.const {status}))"


MEMORY_CASES = (
    _memory("size", _SIZE, _BYTES),
    _memory("size-without-a-lease", _SIZE, abi.UNSUPPORTED, lease=None),
    _memory("read-is-zero", _moved("fbmu_read", 0, 0, 0, _BYTES), 0),
    _memory("read-behind-the-region", _moved("fbmu_read", 0, 1, 0, _BYTES), abi.CAPACITY_EXCEEDED),
    _memory("read-far-behind-the-region", _moved("fbmu_read", 0, -1, 0, 1), abi.CAPACITY_EXCEEDED),
    _memory("read-outside-of-linear-memory", _moved("fbmu_read", 0, 0, 65_535, 2), abi.INVALID_ARGUMENT),
    _memory("read-another-slot", _moved("fbmu_read", 1, 0, 0, 1), abi.UNSUPPORTED),
    _memory("write", _moved("fbmu_write", 0, 0, 0, _BYTES), 0),
    _memory("write-behind-the-region", _moved("fbmu_write", 0, _BYTES, 0, 1), abi.CAPACITY_EXCEEDED),
    _memory("write-after-the-end", _moved("fbmu_write", 0, 0, 0, 1), -2, lease=_OVER, desk=abi.LEASE_EXPIRED),
    Case(
        "memory-fetch-add",
        "4.3 fbmu_fetch_add",
        tasklet_text(_ADD_TWICE),
        Expected(output=(5).to_bytes(8, "little")),
        memory_leases=(_LIVING,),
    ),
    Case(
        "memory-compare-exchange-of-another-value",
        "4.3 fbmu_compare_exchange",
        tasklet_text(_EXCHANGE_NOTHING),
        Expected(output=bytes(8)),
        memory_leases=(_LIVING,),
    ),
    Case(
        "memory-attach-to-no-reference",
        "4.3 fbmu_attach",
        tasklet_text(_is("(call $fbmu_attach (i32.const 0) (i32.const 0))", abi.INVALID_ARGUMENT)),
    ),
    Case(
        "memory-no-reference-to-an-own-lease",
        "4.3 fbmu_ref",
        tasklet_text(_is("(call $fbmu_ref (i32.const 0) (i32.const 0) (i32.const 512))", abi.UNSUPPORTED)),
        memory_leases=(_LIVING,),
    ),
    _memory("read-after-a-renewal", _moved("fbmu_read", 0, 0, 0, 1), 0, lease=_OVER),
    Case(
        "memory-write-and-read",
        "4.3 fbmu_write",
        tasklet_text(_ECHO_MEMORY, top=text_at(0, "data")),
        Expected(output=b"\0\0\0\0data"),
        memory_leases=(_LIVING,),
    ),
)

BLOCK_CASES = (
    _block("count", _COUNT, _BLOCKS),
    _block("count-without-a-lease", _COUNT, abi.UNSUPPORTED, leases=0),
    _block("read-is-zero", _block_moved("fbbu_read_block", 0, 0, 0), 0),
    _block("read-behind-the-lease", _block_moved("fbbu_read_block", 0, _BLOCKS, 0), abi.CAPACITY_EXCEEDED),
    _block("read-outside-of-linear-memory", _block_moved("fbbu_read_block", 0, 0, 65_025), abi.INVALID_ARGUMENT),
    _block("write-another-slot", _block_moved("fbbu_write_block", 1, 0, 0), abi.UNSUPPORTED),
    _block("write-behind-the-lease", _block_moved("fbbu_write_block", 0, -1, 0), abi.CAPACITY_EXCEEDED),
    Case(
        "block-write-and-read",
        "4.4 fbbu_write_block",
        tasklet_text(_ECHO_BLOCK, top=text_at(0, b"block" * 102 + b"!!")),
        Expected(output=b"block" * 102 + b"!!"),
        block_leases=(BlockLease(_BLOCKS),),
    ),
    Case(
        "block-costs-fuel",
        "4.4 fbbu_read_block",
        tasklet_text(f"(drop {_block_moved('fbbu_read_block', 0, 0, 0)}) (i32.const 0)"),
        Expected(fuel_used=520),
        block_leases=(BlockLease(_BLOCKS),),
    ),
    *(
        _block(f"answer-{name}", _block_moved("fbbu_write_block", 0, 0, 0), status, desk=status, rule=f"4.1 {status}")
        for name, status in (
            ("disconnected", abi.DISCONNECTED),
            ("lease-expired", abi.LEASE_EXPIRED),
            ("fenced", abi.FENCED),
            ("revoked", abi.REVOKED),
        )
    ),
    _block(
        "state-of-the-lease-comes-before-ranges",
        _block_moved("fbbu_write_block", 0, 0, -1),
        abi.REVOKED,
        desk=abi.REVOKED,
        rule="4.1",
    ),
)


def _service(name: str, rule: str = "", case: str = "") -> Case:
    count = len(abi.IMPORTS[abi.SERVICE_MODULE][name].params)
    source = tasklet_text(f"(call ${name} {constants(*range(count))})")
    expected = Expected("program_error", returned=abi.UNSUPPORTED)
    return Case(case or f"{name.replace('_', '-')}-in-no-service", rule or f"4.5 {name}", source, expected)


_GPU = f'(import "{abi.GPU_MODULE}" "whatever" (func $gpu (param i32 i64 f32 f64) (result i64)))'
_GPU_RUN = """(func (export "_grafos_tasklet_run") (param i32 i32) (result i32)
    (i32.wrap_i64 (call $gpu (i32.const 1) (i64.const 2) (f32.const 3) (f64.const 4))))"""
_GPU_WRONG = f'(import "{abi.GPU_MODULE}" "whatever" (func (param funcref) (result i32)))'

LATER_CASES = (
    *(_service(name) for name in abi.IMPORTS[abi.SERVICE_MODULE]),
    _service("svc_read", "4.1 -5", "answer-unsupported"),
    Case(
        "gpu",
        "4.6 fabricbios_gpu_v1",
        bare_text(_GPU, run=_GPU_RUN),
        Expected("program_error", returned=abi.UNSUPPORTED),
    ),
    Case(
        "gpu-of-another-type",
        "4.6 fabricbios_gpu_v1",
        bare_text(_GPU_WRONG),
        Expected("module_invalid", "takes numbers and returns one integer"),
    ),
)

LEASE_CASES = (*MEMORY_CASES, *BLOCK_CASES, *LATER_CASES)
