"""A machine that bills already needs no second command: whoever made it dies, nobody comes back, and it ends by itself.

A provision dies at every moment from its machine's create call on; then only time passes, on a clock that is stepped.
Emulated machines run nothing here. On EC2, where the machine ends itself, they have a timer that fires when the user
data says; that a machine which really boots sets it is held by ``tests/stacks/test_dead_man.py``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from aws_ground import AwsCloud
from azure_ground import AzureCloud
from crash_cases import Recorder
from crash_sweep import Fuse, cell_of, dies, make, recover, spec, undo
from emulated_ground import EmulatedCloud, EmulatedGround
from gcp_ground import GcpCloud

from grafos_emulators.boot.driver import Handle, MachineSetup, NoDriver, WentOff
from grafos_emulators.world import World
from grafos_stacks.bill import DEAD_MAN_GRACE_S
from grafos_stacks.direct import Hands

TTL_S = 3600
MACHINES = {"aws": "instance", "azure": "virtualMachine", "gcp": "instance"}
SETTINGS = re.compile(r"^SETTINGS = (\".*\")$", re.MULTILINE)


class TimerOnly(NoDriver):
    """Machines of which nothing runs but the timer that their user data asks for."""

    def __init__(self, world: World) -> None:
        self._world = world

    def start(self, setup: MachineSetup, went_off: WentOff) -> Handle | None:
        found = SETTINGS.search(setup.user_data.decode())
        if found is not None:
            settings = json.loads(json.loads(found[1]))
            fires_at = settings.get("timer_at") or settings["expires_at"]
            now = self._world.clock
            self._world.at(now.monotonic() + fires_at - now.now(), lambda: went_off(crashed=False))
        return None


@pytest.fixture(scope="module", params=[AwsCloud, AzureCloud, GcpCloud], ids=lambda kind: kind.provider)
def cloud(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedCloud]:
    cloud: EmulatedCloud = request.param(tmp_path_factory.mktemp("forgotten"))
    if cloud.provider == "aws":
        world = cloud.clouds._world
        world._driver = TimerOnly(world)
    yield cloud
    cloud.close()


def make_for_an_hour(hands: Hands) -> None:
    make(hands, spec(cell_of(hands), hands.connector.provider, ttl_s=TTL_S))


def billing(ground: EmulatedGround) -> list[str]:
    """The machines that cost money now."""
    of_cloud = MACHINES[ground.cloud.provider]
    return [thing.id for thing in ground.cloud.clouds.world() if thing.kind == of_cloud and thing.billable]


def test_whoever_dies_past_the_create_call_leaves_a_machine_that_ends_itself_in_time(cloud: EmulatedCloud) -> None:
    moments, unguarded = moments_with_a_machine(cloud), 0
    for point in moments:
        ground = EmulatedGround(cloud)
        assert dies(ground, make_for_an_hour, Fuse(point))
        unguarded += not ends_by_itself(ground)
        undo(ground.hands())
        recover(ground.hands())
        assert ground.live() == []
    assert len(moments) >= 2
    print(f"\n{cloud.provider}: {len(moments)} moments with a billing machine, {unguarded} of them left to a sweep")
    # Azure's schedule needs the machine's id, so it comes a call later; see docs/decisions/dead-man.md.
    assert unguarded == 0 or cloud.provider == "azure"


def moments_with_a_machine(cloud: EmulatedCloud) -> list[int]:
    """Those before which something happened, from the machine's create call on."""
    ground = EmulatedGround(cloud)
    recorder = Recorder(ground)
    make_for_an_hour(ground.hands(recorder))
    undo(ground.hands())
    kind = MACHINES[cloud.provider]
    return [moment for moment, _ in recorder.telling() if any(line.startswith(kind) for line in recorder.live[moment])]


def ends_by_itself(ground: EmulatedGround) -> bool:
    """Whether no machine bills any more within the grace; only time passes."""
    hands = ground.hands()
    row = hands.journal.stack(cell_of(hands))
    assert row is not None
    assert row.plan is not None
    ends_at = row.plan.expires_at
    guarded = ground.cloud.provider != "azure" or any(line.startswith("schedule") for line in ground.live())
    ground.pass_time(ends_at - ground.clock.now() - 5)
    assert billing(ground), "not before its time"
    while billing(ground) and ground.clock.now() < ends_at + DEAD_MAN_GRACE_S:
        ground.pass_time(1.0)
    assert bool(billing(ground)) != guarded
    return guarded
