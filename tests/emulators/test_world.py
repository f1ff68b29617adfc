from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from grafos_core.clock import VirtualClock
from grafos_emulators.boot.driver import Handle, MachineSetup, NoDriver, WentOff
from grafos_emulators.lifecycle import Happening, LifecycleTimes, MachineState
from grafos_emulators.world import HALT_POLL_S, Machine, World

TIMES = LifecycleTimes(starting_s=10, stopping_s=5, ending_s=7)


class SlowHandle:
    machine_id = "m-1"


class SlowToDie(NoDriver):
    """A driver whose machines die when the test says so."""

    def __init__(self) -> None:
        self.dead = False
        self.user_data: list[bytes] = []
        self.went_off: WentOff | None = None

    def start(self, setup: MachineSetup, went_off: WentOff) -> Handle:
        self.user_data.append(setup.user_data)
        self.went_off = went_off
        return SlowHandle()

    def ended(self, handle: Handle) -> bool:
        return self.dead


@pytest.fixture
def driver() -> SlowToDie:
    return SlowToDie()


@pytest.fixture
def world(clock: VirtualClock, driver: SlowToDie) -> Iterator[World]:
    world = World(clock=clock, times=TIMES, driver=driver)
    yield world
    world.close()


def machine(seen: list[MachineState], *, ends_when_off: bool = True) -> Machine:
    setup = MachineSetup("m-1", "127.42.1.1", b"#!x", runs_user_data=True)
    return Machine(setup, lambda: ends_when_off, lambda changed: seen.append(changed.state))


def pass_time(world: World, clock: VirtualClock, seconds: float) -> None:
    clock.advance(seconds)
    world.catch_up()


def test_a_machine_runs_when_its_starting_time_has_passed_and_not_before(world: World, clock: VirtualClock) -> None:
    seen: list[MachineState] = []
    world.launch(machine(seen))
    pass_time(world, clock, 9.9)
    assert seen == [MachineState.STARTING]
    pass_time(world, clock, 0.2)
    assert seen == [MachineState.STARTING, MachineState.RUNNING]


def test_a_machine_is_gone_only_when_its_processes_are(world: World, clock: VirtualClock, driver: SlowToDie) -> None:
    seen: list[MachineState] = []
    world.launch(machine(seen))
    pass_time(world, clock, 10)
    assert world.ask("m-1", Happening.END, reason="user")
    pass_time(world, clock, 100)
    assert seen[-1] is MachineState.ENDING
    driver.dead = True
    pass_time(world, clock, HALT_POLL_S)
    assert seen[-1] is MachineState.GONE


def test_a_machine_ended_while_it_starts_is_never_booted(world: World, clock: VirtualClock, driver: SlowToDie) -> None:
    seen: list[MachineState] = []
    world.launch(machine(seen))
    world.ask("m-1", Happening.END, reason="user")
    pass_time(world, clock, 100)
    assert seen == [MachineState.STARTING, MachineState.ENDING, MachineState.GONE]
    assert driver.user_data == []


def test_an_order_that_the_state_does_not_take_changes_nothing(world: World) -> None:
    seen: list[MachineState] = []
    world.launch(machine(seen))
    assert not world.ask("m-1", Happening.START, reason="user")
    assert not world.ask("m-2", Happening.END, reason="user")
    assert seen == [MachineState.STARTING]


def test_user_data_runs_at_the_first_boot_only(world: World, clock: VirtualClock, driver: SlowToDie) -> None:
    """As cloud-init's scripts do."""
    driver.dead = True
    world.launch(machine([]))
    pass_time(world, clock, 10)
    world.ask("m-1", Happening.STOP, reason="user")
    pass_time(world, clock, 5)
    world.ask("m-1", Happening.START, reason="user")
    pass_time(world, clock, 10)
    assert driver.user_data == [b"#!x", b""]


@pytest.mark.parametrize(("ends", "state"), [(True, MachineState.ENDING), (False, MachineState.STOPPING)])
def test_a_machine_that_switches_itself_off_ends_or_stops_as_it_was_launched(
    world: World, clock: VirtualClock, driver: SlowToDie, *, ends: bool, state: MachineState
) -> None:
    seen: list[MachineState] = []
    launched = machine(seen, ends_when_off=ends)
    world.launch(launched)
    pass_time(world, clock, 10)
    assert driver.went_off is not None
    driver.went_off(crashed=False)
    assert seen[-1] is state
    assert launched.reason == "machine"


def test_the_news_of_an_earlier_boot_counts_for_nothing(world: World, clock: VirtualClock, driver: SlowToDie) -> None:
    driver.dead = True
    seen: list[MachineState] = []
    world.launch(machine(seen))
    pass_time(world, clock, 10)
    first = driver.went_off
    world.ask("m-1", Happening.STOP, reason="user")
    pass_time(world, clock, 5)
    world.ask("m-1", Happening.START, reason="user")
    pass_time(world, clock, 10)
    assert first is not None
    first(crashed=True)
    assert seen[-1] is MachineState.RUNNING


class NoSpaceLeft(NoDriver):
    """A driver on a host whose disk is full."""

    def start(self, setup: MachineSetup, went_off: WentOff) -> Handle:
        raise OSError(errno.ENOSPC, "no space left")


def test_a_machine_that_cannot_boot_has_crashed_and_time_goes_on(clock: VirtualClock) -> None:
    seen: list[MachineState] = []
    launched = machine(seen)
    world = World(clock=clock, times=TIMES, driver=NoSpaceLeft())
    world.launch(launched)
    pass_time(world, clock, 10)
    assert seen[-2:] == [MachineState.RUNNING, MachineState.ENDING]
    assert launched.reason == "crash"
    pass_time(world, clock, 10)
    assert seen[-1] is MachineState.GONE
    world.close()


def test_nothing_boots_in_a_world_that_is_closed(world: World, clock: VirtualClock, driver: SlowToDie) -> None:
    """A request may still be under way when its emulator closes; its machine would outlive everything."""
    seen: list[MachineState] = []
    world.launch(machine(seen))
    world.close()
    pass_time(world, clock, 100)
    assert seen == [MachineState.STARTING]
    assert driver.user_data == []


def test_what_fails_in_its_time_does_not_stop_the_time(
    world: World, clock: VirtualClock, capsys: pytest.CaptureFixture[str]
) -> None:
    came: list[str] = []

    def fails() -> None:
        raise RuntimeError("a bug of some cloud's")

    world.at(1.0, fails)
    world.at(2.0, lambda: came.append("what comes after"))
    clock.advance(3)
    world.catch_up()
    assert came == ["what comes after"]
    assert "a bug of some cloud's" in capsys.readouterr().err
