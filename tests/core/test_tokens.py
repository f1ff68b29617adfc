from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import string

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafos_core.errors import GrafosError
from grafos_core.tokens import (
    CAVEATS,
    CAVEATS_MAX,
    ApiClaims,
    CapabilityClaims,
    Caveat,
    Use,
    check_api_token,
    check_capability,
    mint_api_token,
    mint_capability,
    narrow,
)

KEY = b"k" * 32
NOW = 1000.0
CLAIMS = ApiClaims("aws-1", "tenant", "t", "f" * 64, ("runs:write",), NOW + 60)
CAPABILITY = CapabilityClaims("aws-1", "t", "mem", "01" * 16, 1, 1, NOW + 60)
USE = Use(operation="run", run_id="run-1", tasklet="x")


def refused(code: str, token: str, *, key: bytes = KEY, bound: str = "f" * 64, now: float = NOW) -> None:
    with pytest.raises(GrafosError) as refusal:
        check_api_token(key, token, bound, now)
    assert refusal.value.code == code


def test_an_api_token_says_what_was_minted() -> None:
    assert check_api_token(KEY, mint_api_token(KEY, CLAIMS), "f" * 64, NOW) == CLAIMS


def test_an_api_token_is_refused_when_foreign_altered_stolen_or_expired() -> None:
    token = mint_api_token(KEY, CLAIMS)
    refused("token_refused", token, key=b"other")
    refused("token_refused", token[:-2] + ("AA" if token[-2:] != "AA" else "BB"))
    refused("token_refused", token, bound="0" * 64)
    refused("token_expired", token, now=NOW + 60)
    refused("token_refused", token.replace("gat1", "gct1"))
    refused("token_refused", "gat1." + "A" * 5000)


@given(st.text(max_size=80))
def test_no_text_is_a_token(text: str) -> None:
    for check in (
        lambda: check_api_token(KEY, text, "f" * 64, NOW),
        lambda: check_capability(KEY, text, USE, NOW),
    ):
        with pytest.raises(GrafosError):
            check()


def test_a_capability_says_what_was_minted_and_runs_out() -> None:
    token = mint_capability(KEY, CAPABILITY)
    assert check_capability(KEY, token, USE, NOW) == CAPABILITY
    with pytest.raises(GrafosError) as refusal:
        check_capability(KEY, token, USE, NOW + 60)
    assert refusal.value.code == "token_expired"


def test_a_token_of_one_kind_is_none_of_the_other_even_under_the_same_key() -> None:
    with pytest.raises(GrafosError) as refusal:
        check_capability(KEY, mint_api_token(KEY, CLAIMS).replace("gat1", "gct1"), USE, NOW)
    assert refusal.value.code == "capability_refused"
    refused("token_refused", mint_capability(KEY, CAPABILITY).replace("gct1", "gat1"))


def test_claims_of_a_form_that_is_not_known_are_refused_though_their_mac_is_right() -> None:
    """A token that an earlier or later version issued under the same key."""

    def signed(form: str, body: bytes) -> str:
        mac = hmac.new(KEY, form.encode() + b"." + body, hashlib.sha256).digest()
        return ".".join([form, *(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (body, mac))])

    for body in (b"", b"\x01", msgspec.msgpack.encode({"issuer": "aws-1"}), b"\x81\xa6issuer\xa1\xff"):
        refused("token_refused", signed("gat1", body))
        with pytest.raises(GrafosError) as refusal:
            check_capability(KEY, signed("gct1", body), USE, NOW)
        assert refusal.value.code == "token_refused"


def test_a_token_has_one_spelling() -> None:
    """RFC 4648, 3.5: what base64 passes over is a second spelling of the same bytes, and is refused."""
    token = mint_api_token(KEY, CLAIMS)
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    other_bits = alphabet[alphabet.index(token[-1]) ^ 1]  # 43 characters have two bits more than 32 bytes
    for again in (token + "=", token[:-1] + other_bits, token.replace("-", "+").replace("_", "/") + "="):
        refused("token_refused", again)


def test_a_caveat_cannot_write_lines_of_its_own_into_a_log() -> None:
    token = narrow(mint_capability(KEY, CAPABILITY), Caveat("run", "x\n" + "y" * 2000))
    with pytest.raises(GrafosError) as refusal:
        check_capability(KEY, token, USE, NOW)
    assert refusal.value.what.isprintable()
    assert len(refusal.value.what) < 200


