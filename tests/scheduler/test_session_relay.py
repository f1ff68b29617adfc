"""What the relay of sessions passes on, and what it does not: a client can load a cell with what its credit covers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from heard_link import HeardLink
from service_desk import ServiceDesk

from grafos_core.errors import GrafosError
from grafos_core.rowstore import MemoryStore
from grafos_scheduler import events, frames
from grafos_scheduler.service_frames import SESSION_DATA_BYTES_MAX, SessionCredit, SessionData, SessionEnd
from grafos_scheduler.session_frames import SessionHello
from grafos_scheduler.session_relay import Relayed, Session, SessionRelay
from grafos_scheduler.shell import Shell


class HeardClient:
    """A client's connection, and what was sent over it."""

    def __init__(self) -> None:
        self.frames: list[Relayed] = []
        self.is_over = False
        self.lingers = False

    def pass_on(self, frame: Relayed) -> None:
        self.frames.append(frame)

    def over(self, *, lingers: bool = False) -> None:
        self.is_over, self.lingers = True, lingers


class Scene:
    """A session of a client with an instance on cell-1. Both ways have their credit."""

    def __init__(self, relay: SessionRelay, link: HeardLink) -> None:
        self.relay, self.link, self.client = relay, link, HeardClient()
        self.session: Session
        self.session, _ = relay.open("ada", SessionHello("web", ""), self.client)
        link.frames.clear()

    def say(self, *said: Relayed) -> None:
        for frame in said:
            self.relay.from_client(self.session, frame)

    def answer(self, *said: Relayed) -> None:
        for frame in said:
            self.relay.from_cell("cell-1", frame)

    @property
    def id(self) -> str:
        return self.session.session_id


def play(story: Callable[[Scene], Awaitable[None]]) -> None:
    async def whole() -> None:
        desk = ServiceDesk(1)
        desk.serve()
        shell = Shell(desk.state, MemoryStore(desk.memory), desk.clock, desk.chance)
        link = HeardLink()
        link_id = shell.add_link("cell-1", link)
        await shell.handle(events.LinkOpened(link_id, frames.Hello("cell-1", 1, "test"), "key-of-cell-1"))
        await story(Scene(SessionRelay(shell), link))

    asyncio.run(whole())


def test_what_costs_no_credit_is_refused_from_either_side() -> None:
    async def story(scene: Scene) -> None:
        for say in (scene.say, scene.answer):
            with pytest.raises(GrafosError) as refused:
                say(SessionData(scene.id, b""))
            assert refused.value.code == "request_invalid"
        assert not scene.link.frames
        assert not scene.client.frames

    play(story)


def test_an_end_that_was_said_before_is_not_passed_on() -> None:
    async def story(scene: Scene) -> None:
        scene.say(*[SessionEnd(scene.id)] * 3)
        assert scene.link.frames == [SessionEnd(scene.id)]
        scene.answer(SessionData(scene.id, b"so"), SessionEnd(scene.id))
        assert scene.client.frames == [SessionData(scene.id, b"so"), SessionEnd(scene.id)]
        assert scene.client.is_over

    play(story)


def test_a_client_that_sends_to_a_service_that_is_done_is_given_time_to_read_what_was_said() -> None:
    async def story(scene: Scene) -> None:
        scene.answer(SessionData(scene.id, b"all"), SessionEnd(scene.id), SessionEnd(scene.id, "session_closed"))
        assert (scene.client.is_over, scene.client.lingers) == (True, True)
        assert scene.relay.sessions_of(scene.session.instance_id) == 0

    play(story)


def test_credit_for_a_direction_that_has_ended_is_not_passed_on() -> None:
    async def story(scene: Scene) -> None:
        scene.answer(SessionData(scene.id, b"all"), SessionEnd(scene.id))
        scene.say(*[SessionCredit(scene.id, 3)] * 5)
        assert not scene.link.frames
        scene.say(SessionData(scene.id, bytes(SESSION_DATA_BYTES_MAX)), SessionEnd(scene.id, "cancelled"))
        assert [type(frame) for frame in scene.link.frames] == [SessionData, SessionEnd]

    play(story)
