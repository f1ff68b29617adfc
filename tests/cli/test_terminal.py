"""What is different when a person sits at a terminal: colour, questions, lines that are redrawn."""

from __future__ import annotations

import io
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import GRAFOS, HELLO, Person
from screen import Screen

from grafos_cli.accounts import told_by, told_of
from grafos_cli.failures import error_text
from grafos_cli.pacing import Book
from grafos_cli.steps import show_steps
from grafos_cli.tables import facts, short_id, table
from grafos_cli.terminal import Terminal
from grafos_core.errors import GrafosError
from grafos_stacks.progress import DONE, Step


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    somebody = Person(tmp_path_factory.mktemp("operator"))
    assert somebody("emulate", "up").code == 0
    somebody.env.update(somebody("emulate", "env", "--json").document["environment"])
    somebody.write_program(HELLO)
    yield somebody
    somebody("emulate", "down")


@pytest.mark.parametrize("keys", ["n\n", "\n", "nonsense\n"])
def test_only_a_yes_makes_a_cell(keys: str, operator: Person) -> None:
    screen = Screen(operator, "cloud", "provision", "aws", "--cell-id", "asked")
    screen.until("Make cell asked? [y/N]")
    assert "worst case" in screen.text
    screen.type(keys)
    assert screen.end() == 3
    assert "nothing was changed" in screen.text
    assert operator("emulate", "status", "--json").document["resources"] == []


def test_ctrl_c_at_the_question_changes_nothing(operator: Person) -> None:
    screen = Screen(operator, "cloud", "provision", "aws", "--cell-id", "asked")
    screen.until("[y/N]")
    screen.process.send_signal(2)
    assert screen.end() == 130
    assert "error[interrupted]" in screen.text.replace("\x1b[31m", "").replace("\x1b[0m", "")
    assert operator("emulate", "status", "--json").document["resources"] == []


def test_a_yes_makes_the_cell_and_shows_its_steps_as_they_come(operator: Person) -> None:
    screen = Screen(operator, "cloud", "provision", "aws", "--cell-id", "agreed", "--ttl", "1h")
    screen.until("[y/N]")
    screen.type("y\n")
    assert screen.end() == 0
    assert "\x1b[2K" in screen.text  # redrawn
    ended = re.findall(r"[✓+] (\w+)", re.sub(r"\x1b\[[0-9;]*m", "", screen.text))
    assert {"network", "machine", "software", "claim", "ready"} <= set(ended)
    assert "Cell agreed is ready" in screen.text
    asked = Screen(operator, "cloud", "teardown", "aws", "--cell-id", "agreed", NO_COLOR="1")
    asked.until("Tear down cell agreed on aws, with all that it consists of? [y/N]")
    assert re.search(r"goes +machine ", asked.text)
    asked.type("n\n")
    assert (asked.end(), "nothing was changed" in asked.text) == (3, True)
    assert operator("cloud", "teardown", "aws", "--cell-id", "agreed", "--yes").code == 0


def test_colour_is_there_for_people_and_gone_when_they_say_so(operator: Person) -> None:
    for env, flags, coloured in (({}, (), True), ({"NO_COLOR": "1"}, (), False), ({}, ("--no-color",), False)):
        screen = Screen(operator, "depoly", *flags, **env)
        assert screen.end() == 2
        assert ("\x1b[31m" in screen.text) is coloured


def test_who_waits_for_a_start_sees_a_sign_that_leaves_no_trace(tmp_path: Path) -> None:
    person = Person(tmp_path)
    try:
        screen = Screen(person, "dev", "up")
        assert screen.end() == 0
        assert "starting the local fabric" in screen.text
        after = screen.text.rpartition("starting the local fabric")[2]
        assert "\x1b[2K" in after[: after.index("The local fabric runs")]  # the sign's line is cleared
        assert "made fabric" in screen.text
    finally:
        person("dev", "down")


def test_a_dumb_terminal_gets_plain_lines(operator: Person) -> None:
    screen = Screen(operator, "cloud", "provision", "aws", "--dry-run", TERM="dumb")
    assert screen.end() == 0
    assert "plan: done in" in screen.text
    assert "\x1b[" not in screen.text


# --- the parts -----------------------------------------------------------------------------------------------------


def plain(*, json: bool = False) -> Terminal:
    return Terminal(
        json=json,
        color_out=False,
        color_err=False,
        debug=False,
        out=io.StringIO(),
        err=io.StringIO(),
        interactive=False,
        live=False,
    )


def test_a_table_is_aligned_and_has_no_blanks_at_its_ends() -> None:
    text = table(("NAME", "CENTS"), [["a", "1"], ["long name", "1000"]], plain(), " r")
    assert text == "NAME       CENTS\na              1\nlong name   1000\n"
    assert facts([("a", "1"), ("long", "")], plain()) == "a     1\nlong\n"


def test_a_remark_of_several_parts_of_a_command_is_made_once() -> None:
    terminal = plain()
    for line in ("it ends soon", "it is slow", "it ends soon"):
        terminal.note_once(line)
    assert terminal.err.getvalue() == "it ends soon\nit is slow\n"