@pytest.mark.parametrize(
    "caveat",
    [Caveat("before", "999"), Caveat("operation", "write"), Caveat("run", "run-2"), Caveat("colour", "blue")],
)
def test_a_caveat_that_does_not_hold_or_is_unknown_refuses(caveat: Caveat) -> None:
    token = narrow(mint_capability(KEY, CAPABILITY), caveat)
    with pytest.raises(GrafosError) as refusal:
        check_capability(KEY, token, USE, NOW)
    assert refusal.value.code == "capability_refused"


def test_a_caveat_cannot_be_taken_off_again() -> None:
    token = narrow(mint_capability(KEY, CAPABILITY), Caveat("run", "run-1"))
    assert check_capability(KEY, token, USE, NOW) == CAPABILITY
    form, claims, _, mac = token.split(".")
    with pytest.raises(GrafosError):
        check_capability(KEY, f"{form}.{claims}.{mac}", USE, NOW)


@given(st.lists(st.builds(Caveat, st.sampled_from(["before", "run", "tasklet", "operation"]), st.text(max_size=8))))
def test_narrowing_never_opens_more(caveats: list[Caveat]) -> None:
    token = mint_capability(KEY, CAPABILITY)
    for caveat in caveats[:CAVEATS_MAX]:
        token = narrow(token, caveat)
    with contextlib.suppress(GrafosError):
        assert check_capability(KEY, token, USE, NOW) == CAPABILITY


def test_too_many_caveats_are_refused() -> None:
    token = mint_capability(KEY, CAPABILITY)
    for _ in range(CAVEATS_MAX + 1):
        token = narrow(token, Caveat("run", "run-1"))
    with pytest.raises(GrafosError):
        check_capability(KEY, token, USE, NOW)


USES = st.builds(
    Use,
    operation=st.sampled_from(["start", "block_read", "block_write", ""]),
    run_id=st.sampled_from(["run-1", "run-2"]),
    tasklet=st.sampled_from(["x", "y"]),
    program=st.sampled_from(["p", "q", ""]),
    module_sha256=st.sampled_from(["a" * 64, "b" * 64]),
    hardware=st.sampled_from(["x86_64", "aarch64"]),
)
VALUES = st.sampled_from(
    ["start", "start,block_read", "run-1", "x", "p", "a" * 64, "x86_64", "", "1060", "1500.5", "nan", "inf", "-1", "no"]
)
KNOWN_OR_NOT = st.builds(Caveat, st.sampled_from([*CAVEATS, "colour", ""]), VALUES)


def opens(token: str, use: Use, now: float) -> bool:
    try:
        check_capability(KEY, token, use, now)
    except GrafosError:
        return False
    return True


@given(st.lists(KNOWN_OR_NOT, max_size=5), KNOWN_OR_NOT, USES, st.floats(0, 2000))
def test_a_token_under_one_more_caveat_opens_nothing_that_it_did_not_open_before(
    caveats: list[Caveat], one_more: Caveat, use: Use, now: float
) -> None:
    token = mint_capability(KEY, CAPABILITY)
    for caveat in caveats:
        token = narrow(token, caveat)
    assert opens(token, use, now) or not opens(narrow(token, one_more), use, now)


@pytest.mark.parametrize(
    ("caveat", "other"),
    [
        (Caveat("program", "png"), Use("start", program="gif")),
        (Caveat("module", "a" * 64), Use("start", module_sha256="b" * 64)),
        (Caveat("hardware", "x86_64"), Use("start", hardware="aarch64")),
        (Caveat("operation", "start,block_read"), Use("block_write")),
        (Caveat("run", "run-1"), Use("start", "run-2")),
        (Caveat("tasklet", "x"), Use("start", tasklet="y")),
    ],
)
def test_each_caveat_opens_its_own_use_and_no_other(caveat: Caveat, other: Use) -> None:
    own = Use("start", "run-1", "x", "png", "a" * 64, "x86_64")
    token = narrow(mint_capability(KEY, CAPABILITY), caveat)
    assert opens(token, own, NOW)
    assert not opens(token, other, NOW)


def test_an_until_time_ends_a_token_before_its_own_end() -> None:
    token = narrow(mint_capability(KEY, CAPABILITY), Caveat("before", str(NOW + 10)))
    assert opens(token, USE, NOW + 9)
    assert not opens(token, USE, NOW + 10)
