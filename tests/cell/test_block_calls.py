"""Calls on leased blocks: docs/reference/tasklet-abi.md, section 4.4. A probe returns what the call answered."""

from __future__ import annotations

from typing import Any

import pytest
from tasklets import run_tasklet, tasklet, text_at

from grafos_cell import abi
from grafos_cell.run import BlockLease, LeaseAnswer, LeaseCall, MemoryLease, RunOutcome

PAGE = abi.PAGE_BYTES


def probe(run: str, top: str = "", **changes: Any) -> RunOutcome:
    return run_tasklet(tasklet(run, top=top), **changes)


def answer(run: str, **changes: Any) -> int | None:
    return probe(run, **changes).returned


def narrow(call: str) -> str:
    return f"(i32.wrap_i64 {call})"


class BlockDesk:
    """A desk with four blocks, whose lease is in the state that ``status`` says."""

    def __init__(self, status: int = abi.OK) -> None:
        self.status = status
        self.blocks = {lba: bytes(abi.BLOCK_BYTES) for lba in range(4)}
        self.calls: list[str] = []

    def __call__(self, call: LeaseCall) -> LeaseAnswer:
        self.calls.append(call.operation)
        if self.status != abi.OK:
            return LeaseAnswer(self.status)
        if call.operation == "block_write":
            self.blocks[call.lba] = call.data
        return LeaseAnswer(abi.OK, 60.0, self.blocks[call.lba] if call.operation == "block_read" else b"")


FOUR_BLOCKS: dict[str, Any] = {"block_leases": (BlockLease(4),)}
WRITE = "(call $fbbu_write_block (i32.const 0) (i64.const {}) (i32.const {}))"
READ = "(call $fbbu_read_block (i32.const 0) (i64.const {}) (i32.const {}))"


def test_a_block_is_written_and_read_whole() -> None:
    desk = BlockDesk()
    run = f"""(drop {WRITE.format(2, 0)}) (drop {READ.format(2, 1000)})
        (drop (call $output_write (i32.const 1000) (i32.const 512))) (i32.const 0)"""
    outcome = probe(run, top=text_at(0, "x" * 512), desk=desk, **FOUR_BLOCKS)
    assert outcome.output == desk.blocks[2] == b"x" * 512
    assert [desk.blocks[lba] for lba in (0, 1, 3)] == [bytes(512)] * 3


def test_the_blocks_of_a_lease_are_counted() -> None:
    assert answer(narrow("(call $fbbu_get_num_blocks (i32.const 0))"), desk=BlockDesk(), **FOUR_BLOCKS) == 4


@pytest.mark.parametrize("call", [READ, WRITE])
@pytest.mark.parametrize(
    ("lba", "pointer", "expected"),
    [
        (3, PAGE - 512, abi.OK),
        (4, 0, abi.CAPACITY_EXCEEDED),
        (-1, 0, abi.CAPACITY_EXCEEDED),
        (0, PAGE - 511, abi.INVALID_ARGUMENT),
        (0, -1, abi.INVALID_ARGUMENT),
        (4, PAGE, abi.INVALID_ARGUMENT),
    ],
)
def test_a_block_call_keeps_to_lease_and_memory(call: str, lba: int, pointer: int, expected: int) -> None:
    desk = BlockDesk()
    assert answer(call.format(lba, pointer), desk=desk, **FOUR_BLOCKS) == expected
    assert ("block" in desk.calls[-1]) is (expected == abi.OK), "what is refused has no effect"


@pytest.mark.parametrize("status", [abi.LEASE_EXPIRED, abi.FENCED, abi.REVOKED, abi.DISCONNECTED])
@pytest.mark.parametrize("call", [READ.format(0, 0), WRITE.format(0, 0), READ.format(9, 0), WRITE.format(0, PAGE)])
def test_the_state_of_the_lease_comes_before_all_else(call: str, status: int) -> None:
    assert answer(call, desk=BlockDesk(status), **FOUR_BLOCKS) == status


@pytest.mark.parametrize("call", [READ, WRITE])
def test_a_block_costs_its_bytes_and_without_fuel_nothing_is_moved(call: str) -> None:
    costs = [
        probe(run, desk=BlockDesk(), **FOUR_BLOCKS).fuel_used
        for run in (f"(drop {call.format(9, 0)}) (i32.const 0)", f"(drop {call.format(0, 0)}) (i32.const 0)")
    ]
    assert costs[1] - costs[0] == abi.BLOCK_BYTES
    desk = BlockDesk()
    outcome = probe(f"(drop {call.format(0, 0)}) (i32.const 0)", desk=desk, fuel=500, **FOUR_BLOCKS)
    assert (outcome.code, desk.calls) == ("fuel_exhausted", ["query"])


def test_memory_whose_lease_was_renewed_goes_on() -> None:
    desk, lease = BlockDesk(), MemoryLease(1000, 0.0)
    assert answer(narrow("(call $fbmu_size (i32.const 0))"), desk=desk, memory_leases=(lease,)) == 1000
    assert desk.calls == ["query"]
    desk.status = abi.REVOKED
    assert answer(narrow("(call $fbmu_size (i32.const 0))"), desk=desk, memory_leases=(lease,)) == abi.REVOKED
