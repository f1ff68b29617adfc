"""One worker process: what it says, what it inherits, when it ends."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tasklets import spec_of, tasklet

from grafos_cell import abi
from grafos_cell.confinement import FILES_MAX, NICENESS, OOM_SCORE
from grafos_cell.run import MemoryLease, RunSpec
from grafos_cell.runtime import Runtime
from grafos_cell.worker import Worker
from grafos_cell.worker_messages import (
    FRAME_BYTES_MAX,
    CodeRefused,
    CodeWanted,
    Compile,
    Done,
    Down,
    Job,
    ModuleCode,
    Ready,
    Refused,
    Started,
    Up,
    decode_up,
    frame,
    frame_length,
)
from grafos_cell.worker_process import PoolLimits, WorkerProcess, worker_command
from grafos_core.clock import SystemClock
from grafos_core.errors import GrafosError

LONG_S = 60.0
"""Longer than any of these tests may take."""

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc and the death signal are Linux's")


def frames_of(data: bytes) -> Iterator[Up]:
    while data:
        length = frame_length(data[:4])
        yield decode_up(data[4 : 4 + length])
        data = data[4 + length :]


def talk(*messages: Down, cut: int = 0) -> list[Up]:
    """What a worker answers when it hears these messages, the last `cut` bytes missing, and then the end."""
    heard = b"".join(frame(message) for message in messages)
    sink = io.BytesIO()
    runtime = Runtime(SystemClock())
    Worker(io.BytesIO(heard[: len(heard) - cut]), sink, runtime).serve()
    runtime.close()
    return list(frames_of(sink.getvalue()))


def code_of(module: bytes) -> ModuleCode:
    """The module, compiled here."""
    runtime = Runtime(SystemClock())
    code = runtime.compile(module)
    runtime.close()
    return code


def kinds(answers: list[Up]) -> list[type]:
    return [type(answer) for answer in answers]


def test_a_worker_asks_for_code_once() -> None:
    module = tasklet("(i32.const 7)")
    job = Job(spec_of(module))
    answers = talk(job, code_of(module), job, job)
    assert kinds(answers) == [Ready, CodeWanted, Started, Done, Started, Done, Started, Done]
    assert {answer.outcome.returned for answer in answers if isinstance(answer, Done)} == {7}


def test_code_that_does_not_load_is_told_and_the_worker_goes_on() -> None:
    good, other = tasklet(), tasklet("(i32.const 1)")
    damaged = ModuleCode(code_of(other).facts, b"no code of this engine")
    answers = talk(Job(spec_of(other)), damaged, Job(spec_of(good)), code_of(good))
    assert kinds(answers) == [Ready, CodeWanted, CodeRefused, CodeWanted, Started, Done]


def test_another_module_than_the_wanted_one_is_not_run() -> None:
    answers = talk(Job(spec_of(tasklet("(i32.const 1)"))), code_of(tasklet()))
    (done,) = [answer for answer in answers if isinstance(answer, Done)]
    assert done.outcome.code == "blob_mismatch"


COMPILE = """
import sys
from grafos_cell.worker import Worker
from grafos_cell.runtime import Runtime
from grafos_core.clock import SystemClock
Worker(sys.stdin.buffer, sys.stdout.buffer, Runtime(SystemClock())).serve()
"""


def compiled_elsewhere(module: bytes) -> Up:
    """What a process of its own answers: it limits its memory for ever."""
    heard = frame(Compile(module))
    done = subprocess.run([sys.executable, "-c", COMPILE], input=heard, capture_output=True, check=True)
    _ready, answer = frames_of(done.stdout)
    return answer


def test_code_that_was_compiled_in_another_process_runs_here() -> None:
    module = tasklet("(i32.const 7)", memory="2 5")
    code = compiled_elsewhere(module)
    assert isinstance(code, ModuleCode)
    assert (code.facts.sha256, code.facts.memory_max_bytes) == (spec_of(module).context.module_sha256, 5 * 65536)
    assert code.facts.imports == code.facts.exports == ()
    answers = talk(Job(spec_of(module)), code)
    assert [answer.outcome.returned for answer in answers if isinstance(answer, Done)] == [7]


@pytest.mark.parametrize(("module", "code"), [(b"none", "module_invalid"), (tasklet()[:-4], "module_invalid")])
def test_a_module_that_may_not_run_is_refused_by_its_compiler(module: bytes, code: str) -> None:
    answer = compiled_elsewhere(bytes(module))
    assert isinstance(answer, Refused)
    assert answer.code == code


class SlowModule(io.BytesIO):
    """A pipe on which what follows the first message takes its time."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() > 4:
            time.sleep(0.1)
        return super().read(size)


def test_a_lease_does_not_grow_longer_while_the_module_is_on_its_way() -> None:
    module = tasklet("(i32.wrap_i64 (call $fbmu_size (i32.const 0)))")
    heard = (Job(spec_of(module, memory_leases=(MemoryLease(1000, 0.1),))), code_of(module))
    sink, runtime = io.BytesIO(), Runtime(SystemClock())
    Worker(SlowModule(frame(heard[0]) + frame(heard[1])), sink, runtime).serve()
    runtime.close()
    (done,) = [answer for answer in frames_of(sink.getvalue()) if isinstance(answer, Done)]
    assert done.outcome.returned == abi.LEASE_EXPIRED


