"""The pool: whatever becomes of a worker, every run gets a typed end and the next run a worker."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tasklets import spec_of, tasklet

from grafos_cell import abi
from grafos_cell.pool import WorkerPool
from grafos_cell.run import BlockLease, LeaseAnswer, LeaseCall, MemoryLease, RunOutcome
from grafos_cell.worker_messages import FRAME_BYTES_MAX
from grafos_cell.worker_process import PoolLimits
from grafos_core.errors import GrafosError

QUICK = tasklet("(i32.const 0)")
ENDLESS = tasklet("(loop (br 0)) (i32.const 0)")
ASKS = tasklet("(drop (call $fbbu_get_num_blocks (i32.const 0))) (loop (br 0)) (i32.const 0)")
"""Asks the desk once, and then never ends."""
LONG_S = 60.0


@asynccontextmanager
async def pool_of(
    workers: int = 1, limits: PoolLimits | None = None, command: list[str] | None = None
) -> AsyncIterator[WorkerPool]:
    pool = WorkerPool(workers, limits=limits, command=command)
    try:
        yield pool
    finally:
        await pool.close()


async def quick(pool: WorkerPool) -> str:
    return (await pool.run(QUICK, spec_of(QUICK))).code


def endless(pool: WorkerPool, deadline_s: float = LONG_S) -> asyncio.Task[RunOutcome]:
    """A run that only its deadline ends, already on its worker when another task gets its turn."""
    return asyncio.create_task(pool.run(ENDLESS, spec_of(ENDLESS, fuel=abi.FUEL_MAX, deadline_s=deadline_s)))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG_S):
        while not condition():  # noqa: ASYNC110 - what is waited for is another process
            await asyncio.sleep(0.005)


Story = Callable[[WorkerPool], Awaitable[None]]


def in_a_pool(
    story: Story, workers: int = 1, limits: PoolLimits | None = None, command: list[str] | None = None
) -> None:
    async def tell() -> None:
        async with pool_of(workers, limits, command) as pool:
            await story(pool)

    asyncio.run(tell())


async def under_way(pool: WorkerPool) -> asyncio.Task[RunOutcome]:
    """An endless run, and the pool's worker is busy with it."""
    has_begun = asyncio.Event()

    def desk(_: LeaseCall) -> LeaseAnswer:
        has_begun.set()
        return LeaseAnswer(abi.OK, LONG_S)

    run = asyncio.create_task(asks(pool, desk))
    async with asyncio.timeout(LONG_S):
        await has_begun.wait()
    return run


async def asks(pool: WorkerPool, desk: Callable[[LeaseCall], LeaseAnswer], deadline_s: float = LONG_S) -> RunOutcome:
    spec = spec_of(ASKS, fuel=abi.FUEL_MAX, deadline_s=deadline_s, block_leases=(BlockLease(4),))
    return await pool.run(ASKS, spec, desk)


def test_a_pool_runs_without_having_been_started() -> None:
    async def story(pool: WorkerPool) -> None:
        assert await quick(pool) == "finished"
        assert len(pool.pids) == 1

    in_a_pool(story)


def test_starting_a_pool_does_not_wait_for_its_workers() -> None:
    async def story(pool: WorkerPool) -> None:
        await pool.start()
        assert pool.pids == []
        await until(lambda: len(pool.pids) == 2)
        assert await quick(pool) == "finished"
        assert len(pool.pids) == 2

    in_a_pool(story, workers=2)


def test_a_pool_that_is_closed_while_it_starts_leaves_no_worker() -> None:
    async def story(pool: WorkerPool) -> None:
        await pool.start()
        await asyncio.sleep(0.01)
        await pool.close()
        assert pool.pids == []
        await pool.close()

    in_a_pool(story, workers=2)


def test_many_runs_share_few_workers() -> None:
    async def story(pool: WorkerPool) -> None:
        codes = await asyncio.gather(*(quick(pool) for _ in range(40)))
        assert set(codes) == {"finished"}
        assert len(pool.pids) == 2

    in_a_pool(story, workers=2)


