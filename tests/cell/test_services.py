"""Services on the cell's daemon as a real process, with the test in the place of the scheduler and of the clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from scripted_scheduler import ScriptedLink, ScriptedScheduler
from scripted_services import ScriptedService

from grafos_cell.conformance.service_cases import echo_module

ECHO = echo_module()


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[ScriptedScheduler]:
    made = ScriptedScheduler(tmp_path)
    yield made
    made.close()


@pytest.fixture
def link(scheduler: ScriptedScheduler) -> ScriptedLink:
    scheduler.start_cell()
    made = scheduler.next_link()
    made.welcome()
    return made


@pytest.fixture
def service(link: ScriptedLink) -> ScriptedService:
    """An echo that listens."""
    made = ScriptedService(link)
    made.start(ECHO, max_sessions=1024)
    made.wait_listening()
    return made


def test_one_session_is_echoed_through_a_real_process(service: ScriptedService) -> None:
    service.open("a")
    service.send("a", b"hello")
    service.hear_until(lambda: service.got["a"] == b"hello")
    service.finish("a")
    service.hear_until(lambda: "a" in service.ends)
    assert service.ends == {"a": ""}
