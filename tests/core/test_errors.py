from __future__ import annotations

import os
from pathlib import Path

import pytest

from grafos_core.errors import CODES, GrafosError

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "errors.md"
EXIT_CODES = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 130}

INTRODUCTION = """# Errors

Every refusal and every failure of grafos has one of these codes. On a terminal an error has up to five parts:
`error[code]: what`, `where:`, `why:`, `next:`, the step that helps, and `docs:`, the command that explains the code.
With `--json` the same fields come as one object on stdout, with `retryable` and a `context` of plain values. The
[exit code](cli.md#exit-codes) is for scripts, the status for HTTP.

| code | exit | HTTP | asking again can help | what it means |
|---|---|---|---|---|
"""


def rendered_page() -> str:
    return INTRODUCTION + "".join(
        f"| `{code}` | {exit_code} | {status} | {'yes' if retryable else 'no'} | {meaning} |\n"
        for code, (exit_code, status, retryable, meaning) in sorted(CODES.items())
    )


def test_the_reference_page_has_every_code_with_what_is_fixed_about_it() -> None:
    """`REFRESH=1 pytest tests/core/test_errors.py` writes the page from the table."""
    if os.environ.get("REFRESH"):
        PAGE.write_text(rendered_page())
    assert PAGE.read_text() == rendered_page()


def test_the_table_is_sorted_and_uses_documented_exit_codes_only() -> None:
    assert list(CODES) == sorted(CODES)
    assert {facts.exit_code for facts in CODES.values()} <= EXIT_CODES
    assert all(300 <= facts.http_status < 600 and facts.meaning.endswith(".") for facts in CODES.values())


def test_a_code_that_is_not_in_the_table_cannot_be_raised() -> None:
    with pytest.raises(AssertionError):
        GrafosError("no_such_code", "what")


def test_an_error_survives_the_wire() -> None:
    error = GrafosError("quota_exceeded", "what", where="here", why="because", next="do", context={"limit": 3})
    again = GrafosError.from_wire(error.to_wire())
    assert again.to_wire() == error.to_wire()
    assert (again.exit_code, again.http_status) == (6, 403)


def test_a_code_of_a_newer_peer_is_kept_in_the_words_of_an_invalid_answer() -> None:
    error = GrafosError.from_wire({"code": "from_the_future", "what": "w", "context": "not a map"})
    assert error.code == "answer_invalid"
    assert "from_the_future" in error.what
