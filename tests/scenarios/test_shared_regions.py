"""Runs on cells of two clouds share one region of leased memory, through a real orchestrator."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest
from agents import until
from two_clouds import COUNT, REFER, REPORT, SPIN, Fabric, two_clouds, with_ref

from grafos_cell import abi
from grafos_core.lease_refs import read_lease_ref
from grafos_scheduler import messages
from grafos_scheduler.audit_messages import AuditQuery

TEXTS = (
    " the quick brown fox jumps over the lazy dog and runs away",
    " a region is somewhere and a word is changed there by whoever is told of it",
)


@pytest.fixture(scope="module")
def fabric(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fabric]:
    with two_clouds(tmp_path_factory.mktemp("clouds")) as made:
        yield made


def output_of(left: messages.Artifacts) -> bytes:
    return base64.b64decode(left.output_b64)


def counts_of(left: messages.Artifacts) -> list[int]:
    output = output_of(left)
    return [int.from_bytes(output[at : at + 8], "little") for at in range(0, len(output), 8)]


@pytest.mark.timeout(300)
def test_three_tasklets_on_two_clouds_build_one_count_and_it_is_right(fabric: Fabric) -> None:
    region = fabric.lease("gcp")
    going = [
        fabric.start(provider, COUNT, with_ref(region.ref, text))
        for provider, text in zip(("gcp", "azure"), TEXTS, strict=True)
    ]
    for run_id in going:
        view, left = fabric.ended(run_id)
        assert view.state == "finished", left.log
    words = " ".join(TEXTS).split()
    expected = [len(words)] + [sum(word[0] == letter for word in words) for letter in "abcdefghijklmnopqrstuvwxyz"]
    for provider in ("azure", "gcp"):
        assert counts_of(fabric.run(provider, REPORT, with_ref(region.ref))) == expected


@pytest.mark.timeout(300)
def test_a_renewed_region_keeps_its_bytes_and_older_references_open_it(fabric: Fabric) -> None:
    region = fabric.lease("azure", ttl_s=60.0)
    fabric.run("gcp", COUNT, with_ref(region.ref, " one two three"))
    with fabric.orchestrator.client(fabric.tenant) as client:
        renewed = client.renew_region(region.lease_id, 300.0)
    assert renewed.generation == 2
    until(
        lambda: read_lease_ref(output_of(fabric.run("gcp", REFER, with_ref(region.ref)))).generation == 2, "the renewal"
    )
    assert counts_of(fabric.run("gcp", REPORT, with_ref(region.ref)))[0] == 3
    assert counts_of(fabric.run("azure", REPORT, with_ref(renewed.ref)))[0] == 3


@pytest.mark.timeout(300)
@pytest.mark.parametrize("ends", ["ended", "revoked"])
def test_a_reader_on_another_cloud_is_told_what_became_of_the_region(fabric: Fabric, ends: str) -> None:
    region = fabric.lease("gcp")
    run_id = fabric.start("azure", SPIN, with_ref(region.ref), fuel=10**12)
    with fabric.orchestrator.client(fabric.tenant) as client:
        until(lambda: client.run(run_id).state == "running", "the run")
        if ends == "ended":
            client.end_region(region.lease_id)
        else:
            client.revoke_lease(region.lease_id, grace_s=0.0)
    view, left = fabric.ended(run_id)
    status = abi.LEASE_EXPIRED if ends == "ended" else abi.REVOKED
    assert (view.code, view.what) == ("program_error", f"returned {-status} without a text"), left.log


@pytest.mark.timeout(300)
def test_whoever_may_not_is_refused_with_a_status_and_a_line_in_the_log(fabric: Fabric) -> None:
    region = fabric.lease("gcp")
    stranger = fabric.orchestrator.employ(fabric.operator, "globex", budget_cents=1_000_000)
    view, left = fabric.ended(fabric.start("azure", REPORT, with_ref(region.ref), stranger), stranger)
    assert view.what == f"returned {-abi.INVALID_ARGUMENT} without a text"
    assert "grafos: fbmu_attach: lease_unknown" in left.log
    for provider in ("gcp", "azure"):
        foreign = region.ref.replace(f'"cell":"{region.cell_id}"', '"cell":"aws-standalone"')
        view, left = fabric.ended(fabric.start(provider, REPORT, with_ref(foreign)))
        assert view.what == f"returned {-abi.UNSUPPORTED} without a text"
        assert "grafos: fbmu_attach: cross_fabric" in left.log
        view, _ = fabric.ended(fabric.start(provider, REPORT, with_ref("{}")))
        assert view.what == f"returned {-abi.INVALID_ARGUMENT} without a text"
    with fabric.orchestrator.client(fabric.operator) as client:
        page = client.audit(AuditQuery(kind="LeaseRefused"))
    [noted] = page.records
    assert (noted.subject, noted.tenant, noted.details["of_tenant"]) == (region.lease_id, "globex", "acme")
