"""The shell's one promise: nothing is sent, answered or shown before it is durable, and nothing after that failed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from grafos_core.changes import Batch
from grafos_core.clock import VirtualClock
from grafos_core.errors import GrafosError
from grafos_core.resources import Resources
from grafos_core.rowfile import RowMemory
from grafos_core.rowstore import MemoryStore
from grafos_scheduler import events, frames, messages, tenant_events
from grafos_scheduler.authorize import Caller
from grafos_scheduler.handlers import Request
from grafos_scheduler.service_frames import SessionOpen
from grafos_scheduler.shell import Shell
from grafos_scheduler.standing_handlers import OFFERS_AT_ONCE, list_offers
from grafos_scheduler.state import Settings, State
from grafos_scheduler.store import CODEC

CELL = messages.CellRegistration("cell-1", "local", "here", "test", Resources(cpu_cores=4, mem_bytes=1024))
REQUEST = messages.RunRequest("k" * 16, "local", "p", "t", "0" * 64, "")


class GatedStore(MemoryStore):
    """The store in memory, on a disk that takes its time: a commit waits while the gate is shut."""

    def __init__(self, memory: RowMemory) -> None:
        super().__init__(memory)
        self.gate = asyncio.Event()
        self.gate.set()
        self._turn = asyncio.Lock()

    async def commit(self, batch: Batch, epoch: int) -> None:
        async with self._turn:
            await self.gate.wait()
            await super().commit(batch, epoch)


class Wire:
    """A cell's link as the shell sees it: what was sent over it."""

    def __init__(self) -> None:
        self.frames: list[frames.DownFrame] = []
        self.is_closed = False

    def send(self, frame: frames.DownFrame) -> None:
        self.frames.append(frame)

    def close(self) -> None:
        self.is_closed = True


class Scene:
    """A shell with one ready cell and one tenant."""

    def __init__(self) -> None:
        self.memory = RowMemory(CODEC)
        self.store = GatedStore(self.memory)
        self.clock = VirtualClock()
        rules = Settings("cell-1", frozenset({"local"}), healthy_after_s=0.0)
        state = State.load(rules, self.store.load(), self.clock.now())
        self.shell = Shell(state, self.store, self.clock, random.Random(1))
        self.wire = Wire()

    async def set_up(self) -> None:
        now = self.clock.now()
        await self.shell.handle(events.TermsSet("cell-1", 36_000_000, 0.0))
        await self.shell.handle(
            tenant_events.TenantRegistered("acme", None, "slice-1", 10**9, now + 3600, "key-of-acme")
        )
        await self.shell.handle(events.CellRegistered(CELL, "0" * 64))
        link_id = self.shell.add_link("cell-1", self.wire)
        await self.shell.handle(events.LinkOpened(link_id, frames.Hello("cell-1", 1, "test"), "0" * 64))
        self.wire.frames.clear()


def play(story: Callable[[Scene], Awaitable[Any]]) -> Any:
    async def whole() -> Any:
        scene = Scene()
        await scene.set_up()
        return await story(scene)

    return asyncio.run(whole())


def asked_for(count: int) -> list[events.RunRequested]:
    requests = [messages.RunRequest(f"key-{n:013d}", "local", "p", "t", "0" * 64, "") for n in range(count)]
    return [events.RunRequested("acme", one) for one in requests]


async def let_others_run() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_no_frame_and_no_answer_before_the_disk_has_it() -> None:
    async def story(scene: Scene) -> None:
        scene.store.gate.clear()
        asking = asyncio.create_task(scene.shell.handle(events.RunRequested("acme", REQUEST)))
        await let_others_run()
        assert (asking.done(), scene.wire.frames) == (False, [])
        scene.store.gate.set()
        view = await asking
        assert view.state == "admitted"
        assert [type(frame) for frame in scene.wire.frames] == [frames.GrantLease]

    play(story)


def test_a_long_listing_waits_for_what_was_decided_while_it_was_made() -> None:
    async def story(scene: Scene) -> None:
        shell = scene.shell
        for number in range(2, OFFERS_AT_ONCE + 3):
            await shell.handle(events.CellRegistered(replace(CELL, cell_id=f"cell-{number}"), "0" * 64))
        asked = Request(Caller("tenant", "acme", "", "", 0.0), "", {}, None, replace(REQUEST, provider="local"))
        services: Any = SimpleNamespace(shell=shell)
        listing = asyncio.create_task(list_offers(services, asked))
        await asyncio.sleep(0)
        scene.store.gate.clear()
        drain = asyncio.create_task(shell.handle(events.DrainAsked("cell-1")))
        await let_others_run()
        assert shell.state.draining("cell-1")
        assert not listing.done()
        scene.store.gate.set()
        await drain
        assert len((await listing).offers) == OFFERS_AT_ONCE + 2

    play(story)


