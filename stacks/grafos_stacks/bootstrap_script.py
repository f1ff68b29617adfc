#!/usr/bin/env python3
"""The first program of a cell's machine. It is sent as user data, with its settings filled in below.

It makes the machine switch itself off in time, waits until somebody brings the one bundle of software whose SHA-256
it was born with, unpacks it and becomes the cell's supervisor. It needs Python 3.9 and nothing else, fetches nothing
from anywhere, and trusts nobody: whoever brings the right bytes may bring them.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import time
import urllib.error
from pathlib import Path
from typing import Any

from grafos_stacks.machine_script import (
    arm_timer,
    ask,
    become,
    hand_to_systemd,
    is_pinned,
    kept_moment,
    patiently,
    say,
    unpack,
)

SETTINGS = "{}"

READ_TIMEOUT_S = 30.0  # a sender that is silent for longer is cut off
BODY_S_MAX = 900.0

# What the supervisor of a standalone cell is told, by the names of settings; another one's settings name their own.
SUPERVISOR = "grafos_cell.standalone"
TOLD = ("fabric", "cell_id", "provider", "region", "mem_capacity", "expires_at", "ends_at_most")


def main() -> None:
    settings = json.loads(SETTINGS)
    state = Path(os.environ.get("STATE_DIRECTORY", "/var/lib/grafos").split(":")[0])
    end_by_itself(end_of(state / "end", settings))
    if hand_to_systemd():
        return
    os.umask(0o077)
    software = in_use(state, settings["bundle_sha256"])
    addresses = patiently(lambda: own_addresses(settings))
    if not software.is_dir():
        bundle = state / "bundle.tar.gz"
        if not is_pinned(bundle, settings["bundle_sha256"]):
            receive(bundle, addresses[0], settings)
        (state / "claim-secret").write_text(settings["claim_secret"])
        unpack(bundle, software)
        bundle.unlink()
    become_supervisor(state, software, addresses, settings)


# --- the machine's end, before anything else --------------------------------------------------------------------


def end_of(file: Path, settings: dict[str, Any]) -> int:
    """The end that the machine was born with, or the one that the supervisor moved it to in an earlier life."""
    moved = kept_moment(file)
    return moved if 0 < moved <= settings["ends_at_most"] else int(settings["expires_at"])


def end_by_itself(expires_at: int) -> None:
    """Sets the timer, and says on the console whether one stands."""
    if arm_timer(expires_at):
        say(f"the machine switches itself off at {expires_at}")
    else:
        say("no timer could be set: the cell's own supervisor is left to end the machine")


# --- who we are -------------------------------------------------------------------------------------------------


def own_addresses(settings: dict[str, Any]) -> list[str]:
    """The local address to bind to, then those that it is dialled at: as the settings name them, and on AWS also what
    its metadata (IMDSv2) say."""
    names = settings.get("names", ())
    if "asks" in settings:
        path, header, value = settings["asks"]
        place = os.environ.get("GRAFOS_METADATA_ENDPOINT", "http://169.254.169.254/").rstrip("/")
        return [ask(f"{place}/{path}", {header: value}), *names]
    base = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254/").rstrip("/") + "/latest"
    token = ask(f"{base}/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "300"}, "PUT")
    with_token = {"X-aws-ec2-metadata-token": token}
    local = ask(f"{base}/meta-data/local-ipv4", with_token)
    try:
        return list(dict.fromkeys([local, *names, ask(f"{base}/meta-data/public-ipv4", with_token)]))
    except urllib.error.HTTPError:
        return [local, *names]


def in_use(state: Path, pinned: str) -> Path:
    """The software that the supervisor changed to in an earlier life, or that the machine was born with."""
    try:
        changed = state / "software" / (state / "software-in-use").read_text().strip()
    except OSError:
        changed = state / "none"
    return changed if changed.is_dir() and len(changed.name) == len(pinned) else state / "software" / pinned


# --- the software -----------------------------------------------------------------------------------------------


class Door(http.server.HTTPServer):
    """Open until the pinned bytes came through it."""

    def __init__(self, bundle: Path, address: str, settings: dict[str, Any]) -> None:
        super().__init__((address, settings["port"]), Visit)
        self.bundle = bundle
        self.sha256 = settings["bundle_sha256"]
        self.size = settings["bundle_bytes"]
        self.is_open = True


class Visit(http.server.BaseHTTPRequestHandler):
    """One request. Bytes that are not the pinned ones are refused, and the door stays open."""

    server: Door
    timeout = READ_TIMEOUT_S
    server_version, sys_version = "grafos-bootstrap", ""

    def do_GET(self) -> None:
        self.answer(200 if self.path == "/" else 404, f"waiting for bundle {self.server.sha256}\n")

    def do_PUT(self) -> None:
        if self.path != "/bundle":
            self.answer(404, "PUT /bundle\n")
        elif self.headers.get("Content-Length", "") != str(self.server.size):
            self.answer(413, f"the bundle has {self.server.size} bytes\n")
        else:
            self.take()

    def take(self) -> None:
        part = self.server.bundle.with_suffix(".part")
        digest, left, until = hashlib.sha256(), self.server.size, time.monotonic() + BODY_S_MAX
        with part.open("wb") as file:
            while left and time.monotonic() < until:
                block = self.rfile.read(min(left, 1 << 20))
                if not block:
                    break
                digest.update(block)
                file.write(block)
                left -= len(block)
            file.flush()
            os.fsync(file.fileno())
        if digest.hexdigest() != self.server.sha256:
            self.answer(422, f"not the bundle {self.server.sha256}\n")
            return
        part.replace(self.server.bundle)
        self.server.is_open = False
        self.answer(201, "accepted\n")

    def answer(self, status: int, text: str) -> None:
        self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(text)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        say(f"{self.client_address[0]} {format % args}")


def receive(bundle: Path, address: str, settings: dict[str, Any]) -> None:
    """Listens until the pinned bytes came."""
    with Door(bundle, address, settings) as door:
        say(f"waiting for bundle {door.sha256} at {address}:{settings['port']}")
        while door.is_open:
            door.handle_request()


def become_supervisor(state: Path, software: Path, addresses: list[str], settings: dict[str, Any]) -> None:
    """Replaces this program by the cell's own."""
    arguments = ["--state", str(state), "--bind", f"{addresses[0]}:{settings['port']}"]
    for address in addresses[1:]:
        arguments += ["--name", address]
    arguments += ["--claim-secret-file", str(state / "claim-secret")]
    for name in settings.get("told", TOLD):
        arguments += ["--" + name.replace("_", "-"), str(settings[name])]
    become(software, settings.get("supervisor", SUPERVISOR), arguments)


if __name__ == "__main__":
    main()
