"""Runs a program apart from this machine: what it mounts is seen by it alone and ends with it, and it ends with whoever
started it, however that ends. Run as a file, by any Python and without grafos:

    apart.py [--registered NAME:MAGIC:MASK:EMULATOR] PROGRAM ARGUMENTS

An ordinary person becomes the owner of a user namespace, in which Debian's packages find all accounts that they ask
for; whoever is root already needs none. ``--registered`` makes one for root too, since from Linux 6.7 on a user
namespace has a binfmt_misc of its own: in it alone the kernel knows the emulator of a foreign architecture. So this
machine's own list is neither asked for nor changed.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

_NEW_MOUNTS, _NEW_USERS = 0x00020000, 0x10000000  # linux/sched.h
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000  # linux/mount.h
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
REGISTERED = "--registered"
BINFMT = Path("/proc/sys/fs/binfmt_misc")
ACCOUNTS = 65536
"""Debian's own accounts reach to 65535."""
_libc = ctypes.CDLL(None, use_errno=True)


def main(words: list[str]) -> NoReturn:
    """Becomes the program; one line and exit code 1 if that cannot be."""
    parent = os.getppid()
    registered = words.pop(0).removeprefix(f"{REGISTERED}=") if words[0].startswith(REGISTERED) else ""
    try:
        if registered or os.geteuid() != 0:
            _own_users()
        _call("unshare", _NEW_MOUNTS)
        _call("mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
        if registered:
            _call("mount", b"binfmt_misc", bytes(BINFMT), b"binfmt_misc", 0, None)
            # F: the emulator is opened here, so that the new root need not hold it.
            name, rest = registered.split(":", 1)
            (BINFMT / "register").write_bytes(f":{name}:M::{rest}:OF".encode())
        _call("prctl", _PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:
            raise OSError("whoever started this is gone")
        os.execvp(words[0], words)  # noqa: S606  to become the program is what this is for
    except (OSError, subprocess.SubprocessError) as error:
        sys.exit(f"it cannot run apart from this machine: {error}")


def _own_users() -> None:
    """A user namespace, in which this account is root. Its table of accounts is written from outside, by a child."""
    me = os.getpid()
    inside, outside = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(outside)
        code = 1
        try:
            if os.read(inside, 1):  # else nobody is in the namespace: the other end was closed without a word
                code = _write_accounts(me)
        finally:
            os._exit(code)
    os.close(inside)
    try:
        _call("unshare", _NEW_USERS)
        os.write(outside, b"1")
    finally:
        os.close(outside)
        _, status = os.waitpid(child, 0)
    if status:
        raise OSError("the namespace got no accounts; an ordinary person has some in /etc/subuid and /etc/subgid")


def _write_accounts(process: int) -> int:
    """Root's are those of this machine; an ordinary person's are those that the machine set aside."""
    if os.geteuid() == 0:
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{process}/{name}").write_text(f"0 0 {ACCOUNTS}")
        return 0
    for program, own, table in (("newuidmap", os.geteuid(), "/etc/subuid"), ("newgidmap", os.getegid(), "/etc/subgid")):
        first, count = _set_aside(Path(table))
        told = subprocess.run(
            [program, str(process), "0", str(own), "1", "1", str(first), str(min(count, ACCOUNTS - 1))], check=False
        )
        if told.returncode != 0:
            return 1
    return 0


def _set_aside(table: Path) -> tuple[int, int]:
    """The first account that was set aside for this person, and how many there are; none if there is no such line."""
    who = {pwd.getpwuid(os.geteuid()).pw_name, str(os.geteuid())}
    lines = (line.split(":") for line in table.read_text().splitlines())
    return next(((int(words[1]), int(words[2])) for words in lines if words[0] in who), (0, 0))


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    main(sys.argv[1:])
