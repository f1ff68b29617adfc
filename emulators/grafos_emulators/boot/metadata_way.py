"""One request of a virtual machine to its metadata service, over this program's input and output.

    python3 -I -S metadata_way.py ADDRESS:PORT /imds/ID OWN=INSIDE HOST [PLACE...]

A machine knows nothing of the path below which its emulator keeps its metadata, so that is put before what it asks for.
Its address OWN on the host is INSIDE for itself, unless it asks for the one at which the public finds it.
Each PLACE on the host's loopback (``127.0.0.1:8443``) that an answer names is at HOST for the machine. Standard library
only; QEMU starts one for each connection.
"""

from __future__ import annotations

import base64
import binascii
import http.client
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import BinaryIO

HEAD_BYTES_MAX, BODY_BYTES_MAX = 65536, 1 << 20
TIMEOUT_S = 30.0
WHOLE_S_MAX = 60
"""From the first byte of the request to the last of the answer: what a machine leaves half sent keeps no process."""
OF_THE_CONNECTION = {"connection", "content-length", "host", "keep-alive", "transfer-encoding"}
"""What is said anew on the way. The host too: the emulator answers to names of the loopback only."""


def translated(body: bytes, host: str, places: Sequence[str]) -> bytes:
    """An answer with the host's loopback named as it is from inside; also where all of it is base64."""
    for place in places:
        inside = f"https://{host}:{place.rpartition(':')[2]}".encode()
        body = body.replace(f"https://{place}".encode(), inside)
    try:
        plain = base64.b64decode(body, validate=True)
    except binascii.Error:
        return body
    return base64.b64encode(translated(plain, host, places)) if plain and b"https://" in plain else body


def own_address(path: str, body: bytes, own: str) -> bytes:
    """An answer that is the machine's address, as that is inside; any other as it is."""
    outside, _, inside = own.partition("=")
    return inside.encode() if body.strip() == outside.encode() and "public" not in path else body


def asked(stream: BinaryIO) -> tuple[str, str, dict[str, str], bytes]:
    """Method, path, head and body of the request; ``ValueError`` if it is none."""
    line = stream.readline(HEAD_BYTES_MAX).decode("latin-1").split()
    if len(line) != 3 or not line[1].startswith("/"):
        raise ValueError("this is no request")
    head = http.client.parse_headers(stream)
    length = int(head.get("content-length", 0))
    if not 0 <= length <= BODY_BYTES_MAX:
        raise ValueError("the request is too large")
    return line[0], line[1], dict(head.items()), stream.read(length)


def passed_on(
    address: str, method: str, path: str, head: Mapping[str, str], body: bytes
) -> tuple[int, list[str], bytes]:
    """What the emulator answers: status, head and body."""
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT_S)
    sent = {name: value for name, value in head.items() if name.lower() not in OF_THE_CONNECTION}
    connection.request(method, path, body or None, sent)
    answer = connection.getresponse()
    told = [f"{name}: {value}" for name, value in answer.getheaders() if name.lower() not in OF_THE_CONNECTION]
    return answer.status, told, answer.read()


def main() -> int:
    """Exit code 1 when there was no request, or no answer."""
    signal.alarm(WHOLE_S_MAX)
    address, below, own, host, *places = sys.argv[1:]
    try:
        method, path, head, body = asked(sys.stdin.buffer)
        status, told, answer = passed_on(address, method, below + path, head, body)
    except (OSError, ValueError, http.client.HTTPException) as error:
        sys.stderr.write(f"metadata: {error}\n")
        return 1
    answer = translated(own_address(path, answer, own), host, places)
    lines = [f"HTTP/1.1 {status} .", *told, f"Content-Length: {len(answer)}", "Connection: close", "", ""]
    sys.stdout.buffer.write("\r\n".join(lines).encode("latin-1") + (b"" if method == "HEAD" else answer))
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
