"""Hears what the clouds' SDKs are answered, and can lose an answer, below all three of them.

boto3, google-cloud-compute and azure-mgmt send every request through one method of urllib3. There stands the tap: it
reads each answer whole, tells of it, and hands it on as it came. It hears requests that ``live_operations`` names, and
no others; a login is none of them.
"""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from live_operations import LOOPBACK, Asked, operation_of
from live_recordings import Recorder, recording_of
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import ProtocolError
from urllib3.response import HTTPResponse


class Exchange(NamedTuple):
    """One answer; the body is as it came, perhaps compressed."""

    asked: Asked
    status: int
    headers: Mapping[str, str]
    body: bytes
    emulated: bool


class Tap:
    """In place between ``open`` and ``close``. ``losing``: answers to changing calls are lost, after their effect."""

    def __init__(self, hear: Callable[[Exchange], None]) -> None:
        self.losing = False
        self._hear = hear
        self._before: Any = None

    def open(self) -> None:
        assert self._before is None
        self._before = before = HTTPConnectionPool.urlopen

        def urlopen(pool: HTTPConnectionPool, method: str, url: str, *arguments: Any, **named: Any) -> Any:
            response = before(pool, method, url, *arguments, **named)
            asked = _asked(pool, method, url, arguments, named)
            return response if asked is None else self._heard(pool, asked, method, response)

        HTTPConnectionPool.urlopen = urlopen  # type: ignore[method-assign]

    def close(self) -> None:
        if self._before is not None:
            HTTPConnectionPool.urlopen = self._before  # type: ignore[method-assign]
            self._before = None

    def _heard(self, pool: HTTPConnectionPool, asked: Asked, method: str, response: Any) -> Any:
        handed_on = _whole(method, response)
        self._hear(
            Exchange(asked, response.status, dict(response.headers.items()), handed_on.data_read, pool.host in LOOPBACK)
        )
        if self.losing and asked.mutating:
            raise ProtocolError("Connection aborted.", ConnectionResetError("the answer was lost"))
        return handed_on


class _Read(HTTPResponse):
    """An answer that was read already, and can be read again."""

    data_read: bytes


def _whole(method: str, response: Any) -> _Read:
    """The same answer, its body read; the connection goes back to its pool."""
    raw = response.read(decode_content=False) if not response.isclosed() else response.data
    again = _Read(
        body=io.BytesIO(raw),
        headers=response.headers,
        status=response.status,
        version=response.version,
        reason=response.reason,
        preload_content=False,
        decode_content=False,
        request_method=method,
    )
    response.release_conn()
    again.data_read = raw
    return again


def _asked(
    pool: HTTPConnectionPool, method: str, url: str, arguments: tuple[Any, ...], named: Mapping[str, Any]
) -> Asked | None:
    given = dict(zip(("body", "headers"), arguments, strict=False)) | dict(named)
    full = url if url.startswith("http") else f"{pool.scheme}://{pool.host}:{pool.port}{url}"
    body = given.get("body")
    return operation_of(method, full, given.get("headers") or {}, body if isinstance(body, bytes | str) else None)


@contextlib.contextmanager
def recording(recorder: Recorder) -> Iterator[Tap]:
    """Inside, every answer is kept."""
    lock = threading.Lock()

    def hear(exchange: Exchange) -> None:
        of = "emulator" if exchange.emulated else "cloud"
        found = recording_of(exchange.asked, exchange.status, exchange.headers, exchange.body, of)
        if found is not None:
            with lock:
                recorder.hear(found)

    tap = Tap(hear)
    tap.open()
    try:
        yield tap
    finally:
        tap.close()
