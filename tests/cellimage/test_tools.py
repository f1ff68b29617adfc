from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from grafos_cellimage import disk, root, tools
from grafos_cellimage.plan import MACHINES, plan_for
from grafos_core.errors import GrafosError

WORKS = """
import signal, sys
from grafos_cellimage import tools
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs these tests in the background has it ignored
tools.run(("sh", "-c", "trap 'echo undone > undone; exit 1' TERM; echo $$ > pid; while :; do sleep 0.05; done"),
          folder=sys.argv[1])
"""


def test_a_missing_tool_is_one_line_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GrafosError) as missing:
        tools.check(("sh", "no-such-program", "neither-this"))
    assert (missing.value.code, missing.value.what) == (
        "tool_missing",
        "no-such-program, neither-this are not on this machine",
    )
    assert missing.value.next == "apt-get install --no-install-recommends neither-this no-such-program"


@pytest.mark.parametrize("arch", MACHINES)
def test_of_every_tool_the_package_is_known(arch: str) -> None:
    needed = {*root.programs(plan_for(arch)), *disk.PROGRAMS, "depmod", "newuidmap", "arch-test"}
    assert needed <= set(tools.PACKAGE_OF)


def test_what_a_tool_says_before_it_fails_is_told() -> None:
    with pytest.raises(GrafosError) as failed:
        tools.run(("sh", "-c", "echo the file is damaged >&2; exit 3"))
    assert (failed.value.code, failed.value.why) == ("bake_failed", "the file is damaged")


def test_nothing_of_the_callers_settings_reaches_a_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    told = dict(line.split("=", 1) for line in tools.run(("env",), epoch_s=7).splitlines())
    assert (told["TZ"], told["LC_ALL"], told["SOURCE_DATE_EPOCH"]) == ("UTC", "C.UTF-8", "7")
    assert "LANG" not in told


def test_ctrl_c_ends_the_tool_in_good_order_and_leaves_none_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WORKS, str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as baking:
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            time.sleep(0.02)
        tool = int((tmp_path / "pid").read_text())
        baking.send_signal(signal.SIGINT)
        baking.wait(30)
    assert (tmp_path / "undone").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(tool, 0)
