"""An orchestrator as a real process takes cells in by their cloud's word alone, over TLS."""

from __future__ import annotations

import itertools
import time

import pytest
from clouds_word import ACCOUNTS, MACHINES, REGIONS, CloudsWord
from orchestrator import RATE, Orchestrator
from standalone import Identity

from grafos_core import trust
from grafos_core.clock import SystemClock
from grafos_core.errors import GrafosError
from grafos_scheduler.attested import PROVIDERS
from grafos_scheduler.enrolment_messages import (
    Attestation,
    AttestationRoots,
    CellCredentials,
    ExpectedCell,
    ExpectedCellView,
)
from grafos_scheduler.orchestrator_client import enrol
from grafos_scheduler.route import JSON_BYTES_MAX

_numbers = itertools.count(1)


def refused(action: object, *args: object, **kwargs: object) -> GrafosError:
    with pytest.raises(GrafosError) as caught:
        action(*args, **kwargs)  # type: ignore[operator]
    return caught.value


@pytest.fixture(scope="module")
def word(orchestrator: Orchestrator, operator: Identity) -> CloudsWord:
    """The clouds, whose roots the orchestrator was given."""
    made = CloudsWord(SystemClock())
    with orchestrator.client(operator) as client:
        for provider in PROVIDERS:
            roots = AttestationRoots("this test", "2026-11-21", dict(made.roots(provider).pems))
            shown = client.set_attestation_roots(provider, roots)
            assert (shown.names, shown.set_by) == (sorted(roots.pems), "ada")
            assert client.attestation_roots(provider) == shown
    return made


def expect(orchestrator: Orchestrator, operator: Identity, provider: str, **asked: str) -> ExpectedCellView:
    given = {"account": ACCOUNTS[provider], "machine_id": MACHINES[provider], **asked}
    request = ExpectedCell(provider, f"{provider}-{next(_numbers)}", REGIONS[provider], RATE, **given)
    with orchestrator.client(operator) as client:
        return client.expect_cell(request)


def come(orchestrator: Orchestrator, expected: ExpectedCellView, csr_pem: str, evidence: str) -> CellCredentials:
    word = Attestation(expected.expectation_id, evidence)
    return enrol(orchestrator.url, expected.ca_pem, "", csr_pem, attestation=word)


def test_without_roots_no_machine_is_expected(orchestrator: Orchestrator, operator: Identity) -> None:
    told = refused(expect, orchestrator, operator, "aws")
    assert told.code == "attestation_refused"
    assert "PUT /api/v1/admin/attestation-roots/aws" in told.next
    with orchestrator.client(operator) as client:
        shown = client.attestation_roots("aws")
    assert (shown.names, shown.set_by) == ([], "")
    assert shown.why_empty


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_machine_becomes_a_cell_by_its_clouds_word(
    orchestrator: Orchestrator, operator: Identity, word: CloudsWord, provider: str
) -> None:
    machine_id = f"{MACHINES[provider]}-{next(_numbers)}"
    expected = expect(orchestrator, operator, provider, machine_id="")
    csr_pem = orchestrator.request(expected.cell_id)
    key = trust.key_sha256(trust.csr_key(csr_pem))
    evidence = word.evidence(provider, expected.expectation_id, key, machine_id=machine_id)
    assert refused(come, orchestrator, expected, csr_pem, evidence).retryable
    with orchestrator.client(operator) as client:
        client.name_machine(expected.expectation_id, machine_id)
    granted = come(orchestrator, expected, csr_pem, evidence)
    peer = trust.check_issued_by(granted.certificate_pem, orchestrator.ca_pem, at=time.time())
    assert (peer.kind, peer.name, peer.provider) == ("cell", expected.cell_id, provider)
    thief = trust.make_csr(trust.new_key(), expected.cell_id)
    stolen = word.evidence(
        provider, expected.expectation_id, trust.key_sha256(trust.csr_key(thief)), machine_id=machine_id
    )
    assert refused(come, orchestrator, expected, thief, stolen).code == "enrolment_refused"
    log = orchestrator.scheduler.log.read_text()
    assert f"enrolment refused, from 127.0.0.1 with the word of {provider} for cell {expected.cell_id}" in log


def test_a_token_beside_a_word_an_unknown_expectation_and_a_forged_word_are_refused(
    orchestrator: Orchestrator, operator: Identity, word: CloudsWord
) -> None:
    expected = expect(orchestrator, operator, "gcp")
    csr_pem = orchestrator.request(expected.cell_id)
    forged = CloudsWord(SystemClock()).evidence("gcp", expected.expectation_id, "a" * 64)
    assert refused(come, orchestrator, expected, csr_pem, forged).code == "attestation_refused"
    both = Attestation(expected.expectation_id, forged)
    told = refused(enrol, orchestrator.url, expected.ca_pem, "a.b.c", csr_pem, attestation=both)
    assert told.code == "request_invalid"
    unknown = Attestation("0" * 32, forged)
    told = refused(enrol, orchestrator.url, expected.ca_pem, "", csr_pem, attestation=unknown)
    assert told.code == "enrolment_refused"


def test_only_an_operator_expects_cells_or_sets_roots(
    orchestrator: Orchestrator, operator: Identity, word: CloudsWord
) -> None:
    tenant = orchestrator.employ(operator, f"tenant-{next(_numbers)}")
    assert refused(expect, orchestrator, tenant, "aws").code == "rights_missing"
    with orchestrator.client(tenant) as client:
        roots = AttestationRoots("mine", "2026-11-21", {"a": "b"})
        assert refused(client.set_attestation_roots, "aws", roots).code == "rights_missing"
        assert refused(client.name_machine, "0" * 32, "i-1").code == "rights_missing"


def test_a_cloud_may_have_many_regions(orchestrator: Orchestrator, operator: Identity, word: CloudsWord) -> None:
    known = dict(word.roots("aws").pems)
    many = {f"region-{number}": next(iter(known.values())) for number in range(90)}
    assert sum(map(len, many.values())) > JSON_BYTES_MAX
    with orchestrator.client(operator) as client:
        shown = client.set_attestation_roots("aws", AttestationRoots("this test", "2026-11-21", {**known, **many}))
    assert len(shown.names) == len(known) + 90
