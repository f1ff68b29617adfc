"""The options of the machine's commands; sources: shutdown(8), systemd-run(1), systemctl(1), systemd.time(7)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from grafos_emulators.boot.orders import (
    AskActive,
    CancelPowerOff,
    Nothing,
    Order,
    PowerOff,
    Refused,
    RunService,
    StopUnits,
    When,
    parse,
)

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC).timestamp()


def order(line: str) -> Order:
    tool, *arguments = line.split()
    return parse(tool, arguments, now=NOON, fresh_name="fresh")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("poweroff", PowerOff(When())),
        ("shutdown now", PowerOff(When())),
        ("shutdown -P now", PowerOff(When())),
        ("shutdown -h now words to all", PowerOff(When())),
        ("shutdown -P +480", PowerOff(When(after_s=28800))),
        ("shutdown", PowerOff(When(after_s=60))),
        ("shutdown 13:30", PowerOff(When(at=NOON + 5400))),
        ("shutdown 11:00", PowerOff(When(at=NOON + 23 * 3600))),
        ("shutdown -c", CancelPowerOff()),
        ("systemctl poweroff", PowerOff(When())),
        ("systemctl daemon-reload", Nothing()),
        ("systemctl is-active a.service b", AskActive(("a", "b"))),
        ("systemctl stop a.timer", StopUnits(("a",))),
        ("systemd-run true", RunService("fresh", ("true",))),
        ("systemd-run --unit=cell.service -- python3 -m x", RunService("cell", ("python3", "-m", "x"))),
        ("systemd-run -u cell -q --no-block true", RunService("cell", ("true",))),
        ("systemd-run --on-active=90s true", RunService("fresh", ("true",), timer=When(after_s=90))),
        ("systemd-run --on-active=1h30min true", RunService("fresh", ("true",), timer=When(after_s=5400))),
        ("systemd-run --on-calendar=@1800000000 true", RunService("fresh", ("true",), timer=When(at=1.8e9))),
        (
            "systemd-run -p Restart=always -p RestartSec=2 -p ProtectSystem=strict -E A=b true",
            RunService("fresh", ("true",), environment={"A": "b"}, restart="always", restart_s=2),
        ),
    ],
)
def test_an_order_is_understood(line: str, expected: Order) -> None:
    assert order(line) == expected


def test_a_calendar_time_is_utc_where_it_says_so() -> None:
    understood = parse("systemd-run", ["--on-calendar=2026-11-21 12:00:00 UTC", "true"], now=0, fresh_name="x")
    assert isinstance(understood, RunService)
    assert understood.timer == When(at=NOON)


@pytest.mark.parametrize(
    "line",
    [
        "reboot",
        "shutdown -r now",
        "shutdown soon",
        f"shutdown +{'9' * 400}",
        "systemctl",
        "systemctl start a",
        "systemctl enable --now a",
        "systemctl stop",
        "systemd-run",
        "systemd-run --unit=a",
        "systemd-run --unit",
        "systemd-run --unit=a/b true",
        "systemd-run --on-active=soon true",
        "systemd-run --on-active=5fortnights true",
        "systemd-run --on-calendar=daily true",
        "systemd-run -p Restart=sometimes true",
        "systemd-run --scope true",
    ],
)
def test_what_is_not_emulated_is_refused_in_words(line: str) -> None:
    refusal = order(line)
    assert isinstance(refusal, Refused)
    assert refusal.text.startswith(line.split(maxsplit=1)[0])
