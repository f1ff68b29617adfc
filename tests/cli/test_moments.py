"""Moments as people read them: from now, and to the minute."""

from __future__ import annotations

import time

import pytest

from grafos_cli.moments import age_text, moment_text, when_text


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (-3, "0s"), (0, "0s"), (59.9, "59s"), (60, "1m"), (3599, "59m"), (3600, "1h"), (3660, "1h1m"),
        (8 * 3600 - 1, "7h59m"), (86399, "23h59m"), (86400, "1d"), (30 * 86400, "30d"),
    ],
)  # fmt: skip
def test_an_age_is_said_in_its_largest_units(seconds: float, told: str) -> None:
    assert age_text(seconds) == told


@pytest.mark.parametrize(
    ("moment", "told"),
    [(0.0, "-"), (1000.0, "now"), (1000.9, "now"), (1090.0, "in 1m"), (930.0, "1m ago"), (1000 + 7200.0, "in 2h")],
)
def test_a_moment_is_said_from_now(moment: float, told: str) -> None:
    assert when_text(moment, 1000.0) == told


def test_an_exact_moment_has_its_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert moment_text(0) == "-"
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    assert moment_text(1_800_000_000).startswith("2027-01-15 08:00 ")
    assert moment_text(1_800_000_001, seconds=True).startswith("2027-01-15 08:00:01 ")
