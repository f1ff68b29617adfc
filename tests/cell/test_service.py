"""What the daemon tells a service manager, and the unit that it prints."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from grafos_cell import service


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(str(tmp_path / "notify"))
    listening.settimeout(60)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    return listening


def test_the_manager_hears_what_it_is_told(manager: socket.socket) -> None:
    with manager:
        service.notify("READY=1")
        assert manager.recv(100) == b"READY=1"


def test_an_abstract_address_is_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"grafos-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + name)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        service.notify("STOPPING=1")
        assert listening.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize("address", ["", "/nobody/listens/here", "vsock:2:1"])
def test_where_nobody_listens_nothing_happens(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    service.notify("READY=1")


def test_the_watchdog_is_fed_twice_as_often_as_it_must_be(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))

    async def feed() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await service.feed_watchdog()

    with manager:
        asyncio.run(feed())
        assert manager.recv(100) == manager.recv(100) == b"WATCHDOG=1"
    assert service.watchdog_s() == 0.1


@pytest.mark.parametrize(("pid", "usec"), [("1", "100000"), ("", ""), ("", "soon")])
def test_a_watchdog_that_is_not_ours_is_not_fed(pid: str, usec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_PID", pid)
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    assert service.watchdog_s() == 0


def test_a_word_with_a_meaning_for_systemd_keeps_its_own() -> None:
    assert service.quoted("plain") == "plain"
    assert service.quoted("100%") == "100%%"
    assert "ExecStart=a $$HOME\n" in service.unit("one", ["a", "$HOME"], [])
    assert service.quoted('a "b" \\c') == '"a \\"b\\" \\\\c"'
    assert service.quoted("") == '""'


def test_the_printed_unit_holds_and_names_every_path_in_full(tmp_path: Path) -> None:
    flags = ["--orchestrator", "https://127.0.0.1:1", "--provider", "gcp", "--cell-id", "one"]
    flags += ["--trust", "a trust", "--state", "state", "--print-unit"]
    command = [sys.executable, "-m", "grafos_cell.registered", *flags]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert f'--trust "{tmp_path}/a trust" --state {tmp_path}/state\n' in said
    assert "--print-unit" not in said
    for line in ("Type=notify", "NoNewPrivileges=yes", "ProtectSystem=strict", "PrivateTmp=yes"):
        assert f"\n{line}\n" in said
    assert "MemoryDenyWriteExecute" not in said, "compiled guests need executable memory"
    assert f'ReadWritePaths="{tmp_path}/a trust" {tmp_path}/state\n' in said
    if (analyze := shutil.which("systemd-analyze")) is not None:
        unit = tmp_path / "grafos-cell.service"
        unit.write_text(said)
        done = subprocess.run([analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False)
        ours = [line for line in done.stderr.splitlines() if "grafos-cell" in line]
        assert ours == []


def test_under_the_journal_a_line_has_its_level_and_no_time(tmp_path: Path) -> None:
    script = (
        "import logging, os, sys; from grafos_core.program import log_to_stderr; "
        "there = os.fstat(2); os.environ['JOURNAL_STREAM'] = f'{there.st_dev}:{there.st_ino}'; log_to_stderr(); "
        "log = logging.getLogger('grafos.cell'); log.info('one'); log.warning('two\\nlines'); log.critical('three')"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stderr
    assert said.splitlines() == ["<6>grafos.cell: one", "<4>grafos.cell: two", "<4>lines", "<2>grafos.cell: three"]


def test_elsewhere_it_has_its_time(tmp_path: Path) -> None:
    script = (
        "import logging; from grafos_core.program import log_to_stderr; log_to_stderr(); "
        "logging.getLogger('grafos.cell').info('one')"
    )
    environment = {**os.environ, "JOURNAL_STREAM": "1:1"}
    child = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert child.stderr.endswith(" INFO grafos.cell: one\n")
