"""Who was turned away at a real orchestrator, and who was let in, stands in its audit log."""

from __future__ import annotations

import pytest
from orchestrator import Orchestrator
from standalone import Identity

from grafos_core.errors import GrafosError
from grafos_scheduler.audit_messages import AuditQuery


def test_a_second_use_of_a_token_is_noted_with_who_from_where_and_why(
    orchestrator: Orchestrator, operator: Identity
) -> None:
    token = orchestrator.bootstrap(operator, "cell-twice")
    orchestrator.enrol(token, orchestrator.request("cell-twice"))
    with pytest.raises(GrafosError, match="used already"):
        orchestrator.enrol(token, orchestrator.request("cell-twice"))
    with pytest.raises(GrafosError):
        orchestrator.enrol("no token", orchestrator.request("cell-twice"))
    with orchestrator.client(operator) as client:
        page = client.audit(AuditQuery(cell_id="cell-twice"))
        anybody = client.audit(AuditQuery(kind="EnrolmentRefused")).records
    assert [record.kind for record in page.records] == ["BootstrapMinted", "CellEnrolled", "EnrolmentRefused"]
    assert [record.by for record in page.records] == ["operator/ada", "cell/cell-twice", "scheduler"]
    refused = page.records[-1].details
    assert (refused["from"], refused["code"]) == ("127.0.0.1", "enrolment_refused")
    assert "used already" in refused["why"]
    assert [record.subject for record in anybody] == ["cell-twice", ""]
