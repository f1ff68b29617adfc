"""Each layer that ends a forgotten cell, alone: with all the others disabled, and what bills on after it.

The table of ``docs/decisions/dead-man.md``, row by row. Where the cloud ends the machine, the machines here run nothing
and time is virtual; where the machine ends itself, its cloud's deadline lies an hour ahead, and it has no software.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from forgotten_ground import HOUR_S, ground

from grafos_core.clock import Clock, SystemClock, VirtualClock
from grafos_stacks.bill import DEAD_MAN_GRACE_S, LEFT_BEHIND_S, rates_held

PATIENCE_S = 30.0


def until(condition: Callable[[], object], clock: Clock | None = None) -> None:
    """In virtual time a second passes between two looks: what happened first has to come to its end too."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it did not come to be in time"
        if isinstance(clock, VirtualClock):
            clock.advance(1.0)
        else:
            time.sleep(0.05)


# --- the machine's own timer --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "machines", "bills"),
    [
        ("aws", [], []),
        ("gcp", ["TERMINATED"], ["disk"]),
        ("azure", ["stopped"], ["disk", "publicIPAddress", "virtualMachine"]),
    ],
)
def test_the_operating_system_s_timer_alone(
    provider: str, machines: list[str], bills: list[str], tmp_path: Path
) -> None:
    """It stands at now, so it fires as the machine boots; on Azure that ends the work and not the bill."""
    with ground(provider, tmp_path, SystemClock(), boots=True) as one:
        plan = one.plan(ttl_s=HOUR_S)
        now = int(time.time())
        one.make(msgspec.structs.replace(plan, timer_at=now, **({"expires_at": now} if provider == "aws" else {})))
        until(lambda: one.states() == machines)
        until(lambda: one.billing() == bills)
        assert one.torn_down().left == 0
        assert one.clouds.world() == ()


# --- the cloud's own deadline -------------------------------------------------------------------------------------


def test_compute_engine_s_deadline_alone_deletes_machine_and_disk(tmp_path: Path) -> None:
    clock = VirtualClock(time.time())
    with ground("gcp", tmp_path, clock, boots=False) as one:
        plan = one.plan(ttl_s=HOUR_S)
        one.make(plan)
        assert one.billing() == ["disk", "instance"]
        clock.advance(plan.expires_at - clock.now() - 5)
        assert one.states() == ["RUNNING"]
        clock.advance(5)
        until(lambda: not one.billing(), clock)
        assert clock.now() <= plan.expires_at + DEAD_MAN_GRACE_S


def test_azure_s_schedule_alone_deallocates_and_what_is_left_is_inside_the_hold(tmp_path: Path) -> None:
    clock = VirtualClock(time.time())
    with ground("azure", tmp_path, clock, boots=False) as one:
        plan = one.plan(ttl_s=HOUR_S)
        one.make(plan)
        assert one.billing() == ["disk", "publicIPAddress", "virtualMachine"]
        clock.advance(plan.expires_at - clock.now() - 5)
        assert one.states() == ["running"]
        clock.advance(5)
        until(lambda: one.billing() == ["disk", "publicIPAddress"], clock)
        assert one.states() == ["deallocated"]
        assert clock.now() <= plan.expires_at + DEAD_MAN_GRACE_S
        clock.advance(LEFT_BEHIND_S - HOUR_S)
        assert one.billing() == ["disk", "publicIPAddress"]
        receipt = one.torn_down()
        assert (receipt.left, receipt.held_micro_cents) == (0, plan.bill.total_micro_cents)
        rates, lived_s = rates_held(plan.facts.price, plan.spec.disk_gib), HOUR_S + DEAD_MAN_GRACE_S
        least = sum(rates) * lived_s + (rates.disk + rates.address) * (LEFT_BEHIND_S - 2 * HOUR_S)
        assert least <= receipt.cost_micro_cents * HOUR_S <= receipt.held_micro_cents * HOUR_S


def test_an_extended_schedule_fires_at_its_new_time_and_not_before(tmp_path: Path) -> None:
    """The emulated machine says nothing here, so the provision is made as far as the cloud goes."""
    clock = VirtualClock(time.time())
    with ground("azure", tmp_path, clock, boots=False) as one:
        plan = one.plan(ttl_s=HOUR_S)
        one.make(plan)
        later = one.extended(plan)
        clock.advance(plan.expires_at - clock.now() + 120)
        assert one.states() == ["running"]
        clock.advance(later - clock.now())
        until(lambda: one.states() == ["deallocated"], clock)
        assert clock.now() <= later + DEAD_MAN_GRACE_S
