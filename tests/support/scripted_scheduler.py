"""The scheduler's end of a link, frame by frame, for tests that drive a real cell daemon themselves."""

from __future__ import annotations

import contextlib
import queue
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from standalone import CELL_ID, PROVIDER, Process

from grafos_core import trust
from grafos_core.clock import SystemClock
from grafos_core.ids import sha256_of
from grafos_scheduler import frames, framing, messages
from grafos_scheduler.credentials import open_credentials
from grafos_scheduler.enrolment_messages import CellCredentials, RenewalRequest
from grafos_scheduler.settings import Settings

WAIT_S = 60.0
HEARTBEAT_EVERY_S = 0.2

Frame = TypeVar("Frame")


class ScriptedLink:
    """A link that a cell dialled; says whatever it is told to."""

    def __init__(self, tls: ssl.SSLSocket) -> None:
        self._tls = tls
        self._tls.settimeout(WAIT_S)
        self._cutter = framing.FrameReader()
        self._ready: list[bytes] = []

    def hear(self) -> frames.UpFrame | None:
        """The next frame, or None when the cell has ended the link."""
        while not self._ready:
            try:
                data = self._tls.recv(65536)
            except (ConnectionError, ssl.SSLError):
                return None
            if not data:
                return None
            self._ready.extend(self._cutter.feed(data))
        return msgspec.msgpack.decode(self._ready.pop(0), type=frames.UpFrame)

    def hear_one(self, kind: type[Frame]) -> Frame:
        """The next frame of that kind; passes over heartbeats and what else comes before it."""
        deadline = time.monotonic() + WAIT_S
        while (frame := self.hear()) is not None and time.monotonic() < deadline:
            if isinstance(frame, kind):
                return frame
        raise AssertionError(f"no {kind.__name__} came")

    def welcome(self) -> frames.Hello:
        """Hears the hello and says welcome."""
        hello = self.hear_one(frames.Hello)
        self.say(frames.Welcome(messages.PROTOCOL_MAX, HEARTBEAT_EVERY_S))
        return hello

    def say(self, *said: frames.DownFrame) -> None:
        self.say_bytes(b"".join(framing.encode_frame(frame) for frame in said))

    def say_bytes(self, data: bytes) -> None:
        self._tls.sendall(data)

    def grant(self, lease_id: str, *, kind: str = "cpu", amount: int = 1, generation: int = 1) -> str:
        """Asks for a lease and gives the token that comes back."""
        self.say(frames.GrantLease(lease_id, generation, "acme", kind, amount, time.time() + 120))
        granted = self.hear_one(frames.LeaseGranted)
        assert (granted.lease_id, granted.generation) == (lease_id, generation)
        return granted.token

    def start(self, run_id: str, module: bytes, *tokens: str, data: bytes | None = None, **changes: Any) -> None:
        given = {
            "run_id": run_id,
            "tenant": "acme",
            "provider": PROVIDER,
            "region": "here",
            "tasklet": "t",
            "module_sha256": sha256_of(module),
            "input_sha256": "" if data is None else sha256_of(data),
            "fuel": 10**11,
            "memory_bytes": 2**20,
            "deadline_s": 60.0,
            "tokens": tokens,
        }
        self.say(frames.StartRun(**{**given, **changes}))

    def serve_blob(self, data: bytes) -> None:
        """Waits until the cell wants these bytes, and sends them."""
        assert self.hear_one(frames.BlobWanted).sha256 == sha256_of(data)
        self.say(frames.BlobData(sha256_of(data), found=True, data=data))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._tls.close()


