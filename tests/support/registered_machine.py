"""A registered cell's machine as a bare process: both clouds' metadata services, and the user data run on nothing."""

from __future__ import annotations

import http.server
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from grafos_stacks.bootstrap import fill_in
from grafos_stacks.spec import REGISTERED

PATIENCE_S = 60.0


class Metadata(http.server.ThreadingHTTPServer):
    """Both clouds' metadata services, as the program asks them; for the first ``failures`` questions they fail, or talk
    ``nonsense``."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Questions)
        self.tags: list[dict[str, str]] = []
        self.failures = 0
        self.nonsense = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Questions(http.server.BaseHTTPRequestHandler):
    server: Metadata

    def do_GET(self) -> None:
        if self.server.nonsense:
            self.server.nonsense -= 1
            self.wfile.write(b"this is no HTTP\r\n\r\n")
        elif self.server.failures:
            self.server.failures -= 1
            self.send_error(503)
        elif self.path.startswith("/base/computeMetadata/v1/instance/") and self.headers["Metadata-Flavor"] == "Google":
            values = {"name": "grafos-one-machine-abc", "zone": "projects/12/zones/us-central1-a"}
            self.say(values[self.path.rpartition("/")[2]] + "\n")
        elif self.path.startswith("/base/metadata/instance/compute?") and self.headers["Metadata"] == "true":
            assert "api-version=" in self.path
            document = {
                "name": "grafos-one-machine-abc",
                "location": "eastus",
                "zone": "",
                "tagsList": self.server.tags,
            }
            self.say(json.dumps(document))
        else:
            self.send_error(400)

    def say(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None: ...


class Machine:
    """A bare machine: a ``shutdown`` that takes notes, and nothing else on the path."""

    def __init__(self, folder: Path, metadata: Metadata, provider: str) -> None:
        self.folder, self.metadata = folder, metadata
        now = int(time.time())
        self.settings: dict[str, Any] = {
            "cell_id": "one",
            "provider": provider,
            "timer_at": now + 3600,
            "timer_after_s": 300,
            "timer_at_most": now + 86400,
            "look_every_s": 0.02,
        }
        self.tools = folder / "bin"
        self.tools.mkdir()
        self.tool("shutdown", 'echo "shutdown $*" >> orders')
        self.process: Any = None

    def tool(self, name: str, what: str) -> None:
        (self.tools / name).write_text(f"#!/bin/sh\ncd {self.folder}\n{what}\n")
        (self.tools / name).chmod(0o755)

    def orders(self) -> list[str]:
        orders = self.folder / "orders"
        return orders.read_text().splitlines() if orders.exists() else []

    def boot(self) -> None:
        script = self.folder / "user-data"
        script.write_text(fill_in(self.settings, REGISTERED))
        environment = {
            "PATH": str(self.tools),
            "STATE_DIRECTORY": str(self.folder),
            "GRAFOS_METADATA_ENDPOINT": f"http://127.0.0.1:{self.metadata.server_port}/base/",
        }
        with (self.folder / "console").open("ab") as console:
            self.process = subprocess.Popen([sys.executable, "-S", str(script)], env=environment, stdout=console)

    def console(self) -> str:
        return (self.folder / "console").read_text()

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it did not come to be in time"
        time.sleep(0.02)
