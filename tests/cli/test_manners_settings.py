"""Settings: who says them, in which order, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Answer, grafos

from grafos_cli.settings import SETTINGS

MANIFEST = "[program]\nname = 'a'\nlanguage = 'wat'\n[[tasklets]]\nname = 'a'\nsource = 'a.wat'\n"


def write_user(home: Path, text: str) -> Path:
    path = home / "config" / "grafos" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def write_project(folder: Path, table: str) -> Path:
    path = folder / "grafos.toml"
    path.write_text(f"{MANIFEST}{table}")
    (folder / "a.wat").write_text("(module)")
    return path


def color(answer: Answer) -> tuple[str, str]:
    found = next(one for one in answer.document["settings"] if one["name"] == "color")
    return found["value"], found["origin"]


def test_flag_then_variable_then_project_then_own_file_then_default(tmp_path: Path, home: Path) -> None:
    def now(*words: str, **env: str) -> tuple[str, str]:
        return color(grafos("config", "show", "--json", *words, cwd=tmp_path, env=env))

    assert now() == ("auto", "default")
    write_user(home, 'color = "never"')
    assert now() == ("never", "user")
    write_project(tmp_path, "[settings]\ncolor = 'auto'\n")
    assert now() == ("auto", "project")
    assert now(GRAFOS_COLOR="always") == ("always", "environment")
    assert now("--color", "never", GRAFOS_COLOR="always") == ("never", "flag")
    assert now("--no-color", GRAFOS_COLOR="always") == ("never", "flag")


def test_the_origin_of_each_value_is_shown_with_its_place(tmp_path: Path, home: Path) -> None:
    path = write_user(home, "wide = true")
    shown = grafos("config", "show", "--origin", cwd=tmp_path, env={"GRAFOS_COLOR": "never"}).out
    assert ["wide", "true", "user", str(path)] in [line.split() for line in shown.splitlines()]
    assert ["color", "never", "environment", "GRAFOS_COLOR"] in [line.split() for line in shown.splitlines()]


def test_a_setting_has_its_effect_from_each_place(tmp_path: Path, home: Path) -> None:
    assert "\x1b[" not in grafos("config", "show", cwd=tmp_path).out
    write_user(home, 'color = "always"')
    assert "\x1b[" in grafos("config", "show", cwd=tmp_path).out
    write_project(tmp_path, "[settings]\ncolor = 'never'\n")
    (tmp_path / "below").mkdir()
    assert "\x1b[" not in grafos("config", "show", cwd=tmp_path / "below").out


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("colour = 'never'", "did you mean 'color'?"),
        ("color = 'purple'", "one of auto, always, never"),
        ("color = 7", "one of auto, always, never"),
        ("fabric = 'no address'", "like HOST:PORT"),
        ("color = ", "mend or remove that file"),
        ("a = " + "[" * 5000, "mend or remove that file"),
    ],
)
def test_a_key_or_value_that_is_none_is_refused_with_its_file(text: str, told: str, tmp_path: Path, home: Path) -> None:
    path = write_user(home, text)
    answer = grafos("runs", "ls", cwd=tmp_path)
    assert (answer.code, answer.error_code, answer.out) == (2, "config_invalid", "")
    assert told in answer.err
    assert str(path) in answer.err
    assert grafos("runs", "ls", "--help", cwd=tmp_path).code == 0


def test_a_value_that_is_none_is_shown_quoted_and_cut(tmp_path: Path, home: Path) -> None:
    """It may be a stranger's: neither what orders a terminal about nor a book of it is printed."""
    write_user(home, 'color = "\\u001b[31mred' + "x" * 200_000 + '"')
    answer = grafos("runs", "ls", cwd=tmp_path)
    assert answer.error_code == "config_invalid"
    assert "\x1b" not in answer.err
    assert r"color cannot be '\x1b[31mred" in answer.err
    assert len(answer.err) < 1000


def test_a_wrong_variable_is_told_by_its_name(tmp_path: Path) -> None:
    answer = grafos("config", "show", cwd=tmp_path, env={"GRAFOS_WIDE": "perhaps"})
    assert (answer.code, answer.error_code) == (2, "config_invalid")
    assert "GRAFOS_WIDE" in answer.err


def test_a_project_s_unknown_setting_is_refused_wherever_the_program_is_named(tmp_path: Path) -> None:
    path = write_project(tmp_path, "[settings]\nwid = true\n")
    (tmp_path / "elsewhere").mkdir()
    for words, folder in ((("config", "show"), tmp_path), (("tasklet", "build", str(tmp_path)), Path("/"))):
        answer = grafos(*words, cwd=folder)
        assert (answer.code, answer.error_code) == (2, "config_invalid")
        assert "did you mean 'wide'?" in answer.err
        assert str(path) in answer.err


def test_a_project_cannot_say_whom_to_trust(tmp_path: Path) -> None:
    write_project(tmp_path, "[settings]\nmy_ip_url = 'https://example.org/'\n")
    answer = grafos("config", "show", cwd=tmp_path)
    assert answer.error_code == "config_invalid"
    assert "for your own settings alone" in answer.err


def test_a_manifest_that_is_no_toml_is_told_by_the_commands_that_need_one(tmp_path: Path) -> None:
    (tmp_path / "grafos.toml").write_text("[program")
    assert grafos("config", "show", cwd=tmp_path).code == 0
    assert grafos("tasklet", "build", cwd=tmp_path).error_code == "manifest_invalid"


def test_the_schema_for_editors_has_every_setting(tmp_path: Path) -> None:
    schema = grafos("config", "schema", "--json", cwd=tmp_path).document["config_schema"]
    assert list(schema["properties"]) == [setting.name for setting in SETTINGS]
    assert schema["additionalProperties"] is False
    assert json.dumps(schema)


def test_every_setting_is_in_the_reference_and_in_help(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "cli.md").read_text()
    shown = grafos("help", "config", cwd=tmp_path).out + grafos("help", "environment", cwd=tmp_path).out
    for setting in SETTINGS:
        assert f"| `{setting.name}` |" in page
        assert setting.name in shown
        assert setting.variable in shown
