"""Finding and killing all processes of one emulated machine; Linux, standard library only.

A machine's first process (``init``) is a *subreaper*: a process below it whose parent dies becomes its child, never
that of the real init. So everything the machine ever started, in whatever session or group, stays below it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # these four from linux/prctl.h
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_OVER_THE_HOST = (16, 17, 21, 22)  # linux/capability.h: load modules, raw I/O, administer, reboot
KILL_ROUNDS = 200  # a process that forks while it is killed needs another round; no honest one needs many
KILL_PAUSE_S = 0.005
HOME_VARIABLES = (b"HOME=", b"STATE_DIRECTORY=")  # by these a process tells which machine it belongs to

_libc = ctypes.CDLL(None, use_errno=True)


def adopt_orphans() -> None:
    """Makes the calling process the parent of every orphan below it."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def give_up_privileges() -> None:
    """No program started from here on can gain rights (sudo, setuid), and root's lack those over the whole host."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if os.geteuid() == 0:
        for capability in _OVER_THE_HOST:
            try:
                _prctl(_PR_CAPBSET_DROP, capability)
            except PermissionError:
                return  # a root that may not give rights away, as in some containers, has not got these either


def die_with_parent() -> None:
    """For a child just forked: the kernel kills it when the thread that forked it ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")


def kill_descendants() -> bool:
    """Kills everything below the calling process, which has adopted its orphans, and reaps it; True if none is left."""
    for _ in range(KILL_ROUNDS):
        below = descendants(os.getpid())
        if not below:
            return True
        for pid in below:
            _kill(pid)
        time.sleep(KILL_PAUSE_S)
        _reap()
    return False


def descendants(ancestor: int) -> list[int]:
    """The pids below ``ancestor``, as ``/proc`` shows them now; the dead that are not reaped yet included."""
    children: dict[int, list[int]] = {}
    for pid in _all_pids():
        parent = _parent(pid)
        if parent is not None:
            children.setdefault(parent, []).append(pid)
    found: list[int] = []
    open_ends = [ancestor]
    while open_ends:
        below = children.get(open_ends.pop(), [])
        found += below
        open_ends += below
    return found


def kill_of_machine(root: Path) -> None:
    """Kills every process whose home is below ``root``: what is left when a machine's ``init`` itself was killed."""
    for _ in range(KILL_ROUNDS):
        left = of_machine(root)
        if not left:
            return
        for pid in left:
            _kill(pid)
        time.sleep(KILL_PAUSE_S)


def of_machine(root: Path) -> list[int]:
    """The pids of live processes whose home directory is ``root`` or below."""
    prefixes = tuple(variable + os.fsencode(root) + b"/" for variable in HOME_VARIABLES)
    return [pid for pid in _all_pids() if pid != os.getpid() and _has_home(pid, prefixes)]


def _has_home(pid: int, prefixes: tuple[bytes, ...]) -> bool:
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False  # ended meanwhile, or another user's
    return any(variable.startswith(prefixes) for variable in variables.split(b"\0"))


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208  names are all that is needed


def _parent(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    return int(stat[stat.rindex(b")") + 2 :].split()[1])  # the name in parentheses may hold anything


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it was faster


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        pass  # none left
