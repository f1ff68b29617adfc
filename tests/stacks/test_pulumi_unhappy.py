"""Pulumi's own commands, as a CI runs them, stopped and killed in the middle: exactly the wanted machines, then none.

Nobody tidies up in between but as a person would: `pulumi cancel` for the lock of a dead engine, then the same again.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pulumi_ground import emulated_aws, fabric, machines
from pulumi_plain import PARTS_ONLY, PATIENCE_S, Plain, comes_to, kill
from source_tree import ROOT

from grafos_core import ledger as ledgers
from grafos_emulators.emulator import EmulatedClouds
from grafos_emulators.lifecycle import LifecycleTimes

pytestmark = [pytest.mark.needs("pulumi"), pytest.mark.timeout(600)]

NEVER_READY = LifecycleTimes(starting_s=1e6, ending_s=0.05)
SOME_TIME = LifecycleTimes(starting_s=1.0, ending_s=0.05)


def check_nothing_is_left(aws: EmulatedClouds) -> None:
    assert aws.world() == ()
    assert {hold.state for hold in fabric().read_ledger().holds.values()} <= {ledgers.SETTLED, ledgers.RELEASED}


def project(folder: Path) -> Plain:
    return Plain(folder, {"provider": "aws", "region": "us-east-1"}, PARTS_ONLY)


@pytest.fixture
def aws(tmp_path: Path) -> Iterator[EmulatedClouds]:
    with emulated_aws(tmp_path, times=SOME_TIME) as aws:
        yield aws


def test_killed_beside_its_machine_an_up_is_repeated_or_destroyed_and_leaves_nothing(
    aws: EmulatedClouds, tmp_path: Path
) -> None:
    """The engine, its provider, both: while the machine starts, so that only the cloud knows it."""
    plain = project(tmp_path / "project")
    for who in ("engine", "provider", "both"):
        up = plain.begin("up", "--yes", "--skip-preview")
        assert comes_to(up, lambda: bool(machines(aws))), up.communicate()
        kill(who, up)
        plain("cancel", "--yes")
        assert len(machines(aws)) == 1
    plain.destroy()
    check_nothing_is_left(aws)


def workflow() -> dict[str, Any]:
    """The one of the page on CI."""
    page = (ROOT / "docs" / "how-to" / "pulumi-in-ci.md").read_text()
    told: dict[str, Any] = yaml.safe_load(page.partition("```yaml\n")[2].partition("```")[0])
    return told


def step(name: str) -> str:
    """What a step of that workflow runs."""
    [job] = workflow()["jobs"].values()
    return next(str(each["run"]) for each in job["steps"] if each.get("name") == name)


def test_the_workflow_of_the_page_previews_pull_requests_and_lets_no_run_break_into_another() -> None:
    told = workflow()
    [job] = told["jobs"].values()
    conditions = {each["name"]: each["if"] for each in job["steps"] if "if" in each}
    assert conditions == {"preview": "github.event_name == 'pull_request'", "up": "github.event_name == 'push'"}
    assert told["concurrency"]["cancel-in-progress"] is False
    assert "head.repo.full_name == github.repository" in job["if"], "no fork gets at the runner's fabric"
    assert {"PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE"} == job["env"].keys()
    assert step("up").startswith("exec pulumi up")


def test_a_job_that_is_cancelled_ends_with_the_machine_in_its_state_and_a_destroy_ends_that(tmp_path: Path) -> None:
    """The steps of the page's workflow, as a runner of GitHub starts and cancels them."""
    with emulated_aws(tmp_path, times=NEVER_READY) as aws:
        plain = project(tmp_path / "project")
        preview = plain.step(step("preview"))
        assert "+ 10 to create" in preview.communicate(timeout=PATIENCE_S)[0]
        assert aws.world() == ()
        up = plain.step(step("up"))
        assert comes_to(up, lambda: bool(machines(aws))), up.communicate()
        up.send_signal(signal.SIGINT)
        said, _ = up.communicate(timeout=PATIENCE_S)
        assert (up.returncode, "[interrupted]" in said) == (1, True), said
        [machine] = plain.resources("Machine")
        assert [machine["id"]] == machines(aws)
        assert machine["initErrors"]
        plain.destroy()
        check_nothing_is_left(aws)


@pytest.mark.deep
def test_interrupted_twice_it_ends_at_once_and_whoever_only_destroys_is_left_with_nothing(tmp_path: Path) -> None:
    """The engine then writes nothing more down: what it began is found by its tags when the cell's plan ends."""
    with emulated_aws(tmp_path, times=NEVER_READY) as aws:
        plain = project(tmp_path / "project")
        up = plain.begin("up", "--yes", "--skip-preview")
        assert comes_to(up, lambda: bool(machines(aws))), up.communicate()
        for _ in range(2):
            up.send_signal(signal.SIGINT)
        up.communicate(timeout=PATIENCE_S)
        assert up.returncode != 0
        plain("cancel", "--yes")
        plain.destroy()
        check_nothing_is_left(aws)
