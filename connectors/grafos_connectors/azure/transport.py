"""The way of a request from the SDK to the wire and back: what is added to it, where it may go, who watches it.

The SDK's own chain of policies is not used, because it does what only whoever keeps the journal may do: it repeats
changing calls, and it registers resource providers on its own. It would also follow redirections and write headers to
a log.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import requests
from azure.core.exceptions import ServiceRequestError, ServiceResponseError
from azure.core.pipeline import PipelineRequest, PipelineResponse
from azure.core.pipeline.policies import (
    ContentDecodePolicy,
    HeadersPolicy,
    HTTPPolicy,
    RequestIdPolicy,
    SansIOHTTPPolicy,
    UserAgentPolicy,
)
from azure.core.pipeline.transport import RequestsTransport
from requests.adapters import HTTPAdapter

from grafos_connectors.azure.endpoints import is_resource_manager, mixed, same_origin
from grafos_connectors.azure.errors import retry_after_s

Watch = Callable[[str], None]

CONNECT_TIMEOUT_S = 5  # ARM's front doors accept in well under a second; more is a dead network
READ_TIMEOUT_S = 20  # a PUT of a machine answers within a few seconds; the list of sizes takes the longest
READ_ATTEMPTS = 3
RETRIED = frozenset({408, 429, 500, 502, 503, 504})
PAUSE_S = 0.5  # before the second attempt; doubled before the third
PAUSE_MAX_S = 5.0  # who is asked to wait longer is told so, and waits where waiting is meant to be
CONNECTIONS = 64  # one for each machine of the largest parallel provision


class RetriedReads(HTTPPolicy[Any, Any]):
    """Repeats a GET that did not get through; every other method is tried once."""

    def send(self, request: PipelineRequest[Any]) -> PipelineResponse[Any, Any]:
        attempts = READ_ATTEMPTS if request.http_request.method == "GET" else 1
        for attempt in range(1, attempts):
            pause_s = PAUSE_S * attempt * random.uniform(0.5, 1.0)  # noqa: S311  spreads callers, keeps no secret
            try:
                response = self.next.send(request)
            except (ServiceRequestError, ServiceResponseError):
                time.sleep(pause_s)
                continue
            asked_s = retry_after_s(response.http_response.headers)
            if response.http_response.status_code not in RETRIED or asked_s > PAUSE_MAX_S:
                return response
            time.sleep(max(asked_s, pause_s))
        return self.next.send(request)


class OnlyThere(SansIOHTTPPolicy[Any, Any]):
    """Lets a request go to the one endpoint only: also the address at which ARM says that an operation can be asked
    about, and that of a next page. A token is never sent anywhere else."""

    def __init__(self, endpoint: str, *, emulated: bool) -> None:
        self._endpoint, self._emulated = endpoint, emulated

    def on_request(self, request: PipelineRequest[Any]) -> None:
        url = str(request.http_request.url)
        there = same_origin(url, self._endpoint) or (not self._emulated and is_resource_manager(url))
        if not there:
            raise mixed(url.partition("?")[0], f"{self._endpoint} sent us there, and no answer of it may do that")


class Watched(HTTPPolicy[Any, Any]):
    """Tells ``watch`` "before" and "after" each request on the wire; what that raises passes through."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def send(self, request: PipelineRequest[Any]) -> PipelineResponse[Any, Any]:
        self._watch("before")
        response = self.next.send(request)
        self._watch("after")
        return response


def policies(*, authentication: Any, guard: OnlyThere | None, watch: Watch | None) -> list[Any]:
    """One chain; a policy belongs to one pipeline, so each client asks for its own."""
    chain: list[Any] = [
        RequestIdPolicy(),
        HeadersPolicy(),
        UserAgentPolicy(base_user_agent="grafos"),
        ContentDecodePolicy(),
        guard,
        RetriedReads(),
        authentication,
        Watched(watch) if watch else None,
    ]
    return [policy for policy in chain if policy is not None]


def transport(*, emulated: bool) -> RequestsTransport:
    """One pool of connections for all clients. A proxy would carry loopback's traffic elsewhere: there is none."""
    session = requests.Session()
    session.trust_env = not emulated
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(pool_connections=CONNECTIONS, pool_maxsize=CONNECTIONS, max_retries=0))
    return RequestsTransport(
        session=session,
        connection_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        use_env_settings=not emulated,
    )
