"""What befalls an instance after it was launched: a death that nobody ordered, or the cloud taking a spot one back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from functools import partial

from grafos_emulators.aws.account import Account
from grafos_emulators.faults import Effect, ErrorClass, Fault
from grafos_emulators.lifecycle import Happening, MachineState

SPOT_NOTICE_S = 120.0  # between the notice and the end; the EC2 user guide, "Spot Instance interruption notices"
DEATHS = frozenset({Effect.LAUNCH_THEN_DIE, Effect.OPERATION_ERROR, Effect.SAYS_DONE_AND_IS_NOT})
_DIES_OF = {ErrorClass.CAPACITY: "no-capacity", ErrorClass.QUOTA: "no-volume"}


def befall(account: Account, instance_ids: Iterable[str], fault: Fault | None) -> None:
    """Called with the world's lock held, right after the launch."""
    if fault is None:
        return
    world = account.world
    due = world.clock.monotonic() + fault.after_s
    for instance_id in instance_ids:
        if fault.effect in DEATHS:
            world.at(due, partial(_end, account, instance_id, _DIES_OF.get(fault.error, "crash")))
        if fault.effect is Effect.SPOT_NOTICE and account.instances[instance_id].is_spot:
            world.at(due, partial(_give_notice, account, instance_id))


def _end(account: Account, instance_id: str, reason: str) -> None:
    account.world.ask(instance_id, Happening.END, reason=reason)


def _give_notice(account: Account, instance_id: str) -> None:
    """The metadata tell it, two minutes ahead. One that does not run yet is told as soon as it does."""
    world, machine = account.world, account.world.machine(instance_id)
    if machine is None or machine.state not in {MachineState.STARTING, MachineState.RUNNING}:
        return
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(world.clock.now() + SPOT_NOTICE_S))
    world.give_notice(instance_id, world.clock.now() + SPOT_NOTICE_S)
    account.spot_notices[instance_id] = json.dumps({"action": "terminate", "time": moment})
    world.at(world.clock.monotonic() + SPOT_NOTICE_S, partial(_end, account, instance_id, "spot"))
