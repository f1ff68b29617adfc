"""A replica that does not lead: it waits for the lease, and tells whoever asks who leads.

It answers ``/health`` by itself. Everything else it sends to the leader, by redirection and never as a proxy, since a
proxy would lose the caller's certificate: requests with 307, cell links with a goodbye that names the leader. A caller
goes there with the same pinned CA, which all replicas share.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from importlib.metadata import version

from grafos_core import trust
from grafos_core.clock import SystemClock
from grafos_core.errors import GrafosError
from grafos_core.rowstore import GroupStore, RowKeeper, Store
from grafos_scheduler import claim, frames, framing, messages
from grafos_scheduler.credentials import Credentials, open_credentials
from grafos_scheduler.protocol import HTTP_ALPN, Listener
from grafos_scheduler.server import Receive, Scope, Send, send_answer, send_error
from grafos_scheduler.settings import Settings

ASK_EVERY_S = 0.5
"""How late a follower notices that nobody leads any more."""

log = logging.getLogger("grafos.scheduler")


class Follower:
    """What a replica knows while it follows. ``leader`` is the address that the last try to lead came back with."""

    def __init__(self, settings: Settings, keeper: RowKeeper) -> None:
        self._settings = settings
        self.keeper = keeper
        self._reading = asyncio.Lock()
        self.leader = ""
        self.links: set[asyncio.Protocol] = set()

    async def lead(self) -> Store | None:
        """The store, if this replica may write it now."""
        try:
            return await asyncio.to_thread(GroupStore, self.keeper)
        except GrafosError as error:
            if error.code != "not_leader":
                raise
            leader = str(error.context["leader"])
            if leader != self.leader:
                log.info("following: %s leads", leader)
                self.leader = leader
            return None

    async def lead_at_last(self, stop: asyncio.Event) -> Store | None:
        """The store, once this replica leads; None when ``stop`` came first."""
        while not stop.is_set():
            store = await self.lead()
            if store is not None:
                return store
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), ASK_EVERY_S)
        return None

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        """ASGI 3."""
        if (scope["method"], scope["path"]) == ("GET", "/health"):
            try:
                await send_answer(send, "application/json", await self._health())
            except GrafosError as error:
                await send_error(scope, send, error)
            return
        query = f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else ""
        location = f"{self.leader}{scope['raw_path'].decode('latin-1')}{query}"
        await send_error(scope, send, self._refusal(), ((b"location", location.encode()),))

    def accept(self, transport: asyncio.Transport, peer: trust.Peer) -> asyncio.Protocol:
        """Tells a cell where to dial, and ends the connection."""
        refusal = self._refusal()
        transport.write(framing.encode_frame(frames.Goodbye(refusal.code, refusal.what, self.leader)))
        transport.close()
        log.info("the link of cell %s is sent on to %s", peer.name, self.leader)
        return asyncio.Protocol()

    async def _health(self) -> messages.Health:
        async with self._reading:
            possession = await asyncio.to_thread(self.keeper.read, claim.POSSESSION, claim.POSSESSION)
        settings = self._settings
        return messages.Health(
            settings.scheduler_id,
            version("grafos-scheduler"),
            possession is not None,
            mode=settings.mode,
            leader=self.leader,
        )

    def _refusal(self) -> GrafosError:
        return GrafosError(
            "not_leader",
            "this replica of the scheduler follows; another leads",
            where=self.leader,
            next="ask the leader",
            context={"leader": self.leader},
        )


@contextlib.asynccontextmanager
async def answering(
    settings: Settings, follower: Follower
) -> AsyncIterator[tuple[Credentials, Listener, ssl.SSLContext]]:
    """What the port needs while the replica follows. A caller's certificate is asked for and not judged."""
    credentials = open_credentials(settings, SystemClock())
    folder = credentials.folder
    tls = trust.server_context(
        folder / "server.pem", folder / "server-key.pem", folder / "ca.pem", [frames.LINK_ALPN, HTTP_ALPN]
    )
    tls.num_tickets = 0
    tls.verify_mode = ssl.CERT_OPTIONAL
    listener = Listener(follower, follower)
    try:
        yield credentials, listener, tls
    finally:
        listener.shut_down()
