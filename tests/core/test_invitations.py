"""An invitation is one line, and what was damaged on its way is told as such and never read as another one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafos_core import invitations, signed_claims
from grafos_core.bootstrap_tokens import FORM, BootstrapClaims
from grafos_core.errors import GrafosError
from grafos_core.invitations import INVITATION, Invitation, InvitationClaims

NOW = 1_800_000_000.0
OURS = signed_claims.issuer("fab-0123456789ab", "orchestrator")
KEY = signed_claims.new_key()
CLAIMS = InvitationClaims(OURS, "a" * 32, "acme", "bea", NOW, NOW + 3600)
GIVEN = Invitation("https://203.0.113.7:8443", "a CA", "a token", "fab-0123456789ab", "acme", "bea", NOW, NOW + 3600)
LINE = invitations.written(GIVEN)


def code_of(line: str) -> str:
    with pytest.raises(GrafosError) as caught:
        invitations.read(line)
    return caught.value.code


def test_what_was_written_is_read_back_also_with_white_space_around_it() -> None:
    assert invitations.read(LINE) == invitations.read(f"\n {LINE}\r\n") == GIVEN
    assert "\n" not in LINE


@given(st.integers(min_value=0), st.characters())
def test_a_line_with_one_character_changed_is_refused(place: int, other: str) -> None:
    at = place % len(LINE)
    damaged = LINE[:at] + other + LINE[at + 1 :]
    if damaged.strip() != LINE:
        assert code_of(damaged) == "invitation_refused"


@given(st.integers(min_value=0))
def test_a_line_that_was_cut_short_is_refused(length: int) -> None:
    assert code_of(LINE[: length % len(LINE)]) == "invitation_refused"


@given(st.text(max_size=300))
def test_no_text_is_more_than_refused(text: str) -> None:
    assert code_of(text) == "invitation_refused"
    assert code_of(f"{invitations.MARK}.{text}") == "invitation_refused"


def test_a_text_that_is_too_long_is_not_read() -> None:
    assert code_of(LINE + "a" * invitations.LINE_CHARACTERS_MAX) == "invitation_refused"


def test_its_token_is_none_of_the_other_tokens_of_the_same_key() -> None:
    token = signed_claims.mint(KEY, CLAIMS)
    assert signed_claims.check(KEY, token, InvitationClaims, INVITATION, OURS, NOW) == CLAIMS
    of_cell = BootstrapClaims(OURS, "b" * 32, "aws", "aws-1", "here", 5, 0.0, NOW, NOW + 300)
    for text, kind, form, code in (
        (token, BootstrapClaims, FORM, "enrolment_refused"),
        (signed_claims.mint(KEY, of_cell), InvitationClaims, INVITATION, "invitation_refused"),
    ):
        with pytest.raises(GrafosError) as caught:
            signed_claims.check(KEY, text, kind, form, OURS, NOW)
        assert caught.value.code == code


def test_it_lapses_by_the_time_that_is_given() -> None:
    token = signed_claims.mint(KEY, CLAIMS)
    with pytest.raises(GrafosError) as caught:
        signed_claims.check(KEY, token, InvitationClaims, INVITATION, OURS, NOW + 3600)
    assert (caught.value.code, "acme/bea" in caught.value.what) == ("invitation_expired", True)
