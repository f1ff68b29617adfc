"""What a worker cannot do once it has closed itself off: every attempt is made by a process of its own that did so.

And what becomes of a worker that hangs or dies: its run gets a typed end, and the next run another worker.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import resource
import signal
import struct
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tasklets import spec_of, tasklet

from grafos_cell import abi
from grafos_cell import confinement_filter as rules
from grafos_cell.pool import WorkerPool
from grafos_cell.run import MemoryLease
from grafos_cell.worker_process import PoolLimits, WorkerProcess, worker_command

LONG_S = 60.0
here = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in rules.PROCESSORS,
    reason="the filter of system calls is for Linux on x86-64 and aarch64",
)

CHILDREN = """
import ctypes, fcntl, mmap, os, resource, signal, socket, sys, threading
from grafos_cell.confinement import confine, seal

libc = ctypes.CDLL(None, use_errno=True)
parent = os.getpid()
reading, writing = os.pipe()
keep, _ = os.pipe()

def call(*arguments):
    if libc.syscall(*arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")

def attempt(act):
    '''How a child that closed itself off ends: done, refused (and by what), or the signal that ended it.'''
    pid = os.fork()
    if pid == 0:
        confine()
        unsealed = seal()
        assert not unsealed, unsealed
        try:
            act()
            os.write(writing, b"done")
        except BaseException as error:
            os.write(writing, f"refused {type(error).__name__}".encode())
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return "ended " + signal.Signals(os.WTERMSIG(status)).name
    return os.read(reading, 1000).decode()

for line in sys.stdin:
    print(attempt(eval("lambda: " + line)))
"""

REFUSED = {
    "reading a file": "open('/etc/passwd').read()",
    "reading its own memory as a file": "open('/proc/self/mem', 'rb')",
    "writing a file": "open('/dev/null', 'w')",
    "making a file": "os.open('/tmp/made', os.O_CREAT | os.O_WRONLY)",
    "looking at a file": "os.stat('/etc/passwd')",
    "listing a folder": "os.listdir('/')",
    "deleting": "os.unlink('/tmp/none')",
    "renaming": "os.rename('/tmp/none', '/tmp/other')",
    "making a folder": "os.mkdir('/tmp/made')",
    "making a link": "os.symlink('/etc', '/tmp/made')",
    "changing rights": "os.chmod('/etc/passwd', 0o666)",
    "changing the working folder": "os.chdir('/tmp')",
    "another process by fork": "os.fork()",
    "another process by spawning": "os.posix_spawn('/bin/true', ['true'], dict())",
    "another thread": "threading.Thread(target=print).start()",
    "another pipe": "os.pipe()",
    "another priority for the parent": "os.setpriority(os.PRIO_PROCESS, parent, 19)",
    "another limit for the parent": "resource.prlimit(parent, resource.RLIMIT_CPU, (1, 1))",
    "signals to the parent by way of a pipe": "fcntl.fcntl(keep, fcntl.F_SETOWN, parent)",
    "orders to a device": "fcntl.ioctl(keep, 0x5412, b'x')",
    "names of processes": "call({prctl}, 15, b'x', 0, 0, 0)",
    "another filter": "call({seccomp}, 0, 0, 0)",
}
ENDED = {
    "a socket to the network": "socket.socket()",
    "a socket on the machine": "socket.socket(socket.AF_UNIX)",
    "a raw socket": "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
    "a pair of sockets": "socket.socketpair()",
    "another program": "os.execv('/bin/true', ['true'])",
    "ending the parent": "os.kill(parent, 0)",
    "ending all there are": "os.kill(-1, 0)",
    "watching the parent": "libc.ptrace(16, parent, 0, 0)",
    "reading the parent's memory": "call({process_vm_readv}, parent, 0, 0, 0, 0, 0)",
    "a handle of the parent": "call({pidfd_open}, parent, 0)",
    "system calls by another way": "call({io_uring_setup}, 1, 0)",
    "code in the kernel": "call({bpf}, 0, 0, 0)",
    "watching the machine": "call({perf_event_open}, 0, 0, 0, 0, 0)",
    "mounting": "libc.mount(b'none', b'/mnt', b'tmpfs', 0, None)",
    "namespaces": "libc.unshare(0x10000000)",
    "another root": "os.chroot('/')",
    "another user": "call({setuid}, 0)",
    "keys": "call({keyctl}, 0, 0, 0, 0, 0)",
}


def numbers() -> dict[str, int]:
    """System calls by name, for this processor."""
    column = rules.PROCESSORS[platform.machine()].column
    return {name: numbers[column] for name, numbers in rules.ENDING.items() if numbers[column] is not None} | {
        "prctl": (157, 167)[column],
        "seccomp": (317, 277)[column],
    }


def tried(attempts: list[str]) -> list[str]:
    """What becomes of each attempt."""
    lines = "\n".join(attempt.format(**numbers()) for attempt in attempts)
    done = subprocess.run(
        [sys.executable, "-c", CHILDREN], input=lines, capture_output=True, text=True, timeout=LONG_S, check=True
    )
    return done.stdout.splitlines()


@here
def test_a_sealed_process_is_refused_what_it_does_not_need() -> None:
    seen = dict(zip(REFUSED, tried(list(REFUSED.values())), strict=True))
    allowed = {name: end for name, end in seen.items() if end.split()[0] != "refused"}
    assert allowed == {}


@here
def test_a_sealed_process_that_tries_to_break_out_is_ended() -> None:
    seen = dict(zip(ENDED, tried(list(ENDED.values())), strict=True))
    assert {name: end for name, end in seen.items() if end != "ended SIGSYS"} == {}


@here
@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86-64 has two calling conventions in one process")
def test_the_numbers_of_another_calling_convention_are_no_way_around() -> None:
    assert tried(["call(0x40000000 | 39)"]) == ["ended SIGSYS"]


@here
def test_a_sealed_process_still_does_what_a_worker_does() -> None:
    attempts = [
        "bytearray(64 << 20)",
        "mmap.mmap(-1, 1 << 20)",
        "os.write(os.memfd_create('image'), b'x')",
        "resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30))",
        "os.urandom(8)",
        "os.close(keep)",
    ]
    assert tried(attempts) == ["done"] * len(attempts)


@here
def test_a_kernel_that_refuses_the_filter_is_told_and_not_fatal() -> None:
    """The filter refuses a second one, as a kernel without it would the first."""
    (answer,) = tried(["sys.exit(os.write(writing, seal().encode()))"])
    assert answer.startswith("the kernel refuses a filter of system calls: Operation not permitted")


# --- the filter itself, for both processors -------------------------------------------------------------------------


def answer_of(machine: str, number: int, *arguments: int, processor: int | None = None) -> int:
    """What the kernel would answer: the filter's program, run here."""
    record = struct.pack(
        "=IIQ6Q",
        number,
        rules.PROCESSORS[machine].audit if processor is None else processor,
        0,
        *(*arguments, *([0] * (6 - len(arguments)))),
    )
    program = rules.program(machine)
    assert program is not None
    lines = list(struct.iter_unpack("=HBBI", program))
    at, value = 0, 0
    while True:
        code, if_true, if_false, operand = lines[at]
        at += 1
        if code == 0x06:
            return int(operand)
        if code == 0x20:
            (value,) = struct.unpack_from("=I", record, operand)
        else:
            is_so = value == operand if code == 0x15 else value >= operand
            at += if_true if is_so else if_false


@pytest.mark.parametrize("machine", sorted(rules.PROCESSORS))
def test_the_filter_answers_each_call_as_its_table_says(machine: str) -> None:
    column = rules.PROCESSORS[machine].column
    expected = {numbers[column]: rules.ALLOW for numbers in rules.ALLOWED.values()}
    expected |= {numbers[column]: rules.END for numbers in rules.ENDING.values()}
    narrowed = {narrow.numbers[column] for narrow in rules.NARROW.values()}
    assert not narrowed & set(expected)
    for number in set(range(600)) - narrowed:
        assert answer_of(machine, number) == expected.get(number, rules.REFUSE), number


@pytest.mark.parametrize("machine", sorted(rules.PROCESSORS))
def test_a_narrowed_call_is_allowed_with_its_values_alone(machine: str) -> None:
    column = rules.PROCESSORS[machine].column
    for narrow in rules.NARROW.values():
        number = narrow.numbers[column]
        assert number is not None
        for value in range(2000):
            arguments = [*([7] * narrow.argument), value]
            assert (answer_of(machine, number, *arguments) == rules.ALLOW) == (value in narrow.values)


@pytest.mark.parametrize("machine", sorted(rules.PROCESSORS))
def test_another_processor_s_numbers_end_the_process(machine: str) -> None:
    i386 = 0x4000_0003
    assert {answer_of(machine, number, processor=i386) for number in range(500)} == {rules.END}


def test_a_processor_without_a_table_has_no_filter() -> None:
    assert rules.program("riscv64") is None


# --- real workers ---------------------------------------------------------------------------------------------------


def threads_of(pid: int) -> list[dict[str, str]]:
    """What the kernel says of each thread of the process."""
    texts = [(task / "status").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    return [dict(line.split(":\t", 1) for line in text.splitlines()) for text in texts]


@here
def test_a_worker_is_sealed_with_all_its_threads_before_it_is_ready() -> None:
    async def look() -> list[dict[str, str]]:
        worker = await WorkerProcess.start(worker_command(), LONG_S)
        assert worker.unsealed == ""
        facts = threads_of(worker.pid)
        await worker.end()
        return facts

    threads = asyncio.run(look())
    assert len(threads) == 2  # the guest's and the deadline's; no third will come
    assert {(thread["Seccomp"], thread["NoNewPrivs"]) for thread in threads} == {("2", "1")}
    # Compiling is limited by the memory that counts as data, so little of it may be gone when it begins.
    assert all(int(thread["VmData"].split()[0]) < 200 * 1024 for thread in threads)


@here
def test_a_worker_that_is_ended_by_the_filter_is_lost_and_says_by_what() -> None:
    module = tasklet()
    breakout = (
        "import sys\nfrom grafos_cell import confinement, worker\n"
        "worker.Worker._work = lambda self, spec: __import__('socket').socket()\n"
        "import socket\nworker.main()"
    )

    async def tell() -> str:
        pool = WorkerPool(1, command=[sys.executable, "-c", breakout])
        try:
            return (await pool.run(module, spec_of(module))).text
        finally:
            await pool.close()

    assert f"signal {signal.SIGSYS.name}" in asyncio.run(tell())


UNSEALED = """
import sys
from grafos_cell.worker_messages import *
sys.stdout.buffer.write(frame(Ready(1, "no such thing")))
sys.stdout.buffer.flush()
sys.stdin.buffer.read()
"""


def test_workers_that_cannot_be_sealed_are_told_once_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def tell() -> None:
        pool = WorkerPool(2, command=[sys.executable, "-c", UNSEALED])
        await pool.start()
        async with asyncio.timeout(LONG_S):
            while len(pool.pids) < 2:  # noqa: ASYNC110 - what is waited for is another process
                await asyncio.sleep(0.01)
        await pool.close()

    with caplog.at_level(logging.WARNING, "grafos.cell"):
        asyncio.run(tell())
    assert [record.getMessage() for record in caplog.records if "closed off" in record.getMessage()] == [
        "workers are not closed off, and runs go on all the same: 'no such thing'"
    ]


# --- workers that hang, die, or have no memory left -----------------------------------------------------------------

RUNNING_TICKS = 20
"""To load a small module takes a tenth of it, so by then it is the guest that computes."""
QUICK, ENDLESS = tasklet(), tasklet("(loop (br 0)) (i32.const 0)")


def in_a_pool(story: Callable[[WorkerPool], Awaitable[None]], limits: PoolLimits | None = None) -> None:
    async def tell() -> None:
        pool = WorkerPool(1, limits=limits)
        try:
            assert (await pool.run(QUICK, spec_of(QUICK))).is_finished
            await story(pool)
            assert (await pool.run(QUICK, spec_of(QUICK))).is_finished  # on another worker, if need be
        finally:
            await pool.close()

    asyncio.run(tell())


@here
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT, signal.SIGTERM, signal.SIGSYS])
def test_a_worker_that_dies_under_a_run_is_replaced_and_the_run_says_how(number: signal.Signals) -> None:
    async def story(pool: WorkerPool) -> None:
        (before,) = pool.pids
        begun_at = ticks_of(before)
        run = asyncio.create_task(pool.run(ENDLESS, spec_of(ENDLESS, fuel=abi.FUEL_MAX, deadline_s=LONG_S)))
        async with asyncio.timeout(LONG_S):
            while ticks_of(before) < begun_at + RUNNING_TICKS:  # noqa: ASYNC110 - what is waited for is another process
                await asyncio.sleep(0.01)
        os.kill(before, number)
        outcome = await run
        assert (outcome.code, before in pool.pids) == ("worker_lost", False)
        assert f"signal {number.name}" in outcome.text

    in_a_pool(story)


