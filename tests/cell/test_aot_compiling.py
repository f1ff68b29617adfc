"""Who compiles, when, and what becomes of it: `compiling` and what the pool does with it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tasklets import spec_of, tasklet
from wasmtime import wat2wasm

from grafos_cell.code_cache import CodeCache
from grafos_cell.compiling import Compilers
from grafos_cell.conformance.attack_cases import many_values
from grafos_cell.pool import WorkerPool
from grafos_cell.run import RunOutcome
from grafos_cell.worker_process import PoolLimits, WorkerLostError, worker_command
from grafos_core.errors import GrafosError
from grafos_core.ids import sha256_of

QUICK = bytes(tasklet("(i32.const 0)"))
NO_COMPILER = ["/nonexistent/compiler"]
COUNTED = """
import sys
from pathlib import Path
with Path({log!r}).open("a") as log:
    log.write("x")
from grafos_cell.worker import main
main()
"""
LIAR = """
import sys
from grafos_cell.worker_messages import *
from grafos_cell.module import ModuleFacts
def say(message):
    sys.stdout.buffer.write(message if isinstance(message, bytes) else frame(message))
    sys.stdout.buffer.flush()
say(Ready(1))
heard = decode_down(sys.stdin.buffer.read(frame_length(sys.stdin.buffer.read(4))))
"""

Story = Callable[[WorkerPool], Awaitable[None]]


def in_a_pool(story: Story, command: list[str] | None = None, cache: CodeCache | None = None, **limits: float) -> None:
    async def tell() -> None:
        pool = WorkerPool(1, cache=cache, limits=PoolLimits(**limits), compile_command=command)  # type: ignore[arg-type]
        try:
            await story(pool)
        finally:
            await pool.close()

    asyncio.run(tell())


def outcome_of(command: list[str], **limits: float) -> RunOutcome:
    outcomes: list[RunOutcome] = []

    async def story(pool: WorkerPool) -> None:
        outcomes.append(await pool.run(QUICK, spec_of(QUICK)))

    in_a_pool(story, command, **limits)
    return outcomes[0]


def counting(tmp_path: Path) -> tuple[list[str], Path]:
    """A compiler that leaves a mark each time one is started."""
    log = tmp_path / "started"
    log.touch()
    return [sys.executable, "-c", COUNTED.format(log=str(log))], log


def test_a_module_is_compiled_once_however_many_run_it(tmp_path: Path) -> None:
    command, log = counting(tmp_path)

    async def story(pool: WorkerPool) -> None:
        outcomes = await asyncio.gather(*(pool.run(QUICK, spec_of(QUICK)) for _ in range(10)))
        assert {outcome.code for outcome in outcomes} == {"finished"}

    in_a_pool(story, command)
    assert len(log.read_text()) <= 2  # the one that compiled, and the next that is kept ready


def test_code_in_the_cache_needs_no_compiler(tmp_path: Path) -> None:
    async def story(pool: WorkerPool) -> None:
        assert (await pool.run(QUICK, spec_of(QUICK))).code == "finished"

    in_a_pool(story, cache=CodeCache(tmp_path / "code"))
    in_a_pool(story, NO_COMPILER, CodeCache(tmp_path / "code"))
    assert outcome_of(NO_COMPILER).code == "worker_lost"


def test_a_damaged_entry_is_compiled_anew(tmp_path: Path) -> None:
    async def story(pool: WorkerPool) -> None:
        assert (await pool.run(QUICK, spec_of(QUICK))).code == "finished"

    for _ in range(2):
        in_a_pool(story, cache=CodeCache(tmp_path / "code"))
        (entry,) = [file for file in (tmp_path / "code").iterdir() if file.name != "key"]
        entry.write_bytes(entry.read_bytes()[:-1] + b"?")


def test_no_two_modules_are_compiled_by_one_process() -> None:
    modules = [bytes(tasklet(f"(i32.const {number})")) for number in range(3)]
    once = LIAR + "say(Refused('module_invalid', 'the first')); say(Refused('module_invalid', 'no more'))"

    async def story(pool: WorkerPool) -> None:
        outcomes = [await pool.run(module, spec_of(module)) for module in modules]
        assert [outcome.text for outcome in outcomes] == ["the first"] * 3

    in_a_pool(story, [sys.executable, "-c", once])


def test_a_worker_is_never_asked_to_compile() -> None:
    """What a worker says is code is not what the next run gets: it is a breach of the protocol."""
    code = LIAR + "say(ModuleCode(ModuleFacts(heard.spec.context.module_sha256, 1), b'evil'))"

    async def tell() -> RunOutcome:
        pool = WorkerPool(1, command=[sys.executable, "-c", code])
        try:
            return await pool.run(QUICK, spec_of(QUICK))
        finally:
            await pool.close()

    outcome = asyncio.run(tell())
    assert outcome.code == "worker_lost"
    assert "broke the protocol" in outcome.text


def test_a_module_that_takes_too_long_to_compile_is_refused_and_its_compiler_ended() -> None:
    outcome = outcome_of([sys.executable, "-c", LIAR + "sys.stdin.buffer.read(1)"], compile_s=0.3)
    assert outcome.code == "module_invalid"
    assert "not compiled within 0.3 s" in outcome.text


def test_a_module_that_takes_long_to_compile_holds_up_no_run_whose_code_is_there(tmp_path: Path) -> None:
    slow = bytes(tasklet("(i32.const 1)"))
    cache = CodeCache(tmp_path / "code")

    async def first(pool: WorkerPool) -> None:
        assert (await pool.run(QUICK, spec_of(QUICK))).code == "finished"

    async def story(pool: WorkerPool) -> None:
        compiling = asyncio.create_task(pool.run(slow, spec_of(slow)))
        await asyncio.sleep(0)
        for _ in range(3):
            assert (await pool.run(QUICK, spec_of(QUICK))).code == "finished"
        assert not compiling.done()
        compiling.cancel()

    in_a_pool(first, cache=cache)
    in_a_pool(story, [sys.executable, "-c", LIAR + "sys.stdin.buffer.read(1)"], cache)


@pytest.mark.parametrize(
    ("lie", "why"),
    [
        ("sys.exit('out of memory')", "out of memory"),
        ("say(Started())", "broke the protocol"),
        ("say(b'HTTP/1.1 200 OK')", "frame of"),
        ("say(Refused('no_such_code', 'x'))", "broke the protocol"),
        ("say(Refused('module_invalid', 'x' * 10000))", "broke the protocol"),
        ("say(Refused('module_invalid', '\\x1b[2J'))", "broke the protocol"),
    ],
)
def test_a_compiler_that_breaks_or_lies_ends_the_run_alone(lie: str, why: str) -> None:
    outcome = outcome_of([sys.executable, "-c", LIAR + lie])
    assert outcome.code == "worker_lost"
    assert why in outcome.text


@pytest.mark.parametrize("end", ["SIGABRT", "SIGSEGV"])
def test_a_compiler_that_breaks_on_a_module_refuses_it(end: str) -> None:
    """As one does that needs more memory than it may have."""
    said = "sys.stderr.write('memory allocation of 7 bytes failed\\nnote: more\\n'); sys.stderr.flush()"
    outcome = outcome_of([sys.executable, "-c", f"{LIAR}import os, signal; {said}; os.kill(os.getpid(), signal.{end})"])
    assert outcome.code == "module_invalid"
    assert outcome.text == (f"the compiler broke on the module: signal {end}, 'memory allocation of 7 bytes failed'")


def test_a_compiler_that_is_killed_is_not_the_modules_fault() -> None:
    outcome = outcome_of([sys.executable, "-c", LIAR + "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"])
    assert (outcome.code, "signal SIGKILL" in outcome.text) == ("worker_lost", True)


def test_a_module_for_whose_code_no_memory_is_enough_is_refused() -> None:
    bomb = bytes(wat2wasm(many_values(labels=800, values=900, branches=40)))
    assert len(bomb) < 200_000

    async def story(pool: WorkerPool) -> None:
        outcome = await pool.run(bomb, spec_of(bomb))
        assert outcome.code == "module_invalid"
        assert "the compiler broke on the module" in outcome.text
        assert (await pool.run(QUICK, spec_of(QUICK))).code == "finished"

    in_a_pool(story)


def test_which_module_it_is_is_not_the_compiler_s_word() -> None:
    lie = LIAR + "say(ModuleCode(ModuleFacts('0' * 64, 1, memory_min_bytes=65536), b'code'))"

    async def tell() -> None:
        compilers = Compilers(1, [sys.executable, "-c", lie], PoolLimits(), None)
        code = await compilers.code_of(QUICK, sha256_of(QUICK))
        assert (code.facts.sha256, code.facts.size_bytes) == (sha256_of(QUICK), len(QUICK))
        await compilers.close()

    asyncio.run(tell())


def test_a_module_under_another_s_name_is_not_compiled() -> None:
    async def story(pool: WorkerPool) -> None:
        outcome = await pool.run(QUICK, spec_of(bytes(tasklet("(i32.const 1)"))))
        assert outcome.code == "blob_mismatch"

    in_a_pool(story, NO_COMPILER)


def test_one_that_waits_may_be_stopped_and_the_others_still_get_the_code() -> None:
    async def tell() -> None:
        compilers = Compilers(1, worker_command(), PoolLimits(), None)
        waiting = [asyncio.create_task(compilers.code_of(QUICK, sha256_of(QUICK))) for _ in range(3)]
        await asyncio.sleep(0.05)
        waiting[0].cancel()
        codes = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(codes[0], asyncio.CancelledError)
        assert codes[1] == codes[2]
        await compilers.close()

    asyncio.run(tell())


def test_closing_ends_what_is_compiled_and_refuses_what_comes() -> None:
    async def tell() -> None:
        compilers = Compilers(1, [sys.executable, "-c", LIAR + "sys.stdin.buffer.read(1)"], PoolLimits(), None)
        waiting = asyncio.create_task(compilers.code_of(QUICK, sha256_of(QUICK)))
        await asyncio.sleep(0.05)
        await compilers.close()
        await compilers.close()
        for late in (waiting, asyncio.create_task(compilers.code_of(QUICK, sha256_of(QUICK)))):
            with pytest.raises(GrafosError) as refused:
                await late
            assert refused.value.code == "draining"

    asyncio.run(tell())


def test_a_compiler_that_cannot_be_kept_ready_is_no_news_until_it_is_needed() -> None:
    async def tell() -> None:
        compilers = Compilers(1, NO_COMPILER, PoolLimits(), None)
        compilers.warm_up()
        await asyncio.sleep(0.05)
        with pytest.raises((OSError, WorkerLostError)):
            await compilers.code_of(QUICK, sha256_of(QUICK))
        await compilers.close()

    asyncio.run(tell())
