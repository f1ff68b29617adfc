from __future__ import annotations

import base64
import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from grafos_core import trust
from grafos_core.errors import GrafosError
from grafos_core.receipts import (
    BudgetSlice,
    RunReceipt,
    Settlement,
    Signed,
    open_signed,
    open_signed_by_cell,
    sign_record,
)

NOW = 1_800_000_000.0
CELL_URI = trust.spiffe_id("fab-1", "cell", "aws-1", "aws")


class Authority:
    """A CA and the leaves that it issues."""

    def __init__(self) -> None:
        self.key = trust.new_key()
        self.pem = trust.make_ca(self.key, "grafos cell aws-1", NOW)

    def leaf(self, uri: str, life_s: float = 3600.0) -> tuple[trust.PrivateKey, str]:
        key = trust.new_key()
        return key, trust.sign_csr(self.pem, self.key, trust.make_csr(key, "x"), uri, NOW, life_s)


RUN = RunReceipt(
    fabric="fab-1",
    run_id="run-1",
    tenant="t",
    provider="aws",
    cell_id="aws-1",
    region="us-east-1",
    tasklet="x",
    module_sha256="0" * 64,
    input_sha256="0" * 64,
    code="finished",
    response_sha256="0" * 64,
    output_sha256="0" * 64,
    fuel_used=1,
    started_at=NOW,
    ended_at=NOW + 1,
    boot_epoch=1,
)


def test_a_certificate_says_whom_it_stands_for() -> None:
    authority = Authority()
    key, pem = authority.leaf(CELL_URI)
    peer = trust.peer_of(trust.certificate_der(pem))
    assert (peer.fabric, peer.kind, peer.provider, peer.name) == ("fab-1", "cell", "aws", "aws-1")
    assert peer.key_sha256 == trust.key_sha256(key.public_key())
    assert peer.not_after == NOW + 3600


def test_a_request_whose_signature_does_not_hold_is_refused() -> None:
    csr = trust.make_csr(trust.new_key(), "x")
    broken = csr.replace(csr.splitlines()[3], csr.splitlines()[3][::-1])
    for bad in (broken, "", "-----BEGIN CERTIFICATE REQUEST-----\nAA\n-----END CERTIFICATE REQUEST-----"):
        with pytest.raises(GrafosError) as refusal:
            trust.csr_key(bad)
        assert refusal.value.code == "request_invalid"


def test_a_certificate_takes_no_name_from_the_request() -> None:
    authority = Authority()
    key = trust.new_key()
    csr = trust.make_csr(key, "operator")
    pem = trust.sign_csr(authority.pem, authority.key, csr, CELL_URI, NOW, 60)
    assert trust.peer_of(trust.certificate_der(pem)).kind == "cell"


def test_a_foreign_ca_is_not_the_pinned_one_even_with_the_same_name() -> None:
    ours, foreign = Authority(), Authority()
    _, pem = foreign.leaf(CELL_URI)
    with pytest.raises(GrafosError) as refusal:
        trust.check_issued_by(pem, ours.pem, NOW)
    assert refusal.value.code == "identity_not_pinned"
    assert trust.check_issued_by(pem, ours.pem + foreign.pem, NOW).name == "aws-1", "several pins may stand together"


def test_a_certificate_counts_only_while_it_was_valid() -> None:
    authority = Authority()
    _, pem = authority.leaf(CELL_URI, life_s=60)
    with pytest.raises(GrafosError):
        trust.check_issued_by(pem, authority.pem, NOW + 61)


def test_a_claim_proof_is_worthless_for_any_other_pair_of_keys_or_role() -> None:
    args = (b"secret", "operator", b"server", "csr", "fabric key")
    proof = trust.claim_mac(*args)
    assert proof == trust.claim_mac(*args)
    others = [
        (b"Secret", "operator", b"server", "csr", "fabric key"),
        (b"secret", "cell", b"server", "csr", "fabric key"),
        (b"secret", "operator", b"other", "csr", "fabric key"),
        (b"secret", "operator", b"server", "other", "fabric key"),
        (b"secret", "operator", b"server", "csr", "other"),
        (b"secret", "operator", b"serverc", "sr", "fabric key"),
    ]
    assert proof not in {trust.claim_mac(*other) for other in others}


def test_a_run_receipt_is_verified_against_the_pinned_key_long_after_the_certificate_ran_out() -> None:
    authority = Authority()
    key, pem = authority.leaf(CELL_URI, life_s=60)
    signed = sign_record(RUN, key, pem)
    assert open_signed_by_cell(signed, RunReceipt, authority.pem, at_field="ended_at") == RUN


def test_a_receipt_that_was_altered_does_not_verify() -> None:
    authority = Authority()
    key, pem = authority.leaf(CELL_URI)
    signed = sign_record(RUN, key, pem)
    forged = Signed("run", signed.body.replace(b'"fuel_used":1', b'"fuel_used":2'), signed.signature, pem)
    assert forged.body != signed.body
    with pytest.raises(GrafosError) as refusal:
        open_signed_by_cell(forged, RunReceipt, authority.pem, at_field="ended_at")
    assert refusal.value.code == "receipt_invalid"