def test_decisions_overlap_on_the_disk_and_take_effect_in_their_order() -> None:
    async def story(scene: Scene) -> None:
        scene.store.gate.clear()
        tasks = [asyncio.create_task(scene.shell.handle(event)) for event in asked_for(4)]
        await let_others_run()
        assert len(scene.shell.state.runs) == 4
        scene.store.gate.set()
        views = await asyncio.gather(*tasks)
        leases = [scene.shell.state.runs[view.run_id].lease_ids[0] for view in views]
        assert [frame.lease_id for frame in scene.wire.frames] == leases

    play(story)


def test_a_batch_is_on_the_disk_as_a_whole_before_any_of_it_is_answered_or_sent() -> None:
    async def story(scene: Scene) -> None:
        scene.store.gate.clear()
        asking = asyncio.create_task(scene.shell.handle_all(asked_for(3)))
        await let_others_run()
        assert (asking.done(), scene.wire.frames) == (False, [])
        assert [kind for kind, _, _ in scene.memory.load() if kind == "run"] == []
        assert len(scene.shell.state.runs) == 3
        scene.store.gate.set()
        views = await asking
        assert [kind for kind, _, _ in scene.memory.load() if kind == "run"] == ["run"] * 3
        leases = [scene.shell.state.runs[view.run_id].lease_ids[0] for view in views]
        assert [frame.lease_id for frame in scene.wire.frames] == leases

    play(story)


def test_a_batch_that_the_disk_does_not_take_leaves_nothing_and_promises_nothing() -> None:
    async def story(scene: Scene) -> None:
        scene.memory.broken = True
        with pytest.raises(GrafosError) as caught:
            await scene.shell.handle_all(asked_for(3))
        assert caught.value.code == "store_failed"
        assert scene.wire.frames == []
        again = State.load(scene.shell.state.settings, scene.memory.load(), scene.clock.now())
        assert (again.runs, again.leases, again.ledger.holds) == ({}, {}, {})

    play(story)


def test_each_run_of_a_batch_has_its_money_held_and_one_that_is_refused_hurts_no_other() -> None:
    async def story(scene: Scene) -> None:
        too_much = messages.RunRequest("k" * 16, "local", "p", "t", "0" * 64, "", lease_mem_bytes=2048)
        unknown = events.RunRequested("nobody", REQUEST)
        first, second, third = asked_for(3)
        outcomes = await scene.shell.handle_all(
            [first, events.RunRequested("acme", too_much), second, unknown, third, first]
        )
        told = [one.code if isinstance(one, GrafosError) else one.state for one in outcomes]
        assert told == ["admitted", "placement_failed", "admitted", "tenant_unknown", "admitted", "admitted"]
        assert outcomes[-1] == outcomes[0], "the same key is the same run"
        kept = State.load(scene.shell.state.settings, scene.memory.load(), scene.clock.now())
        [account] = kept.ledger.accounts.values()
        assert len(kept.ledger.holds) == 3
        assert account.held_micro_cents == sum(hold.amount_micro_cents for hold in kept.ledger.holds.values()) > 0
        assert sorted(run.state for run in kept.runs.values()) == ["admitted"] * 3 + ["refused"]

    play(story)


