"""The page docs/reference/tasklet-abi.md and the code say the same."""

from __future__ import annotations

import re
from collections.abc import Iterator

from source_tree import ROOT

from grafos_cell import abi
from grafos_cell.conformance.service_cases import PORT, SESSIONS, WINDOW
from grafos_cell.module import check_module
from grafos_cell.worker import COMPILE_BYTES_MAX
from grafos_cell.worker_process import PoolLimits
from grafos_core.errors import CODES
from grafos_scheduler import service_frames
from grafos_scheduler.region_frames import REGION_MOVE_BYTES_MAX

PAGE_TEXT = (ROOT / "docs" / "reference" / "tasklet-abi.md").read_text(encoding="utf-8")


def test_the_page_has_the_limits_of_the_code() -> None:
    mib, depth, digits = 1024 * 1024, abi.RESPONSE_DEPTH_MAX, abi.RESPONSE_DIGITS_MAX
    least, most = abi.MEMORY_BYTES_MIN // 1024, abi.MEMORY_BYTES_MAX // 1024**3
    for line in (
        f"| module | {abi.MODULE_BYTES_MAX // mib} MiB |",
        f"| input | {abi.INPUT_BYTES_MAX // mib} MiB |",
        f"| response | {abi.RESPONSE_BYTES_MAX // mib} MiB, {depth} levels, {digits} digits in a row |",
        f"| output | {abi.OUTPUT_BYTES_MAX // mib} MiB |",
        f"| log | {abi.LOG_BYTES_MAX // 1024} KiB in all, {abi.LOG_ENTRY_BYTES_MAX // 1024} KiB an entry |",
        f"| text of a program error | {abi.FAIL_TEXT_BYTES_MAX:,} bytes |",
        f"| fuel | {abi.FUEL_DEFAULT:,} by default; 1 to 10^12 |",
        f"| linear memory | {abi.MEMORY_BYTES_DEFAULT // mib} MiB by default; {least} KiB to {most} GiB |",
        f"| deadline | {abi.DEADLINE_S_DEFAULT:g} s by default; {abi.DEADLINE_S_MIN} to {abi.DEADLINE_S_MAX:,g} s |",
        f"| memory leases of a run | {abi.MEMORY_LEASES_MAX}, with the regions that it attaches to |",
        f"| one call on an attached region | {REGION_MOVE_BYTES_MAX // 1024} KiB |",
        f"| tables | {abi.TABLES_MAX}, of {abi.TABLE_ELEMENTS_MAX:,} elements each |",
        f"| call stack | {abi.STACK_BYTES_MAX // 1024} KiB |",
        f"| compiling | {PoolLimits().compile_s:g} s, {COMPILE_BYTES_MAX // 1024**3} GiB |",
        f"more than {abi.IMPORTS_MAX} imports, {abi.EXPORTS_MAX:,} exports or {abi.TYPES_MAX:,} types",
        f"any name; at most {abi.GPU_PARAMS_MAX} parameters",
    ):
        assert line in PAGE_TEXT
    assert abi.FUEL_MAX == 10**12


def test_the_page_has_the_limits_of_services() -> None:
    service = " ".join(PAGE_TEXT.split("\n## 11.")[1].split())
    window = f"{service_frames.SESSION_WINDOW_BYTES // 1024} KiB"
    assert f"| window of a session | {window} in each direction |" in PAGE_TEXT
    assert f"| sessions of an instance | {service_frames.SESSIONS_MAX:,} |" in PAGE_TEXT
    assert f"In each direction {window} of a session may be under way" in service
    within_s = service_frames.LISTEN_WITHIN_S_DEFAULT
    assert f"calls `svc_listen` within {within_s:g} s of its start" in service
    assert f"A session that it does not accept within {within_s:g} s" in service
    idle_s = service_frames.SESSION_IDLE_S_DEFAULT
    assert f"in either direction for {idle_s:g} s is ended with `session_idle`" in service
    assert (SESSIONS, PORT, WINDOW) == (service_frames.SESSIONS_MAX, 8080, service_frames.SESSION_WINDOW_BYTES)
    assert {*re.findall(r"`(service_\w+|sessions?_\w+|draining)`", service)} <= set(CODES)


def signatures_on_the_page() -> Iterator[tuple[str, str]]:
    """Each import's name with its types, as the tables and lists of section 4 write them."""
    section = PAGE_TEXT.split("\n## 4.")[1].split("\n## 5.")[0]
    for name, params, result in re.findall(r"`(\w+)(?:` \| `| )\(([^)]*)\) -> (i32|i64)`", section):
        yield name, f"({' '.join(param.split()[-1] for param in params.split(',') if param)}) -> {result}"


def test_the_page_has_the_imports_of_the_code() -> None:
    expected = {
        name: f"({' '.join(signature.params)}) -> {signature.results[0]}"
        for functions in abi.IMPORTS.values()
        for name, signature in functions.items()
    }
    assert dict(signatures_on_the_page()) == expected


def test_the_page_has_the_statuses_and_ends_of_the_code() -> None:
    for status, name in (
        (abi.DISCONNECTED, "disconnected"),
        (abi.LEASE_EXPIRED, "lease expired"),
        (abi.FENCED, "fenced"),
        (abi.CAPACITY_EXCEEDED, "capacity exceeded"),
        (abi.UNSUPPORTED, "unsupported"),
        (abi.REVOKED, "revoked"),
        (abi.DRAINING, "draining"),
        (abi.INVALID_ARGUMENT, "invalid argument"),
    ):
        assert f"| {status} | {name} |" in PAGE_TEXT
    ends = re.findall(r"^\| `(\w+)` \|", PAGE_TEXT.split("## 8.")[1].split("## 9.")[0], re.MULTILINE)
    assert set(ends) - {"finished"} <= set(CODES)


def test_the_page_has_the_rules_of_the_static_check() -> None:
    text = "".join((ROOT / "cell" / "grafos_cell" / name).read_text() for name in ("module.py", "sections.py"))
    raised = set(re.findall(r'(?:Finding|UnreadableError)\(\s*"(\w+)"', text)) | {"memory_minimum"}
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", PAGE_TEXT.split("\n## 9.")[1].split("\n## 10.")[0], re.MULTILINE)
    rules = {rule for row in rows for rule in re.findall(r"\w+", row)}
    assert raised == rules - {"code"}  # what the compiler finds is named by whoever asks it
    assert [finding.rule for finding in check_module(b"").findings] == ["not_wasm"]
