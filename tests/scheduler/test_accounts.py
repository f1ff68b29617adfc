"""The rules of an orchestrator's tenants and their keys: who makes room for whom, and what goes with whom."""

from __future__ import annotations

from typing import Any

import pytest
from desk import ORCHESTRATOR, Desk
from msgspec.structs import replace

from grafos_core.audit_chain import AuditRecord
from grafos_core.changes import Change
from grafos_core.errors import GrafosError
from grafos_core.receipts import Signed
from grafos_core.tiers import Tier
from grafos_scheduler import events, order_check, rows, tenant_events, tenants
from grafos_scheduler.messages import TenantView


def join(desk: Desk, name: str) -> None:
    invitation = desk.tell(tenant_events.PersonInvited("acme", name, 60.0, "op")).answer
    assert isinstance(invitation, rows.Invitation)
    desk.tell(tenant_events.SignInAsked(invitation.token_id, f"key-of-{name}"))


def without_keys() -> Desk:
    """An orchestrator whose tenant "acme" has no key: what its operator had made went with that operator."""
    desk = Desk(ORCHESTRATOR)
    desk.tell(tenant_events.TenantAdmitted("acme", None, 5, "made-first"))
    desk.tell(events.OperatorReplaced("op", "another-operator"))
    return desk


def test_one_more_key_of_the_operators_puts_out_the_oldest_that_an_operator_made_and_no_person() -> None:
    desk = without_keys()
    people = [f"p{number}" for number in range(tenants.KEYS_PER_TENANT_MAX - 2)]
    join(desk, people[0])
    for key in ("made-second", "made-third"):
        desk.tell(tenant_events.TenantAdmitted("acme", None, None, key))
    for name in people[1:]:
        join(desk, name)
    desk.tell(tenant_events.SigningKeyRegistered("acme", "made-second", "a-signing-key", Signed("", b"", b"")))
    told = desk.tell(tenant_events.TenantAdmitted("acme", None, None, "made-fourth"))
    keys = desk.state.tenants["acme"].keys
    assert keys == ("key-of-p0", "made-third", *(f"key-of-{name}" for name in people[1:]), "made-fourth")
    assert "made-second" not in desk.state.people
    [details] = [change.row.details for change in told.batch if isinstance(change.row, AuditRecord)]
    assert details["put_out_key_sha256"] == "made-second"


def test_where_all_keys_are_peoples_one_more_is_refused_and_nobody_is_put_out() -> None:
    desk = without_keys()
    for number in range(tenants.KEYS_PER_TENANT_MAX):
        join(desk, f"p{number}")
    before = desk.state.tenants["acme"]
    with pytest.raises(GrafosError) as caught:
        desk.tell(tenant_events.TenantAdmitted("acme", None, None, "made-second"))
    assert caught.value.code == "limit_exceeded"
    assert desk.state.tenants["acme"] == before
    desk.tell(tenant_events.TenantAdmitted("acme", None, 7, "key-of-p0"))
    assert desk.state.tenants["acme"] == before


def signed_up(desk: Desk) -> None:
    """A tenant "acme", of which only bea is there and has registered a signing key."""
    join(desk, "bea")
    desk.tell(tenant_events.SigningKeyRegistered("acme", "key-of-bea", "a-signing-key", Signed("", b"", b"")))


def check_unsigned(desk: Desk) -> None:
    assert order_check.check_order(desk.state, "acme", "made-second", desk.request(), desk.now) is None


def changed(desk: Desk, **rules: Any) -> TenantView:
    view = desk.tell(tenant_events.TenantChanged("acme", **rules)).answer
    assert isinstance(view, TenantView)
    return view


@pytest.mark.parametrize(
    "gone",
    [tenant_events.PersonRemoved("acme", "bea"), events.OperatorReplaced("op", "a-third-operator")],
    ids=["the last signer is put out", "another home is the operator"],
)
def test_a_tenant_whose_last_signer_has_gone_still_runs_nothing_unsigned(gone: events.Event) -> None:
    desk = without_keys()
    desk.tell(tenant_events.TenantAdmitted("acme", None, None, "made-second"))
    check_unsigned(desk)
    signed_up(desk)
    desk.tell(gone)
    desk.restart()
    with pytest.raises(GrafosError) as caught:
        check_unsigned(desk)
    assert caught.value.code == "order_refused"
    assert changed(desk).signed


