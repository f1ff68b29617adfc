"""HTTP on loopback: a request in, a response out.

The emulated clouds are functions from ``Request`` to ``Response``; this module alone knows sockets. It never binds
to anything but 127.0.0.1. It serves the owner of its process only (``peers``), and no web page in the owner's browser:
neither by a name that was made to point here (``Host``), nor by a form or a script (``Origin``).
"""

from __future__ import annotations

import socket
import struct
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from grafos_emulators.peers import is_trusted

MAX_BODY_BYTES = 9 << 20  # a chunk of a disk image has 8 MiB at most; all else is well under a MiB
IDLE_TIMEOUT_S = 60.0  # SDKs keep connections for re-use; a forgotten one is let go
SHUTDOWN_POLL_S = 0.05
BACKLOG = 128  # a burst of clients that all connect at once


class DropConnectionError(Exception):
    """Raised instead of giving a response: the client sees the connection break, and cannot know what was done."""


@dataclass(frozen=True)
class Request:
    """One HTTP request. Header names are lower case; ``path`` has no query, which is in ``query``."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    query: str = ""


@dataclass(frozen=True)
class Response:
    """One HTTP response; its length header is added when it is sent."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


Answer = Callable[[Request], Response]


class Server:
    """Serves ``answer`` on 127.0.0.1 at a free port (or ``port``) from threads, until ``close``."""

    def __init__(self, answer: Answer, *, port: int = 0) -> None:
        self._sockets = _Sockets()
        self._http = _HttpServer(("127.0.0.1", port), _Handler)
        self._http.answer = answer
        self._http.sockets = self._sockets
        self.port: int = self._http.server_address[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(
            target=self._http.serve_forever, args=(SHUTDOWN_POLL_S,), name="emulator-http", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stops listening and breaks what is still connected."""
        if self._thread.is_alive():
            self._http.shutdown()
            self._thread.join()
        self._http.server_close()
        self._sockets.break_all()


class _Sockets:
    """The connections that are open, so that closing does not wait for idle ones."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()

    def add(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)

    def remove(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.discard(connection)

    def break_all(self) -> None:
        with self._lock:
            for connection in self._open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # the client was faster


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = BACKLOG
    answer: Answer
    sockets: _Sockets

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news; everything else was answered with a 500 already."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "grafos-emulator"
    sys_version = ""
    timeout = IDLE_TIMEOUT_S
    wbufsize = -1  # one packet for head and body
    disable_nagle_algorithm = True
    server: _HttpServer

    def setup(self) -> None:
        super().setup()
        self.server.sockets.add(self.connection)
        self.is_trusted = is_trusted(self.client_address, self.connection.getsockname())

    def finish(self) -> None:
        self.server.sockets.remove(self.connection)
        super().finish()

    def _serve(self) -> None:
        try:
            response = self._answered()
        except DropConnectionError:
            self._drop()
            return
        self.send_response_only(response.status)
        for name, value in response.headers.items():
            if name.lower() not in {"content-length", "connection"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(response.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)
        self.wfile.flush()

    def __getattr__(self, name: str) -> Any:
        """``do_GET`` and its like, which the base class looks up by name: all methods are served alike."""
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def _answered(self) -> Response:
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            refusal = self._refusal(headers)
            parts = urlsplit(self.path)
        except ValueError as problem:
            self.close_connection = True
            return Response(400, f"not a request: {problem}\n".encode())
        if refusal is not None:
            self.close_connection = True
            return refusal
        body = self.rfile.read(_body_bytes(headers))
        try:
            return self.server.answer(Request(self.command, parts.path, headers, body, parts.query))
        except DropConnectionError:
            raise
        except Exception as bug:  # noqa: BLE001  whatever it is, the client gets an answer, and the log the whole of it
            traceback.print_exception(bug, file=sys.stderr)
            return Response(500, f"the emulator failed: {type(bug).__name__}: {bug}\n".encode())

    def _refusal(self, headers: Mapping[str, str]) -> Response | None:
        if not self.is_trusted:
            return Response(403, b"an emulator answers to the programs of its owner only\n")
        if urlsplit(f"//{headers.get('host', '')}").hostname not in {"127.0.0.1", "localhost"}:
            return Response(403, b"an emulator answers to loopback names only\n")
        if "origin" in headers:
            return Response(403, b"no web page may use an emulator\n")
        if "transfer-encoding" in headers:
            return Response(411, b"a body needs a Content-Length\n")
        if _body_bytes(headers) > MAX_BODY_BYTES:
            return Response(413, b"the body is larger than %d bytes\n" % MAX_BODY_BYTES)
        return None

    def _drop(self) -> None:
        """Breaks the connection with a reset, as a machine that dies does."""
        self.close_connection = True
        try:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the client was faster

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the journal records the calls."""


def _body_bytes(headers: Mapping[str, str]) -> int:
    length = headers.get("content-length", "0")
    if not length.isdecimal():
        raise ValueError("Content-Length is no number")
    return int(length)