def test_a_batch_that_costs_more_than_there_is_gets_what_there_is_and_no_more() -> None:
    async def story(scene: Scene) -> None:
        budget = scene.shell.state.ledger.accounts["slice-1"].cap_micro_cents
        await scene.shell.handle_all(asked_for(1))
        each = scene.shell.state.ledger.accounts["slice-1"].held_micro_cents
        await scene.shell.handle(events.TermsSet("cell-1", 36_000_000 * 2 * budget // (5 * each), 0.0))
        outcomes = await scene.shell.handle_all(asked_for(4)[1:])
        assert [isinstance(one, GrafosError) for one in outcomes] == [False, False, True]
        assert outcomes[2].code == "budget_exceeded"
        account = scene.shell.state.ledger.accounts["slice-1"]
        assert account.held_micro_cents <= account.cap_micro_cents

    play(story)


def test_what_is_not_durable_yet_is_not_shown() -> None:
    async def story(scene: Scene) -> None:
        scene.store.gate.clear()
        asking = asyncio.create_task(scene.shell.handle(events.RunRequested("acme", REQUEST)))
        await let_others_run()
        reading = asyncio.create_task(scene.shell.settled())
        await let_others_run()
        assert not reading.done()
        scene.store.gate.set()
        await asyncio.gather(asking, reading)

    play(story)


def test_a_store_that_fails_stops_everything_and_nothing_was_promised() -> None:
    async def story(scene: Scene) -> None:
        scene.memory.broken = True
        with pytest.raises(GrafosError) as caught:
            await scene.shell.handle(events.RunRequested("acme", REQUEST))
        assert caught.value.code == "store_failed"
        assert scene.wire.frames == []
        assert scene.shell.stopped.result().code == "store_failed"
        scene.memory.broken = False
        for action in (scene.shell.handle(events.Tick()), scene.shell.settled(), scene.shell.put(())):
            with pytest.raises(GrafosError) as caught:
                await action
            assert caught.value.code == "store_failed"

    play(story)


def test_a_newer_process_on_the_same_store_stops_this_one() -> None:
    async def story(scene: Scene) -> None:
        scene.memory.take()
        with pytest.raises(GrafosError) as caught:
            await scene.shell.handle(events.Tick())
        assert caught.value.code == "store_fenced"
        assert scene.shell.stopped.result().code == "store_fenced"

    play(story)


def test_a_refusal_that_is_a_record_is_durable_before_it_is_told() -> None:
    async def story(scene: Scene) -> None:
        asked = messages.RunRequest("k" * 16, "local", "p", "t", "0" * 64, "", lease_mem_bytes=2048)
        with pytest.raises(GrafosError) as caught:
            await scene.shell.handle(events.RunRequested("acme", asked))
        assert caught.value.code == "placement_failed"
        kept = [row for kind, _, row in scene.memory.load() if kind == "run"]
        assert [run.state for run in kept] == ["refused"]

    play(story)


def test_who_waits_for_a_run_hears_of_its_end_or_of_the_time_being_up() -> None:
    async def story(scene: Scene) -> None:
        view = await scene.shell.handle(events.RunRequested("acme", REQUEST))
        await scene.shell.wait_for_end(view.run_id, 0.01)
        waiting = asyncio.create_task(scene.shell.wait_for_end(view.run_id, 30.0))
        await let_others_run()
        assert not waiting.done()
        [grant] = scene.wire.frames
        refusal = frames.LeaseRefused(grant.lease_id, grant.generation, "draining", "no")
        await scene.shell.handle(events.CellSaid("cell-1", scene.shell.state.link_of("cell-1"), refusal))
        await waiting
        assert scene.shell.state.runs[view.run_id].state == "refused"
        await scene.shell.wait_for_end(view.run_id, 30.0)
        await scene.shell.wait_for_end("run-unknown", 30.0)

    play(story)


def test_who_waits_is_answered_when_the_process_ends() -> None:
    async def story(scene: Scene) -> None:
        view = await scene.shell.handle(events.RunRequested("acme", REQUEST))
        waiting = asyncio.create_task(scene.shell.wait_for_end(view.run_id, 30.0))
        await let_others_run()
        scene.shell.end_waiting()
        await waiting

    play(story)


def test_a_frame_for_a_link_that_is_gone_is_dropped() -> None:
    async def story(scene: Scene) -> None:
        scene.shell.drop_link("cell-1", scene.shell.state.link_of("cell-1"))
        await scene.shell.handle(events.RunRequested("acme", REQUEST))
        assert scene.wire.frames == []

    play(story)


def test_an_older_link_is_closed_when_a_newer_one_takes_its_place() -> None:
    async def story(scene: Scene) -> None:
        newer = Wire()
        link_id = scene.shell.add_link("cell-1", newer)
        await scene.shell.handle(events.LinkOpened(link_id, frames.Hello("cell-1", 1, "test"), "0" * 64))
        assert (scene.wire.is_closed, newer.is_closed) == (True, False)
        assert isinstance(newer.frames[0], frames.Welcome)

    play(story)


def test_nothing_is_passed_on_over_a_link_before_its_welcome() -> None:
    async def story(scene: Scene) -> None:
        newer, session = Wire(), SessionOpen("a-session", "an-instance")
        assert scene.shell.send_now("cell-1", session)
        scene.store.gate.clear()
        link_id = scene.shell.add_link("cell-1", newer)
        hello = events.LinkOpened(link_id, frames.Hello("cell-1", 1, "test"), "0" * 64)
        opening = asyncio.create_task(scene.shell.handle(hello))
        await let_others_run()
        assert scene.shell.state.link_of("cell-1") == link_id
        assert not scene.shell.has_link("cell-1")
        assert not scene.shell.send_now("cell-1", session)
        scene.store.gate.set()
        await opening
        assert scene.shell.send_now("cell-1", session)
        assert [type(frame) for frame in newer.frames] == [frames.Welcome, SessionOpen]
        scene.shell.drop_link("cell-1", link_id)
        assert not scene.shell.has_link("cell-1")

    play(story)
