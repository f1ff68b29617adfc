"""What a cell costs in calls of the cloud by Pulumi, and by the direct engine: the same."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import closing
from pathlib import Path

from parts_program import CELL, REGION
from pulumi_ground import Spoken, emulated_aws, fabric

from grafos_connectors.aws.connector import AwsConnector
from grafos_core.clock import SystemClock
from grafos_emulators.emulator import EmulatedClouds
from grafos_stacks.bundle import Bundles
from grafos_stacks.creating import late_user_data
from grafos_stacks.direct import Hands
from grafos_stacks.journal import Journal
from grafos_stacks.making import make_stack
from grafos_stacks.provision import prepare
from grafos_stacks.pulumi.schema import PLAN
from grafos_stacks.spec import CellSpec
from grafos_stacks.teardown import teardown


def by_pulumi(aws: EmulatedClouds) -> None:
    del aws
    with closing(Spoken()) as provider:
        plan = provider.plan()
        made = provider.whole(plan)
        kinds = {role: f"grafos:cell:{''.join(word.capitalize() for word in role.split('-'))}" for role in made}
        for role in reversed(made):
            if role != "firewall-rule":  # declared to go with its firewall, so an engine does not ask
                provider.delete(kinds[role], *made[role])
        provider.delete(PLAN, CELL, plan)


def directly(aws: EmulatedClouds) -> None:
    clock = SystemClock()
    with closing(Journal(fabric(), clock)) as journal:
        hands = Hands(fabric(), AwsConnector(REGION, environment=aws.environment()), journal, clock, time.sleep)
        plan = prepare(hands, CellSpec("aws", "aws-two", REGION, "127.0.0.1/32"), Bundles()).plan
        make_stack(hands, plan, late_user_data(lambda attempt: "never run"))
        teardown(hands, "aws-two", Path.cwd(), REGION, "aws")


def test_a_cell_takes_the_same_changing_calls_by_either_engine(tmp_path: Path) -> None:
    counted = []
    with emulated_aws(tmp_path) as aws:
        for engine in (by_pulumi, directly):
            began = len(aws.journal())
            engine(aws)
            assert aws.world() == ()
            calls = aws.journal()[began:]
            counted.append(Counter(call.action for call in calls if call.mutating))
            print(f"{engine.__name__}: {sum(counted[-1].values())} changing calls, {len(calls)} in all")
    assert counted[0] == counted[1]
