"""The rules of an orchestrator's tenants and their keys: who makes room for whom, and what goes with whom."""

from __future__ import annotations

import pytest
from desk import ORCHESTRATOR, Desk

from grafos_core.audit_chain import AuditRecord
from grafos_core.errors import GrafosError
from grafos_core.receipts import Signed
from grafos_scheduler import accounts, events, rows


def join(desk: Desk, name: str) -> None:
    invitation = desk.tell(events.PersonInvited("acme", name, 60.0, "op")).answer
    assert isinstance(invitation, rows.Invitation)
    desk.tell(events.SignInAsked(invitation.token_id, f"key-of-{name}"))


def without_keys() -> Desk:
    """An orchestrator whose tenant "acme" has no key: what its operator had made went with that operator."""
    desk = Desk(ORCHESTRATOR)
    desk.tell(events.TenantAdmitted("acme", None, 5, "made-first"))
    desk.tell(events.OperatorReplaced("op", "another-operator"))
    return desk


def test_one_more_key_of_the_operators_puts_out_the_oldest_that_an_operator_made_and_no_person() -> None:
    desk = without_keys()
    people = [f"p{number}" for number in range(accounts.KEYS_MAX - 2)]
    join(desk, people[0])
    for key in ("made-second", "made-third"):
        desk.tell(events.TenantAdmitted("acme", None, None, key))
    for name in people[1:]:
        join(desk, name)
    desk.tell(events.SigningKeyRegistered("acme", "made-second", "a-signing-key", Signed("", b"", b"")))
    told = desk.tell(events.TenantAdmitted("acme", None, None, "made-fourth"))
    keys = desk.state.tenants["acme"].keys
    assert keys == ("key-of-p0", "made-third", *(f"key-of-{name}" for name in people[1:]), "made-fourth")
    assert "made-second" not in desk.state.people
    [details] = [change.row.details for change in told.batch if isinstance(change.row, AuditRecord)]
    assert details["put_out_key_sha256"] == "made-second"


def test_where_all_keys_are_peoples_one_more_is_refused_and_nobody_is_put_out() -> None:
    desk = without_keys()
    for number in range(accounts.KEYS_MAX):
        join(desk, f"p{number}")
    before = desk.state.tenants["acme"]
    with pytest.raises(GrafosError) as caught:
        desk.tell(events.TenantAdmitted("acme", None, None, "made-second"))
    assert caught.value.code == "limit_exceeded"
    assert desk.state.tenants["acme"] == before
    desk.tell(events.TenantAdmitted("acme", None, 7, "key-of-p0"))
    assert desk.state.tenants["acme"] == before