def test_a_long_run_does_not_hold_up_another_worker() -> None:
    async def story(pool: WorkerPool) -> None:
        run = endless(pool)
        assert await quick(pool) == "finished"
        assert not run.done()

    in_a_pool(story, workers=2)


def test_a_worker_has_one_run_at_a_time() -> None:
    async def story(pool: WorkerPool) -> None:
        run = await under_way(pool)
        waiting = asyncio.create_task(quick(pool))
        await asyncio.sleep(0.05)
        assert (pool.waiting, waiting.done(), run.done()) == (1, False, False)
        run.cancel()
        assert await waiting == "finished"
        assert pool.waiting == 0

    in_a_pool(story)


def test_a_deadline_ends_the_run_and_keeps_the_worker() -> None:
    async def story(pool: WorkerPool) -> None:
        assert await quick(pool) == "finished"
        before = pool.pids
        assert (await endless(pool, 0.05)).code == "deadline_exceeded"
        assert pool.pids == before

    in_a_pool(story, limits=PoolLimits(grace_s=LONG_S))


def test_a_worker_killed_under_a_run_is_lost_and_replaced() -> None:
    async def story(pool: WorkerPool) -> None:
        run = await under_way(pool)
        before = pool.pids
        os.kill(before[0], signal.SIGKILL)
        outcome = await run
        assert outcome.code == "worker_lost"
        assert "SIGKILL" in outcome.text
        assert await quick(pool) == "finished"
        assert pool.pids != before

    in_a_pool(story)


def test_a_worker_killed_while_idle_is_not_noticed_by_the_next_run() -> None:
    async def story(pool: WorkerPool) -> None:
        for _ in range(3):
            assert await quick(pool) == "finished"
            os.kill(pool.pids[0], signal.SIGKILL)

    in_a_pool(story)


def test_a_worker_that_hangs_is_killed_after_the_deadline_and_replaced() -> None:
    async def story(pool: WorkerPool) -> None:
        assert await quick(pool) == "finished"
        before = pool.pids

        def desk(_: LeaseCall) -> LeaseAnswer:
            os.kill(before[0], signal.SIGSTOP)  # its run has begun, and it waits for this answer
            return LeaseAnswer(abi.OK, LONG_S)

        outcome = await asks(pool, desk, deadline_s=1.0)
        assert outcome.code == "deadline_exceeded"
        assert "worker was ended" in outcome.text
        assert await quick(pool) == "finished"
        assert before[0] not in pool.pids

    in_a_pool(story, limits=PoolLimits(grace_s=0.1))


def test_a_cancelled_run_takes_its_worker_with_it() -> None:
    async def story(pool: WorkerPool) -> None:
        run = await under_way(pool)
        before = pool.pids
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert before[0] not in pool.pids
        assert await quick(pool) == "finished"

    in_a_pool(story)


def test_a_run_that_is_cancelled_while_it_waits_costs_nothing() -> None:
    async def story(pool: WorkerPool) -> None:
        run = await under_way(pool)
        waiting = asyncio.create_task(quick(pool))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert (pool.waiting, run.done()) == (0, False)
        run.cancel()
        assert await quick(pool) == "finished"

    in_a_pool(story)


