"""docs/reference/capability-tokens.md says what a token says, and which caveats there are."""

from __future__ import annotations

import re
from pathlib import Path

from grafos_core.tokens import CAPABILITY_TTL_MAX_S, CAVEATS, CAVEATS_MAX, TOKEN_CHARACTERS_MAX, CapabilityClaims

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "capability-tokens.md").read_text()


def first_column(title: str) -> list[str]:
    section = PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`(\w+)`", row)]


def test_every_caveat_has_a_row() -> None:
    assert first_column("Caveats") == list(CAVEATS)


def test_every_field_of_a_token_has_a_row() -> None:
    assert sorted(first_column("What a token says")) == sorted(CapabilityClaims.__struct_fields__)


def test_its_limits_are_those_of_the_code() -> None:
    limits = (
        f"at most {CAPABILITY_TTL_MAX_S} s",
        f"at most {TOKEN_CHARACTERS_MAX:,} characters",
        f"{CAVEATS_MAX} caveats",
    )
    for words in limits:
        assert words in PAGE
