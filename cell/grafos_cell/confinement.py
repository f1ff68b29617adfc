"""What a worker gives up before it runs anybody's code, and why that is enough: ``docs/decisions/sandbox.md``.

``confine`` at its start: limits, no core dump, tied to its parent. ``seal`` once all that it will ever need is open and
loaded: from there on it opens no file, starts no program or thread, and reaches no network and no other process.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
import signal
import sys
from pathlib import Path

from grafos_cell import confinement_filter
from grafos_cell.worker_messages import PARENT_VARIABLE

NICENESS = 5
"""Below the daemon, whose leases and heartbeats must not wait for guests that use every core."""
OOM_SCORE = "1000"
"""When a machine runs out of memory, the kernel ends a worker first, and never the daemon that holds its leases."""
FILES_MAX = 64
"""Open files: the pipes, and what the interpreter needs for an import."""
FILE_BYTES_MAX = 64 * 1024 * 1024
"""Of one file. A worker writes none but the images of what modules put into memory: smaller, and without a name."""

_SET_DEATH_SIGNAL, _SET_NO_NEW_PRIVILEGES = 1, 38
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SET_FILTER, _FOR_ALL_THREADS = 1, 1


class _Program(ctypes.Structure):
    """``struct sock_fprog``."""

    _fields_ = (("length", ctypes.c_ushort), ("lines", ctypes.c_char_p))


def confine() -> None:
    """Takes from this process what a worker does not need. What the platform does not have is left out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the daemon, which then ends its workers
    os.umask(0o077)
    os.nice(NICENESS)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, FILES_MAX)
    _limit(resource.RLIMIT_FSIZE, FILE_BYTES_MAX)
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # where /proc is read-only
            Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)
        libc = ctypes.CDLL(None)
        libc.prctl(_SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        libc.prctl(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    # The parent may have ended before it could be tied to it: then this process belongs to somebody else by now.
    if os.environ.get(PARENT_VARIABLE) not in {None, str(os.getppid())}:
        os._exit(0)
    os.environ.clear()


def seal() -> str:
    """Closes the process off, all of its threads, for good. Empty, or why the kernel does not do it.

    ``confine`` came before: the kernel takes a filter from those alone who can gain no privileges.
    """
    _limit(resource.RLIMIT_NPROC, 0)
    machine = platform.machine()
    program = confinement_filter.program(machine) if sys.platform == "linux" else None
    if program is None:
        return f"there is no filter of system calls for {sys.platform} on {machine}"
    kernel_takes = _Program(len(program) // 8, program)
    libc = ctypes.CDLL(None, use_errno=True)
    # A positive answer is a thread that could not be brought along.
    answer = libc.syscall(_SECCOMP[machine], _SET_FILTER, _FOR_ALL_THREADS, ctypes.byref(kernel_takes))
    if answer == 0:
        return ""
    reason = os.strerror(ctypes.get_errno()) if answer < 0 else f"thread {answer} cannot be filtered"
    return f"the kernel refuses a filter of system calls: {reason}"


def _limit(what: int, value: int) -> None:
    """Soft and hard, and never more than there was."""
    hard = resource.getrlimit(what)[1]
    most = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (most, most))