def test_waiting_has_an_end() -> None:
    async def story(pool: WorkerPool) -> None:
        run = await under_way(pool)
        queue = [asyncio.create_task(quick(pool)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(GrafosError) as refused:
            await quick(pool)
        assert refused.value.code == "cell_busy"
        run.cancel()
        assert await asyncio.gather(*queue) == ["finished"] * 3

    in_a_pool(story, limits=PoolLimits(queue=3))


def test_closing_ends_the_run_under_way_and_refuses_those_that_wait() -> None:
    async def story(pool: WorkerPool) -> None:
        run = await under_way(pool)
        waiting = asyncio.create_task(quick(pool))
        await asyncio.sleep(0)
        await pool.close()
        assert (await run).code == "worker_lost"
        for late in (waiting, asyncio.create_task(quick(pool))):
            with pytest.raises(GrafosError) as refused:
                await late
            assert refused.value.code == "draining"
        assert pool.pids == []

    in_a_pool(story)


def test_closing_a_pool_under_a_run_that_starts_its_worker_leaves_neither() -> None:
    async def story(pool: WorkerPool) -> None:
        run = endless(pool)
        await asyncio.sleep(0.01)  # its worker may have begun; it is never ready
        assert pool.pids == []
        await pool.close()
        with pytest.raises(GrafosError) as refused:
            await run
        assert refused.value.code == "draining"
        assert pool.pids == []

    in_a_pool(story, command=[sys.executable, "-c", f"import time; time.sleep({10 * LONG_S})"])


def test_a_lease_does_not_grow_longer_while_its_run_waits_for_a_worker() -> None:
    module = tasklet("(i32.wrap_i64 (call $fbmu_size (i32.const 0)))")

    async def story(pool: WorkerPool) -> None:
        assert await quick(pool) == "finished"
        before = endless(pool, 0.3)
        await asyncio.sleep(0)
        waited = await pool.run(module, spec_of(module, memory_leases=(MemoryLease(1000, 0.3),)))
        assert (await before).code == "deadline_exceeded"
        assert waited.returned == abi.LEASE_EXPIRED

    in_a_pool(story, limits=PoolLimits(grace_s=LONG_S))


def test_a_module_that_is_too_large_is_refused_and_the_worker_stays() -> None:
    huge = bytes(FRAME_BYTES_MAX + 1)

    async def story(pool: WorkerPool) -> None:
        assert await quick(pool) == "finished"
        before = pool.pids
        assert (await pool.run(huge, spec_of(huge))).code == "module_invalid"
        assert pool.pids == before

    in_a_pool(story)


def test_a_run_outside_the_limits_never_reaches_a_worker() -> None:
    async def story(pool: WorkerPool) -> None:
        with pytest.raises(GrafosError) as refused:
            await pool.run(QUICK, spec_of(QUICK, fuel=abi.FUEL_MAX + 1))
        assert refused.value.code == "limit_exceeded"
        assert pool.pids == []

    in_a_pool(story)


def test_a_large_module_and_large_results_pass_between_pool_and_worker() -> None:
    module = tasklet(
        f"(drop (call $output_write (i32.const 0) (i32.const {abi.OUTPUT_BYTES_MAX}))) (i32.const 0)",
        memory="130",
        top='(data (i32.const 0) "' + "x" * 4_000_000 + '")',
    )

    async def story(pool: WorkerPool) -> None:
        outcome = await pool.run(module, spec_of(module, bytes(abi.INPUT_BYTES_MAX), fuel=10**9))
        assert (outcome.code, len(outcome.output)) == ("finished", abi.OUTPUT_BYTES_MAX)

    in_a_pool(story)


# --- workers that cannot be trusted ---------------------------------------------------------------------------------

LIAR = """
import sys
from grafos_cell.worker_messages import *
from grafos_cell.run import RunOutcome
def say(*messages):
    for message in messages:
        sys.stdout.buffer.write(message if isinstance(message, bytes) else frame(message))
    sys.stdout.buffer.flush()
def listen():
    return sys.stdin.buffer.read(frame_length(sys.stdin.buffer.read(4)))
"""


def run_on(lie: str, limits: PoolLimits | None = None) -> RunOutcome:
    """One run in a pool whose workers do what `lie` says."""

    async def tell() -> RunOutcome:
        async with pool_of(1, limits, [sys.executable, "-c", LIAR + lie]) as pool:
            return await pool.run(QUICK, spec_of(QUICK, deadline_s=0.1))

    return asyncio.run(tell())


@pytest.mark.parametrize(
    ("lie", "why"),
    [
        ("sys.exit('no such thing')", "no such thing"),
        ("say(Started()); listen()", "not that it is ready"),
        ("say(b'HTTP/1.1 200 OK'); listen()", "frame of"),
        ("say(bytes([0, 0, 0, 2, 1, 1])); listen()", "ValidationError"),
        ("say(Ready(1)); sys.exit(7)", "exit code 7"),
        ("say(Ready(1)); listen(); say(Ready(1)); listen()", "broke the protocol"),
        ("say(Ready(1)); listen(); say(Started()); sys.exit(7)", "exit code 7"),
        ("say(Ready(1)); listen(); say(Started(), Started()); listen()", "broke the protocol"),
        ("say(Ready(1)); listen(); say(Started(), Done(RunOutcome('no_such_code'))); listen()", "broke the protocol"),
        ("say(Ready(1)); listen(); say(Done(RunOutcome('finished', fuel_used=10**9))); listen()", "broke the protocol"),
        ("say(Ready(1)); listen(); say(Done(RunOutcome('finished', log='x' * 70000))); listen()", "broke the protocol"),
        ("say(Ready(1)); listen(); say(Started(), Done(RunOutcome('finished', log='\\x1b[2J'))); listen()", "protocol"),
        ("say(Ready(1)); listen(); say(Started(), Done(RunOutcome('trapped', '\\x9b2J'))); listen()", "protocol"),
        ("say(Ready(1)); listen(); say(b'\\xff' * 4); listen()", "frame of"),
        ("say(Ready(1)); listen(); say(CodeWanted()); listen(); say(CodeWanted()); listen()", "broke the protocol"),
    ],
)
def test_a_worker_that_breaks_the_protocol_is_lost(lie: str, why: str) -> None:
    outcome = run_on(lie)
    assert outcome.code == "worker_lost"
    assert why in outcome.text


def test_a_run_that_began_is_not_begun_again_when_its_worker_goes_before_it_hears_an_answer(tmp_path: Path) -> None:
    """What the run wrote to its blocks is written: nobody writes it twice."""
    log = tmp_path / "runs"
    lie = f"""
import os
from grafos_cell.run import LeaseCall
say(Ready(1)); listen(); say(Started())
open({str(log)!r}, "a").write("x")
os.close(0)
say(LeaseCall("block_write", "block", 0))
__import__("time").sleep(60)
"""
    assert run_on(lie, PoolLimits(grace_s=2.0)).code in {"worker_lost", "deadline_exceeded"}
    assert log.read_text() == "x"


def test_a_worker_that_never_gets_ready_is_lost() -> None:
    outcome = run_on("listen()", PoolLimits(start_s=0.3))
    assert outcome.code == "worker_lost"
    assert "not ready within 0.3 s" in outcome.text


def test_a_worker_that_does_not_load_its_code_is_lost() -> None:
    outcome = run_on("say(Ready(1), CodeWanted()); listen(); listen(); listen()", PoolLimits(load_s=0.3))
    assert outcome.code == "worker_lost"
    assert "did not load the module within 0.3 s" in outcome.text


def test_code_that_a_worker_cannot_load_ends_its_run_and_is_compiled_anew() -> None:
    outcome = run_on("say(Ready(1)); listen(); say(CodeWanted()); listen(); say(CodeRefused('too old')); listen()")
    assert outcome.code == "internal"
    assert "too old" in outcome.text


def test_a_worker_that_never_answers_is_ended_after_the_deadline() -> None:
    outcome = run_on("say(Ready(1)); listen(); say(Started()); listen()", PoolLimits(grace_s=0.1))
    assert outcome.code == "deadline_exceeded"


def test_what_a_worker_left_behind_does_not_hold_the_pool() -> None:
    """A child that keeps the worker's pipes open: it is ended with the worker."""
    lie = "import subprocess; say(Ready(1)); listen(); subprocess.Popen(['sleep', '600']); say(Started()); sys.exit(7)"

    async def tell() -> RunOutcome:
        command = [sys.executable, "-c", LIAR + lie]
        async with asyncio.timeout(LONG_S), pool_of(1, PoolLimits(grace_s=0.1), command) as pool:
            return await pool.run(QUICK, spec_of(QUICK, deadline_s=0.1))

    assert asyncio.run(tell()).code == "deadline_exceeded"


def test_a_command_that_does_not_exist_is_told() -> None:
    async def tell() -> RunOutcome:
        async with pool_of(1, command=["/nonexistent/worker"]) as pool:
            return await pool.run(QUICK, spec_of(QUICK))

    outcome = asyncio.run(tell())
    assert outcome.code == "worker_lost"
    assert "no worker could be started" in outcome.text
