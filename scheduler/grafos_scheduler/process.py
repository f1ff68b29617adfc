"""A scheduler as a process: opens what it needs, listens, and ends in good order."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import random
import resource
import shutil
import signal
import socket
import ssl
from collections.abc import AsyncIterator
from typing import NamedTuple

import uvloop

from grafos_core.clock import SystemClock
from grafos_core.errors import GrafosError
from grafos_core.program import log_to_stderr, say_ready
from grafos_core.rowstore import Store
from grafos_scheduler import state
from grafos_scheduler.blobs import BlobStore
from grafos_scheduler.bundles import BundleStore
from grafos_scheduler.claim import ClaimDesk
from grafos_scheduler.console.sessions import Sessions
from grafos_scheduler.credentials import Credentials, open_credentials
from grafos_scheduler.enrolling import EnrolmentDesk
from grafos_scheduler.following import Follower, answering
from grafos_scheduler.frames import LINK_ALPN
from grafos_scheduler.handlers import Services
from grafos_scheduler.link import LinkServices
from grafos_scheduler.machine_messages import BACKUP_DRAFT
from grafos_scheduler.openapi import document
from grafos_scheduler.protocol import CONNECTIONS_MAX, HTTP_ALPN, ORCHESTRATOR_CONNECTIONS_MAX, Listener
from grafos_scheduler.regaining import RegainDesk
from grafos_scheduler.server import Application, listener_context, renew_certificate
from grafos_scheduler.session_door import SessionDoor
from grafos_scheduler.session_frames import SESSION_ALPN
from grafos_scheduler.settings import Settings
from grafos_scheduler.shell import Shell
from grafos_scheduler.signing_in import AccountDesk
from grafos_scheduler.store import load, open_keeper

HANDSHAKE_S_MAX = 10.0
LISTEN_BACKLOG = 512
"""Connections that the kernel keeps while the process is busy."""
RENEWAL_LOOKED_AT_EVERY_S = 3600.0
"""Often against the weeks that are left when it is time."""
SHUT_DOWN_S_MAX = 2.0
"""What requests under way get to finish once the process was told to end."""

log = logging.getLogger("grafos.scheduler")


def run(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT; raises the ``GrafosError`` that made it end earlier."""
    log_to_stderr()
    _raise_file_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings))


class Opened(NamedTuple):
    """A scheduler with its doors still shut."""

    services: Services
    links: LinkServices
    listener: Listener
    tls: ssl.SSLContext


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    door = _Door(settings)
    store = await _store(settings, door, stop)
    if store is None:
        return
    async with opened(settings, store) as (services, links, listener, tls):
        shell = services.shell
        server = await door.open("answers", listener, tls)
        ticking = asyncio.create_task(shell.tick_for_ever())
        renewing = asyncio.create_task(_renew_for_ever(services.credentials, tls))
        shell.stopped.add_done_callback(lambda _: stop.set())
        await stop.wait()
        server.close()
        door.close()
        ticking.cancel()
        renewing.cancel()
        await _finish(shell, links, listener)
        if shell.stopped.done():
            raise shell.stopped.result()


async def _store(settings: Settings, door: _Door, stop: asyncio.Event) -> Store | None:
    """The store, as soon as this process may write it, or None when ``stop`` comes first; a replica that has to wait
    answers meanwhile."""
    follower = Follower(settings, await asyncio.to_thread(open_keeper, settings, door.url))
    store = None
    try:
        store = await follower.lead()
        if store is None:
            async with answering(settings, follower) as (credentials, listener, tls):
                server = await door.open("follows", listener, tls)
                renewing = asyncio.create_task(_renew_for_ever(credentials, tls))
                store = await follower.lead_at_last(stop)
                renewing.cancel()
                server.close()
    finally:
        if store is None:
            await asyncio.to_thread(follower.keeper.close)
    return store


class _Door:
    """The bound port. A replica that follows opens it, and opens it anew when it leads; connections that come in
    between wait in the kernel."""

    def __init__(self, settings: Settings) -> None:
        self._listening = _listen(settings)
        self._who = f"{settings.mode} {settings.scheduler_id} of fabric {settings.fabric}"
        self._ready_fd = settings.ready_fd
        host = f"[{settings.address}]" if ":" in settings.address else settings.address
        self.url = settings.reached_at or f"https://{host}:{self._listening.getsockname()[1]}"

    async def open(self, what: str, listener: Listener, tls: ssl.SSLContext) -> asyncio.Server:
        """Lets connections in, and tells the log, and once the parent process, where the scheduler answers."""
        server = await asyncio.get_running_loop().create_server(
            listener.protocol,
            sock=self._listening.dup(),
            ssl=tls,
            ssl_handshake_timeout=HANDSHAKE_S_MAX,
            backlog=LISTEN_BACKLOG,
        )
        log.info("%s %s at %s", self._who, what, self.url)
        say_ready(self._ready_fd, {"url": self.url})
        self._ready_fd = None
        return server

    def close(self) -> None:
        self._listening.close()


