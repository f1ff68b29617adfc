"""How many calls a second the emulated clouds answer, beside a bare HTTP server and moto's own server.

    python benchmarks/emulators.py [--quick] [--json]

Each server runs in a process of its own and is asked by the same client: keep-alive connections of plain sockets that
parse nothing, one for the latency, several for the rate. The peer of every row is ``http.server`` with a constant
answer; that of the EC2 row is moto's handlers too, behind the same ``http.server``, and moto's own server, which is
installed at first use into an environment of its own; neither heeds tokens or states.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import peers
import table

CONNECTIONS = 8
TURNS = 3
CALLS_THAT_LEAVE_SOMETHING = 200  # in a run: what an account holds in earnest
PROJECT, SUBSCRIPTION = "grafos-emulated", "67726166-6f73-4000-8000-000000000001"
SIGNED = "AWS4-HMAC-SHA256 Credential={key}/20261121/us-east-1/ec2/aws4_request, SignedHeaders=host, Signature=0"
LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
CLOSES = re.compile(rb"(?i)\r\nconnection: *close\r\n")
IMAGE = re.compile(r"<imageId>(ami-[0-9a-f]+)</imageId>")

Make = Callable[[], bytes]
"""The next request, whole, as it goes onto the wire."""


# Servers, each in a process of its own


def serve(kind: str) -> None:
    """Serves until standard input ends, having printed the port."""
    {"bare": _serve_bare, "moto": _serve_moto, "handlers": _serve_handlers, "emulated": _serve_emulated}[kind]()


def _serve_bare() -> None:
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    class Constant(BaseHTTPRequestHandler):
        protocol_version, wbufsize, disable_nagle_algorithm = "HTTP/1.1", -1, True

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")
            self.wfile.flush()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    class Quiet(ThreadingHTTPServer):
        request_queue_size = CONNECTIONS * 2  # with the usual five, clients that come at once wait a second for TCP

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that ended its run is no news."""

    server = Quiet(("127.0.0.1", 0), Constant)
    Thread(target=server.serve_forever, daemon=True).start()
    _until_told(server.server_address[1])