def test_steps_are_lines_without_a_terminal_and_nothing_for_programs() -> None:
    for json, lines in ((False, 2), (True, 0)):
        terminal = plain(json=json)
        with show_steps(terminal) as steps:
            steps.began("one")
            steps.changed("one", "half way")
            steps.ended("one")
            steps.ended("two", "at once", failed=True)
        assert isinstance(terminal.err, io.StringIO)
        assert len(terminal.err.getvalue().splitlines()) == lines
    assert "\x1b" not in terminal.err.getvalue()


def test_a_step_that_begins_anew_is_timed_anew_and_one_that_ends_as_before_is_told_once() -> None:
    book = Book(0.0)
    book.began("network", 0.0)
    book.ended("network", 5.0, "net-1")
    book.changed("network", 3600.0, "again")
    assert not book.steps["network"].ended_at
    book.ended("network", 3601.0, "net-2")
    assert book.steps["network"].elapsed(9999.0) == 1.0

    terminal = plain()
    with show_steps(terminal) as lines:
        for detail in ("net-1", "net-1", "deleted", "net-1"):
            lines.changed("network", "")
            lines.ended("network", detail)
    assert isinstance(terminal.err, io.StringIO)
    told = [line.rpartition("  ")[2] for line in terminal.err.getvalue().splitlines()]
    assert told == ["net-1", "deleted", "net-1"]


def test_what_stacks_tells_is_drawn_with_the_cell_s_name_and_short_ids() -> None:
    terminal = plain()
    prefix = f"/subscriptions/67726166/resourceGroups/{'g' * 40}/providers/Microsoft.Compute/"
    with show_steps(terminal) as steps:
        told_of(steps, "blue")(Step("machine", DONE, 0.0, f"{prefix}virtualMachines/blue"))
        told_by(steps)(Step(f"deadline {prefix}schedules/one", DONE, 0.0, "deleted"))
    assert isinstance(terminal.err, io.StringIO)
    first, second = terminal.err.getvalue().splitlines()
    assert (first.startswith("blue: machine: "), first.endswith("  virtualMachines/blue")) == (True, True)
    assert second.startswith("deadline schedules/one: done")


@pytest.mark.parametrize("words", ["--help | head -n 1", "nosuch --json | true", "nosuch 2>&1 >/dev/null | true"])
def test_the_reader_who_leaves_is_no_error(tmp_path: Path, words: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f"'{GRAFOS}' {words}; exit 0"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("columns", "shown"),
    [("", "RUN STATE AGE FROM"), ("80", "RUN STATE AGE FROM"), ("66", "RUN STATE AGE"), ("60", "RUN STATE")],
)
def test_a_table_that_is_too_wide_leaves_out_what_can_be_spared(
    columns: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    rows = [["r" * 50, "finished", "5s", "home"]]
    text = table(("RUN", "STATE", "AGE", "FROM"), rows, plain(), spare=("FROM", "AGE"))
    assert text.splitlines()[0].split() == shown.split()
    assert text.splitlines()[1].split() == rows[0][: len(shown.split())]


def test_a_file_gets_every_column_unless_columns_says_how_wide_it_may_be(operator: Person) -> None:
    assert "TOOK" in operator("tasklet", "build", env={"COLUMNS": ""}).out
    narrow = operator("tasklet", "build", env={"COLUMNS": "75"}).out
    assert "TOOK" not in narrow
    assert max(len(line) for line in narrow.splitlines()) <= 75


@pytest.mark.parametrize(
    ("whole", "short"),
    [
        ("/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/vm", "virtualMachines/vm"),
        ("/subscriptions/s/resourceGroups/g", "resourceGroups/g"),
        ("zones/us-central1-a/instances/vm", "zones/us-central1-a/instances/vm"),
        ("i-0123456789abcdef0", "i-0123456789abcdef0"),
    ],
)
def test_an_id_is_shown_without_what_is_the_same_for_all(whole: str, short: str) -> None:
    assert short_id(whole) == short


HOSTILE = "one\ttwo\n\x1b[31mred\x1b[0m\x1b[2J\x1b]0;title\x07\r\x9b2J\x7f"
HARMLESS = "one\ttwo\n\x1b[31mred\x1b[0m\ufffd[2J\ufffd]0;title\ufffd\ufffd\ufffd2J\ufffd"


def test_what_somebody_else_wrote_drives_no_terminal() -> None:
    """A tasklet's answer, a compiler's words, what a cell says of a run."""
    terminal = plain()
    terminal.emit({}, HOSTILE)
    terminal.note(HOSTILE)
    assert terminal.out.getvalue() == terminal.err.getvalue() == HARMLESS + "\n"  # type: ignore[attr-defined]
    said = error_text(GrafosError("program_error", HOSTILE, why=HOSTILE), plain())
    assert not set(said) & set("\x07\r\x9b\x7f")
    assert "\x1b[2J" not in said
