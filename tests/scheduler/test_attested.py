"""What a cloud says of its machine counts only if that cloud signed it, for this key, this enrolment and this time."""

from __future__ import annotations

import base64
import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from clouds_word import ACCOUNTS, MACHINES, OTHER_REGION, REGIONS, CloudsWord
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs7
from msgspec.structs import replace

from grafos_core.attestation import NONCE_DIGITS, binding
from grafos_core.clock import VirtualClock
from grafos_core.errors import GrafosError
from grafos_emulators import attesting
from grafos_scheduler.attested import PROVIDERS, Attested, Enrolling, ber, cms, roots, shipped, verify
from grafos_scheduler.attested.gcp import LIFE_S_MAX

EXPECTATION, KEY = "e" * 32, "a" * 64
ASKED = Enrolling(EXPECTATION, KEY)
START = 1_800_000_000.0
EVERY = pytest.mark.parametrize("provider", PROVIDERS)


@pytest.fixture(scope="module")
def clock() -> VirtualClock:
    return VirtualClock(START)


@pytest.fixture(scope="module")
def word(clock: VirtualClock) -> CloudsWord:
    return CloudsWord(clock)


@pytest.fixture(scope="module")
def stranger(clock: VirtualClock) -> CloudsWord:
    """Somebody who signs in the same form, with keys of his own."""
    return CloudsWord(clock)


def why(action: Callable[..., object], *args: object, code: str = "attestation_refused") -> str:
    with pytest.raises(GrafosError) as caught:
        action(*args)
    assert caught.value.code == code
    return f"{caught.value.what}: {caught.value.why}"


def checked(word: CloudsWord, provider: str, evidence: str, now: float = START) -> Attested:
    return verify(evidence, word.roots(provider), ASKED, now)


def outcome(word: CloudsWord, provider: str, evidence: str) -> Attested | str:
    try:
        return checked(word, provider, evidence)
    except GrafosError as error:
        return error.code


# --- each cloud ---------------------------------------------------------------------------------------------------


@EVERY
def test_what_the_cloud_signed_is_believed(word: CloudsWord, provider: str) -> None:
    said = checked(word, provider, word.evidence(provider, EXPECTATION, KEY))
    assert (said.provider, said.account, said.machine_id) == (provider, ACCOUNTS[provider], MACHINES[provider])
    told = {"aws": (REGIONS["aws"], START), "gcp": (REGIONS["gcp"], START), "azure": ("", 0.0)}
    assert (said.region, said.made_at) == told[provider]
    assert said.zone.startswith(said.region)


@EVERY
def test_whoever_signs_with_other_roots_is_not_the_cloud(word: CloudsWord, stranger: CloudsWord, provider: str) -> None:
    why(checked, word, provider, stranger.evidence(provider, EXPECTATION, KEY))


@EVERY
def test_no_changed_byte_is_believed(word: CloudsWord, provider: str) -> None:
    """Whatever is changed, it is refused with a code, or it says the same as before: not all bytes mean something."""
    good = word.evidence(provider, EXPECTATION, KEY)
    said, chance = checked(word, provider, good), random.Random(provider)
    outcomes = []
    for _ in range(60):
        raw = bytearray(good.encode() if provider == "gcp" else base64.b64decode(good))
        raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
        bad = bytes(raw).decode("latin-1") if provider == "gcp" else base64.b64encode(raw).decode()
        outcomes.append(outcome(word, provider, bad))
    assert set(outcomes) <= {said, "attestation_refused"}
    assert outcomes.count("attestation_refused") > 15


@EVERY
@pytest.mark.parametrize("text", ["", "?", "e30.e30.e30", "MIAGCSqGSIb3DQEHAqCAMIAC", "MIA" + "MIA" * 500, "\udcff"])
def test_rubbish_is_refused_with_the_same_code(word: CloudsWord, provider: str, text: str) -> None:
    why(checked, word, provider, text)


@EVERY
def test_without_roots_nobody_is_believed_and_the_refusal_says_how_to_set_them(provider: str) -> None:
    known = shipped(provider)
    assert known.pems == {}
    assert known.why_empty
    assert known.source.startswith("https://")
    with pytest.raises(GrafosError, match=f"no roots of {provider} are known here") as caught:
        verify("any", known, ASKED, START)
    assert f"PUT /api/v1/admin/attestation-roots/{provider}" in caught.value.next


# --- bound to a key, an enrolment and a time ----------------------------------------------------------------------


