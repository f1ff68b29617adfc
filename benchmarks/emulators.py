"""The emulated clouds under load, each beside a peer in the same run.

    python benchmarks/emulators.py [--rounds 5] [--calls 2000] [--launches 100]

Reads of Compute Engine and of Azure Resource Manager by 1 and by 8 clients that keep their connections, beside Python's
own bare HTTP server with a constant answer of the same length, which is the limit for a server of that kind. Launches
of EC2 machines beside moto's handlers behind that bare server, which heed no token and know no states. The time that
`grafos emulate up` takes beside an empty Python. Every server is a process of its own. Medians of the rounds; ratios
count, no figure is a promise.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from grafos_core.emulated import EMULATED_PROJECT, EMULATED_SUBSCRIPTION

ZONE, REGION, ARM_API = "us-central1-a", "eastus", "2025-04-01"
NETWORKS = 10  # in a list, so that an answer has a usual length
CLIENTS = (1, 8)
LIMIT_S = 60.0

EMULATOR = """
import sys, time
from pathlib import Path
from grafos_emulators.emulator import EmulatedClouds, Settings
with EmulatedClouds(Path(sys.argv[1]), Settings(clouds=tuple(sys.argv[2].split(",")), boots=False)) as clouds:
    print(clouds.endpoint.rpartition(":")[2], flush=True)
    sys.stdin.read()
