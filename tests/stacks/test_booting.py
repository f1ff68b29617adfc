"""A registered cell's machine is believed by what it says on its console: on the in-memory cloud, in virtual time."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from crash_sweep import CELL, make
from twin_ground import TwinGround

from grafos_connectors.contract import Found, Kind
from grafos_connectors.twin import Effect, Fault
from grafos_core.errors import GrafosError
from grafos_stacks.booting import BOOT_PATIENCE_S, wait_booted
from grafos_stacks.bootstrap import Booted
from grafos_stacks.direct import Hands

LINE = f"grafos: booted cell={CELL} timer=1800003600 machine=m-1 place=zone-a\n"


def running(ground: TwinGround) -> Found:
    make(ground.hands())
    [machine] = [one for one in ground.found() if one.ref.kind is Kind.MACHINE]
    return machine


def hands_that(ground: TwinGround, when_s: float, act: Callable[[], object]) -> Hands:
    """Hands whose waiting lets something happen after so many seconds."""
    began, happened = ground.clock.now(), list[bool]()

    def sleep(seconds: float) -> None:
        ground.clock.advance(seconds)
        if ground.clock.now() - began >= when_s and not happened:
            happened.append(True)
            act()

    return Hands(**{**ground.hands().__dict__, "sleep": sleep})


def test_it_waits_until_the_machine_says_so() -> None:
    ground = TwinGround()
    machine = running(ground)
    hands = hands_that(ground, 40.0, lambda: ground.cloud.write_console(machine.ref.id, "noise\n" + LINE))
    began = ground.clock.now()
    assert wait_booted(hands, CELL, machine) == Booted(1_800_003_600, "m-1", "zone-a")
    assert 40 <= ground.clock.now() - began < 50


@pytest.mark.parametrize(("said", "shown"), [("", "empty so far"), ("kernel panic\n", "kernel panic")])
def test_a_machine_that_never_says_so_is_not_waited_for_for_ever(said: str, shown: str) -> None:
    ground = TwinGround()
    machine = running(ground)
    ground.cloud.write_console(machine.ref.id, said)
    began = ground.clock.now()
    with pytest.raises(GrafosError) as slow:
        wait_booted(ground.hands(), CELL, machine)
    assert slow.value.code == "cell_not_ready"
    assert shown in slow.value.why
    assert BOOT_PATIENCE_S < ground.clock.now() - began < BOOT_PATIENCE_S + 10


def test_a_console_that_may_not_be_read_is_not_called_empty() -> None:
    ground = TwinGround()
    machine = running(ground)
    ground.faults.add(Fault("console", Effect.REFUSE, code="cloud_denied", times=1000))
    with pytest.raises(GrafosError) as slow:
        wait_booted(ground.hands(), CELL, machine)
    assert slow.value.code == "cell_not_ready"
    assert "cannot be read: cloud_denied" in slow.value.why


def test_a_machine_that_could_set_no_timer_is_not_taken_for_one_that_ends_itself() -> None:
    ground = TwinGround()
    machine = running(ground)
    ground.cloud.write_console(machine.ref.id, LINE.replace("1800003600", "none"))
    with pytest.raises(GrafosError) as unsafe:
        wait_booted(ground.hands(), CELL, machine)
    assert unsafe.value.code == "cell_not_ready"
    assert "timer" in unsafe.value.what


def test_another_cell_s_line_is_not_ours() -> None:
    ground = TwinGround()
    machine = running(ground)
    ground.cloud.write_console(machine.ref.id, LINE.replace(f"cell={CELL}", f"cell={CELL}-two"))
    with pytest.raises(GrafosError):
        wait_booted(ground.hands(), CELL, machine)


def test_a_machine_that_ends_meanwhile_is_told() -> None:
    ground = TwinGround()
    machine = running(ground)
    hands = hands_that(ground, 5.0, lambda: ground.connector().begin_delete(machine.ref))
    with pytest.raises(GrafosError) as gone:
        wait_booted(hands, CELL, machine)
    assert gone.value.code == "cell_gone"
    assert msgspec.json.encode(gone.value.to_wire())
