"""Cells that enrol, ten thousand that beat at one orchestrator, and how long nobody answers when it falls.

    python benchmarks/joining.py [--quick] [--json]

A real orchestrator process, over mutual TLS on loopback. Enrolments: a connection each, the token made before; the peer
is what cannot be left out, an ECDSA signature and a synced write of the certificate, one after the other. Beating: each
cell has a key, a certificate and a link of its own, and beats as it is told to, every five seconds; its rows are put
into the orchestrator's store before it starts. The peer is a bare server on the same loop and TLS that reads as many
connections and forgets what it read. Memory is what the process grew by since it held no cell, for each cell.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import multiprocessing
import os
import resource
import signal
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path

import table
import uvloop

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from orchestrator import HAS, NAME, Orchestrator  # the path comes first
from standalone import Identity

from grafos_core import tokens, trust
from grafos_core.changes import Change
from grafos_core.resources import Resources
from grafos_core.rowfile import RowFile
from grafos_scheduler import frames, framing, rows
from grafos_scheduler.authorize import CELL_RIGHTS
from grafos_scheduler.store import CODEC, NOUN

CELLS, CELLS_QUICK = 10_000, 40
ENROLMENTS, ENROLMENTS_QUICK = 400, 8
CALLERS = 8
"""Who enrol at once."""
BEAT_EVERY_S = 5.0
WATCHED_S = 20.0
DIALLED_AT_ONCE = 16
LINKED_WITHIN_S = 1200.0
DIAL_S_MAX = 60.0
DAY_S = 86_400.0
PROVIDER = "aws"
CERTIFICATE_BYTES = 1024
KIB = 1024
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


# What a process takes


def resident_kib(pid: int) -> float:
    """Resident memory of the process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith("VmRSS:")).split()[1])


def cpu_s(pid: int) -> float:
    """User and system seconds of the process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def pid_of(at: Orchestrator) -> int:
    assert at.scheduler is not None
    return int(at.scheduler.popen.pid)


@contextlib.contextmanager
def an_orchestrator() -> Iterator[tuple[Orchestrator, Identity]]:
    with tempfile.TemporaryDirectory() as folder:
        at = Orchestrator(Path(folder), **{"heartbeat-every-s": BEAT_EVERY_S})
        try:
            at.start()
            yield at, at.claimed()
        finally:
            at.discard()


# Enrolments


def enrolments(count: int) -> tuple[float, float]:
    """A second of the clock, and a second of the orchestrator's processor."""
    with an_orchestrator() as (at, operator):
        asked = [(at.bootstrap(operator, f"cell-{n}"), at.request(f"cell-{n}")) for n in range(count)]
        began, used = time.perf_counter(), cpu_s(pid_of(at))
        with ThreadPoolExecutor(CALLERS) as pool:
            list(pool.map(lambda one: at.enrol(*one), asked))
        return count / (time.perf_counter() - began), count / max(cpu_s(pid_of(at)) - used, 1 / TICKS_PER_S)


def signed_and_synced(count: int) -> float:
    """A second: a signature, and a write of a certificate's size that is on the disk."""
    key = trust.new_key()
    with tempfile.TemporaryFile() as file:
        began = time.perf_counter()
        for _ in range(count):
            file.write(trust.sign(key, b"a certificate").ljust(CERTIFICATE_BYTES))
            file.flush()
            os.fsync(file.fileno())
        return count / (time.perf_counter() - began)


# Cells that beat


@dataclass(frozen=True)
class Cell:
    """One that enrolled: its files are one, and its token."""

    name: str
    pem: Path
    token: str


def enrolled(at: Orchestrator, count: int) -> list[Cell]:
    """So many cells as if they had enrolled and registered; while the orchestrator does not run."""
    ca_key = trust.key_from_pem((at.trust / "ca-key.pem").read_bytes())
    token_key, now = (at.trust / "token-key").read_bytes(), time.time()
    folder = at.folder / "cells"
    folder.mkdir()
    cells, changes = [], []
    for n in range(count):
        name, key = f"cell-{n:05}", trust.new_key()
        uri = trust.spiffe_id(at.fabric.id, "cell", name, PROVIDER)
        pem = trust.sign_csr(at.ca_pem, ca_key, trust.make_csr(key, name), uri, now, DAY_S)
        sha256 = trust.key_sha256(key.public_key())
        token = tokens.mint_api_token(token_key, tokens.ApiClaims(NAME, "cell", name, sha256, CELL_RIGHTS, now + DAY_S))
        cells.append(Cell(name, folder / name, token))
        cells[-1].pem.write_text(trust.key_to_pem(key).decode() + pem)
        identity = rows.Identity(name, PROVIDER, "here", sha256, f"{n:032x}", now, registered=True)
        cell = rows.Cell(name, PROVIDER, "here", "bench", HAS, sha256, now)
        changes += [
            Change(rows.IDENTITY, name, identity),
            Change(rows.CELL, name, cell),
            Change(rows.TERMS, name, rows.Terms(name, 1_000_000, 0.0)),
        ]
    file = RowFile(at.state / "scheduler.db", CODEC, noun=NOUN)
    file.commit(tuple(changes), file.take())
    file.close()
    return cells