"""
BARE = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
BODY = b"x" * int(sys.argv[1])
class Handler(BaseHTTPRequestHandler):
    protocol_version, wbufsize, disable_nagle_algorithm = "HTTP/1.1", -1, True
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)
        self.wfile.flush()
    def log_message(self, *_): pass
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""
MOTO = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from moto.core.request import Request as MotoRequest
from moto.ec2.responses import EC2Response
class Handler(BaseHTTPRequestHandler):
    protocol_version, wbufsize, disable_nagle_algorithm = "HTTP/1.1", -1, True
    def do_POST(self):
        headers = {**dict(self.headers), "Host": "ec2.us-east-1.amazonaws.com"}
        body = self.rfile.read(int(self.headers["content-length"]))
        asked = MotoRequest.from_primitives("POST", "https://ec2.us-east-1.amazonaws.com/", headers, body)
        status, _, answer = EC2Response.dispatch(asked, asked.raw_url, dict(asked.headers))
        answer = answer if isinstance(answer, bytes) else answer.encode()
        self.send_response(int(status))
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        self.wfile.flush()
    def log_message(self, *_): pass
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


class Speed(NamedTuple):
    """Calls in a second, and the median of how long one took."""

    calls_per_s: float
    p50_ms: float


@contextlib.contextmanager
def served(program: str, *words: str) -> Iterator[int]:
    """A server in a process of its own; its port."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def read_by(port: int, path: str, clients: int, calls: int) -> Speed:
    """Speed of a read by so many clients at once; a request that fails ends the program."""
    took_s: list[float] = []

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
        for _ in range(calls // clients):
            began = time.perf_counter()
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            took_s.append(time.perf_counter() - began)
            if answer.status != http.client.OK:
                raise SystemExit(f"{path} was answered with {answer.status}")
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Speed(len(took_s) / (time.perf_counter() - began), statistics.median(took_s) * 1000)


def ask(port: int, method: str, path: str, body: object = None) -> bytes:
    """One request, for laying the ground; gives the answer's body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
    text = None if body is None else json.dumps(body)
    connection.request(method, path, text, {"Content-Type": "application/json"} if text else {})
    answer = connection.getresponse()
    told = answer.read()
    connection.close()
    if answer.status >= http.client.BAD_REQUEST:
        raise SystemExit(f"{method} {path} was answered with {answer.status}: {told[:300]!r}")
    return told


def lay_ground(port: int) -> dict[str, str]:
    """Makes networks and groups; gives the paths that are then read, by what they are."""
    compute = f"/compute/v1/projects/{EMULATED_PROJECT}/global/networks"
    arm = f"/subscriptions/{EMULATED_SUBSCRIPTION}/resourcegroups"
    for number in range(NETWORKS):
        ask(port, "POST", compute, {"name": f"network-{number}", "autoCreateSubnetworks": False})
        ask(
            port, "PUT", f"{arm}/group-{number}?api-version={ARM_API}", {"location": REGION, "tags": {"n": str(number)}}
        )
    time.sleep(2.0)  # operations are done
    return {
        "GCE get network": f"{compute}/network-1",
        f"GCE list {NETWORKS} networks": compute,
        "ARM get group": f"{arm}/group-1?api-version={ARM_API}",
        f"ARM list {NETWORKS} groups": f"{arm}?api-version={ARM_API}",
    }


def reads(rounds: int, calls: int) -> None:
    """Prints the reads beside the bare server."""
    print(f"{'read':<24}{'clients':>8}{'calls/s':>10}{'p50 ms':>9}{'bare /s':>10}{'p50 ms':>9}{'of bare':>9}")
    with tempfile.TemporaryDirectory() as folder, served(EMULATOR, f"{folder}/state", "azure,gcp") as port:
        for name, path in lay_ground(port).items():
            with served(BARE, str(len(ask(port, "GET", path)))) as bare:
                for clients in CLIENTS:
                    pairs = [
                        (read_by(port, path, clients, calls), read_by(bare, "/", clients, calls)) for _ in range(rounds)
                    ]
                    ours, theirs = (_median([pair[side] for pair in pairs]) for side in (0, 1))
                    ratio = ours.calls_per_s / theirs.calls_per_s
                    print(
                        f"{name:<24}{clients:>8}{ours.calls_per_s:>10.0f}{ours.p50_ms:>9.2f}"
                        f"{theirs.calls_per_s:>10.0f}{theirs.p50_ms:>9.2f}{ratio:>9.2f}"
                    )


def _median(speeds: list[Speed]) -> Speed:
    return Speed(*(statistics.median(figures) for figures in zip(*speeds, strict=True)))


def launches_per_s(port: int, count: int) -> float:
    """EC2 launches in a second, by the real SDK on 8 threads, each launch with a token of its own."""
    import boto3
    from botocore.config import Config

    ec2 = boto3.client(
        "ec2",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id="AKIAGRAFOSEMULATED00",
        aws_secret_access_key="emulated",  # noqa: S106  the emulator's own dummy
        config=Config(retries={"total_max_attempts": 1}, max_pool_connections=max(CLIENTS)),
    )
    image = ec2.describe_images()["Images"][0]
    machine_type = {"x86_64": "t3.medium", "arm64": "t4g.medium"}[image["Architecture"]]
    numbers = iter(range(count))

    def client() -> None:
        for number in numbers:
            ec2.run_instances(
                ImageId=image["ImageId"],
                InstanceType=machine_type,
                MinCount=1,
                MaxCount=1,
                ClientToken=f"{port}-{number}-{time.monotonic_ns()}",
            )

    threads = [threading.Thread(target=client) for _ in range(max(CLIENTS))]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return count / (time.perf_counter() - began)


def launches(rounds: int, count: int) -> None:
    """Prints the launches beside moto's handlers."""
    with tempfile.TemporaryDirectory() as folder, served(EMULATOR, f"{folder}/state", "aws") as ours:
        ask(ours, "POST", "/_grafos/set", {"vcpu_limit": 1_000_000})
        with served(MOTO) as peer:
            pairs = [(launches_per_s(ours, count), launches_per_s(peer, count)) for _ in range(rounds)]
    mine, theirs = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
    print(f"\nEC2 launches/s: {mine:.0f}, moto's handlers alone {theirs:.0f}, ratio {mine / theirs:.2f}")


def seconds(act: Callable[[], object]) -> float:
    """How long it took."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def up(rounds: int) -> None:
    """Prints how long `grafos emulate up` takes, until all three clouds answer and until EC2 has loaded."""
    grafos = str(Path(sys.executable).with_name("grafos"))
    empty, ours, first = [], [], []
    for _ in range(rounds):
        home = tempfile.mkdtemp()
        env = {**os.environ, "XDG_STATE_HOME": home, "XDG_DATA_HOME": home}

        def run(*words: str, env: dict[str, str] = env) -> bytes:
            return subprocess.run(words, env=env, check=True, capture_output=True).stdout

        empty.append(seconds(lambda run=run: run(sys.executable, "-c", "pass")))
        ours.append(seconds(lambda run=run: run(grafos, "emulate", "up")))
        told = json.loads(run(grafos, "emulate", "status", "--json"))["emulator"]["endpoint"]
        port = int(told.rpartition(":")[2])
        first.append(seconds(lambda port=port: launches_per_s(port, 1)))
        run(grafos, "emulate", "down")
        shutil.rmtree(home, ignore_errors=True)
    middle = [statistics.median(figures) for figures in (ours, empty, first)]
    print(f"`emulate up`: {middle[0]:.2f} s, an empty Python {middle[1]:.3f} s, ratio {middle[0] / middle[1]:.0f}")
    print(f"the first launch on EC2 right after it, SDK included: {middle[2]:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--launches", type=int, default=100)
    options = parser.parse_args()
    reads(options.rounds, options.calls)
    launches(options.rounds, options.launches)
    up(options.rounds)


if __name__ == "__main__":
    main()