@pytest.mark.parametrize("provider", ["azure", "gcp"])
def test_the_word_for_another_key_or_enrolment_is_worth_nothing(word: CloudsWord, provider: str) -> None:
    for expectation_id, key in ((EXPECTATION, "b" * 64), ("f" * 32, KEY)):
        said = why(checked, word, provider, word.evidence(provider, expectation_id, key))
        assert "for another enrolment or key" in said


@pytest.mark.parametrize(("provider", "life_s"), [("azure", 6 * 3600.0), ("gcp", LIFE_S_MAX)])
def test_the_word_lapses(word: CloudsWord, provider: str, life_s: float) -> None:
    evidence = word.evidence(provider, EXPECTATION, KEY)
    checked(word, provider, evidence, START + life_s - 1)
    assert "lapsed" in why(checked, word, provider, evidence, START + life_s)
    assert "does not hold yet" in why(checked, word, provider, evidence, START - 61)


def test_a_nonce_has_ten_digits_and_azures_alphabet() -> None:
    drawn = {binding("azure", EXPECTATION, f"{n:064x}") for n in range(4)}
    assert len(drawn) == 4
    assert all(len(nonce) == NONCE_DIGITS and nonce.isdecimal() for nonce in drawn)


def test_an_aws_region_answers_only_for_its_own_machines(clock: VirtualClock, word: CloudsWord) -> None:
    own = replace(word.roots("aws"), pems={})
    here, there = (attesting.AwsSigner((region,), START) for region in (REGIONS["aws"], OTHER_REGION))
    known = replace(own, pems={**here.roots, **there.roots})
    document = json.dumps(word.aws_document()).encode()
    assert verify(here.rsa2048(document, REGIONS["aws"]), known, ASKED, START).region == REGIONS["aws"]
    said = why(verify, there.rsa2048(document, OTHER_REGION), known, ASKED, START)
    assert f"not signed by AWS's region {REGIONS['aws']}" in said


def test_a_region_whose_certificate_is_unknown_or_lapsed_answers_for_nothing(word: CloudsWord) -> None:
    evidence, known = word.evidence("aws", EXPECTATION, KEY), word.roots("aws")
    only_other = replace(known, pems={OTHER_REGION: known.pems[OTHER_REGION]})
    assert "no certificate of AWS's region" in why(verify, evidence, only_other, ASKED, START)
    assert "lapsed" in why(checked, word, "aws", evidence, START + 4000 * 86400.0)


def test_what_aws_encodes_with_indefinite_lengths_is_read_too(word: CloudsWord) -> None:
    der = base64.b64decode(word.evidence("aws", EXPECTATION, KEY))
    loose = indefinite(ber.read(der))
    assert loose != der
    assert loose.startswith(b"\x30\x80")
    assert ber.read(loose).der == ber.read(der).der
    assert checked(word, "aws", base64.b64encode(loose).decode()).machine_id == MACHINES["aws"]


def test_it_agrees_with_openssl(word: CloudsWord, tmp_path: Path) -> None:
    (tmp_path / "message").write_bytes(base64.b64decode(word.evidence("aws", EXPECTATION, KEY)))
    (tmp_path / "root.pem").write_text(word.aws.roots[REGIONS["aws"]])
    asked = ["openssl", "smime", "-verify", "-inform", "DER", "-in", "message", "-certfile", "root.pem", "-noverify"]
    told = subprocess.run(asked, cwd=tmp_path, capture_output=True, check=True, timeout=60)
    assert told.stdout == cms.read((tmp_path / "message").read_bytes()).content


# --- how it could be got around -----------------------------------------------------------------------------------


def test_a_signer_of_the_same_root_with_another_name_is_not_azures_metadata_service(
    clock: VirtualClock, word: CloudsWord
) -> None:
    root_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    root = attesting._own(root_key, "A public root", START, depth=1)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    known = replace(word.roots("azure"), pems={"root": attesting._pem(root)})
    for name, is_believed in (("westeurope.metadata.azure.com", True), ("metadata.azure.com.example.org", False)):
        leaf = attesting._issued(key, name, (root_key, root), START)
        content = {"nonce": binding("azure", EXPECTATION, KEY), "vmId": "v", "subscriptionId": "s"}
        content |= {"timeStamp": word.azure.times()}
        evidence = base64.b64encode(attesting._signed(json.dumps(content).encode(), key, leaf, ())).decode()
        if is_believed:
            assert verify(evidence, known, ASKED, START).machine_id == "v"
        else:
            assert "metadata service" in why(verify, evidence, known, ASKED, START)


