"""Signed envelopes: the bytes that are signed are the specification's, and nothing else opens them."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from grafos_core import dsse, trust
from grafos_core.errors import GrafosError

KIND = "application/vnd.in-toto+json"
KEY = trust.new_key()


def code_of(data: bytes, kind: str = KIND, key: trust.PrivateKey = KEY) -> str:
    with pytest.raises(GrafosError) as refused:
        dsse.unseal(data, kind, key.public_key())
    return refused.value.code


def test_what_is_signed_is_the_specifications_own_example() -> None:
    """Of DSSE's protocol.md."""
    signed = dsse.encode("http://example.com/HelloWorld", b"hello world")
    assert signed == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_whoever_knows_the_specification_alone_can_verify_it() -> None:
    told = json.loads(dsse.seal(KIND, b'{"a": 1}', KEY))
    assert sorted(told) == ["payload", "payloadType", "signatures"]
    payload, kind = base64.b64decode(told["payload"]), told["payloadType"]
    message = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload
    signature = base64.b64decode(told["signatures"][0]["sig"])
    KEY.public_key().verify(signature, message, ec.ECDSA(hashes.SHA256()))


def test_what_was_sealed_is_unsealed() -> None:
    assert dsse.unseal(dsse.seal(KIND, b"{}", KEY), KIND, KEY.public_key()) == b"{}"


def test_a_payload_that_was_changed_is_refused() -> None:
    told = json.loads(dsse.seal(KIND, b"{}", KEY))
    told["payload"] = base64.b64encode(b"[]").decode()
    assert code_of(json.dumps(told).encode()) == "provenance_invalid"


def test_a_payload_of_another_type_is_refused() -> None:
    assert code_of(dsse.seal(KIND, b"{}", KEY), "text/plain") == "provenance_invalid"
    told = json.loads(dsse.seal("text/plain", b"{}", KEY))
    told["payloadType"] = KIND
    assert code_of(json.dumps(told).encode()) == "provenance_invalid"


def test_the_key_of_another_is_told_from_damage() -> None:
    assert code_of(dsse.seal(KIND, b"{}", trust.new_key())) == "fabric_mismatch"


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b'{"payloadType": "a", "payload": "!", "signatures": []}'])
def test_what_is_no_envelope_is_refused(data: bytes) -> None:
    assert code_of(data) == "provenance_invalid"


def test_an_envelope_that_nobody_signed_is_refused() -> None:
    told = json.loads(dsse.seal(KIND, b"{}", KEY))
    told["signatures"] = []
    assert code_of(json.dumps(told).encode()) == "provenance_invalid"
