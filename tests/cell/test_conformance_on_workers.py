"""The suite on real workers, one after the other, beside a tenant who means well: nobody is harmed but the runs
that ask for it, nothing grows, and each run is the same on every worker, with code that was compiled or kept.

Every case comes to its end in this process in `test_conformance`; here a share of them does, and all in deep tests.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from tasklets import spec_of, tasklet

from grafos_cell import engine_config
from grafos_cell.code_cache import CodeCache
from grafos_cell.conformance.case import Case, Row, judge
from grafos_cell.conformance.suite import CASES
from grafos_cell.pool import WorkerPool
from grafos_cell.run import RunOutcome
from grafos_cell.runtime import MODULES_KEPT_MAX, run_module
from grafos_core.clock import SystemClock
from grafos_core.errors import GrafosError

pytestmark = pytest.mark.timeout(1800)  # it starts a process, of low priority, for each of three hundred modules
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="what a process holds is read from /proc")

WORKERS = 2
ALL, SHARE = 1, 4
"""Every which case is taken."""
WORKER_BYTES_MAX = 256 * 1024 * 1024
"""Resident in a worker that ran the whole suite: the engine, some thirty modules, and what a run was last given."""
HONEST = tasklet(
    """(drop (call $buffer_read (local.get $handle) (i32.const 0) (i32.const 0) (local.get $length)))
    (loop
        (local.set $x (i32.add (i32.mul (local.get $x) (i32.const 1103515245)) (i32.load8_u (local.get $i))))
        (i32.store (i32.const 4096) (local.get $x))
        (drop (call $output_write (i32.const 4096) (i32.const 4)))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if 0 (i32.lt_u (local.get $i) (local.get $length))))
    (call $response_write (i32.const 0) (i32.const 4))""",
    run_locals="(local $x i32) (local $i i32)",
)
HONEST_INPUT = b"1234" + bytes(range(200))


class Held(NamedTuple):
    """What the pool's processes and this one hold."""

    resident_bytes: int
    worker_files: set[int]
    own_files: int
    processes: int


class Story(NamedTuple):
    """What was seen: ``outcomes`` by case, of the first pass; ``again`` of the second, one each worker."""

    cases: tuple[Case, ...]
    rows: list[Row]
    outcomes: dict[str, RunOutcome]
    honest: list[RunOutcome]
    early: Held | None
    late: Held | None
    again: dict[str, list[RunOutcome]]
    entries: int = 0
    """Of the cache of compiled code, after the first pass."""


def repeatable(outcome: RunOutcome) -> RunOutcome:
    return msgspec.structs.replace(outcome, wall_s=0.0)


def is_repeatable(case: Case) -> bool:
    """All but those that the machine's time ends."""
    return case.expected.code != "deadline_exceeded"


def some_cases(every: int) -> tuple[Case, ...]:
    """Evenly from all sections, and one for each end that a run can come to."""
    ends = {case.expected.code: case for case in reversed(CASES)}
    return tuple(case for at, case in enumerate(CASES) if at % every == 0 or case in ends.values())


def children() -> list[int]:
    text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return [int(pid) for pid in text.split()]


def held(pool: WorkerPool) -> Held | None:
    if sys.platform != "linux":
        return None
    places = [Path(f"/proc/{pid}") for pid in pool.pids]
    pages = [int((place / "statm").read_text().split()[1]) for place in places]
    return Held(
        max(pages) * os.sysconf("SC_PAGE_SIZE"),
        {len(list((place / "fd").iterdir())) for place in places},
        len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - a Path would have the folder open as well
        len(children()),
    )


async def run_one(pool: WorkerPool, case: Case) -> RunOutcome:
    module = case.module()
    try:
        return await pool.run(module, case.spec(module), case.desk())
    except GrafosError as error:
        return RunOutcome(error.code, error.what)


async def honest_runs(pool: WorkerPool, over: asyncio.Event) -> list[RunOutcome]:
    outcomes = []
    while not over.is_set():
        outcomes.append(await pool.run(HONEST, spec_of(HONEST, HONEST_INPUT)))
        await asyncio.sleep(0.01)
    return outcomes