GOING = {
    "a signer is put out": [tenant_events.PersonRemoved("acme", "bea")],
    "the signing key that an operator made gives way": [
        tenant_events.TenantAdmitted("acme", None, None, f"made-{number}")
        for number in range(tenants.KEYS_PER_TENANT_MAX)
    ],
    "another home is the operator": [events.OperatorReplaced("op", "a-third-operator")],
}


def signed_before(desk: Desk, key: str, invited_by: str) -> None:
    """Whoever has the key registered a signing key, at a version that put nothing down of it with the tenant."""
    tenant = desk.state.tenants["acme"]
    person = rows.Person(key, "acme", "bea", since=desk.now, invited_by=invited_by, signing_key_pem="a-signing-key")
    known = replace(tenant, keys=(*tenant.keys, key), signs_since=None)
    desk.state.apply((Change(rows.PERSON, key, person), Change(rows.TENANT, "acme", known)))


@pytest.mark.parametrize("going", GOING.values(), ids=GOING)
def test_a_tenant_that_signed_before_it_was_put_down_with_it_goes_on_signing(going: list[events.Event]) -> None:
    desk = without_keys()
    signed_before(desk, "key-of-bea", "op" if isinstance(going[0], tenant_events.PersonRemoved) else "")
    for event in going:
        desk.tell(event)
    assert "key-of-bea" not in desk.state.people
    with pytest.raises(GrafosError) as caught:
        check_unsigned(desk)
    assert caught.value.code == "order_refused"
    assert not changed(desk, signed=False).signed
    check_unsigned(desk)


def test_what_an_operator_lifted_is_not_put_down_again_when_the_last_signer_goes() -> None:
    desk = without_keys()
    signed_before(desk, "key-of-bea", "op")
    assert changed(desk, signed=False).signed
    desk.tell(tenant_events.PersonRemoved("acme", "bea"))
    check_unsigned(desk)


def rules_noted(desk: Desk, event: events.Event) -> tuple[Any, Any]:
    """What the audit log says of a tenant's signing."""
    [details] = [change.row.details for change in desk.tell(event).batch if isinstance(change.row, AuditRecord)]
    return details["signed"], details["signed_rule"]


def test_the_audit_log_says_of_signing_what_holds_and_what_an_operator_said() -> None:
    desk = without_keys()
    signed_before(desk, "key-of-bea", "op")
    assert rules_noted(desk, tenant_events.TenantChanged("acme", highest_tier=Tier.STANDARD)) == ("yes", "unsaid")
    assert rules_noted(desk, tenant_events.TenantChanged("acme", signed=False)) == ("yes", "lifted")
    desk.tell(tenant_events.PersonRemoved("acme", "bea"))
    assert rules_noted(desk, tenant_events.TenantChanged("acme", highest_tier=Tier.SCAVENGER)) == ("no", "lifted")
    assert rules_noted(desk, tenant_events.TenantChanged("acme", signed=True)) == ("yes", "set")


def test_an_operator_says_whether_runs_are_signed_and_who_signs_keeps_it_so() -> None:
    desk = without_keys()
    assert changed(desk, signed=True).signed
    assert changed(desk, signed=True).signed
    assert not changed(desk, signed=False).signed
    check_unsigned(desk)
    signed_up(desk)
    assert changed(desk, signed=False).signed
    with pytest.raises(GrafosError):
        check_unsigned(desk)
    desk.tell(tenant_events.PersonRemoved("acme", "bea"))
    check_unsigned(desk)


def test_a_tenants_runs_are_of_no_tier_above_its_highest() -> None:
    desk = without_keys()
    desk.tell(tenant_events.TenantAdmitted("ada", None, 5_000, "key-of-ada"))
    desk.enrol(desk.mint("aws-1"))
    desk.add_cell("aws-1")
    assert desk.tell(tenant_events.TenantChanged("ada", highest_tier=Tier.STANDARD)).batch
    assert not desk.tell(tenant_events.TenantChanged("ada", highest_tier=Tier.STANDARD)).batch
    with pytest.raises(GrafosError) as caught:
        desk.ask("ada", tier=Tier.GUARANTEED)
    assert (caught.value.code, "ask for standard" in caught.value.next) == ("quota_exceeded", True)
    desk.restart()
    desk.dial("aws-1", boot_epoch=2)
    for number, tier in enumerate((Tier.STANDARD, Tier.SCAVENGER)):
        assert desk.ask("ada", tier=tier, run_key=f"the-key-of-run-{number}", deadline_s=1.0).cell_id == "aws-1"
