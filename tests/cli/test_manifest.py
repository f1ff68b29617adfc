from __future__ import annotations

import re
from pathlib import Path

import pytest

from grafos_cli.manifest import LANGUAGES, PROVIDERS, TABLES, load_program
from grafos_core.errors import GrafosError

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "grafos-toml.md"

WHOLE = """\
[program]
name = "photos"
version = "1.2.3"
language = "zig"

[[tasklets]]
name = "first"
source = "src/first.zig"
input = "fixtures/a.bin"
fuel = 7
memory_bytes = 65536
deadline_s = 2
mem = 4096

[[tasklets]]
name = "second"
source = "src/second.zig"

[runnable_targets]
dev = "local"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A program whose files are all there."""
    (tmp_path / "src").mkdir()
    (tmp_path / "fixtures").mkdir()
    for name in ("src/first.zig", "src/second.zig", "fixtures/a.bin"):
        (tmp_path / name).write_text("")
    (tmp_path / "src" / "loop.zig").symlink_to("loop.zig")
    (tmp_path / "grafos.toml").write_text(WHOLE)
    return tmp_path


def test_every_key_reaches_the_program(folder: Path) -> None:
    program = load_program(folder)
    assert (program.name, program.version, program.language) == ("photos", "1.2.3", "zig")
    first, second = program.tasklets
    assert (first.fuel, first.memory_bytes, first.deadline_s, first.mem) == (7, 65536, 2.0, 4096)
    assert first.input_file == folder / "fixtures" / "a.bin"
    assert program.targets == {"dev": "local"}
    assert (second.fuel, second.memory_bytes, second.deadline_s, second.mem) == (500_000, 32 * 1024 * 1024, 30.0, 0)
    assert second.input_file is None


def test_in_a_whole_program_a_tasklet_has_its_own_cloud_but_on_this_machine(folder: Path) -> None:
    (folder / "grafos.toml").write_text(WHOLE.replace("fuel = 7", 'provider = "azure"', 1))
    first, second = load_program(folder).tasklets
    for asked, runs_on in (("gcp", "azure"), ("azure", "azure"), ("local", "local")):
        assert (first.provider_of(asked), second.provider_of(asked)) == (runs_on, asked)


MISTAKES = [
    ('name = "photos"', 'nmae = "photos"', 2, "unknown key in [program]: 'nmae'", "did you mean 'name'?"),
    ("[runnable_targets]", "[runable_targets]", 19, "unknown table or key: 'runable_targets'", "runnable_targets"),
    ("fuel = 7", "fule = 7", 10, "unknown key in [tasklets]: 'fule'", "did you mean 'fuel'?"),
    ("fuel = 7", 'fuel = "7"', 10, "tasklets.fuel must be a whole number, and is a text", "65536"),
    ("fuel = 7", "fuel = true", 10, "tasklets.fuel must be a whole number, and is true or false", "65536"),
    ("fuel = 7", f"fuel = 1{'0' * 400}", 10, "tasklets.fuel is beyond all bounds", "1 to"),
    ("fuel = 7", "fuel = 2026-01-01", 10, "tasklets.fuel must be a whole number, and is a date", "65536"),
    ("fuel = 7", "fuel = 1.5", 10, "tasklets.fuel must be a whole number, and is a number", "65536"),
    ("fuel = 7", "fuel = 70000000000000", 10, "tasklets.fuel is 70000000000000", "it must be 1 to 1000000000000"),
    ("fuel = 7", '"" = 7', 10, "unknown key in [tasklets]: ''", "known are name"),
    ("deadline_s = 2", "deadline_s = nan", 12, "tasklets.deadline_s is", "3600"),
    ("deadline_s = 2", f"deadline_s = 1{'0' * 400}", 12, "tasklets.deadline_s is beyond all bounds", "3600"),
    ("[program]", "[[program]]", 1, "program is a list", "write it below [program]"),
    ('language = "zig"', "", 1, "[program] lacks language", "add language"),
    ('language = "zig"', 'language = "c"', 8, "written in c", "ends with .c"),
    ('dev = "local"', "dev = 3", 20, "the provider of dev is a whole number", '"local"'),
    ("[runnable_targets]", "[[runnable_targets]]", 19, "is not a table", "[runnable_targets]"),
    ('source = "src/second.zig"', 'source = "src"', 17, "names a folder", "file in it"),
    ('source = "src/second.zig"', 'source = "/etc/passwd"', 17, "leaves the program's folder", "inside"),
    ('source = "src/second.zig"', 'source = "src/loop.zig"', 17, "is no path", "mend the path"),
    ('source = "src/second.zig"', 'source = "src/\\u0000.zig"', 17, "is no path", "mend the path"),
    ('source = "src/second.zig"', f'source = "{"a" * 5000}.zig"', 17, "is no path", "mend the path"),
    ("fuel = 7", "fuel = 0", 10, "tasklets.fuel is 0", "1 to"),
    ("deadline_s = 2", "deadline_s = 2.5e9", 12, "tasklets.deadline_s is 2500000000", "0.001 to 3600"),
    ("memory_bytes = 65536", "memory_bytes = 1", 11, "tasklets.memory_bytes is 1", "65536"),
    ('name = "first"', 'name = "First"', 7, "'First' is no name", "a-z"),
    ('name = "second"', 'name = "first"', 16, "two tasklets are called 'first'", "rename"),
    ('source = "src/second.zig"', "", 15, "[tasklets] lacks source", "add source"),
    ('source = "src/second.zig"', 'source = "src/third.zig"', 17, "names a file that is not there", "mend the path"),
    ('input = "fixtures/a.bin"', 'input = "../a.bin"', 9, "leaves the program's folder", "inside"),
    ('input = "fixtures/a.bin"', 'input = "fixtures/b.bin"', 9, "names a file that is not there", "make the file"),
    ('input = "fixtures/a.bin"', 'input = ""', 9, "tasklets.input is empty", "value"),
    ("fuel = 7", 'provider = "asure"', 10, "unknown cloud: 'asure'", "did you mean 'azure'?"),
    ('language = "zig"', 'language = "zag"', 4, "unknown language: 'zag'", "did you mean 'zig'?"),
    ('version = "1.2.3"', 'version = "one"', 3, "no version", "0.1.0"),
    ('dev = "local"', 'dev = "lokal"', 20, "unknown provider: 'lokal'", "did you mean 'local'?"),
    ('dev = "local"', '"De v" = "local"', 20, "no name for an environment", "a-z"),
    ('name = "photos"', 'name = "photos', 2, "is not TOML", "mend that line"),
]


