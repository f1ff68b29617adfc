"""The machine's door: the one port at which first its bootstrap and then its scheduler answers.

What goes through it before the claim needs no trust: the machine checks the bundle by its hash, and the bundle holds
nothing secret.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from grafos_core import trust
from grafos_core.errors import GrafosError

ASK_TIMEOUT_S = 3.0
PUSH_TIMEOUT_S = 120.0

TLS = "tls"


def knock(url: str) -> str:
    """Who answers: the SHA-256 that a bootstrap waits for, ``TLS`` when it is a scheduler, "" when nobody does."""
    place = urlsplit(url)
    host, port = place.hostname or "", place.port or 443
    try:
        connection = http.client.HTTPConnection(host, port, timeout=ASK_TIMEOUT_S)
        connection.request("GET", "/")
        text = connection.getresponse().read(200).decode("ascii", "replace")
        connection.close()
    except (OSError, http.client.HTTPException):
        return TLS if speaks_tls(host, port) else ""
    waiting = re.fullmatch(r"waiting for bundle ([0-9a-f]{64})\n", text)
    return waiting[1] if waiting else ""


def speaks_tls(host: str, port: int) -> bool:
    """Whether a TLS server answers; who it is shows in the claim."""
    try:
        with (
            socket.create_connection((host, port), timeout=ASK_TIMEOUT_S) as plain,
            trust.unverified_context().wrap_socket(plain, server_hostname=host),
        ):
            return True
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")  # it wants a certificate: a TLS server all the same
    except OSError:
        return False


def push(url: str, bundle: Path) -> None:
    """Brings the bundle; ``cell_not_ready`` when the connection breaks, ``bundle_unavailable`` when it is not taken."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port or 443, timeout=PUSH_TIMEOUT_S)
    try:
        with bundle.open("rb") as file:
            size = str(bundle.stat().st_size)
            connection.request("PUT", "/bundle", body=file, headers={"Content-Length": size})
            answer = connection.getresponse()
            text = answer.read(200).decode("ascii", "replace").strip()
    except (OSError, http.client.HTTPException) as error:
        raise GrafosError(
            "cell_not_ready",
            "the connection broke while the software was brought to the machine",
            where=url,
            why=str(error),
            next="run the same command again: it goes on",
        ) from error
    finally:
        connection.close()
    if answer.status != http.client.CREATED:
        raise GrafosError("bundle_unavailable", "the machine does not take the software", where=url, why=text)