class Beating(asyncio.Protocol):
    """One cell's end of its link."""

    def __init__(self, cell: Cell, welcomed: Callable[[], None]) -> None:
        self._cell, self._welcomed = cell, welcomed
        self._transport: asyncio.Transport
        self._beat = framing.encode_frame(frames.Heartbeat(Resources()))
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # of a stream
        start = time.time_ns() // 1_000_000
        hello = frames.Hello(self._cell.name, start, "bench", api_token=self._cell.token, instance=self._cell.name)
        self._transport.write(framing.encode_frame(hello))
        self._say()

    def data_received(self, _: bytes) -> None:
        self._welcomed()

    def connection_lost(self, _: Exception | None) -> None:
        self.ended.set_result(None)

    def _say(self) -> None:
        if not self.ended.done():
            self._transport.write(self._beat)
            asyncio.get_running_loop().call_later(BEAT_EVERY_S, self._say)


def beat_for_ever(at: Orchestrator, port: int, alpn: str, cells: list[Cell], linked: Event) -> None:
    """In a process of its own: dials for each cell, and beats; a cell whose link ends dials again, as a real one."""
    seen: set[str] = set()

    async def hold(cell: Cell, gate: asyncio.Semaphore) -> None:
        loop = asyncio.get_running_loop()

        def welcomed() -> None:
            seen.add(cell.name)
            if len(seen) == len(cells):
                linked.set()

        while True:
            async with gate:
                context = trust.client_context(at.ca_pem, cell.pem, cell.pem)
                context.set_alpn_protocols([alpn])
                try:
                    _, link = await loop.create_connection(
                        lambda: Beating(cell, welcomed),
                        "127.0.0.1",
                        port,
                        ssl=context,
                        ssl_handshake_timeout=DIAL_S_MAX,
                    )
                except OSError:
                    continue
            await link.ended
            seen.discard(cell.name)

    async def live() -> None:
        gate = asyncio.Semaphore(DIALLED_AT_ONCE)
        await asyncio.gather(*(hold(cell, gate) for cell in cells))

    _allow_files()
    uvloop.run(live())


def forget_for_ever(at: Orchestrator, port: int, ready: Event) -> None:
    """The peer: answers the first bytes of each connection, and reads on."""

    class Forgetting(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transport.write(b"welcome")  # type: ignore[attr-defined]  # of a stream

        def data_received(self, data: bytes) -> None:
            del data

    async def live() -> None:
        folder = at.trust
        context = trust.server_context(folder / "server.pem", folder / "server-key.pem", folder / "ca.pem", ["bare"])
        context.verify_mode = ssl.CERT_REQUIRED
        context.num_tickets = 0
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Forgetting, "127.0.0.1", port, ssl=context, backlog=4096)
        ready.set()
        await server.serve_forever()

    _allow_files()
    uvloop.run(live())


@dataclass(frozen=True)
class Held:
    """What one server took for its cells."""

    kib_per_cell: float
    cores: float


def held_by(at: Orchestrator, pid: int, port: int, alpn: str, cells: list[Cell], empty_kib: float) -> Held:
    """Has all cells linked to a server and watches it."""
    context = multiprocessing.get_context("fork")
    linked = context.Event()
    beating = context.Process(target=beat_for_ever, args=(at, port, alpn, cells, linked), daemon=True)
    beating.start()
    try:
        if not linked.wait(LINKED_WITHIN_S):
            raise SystemExit("not all cells were linked in time")
        used, began = cpu_s(pid), time.perf_counter()
        time.sleep(WATCHED_S if len(cells) > CELLS_QUICK else BEAT_EVERY_S)
        cores = max(cpu_s(pid) - used, 1 / TICKS_PER_S) / (time.perf_counter() - began)
        return Held((resident_kib(pid) - empty_kib) / len(cells), cores)
    finally:
        beating.kill()
        beating.join()


