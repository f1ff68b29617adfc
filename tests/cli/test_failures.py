from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import GOLDEN, Answer, grafos, named

from grafos_cli.failures import redacted, with_next_step
from grafos_cli.nearness import nearest_flag
from grafos_core.errors import GrafosError

Golden = Callable[[Path, str], None]


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("depoly",), "deploy"),
        (("dev", "upp"), "up"),
        (("tasklet", "biuld"), "build"),
        (("runs", "lst"), "ls"),
    ],
)
def test_an_unknown_command_is_told_the_nearest_one(words: tuple[str, ...], meant: str, tmp_path: Path) -> None:
    answer = grafos(*words, cwd=tmp_path)
    assert (answer.code, answer.error_code, answer.out) == (2, "usage", "")
    assert f"did you mean '{meant}'?" in answer.err


@pytest.mark.parametrize(
    ("flag", "meant"),
    [("--jsn", "--json"), ("--dryrun", "--dry-run"), ("-j", "--json"), ("-d", ""), ("-x", ""), ("--colour-blind", "")],
)
def test_a_flag_is_only_guessed_when_one_alone_is_near(flag: str, meant: str) -> None:
    """Of ``-d`` it could be two."""
    assert nearest_flag(flag, ["--json", "--debug", "--dry-run", "-h"]) == meant


def test_an_unknown_flag_is_told_the_nearest_one(tmp_path: Path, golden: Golden) -> None:
    answer = grafos("deploy", "run", "--provder", "aws", cwd=tmp_path)
    assert answer.code == 2
    golden(GOLDEN / "errors" / "unknown-flag.txt", answer.err)


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("cloud", "ls", "--jsn"), "--json"),
        (("cloud", "provision", "aws", "--regoin", "x"), "--region"),
        (("cloud", "teardown", "aws", "-y"), "--yes"),
        (("cloud", "allow", "--allow"), ""),  # nothing is like it, and a guess would mislead
        (("runs", "ls", "-q"), ""),
    ],
)
def test_a_flag_is_guessed_only_when_one_is_like_it(words: tuple[str, ...], meant: str, tmp_path: Path) -> None:
    err = grafos(*words, cwd=tmp_path).err
    assert ("did you mean" in err) is bool(meant)
    assert f"did you mean {meant}?" in err or not meant


def test_a_verb_alone_is_told_its_nouns(tmp_path: Path) -> None:
    answer = grafos("logs", cwd=tmp_path)
    assert answer.code == 2
    assert "did you mean 'service logs' or 'runs logs' or 'dev logs' or 'cloud logs'?" in answer.err
    assert "next:  grafos cloud provision\n" in grafos("provision", cwd=tmp_path).err


def test_where_there_is_no_program_no_other_command_is_named_than_the_one_that_makes_one(tmp_path: Path) -> None:
    for words in (("deploy", "run"), ("deploy", "plan"), ("validate",), ("tasklet", "build")):
        err = grafos(*words, cwd=tmp_path).err
        assert set(re.findall(r"grafos \w+", err)) == {"grafos new", "grafos help"}


def test_a_number_below_zero_is_told_to_be_none(tmp_path: Path) -> None:
    answer = grafos("cloud", "budget", "set", "-5", cwd=tmp_path)
    assert (answer.code, answer.error_code) == (2, "usage")
    assert "why:   a number below zero is read as a flag, and no command takes one" in answer.err


def test_a_global_flag_works_before_and_after_the_command(tmp_path: Path) -> None:
    before = grafos("--json", "tasklet", "build", cwd=tmp_path)
    after = grafos("tasklet", "build", "--json", cwd=tmp_path)
    assert before.document == after.document
    assert (before.err, after.err) == ("", "")


def test_an_error_has_the_same_fields_for_people_and_for_programs(tmp_path: Path, golden: Golden) -> None:
    (tmp_path / "grafos.toml").write_text("[program]\nname = 'a'\n")
    people, program = grafos("tasklet", "build", cwd=tmp_path), grafos("tasklet", "build", "--json", cwd=tmp_path)
    golden(GOLDEN / "errors" / "manifest.txt", named(people.err, folder=tmp_path))
    golden(GOLDEN / "errors" / "manifest.json", named(program.out, folder=tmp_path))
    assert people.code == program.code == 2
    error = GrafosError.from_wire(program.document["error"])
    assert error.what in people.err
    assert error.where in people.err


def test_colour_is_for_terminals_and_can_be_forced_and_forbidden(tmp_path: Path) -> None:
    assert "\x1b[" not in grafos("depoly", cwd=tmp_path).err
    assert "\x1b[" in grafos("depoly", cwd=tmp_path, env={"FORCE_COLOR": "1"}).err
    assert "\x1b[" not in grafos("depoly", cwd=tmp_path, env={"FORCE_COLOR": "1", "NO_COLOR": "1"}).err
    assert "\x1b[" not in grafos("depoly", "--no-color", cwd=tmp_path, env={"FORCE_COLOR": "1"}).err
    assert "\x1b[" not in grafos("depoly", "--json", cwd=tmp_path, env={"FORCE_COLOR": "1"}).out


