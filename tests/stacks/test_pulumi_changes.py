"""What people change in a Pulumi program, and what time changes: by plain commands of the real engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import boto3
import pytest
from msgspec.structs import replace
from parts_program import CELL
from pulumi_ground import emulated_aws, fabric, machines, open_to
from pulumi_plain import PARTS_ONLY, Plain

from grafos_core import ledger as ledgers
from grafos_core.clock import SystemClock
from grafos_emulators.emulator import EmulatedClouds
from grafos_stacks.journal import Journal

pytestmark = [pytest.mark.needs("pulumi"), pytest.mark.timeout(600), pytest.mark.deep]

HOME, AWAY = "203.0.113.7/32", "198.51.100.9/32"


@pytest.fixture
def aws(tmp_path: Path) -> Iterator[EmulatedClouds]:
    with emulated_aws(tmp_path) as aws:
        yield aws


@pytest.fixture
def plain(aws: EmulatedClouds, tmp_path: Path) -> Plain:
    del aws
    return Plain(tmp_path / "project", {"provider": "aws", "region": "us-east-1", "ttl": "2h"}, PARTS_ONLY)


def changes(plain: Plain, *words: str) -> dict[str, int]:
    """What the engine would do, or did, by its word for it."""
    code, said = plain(*words, "--json")
    assert code == 0, said
    told: dict[str, int] = json.loads(said[said.index("{\n") :])["changeSummary"]
    return told


def test_another_address_is_let_in_and_the_one_before_no_longer(aws: EmulatedClouds, plain: Plain) -> None:
    plain.set(allow=HOME)
    plain.up()
    before = machines(aws)
    assert open_to(aws) == [HOME]
    plain.set(allow=AWAY)
    assert changes(plain, "preview") == {"same": 8, "update": 1, "replace": 1}
    plain.up()
    assert (open_to(aws), machines(aws)) == ([AWAY], before)
    plain.up("--expect-no-changes")
    plain.destroy()
    assert aws.world() == ()


def test_a_cell_that_ran_out_stays_gone_until_it_is_renewed(aws: EmulatedClouds, plain: Plain) -> None:
    plain.up()
    [first] = machines(aws)
    run_out(aws, first)
    plain.up("--expect-no-changes")
    plain.done("refresh", "--yes", "--skip-preview")
    plain.up("--expect-no-changes")
    assert machines(aws) == []
    plain.set(renewal="1")
    plain.up()
    [second] = machines(aws)
    assert second != first
    plain.up("--expect-no-changes")
    [plan] = plain.resources("Plan")
    assert plan["outputs"]["renewal"] == 1
    plain.destroy()
    assert aws.world() == ()
    assert {hold.state for hold in fabric().read_ledger().holds.values()} == {ledgers.SETTLED}


def run_out(aws: EmulatedClouds, machine: str) -> None:
    """As if its time were over: the machine has ended itself, and the journal has the end that was planned."""
    boto3.client("ec2", **aws.client_arguments()).terminate_instances(InstanceIds=[machine])
    clock = SystemClock()
    with closing(Journal(fabric(), clock)) as journal:
        row = journal.stack(CELL)
        assert row is not None
        assert row.plan is not None
        journal.write(row.moved(row.state, clock.now(), plan=replace(row.plan, expires_at=int(clock.now()) - 1)))
