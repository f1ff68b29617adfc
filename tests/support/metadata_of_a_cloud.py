"""The one thing that a machine with a baked image asks its cloud for: its user data, in each cloud's own way."""

from __future__ import annotations

import base64
import http
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

USER_DATA = {
    "/latest/user-data": ("aws", "X-aws-ec2-metadata-token"),
    "/computeMetadata/v1/instance/attributes/systemd-userdata": ("gcp", "Metadata-Flavor"),
    "/metadata/instance/compute/userData": ("azure", "Metadata"),
}


def document(name: str, text: str) -> bytes:
    """User data with one credential."""
    return json.dumps({"systemd.credentials": [{"name": name, "text": text}]}).encode()


class UserData(http.server.ThreadingHTTPServer):
    """Serves one machine's user data, and keeps what was asked."""

    def __init__(self, credential: str) -> None:
        super().__init__(("127.0.0.1", 0), _Asked)
        self.text = document("grafos.cell", credential)
        self.asked: list[str] = []
        self.lies: Iterator[tuple[int, bytes]] = iter(())
        """What it answers as long as there is one more."""


class _Asked(http.server.BaseHTTPRequestHandler):
    server: UserData

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(path)
        cloud, header = USER_DATA.get(path, ("", "Host"))
        if not cloud or not self.headers.get(header):
            self._answer(403, b"")
        elif lie := next(self.server.lies, None):
            self._answer(*lie)
        else:
            self._answer(200, base64.b64encode(self.server.text) if cloud == "azure" else self.server.text)

    def do_PUT(self) -> None:
        self._answer(200 if self.path == "/latest/api/token" else 404, b"a-token")

    def _answer(self, status: int, data: bytes) -> None:
        self.send_response(status)
        if status == http.HTTPStatus.FOUND:
            self.send_header("Location", "http://169.254.169.2/latest/user-data")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(credential: str) -> Iterator[UserData]:
    server = UserData(credential)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
