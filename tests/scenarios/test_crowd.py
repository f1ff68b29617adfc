"""Two hundred deploys over three clouds at once, against a small budget, and the control plane killed in the middle.

The orchestrators are real processes that are really killed; the cells are played, over real TLS links, and in the last
story they are real too.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crowd import Crowd
from crowd_of_agents import CrowdOfAgents
from orchestrator import Orchestrator
from postgresql import Server
from replicas import Fleet

from grafos_core.errors import CODES

pytestmark = pytest.mark.filterwarnings(
    # Whose peer is killed between connecting and the handshake, Python's ssl leaves to the collector (`_create`).
    "ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning"
)
DEPLOYS = 200
BUDGET_CENTS = 150
"""Of the 400 that all worst cases come to: most have to wait for what others did not spend, and some get nothing."""
BLOW_AFTER = 40
KILLED, PAUSED = "killed", "paused"


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Orchestrator]:
    """One orchestrator on SQLite."""
    made = Orchestrator(tmp_path)
    try:
        yield made.start()
    finally:
        made.discard()


@pytest.fixture
def fleet(tmp_path: Path, database_server: Server) -> Iterator[Fleet]:
    """Three replicas on PostgreSQL."""
    made = Fleet(tmp_path, database_server)
    try:
        yield made.start()
    finally:
        made.discard()


def killed_and_started(at: Orchestrator) -> None:
    assert at.scheduler is not None
    at.scheduler.end(signal.SIGKILL)
    at.start()


def story_of_one(
    alone: Orchestrator,
    blow: Callable[[], None],
    *,
    blow_after: int = BLOW_AFTER,
    kind: type[Crowd] = Crowd,
    budget_cents: int = BUDGET_CENTS,
) -> Crowd:
    crowd = kind([alone], alone.claimed(), budget_cents)
    try:
        crowd.wait_ready()
        crowd.deploy(DEPLOYS, blow, blow_after=blow_after)
        crowd.check(alone)
    finally:
        crowd.close()
    return crowd


def story_of_three(fleet: Fleet, blow: str, *, blow_after: int = BLOW_AFTER, waits: bool = False) -> Crowd:
    """``waits``: until the lease is over by itself."""
    leader = fleet.leader()
    assert leader.scheduler is not None
    others = fleet.others(leader)
    crowd = Crowd(others, fleet.operator, BUDGET_CENTS)

    def fall() -> None:
        leader.scheduler.popen.send_signal(signal.SIGKILL if blow == KILLED else signal.SIGSTOP)
        if not waits:
            fleet.lapse()
        if blow == PAUSED:
            fleet.leader_of(others)
            leader.scheduler.popen.send_signal(signal.SIGCONT)

    try:
        crowd.wait_ready()
        crowd.deploy(DEPLOYS, fall, blow_after=blow_after)
        crowd.check(fleet.leader_of(others))
    finally:
        crowd.close()
    ended = {KILLED: -signal.SIGKILL, PAUSED: CODES["store_fenced"].exit_code}
    assert leader.scheduler.popen.wait() == ended[blow]
    return crowd


def test_200_deploys_at_once_cost_no_cent_too_much_when_the_orchestrator_is_killed_in_the_middle(
    alone: Orchestrator,
) -> None:
    crowd = story_of_one(alone, lambda: killed_and_started(alone))
    assert len(crowd.ends) > BLOW_AFTER, "nothing went on after the kill"
    assert crowd.refused, "the budget was not small"


@pytest.mark.needs("postgresql")
@pytest.mark.parametrize("blow", [KILLED, PAUSED])
def test_200_deploys_at_once_cost_no_cent_too_much_when_the_leader_of_three_falls_in_the_middle(
    fleet: Fleet, blow: str
) -> None:
    """Paused, it comes back while another leads: what it wanted to write then is refused for its stale epoch."""
    crowd = story_of_three(fleet, blow)
    assert len(crowd.ends) > BLOW_AFTER, "nothing went on under the new leader"


@pytest.mark.deep
@pytest.mark.parametrize("blow_after", [0, 1, 10, 80, 150])
def test_it_does_not_matter_when_the_orchestrator_is_killed_nor_how_often(alone: Orchestrator, blow_after: int) -> None:
    def again_and_again() -> None:
        for _ in range(4):
            killed_and_started(alone)
            time.sleep(random.uniform(0.1, 2.0))

    story_of_one(alone, again_and_again, blow_after=blow_after)


@pytest.mark.deep
@pytest.mark.needs("postgresql")
@pytest.mark.parametrize("blow_after", [0, 1, 10, 80, 150])
@pytest.mark.parametrize("blow", [KILLED, PAUSED])
def test_it_does_not_matter_when_the_leader_falls_and_its_lease_runs_out_by_itself(
    fleet: Fleet, blow: str, blow_after: int
) -> None:
    story_of_three(fleet, blow, blow_after=blow_after, waits=True)


@pytest.mark.deep
def test_200_deploys_at_once_on_real_agents_cost_no_cent_too_much_when_the_orchestrator_is_killed_in_the_middle(
    alone: Orchestrator,
) -> None:
    """What its cores can run at once would come to more than the budget; what it costs in the end does not."""
    budget_cents = 4 * CrowdOfAgents.cores
    crowd = story_of_one(alone, lambda: killed_and_started(alone), kind=CrowdOfAgents, budget_cents=budget_cents)
    assert len(crowd.ends) > BLOW_AFTER, "nothing went on after the kill"
    assert crowd.refused, "the budget was not small"
