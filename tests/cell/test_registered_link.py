"""The link of a registered cell, frame by frame, with the test in the orchestrator's place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from scripted_scheduler import ScriptedScheduler
from tasklets import tasklet

from grafos_core.errors import CODES
from grafos_scheduler import frames

ENDLESS = tasklet("(loop $again (br $again)) i32.const 0")
CPU = "03" + "0" * 30


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[ScriptedScheduler]:
    made = ScriptedScheduler(tmp_path)
    yield made
    made.close()


def test_a_renewed_certificate_means_another_link_and_nothing_that_runs_notices(scheduler: ScriptedScheduler) -> None:
    scheduler.start_agent(life_s=20.0)
    first = scheduler.next_link()
    first.welcome()
    first.start("r1", ENDLESS, first.grant(CPU))
    first.serve_blob(ENDLESS)
    second = scheduler.next_link()
    hello = second.welcome()
    assert (hello.boot_epoch, hello.unacknowledged) == (1, ())
    assert len(scheduler.registrations) == 2, "what the machine has is told anew"
    assert second.hear_one(frames.Heartbeat).leased.cpu_cores == 1
    second.say(frames.TearDownLease(CPU, 1))
    assert second.hear_one(frames.RunEnded).run_id == "r1"
    assert second.hear_one(frames.LeaseTornDown).lease_id == CPU


def test_a_goodbye_for_good_fences_it_and_ends_it(scheduler: ScriptedScheduler) -> None:
    daemon = scheduler.start_agent(life_s=3600.0)
    link = scheduler.next_link()
    link.welcome()
    daemon.wait_ready()
    link.start("r1", ENDLESS, link.grant(CPU))
    link.serve_blob(ENDLESS)
    link.say(frames.Goodbye("cell_revoked", "it was lost"))
    assert daemon.popen.wait(30) == CODES["cell_revoked"].exit_code
    log = daemon.log.read_text()
    assert "error[cell_revoked]: it was lost" in log
    assert len(scheduler.dials) == 1, "it is of no use to dial again"
    again = scheduler.start_agent(life_s=3600.0)
    hello = scheduler.next_link().welcome()
    assert hello.unacknowledged == ("r1",), "how its run ended was durable before it ended"
    again.end()
