"""Durable placements over mutual TLS, singly and in batches of 32, each with its minted capability tokens; beside Ray.

    python benchmarks/durable.py [--quick] [--json]

A real scheduler process, its SQLite with a sync for each group of commits. Each of 64 connections asks for one run
after the other, or for 32 at once: certificate and API token are checked, the run is placed, its worst case held, and
the answer comes once all that is on the disk. The cell is played: the rules of a real broker, over a real link, grant
both leases of a run and mint a capability token for each, and forget them. A turn lasts until the last token is back.
The cell's own disk and the tasklet are not in it; nor is a task's result anywhere but in Ray's figure, whose tasks do
nothing and are not durable. Ours and Ray's share the machine's cores with the client (and ours with the played cell),
so both are asked from one process.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import multiprocessing
import selectors
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path

import msgspec
import peers
import table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from raw_link import RawLink  # the path comes first
from standalone import CELL_ID, PROVIDER, Identity, Standalone

from grafos_cell import broker
from grafos_cell.broker_events import Booted, Report, Told
from grafos_cell.holdings import BrokerSettings, BrokerState
from grafos_core import trust
from grafos_core.receipts import Signed
from grafos_core.resources import Resources
from grafos_scheduler import frames, messages

CONNECTIONS = 64
LEASES_OF_A_RUN = 2
MUCH = Resources(cpu_cores=4096, mem_bytes=1 << 40)
"""Of the played cell; a run takes one core, and none ends. No cell is believed to have more cores."""
GRANTED_WITHIN_S = 60.0
TASKS = 3000
"""Of Ray, in a turn."""
WARM_REQUESTS = 64
"""Before a turn counts; each scheduler and each connection is new."""
MODULE, INPUT = b"module", b"input"
RAY = """
import logging, sys, time
import ray
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
@ray.remote
def nothing():
    return None
ray.get([nothing.remote() for _ in range(200)])
print("ready", flush=True)
for line in sys.stdin:
    count = int(line)
    began = time.perf_counter()
    ray.get([nothing.remote() for _ in range(count)])
    print(count / (time.perf_counter() - began), flush=True)
"""


# The cell


def play_cell(cell: Standalone, who: Identity, granted: Synchronized[int], ready: Event) -> None:
    """Grants what it is asked for, and counts it; for ever."""
    settings = BrokerSettings("fabric", CELL_ID, MUCH, b"key of the cell", lambda _: Signed("run", b"", b""))
    state = BrokerState.load(settings, ())
    state.apply(broker.decide(state, Booted(), time.time()).batch)
    link = RawLink(cell, who)
    link.socket.settimeout(None)
    link.say(msgspec.structs.replace(broker.hello(state, "bench"), api_token=who.token))
    while heard := link.hear_all():
        if isinstance(heard[0], frames.Welcome):
            ready.set()
        asked = [frame for frame in heard if isinstance(frame, frames.GrantLease)]
        # Not applied: no cell would hold that many leases.
        decisions = [broker.decide(state, Told(frame), time.time()) for frame in asked]
        link.say(*[one.frame for made in decisions for one in made.effects if isinstance(one, Report)])
        granted.value += len(asked)


# The clients


class Caller:
    """64 connections that ask without a pause, each for its next runs when it has the answer before."""

    def __init__(self, cell: Standalone, who: Identity, granted: Synchronized[int]) -> None:
        self._cell, self._who, self._granted = cell, who, granted
        self._numbers = itertools.count()
        context = trust.client_context(cell.ca_pem, who.certificate, who.key)
        self._open = [self._connect(context) for _ in range(CONNECTIONS)]
        self._hashes = [hashlib.sha256(data).hexdigest() for data in (MODULE, INPUT)]

    def rate(self, make: Callable[[], bytes], requests: int, runs_each: int = 1) -> float:
        """Placements a second, until each run's tokens were minted."""
        before, selector, left, answers = self._granted.value, selectors.DefaultSelector(), requests, 0
        for connection in self._open:
            selector.register(connection, selectors.EVENT_READ)
        began = time.perf_counter()
        for connection in self._open[:requests]:
            connection.sendall(make())
            left -= 1
        while answers < requests:
            for key, _ in selector.select():
                asker = key.fileobj
                assert isinstance(asker, ssl.SSLSocket)
                _check(_answer(asker))
                answers += 1
                if left:
                    asker.sendall(make())
                    left -= 1
        self._await_tokens(before + LEASES_OF_A_RUN * requests * runs_each)
        return requests * runs_each / (time.perf_counter() - began)

    def one(self) -> bytes:
        """The request for one run, as it goes onto the wire."""
        return self._request("/api/v1/runs", self._run())

    def batch(self) -> bytes:
        """As ``one``, for as many as a request may ask for."""
        runs = tuple(self._run() for _ in range(messages.RUNS_BATCH_MAX))
        return self._request("/api/v1/runs:batch", messages.RunBatch(runs))

    def close(self) -> None:
        for connection in self._open:
            connection.close()

    def _await_tokens(self, granted: int) -> None:
        until = time.monotonic() + GRANTED_WITHIN_S
        while self._granted.value < granted:
            if time.monotonic() > until:
                raise SystemExit(f"{granted - self._granted.value} leases were not asked for")
            time.sleep(0.001)

    def _connect(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", self._cell.port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return context.wrap_socket(plain, server_hostname="127.0.0.1")

    def _run(self) -> messages.RunRequest:
        return messages.RunRequest(
            run_key=f"benchmark-{next(self._numbers):012}",
            provider=PROVIDER,
            program="bench",
            tasklet="main",
            module_sha256=self._hashes[0],
            input_sha256=self._hashes[1],
            deadline_s=600.0,
            lease_mem_bytes=1 << 20,
        )

    def _request(self, path: str, asked: msgspec.Struct) -> bytes:
        body = msgspec.json.encode(asked)
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self._who.token}\r\n"
        return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _answer(connection: ssl.SSLSocket) -> bytes:
    got = b""
    while True:
        part = connection.recv(1 << 16)
        if not part:
            raise SystemExit("the scheduler closed a connection")
        got += part
        head, ends, body = got.partition(b"\r\n\r\n")
        if ends:
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            if len(body) >= int(length.partition(b":")[2]):
                return got