def fleet(count: int) -> tuple[Held, Held, float]:
    """Ours, the bare server's, and how long ours took to answer again after it was killed with all cells known."""
    _allow_files()
    with an_orchestrator() as (at, operator):
        empty_kib = resident_kib(pid_of(at))
        _end(at, signal.SIGTERM)
        cells = enrolled(at, count)
        at.start()
        ours = held_by(at, pid_of(at), at.port, frames.LINK_ALPN, cells, empty_kib)
        restart_s = restarted(at, operator)
        _end(at, signal.SIGTERM)
        return ours, _bare(at, cells), restart_s


def _bare(at: Orchestrator, cells: list[Cell]) -> Held:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    server = context.Process(target=forget_for_ever, args=(at, at.port, ready), daemon=True)
    server.start()
    try:
        ready.wait(LINKED_WITHIN_S)
        assert server.pid is not None
        return held_by(at, server.pid, at.port, "bare", cells, resident_kib(server.pid))
    finally:
        server.kill()
        server.join()


# When it falls


def restarted(at: Orchestrator, operator: Identity) -> float:
    """Seconds from its kill to its first answer, its supervisor's pause left out."""
    _end(at, signal.SIGKILL)
    began = time.perf_counter()
    at.start()
    with at.client(operator, patience_s=60.0) as boss:
        boss.providers()
    return time.perf_counter() - began


def led_again(number: int) -> float:
    """Seconds from the leader's end by that signal to the first write that another acknowledged, of three replicas."""
    from postgresql import Server
    from replicas import Fleet

    server = Server()
    with tempfile.TemporaryDirectory() as folder:
        three = Fleet(Path(folder), server.start())
        try:
            three.start()
            leader = three.leader()
            other = three.others(leader)[0]
            with other.client(three.operator, patience_s=60.0) as boss:
                boss.set_budget("acme", 1)
                _end(leader, number)
                began = time.perf_counter()
                boss.set_budget("acme", 2)
                return time.perf_counter() - began
        finally:
            three.discard()
            server.discard()


def _end(at: Orchestrator, number: int) -> None:
    assert at.scheduler is not None
    at.scheduler.end(number)


def _allow_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


# The table


def table_rows(*, quick: bool) -> Iterator[table.Row]:
    """The rows, as they are measured."""
    turns, count = (1, ENROLMENTS_QUICK) if quick else (3, ENROLMENTS)
    took = [(*enrolments(count), signed_and_synced(count)) for _ in range(turns)]
    beside = "a signature and a synced write"
    yield table.paired("enrolments", beside, "/s", [(clock, bare) for clock, _, bare in took])
    per_core = statistics.median(core for _, core, _ in took)
    yield table.alone(
        "enrolments, by the orchestrator's CPU", "/s", per_core, goal=table.Goal(figure=200, is_least=True)
    )
    yield from _fleet_rows(CELLS_QUICK if quick else CELLS)
    yield from _fall_rows(1 if quick else 3)


def _fleet_rows(count: int) -> Iterator[table.Row]:
    ours, bare, restart_s = fleet(count)
    beside, what = "a bare TLS server", f"{count:,} cells that beat"
    memory = [(ours.kib_per_cell, bare.kib_per_cell)]
    yield table.paired(f"{what}: memory of each", beside, "KiB", memory, goal=table.Goal(figure=100))
    yield table.paired(f"{what}: CPU", beside, "cores", [(ours.cores, bare.cores)], goal=table.Goal(figure=0.5))
    goal = table.Goal(figure=5.0)
    yield table.alone(f"killed and started again, {count:,} cells known", "s", restart_s, goal=goal)


def _fall_rows(turns: int) -> Iterator[table.Row]:
    import parts  # of tests/support, as all that cells are played with

    lacking = parts.lack("postgresql")  # type: ignore[attr-defined]  # types are looked up in tools/parts.py
    for what, number, goal in (
        ("a leader of three is killed: until a write is acknowledged", signal.SIGKILL, 12.0),
        ("the same, ended in good order", signal.SIGTERM, 2.0),
    ):
        if lacking:
            yield table.Row(what, unit="s", goal=table.Goal(figure=goal).text("s"), note=lacking)
            continue
        seconds = statistics.median(itertools.starmap(led_again, itertools.repeat((number,), turns)))
        yield table.alone(what, "s", seconds, goal=table.Goal(figure=goal))


if __name__ == "__main__":
    table.run(__doc__, table_rows)