def _serve_handlers() -> None:
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    from moto.core.request import Request as MotoRequest
    from moto.ec2.responses import EC2Response

    url = "https://ec2.us-east-1.amazonaws.com/"

    class Dispatching(BaseHTTPRequestHandler):
        protocol_version, wbufsize, disable_nagle_algorithm = "HTTP/1.1", -1, True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {**self.headers, "Host": "ec2.us-east-1.amazonaws.com"}
            asked = MotoRequest.from_primitives("POST", url, headers, body)
            status, _, answer = EC2Response.dispatch(asked, asked.raw_url, dict(asked.headers))
            told = answer if isinstance(answer, bytes) else answer.encode()
            self.send_response(int(status))
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)
            self.wfile.flush()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    class Quiet(ThreadingHTTPServer):
        request_queue_size = CONNECTIONS * 2  # with the usual five, clients that come at once wait a second for TCP

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that ended its run is no news."""

    server = Quiet(("127.0.0.1", 0), Dispatching)
    Thread(target=server.serve_forever, daemon=True).start()
    _until_told(server.server_address[1])


def _serve_moto() -> None:
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    _until_told(port)
    os._exit(0)  # moto's own threads would go on


def _serve_emulated() -> None:
    from grafos_emulators.emulator import EmulatedClouds, Settings

    with (
        tempfile.TemporaryDirectory() as folder,
        EmulatedClouds(Path(folder) / "emulator", Settings(boots=False, vcpu_limit=10**6)) as clouds,
    ):
        clouds.gcp.quota_limits["NETWORKS", ""] = 10.0**6
        _until_told(int(clouds.endpoint.rpartition(":")[2]))


def _until_told(port: int) -> None:
    print(port, flush=True)
    sys.stdin.read()
    sys.stdout.close()


@contextlib.contextmanager
def running(kind: str, python: str = sys.executable) -> Iterator[int]:
    """The port of a server in a process of its own."""
    child = subprocess.Popen(
        [python, __file__, "--serve", kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with child, child.stdin, child.stdout:
        line = child.stdout.readline()
        if not line:
            raise SystemExit(f"the server {kind} did not start")
        yield int(line)
        child.stdin.close()


# The client


@dataclass(frozen=True)
class Figures:
    """One run: calls a second, and how long calls took, in milliseconds."""

    rate: float
    p50_ms: float
    p99_ms: float


def drive(port: int, make: Make, *, connections: int, seconds: float, calls: int = sys.maxsize) -> Figures:
    """Asks without a pause over so many connections, each for its next answer when it has the one before."""
    took: list[float] = []
    asked_at: dict[socket.socket, float] = {}
    selector = selectors.DefaultSelector()
    with contextlib.ExitStack() as open_sockets:

        def ask(connection: socket.socket | None) -> None:
            now = time.perf_counter()
            if connection is None:
                connection = open_sockets.enter_context(socket.create_connection(("127.0.0.1", port)))
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(connection, selectors.EVENT_READ)
            asked_at[connection] = now
            connection.sendall(make())

        begun = time.perf_counter()
        for _ in range(connections):
            ask(None)
        while not took or (time.perf_counter() - begun < seconds and len(took) < calls):
            for connection in [key.fileobj for key, _ in selector.select()]:
                assert isinstance(connection, socket.socket)
                answer = read_answer(connection)
                _check(answer)
                took.append(time.perf_counter() - asked_at[connection])
                closes = CLOSES.search(answer, 0, answer.find(b"\r\n\r\n") + 2)
                if closes:  # moto's server keeps no connection
                    selector.unregister(connection)
                    connection.close()
                ask(None if closes else connection)
        lasted = time.perf_counter() - begun
    took.sort()
    return Figures(len(took) / lasted, statistics.median(took) * 1e3, took[int(len(took) * 0.99)] * 1e3)


def read_answer(connection: socket.socket) -> bytes:
    """Head and body of one answer."""
    got = b""
    while (end := got.find(b"\r\n\r\n")) < 0:
        got += _more(connection)
    found = LENGTH.search(got, 0, end + 2)
    whole = end + 4 + (int(found[1]) if found else 0)
    while len(got) < whole:
        got += _more(connection)
    return got


def _more(connection: socket.socket) -> bytes:
    part = connection.recv(1 << 16)
    if not part:
        raise SystemExit("the server closed a connection")
    return part


def _check(answer: bytes) -> None:
    if answer[9:10] != b"2":
        raise SystemExit(f"a call was refused: {answer[:2000].decode(errors='replace')}")


def once(port: int, request: bytes) -> str:
    """The body of one answer."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(request)
        answer = read_answer(connection)
    _check(answer)
    return answer.partition(b"\r\n\r\n")[2].decode()


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """One request as it goes onto the wire."""
    told = {"Host": "127.0.0.1", "Content-Length": str(len(body)), **headers}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name.replace('_', '-')}: {value}" for name, value in told.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


# What is asked


def always(what: bytes) -> Make:
    return lambda: what


def gce_read(port: int) -> Make:
    """One network, by its name."""
    once(port, _gce_network("net"))
    return always(request("GET", f"/compute/v1/projects/{PROJECT}/global/networks/net"))


def gce_change(_: int) -> Make:
    numbers = itertools.count()
    return lambda: _gce_network(f"n{next(numbers)}")


def _gce_network(name: str) -> bytes:
    body = json.dumps({"name": name, "autoCreateSubnetworks": False}).encode()
    return request("POST", f"/compute/v1/projects/{PROJECT}/global/networks", body)


def arm_read(port: int) -> Make:
    """One resource group, by its name."""
    once(port, _arm_group("g"))
    return always(request("GET", f"/subscriptions/{SUBSCRIPTION}/resourceGroups/g?api-version=2025-04-01"))


def arm_change(_: int) -> Make:
    return always(_arm_group("g"))


def _arm_group(name: str) -> bytes:
    path = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{name}?api-version=2025-04-01"
    return request("PUT", path, b'{"location": "eastus"}', Content_Type="application/json")


def ec2_launch(port: int) -> Make:
    """RunInstances of one machine; the client signs nothing, for neither server looks at it."""
    image = IMAGE.search(once(port, _ec2("DescribeImages")))
    assert image is not None
    return always(_ec2(f"RunInstances&ImageId={image[1]}&InstanceType=t3.micro&MinCount=1&MaxCount=1"))


def _ec2(action: str) -> bytes:
    from grafos_emulators.credentials import ACCESS_KEY_ID

    return request(
        "POST",
        "/",
        f"Action={action}&Version=2016-11-15".encode(),
        Authorization=SIGNED.format(key=ACCESS_KEY_ID),
        Content_Type="application/x-www-form-urlencoded",
    )


