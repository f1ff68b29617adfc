"""docs/reference/languages.md says what the code does."""

from __future__ import annotations

import re

from source_tree import ROOT

from grafos_cli.languages import c, zig
from grafos_cli.languages.rust_tools import TARGET, WITH_APT
from grafos_cli.manifest import LANGUAGES

PAGE = (ROOT / "docs" / "reference" / "languages.md").read_text(encoding="utf-8")


def flags_of(heading: str) -> list[list[str]]:
    """The blocks of flags below that heading."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [block.split() for block in re.findall(r"```\n(.*?)```", section, re.DOTALL)]


def test_the_flags_are_those_that_are_used() -> None:
    assert flags_of("Zig") == [list(zig.FLAGS)]
    assert flags_of("C") == [list(c.FLAGS), list(c.TEST_FLAGS)]


def test_every_language_has_a_column_and_a_part() -> None:
    assert re.search(r"^\| \| (.*) \|$", PAGE, re.MULTILINE)
    assert re.findall(r"`(\w+)`", PAGE.split("\n| |")[1].split("\n")[0]) == list(LANGUAGES)
    assert [name.lower() for name in re.findall(r"^## (\w+)$", PAGE, re.MULTILINE)] == list(LANGUAGES)


def test_what_rust_needs_is_what_the_installer_says() -> None:
    for word in (TARGET, *(name for name in WITH_APT.split() if "rust" in name or "cargo" in name)):
        assert f"`{word}`" in PAGE