class ScriptedScheduler:
    """Listens like a scheduler: takes registrations, and hands every link to the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registrations: list[bytes] = []
        self.dials: list[float] = []
        self.daemon: Process | None = None
        self._links: queue.Queue[ScriptedLink] = queue.Queue()
        self._opened: list[ScriptedLink] = []
        self._registering: list[threading.Thread] = []
        settings = Settings(
            fabric="fab-0123456789ab",
            scheduler_id=CELL_ID,
            providers=(PROVIDER,),
            region="here",
            address="127.0.0.1",
            port=0,
            state=folder / "state",
            trust=folder / "trust",
        )
        self.credentials = open_credentials(settings, SystemClock())
        trusted = settings.trust
        self._context = trust.server_context(
            trusted / "server.pem", trusted / "server-key.pem", trusted / "ca.pem", [frames.LINK_ALPN, "http/1.1"]
        )
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listening.getsockname()[1]}"
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def start_cell(self, **flags: object) -> Process:
        """Starts the real daemon."""
        given = {
            "scheduler": self.url,
            "trust": self.folder / "trust",
            "state": self.folder / "cell-state",
            "mem-capacity": "1m",
            **{name.replace("_", "-"): value for name, value in flags.items()},
        }
        arguments = [text for name, value in given.items() for text in (f"--{name}", str(value))]
        self.daemon = Process("grafos_cell", ["control-server", *arguments], self.folder / "cell.log")
        return self.daemon

    def start_agent(self, life_s: float) -> Process:
        """Starts the real daemon of a registered cell, whose certificate has so long to live and is renewed here."""
        trusted, theirs = self.folder / "trust", self.folder / "agent-trust"
        theirs.mkdir(mode=0o700, exist_ok=True)
        for name in ("ca.pem", "cell-key.pem", "cell-token"):
            (theirs / name).write_bytes((trusted / name).read_bytes())
        key = trust.key_from_pem((trusted / "cell-key.pem").read_bytes())
        (theirs / "cell.pem").write_text(self._certify(trust.make_csr(key, CELL_ID), life_s))
        given = {
            "orchestrator": self.url,
            "provider": PROVIDER,
            "cell-id": CELL_ID,
            "trust": theirs,
            "state": self.folder / "cell-state",
            "mem-capacity": "1m",
        }
        arguments = [text for name, value in given.items() for text in (f"--{name}", str(value))]
        self.daemon = Process("grafos_cell.registered", arguments, self.folder / "cell.log")
        return self.daemon

    def next_link(self) -> ScriptedLink:
        """The next link that a cell dials."""
        link = self._links.get(timeout=WAIT_S)
        self._opened.append(link)
        return link

    def close(self) -> None:
        """Ends the daemon, whoever listens for it, and every link, also one that it dialled and no test took."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # a close alone leaves who waits for a connection waiting
        if self.daemon is not None:
            self.daemon.discard()
        self._accepting.join()
        self._listening.close()
        for thread in self._registering:
            thread.join()
        while not self._links.empty():
            self._opened.append(self._links.get())
        for link in self._opened:
            link.close()

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listening.accept()
            except OSError:
                return
            plain.settimeout(WAIT_S)
            try:
                tls = self._context.wrap_socket(plain, server_side=True)
            except OSError:
                plain.close()
                continue
            if tls.selected_alpn_protocol() == frames.LINK_ALPN:
                self.dials.append(time.monotonic())
                self._links.put(ScriptedLink(tls))
            else:
                self._registering.append(threading.Thread(target=self._register, args=[tls], daemon=True))
                self._registering[-1].start()

    def _register(self, tls: ssl.SSLSocket) -> None:
        with tls, contextlib.suppress(OSError):
            data = b""
            while b"\r\n\r\n" not in data or not data.rstrip().endswith(b"}"):
                more = tls.recv(65536)
                if not more:
                    return
                data += more
            body = self._renewed(data) if b"/cells/renew " in data else self._registered(data)
            tls.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)

    def _registered(self, request: bytes) -> bytes:
        self.registrations.append(request)
        return msgspec.json.encode(messages.CellRegistered(messages.PROTOCOL_MAX, HEARTBEAT_EVERY_S))

    def _renewed(self, request: bytes) -> bytes:
        asked = msgspec.json.decode(request.partition(b"\r\n\r\n")[2], type=RenewalRequest)
        token = (self.folder / "trust" / "cell-token").read_text()
        certificate_pem, ca_pem = self._certify(asked.csr_pem, 3600.0), self.credentials.ca_pem
        granted = CellCredentials(CELL_ID, PROVIDER, certificate_pem, token, ca_pem, time.time() + 3600.0)
        return msgspec.json.encode(granted)

    def _certify(self, csr_pem: str, life_s: float) -> str:
        return self.credentials.certify(csr_pem, "cell", CELL_ID, time.time(), provider=PROVIDER, life_s=life_s)
