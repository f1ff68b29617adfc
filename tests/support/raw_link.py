"""The cell's end of a link, frame by frame, for tests that play the cell themselves."""

from __future__ import annotations

import socket
import time
from typing import Any, TypeVar

import msgspec
from standalone import CELL_ID, Identity, Standalone

from grafos_core import trust
from grafos_scheduler import frames, framing

WAIT_S = 60.0

Frame = TypeVar("Frame")


class RawLink:
    """A connection that chose the link by ALPN; says whatever it is told to."""

    def __init__(self, cell: Standalone, who: Identity) -> None:
        context = trust.client_context(cell.ca_pem, who.certificate, who.key)
        context.set_alpn_protocols([frames.LINK_ALPN])
        plain = socket.create_connection(("127.0.0.1", cell.port), timeout=WAIT_S)
        self.socket = context.wrap_socket(plain, server_hostname="127.0.0.1")
        self.token = who.token
        self._cutter = framing.FrameReader()
        self._ready: list[bytes] = []

    def hello(self, **changes: Any) -> frames.DownFrame | None:
        """Says hello, but for the changes, and gives what is answered."""
        self.say(self.next_hello(**changes))
        return self.hear()

    def next_hello(self, **changes: Any) -> frames.Hello:
        """A hello that holds, but for the changes."""
        # Each hello is of a later start than the one before, whichever test said that.
        start = time.time_ns() // 1_000_000
        said = frames.Hello(CELL_ID, boot_epoch=start, agent_version="test", api_token=self.token)
        return msgspec.structs.replace(said, **changes)

    def say(self, *said: frames.UpFrame) -> None:
        self.socket.sendall(b"".join(framing.encode_frame(frame) for frame in said))

    def say_bytes(self, data: bytes) -> None:
        self.socket.sendall(data)

    def hear_all(self) -> list[frames.DownFrame]:
        """The next frame and all that came with it; empty when the scheduler closed the link."""
        first = self.hear()
        more = [msgspec.msgpack.decode(body, type=frames.DownFrame) for body in self._ready]
        self._ready.clear()
        return [] if first is None else [first, *more]

    def hear(self) -> frames.DownFrame | None:
        """The next frame, or None when the scheduler has ended the link."""
        while not self._ready:
            try:
                data = self.socket.recv(65536)
            except ConnectionError:
                return None
            if not data:
                return None
            self._ready.extend(self._cutter.feed(data))
        return msgspec.msgpack.decode(self._ready.pop(0), type=frames.DownFrame)

    def hear_one(self, kind: type[Frame]) -> Frame:
        """The next frame of that kind; passes over what else comes before it."""
        while (frame := self.hear()) is not None:
            if isinstance(frame, kind):
                return frame
        raise AssertionError(f"the link ended before there was a {kind.__name__}")

    def hear_goodbye(self) -> str:
        """The code of the goodbye, after which the link is really over."""
        goodbye = self.hear_one(frames.Goodbye)
        assert self.hear() is None
        return goodbye.code

    def close(self) -> None:
        self.socket.close()