def unforeseen(folder: Path, *flags: str) -> Answer:
    """A command that meets what nobody foresaw: the place for state files is a file."""
    (folder / "grafos.toml").write_text(
        "[program]\nname = 'a'\nlanguage = 'zig'\n[[tasklets]]\nname = 'a'\nsource = 'src/a.zig'\n"
    )
    (folder / "src").mkdir(exist_ok=True)
    (folder / "src" / "a.zig").write_text("")
    (folder / "taken").write_text("")
    return grafos("tasklet", "build", *flags, cwd=folder, env={"XDG_CACHE_HOME": str(folder / "taken")})


def test_an_unforeseen_exception_is_one_error_with_a_report_and_no_traceback(tmp_path: Path, home: Path) -> None:
    answer = unforeseen(tmp_path)
    assert (answer.code, answer.error_code) == (1, "internal")
    assert "Traceback" not in answer.err
    [report] = (home / "state" / "grafos" / "reports").glob("crash-*.txt")
    assert str(report) in answer.err
    text = report.read_text()
    assert "Traceback" in text
    assert str(home) not in text
    assert report.stat().st_mode & 0o777 == 0o600


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    assert "Traceback" in unforeseen(tmp_path, "--debug").err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_ctrl_c_can_be_answered_and_the_second_leaves_at_once(number: int) -> None:
    program = f"""
import os, signal, time
from grafos_cli import interrupts
signal.signal({int(number)}, signal.SIG_DFL)  # under nohup it would be ignored
interrupts.install()
try:
    os.kill(os.getpid(), {int(number)})
    time.sleep(60)
except KeyboardInterrupt:
    print("stopping safely", flush=True)
    os.kill(os.getpid(), {int(number)})
    time.sleep(60)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (130, "stopping safely\n")


def test_a_report_keeps_no_secret() -> None:
    pem = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\n-----END PRIVATE KEY-----"
    token = "gat1." + "A" * 80
    text = redacted(f"token={token}\n{pem}\nAKIAIOSFODNN7EXAMPLE\nPassword: hunter2\n{Path.home()}/x")
    for secret in ("MIGHAg", "AAAA", "AKIA", "hunter2", os.environ["HOME"]):
        assert secret not in text


def test_json_is_one_document_with_a_schema_version(tmp_path: Path) -> None:
    for words in (("--help",), ("--version",), ("depoly",), ("tasklet", "build")):
        answer = grafos(*words, "--json", cwd=tmp_path)
        assert json.loads(answer.out)["schema_version"] == 1
        assert answer.err == ""


def test_the_documented_exit_codes_are_those_of_the_errors(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "cli.md").read_text()
    for code in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 130):
        assert re.search(rf"^\| {code} \|", page, re.MULTILINE), f"exit code {code} is not documented"


def test_a_report_keeps_no_bearer_token_however_short() -> None:
    """A header is written with a space, and a signature alone is shorter than what counts as a long value."""
    text = redacted("Invalid header value b'Bearer gat1.abc.dOgy4fpz'\nsent gct1.abc.def and bearer  short\n")
    for secret in ("gat1", "dOgy4fpz", "gct1", "short"):
        assert secret not in text


@pytest.mark.parametrize("words", [("--help",), ("cloud", "--help"), ("cloud", "provision", "--help")])
def test_help_is_a_document_too(words: tuple[str, ...], tmp_path: Path) -> None:
    answer, people = grafos(*words, "--json", cwd=tmp_path), grafos(*words, cwd=tmp_path)
    assert (answer.code, answer.err) == (0, "")
    assert answer.document["help"].split() == people.out.split()  # for people it is filled to their terminal


@pytest.mark.parametrize(
    "words",
    [
        ("cloud", "provision", "aws", "--cell-id", "", "--yes"),
        ("cloud", "provision", "aws", "--region="),
        ("deploy", "run", "--input", ""),
        ("tasklet", "build", ""),
    ],
)
def test_a_value_that_is_given_and_empty_is_no_default(words: tuple[str, ...], tmp_path: Path, home: Path) -> None:
    answer = grafos(*words, cwd=tmp_path)
    assert (answer.code, answer.error_code, answer.out) == (2, "usage", "")
    assert " is empty" in answer.err
    assert not (home / "data" / "grafos").exists()


def test_a_cloud_that_is_refused_makes_no_fabric(tmp_path: Path, home: Path) -> None:
    answer = grafos("cloud", "provision", "nebula", "--yes", cwd=tmp_path)
    assert answer.error_code == "usage"
    assert not (home / "data" / "grafos").exists()


@pytest.mark.parametrize("code", ["token_refused", "token_expired", "credentials_missing", "schema_newer"])
def test_an_error_of_somebody_who_knows_no_commands_gets_a_next_step(code: str) -> None:
    assert with_next_step(GrafosError(code, "no")).next
    assert with_next_step(GrafosError(code, "no", next="known better")).next == "known better"


STOPPED_WHILE_IMPORTING = """
import signal, sys

class Wraps:
    def find_spec(self, name, path=None, target=None):
        if name == "msgspec":
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt as stopped:
                raise RuntimeError("Error calling __set_name__") from stopped

sys.meta_path.insert(0, Wraps())
from grafos_cli.main import run
sys.exit(run(["cloud", "ls"]))
"""


def test_ctrl_c_that_a_library_wraps_is_still_ctrl_c(tmp_path: Path) -> None:
    """Python 3.11 makes a RuntimeError of what is raised while a class comes to be, as during an import."""
    done = subprocess.run(
        [sys.executable, "-c", STOPPED_WHILE_IMPORTING], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 130
    assert done.stderr.startswith("error[interrupted]: ")