def ticks_of(pid: int) -> int:
    """What the process has computed, in the kernel's hundredths of a second."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])


@here
def test_an_idle_worker_that_hangs_is_found_by_the_next_run_which_gets_another() -> None:
    async def story(pool: WorkerPool) -> None:
        (before,) = pool.pids
        os.kill(before, signal.SIGSTOP)
        outcome = await pool.run(QUICK, spec_of(QUICK))
        assert (outcome.code, before in pool.pids) == ("finished", False)

    in_a_pool(story, PoolLimits(load_s=1.0))


@here
def test_leased_memory_that_the_machine_does_not_have_ends_the_run_and_not_the_worker() -> None:
    leased = tasklet("(i32.wrap_i64 (call $fbmu_size (i32.const 0)))")

    async def story(pool: WorkerPool) -> None:
        (before,) = pool.pids
        resource.prlimit(before, resource.RLIMIT_DATA, (200 << 20, 200 << 20))
        outcome = await pool.run(leased, spec_of(leased, memory_leases=(MemoryLease(1 << 30, LONG_S),)))
        assert (outcome.code, pool.pids) == ("placement_failed", [before])
        assert "no room left for the 1073741824 bytes" in outcome.text

    in_a_pool(story)


@here
def test_memory_that_the_machine_does_not_have_is_refused_to_the_guest() -> None:
    growing = tasklet("(memory.grow (i32.const 60000))")

    async def story(pool: WorkerPool) -> None:
        (before,) = pool.pids
        resource.prlimit(before, resource.RLIMIT_DATA, (200 << 20, 200 << 20))
        outcome = await pool.run(growing, spec_of(growing, memory_bytes=abi.MEMORY_BYTES_MAX))
        assert (outcome.code, outcome.returned, pool.pids) == ("program_error", -1, [before])

    in_a_pool(story)
