"""A program that imports all that `grafos` may need, and forks one `grafos` for each request at its socket.

Started by `forked` with the address of that socket, and ended by the end of its input. Nobody waits for an import: as
soon as all is there but the SDKs this process serves, while a fork of it imports them and then takes over the address.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import pkgutil
import select
import selectors
import signal
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

FIRST = (
    "asyncio", "cryptography.x509", "grafos_emulators.state", "grafos_scheduler.client", "jinja2", "rich.console",
    "rich.live", "rich.table", "sqlite3", "typer",
)  # fmt: skip
FIRST_ROOMS = ("grafos_core", "grafos_cli")
"""All modules of a room are imported, but for what is started as a program."""
PROGRAMS = ("__main__", "run_locally")
LAST = (
    "wasmtime", "grafos_cell.module", "boto3", "google.cloud.compute_v1", "azure.mgmt.compute", "azure.mgmt.network",
    "azure.mgmt.resource.resources",
)  # fmt: skip
"""What commands import when they need it; an SDK takes one to three seconds."""
LAST_ROOMS = ("grafos_stacks", "grafos_connectors")
REQUEST_BYTES_MAX = 1 << 20
STREAMS = 3


def import_all(names: Iterable[str], alive: int) -> None:
    """What cannot be imported is told by the command that needs it."""
    for name in names:
        if select.select([alive], [], [], 0)[0]:
            os._exit(0)
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    gc.freeze()


def modules_of(rooms: Iterable[str]) -> Iterator[str]:
    for room in rooms:
        package = importlib.import_module(room)
        for found in pkgutil.walk_packages(package.__path__, f"{room}.", onerror=lambda _: None):
            if not set(PROGRAMS) & set(found.name.split(".")):
                yield found.name


def listen(address: str) -> socket.socket:
    """The socket at that address, which others find only when it is ready."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    own = f"{address}-{os.getpid()}"
    listening.bind(own)
    listening.listen()
    Path(own).replace(address)
    return listening


class Parent:
    """Forks a child for each request, and tells the asker its number and then its end."""

    def __init__(self, listening: socket.socket, alive: int) -> None:
        self._listening, self._alive = listening, alive
        self._askers: dict[int, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._woken, wakes = os.pipe()
        for end in (self._woken, wakes):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wakes)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve(self) -> None:
        """Returns in a child only, which then is to run the program."""
        for source in (self._listening, self._alive, self._woken):
            self._selector.register(source, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select():
                if key.fileobj == self._alive:
                    os._exit(0)
                if key.fileobj == self._woken:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._woken, 4096)
                    self._tell_ends()
                elif self._fork():
                    return

    def _fork(self) -> bool:
        """Whether this is the child."""
        asker, _ = self._listening.accept()
        request, streams, _, _ = socket.recv_fds(asker, REQUEST_BYTES_MAX, STREAMS)
        if not request:  # somebody who only looked whether anybody is here
            asker.close()
            return False
        if not (number := os.fork()):
            # What would be closed later, when nobody holds it any more, would by then be a file of the program's.
            self._selector.close()
            for held in (self._listening, asker, *self._askers.values()):
                held.close()
            become(request, streams)
            return True
        for stream in streams:
            os.close(stream)
        self._askers[number] = asker
        self._tell(asker, number)
        return False

    def _tell_ends(self) -> None:
        while self._askers:
            number, status = os.waitpid(-1, os.WNOHANG)
            if not number:
                return
            if asker := self._askers.pop(number, None):
                with asker:
                    self._tell(asker, os.waitstatus_to_exitcode(status))

    @staticmethod
    def _tell(asker: socket.socket, number: int) -> None:
        with contextlib.suppress(BrokenPipeError):
            asker.send(str(number).encode())


def become(request: bytes, streams: list[int]) -> None:
    """Makes this child the process that a shell would have started."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(STREAMS, max(int(entry.name) for entry in Path("/dev/fd").iterdir()) + 1)
    cwd, umask, count, *rest = request.decode(errors="surrogateescape").split("\0")
    os.umask(int(umask))
    os.chdir(cwd)
    os.environ.clear()
    for pair in rest[int(count) :]:
        name, _, value = pair.partition("=")
        os.environ[name] = value
    time.tzset()
    sys.argv[1:] = rest[: int(count)]


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests: when they end, so does this
    alive = os.dup(0)  # whether somebody is there is seen on another number than a command's input has
    import_all([*FIRST, *modules_of(FIRST_ROOMS)], alive)
    if not os.fork():
        import_all([*modules_of(LAST_ROOMS), *LAST], alive)
    Parent(listen(sys.argv[1]), alive).serve()
    sys.argv[0] = str(Path(sys.executable).with_name("grafos"))
    from grafos_cli.main import main

    main()
