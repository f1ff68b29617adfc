"""A command ends when all is said: whatever its libraries have left to tidy up is the system's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from command_line import grafos

SLOW_TO_TAKE_APART = "import atexit, time; atexit.register(time.sleep, 3600); from grafos_cli.main import main; main()"


def test_no_library_holds_up_the_end_of_a_command(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SLOW_TO_TAKE_APART, "--version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.startswith("grafos ")


def test_all_that_was_said_arrives_and_the_exit_code_with_it(tmp_path: Path) -> None:
    long = grafos("describe", "--json", cwd=tmp_path)
    assert long.code == 0
    assert json.loads(long.out)["commands"]
    assert grafos("depoly", cwd=tmp_path).code == 2


def test_words_that_could_not_be_written_any_more_fail_the_command(tmp_path: Path) -> None:
    words = "import sys; from grafos_cli.leaving import leave; sys.stdout.write('said'); leave(0)"
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run([sys.executable, "-c", words], cwd=tmp_path, stdout=full, check=False)
    assert ended.returncode == 1


def test_a_command_that_was_started_without_a_stdout_leaves_as_any_other(tmp_path: Path) -> None:
    words = "import sys; sys.stdout = None; from grafos_cli.leaving import leave; leave(7)"
    assert subprocess.run([sys.executable, "-c", words], cwd=tmp_path, check=False).returncode == 7
