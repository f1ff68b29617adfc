"""Which system calls a worker may make, as a program for the kernel's filter (seccomp): pure data, nothing acts here.

Whatever is not named is refused with EPERM, so that a library that asks for more than it needs goes on without. What
nobody in a worker asks for by accident ends the process: it is a guest that broke out, and gets no second try.
Numbers are those of the kernel's tables for each processor. Source: seccomp(2), linux/bpf_common.h, linux/seccomp.h.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

ALLOW = 0x7FFF_0000
REFUSE = 0x0005_0000 | 1
"""The call answers EPERM."""
END = 0x8000_0000
"""The process ends with SIGSYS."""


class Processor(NamedTuple):
    """One of the processors that the filter is written for. ``audit`` is the kernel's number for it; ``column`` where
    its numbers stand below. ``foreign`` is the bit of another calling convention's numbers, 0 if there is none."""

    audit: int
    column: int
    foreign: int


PROCESSORS = {
    "x86_64": Processor(0xC000_003E, 0, 0x4000_0000),
    "aarch64": Processor(0xC000_00B7, 1, 0),
}
"""By the name that ``platform.machine`` gives."""

Numbers = tuple[int | None, int]
"""On x86-64 and on aarch64; None where a processor does not have the call."""

ALLOWED: dict[str, Numbers] = {
    # the pipes, and the memory images of modules, which are files without a name
    "read": (0, 63),
    "write": (1, 64),
    "readv": (19, 65),
    "writev": (20, 66),
    "pwrite64": (18, 68),
    "lseek": (8, 62),
    "close": (3, 57),
    "fstat": (5, 80),
    "memfd_create": (319, 279),
    "ftruncate": (77, 46),
    # memory; compiled code is made executable here, so that cannot be refused
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "brk": (12, 214),
    "membarrier": (324, 283),
    # signals to this very thread: traps of guests arrive as such
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    # the deadline's thread, locks, time, chance
    "futex": (202, 98),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "getcpu": (309, 168),
    "set_robust_list": (273, 99),
    "rseq": (334, 293),
    "nanosleep": (35, 101),
    "clock_gettime": (228, 113),
    "clock_nanosleep": (230, 115),
    "gettimeofday": (96, 169),
    "getrandom": (318, 278),
    "getpid": (39, 172),
    "gettid": (186, 178),
    # the end
    "exit": (60, 93),
    "exit_group": (231, 94),
}


class Narrow(NamedTuple):
    """A call that is allowed when one argument, of 32 bits, has one of these values."""

    numbers: Numbers
    argument: int
    values: tuple[int, ...]


NARROW: dict[str, Narrow] = {
    # of the process's own limits alone: a compiler lowers its memory
    "prlimit64": Narrow((302, 261), 0, (0,)),
    # F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC, F_ADD_SEALS; F_SETOWN and F_SETSIG would signal others through a pipe
    "fcntl": Narrow((72, 25), 1, (1, 2, 3, 1030, 1033)),
}

ENDING: dict[str, Numbers] = {
    # other programs
    "execve": (59, 221),
    "execveat": (322, 281),
    # the network, and other processes' sockets
    "socket": (41, 198),
    "socketpair": (53, 199),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "accept4": (288, 242),
    # other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kill": (62, 129),
    "tkill": (200, 130),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    # ways around this filter, and into the kernel
    "io_uring_setup": (425, 425),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "mount": (165, 40),
    "umount2": (166, 39),
    "chroot": (161, 51),
    "pivot_root": (155, 41),
    "unshare": (272, 97),
    "setns": (308, 268),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "kexec_load": (246, 104),
    "reboot": (169, 142),
    "setuid": (105, 146),
    "setgid": (106, 144),
}

# Classic BPF: what is loaded, compared and returned. The kernel's record of a call is number, processor, instruction
# pointer (8 bytes), six arguments of 8 bytes; of an argument we look at the low half, as the kernel does with an int.
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER_AT, _PROCESSOR_AT, _ARGUMENTS_AT = 0, 4, 16


def program(machine: str) -> bytes | None:
    """The filter for a processor; None when there is none for it."""
    processor = PROCESSORS.get(machine)
    if processor is None:
        return None
    lines = [
        _line(_LOAD, _PROCESSOR_AT),
        _line(_IF_EQUAL, processor.audit, 1, 0),
        _line(_RETURN, END),  # another processor's numbers would mean other calls
        _line(_LOAD, _NUMBER_AT),
    ]
    if processor.foreign:
        lines += [_line(_IF_AT_LEAST, processor.foreign, 0, 1), _line(_RETURN, END)]
    lines += _answers(ALLOWED, processor, ALLOW)
    for narrow in NARROW.values():
        lines += _narrowed(narrow, processor)
    lines += _answers(ENDING, processor, END)
    return b"".join([*lines, _line(_RETURN, REFUSE)])


def _answers(calls: dict[str, Numbers], processor: Processor, answer: int) -> list[bytes]:
    """Two lines a call, so that no jump has to be far."""
    numbers = [numbers[processor.column] for numbers in calls.values()]
    return [
        line
        for number in numbers
        if number is not None
        for line in (_line(_IF_EQUAL, number, 0, 1), _line(_RETURN, answer))
    ]


def _narrowed(narrow: Narrow, processor: Processor) -> list[bytes]:
    number = narrow.numbers[processor.column]
    assert number is not None, "calls that are narrowed are everywhere"
    inner = [_line(_LOAD, _ARGUMENTS_AT + 8 * narrow.argument)]
    for value in narrow.values:
        inner += [_line(_IF_EQUAL, value, 0, 1), _line(_RETURN, ALLOW)]
    inner.append(_line(_RETURN, REFUSE))
    return [_line(_IF_EQUAL, number, 0, len(inner)), *inner]


def _line(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