@pytest.mark.parametrize(
    "uri",
    [
        trust.spiffe_id("fab-1", "cell", "aws-2", "aws"),
        trust.spiffe_id("fab-2", "cell", "aws-1", "aws"),
        trust.spiffe_id("fab-1", "cell", "aws-1", "gcp"),
        trust.spiffe_id("fab-1", "scheduler", "aws-1"),
        trust.spiffe_id("fab-1", "tenant", "aws-1"),
    ],
)
def test_a_receipt_signed_by_anybody_but_its_cell_does_not_verify(uri: str) -> None:
    authority = Authority()
    key, pem = authority.leaf(uri)
    with pytest.raises(GrafosError) as refusal:
        open_signed_by_cell(sign_record(RUN, key, pem), RunReceipt, authority.pem, at_field="ended_at")
    assert refusal.value.code == "receipt_invalid"


def test_a_settlement_is_its_schedulers_word_and_not_that_of_the_cell_of_the_same_name() -> None:
    authority = Authority()
    settlement = Settlement("fab-1", "s", "aws-1", "t", 5, final=True, settled_at=NOW)
    for uri, is_signer in ((trust.spiffe_id("fab-1", "scheduler", "aws-1"), True), (CELL_URI, False)):
        key, pem = authority.leaf(uri)
        signed = sign_record(settlement, key, pem)
        if is_signer:
            assert open_signed_by_cell(signed, Settlement, authority.pem, at_field="settled_at") == settlement
        else:
            with pytest.raises(GrafosError) as refusal:
                open_signed_by_cell(signed, Settlement, authority.pem, at_field="settled_at")
            assert refusal.value.code == "receipt_invalid"


def test_a_record_whose_text_is_no_text_is_invalid_though_its_signature_holds() -> None:
    """A signer can sign any bytes."""
    key = trust.new_key()
    for body in (b'{"fabric":"\xff"}', b"\xff", b"[]", b""):
        signature = trust.sign(key, b"grafos-record-1:slice:" + body)
        with pytest.raises(GrafosError) as refusal:
            open_signed(Signed("slice", body, signature), BudgetSlice, key.public_key())
        assert refusal.value.code == "receipt_invalid"


def test_one_kind_of_record_cannot_be_passed_off_as_another() -> None:
    key = trust.new_key()
    cut = sign_record(BudgetSlice("fab-1", "s", "aws-1", "t", 5, NOW), key)
    disguised = Signed("settlement", cut.body, cut.signature)
    with pytest.raises(GrafosError):
        open_signed(disguised, Settlement, key.public_key())
    assert open_signed(cut, BudgetSlice, key.public_key()).amount_micro_cents == 5


def test_a_key_survives_its_file_and_its_fingerprint_is_that_of_the_spki() -> None:
    key = trust.new_key()
    again = trust.key_from_pem(trust.key_to_pem(key))
    assert trust.key_sha256(again.public_key()) == trust.key_sha256(key.public_key())
    pem = trust.public_key_to_pem(key.public_key())
    assert trust.key_sha256(trust.public_key_from_pem(pem)) == trust.key_sha256(key.public_key())
    assert hashlib.sha256(pem.encode()).hexdigest() != trust.key_sha256(key.public_key())


def pem_of(key: ec.EllipticCurvePrivateKey, password: bytes = b"") -> bytes:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def test_a_key_on_another_curve_or_under_a_password_is_no_key_of_ours() -> None:
    other = ec.generate_private_key(ec.SECP384R1())
    for pem in (pem_of(other), pem_of(trust.new_key(), b"password"), b"", b"-----BEGIN PRIVATE KEY-----"):
        with pytest.raises(ValueError, match=r"."):
            trust.key_from_pem(pem)
    with pytest.raises(ValueError, match="P-256"):
        trust.public_key_from_pem(trust.public_key_to_pem(other.public_key()))


def unknown_kind_of_key(pem: str) -> str:
    """The same PEM, but its key is said to be of a kind that nobody knows."""
    lines = pem.splitlines()
    der = x509.load_pem_x509_csr(pem.encode()).public_bytes(serialization.Encoding.DER)
    ec_public_key = bytes.fromhex("06072a8648ce3d0201")  # RFC 5480, 2.1.1
    assert ec_public_key in der
    text = base64.b64encode(der.replace(ec_public_key, ec_public_key[:-1] + b"\x7f")).decode()
    return "\n".join([lines[0], text, lines[-1]])


def test_a_request_with_any_other_kind_of_key_is_refused_and_no_bug() -> None:
    """Whoever reaches a new cell's port may send one."""
    other = ec.generate_private_key(ec.SECP384R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    on_another_curve = builder.sign(other, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    for csr in (on_another_curve, unknown_kind_of_key(trust.make_csr(trust.new_key(), "x"))):
        with pytest.raises(GrafosError) as refusal:
            trust.csr_key(csr)
        assert refusal.value.code == "request_invalid"