@pytest.mark.parametrize("cut", [1, 5, 10_000])
def test_a_worker_ends_with_its_parent_also_in_the_middle_of_a_frame(cut: int) -> None:
    job = Job(spec_of(tasklet()))
    assert kinds(talk(job, cut=min(cut, len(frame(job))))) == [Ready]


def test_a_worker_whose_parent_ends_before_the_module_came_ends_too() -> None:
    answers = talk(Job(spec_of(tasklet())))
    assert kinds(answers) == [Ready, CodeWanted]


def test_a_frame_has_a_limit() -> None:
    with pytest.raises(GrafosError) as refused:
        frame_length((FRAME_BYTES_MAX + 1).to_bytes(4, "big"))
    assert refused.value.code == "body_too_large"


def test_the_pool_s_side_does_not_import_the_engine() -> None:
    """A daemon starts faster without it, and a guest that broke out of it is not in the daemon."""
    code = "import sys, grafos_cell.pool; print('wasmtime' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


async def start() -> WorkerProcess:
    return await WorkerProcess.start(worker_command(), LONG_S)


@on_linux
def test_a_worker_inherits_nothing_but_its_pipes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFOS_TEST_SECRET", "do not pass on")
    with Path(os.devnull).open("rb") as secret:
        os.set_inheritable(secret.fileno(), True)

        async def look() -> tuple[dict[str, str], set[str], str]:
            worker = await start()
            place = Path(f"/proc/{worker.pid}")
            variables = (place / "environ").read_bytes().decode().split("\0")
            files = {str(file.readlink()).partition(":")[0] for file in (place / "fd").iterdir()}
            limits = (place / "limits").read_text()
            assert (place / "oom_score_adj").read_text().strip() == OOM_SCORE
            assert os.getpriority(os.PRIO_PROCESS, worker.pid) >= NICENESS
            await worker.end()
            return dict(one.split("=", 1) for one in variables if one), files, limits

        environment, files, limits = asyncio.run(look())
    assert set(environment) == {"PYTHONPATH", "GRAFOS_WORKER_PARENT"}
    assert files == {"pipe", "/dev/null"}
    assert [line.split()[4] for line in limits.splitlines() if "core file" in line] == ["0"]
    assert [line.split()[3] for line in limits.splitlines() if "open files" in line] == [str(FILES_MAX)]


PARENT = """
import asyncio, sys
sys.path.insert(0, {support!r})
from tasklets import spec_of, tasklet
from grafos_cell.pool import WorkerPool

async def main():
    pool = WorkerPool(1)
    module = tasklet("(loop (br 0)) (i32.const 0)")
    run = asyncio.create_task(pool.run(module, spec_of(module, fuel=10**12, deadline_s=600.0)))
    while not pool.pids:
        await asyncio.sleep(0.01)
    print(pool.pids[0], flush=True)
    await run

asyncio.run(main())
"""


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@on_linux
def test_a_worker_does_not_outlive_its_parent_even_in_the_middle_of_a_run() -> None:
    code = PARENT.format(support=str(Path(__file__).parents[1] / "support"))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        time.sleep(0.2)  # into the run; if the machine is slow the test proves less, and still passes
        assert is_alive(pid)
        parent.kill()
    until = time.monotonic() + LONG_S
    while is_alive(pid) and time.monotonic() < until:
        time.sleep(0.01)
    assert not is_alive(pid)


@on_linux
def test_a_worker_whose_parent_is_gone_before_it_began_ends_at_once() -> None:
    done = subprocess.run(
        worker_command(),
        env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "GRAFOS_WORKER_PARENT": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LONG_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b"")


def test_an_interrupt_from_the_keyboard_is_not_for_workers() -> None:
    """Ctrl-C goes to the whole foreground; the daemon then ends its workers in order."""

    async def interrupt() -> str:
        worker = await start()
        os.kill(worker.pid, signal.SIGINT)
        module = tasklet()
        outcome = await worker.run(code_of(module), spec_of(module), PoolLimits())
        await worker.end()
        return outcome.code

    assert asyncio.run(interrupt()) == "finished"


def test_a_run_on_a_worker_is_the_same_as_in_this_process() -> None:
    module = tasklet("(drop (call $output_write (i32.const 0) (i32.const 100))) (i32.const 3)", memory="2")
    spec: RunSpec = spec_of(module, b"input")

    async def there() -> tuple[object, ...]:
        worker = await start()
        outcome = await worker.run(code_of(module), spec, PoolLimits())
        await worker.end()
        return (outcome.code, outcome.text, outcome.returned, outcome.output, outcome.fuel_used, outcome.memory_bytes)

    runtime = Runtime(SystemClock())
    here = runtime.run(runtime.load(module), spec)
    runtime.close()
    expected = (here.code, here.text, here.returned, here.output, here.fuel_used, here.memory_bytes)
    assert asyncio.run(there()) == expected
