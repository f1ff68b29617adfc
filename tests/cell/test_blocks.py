"""Leased blocks: the files, and each use of a lease checked at the moment of its effect."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from broker_bench import BLOCK, CPU, MEM, Bench
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grafos_cell import abi
from grafos_cell.blocks import BlockStore
from grafos_cell.broker_events import Told, Unbound
from grafos_cell.run import LeaseAnswer, LeaseCall
from grafos_cell.run_leases import STATUS_OF, RunLeases
from grafos_core.errors import GrafosError
from grafos_scheduler import frames

ONES = b"\x01" * abi.BLOCK_BYTES


@pytest.fixture
def store(tmp_path: Path) -> BlockStore:
    return BlockStore(tmp_path / "blocks")


# --- the files ----------------------------------------------------------------------------------------------------


def test_blocks_are_zero_at_first_and_keep_what_is_written(store: BlockStore) -> None:
    store.create("a", 4096)
    assert [store.read("a", lba) for lba in range(8)] == [bytes(512)] * 8
    store.write("a", 3, ONES)
    store.sync("a")
    assert [store.read("a", lba) == ONES for lba in range(8)] == [lba == 3 for lba in range(8)]


def test_blocks_that_are_there_stay_as_they_are_and_others_are_removed(store: BlockStore, tmp_path: Path) -> None:
    for lease_id in ("a", "b"):
        store.create(lease_id, 4096)
        store.write(lease_id, 0, ONES)
    again = BlockStore(tmp_path / "blocks")
    again.keep_only({"a"})
    again.create("a", 4096)
    assert again.read("a", 0) == ONES
    assert [path.name for path in (tmp_path / "blocks").iterdir()] == ["a"]


def test_blocks_of_a_lease_are_gone_with_it_and_the_next_ones_are_zero(store: BlockStore) -> None:
    store.create("a", 512)
    store.write("a", 0, ONES)
    store.remove("a")
    store.remove("a")
    store.create("a", 512)
    assert store.read("a", 0) == bytes(512)


def test_what_cannot_be_removed_keeps_no_cell_from_starting(store: BlockStore, tmp_path: Path) -> None:
    store.create("b", 512)
    (tmp_path / "blocks" / "a").mkdir()
    store.keep_only({"c"})
    assert [path.name for path in (tmp_path / "blocks").iterdir()] == ["a"]


def test_the_room_of_blocks_is_taken_at_once_and_nobody_else_reads_them(store: BlockStore, tmp_path: Path) -> None:
    store.create("a", 1 << 20)
    held = (tmp_path / "blocks" / "a").stat()
    assert (held.st_size, held.st_blocks * 512 >= 1 << 20) == (1 << 20, True)
    assert held.st_mode & 0o077 == 0
    assert (tmp_path / "blocks").stat().st_mode & 0o077 == 0


def test_a_disk_without_room_is_a_typed_error(store: BlockStore) -> None:
    with pytest.raises(GrafosError) as refusal:
        store.create("a", 1 << 60)
    assert refusal.value.code == "store_failed"


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 255)), max_size=30))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_blocks_are_what_was_written_last_in_any_order_of_writes(
    store: BlockStore, writes: list[tuple[int, int]]
) -> None:
    store.remove("a")
    store.create("a", 4096)
    model = [bytes(512)] * 8
    for lba, byte in writes:
        model[lba] = bytes([byte]) * 512
        store.write("a", lba, model[lba])
    assert [store.read("a", lba) for lba in range(8)] == model


# --- the leases of a run ------------------------------------------------------------------------------------------


class Running:
    """A run on a CPU, a memory and a block lease of eight blocks, and what its worker may ask."""

    def __init__(self, store: BlockStore) -> None:
        self.bench = Bench()
        tokens = (self.bench.token(CPU), self.bench.token(MEM, amount=600), self.bench.token(BLOCK, amount=4096))
        [_, start] = self.bench.start(*tokens).effects
        self.leases = RunLeases.of_run(self.bench.state, self.bench.clock.now, store, start.start)  # type: ignore[union-attr]
        self.leases.create_blocks()

    def ask(self, operation: str, lba: int = 0, data: bytes = b"", slot: int = 0, kind: str = "block") -> LeaseAnswer:
        return self.leases.answer(LeaseCall(operation, kind, slot, lba, data))  # type: ignore[arg-type]


@pytest.fixture
def running(store: BlockStore) -> Running:
    return Running(store)


def test_a_run_reads_and_writes_its_own_blocks(running: Running) -> None:
    assert [lease.blocks for lease in running.leases.blocks] == [8]
    assert running.ask("block_write", 7, ONES) == LeaseAnswer(abi.OK)
    assert running.ask("block_read", 7).data == ONES
    assert running.ask("query").seconds_left == 60.0
    assert running.ask("query", kind="mem").seconds_left == 60.0


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"operation": "block_read", "slot": 1}, abi.UNSUPPORTED),
        ({"operation": "block_read", "slot": -1}, abi.UNSUPPORTED),
        ({"operation": "block_read", "lba": 8}, abi.CAPACITY_EXCEEDED),
        ({"operation": "block_read", "lba": -1}, abi.CAPACITY_EXCEEDED),
        ({"operation": "block_write", "data": b"short"}, abi.INVALID_ARGUMENT),
        ({"operation": "block_read", "data": ONES}, abi.INVALID_ARGUMENT),
        ({"operation": "block_read", "kind": "mem"}, abi.INVALID_ARGUMENT),
    ],
)
def test_what_a_worker_may_not_ask_is_refused(running: Running, asked: dict[str, object], status: int) -> None:
    assert running.ask(**asked) == LeaseAnswer(status)  # type: ignore[arg-type]


def revoke(bench: Bench) -> None:
    bench.tell(Told(frames.RevokeLease(BLOCK, 1, 0.0)))
    bench.wait(0.1)
    bench.wait(0.1)


def renew_elsewhere(bench: Bench) -> None:
    bench.tell(Told(frames.GrantLease(BLOCK, 2, "ada", "block", 4096, bench.clock.now() + 60.0)))


def fence(bench: Bench) -> None:
    bench.tear_down(BLOCK)
    bench.wait(20.0)


@pytest.mark.parametrize(
    ("happens", "status"),
    [
        (lambda bench: bench.wait(60.0), abi.LEASE_EXPIRED),
        (lambda bench: bench.tear_down(BLOCK), abi.LEASE_EXPIRED),
        (renew_elsewhere, abi.LEASE_EXPIRED),
        (revoke, abi.REVOKED),
        (fence, abi.FENCED),
    ],
    ids=["expired", "torn down", "another generation", "revoked", "fenced"],
)
def test_nothing_takes_effect_once_the_lease_is_not_honoured_any_more(
    running: Running, store: BlockStore, happens: Callable[[Bench], object], status: int
) -> None:
    running.ask("block_write", 0, ONES)
    happens(running.bench)
    for operation, data in (("block_write", bytes(512)), ("block_read", b""), ("query", b"")):
        assert running.ask(operation, 0, data) == LeaseAnswer(status)
    assert store.read(BLOCK, 0) == ONES


def test_a_renewed_lease_goes_on_with_its_next_token(running: Running) -> None:
    bench = running.bench
    running.ask("block_write", 0, ONES)
    bench.clock.advance(50.0)
    for lease_id, kind, amount in ((BLOCK, "block", 4096), (MEM, "mem", 600), (CPU, "cpu", 1)):
        frame = frames.GrantLease(lease_id, 2, "ada", kind, amount, bench.clock.now() + 60.0)
        [renewed] = bench.tell(Told(frame)).renewed
        running.leases.renewed(renewed.lease_id, renewed.token)
    bench.wait(30.0)
    assert running.ask("block_read").data == ONES
    assert running.ask("query", kind="mem").seconds_left == 30.0


def test_in_a_grace_everything_still_works(running: Running) -> None:
    running.bench.tell(Told(frames.RevokeLease(BLOCK, 1, 10.0)))
    running.bench.wait(1.0)
    assert running.ask("block_write", 0, ONES).status == abi.OK


def test_a_disk_that_fails_is_an_answer_and_no_crash(running: Running, store: BlockStore) -> None:
    store.remove(BLOCK)
    assert running.ask("block_read") == LeaseAnswer(abi.DISCONNECTED)


def test_every_refusal_of_a_token_has_a_status(running: Running) -> None:
    assert set(STATUS_OF) >= {
        "capability_refused",
        "token_expired",
        "token_refused",
        "generation_stale",
        "lease_expired",
        "lease_revoked",
        "fenced",
    }
    running.bench.tell(Unbound(BLOCK, 1))
    assert running.ask("query").status == abi.OK
