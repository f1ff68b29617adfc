"""Sessions with services over a real scheduler's port, while the test plays the cell."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from played_instance import PlayedInstances
from standalone import CELL_ID, Identity, Standalone

from grafos_core import trust
from grafos_core.errors import GrafosError
from grafos_core.resources import Resources
from grafos_scheduler import framing, messages
from grafos_scheduler.service_client import (
    ResolvedEndpointCache,
    ServiceClient,
    ServiceResolver,
    Session,
)
from grafos_scheduler.service_door import Door
from grafos_scheduler.service_frames import SESSION_WINDOW_BYTES, SessionData, SessionEnd
from grafos_scheduler.service_messages import Policy, ResourceRequirement, ServiceSpec, ServiceView
from grafos_scheduler.service_resolver import Endpoint, resolve
from grafos_scheduler.services_client import ServicesClient
from grafos_scheduler.session_frames import SESSION_ALPN, SessionHello

MODULE = b"\0asm a module that is only played"
PATIENCE_S = 60.0
ENDS = ("", "session_closed")
"""Of a service that is done, to a client that is not."""


def until(condition: Callable[[], Any]) -> Any:
    ends_at = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < ends_at, "it never came to pass"
        time.sleep(0.02)
    return found


class Place:
    """A claimed scheduler with a played cell, and a tenant that speaks to it."""

    def __init__(self, folder: Path) -> None:
        self.cell = Standalone(folder).start()
        self.operator = self.cell.claimed()
        self.tenant = self.cell.tenant(self.operator, "acme")
        self.agent = self.cell.cell()
        total = Resources(cpu_cores=4, mem_bytes=1 << 20)
        registration = messages.CellRegistration(CELL_ID, "local", "", "test", total)
        with self.cell.client(self.agent) as client:
            client.register_cell(registration)
        self.client = ServicesClient(
            self.cell.url, self.cell.ca_pem, self.tenant.certificate, self.tenant.key, self.tenant.token
        )
        self.client.put_blob(MODULE)
        self.on: PlayedInstances

    def deploy(self, name: str = "echo", port: int = 7007, **changed: Any) -> ServiceView:
        spec = ServiceSpec(
            name=name,
            module_hash=self.client.put_blob(MODULE),
            listener_port=port,
            resources_per_instance=(ResourceRequirement("cpu", 1), ResourceRequirement("mem", 1024)),
            **changed,
        )
        self.client.deploy_service(spec)
        return until(lambda: view if (view := self.client.service(name)).healthy == 1 else None)

    def door(self, who: Identity | None = None, **changed: Any) -> Door:
        who = who or self.tenant
        door = Door(self.cell.url, self.cell.ca_pem, who.certificate, who.key, who.token)
        return door._replace(**changed)

    def discard(self) -> None:
        self.client.close()
        self.cell.discard()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place(tmp_path_factory.mktemp("place"))
    try:
        yield place
    finally:
        place.discard()


@pytest.fixture
def played(place: Place) -> Iterator[PlayedInstances]:
    played = PlayedInstances(place.cell, place.agent)
    place.on = played
    yield played
    played = place.on
    for view in place.client.services():
        place.client.remove_service(view.name, at_once=True)
    until(lambda: not place.client.services())
    played.cut()


async def said(session: Session, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = await session.read()
        assert piece, "the session ended too early"
        data += piece
    return data


def test_what_a_client_says_comes_to_an_instance_and_back_whole(place: Place, played: PlayedInstances) -> None:
    place.deploy()
    much = bytes(range(256)) * (8 * SESSION_WINDOW_BYTES // 256)

    async def talk() -> None:
        session = await ServiceClient(place.door()).open("echo")
        writing = asyncio.create_task(session.write(much))
        assert await said(session, len(much)) == much
        await writing
        session.end_writing()
        assert await session.read() == b""
        await session.close()

    asyncio.run(talk())
    assert len(played.started) == 1


def test_an_instance_that_reads_nothing_stops_its_own_client_only(place: Place, played: PlayedInstances) -> None:
    place.deploy()
    played.consumes = False

    async def talk() -> None:
        client = ServiceClient(place.door())
        stuck = await client.open("echo")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stuck.write(b"x" * 2 * SESSION_WINDOW_BYTES), 0.5)
        played.consumes = True
        lively = await client.open("echo")
        await lively.write(b"hello")
        assert await said(lively, 5) == b"hello"
        await stuck.close()
        await lively.close()

    asyncio.run(talk())
    assert sum(len(frame.data) for frame in played.unread) == SESSION_WINDOW_BYTES


@pytest.mark.parametrize(
    ("name", "changed", "code"),
    [
        ("nothing", {}, "service_unknown"),
        ("echo", {"api_token": "gat1.x.y"}, "token_refused"),
        ("echo", {"api_token": ""}, "token_refused"),
    ],
)
def test_whoever_may_not_have_a_session_is_told_why(
    place: Place, played: PlayedInstances, name: str, changed: dict[str, Any], code: str
) -> None:
    place.deploy()
    with pytest.raises(GrafosError) as caught:
        asyncio.run(ServiceClient(place.door(**changed)).open(name))
    assert caught.value.code == code


def test_a_client_that_writes_when_the_service_is_done_hears_of_it_and_loses_nothing_that_was_said(
    place: Place, played: PlayedInstances
) -> None:
    place.deploy()
    played.consumes = False

    async def talk() -> None:
        session = await ServiceClient(place.door()).open("echo")
        writing = asyncio.create_task(session.write(b"x" * 2 * SESSION_WINDOW_BYTES))
        session_id = await asyncio.to_thread(until, lambda: list(played.sessions))
        for said in (SessionData(session_id[-1], b"done"), *(SessionEnd(session_id[-1], code) for code in ENDS)):
            played.say(said)
        with pytest.raises(GrafosError) as refused:
            await writing
        assert refused.value.code == "session_closed"
        assert [await session.read(), await session.read()] == [b"done", b""]
        await session.close()

    asyncio.run(talk())
    until(lambda: place.client.service("echo").instances[0].sessions == 0)


def test_a_session_ends_with_the_certificate_of_whoever_has_it(place: Place, played: PlayedInstances) -> None:
    place.deploy()

    async def talk() -> str:
        session = await opened_for_a_while(place)
        with pytest.raises(GrafosError) as ended:
            await session.read()
        await session.close()
        return ended.value.code

    assert asyncio.run(talk()) == "certificate_refused"
    until(lambda: place.client.service("echo").instances[0].sessions == 0)


async def opened_for_a_while(place: Place) -> Session:
    """With a certificate that runs out soon; a machine that is too busy to open it in that time gets longer."""
    for life_s in (3.0, 12.0):
        with contextlib.suppress(GrafosError):
            return await ServiceClient(place.door(short_lived(place, life_s))).open("echo")
    return await ServiceClient(place.door(short_lived(place, 48.0))).open("echo")


def short_lived(place: Place, life_s: float) -> Identity:
    """The tenant with a certificate that runs out so soon."""
    cell, tenant = place.cell, place.tenant
    key, ca_key = (trust.key_from_pem(file.read_bytes()) for file in (tenant.key, cell.trust / "ca-key.pem"))
    uri = trust.spiffe_id(cell.fabric.id, "tenant", "acme")
    pem = trust.sign_csr(cell.ca_pem, ca_key, trust.make_csr(key, "acme"), uri, time.time(), life_s)
    certificate = cell.folder / "short.pem"
    certificate.write_text(pem)
    return replace(tenant, certificate=certificate)


def test_a_client_may_say_no_more_in_one_frame_than_a_session_needs(place: Place, played: PlayedInstances) -> None:
    place.deploy()

    async def talk() -> str:
        session = await ServiceClient(place.door()).open("echo")
        session._writer.write((1 << 20).to_bytes(4, "big"))
        with pytest.raises(GrafosError) as ended:
            await session.read()
        await session.close()
        return ended.value.code

    assert asyncio.run(talk()) == "limit_exceeded"


def test_a_client_that_does_not_read_what_comes_byte_by_byte_loses_its_session(
    place: Place, played: PlayedInstances
) -> None:
    place.deploy()
    door = place.door()
    context = trust.client_context(door.ca_pem, door.certificate, door.key)
    context.set_alpn_protocols([SESSION_ALPN])
    with socket.socket() as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.connect(("127.0.0.1", place.cell.port))
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as client:
            client.sendall(framing.encode_frame(SessionHello("echo", door.api_token)))
            session_id = until(lambda: list(played.sessions))[-1]
            assert place.client.service("echo").instances[0].sessions == 1
            for _ in range(20):
                for _ in range(5000):
                    played.say(SessionData(session_id, b"x"))
                until(lambda: played.has_said_all)
                if not place.client.service("echo").instances[0].sessions:
                    return
    pytest.fail("all of it waited")


def test_another_tenant_knows_nothing_of_the_service(place: Place, played: PlayedInstances) -> None:
    place.deploy()
    other = place.cell.tenant(place.operator, "globex")
    with pytest.raises(GrafosError) as caught:
        asyncio.run(ServiceClient(place.door(other)).open("echo"))
    assert caught.value.code == "service_unknown"


def test_no_more_sessions_than_the_spec_allows(place: Place, played: PlayedInstances) -> None:
    place.deploy(max_sessions=2)

    async def talk() -> None:
        client = ServiceClient(place.door())
        first, second = await client.open("echo"), await client.open("echo")
        with pytest.raises(GrafosError) as caught:
            await client.open("echo")
        assert caught.value.code == "sessions_exhausted"
        await first.close()
        await second.close()

    asyncio.run(talk())
    until(lambda: place.client.service("echo").instances[0].sessions == 0)


def test_a_broken_link_ends_its_sessions_and_nobody_is_healthy_until_it_is_back(
    place: Place, played: PlayedInstances
) -> None:
    place.deploy()

    async def talk() -> None:
        client = ServiceClient(place.door())
        session = await client.open("echo")
        played.cut()
        with pytest.raises(GrafosError) as caught:
            await session.read()
        assert caught.value.code == "cell_lost"
        await session.close()
        with pytest.raises(GrafosError) as caught:
            await client.open("echo")
        assert caught.value.code == "no_healthy_replica"

    asyncio.run(talk())
    place.on = PlayedInstances(place.cell, place.agent)


def test_a_fenced_instance_ends_its_sessions_at_once(place: Place, played: PlayedInstances) -> None:
    place.deploy()

    async def talk() -> str:
        session = await ServiceClient(place.door()).open("echo")
        await asyncio.to_thread(place.client.fail_over_service, "echo")
        with pytest.raises(GrafosError) as caught:
            await session.read()
        await session.close()
        return caught.value.code

    assert asyncio.run(talk()) == "service_fenced"
    until(lambda: place.client.service("echo").healthy == 1)
    assert len(played.started) == 2


def test_a_cell_that_sends_beyond_its_credit_loses_its_link(place: Place, played: PlayedInstances) -> None:
    place.deploy()

    async def talk() -> None:
        client = ServiceClient(place.door())
        session = await client.open("echo")
        session_id = until(lambda: list(played.sessions))[-1]
        # Its reading end is not asked for anything until the link is cut, so no credit comes back.
        for _ in range(SESSION_WINDOW_BYTES // 65536 + 1):
            played.say(SessionData(session_id, b"x" * 65536))
        until(lambda: not played.is_linked)
        read = [await session.read() for _ in range(SESSION_WINDOW_BYTES // 65536)]
        assert sum(map(len, read)) == SESSION_WINDOW_BYTES
        with pytest.raises(GrafosError) as caught:
            await session.read()
        assert caught.value.code == "cell_lost"
        await session.close()

    asyncio.run(talk())
    played.cut()
    place.on = PlayedInstances(place.cell, place.agent)


def test_the_log_of_an_ended_instance_is_kept(place: Place, played: PlayedInstances) -> None:
    place.deploy()
    place.client.cut_over_service("echo", place.client.service("echo").instances[0].instance_id)
    [log] = until(lambda: [log for log in place.client.service_logs("echo") if log.log])
    assert (log.log, log.code) == ("what it said", "cutover")


def test_a_client_that_resolves_by_itself_finds_the_new_instance_after_a_failover(
    place: Place, played: PlayedInstances
) -> None:
    place.deploy()
    looks = []

    async def look(name: str) -> ServiceView:
        looks.append(name)
        return await asyncio.to_thread(place.client.service, name)

    async def talk() -> None:
        resolver = ServiceResolver(look, ResolvedEndpointCache(time.monotonic))
        client = ServiceClient(place.door(), resolver)
        first = await client.open("echo")
        again = await client.open("echo")
        assert (first.instance_id, looks) == (again.instance_id, ["echo"])
        await first.close()
        await again.close()
        await asyncio.to_thread(place.client.fail_over_service, "echo")
        await asyncio.to_thread(until, lambda: place.client.service("echo").healthy == 1)
        after = await client.open("echo")
        assert after.instance_id != first.instance_id
        assert looks == ["echo", "echo"]
        await after.close()

    asyncio.run(talk())


# --- pure ---------------------------------------------------------------------------------------------------------


def endpoints(*sessions: int) -> list[Endpoint]:
    return [Endpoint(f"inst-{number}", "cell", 80, count, 3) for number, count in enumerate(sessions)]


def test_round_robin_takes_each_in_its_turn() -> None:
    chosen = [resolve("web", endpoints(0, 0, 0), Policy.ROUND_ROBIN, turn).instance_id for turn in range(4)]
    assert chosen == ["inst-0", "inst-1", "inst-2", "inst-0"]


def test_least_sessions_takes_the_one_with_the_fewest_and_a_full_one_is_passed_over() -> None:
    assert resolve("web", endpoints(2, 1, 2), Policy.LEAST_SESSIONS, 0).instance_id == "inst-1"
    assert resolve("web", endpoints(3, 1), Policy.ROUND_ROBIN, 0).instance_id == "inst-1"


def test_nobody_healthy_and_everybody_full_are_told_apart() -> None:
    for there, code in (([], "no_healthy_replica"), (endpoints(3, 3), "sessions_exhausted")):
        with pytest.raises(GrafosError) as caught:
            resolve("web", there, Policy.ROUND_ROBIN, 0)
        assert caught.value.code == code


def test_a_cached_topology_lasts_five_seconds_and_never_goes_back_a_generation() -> None:
    now = [0.0]
    cache = ResolvedEndpointCache(lambda: now[0])
    assert cache.get("web") is None
    cache.put("web", 7, tuple(endpoints(0)))
    assert cache.put("web", 6, ()).generation == 7
    now[0] = 4.9
    assert cache.get("web") is not None
    now[0] = 5.0
    assert cache.get("web") is None
    cache.put("web", 8, ())
    cache.forget("web")
    assert cache.get("web") is None
