"""A bootstrap token says what its orchestrator signed, to that orchestrator alone, and not for long."""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any

import jwt
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafos_core import signed_claims, trust
from grafos_core.bootstrap_tokens import BootstrapClaims, check
from grafos_core.errors import GrafosError
from grafos_core.signed_claims import mint

NOW = 1_800_000_000.0
OURS = signed_claims.issuer("fab-0123456789ab", "orchestrator")
KEY = signed_claims.new_key()
CLAIMS = BootstrapClaims(OURS, "a" * 32, "aws", "cell-1", "eu-west-1", 5, NOW + 3600, NOW, NOW + 900)


def code_of(token: str, now: float = NOW) -> str:
    with pytest.raises(GrafosError) as caught:
        check(KEY, token, OURS, now)
    return caught.value.code


def signed(key: Any = KEY, algorithm: str = "EdDSA", **changes: Any) -> str:
    said = {**msgspec.to_builtins(CLAIMS), "sub": "cell-1", **changes}
    return jwt.encode({name: value for name, value in said.items() if value is not None}, key, algorithm=algorithm)


def test_what_was_minted_is_read_back() -> None:
    assert check(KEY, mint(KEY, CLAIMS), OURS, NOW) == CLAIMS
    assert signed() == mint(KEY, CLAIMS)


def test_it_lapses_by_the_time_that_is_given_and_by_no_other_clock() -> None:
    token = mint(KEY, CLAIMS)
    check(KEY, token, OURS, NOW + 899.9)
    assert code_of(token, NOW + 900) == "enrolment_expired"
    long_ago = msgspec.structs.replace(CLAIMS, iat=5.0, exp=905.0)
    assert check(KEY, mint(KEY, long_ago), OURS, 10.0) == long_ago


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "fab-0123456789ab/another"},
        {"iss": None},
        {"aud": "something-else"},
        {"aud": None},
        {"sub": "cell-2"},
        {"sub": None},
        {"exp": None},
        {"jti": None},
        {"cell_id": 5},
        {"rate_micro_cents_per_hour": "free"},
    ],
    ids=str,
)
def test_a_token_for_something_else_is_refused_though_the_key_is_ours(changes: dict[str, Any]) -> None:
    assert code_of(signed(**changes)) == "enrolment_refused"


def test_a_token_of_another_key_or_algorithm_is_refused() -> None:
    assert code_of(signed(signed_claims.new_key())) == "enrolment_refused"
    assert code_of(signed(trust.new_key(), "ES256")) == "enrolment_refused"
    assert code_of(signed(None, "none")) == "enrolment_refused"
    # A MAC under our public key: the classic confusion of algorithms.
    head = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "typ": "JWT"}).encode()).rstrip(b"=").decode()
    body = mint(KEY, CLAIMS).split(".")[1]
    mac = hmac.digest(KEY.public_key().public_bytes_raw(), f"{head}.{body}".encode(), "sha256")
    text = base64.urlsafe_b64encode(mac).rstrip(b"=").decode()
    assert code_of(f"{head}.{body}.{text}") == "enrolment_refused"


@given(st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_a_token_with_one_byte_changed_is_refused(place: int, change: int) -> None:
    data = bytearray(mint(KEY, CLAIMS).encode())
    data[place % len(data)] ^= change
    try:
        read = check(KEY, data.decode("latin-1"), OURS, NOW)
    except GrafosError as error:
        read = error.code
    # Bits at the end of the signature that base64 passes over change nothing.
    assert read in ("enrolment_refused", CLAIMS)


@given(st.text(max_size=200))
def test_no_text_is_more_than_refused(text: str) -> None:
    assert code_of(text) == "enrolment_refused"


def test_a_text_that_is_too_long_is_not_read() -> None:
    assert code_of("a" * (signed_claims.TOKEN_CHARACTERS_MAX + 1)) == "enrolment_refused"


def test_a_key_file_that_holds_another_kind_of_key_is_told() -> None:
    assert signed_claims.key_from_pem(signed_claims.key_to_pem(KEY)).private_bytes_raw() == KEY.private_bytes_raw()
    with pytest.raises(ValueError, match="Ed25519"):
        signed_claims.key_from_pem(trust.key_to_pem(trust.new_key()))