def _check(answer: bytes) -> None:
    if answer[9:12] != b"200" or b'"error":{' in answer:
        raise SystemExit(f"a run was refused: {answer[:1000].decode(errors='replace')}")


# Ray


class Ray:
    """Ray in an interpreter of its own, which answers a number of tasks with their rate."""

    def __init__(self, python: Path) -> None:
        command = [str(python), "-c", RAY]
        self._child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._child.stdout is not None
        while (line := self._child.stdout.readline().strip()) != "ready":
            if not line and self._child.poll() is not None:
                raise ChildProcessError("Ray did not start: on a busy machine it gives itself up")

    def rate(self, count: int) -> float:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(f"{count}\n")
        self._child.stdin.flush()
        return float(self._child.stdout.readline())

    def close(self) -> None:
        self._child.communicate()


# The table


@contextlib.contextmanager
def a_caller() -> Iterator[Caller]:
    """A scheduler whose tenant's blobs are there, a cell that grants, and who calls; in processes of their own."""
    with tempfile.TemporaryDirectory() as folder:
        cell = Standalone(Path(folder), **{"heartbeat-every-s": 600})
        try:
            cell.start()
            operator, agent = cell.claimed(), cell.cell()
            request = messages.TenantRequest("bench", cell.request("bench"), cell.fabric.slice("bench"), quota=MUCH)
            with cell.client(operator) as client:
                grant = client.register_tenant(request)
            tenant = cell.identity("bench", grant.certificate_pem, grant.api_token)
            with cell.client(agent) as client:
                client.register_cell(messages.CellRegistration(CELL_ID, PROVIDER, "here", "bench", MUCH))
            with cell.client(tenant) as client:
                client.put_blob(MODULE), client.put_blob(INPUT)
            context = multiprocessing.get_context("fork")
            granted, ready = context.Value("q", 0), context.Event()
            child = context.Process(target=play_cell, args=(cell, agent, granted, ready), daemon=True)
            child.start()
            ready.wait(GRANTED_WITHIN_S)
            caller = Caller(cell, tenant, granted)
            yield caller
            caller.close()
            child.kill()
            child.join()
        finally:
            cell.discard()


def placements(requests: int, *, is_batch: bool) -> float:
    """Placements a second of one turn, with a scheduler of its own: its cell never ends a run."""
    with a_caller() as caller:
        make, each = (caller.batch, messages.RUNS_BATCH_MAX) if is_batch else (caller.one, 1)
        caller.rate(make, WARM_REQUESTS // each, each)
        return caller.rate(make, requests, each)


def table_rows(*, quick: bool) -> Iterator[table.Row]:
    """The rows, as they are measured."""
    home = None if quick else peers.find("ray", may_install=True)
    ray, missing = None, "left out of a quick look" if quick else peers.missing("ray")
    try:
        ray = Ray(home / "python") if home else None
    except ChildProcessError as error:
        missing = str(error)
    turns, theirs = 1 if quick else 5, partial(ray.rate, TASKS) if ray else None
    try:
        for what, is_batch, requests, goal in (
            ("durable placement, mTLS, 64 connections", False, 64 if quick else 3000, 4.0),
            ("the same, 32 to a request", True, 4 if quick else 96, 15.0),
        ):
            yield table.compare(
                what,
                "Ray, tasks that do nothing",
                "/s",
                partial(placements, requests, is_batch=is_batch),
                theirs,
                turns=turns,
                goal=table.Goal(goal, is_least=True),
                note="" if ray else missing,
                warms=False,
            )
    finally:
        if ray:
            ray.close()


if __name__ == "__main__":
    table.run(__doc__, table_rows)
