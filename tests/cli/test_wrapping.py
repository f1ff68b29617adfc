"""Long sentences fit their terminal, signs fit its characters, and commands stay whole."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from command_line import HELLO, Person, grafos
from screen import Screen

from grafos_cli.characters import STAND_INS, fit
from grafos_cli.settings import SETTINGS
from grafos_cli.wrapping import paragraphs, wrapped

PROSE = "the quick brown fox jumps over the lazy dog and runs away"
COMMAND = "grafos cloud teardown aws --cell-id a-very-long-name-of-a-cell --prove --yes"


def test_prose_is_wrapped_at_words_and_long_words_stay_whole() -> None:
    assert wrapped(PROSE, 20) == ["the quick brown fox", "jumps over the lazy", "dog and runs away"]
    assert wrapped(f"in /a/{'path/' * 10}", 20)[-1] == f"/a/{'path/' * 10}"
    assert wrapped(PROSE, None) == [PROSE]


def test_what_has_lines_of_its_own_keeps_them() -> None:
    words = f"error: {PROSE}\n    ^^^^^"
    assert wrapped(words, 20) == words.splitlines()


@pytest.mark.parametrize(
    "text",
    [
        COMMAND,
        f"mend what its log says, which is long, then: {COMMAND}",
        f"{COMMAND}; or wait until it has ended, which it does by itself in the end",
        f"run {COMMAND}, then grafos dev up\nor leave the tests out: {COMMAND}",
        f"first this: {COMMAND}  (it goes on)",
    ],
)
def test_a_command_is_never_broken(text: str) -> None:
    lines = wrapped(text, 40, has_commands=True)
    assert sum(COMMAND in line for line in lines) == text.count(COMMAND)
    assert all(len(line) <= 40 or "grafos" in line for line in lines)
    assert " ".join(" ".join(lines).split()) == " ".join(text.split())


def test_a_next_step_that_fits_stays_as_it_is() -> None:
    assert wrapped("grafos dev up  (it goes on)", 40, has_commands=True) == ["grafos dev up  (it goes on)"]


def test_an_error_is_as_wide_as_its_terminal(tmp_path: Path) -> None:
    person = Person(tmp_path)
    (person.project / "grafos.toml").write_text("[settings]\ncolour = true\n")
    for columns in (60, 80, 200):
        screen = Screen(person, "runs", "ls", COLUMNS=str(columns), NO_COLOR="1")
        assert screen.end() == 2
        lines = screen.text.splitlines()
        assert all(len(line) <= columns or "/" in line for line in lines), screen.text


NARROW, ENDLESS = {"COLUMNS": "80"}, {"COLUMNS": ""}


@pytest.mark.parametrize(
    "words",
    [("cloud", "--help"), ("cloud", "provision", "--help"), ("help", "environment"), ("help", "errors")],
    ids=" ".join,
)
def test_help_fits_its_terminal_and_says_the_same(words: tuple[str, ...], tmp_path: Path) -> None:
    narrow, endless = (grafos(*words, cwd=tmp_path, env=env).out for env in (NARROW, ENDLESS))
    assert all(len(line) <= 80 or line.startswith("  grafos ") for line in narrow.splitlines()), narrow
    assert any(len(line) > 80 for line in endless.splitlines())
    assert narrow.split() == endless.split()


def test_for_programs_help_is_not_wrapped(tmp_path: Path) -> None:
    narrow, endless = (grafos("cloud", "--help", "--json", cwd=tmp_path, env=env) for env in (NARROW, ENDLESS))
    assert narrow.document["help"] == endless.document["help"]


def test_paragraphs_are_filled_anew_or_left_as_they_are() -> None:
    text = "one\ntwo\n\nthree"
    assert paragraphs(text, 40) == ["one two", "", "three"]
    assert paragraphs(text, None) == text.splitlines()


def test_what_is_too_long_for_a_table_goes_on_below_in_its_own_column(tmp_path: Path) -> None:
    """The columns that may be left out are, and the last one still has more to say than there is room."""
    lines = grafos("config", "schema", cwd=tmp_path, env=NARROW).out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    margin = lines[0].index("WHAT")
    first = next(number for number, line in enumerate(lines) if line.startswith("my_ip_url"))
    assert lines[first + 1][:margin].strip() == ""
    assert lines[first + 1][margin:].endswith("for cloud allow --my-ip")
    wide = grafos("config", "schema", "--wide", cwd=tmp_path, env=NARROW).out
    assert len(wide.splitlines()) == len(SETTINGS) + 1


# --- characters ---------------------------------------------------------------------------------------------------


class Written(io.TextIOWrapper):
    """A stream in memory; ``tty`` as a test says."""

    def __init__(self, encoding: str, *, tty: bool) -> None:
        super().__init__(io.BytesIO(), encoding=encoding, errors="strict")
        self.tty = tty

    def isatty(self) -> bool:
        return self.tty

    @property
    def got(self) -> bytes:
        self.flush()
        buffer = self.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue()


@pytest.mark.parametrize(
    ("encoding", "tty", "environment", "got"),
    [
        ("utf-8", True, {}, "✓ 5¢ …".encode()),
        ("utf-8", True, {"LANG": "en_US.UTF-8"}, "✓ 5¢ …".encode()),
        ("utf-8", True, {"LANG": "C"}, b"+ 5c ..."),
        ("utf-8", True, {"LC_ALL": "C", "LANG": "en_US.UTF-8"}, b"+ 5c ..."),
        ("utf-8", True, {"LC_ALL": "C.UTF-8", "LANG": "C"}, "✓ 5¢ …".encode()),
        ("utf-8", False, {"LANG": "C"}, "✓ 5¢ …".encode()),  # a file can have it
        ("ascii", False, {}, b"+ 5c ..."),
        ("latin-1", True, {"LANG": "de_DE.ISO-8859-1"}, b"+ 5c ..."),
        ("latin-1", False, {}, b"+ 5\xa2 ..."),
    ],
)
def test_a_stream_gets_what_it_can_show(encoding: str, tty: bool, environment: dict[str, str], got: bytes) -> None:  # noqa: FBT001
    stream = Written(encoding, tty=tty)
    fit(stream, environment)
    stream.write("✓ 5¢ …")
    assert stream.got == got


def test_what_no_encoding_has_is_a_question_mark_and_no_crash() -> None:
    stream = Written("utf-8", tty=False)
    fit(stream, {})
    stream.write("caf\udce9")
    assert stream.got == b"caf?"


def test_every_sign_that_the_command_line_writes_has_a_stand_in() -> None:
    import grafos_cli

    sources = Path(grafos_cli.__file__).parent.glob("*.py")
    signs = {sign for source in sources for sign in source.read_text() if not sign.isascii()}
    assert signs - set("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏") <= set(STAND_INS)
    assert all(stand_in.isascii() for stand_in in STAND_INS.values())


def test_a_terminal_without_unicode_gets_ascii_alone(tmp_path: Path) -> None:
    person = Person(tmp_path)
    person.write_program(HELLO)
    assert person("dev", "up").code == 0
    try:
        for words in (
            ("tasklet", "build"),
            ("validate",),
            ("cloud", "budget", "show"),
            ("deploy", "run"),
            ("new", "x y"),
        ):
            screen = Screen(person, *words, LC_ALL="C")
            assert screen.end() in (0, 2)
            assert screen.text.isascii(), screen.text
            piped = person(*words, env={"PYTHONIOENCODING": "ascii"})
            assert (piped.code in (0, 2), piped.out.isascii(), piped.err.isascii()) == (True, True, True), piped
    finally:
        person("dev", "down")


def test_neither_no_color_nor_a_file_gets_colour(tmp_path: Path) -> None:
    person = Person(tmp_path)
    for env, coloured in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        screen = Screen(person, "cloud", "budget", "show", **env)
        assert screen.end() == 0
        assert ("\x1b[" in screen.text) is coloured
    assert "\x1b[" not in person("cloud", "budget", "show").out