async def first_pass(pool: WorkerPool, cases: tuple[Case, ...]) -> Story:
    """The suite in its order, and the honest tenant from the beginning to the end of it."""
    over, outcomes = asyncio.Event(), {}
    early: Held | None = None
    await asyncio.gather(*(pool.run(HONEST, spec_of(HONEST, HONEST_INPUT)) for _ in range(pool.size)))
    honest = asyncio.create_task(honest_runs(pool, over))
    try:
        early = held(pool)
        for case in cases:
            outcomes[case.name] = await run_one(pool, case)
    finally:
        over.set()
    rows = [judge(case, case.spec(case.module()), outcomes[case.name]) for case in cases]
    return Story(cases, rows, outcomes, await honest, early, held(pool), {})


async def second_pass(pool: WorkerPool, first: Story) -> dict[str, list[RunOutcome]]:
    """Whatever came as far as an instance, on all workers at once."""
    again = {}
    for case in first.cases:
        if is_repeatable(case) and first.outcomes[case.name].hook != "load":
            again[case.name] = list(await asyncio.gather(*(run_one(pool, case) for _ in range(pool.size))))
    return again


@pytest.fixture(scope="module", params=[SHARE, pytest.param(ALL, marks=pytest.mark.deep)], ids=["share", "all"])
def story(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("code")
    digest = engine_config.digest()  # once: it is that of the sources, which may be edited in these minutes

    async def tell() -> Story:
        pool = WorkerPool(WORKERS, cache=CodeCache(folder, digest=digest))
        try:
            told = await first_pass(pool, some_cases(request.param))
        finally:
            await pool.close()
        # Other workers, and nobody who could compile: all code comes from the cache.
        told = told._replace(entries=len(list(folder.iterdir())))
        other = WorkerPool(WORKERS, cache=CodeCache(folder, digest=digest), compile_command=["/nonexistent/compiler"])
        try:
            return told._replace(again=await second_pass(other, told))
        finally:
            await other.close()

    yield asyncio.run(tell())
    if sys.platform == "linux":
        assert children() == []


def test_every_case_comes_to_its_end_on_a_worker(story: Story) -> None:
    assert [row for row in story.rows if not row.is_as_expected] == []


def test_no_run_of_another_tenant_is_harmed(story: Story) -> None:
    ends = {msgspec.msgpack.encode(repeatable(outcome)) for outcome in story.honest}
    assert len(ends) == 1  # all finished, with the same bytes for the same fuel
    assert story.honest[0].code == "finished"
    assert len(story.honest) > 10


def test_no_worker_is_lost_under_any_case(story: Story) -> None:
    assert "worker_lost" not in {outcome.code for outcome in story.outcomes.values()}


@on_linux
def test_what_the_workers_hold_stays_bounded(story: Story) -> None:
    assert story.early is not None
    assert story.late is not None
    assert story.late.resident_bytes < WORKER_BYTES_MAX
    # A module that is kept and puts something into memory has an image of that, which is a file without a name.
    assert max(story.late.worker_files) <= max(story.early.worker_files) + MODULES_KEPT_MAX
    # Workers, and one that is kept ready to compile, which may just be on its way to being replaced.
    assert story.late.processes <= WORKERS + 2
    assert story.late.own_files <= story.early.own_files + 2 * 4


def test_a_run_is_the_same_on_every_worker_and_with_code_that_was_kept(story: Story) -> None:
    assert len(story.again) > len(story.cases) / 2
    assert story.entries > len(story.cases) / 2
    for name, outcomes in story.again.items():
        expected = repeatable(story.outcomes[name])
        assert [repeatable(outcome) for outcome in outcomes] == [expected] * WORKERS, name


def test_a_run_is_the_same_on_a_worker_as_in_this_process(story: Story) -> None:
    for case in story.cases:
        module, seen = case.module(), story.outcomes[case.name]
        if not is_repeatable(case) or seen.code == "limit_exceeded":
            continue
        here = run_module(module, case.spec(module), SystemClock(), desk=case.desk())
        assert repeatable(here) == repeatable(seen), case.name