@pytest.mark.parametrize(("there", "instead", "line", "what", "next_step"), MISTAKES)
def test_a_mistake_is_told_with_its_line_and_what_to_do(
    there: str, instead: str, line: int, what: str, next_step: str, folder: Path
) -> None:
    (folder / "grafos.toml").write_text(WHOLE.replace(there, instead, 1))
    with pytest.raises(GrafosError) as caught:
        load_program(folder)
    error = caught.value
    assert error.code == "manifest_invalid"
    assert error.where == f"{folder / 'grafos.toml'}:{line}"
    assert what in error.what
    assert next_step in error.next


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "no table [program]"),
        (b"[program]\nname='a'\nlanguage='zig'\n", "declares no tasklets"),
        (b"program = 3\n", "program is a whole number"),
        (b"tasklets = 3\n[program]\nname='a'\nlanguage='zig'\n", "tasklets is no list of tables"),
        (b"[program]\nname='a'\nlanguage='zig'\n[tasklets]\nname='a'\n", "tasklets is no list of tables"),
        (b"tasklets = [1]\n[program]\nname='a'\nlanguage='zig'\n", "tasklets is a whole number"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"#" * 300_000, "300000 bytes"),
        (b"a = " + b"[" * 5000 + b"]" * 5000, "is not TOML"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused(content: bytes, what: str, folder: Path) -> None:
    (folder / "grafos.toml").write_bytes(content)
    with pytest.raises(GrafosError) as caught:
        load_program(folder)
    assert caught.value.code == "manifest_invalid"
    assert what in caught.value.what
    assert caught.value.next


INLINE = 'tasklets = [\n  {name = "a", source = "src/first.zig"},\n  {name = "b", source = "src/none.zig"},\n]\n'
PROGRAM = '[program]\nname = "a"\nlanguage = "zig"\n'


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('program.name = "a"\nprogram.language = "zag"\n', 2),
        (f"{PROGRAM}[[ tasklets ]]\nname = 'a'\n  'source' = 'none.zig'\n", 6),
        (f'{PROGRAM}[["tasklets"]]\n"name" = "a"\n"source" = "none.zig"\n', 6),
        (f"{PROGRAM}# [[tasklets]]\n# name = 3\n[[tasklets]]\nname = 3\n", 7),
        (INLINE + PROGRAM, 1),
        (INLINE.replace("first", "none") + PROGRAM, 2),
        (PROGRAM + "".join(f"[[tasklets]]\nname = 'a{i}'\nsource = 'src/first.zig'\n" for i in range(65)), 196),
    ],
)
def test_the_line_is_found_however_it_is_written(content: str, line: int, folder: Path) -> None:
    (folder / "grafos.toml").write_text(content)
    with pytest.raises(GrafosError) as caught:
        load_program(folder)
    assert caught.value.where == f"{folder / 'grafos.toml'}:{line}", caught.value.what


def test_a_missing_manifest_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(GrafosError) as caught:
        load_program(tmp_path)
    assert (caught.value.code, caught.value.where) == ("manifest_invalid", str(tmp_path))


def test_a_tasklet_must_be_named_when_there_are_several(folder: Path) -> None:
    program = load_program(folder)
    assert program.tasklet("second").name == "second"
    for name in ("", "third"):
        with pytest.raises(GrafosError) as caught:
            program.tasklet(name)
        assert caught.value.code == "usage"
        assert "first" in caught.value.next


def test_the_reference_page_has_exactly_the_keys_that_are_read() -> None:
    documented: dict[str, set[str]] = {}
    for section in re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        if name := re.match(r"`\[+(\w+)\]+`", section):
            documented[name[1]] = set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
    assert documented == {table: set(keys) for table, keys in TABLES.items()}


def test_the_reference_page_says_which_keys_are_needed() -> None:
    needed = set(re.findall(r"^\| `(\w+)` \| [\w ]+ \| yes \|", PAGE.read_text(), re.MULTILINE))
    assert needed == {key for keys in TABLES.values() for key, rule in keys.items() if rule.required}


def test_the_example_of_the_reference_page_is_a_manifest(tmp_path: Path) -> None:
    text = PAGE.read_text()
    example = re.search(r"```toml\n(.*?)```", text, re.DOTALL)
    assert example
    (tmp_path / "grafos.toml").write_text(example[1])
    for name in ("src/png_metadata.zig", "fixtures/pixel.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert load_program(tmp_path).tasklets[0].mem == 32_768
    assert all(f"`{word}`" in text for word in (*LANGUAGES, *PROVIDERS))