# The table


class Asked(NamedTuple):
    """What is asked of which servers. ``calls`` ends a run early, where each call leaves something behind; ``least``
    is the goal of the rate, ``p50_ms`` that of the latency."""

    name: str
    prepare: Callable[[int], Make]
    calls: int = sys.maxsize
    least: float | None = None
    p50_ms: float | None = None


BARE = Asked("", lambda _: always(request("GET", "/")))
EC2 = Asked("EC2: launch", ec2_launch, CALLS_THAT_LEAVE_SOMETHING, 100.0)
OURS = (
    Asked("GCE: read", gce_read, least=2000.0, p50_ms=1.0),
    Asked("GCE: change", gce_change, CALLS_THAT_LEAVE_SOMETHING),
    Asked("ARM: read", arm_read, least=2000.0, p50_ms=1.0),
    Asked("ARM: change", arm_change),
    EC2,
)


class Look(NamedTuple):
    """One server asked for one thing in one turn."""

    calls_a_second: float
    p50_ms: float


def look(port: int, asked: Asked, seconds: float) -> Look:
    """How long a call takes over one connection, which also loads what the first calls load; then the rate of many."""
    make = asked.prepare(port)
    alone = drive(port, make, connections=1, seconds=seconds, calls=asked.calls)
    crowd = drive(port, make, connections=CONNECTIONS, seconds=seconds, calls=asked.calls)
    return Look(crowd.rate, alone.p50_ms)


def time_up() -> float:
    """Seconds from nothing to three clouds that answer."""
    from grafos_emulators import daemon

    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        try:
            daemon.start(Path(folder))
            return time.perf_counter() - begun
        finally:
            daemon.stop(Path(folder))


def table_rows(*, quick: bool) -> Iterator[table.Row]:
    """The rows, as they are measured. Each turn has servers of its own, for what is launched stays there."""
    seconds, turns = (0.2, 1) if quick else (1.0, TURNS)
    bare: list[Look] = []
    ours: dict[str, list[Look]] = {asked.name: [] for asked in OURS}
    for _ in range(turns):
        with running("emulated") as port, running("bare") as bare_port:
            bare.append(look(bare_port, BARE, seconds))
            for asked in OURS:
                ours[asked.name].append(look(port, asked, seconds))
    for asked in OURS:
        yield _rates(asked, "bare http.server", ours[asked.name], bare)
        if asked.p50_ms is not None:
            pairs = [(mine.p50_ms, theirs.p50_ms) for mine, theirs in zip(ours[asked.name], bare, strict=True)]
            goal = table.Goal(figure=asked.p50_ms)
            yield table.paired(f"emulated {asked.name}, p50", "bare http.server", "ms", pairs, goal=goal)
    yield from slow_to_start(seconds, turns, ours[EC2.name], quick=quick)


def slow_to_start(seconds: float, turns: int, ours: list[Look], *, quick: bool) -> Iterator[table.Row]:
    """What takes seconds of a processor before it is measured at all: so a quick look leaves it out, and says so."""
    up, goal, left_out = "emulated clouds, all three up", table.Goal(figure=2.0), "left out of a quick look"
    if quick:
        yield table.Row(up, goal=goal.text("s"), note=left_out)
    else:
        yield table.alone(up, "s", statistics.median(time_up() for _ in range(turns)), goal=goal)
    home = None if quick else peers.find("moto", may_install=True)
    for kind, beside, python, missing in (
        ("handlers", "moto's handlers", sys.executable, ""),
        ("moto", "moto's own server", str(home / "python") if home else "", peers.missing("moto")),
    ):
        if quick or not python:
            yield table.Row(f"emulated {EC2.name}", beside, note=left_out if quick else missing)
            continue
        theirs = []
        for _ in range(turns):
            with running(kind, python) as port:
                theirs.append(look(port, EC2, seconds))
        yield _rates(EC2._replace(least=None), beside, ours, theirs)


def _rates(asked: Asked, beside: str, ours: list[Look], theirs: list[Look]) -> table.Row:
    goal = table.Goal(figure=asked.least, is_least=True) if asked.least else None
    pairs = [(mine.calls_a_second, other.calls_a_second) for mine, other in zip(ours, theirs, strict=True)]
    return table.paired(f"emulated {asked.name}", beside, "/s", pairs, goal=goal)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2])
    else:
        table.run(__doc__, table_rows)
