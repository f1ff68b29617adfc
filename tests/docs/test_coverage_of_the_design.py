"""docs/reference/coverage.md says of every item of the public design where it is, or why it does not come."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from source_tree import ROOT

PAGE = (ROOT / "docs" / "reference" / "coverage.md").read_text()
SECTIONS = 12
"""Command line, files, ABI, services, leases, tokens, cells, refusals, errors, native services, runs, endpoints."""
TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def rows() -> Iterator[tuple[str, str]]:
    """Each item of the design, and what the page says of it."""
    for section in re.split(r"^### Design: ", PAGE, flags=re.MULTILINE)[1:]:
        for line in re.split(r"^## ", section, flags=re.MULTILINE)[0].splitlines()[4:]:
            if line:
                item, said = line.strip("| ").split(" | ")
                yield item, said


def test_every_section_of_the_design_is_there() -> None:
    assert PAGE.count("### Design: ") == SECTIONS


@pytest.mark.parametrize(("item", "said"), list(rows()))
def test_an_item_names_a_test_or_why_it_does_not_come(item: str, said: str) -> None:
    if said.startswith("not: "):
        assert len(said.split()) > 4, "a reason is owed"
    else:
        assert TEST.search(said)


def test_every_test_that_is_named_exists() -> None:
    named = [pair for _, said in rows() for pair in TEST.findall(said)]
    missing = [
        f"{path}::{name}"
        for path, name in named
        if not (ROOT / path).is_file() or (name and f"def {name}(" not in (ROOT / path).read_text())
    ]
    assert named
    assert missing == []