def test_azures_intermediate_may_come_from_the_operator_and_is_no_root(word: CloudsWord) -> None:
    message = cms.read(base64.b64decode(word.evidence("azure", EXPECTATION, KEY)))
    content, leaf, key = message.content, word.azure._leaf, word.azure._key
    alone = base64.b64encode(attesting._signed(content, key, leaf, ())).decode()
    why(checked, word, "azure", alone)
    known = word.roots("azure")
    between = {"between": attesting._pem(word.azure._between)}
    verify(alone, replace(known, pems={**known.pems, **between}), ASKED, START)
    assert "no root" in why(verify, alone, replace(known, pems=between), ASKED, START)


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
def test_an_identity_token_does_not_choose_how_it_is_verified(word: CloudsWord, algorithm: str) -> None:
    good = word.evidence("gcp", EXPECTATION, KEY)
    claims, header = jwt.decode(good, options={"verify_signature": False}), jwt.get_unverified_header(good)
    secret = None if algorithm == "none" else "the certificate is public, so it is no secret"
    forged = jwt.encode(claims, secret, algorithm=algorithm, headers={"kid": header["kid"]})
    why(checked, word, "gcp", forged)


def test_an_identity_token_without_the_machine_says_nothing_of_one(word: CloudsWord) -> None:
    token = word.gcp.token(binding("gcp", EXPECTATION, KEY), "1042", {})
    assert "in full format" in why(checked, word, "gcp", token)


@pytest.mark.parametrize(("hash_of", "bits"), [(hashes.SHA384(), 2048), (hashes.SHA256(), 1024)])
def test_weak_and_unusual_signatures_are_refused(word: CloudsWord, hash_of: Any, bits: int) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    certificate = attesting._own(key, "weak", START)
    builder = pkcs7.PKCS7SignatureBuilder().set_data(json.dumps(word.aws_document()).encode())
    der = builder.add_signer(certificate, key, hash_of).sign(serialization.Encoding.DER, [pkcs7.PKCS7Options.Binary])
    known = replace(word.roots("aws"), pems={REGIONS["aws"]: attesting._pem(certificate)})
    why(verify, base64.b64encode(der).decode(), known, ASKED, START)


def test_a_message_of_two_signers_is_refused(word: CloudsWord) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    certificate = attesting._own(key, "second", START)
    aws = word.aws
    builder = pkcs7.PKCS7SignatureBuilder().set_data(json.dumps(word.aws_document()).encode())
    builder = builder.add_signer(aws._certificates[REGIONS["aws"]], aws._key, hashes.SHA256())
    builder = builder.add_signer(certificate, key, hashes.SHA256())
    der = builder.sign(serialization.Encoding.DER, [pkcs7.PKCS7Options.Binary])
    assert "2 signers" in why(checked, word, "aws", base64.b64encode(der).decode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x30",
        b"\x30\x80",
        b"\x04\x80",
        b"\x30\x85\1\1\1\1\1",
        b"\x1f\x01\x00",
        b"\x30\x03\x04\x05a",
        b"\x05\x00\x00",
        b"\x30\x80" * 9000,
    ],
)
def test_an_encoding_that_is_not_well_formed_is_an_error_and_no_more(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        ber.read(data)


# --- roots --------------------------------------------------------------------------------------------------------


def test_roots_that_cannot_be_read_are_not_taken(word: CloudsWord) -> None:
    for provider in PROVIDERS:
        roots.check(provider, word.roots(provider).pems)
    why(roots.check, "aws", {}, code="request_invalid")
    why(roots.check, "aws", {"eu-central-1": "-----BEGIN"}, code="request_invalid")
    why(roots.check, "gcp", {"key": "no PEM"}, code="request_invalid")
    why(roots.check, "hetzner", {"key": "no PEM"}, code="not_found")


def indefinite(node: ber.Node) -> bytes:
    """The same value with every constructed length left open, and texts in pieces, as AWS writes it."""
    if node.tag == ber.OCTETS and len(node.content) > 200:
        pieces = (ber.Node(ber.OCTETS, node.content[at : at + 100]) for at in range(0, len(node.content), 100))
        return bytes((ber.OCTETS | ber.CONSTRUCTED, 0x80)) + b"".join(piece.der for piece in pieces) + b"\0\0"
    if not node.tag & ber.CONSTRUCTED:
        return node.der
    return bytes((node.tag, 0x80)) + b"".join(indefinite(each) for each in node.inside) + b"\0\0"
