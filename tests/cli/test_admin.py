"""What only the operator does: fences that are listed and cleared; and the blocks whose teardown may fail."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from command_line import Person, ends_with

BLOCKS = """\
(module
  (import "fabricbios_fbbu_v0" "fbbu_get_num_blocks" (func $count (param i32) (result i64)))
  (import "fabricbios_fbbu_v0" "fbbu_write_block" (func $write (param i32 i64 i32) (result i32)))
  (import "grafos_tasklet_v0" "response_write" (func $respond (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_grafos_tasklet_init") (param i32 i32))
  (func (export "_grafos_tasklet_run") (param i32 i32) (result i32) (local $n i64)
    (drop (call $write (i32.const 0) (i64.const 0) (i32.const 1024)))
    {wait}
    (i32.store8 (i32.const 0) (i32.add (i32.const 48) (i32.wrap_i64 (call $count (i32.const 0)))))
    (drop (call $respond (i32.const 0) (i32.const 1))) (i32.const 0))
  (func (export "_grafos_tasklet_finalize")))
"""
A_WHILE = """(loop $again (local.set $n (i64.add (local.get $n) (i64.const 1)))
    (br_if $again (i64.lt_u (local.get $n) (i64.const 3000000000))))"""


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def block_files(person: Person) -> list[Path]:
    return list((person.project / ".grafos" / "dev").rglob("blocks/*"))


def test_blocks_are_leased_whole_and_used_by_the_run(resident: Person) -> None:
    resident.write_program(BLOCKS.format(wait=""))
    answer = resident("deploy", "run", "--block", "513", "--json")
    assert answer.document["response"] == 2
    until(lambda: not block_files(resident))


def test_more_blocks_than_the_cell_has_are_refused(resident: Person) -> None:
    resident.write_program(BLOCKS.format(wait=""))
    answer = resident("deploy", "run", "--block", "1g")
    assert (answer.code, answer.error_code) == (6, "placement_failed")


def test_nothing_is_fenced_as_a_rule(resident: Person) -> None:
    assert resident("admin", "list-fenced-leases").out == "No lease is fenced.\n"
    answer = resident("admin", "unfence-lease", "0" * 32)
    assert (answer.code, answer.error_code) == (2, "lease_unknown")


def test_what_is_fenced_is_listed_and_cleared_once_it_can_be_taken_down(resident: Person) -> None:
    resident.write_program(BLOCKS.format(wait=A_WHILE), fuel=10**12, deadline_s=60)
    waiting = resident.starts("deploy", "run", "--block", "512")
    until(lambda: block_files(resident))
    [file] = block_files(resident)
    file.unlink()
    file.mkdir()  # what cannot be removed as a file is
    ends_with(waiting)
    until(lambda: resident("admin", "list-fenced-leases", "--json").document["leases"])
    [lease] = resident("admin", "list-fenced-leases", "--json").document["leases"]
    assert (lease["lease_id"], lease["kind"], lease["amount"], lease["state"]) == (file.name, "block", 512, "fenced")
    refused = resident("admin", "unfence-lease", file.name)
    assert (refused.code, refused.error_code) == (8, "fenced")
    assert resident("admin", "list-fenced-leases", "--json").document["leases"][0]["state"] == "clearing"
    file.rmdir()
    cleared = resident("admin", "unfence-lease", file.name)
    assert (cleared.code, cleared.err) == (0, "")
    assert cleared.out.startswith("The fence is cleared: 512 of block on cell ")
    assert resident("admin", "list-fenced-leases").out == "No lease is fenced.\n"
