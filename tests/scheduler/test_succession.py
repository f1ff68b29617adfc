"""What of the operator before stands when another home has got in again, and what goes: the rule alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from desk import ORCHESTRATOR, Desk

from grafos_core.audit_chain import AuditRecord
from grafos_core.errors import GrafosError
from grafos_scheduler import events, rows, standing, succession, tenant_events
from grafos_scheduler.authorize import Caller
from grafos_scheduler.enrolment_messages import ExpectedCell
from grafos_scheduler.handlers import check_standing


def refused(action: Callable[[], object], code: str) -> None:
    with pytest.raises(GrafosError) as caught:
        action()
    assert caught.value.code == code, caught.value
    assert caught.value.next


def invitation_for(desk: Desk, name: str) -> rows.Invitation:
    made = desk.tell(tenant_events.PersonInvited("acme", name, 60.0, "op")).answer
    assert isinstance(made, rows.Invitation)
    return made


def test_people_who_were_invited_stay_and_what_the_operator_made_goes() -> None:
    desk = Desk(ORCHESTRATOR)
    desk.tell(tenant_events.TenantAdmitted("acme", None, 5, "made-by-the-operator"))
    desk.tell(tenant_events.SignInAsked(invitation_for(desk, "bea").token_id, "key-of-bea"))
    desk.tell(events.OperatorReplaced("op", "new-key"))
    assert desk.state.tenants["acme"].keys == ("key-of-bea",)
    succession.check_key(desk.state, "tenant", "key-of-bea")
    succession.check_key(desk.state, "operator", "new-key")
    for kind, key in (("operator", "operator-key"), ("tenant", "made-by-the-operator")):
        refused(lambda kind=kind, key=key: succession.check_key(desk.state, kind, key), "operator_replaced")
    assert desk.tell(events.OperatorReplaced("op", "new-key")).batch == ()
    desk.tell(events.OperatorReplaced("op", "operator-key"))
    succession.check_key(desk.state, "operator", "operator-key")


def test_at_a_regained_cell_no_key_of_before_speaks_for_a_tenant_however_many_there_were() -> None:
    desk = Desk()
    names = [f"tenant-{number}" for number in range(succession.PUT_OUT_KEYS_MAX)]  # and the operator's key
    for name in names:
        desk.give_slice(f"slice-{name}", 5, name, key=f"key-of-{name}")
    desk.tell(events.OperatorReplaced("op", "new-key"))
    refused(lambda: check_tenant(desk, names[0]), "certificate_refused")
    for name in names[1:]:
        refused(lambda name=name: check_tenant(desk, name), "operator_replaced")
    desk.give_slice("slice-fresh", 5, names[0], key="key-of-the-new-home")
    check_tenant(desk, names[0], "key-of-the-new-home")


def check_tenant(desk: Desk, name: str, key: str = "") -> None:
    check_standing(desk.state, Caller("tenant", name, "", key or f"key-of-{name}", desk.now + 60))


def test_what_the_operator_before_had_handed_out_and_nobody_used_is_worth_nothing() -> None:
    """The home before may be a thief's: what lies in it must let nobody in."""
    desk = Desk(ORCHESTRATOR)
    desk.tell(tenant_events.TenantAdmitted("acme", None, 5, "made-by-the-operator"))
    used, unused = (invitation_for(desk, name) for name in ("bea", "carl"))
    desk.tell(tenant_events.SignInAsked(used.token_id, "key-of-bea"))
    of_one, of_another = desk.mint("aws-1"), desk.mint("aws-2")
    expected = desk.tell(events.BootstrapAsked(ExpectedCell("aws", "aws-3", "here", 5, account="1"), "op")).answer
    assert isinstance(expected, rows.Enrolment)
    desk.enrol(of_one)
    desk.register("aws-1")
    desk.tell(events.TrialOpened("aws-1", "acme", 600.0))
    told = desk.tell(events.OperatorReplaced("op", "new-key"))
    [details] = [change.row.details for change in told.batch if isinstance(change.row, AuditRecord)]
    assert (details["invitations"], details["bootstrap_tokens"]) == (1, 2)
    refused(lambda: desk.tell(tenant_events.SignInAsked(unused.token_id, "key-of-carl")), "invitation_refused")
    refused(lambda: desk.enrol(of_another), "enrolment_refused")
    refused(lambda: desk.tell(events.ExpectedMachineNamed(expected.token_id, "i-1")), "not_found")
    assert not standing.is_on_trial(desk.state, "aws-1", "acme", desk.now)
    assert desk.tell(tenant_events.SignInAsked(used.token_id, "key-of-bea")).answer is not None
    assert desk.state.identities["aws-1"].key_sha256 == "key-of-aws-1"
