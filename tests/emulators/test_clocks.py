"""The clocks that the emulated clouds live by."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any

import pytest

from grafos_core.clock import SystemClock, VirtualClock
from grafos_emulators import clocks
from grafos_emulators.emulator import EmulatedClouds, Settings

GCP = Settings(clouds=("gcp",), boots=False)


def asked(emulator: EmulatedClouds, method: str, name: str, body: Any = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(emulator.endpoint.removeprefix("http://"), timeout=10)
    try:
        connection.request(method, f"/_grafos/{name}", None if body is None else json.dumps(body))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


@pytest.mark.parametrize("text", ["real", "stepped", "scaled:60", "scaled:0.5"])
def test_a_clock_is_told_by_the_text_that_asks_for_it(text: str) -> None:
    assert clocks.form_of(clocks.clock_of(text)) == text


@pytest.mark.parametrize(
    "text", ["", "sundial", "scaled", "scaled:", "scaled:0", "scaled:-1", "scaled:1e9", "scaled:200000"]
)
def test_a_text_that_names_no_clock_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no clock"):
        clocks.clock_of(text)


def test_a_scaled_clock_runs_so_much_faster() -> None:
    scaled, real = clocks.clock_of("scaled:1000"), SystemClock()
    before, began = scaled.monotonic(), real.monotonic()
    while real.monotonic() - began < 0.05:
        pass
    passed, really = scaled.monotonic() - before, real.monotonic() - began
    assert 50.0 <= passed <= 1000 * (really + 5)


def test_only_a_stepped_clock_can_be_moved_and_only_forwards() -> None:
    stepped = VirtualClock(1000.0)
    assert clocks.advance(stepped, 8 * 3600.0) == 1000.0 + 8 * 3600.0
    for wrong in (-1.0, float("nan"), clocks.ADVANCE_S_MAX + 1):
        with pytest.raises(ValueError, match="is no step"):
            clocks.advance(stepped, wrong)
    for other in (SystemClock(), clocks.ScaledClock(60.0)):
        with pytest.raises(ValueError, match="moves by itself"):
            clocks.advance(other, 1.0)


def test_the_control_path_moves_a_stepped_clock_and_what_is_due_happens(tmp_path: Path) -> None:
    with EmulatedClouds(tmp_path / "emulator", GCP, clock=VirtualClock(1000.0)) as emulator:
        happened: list[str] = []
        world = emulator.gcp.world
        world.at(world.clock.monotonic() + 60.0, lambda: happened.append("due"))
        assert asked(emulator, "POST", "clock", {"advance_s": 59}) == (200, {"now": 1059.0})
        assert happened == []
        assert asked(emulator, "POST", "clock", {"advance_s": 1}) == (200, {"now": 1060.0})
        assert happened == ["due"]
        assert asked(emulator, "GET", "health")[1]["clock"] == "stepped"
        for wrong in ({"advance_s": -1}, {"advance_s": "much"}, []):
            assert asked(emulator, "POST", "clock", wrong)[0] == 400
        assert asked(emulator, "GET", "health")[1]["now"] == 1060.0


def test_a_clock_that_moves_by_itself_is_not_moved_over_the_control_path(tmp_path: Path) -> None:
    with EmulatedClouds(tmp_path / "emulator", GCP) as emulator:
        status, answer = asked(emulator, "POST", "clock", {"advance_s": 1})
        assert (status, "moves by itself" in answer["error"]) == (400, True)


def test_on_a_fast_clock_what_is_due_happens_without_anybody_asking(tmp_path: Path, until: Any) -> None:
    with EmulatedClouds(tmp_path / "emulator", GCP, clock=clocks.ScaledClock(100_000.0)) as emulator:
        happened: list[str] = []
        world = emulator.gcp.world
        world.at(world.clock.monotonic() + 3600.0, lambda: happened.append("due"))
        until(lambda: happened)
