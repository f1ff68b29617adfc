"""How requests travel: how long they wait, how often a read is tried, and that an emulator's never leave loopback."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import requests
from google.api_core import exceptions as api
from google.api_core.retry import Retry
from google.auth.credentials import AnonymousCredentials
from requests.adapters import HTTPAdapter

from grafos_connectors.server_time import server_time

CONNECT_TIMEOUT_S = 5  # Google's front ends accept in well under a second; more is a dead network
READ_TIMEOUT_S = 30  # an insert answers within seconds; a page of the price list (5000 entries) takes a few
READ_ATTEMPTS = 3
READ_PAUSE_S, READ_PAUSE_S_MAX = 0.2, 2.0
READS_LAST_S_MAX = 100.0  # all attempts of one read together
CONNECTIONS = 64  # one for each machine of the largest parallel provision
PASSING = (500, 502, 503, 504)

Watch = Callable[[str], None]


class Wire(HTTPAdapter):
    """Carries all requests of one connector. ``watch`` hears "before" and "after" around each of them.

    With ``only_to`` (an emulator's address) a request to any other place is refused before it is sent: the SDK's own
    poller of operations, for one, would ask the real cloud whatever endpoint its client was given.
    """

    def __init__(self, only_to: str = "", watch: Watch | None = None) -> None:
        super().__init__(pool_connections=CONNECTIONS, pool_maxsize=CONNECTIONS)
        self._only_to = f"{only_to}/" if only_to else ""
        self._watch = watch
        self._heard = threading.local()

    @property
    def server_time(self) -> float:
        """The cloud's clock in the last answer that this thread got; 0 when it did not tell."""
        return float(getattr(self._heard, "at", 0.0))

    def send(self, request: requests.PreparedRequest, *_: Any, **arguments: Any) -> requests.Response:
        if self._only_to and not str(request.url).startswith(self._only_to):
            raise requests.exceptions.InvalidURL(f"{request.url} is not at the emulator's {self._only_to}")
        arguments["timeout"] = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
        arguments["proxies"] = {} if self._only_to else arguments.get("proxies")
        if self._watch is not None:
            self._watch("before")
        response = super().send(request, **arguments)
        self._heard.at = server_time(response.headers.get("Date", ""))
        if self._watch is not None:
            try:
                self._watch("after")
            except BaseException:
                response.close()  # nobody else has it, and its connection is not in the pool while it is unread
                raise
        return response

    def carry(self, session: requests.Session) -> None:
        """Makes a session send all that it sends through here."""
        session.mount("https://", self)
        session.mount("http://", self)
        session.max_redirects = 0
        if self._only_to:
            session.trust_env = False  # a proxy would carry loopback's traffic elsewhere; .netrc would lend it a login


class NobodysCredentials(AnonymousCredentials):
    """What an emulator gets: no token. After a 401 there is none to renew, and the refusal stands."""

    def refresh(self, request: object) -> None:
        """Nothing to do."""


def read_retry() -> Retry:
    """The tries of one read; a new one for each, since it counts them."""
    left = READ_ATTEMPTS

    def once_more(error: Exception) -> bool:
        nonlocal left
        left -= 1
        return left > 0 and _passes(error)

    return Retry(
        predicate=once_more,
        initial=READ_PAUSE_S,
        maximum=READ_PAUSE_S_MAX,
        timeout=READS_LAST_S_MAX,
    )


def _passes(error: Exception) -> bool:
    """Whether the same question may be answered a moment later. Throttling is not: its minute must pass first."""
    if isinstance(error, api.GoogleAPICallError):
        return error.code in PASSING
    return isinstance(error, requests.ConnectionError | requests.Timeout)