@contextlib.asynccontextmanager
async def opened(settings: Settings, store: Store) -> AsyncIterator[Opened]:
    """Everything but the port, from what is durable; the store is closed at the end."""
    clock, chance = SystemClock(), random.SystemRandom()
    try:
        _forget_drafts(settings)
        credentials = open_credentials(settings, clock)
        stored, possession = load(store)
        kept = state.State.load(_rules(settings), stored, clock.now())
        shell = Shell(kept, store, clock, chance)
        gone = {tenant.name for tenant in kept.tenants.values() if tenant.deleted_at}
        blobs = BlobStore(settings.blobs, lambda tenant: blobs_in_use(kept, tenant), gone=gone)
        desk = ClaimDesk(shell, credentials, settings, possession)
        enrolling = EnrolmentDesk(shell, credentials, settings)
        bundles = BundleStore(settings.bundles)
        accounts = AccountDesk(shell, credentials, settings)
        regaining = RegainDesk(shell, credentials, settings, desk)
        links = LinkServices(settings, shell, credentials, blobs)
        services = Services(
            settings,
            shell,
            credentials,
            desk,
            enrolling,
            accounts,
            regaining,
            blobs,
            bundles,
            Sessions(),
            document,
            links.sessions.sessions_of,
            links.renew,
        )
        tls = listener_context(services, [LINK_ALPN, SESSION_ALPN, HTTP_ALPN])
        connections_max = ORCHESTRATOR_CONNECTIONS_MAX if settings.is_orchestrator else CONNECTIONS_MAX
        yield Opened(services, links, _listener(services, links, tls, connections_max), tls)
    finally:
        await store.close()


def _listener(services: Services, links: LinkServices, tls: ssl.SSLContext, connections_max: int) -> Listener:
    return Listener(Application(services, tls), links, connections_max, SessionDoor(links))


def _forget_drafts(settings: Settings) -> None:
    """What an earlier life was packing for a backup when it was killed."""
    for left in settings.state.glob(f"{BACKUP_DRAFT}*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def blobs_in_use(kept: state.State, tenant: str) -> set[str]:
    """The hashes that the tenant's runs under way and its services still need."""
    requests = [run.request for run in kept.runs_under_way() if run.tenant == tenant]
    modules = {service.spec.module_hash for service in kept.services.values() if service.tenant == tenant}
    modules |= {each.spec.module_hash for each in kept.all_instances() if each.tenant == tenant}
    return modules | {sha256 for asked in requests for sha256 in (asked.module_sha256, asked.input_sha256)}


def _rules(settings: Settings) -> state.Settings:
    """What the pure scheduler is told."""
    return state.Settings(
        scheduler=settings.scheduler_id,
        providers=frozenset(settings.providers),
        enrols=settings.is_orchestrator,
        heartbeat_every_s=settings.heartbeat_every_s,
        healthy_after_s=settings.healthy_after_s,
        service_lease_s=settings.service_lease_s,
    )


def _raise_file_limit() -> None:
    """Room for every connection that the listener allows: the usual soft limit is no more than those alone."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _listen(settings: Settings) -> socket.socket:
    """The bound socket: inherited, or of the one address that was given."""
    if settings.listen_fd is not None:
        return socket.socket(fileno=settings.listen_fd)
    family = socket.AF_INET6 if ":" in settings.address else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.address, settings.port))
    except OSError as error:
        listening.close()
        where = f"{settings.address}:{settings.port}"
        if error.errno == errno.EADDRINUSE:
            raise GrafosError("port_taken", "another program listens on the port", where=where) from error
        raise GrafosError("config_invalid", "the address cannot be bound", where=where, why=str(error)) from error
    listening.setblocking(False)
    return listening


async def _renew_for_ever(credentials: Credentials, tls: ssl.SSLContext) -> None:
    """Keeps what clients see on the port from running out under a scheduler that is never started anew."""
    while True:
        await asyncio.sleep(RENEWAL_LOOKED_AT_EVERY_S)
        try:
            renew_certificate(credentials, SystemClock().now(), tls)
        except (GrafosError, OSError, ValueError):
            log.exception("the server's certificate cannot be renewed")


async def _finish(shell: Shell, links: LinkServices, listener: Listener) -> None:
    """Lets what is under way end: long polls answer now, links say goodbye, answers are written."""
    shell.end_waiting()
    listener.shut_down()
    await links.shut_down(SHUT_DOWN_S_MAX)
    tasks = set(listener.server_state.tasks)
    if tasks:
        await asyncio.wait(tasks, timeout=SHUT_DOWN_S_MAX)
    await asyncio.sleep(0)
