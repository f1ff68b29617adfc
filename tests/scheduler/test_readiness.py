"""Cells: registration, the link, and the six signals."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from desk import SETTINGS, Desk

from grafos_core.clock import VirtualClock
from grafos_core.errors import GrafosError
from grafos_core.resources import Resources
from grafos_scheduler import cells, effects, events, frames, messages, views
from grafos_scheduler.state import Settings


def signals(desk: Desk, cell_id: str = "cell-1") -> dict[str, messages.Signal]:
    return cells.readiness(desk.state, desk.state.cells[cell_id], desk.now)


def not_enabled(desk: Desk) -> None:
    desk.add_cell(provider="gcp")


def not_recorded(desk: Desk) -> None:
    desk.register()
    desk.dial()


def not_bound(desk: Desk) -> None:
    desk.add_cell()
    unbound = msgspec.structs.replace(desk.state.cells["cell-1"], key_sha256="")
    desk.state.cells["cell-1"] = unbound


def not_healthy(desk: Desk) -> None:
    desk.add_cell()
    desk.clock.advance(SETTINGS.silence_max_s + 1.0)


def without_inventory(desk: Desk) -> None:
    desk.add_cell(cores=0)


def not_connected(desk: Desk) -> None:
    desk.add_cell()
    desk.tell(events.LinkClosed("cell-1", desk.state.link_of("cell-1")))


UNMET: list[tuple[Callable[[Desk], None], str, str]] = [
    (not_enabled, "code_enabled", "provider gcp is not enabled at this scheduler"),
    (not_recorded, "durable_provider_cell_record", "no price and no end were recorded with the cell"),
    (not_bound, "identity_bound", "no verified certificate is bound to the cell"),
    (not_healthy, "healthy_cell", "the last heartbeat was 16 s ago"),
    (without_inventory, "inventory_reported", "the cell told of no CPU core that it could lease"),
    (not_connected, "outbound_registered", "the cell holds no link to this scheduler"),
]


@pytest.mark.parametrize(("story", "signal", "why"), UNMET, ids=[signal for _, signal, _ in UNMET])
def test_a_signal_that_is_not_met_says_why(story: Callable[[Desk], None], signal: str, why: str) -> None:
    desk = Desk()
    story(desk)
    assert cells.unmet(signals(desk)) == {signal: why}
    assert not cells.is_ready(signals(desk))


def test_a_cell_is_ready_when_all_six_signals_are_met() -> None:
    desk = Desk()
    desk.add_cell()
    assert tuple(signals(desk)) == cells.SIGNALS
    assert cells.is_ready(signals(desk))
    view = views.cell_view(desk.state, desk.state.cells["cell-1"], desk.now)
    assert (view.ready, view.leased, view.rate_micro_cents_per_hour) == (True, Resources(), 3_600_000)


STEADY = Settings("sched", frozenset({"aws"}), heartbeat_every_s=5.0, healthy_after_s=30.0)


def test_a_cell_is_healthy_only_after_steady_heartbeats() -> None:
    desk = Desk(STEADY)
    desk.add_cell()
    desk.wait(29, "cell-1")
    assert signals(desk)["healthy_cell"].why == "heartbeats are steady for 29 s of 30 s"
    desk.wait(1, "cell-1")
    assert signals(desk)["healthy_cell"].met


def test_a_silence_begins_the_steady_time_anew() -> None:
    desk = Desk(STEADY)
    desk.add_cell()
    desk.wait(30, "cell-1")
    desk.clock.advance(16.0)
    desk.wait(1, "cell-1")
    assert signals(desk)["healthy_cell"].why == "heartbeats are steady for 0 s of 30 s"


def test_a_short_cut_of_the_link_does_not_begin_the_steady_time_anew() -> None:
    desk = Desk(STEADY)
    desk.add_cell()
    desk.wait(30, "cell-1")
    desk.tell(events.LinkClosed("cell-1", 1))
    desk.clock.advance(4.0)
    desk.dial()
    assert signals(desk)["healthy_cell"].met


def test_a_clock_that_is_set_back_begins_the_steady_time_anew_and_no_later() -> None:
    desk = Desk(STEADY)
    desk.add_cell()
    desk.wait(30, "cell-1")
    desk.clock = VirtualClock(desk.now - 86400.0)
    desk.wait(31, "cell-1")
    assert signals(desk)["healthy_cell"].met


def test_a_restart_of_the_cell_begins_the_steady_time_anew() -> None:
    desk = Desk(STEADY)
    desk.add_cell()
    desk.wait(30, "cell-1")
    desk.dial(boot_epoch=2)
    assert not signals(desk)["healthy_cell"].met


def test_a_cell_past_its_end_is_not_healthy() -> None:
    desk = Desk()
    desk.add_cell()
    desk.set_terms(life_s=10.0)
    desk.wait(10, "cell-1")
    assert signals(desk)["healthy_cell"].why == "the cell has outlived its end"


def test_a_restarted_scheduler_waits_for_its_cells() -> None:
    desk = Desk()
    desk.add_cell()
    desk.restart()
    assert signals(desk)["healthy_cell"].why == "no heartbeat was seen since the scheduler started"
    desk.dial()
    assert cells.is_ready(signals(desk))


# --- registration and the link ---


def test_registering_again_keeps_what_is_known_of_the_cell() -> None:
    desk = Desk()
    desk.add_cell()
    desk.dial(boot_epoch=4)
    desk.register(cores=8)
    cell = desk.state.cells["cell-1"]
    assert (cell.total.cpu_cores, cell.boot_epoch) == (8, 4)


def test_another_key_cannot_take_a_cell_id() -> None:
    desk = Desk()
    desk.add_cell()
    registration = messages.CellRegistration("cell-1", "aws", "here", "1", Resources(cpu_cores=1))
    with pytest.raises(GrafosError) as register:
        desk.tell(events.CellRegistered(registration, "another-key"))
    with pytest.raises(GrafosError) as dial:
        desk.tell(events.LinkOpened(9, frames.Hello("cell-1", 1, "1"), "another-key"))
    assert (register.value.code, dial.value.code) == ("certificate_refused", "certificate_refused")


def test_a_cell_that_never_registered_is_turned_away() -> None:
    with pytest.raises(GrafosError) as refusal:
        Desk().dial()
    assert refusal.value.code == "cell_unknown"


def test_a_cell_from_an_earlier_start_is_turned_away() -> None:
    """Its disk was restored from an older copy, or two machines share an identity: either could do harm."""
    desk = Desk()
    desk.add_cell()
    desk.dial(boot_epoch=3)
    with pytest.raises(GrafosError) as refusal:
        desk.dial(boot_epoch=2)
    assert refusal.value.code == "generation_stale"


@pytest.mark.parametrize("lowest", [messages.PROTOCOL_MAX + 1, 99])
def test_a_cell_of_another_protocol_is_turned_away(lowest: int) -> None:
    desk = Desk()
    desk.register()
    with pytest.raises(GrafosError) as refusal:
        desk.dial(protocol_min=lowest, protocol_max=lowest)
    assert refusal.value.code == "version_unsupported"


def test_a_newer_cell_that_still_speaks_our_protocol_is_welcome() -> None:
    desk = Desk()
    desk.register()
    desk.dial(protocol_min=1, protocol_max=7)
    assert desk.frames(frames.Welcome) == [frames.Welcome(messages.PROTOCOL_MAX, 5.0)]


def test_a_new_link_takes_the_place_of_the_old_one() -> None:
    desk = Desk()
    desk.add_cell()
    second = desk.dial()
    assert desk.effects[0] == effects.CloseLink("cell-1", 1)
    assert {effect.link_id for effect in desk.effects if isinstance(effect, effects.SendToCell)} == {second}
    desk.tell(events.LinkClosed("cell-1", 1))
    assert desk.state.link_of("cell-1") == second, "the end of the old link is old news"


def test_what_still_comes_over_an_old_link_does_not_count() -> None:
    desk = Desk()
    desk.add_cell()
    run = desk.ask()
    desk.dial()
    desk.say("cell-1", frames.LeaseGranted(run.lease_ids[0], 1, "token"), link_id=1)
    assert desk.state.runs[run.run_id] == run
    assert desk.state.leases[run.lease_ids[0]].state == "asked"


def test_nothing_is_sent_to_a_cell_that_is_not_connected() -> None:
    desk = Desk()
    desk.add_cell()
    run = desk.start()
    desk.tell(events.LinkClosed("cell-1", 1))
    desk.wait(200)
    assert desk.state.runs[run.run_id].state == "expired"
    assert not desk.sent


def test_draining_lets_admitted_runs_end() -> None:
    desk = Desk()
    desk.add_cell()
    run = desk.start()
    assert desk.tell(events.DrainAsked()).answer == messages.DrainView(draining=True, running=1)
    desk.report(run)
    assert desk.tell(events.DrainAsked()).answer == messages.DrainView(draining=True, running=0)


def test_a_drain_outlives_a_restart_and_can_be_taken_back() -> None:
    desk = Desk()
    desk.add_cell()
    desk.tell(events.DrainAsked("cell-1"))
    desk.restart()
    assert desk.state.draining("cell-1")
    assert not desk.state.draining("cell-2")
    desk.tell(events.DrainAsked("cell-1", draining=False))
    assert not desk.state.draining("cell-1")


def test_an_unknown_cell_cannot_be_drained() -> None:
    with pytest.raises(GrafosError) as refusal:
        Desk().tell(events.DrainAsked("cell-9"))
    assert refusal.value.code == "cell_unknown"
