"""The helper of a local fabric as strangers and friends meet it: over a plain socket, byte by byte."""

from __future__ import annotations

import json
import socket
from typing import Any, NamedTuple

from command_line import Person, record_of

ANSWER_S_MAX = 60


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: str

    @property
    def error_code(self) -> str:
        return str(json.loads(self.body)["error"]["code"])

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


class HelperDoor:
    """One helper, its bearer, and a way to say anything to it."""

    def __init__(self, person: Person) -> None:
        self.person = person
        self.url = str(record_of(person)["helper_url"])
        self.authority = self.url.removeprefix("http://")
        self.port = int(self.authority.rpartition(":")[2])
        self.bearer = (person.project / ".grafos" / "dev" / "bearer").read_text()

    def says(self, raw: bytes) -> Reply:
        """What comes back for these bytes, until the other side closes or its answer is whole."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=ANSWER_S_MAX) as connection:
            connection.sendall(raw)
            stream = connection.makefile("rb")
            status = int(stream.readline().split()[1])
            headers = {}
            while line := stream.readline().strip():
                name, _, value = line.decode().partition(":")
                headers[name.lower()] = value.strip()
            return Reply(status, headers, stream.read(int(headers.get("content-length", 0))).decode())

    def ask(self, method: str, path: str, body: bytes | str = b"", **headers: str | None) -> Reply:
        """A request with the right Host and bearer, unless ``headers`` say otherwise; None leaves one out."""
        data = body.encode() if isinstance(body, str) else body
        given: dict[str, str | None] = {"host": self.authority, "authorization": f"Bearer {self.bearer}"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [
            f"{method} {path} HTTP/1.1",
            *(f"{name}: {value}" for name, value in given.items() if value is not None),
        ]
        if data:
            lines.append(f"content-length: {len(data)}")
        return self.says("\r\n".join([*lines, "", ""]).encode() + data)
