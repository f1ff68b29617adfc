"""A bootstrap token makes one cell of one key, once; and what was given for it can be taken back."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from desk import MIB, ORCHESTRATOR, RATE, Desk

from grafos_core.errors import GrafosError
from grafos_core.resources import Resources
from grafos_scheduler import enrolment, events, frames, leases, messages, providers, rows, runs, single_use
from grafos_scheduler.cells import readiness, unmet


@pytest.fixture
def desk() -> Desk:
    return Desk(ORCHESTRATOR)


def refused(action: object, *args: object, **kwargs: object) -> GrafosError:
    with pytest.raises(GrafosError) as caught:
        action(*args, **kwargs)  # type: ignore[operator]
    return caught.value


def register(desk: Desk, cell_id: str, key: str = "", provider: str = "aws", **total: int) -> None:
    has = Resources(**{"cpu_cores": 2, "mem_bytes": 2 * MIB, **total})
    said = messages.CellRegistration(cell_id, provider, "elsewhere", "1", has)
    desk.tell(events.CellRegistered(said, key or f"key-of-{cell_id}"))


def join(desk: Desk, cell_id: str = "cell-1", **asked: object) -> None:
    """A cell that enrolled, registered and dialled."""
    desk.enrol(desk.mint(cell_id, **asked))
    register(desk, cell_id, provider=str(asked.get("provider", "aws")))
    desk.dial(cell_id)


def revoke(desk: Desk, cell_id: str = "cell-1", grace_s: float = 0.0) -> object:
    return desk.tell(events.CellRevokeAsked(cell_id, grace_s, "it was stolen")).answer


# --- the token ----------------------------------------------------------------------------------------------------


def test_a_token_has_what_the_operator_said_of_the_cell(desk: Desk) -> None:
    token = desk.mint("cell-1", expires_at=desk.now + 60, valid_s=30.0)
    assert (token.provider, token.cell_id, token.region, token.asked_by) == ("aws", "cell-1", "here", "op")
    assert (token.valid_until, token.expires_at) == (desk.now + 30, desk.now + 60)
    assert re.fullmatch("[0-9a-f]{32}", token.token_id)
    assert desk.mint("cell-1").token_id != token.token_id


def test_the_first_use_binds_the_cell_to_the_key_at_the_tokens_price(desk: Desk) -> None:
    token = desk.mint("cell-1", expires_at=desk.now + 60)
    identity = desk.enrol(token, "a-key")
    assert (identity.cell_id, identity.provider, identity.key_sha256) == ("cell-1", "aws", "a-key")
    assert desk.state.terms["cell-1"] == rows.Terms("cell-1", RATE, desk.now + 60)


def test_the_same_key_may_use_the_token_again_until_it_has_registered(desk: Desk) -> None:
    token = desk.mint("cell-1")
    assert desk.enrol(token) == desk.enrol(token)
    register(desk, "cell-1")
    assert refused(desk.enrol, token).code == "enrolment_refused"


def test_a_second_key_never_gets_in_with_the_same_token(desk: Desk) -> None:
    token = desk.mint("cell-1")
    desk.enrol(token, "a-key")
    assert refused(desk.enrol, token, "another-key").code == "enrolment_refused"
    desk.restart()
    assert refused(desk.enrol, token, "another-key").code == "enrolment_refused"


def test_a_token_that_lapsed_opens_nothing_not_even_for_the_key_that_used_it(desk: Desk) -> None:
    token, used = desk.mint("cell-1", valid_s=30.0), desk.mint("cell-2", valid_s=30.0)
    desk.enrol(used)
    desk.wait(30)
    assert refused(desk.enrol, token).code == "enrolment_expired"
    assert refused(desk.enrol, used).code == "enrolment_expired"


def test_a_token_is_forgotten_a_while_after_it_lapsed_and_stays_worthless(desk: Desk) -> None:
    token = desk.mint("cell-1", valid_s=30.0)
    desk.clock.advance(30.0 + single_use.KEPT_S)
    desk.tell(events.Tick())
    assert desk.state.enrolments == {}
    assert refused(desk.enrol, token).code == "enrolment_refused"


def test_there_are_never_more_tokens_than_the_limit(desk: Desk) -> None:
    spare = desk.mint("cell-1")
    desk.state.enrolments.update({f"{n:032x}": spare for n in range(enrolment.OPEN_MAX)})
    assert refused(desk.mint, "cell-2").code == "limit_exceeded"


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"cell_id": "cell-1", "provider": "local"}, "enrolment_refused"),
        ({"cell_id": "orchestrator"}, "enrolment_refused"),
        ({"cell_id": "known", "provider": "gcp"}, "enrolment_refused"),
        ({"cell_id": "cell-1", "expires_at": 1.0}, "request_invalid"),
    ],
    ids=["no provider of ours", "our own name", "a cell of another provider", "an end in the past"],
)
def test_no_token_is_made_for_a_cell_that_could_not_be(desk: Desk, asked: dict[str, object], code: str) -> None:
    desk.enrol(desk.mint("known"))
    assert refused(desk.mint, **asked).code == code


# --- the identity -------------------------------------------------------------------------------------------------


def test_a_cell_that_did_not_enrol_is_nobody(desk: Desk) -> None:
    assert refused(register, desk, "cell-1").code == "certificate_refused"


def test_a_clone_with_a_key_of_its_own_is_not_the_cell(desk: Desk) -> None:
    join(desk)
    assert refused(register, desk, "cell-1", "another-key").code == "certificate_refused"
    hello = frames.Hello("cell-1", 9, "1")
    assert refused(desk.tell, events.LinkOpened(9, hello, "another-key")).code == "certificate_refused"


def test_of_two_machines_with_one_key_the_older_start_is_turned_away(desk: Desk) -> None:
    join(desk)
    desk.dial("cell-1", boot_epoch=5)
    assert refused(desk.dial, "cell-1", boot_epoch=4).code == "generation_stale"


def test_of_two_copies_of_one_disk_the_second_to_come_is_turned_away_until_it_starts_anew(desk: Desk) -> None:
    join(desk)
    desk.dial("cell-1", boot_epoch=5, instance="one")
    desk.dial("cell-1", boot_epoch=5, instance="one")
    assert refused(desk.dial, "cell-1", boot_epoch=5, instance="two").code == "generation_stale"
    register(desk, "cell-1")
    desk.restart()
    assert refused(desk.dial, "cell-1", boot_epoch=5, instance="two").code == "generation_stale"
    # Then it is the newer one, and the older is out for good.
    desk.dial("cell-1", boot_epoch=6, instance="two")
    assert refused(desk.dial, "cell-1", boot_epoch=5, instance="one").code == "generation_stale"


def test_a_living_cells_place_is_not_taken_with_a_fresh_token(desk: Desk) -> None:
    join(desk)
    error = refused(desk.enrol, desk.mint("cell-1"), "another-key")
    assert (error.code, "revoke" in error.next) == ("enrolment_refused", True)


def test_a_cell_that_never_registered_makes_room_for_the_next_machine(desk: Desk) -> None:
    """The first machine was torn down before it got that far; its token, and its certificate, are worth nothing."""
    first = desk.mint("cell-1")
    desk.enrol(first, "key-of-the-first")
    desk.enrol(desk.mint("cell-1"), "key-of-the-second")
    register(desk, "cell-1", "key-of-the-second")
    assert refused(register, desk, "cell-1", "key-of-the-first").code == "certificate_refused"
    assert refused(desk.enrol, first, "key-of-the-first").code == "enrolment_refused"


def test_a_cell_whose_certificate_ran_out_enrols_again_with_its_own_key(desk: Desk) -> None:
    join(desk)
    registered_at = desk.state.cells["cell-1"].registered_at
    desk.wait(5)
    again = desk.mint("cell-1")
    desk.enrol(again)
    # Until it has registered again nobody else takes the place either.
    assert refused(desk.enrol, desk.mint("cell-1"), "another-key").code == "enrolment_refused"
    register(desk, "cell-1")
    assert desk.state.cells["cell-1"].registered_at == registered_at
    assert refused(desk.enrol, again).code == "enrolment_refused"


def test_the_region_is_the_tokens_whatever_the_cell_says(desk: Desk) -> None:
    join(desk)
    assert desk.state.cells["cell-1"].region == "here"


# --- inventory ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", Resources.__struct_fields__)
def test_a_cell_that_tells_of_more_than_any_machine_has_is_refused(desk: Desk, kind: str) -> None:
    desk.enrol(desk.mint("cell-1"))
    most = getattr(enrolment.TOTAL_MAX, kind)
    assert refused(register, desk, "cell-1", **{kind: most + 1}).code == "limit_exceeded"
    register(desk, "cell-1", **{kind: most})


def test_a_cell_does_not_grow_while_leases_stand_on_it(desk: Desk) -> None:
    join(desk)
    run = desk.start()
    register(desk, "cell-1", cpu_cores=64, gpu_count=8)
    assert desk.state.cells["cell-1"].total == Resources(cpu_cores=2, mem_bytes=2 * MIB)
    desk.report(run)
    desk.tear_down(run)
    register(desk, "cell-1", cpu_cores=64, gpu_count=8)
    assert desk.state.cells["cell-1"].total == Resources(cpu_cores=64, mem_bytes=2 * MIB, gpu_count=8)


def test_a_cell_without_a_core_is_not_ready(desk: Desk) -> None:
    desk.enrol(desk.mint("cell-1"))
    register(desk, "cell-1", cpu_cores=0)
    desk.dial("cell-1")
    assert list(unmet(readiness(desk.state, desk.state.cells["cell-1"], desk.now))) == ["inventory_reported"]


# --- revocation ---------------------------------------------------------------------------------------------------


def test_an_idle_cell_is_revoked_at_once_and_hears_it(desk: Desk) -> None:
    join(desk)
    revoke(desk, grace_s=30.0)
    [goodbye] = desk.frames(frames.Goodbye)
    assert (goodbye.code, "it was stolen" in goodbye.what) == ("cell_revoked", True)
    assert desk.state.link_of("cell-1") == 0
    assert desk.state.identities["cell-1"].revoked_at == desk.now
    assert refused(register, desk, "cell-1").code == "cell_revoked"
    assert refused(desk.dial, "cell-1", boot_epoch=2).code == "cell_revoked"


def test_a_run_may_end_within_the_grace_and_then_the_cell_goes(desk: Desk) -> None:
    join(desk)
    run = desk.start()
    view = revoke(desk, grace_s=30.0)
    assert (view.running, view.revoked_at) == (1, 0.0)
    assert desk.frames(frames.RevokeLease)
    assert desk.state.draining("cell-1")
    desk.report(run)
    desk.tear_down(desk.state.runs[run.run_id])
    desk.tell(events.Tick())
    assert desk.frames(frames.Goodbye)
    assert desk.state.runs[run.run_id].state == runs.FINISHED
    assert desk.state.identities["cell-1"].revoked_at == desk.now


def test_a_run_that_outlasts_the_grace_fails_and_costs_nothing(desk: Desk) -> None:
    join(desk)
    run = desk.start()
    revoke(desk, grace_s=10.0)
    desk.wait(10, "cell-1")
    ended = desk.state.runs[run.run_id]
    assert (ended.state, ended.code, ended.cost_micro_cents) == (runs.FAILED, "cell_revoked", 0)
    assert desk.state.leases == {}
    assert desk.state.ledger.account("slice-1").held_micro_cents == 0
    assert desk.state.leased_by_tenant.get("ada", Resources()) == Resources()


def test_with_no_grace_a_running_cell_goes_in_the_same_moment(desk: Desk) -> None:
    join(desk)
    run = desk.start()
    revoke(desk)
    assert desk.state.runs[run.run_id].code == "cell_revoked"
    assert desk.frames(frames.Goodbye)


def test_a_fenced_lease_goes_with_its_cell(desk: Desk) -> None:
    join(desk)
    run = desk.start()
    desk.report(run)
    desk.tear_down(run, fenced=True)
    assert {lease.state for lease in desk.state.leases.values()} == {leases.FENCED}
    revoke(desk)
    assert desk.state.leases == {}


def test_asked_again_the_end_comes_sooner_and_never_later(desk: Desk) -> None:
    join(desk)
    desk.start()
    revoke(desk, grace_s=60.0)
    assert revoke(desk, grace_s=600.0).revoke_at == desk.now + 60.0
    assert revoke(desk, grace_s=5.0).revoke_at == desk.now + 5.0
    revoke(desk)
    assert desk.state.identities["cell-1"].revoked_at == desk.now
    assert revoke(desk).revoked_at == desk.now


def test_a_revocation_under_way_is_carried_on_after_a_restart(desk: Desk) -> None:
    join(desk)
    desk.start()
    revoke(desk, grace_s=10.0)
    desk.restart()
    desk.clock.advance(10.0)
    desk.tell(events.Tick())
    assert desk.state.identities["cell-1"].revoked_at == desk.now


def test_the_word_of_a_revoked_cell_counts_no_more(desk: Desk) -> None:
    join(desk)
    link_id = desk.state.link_of("cell-1")
    run = desk.start()
    revoke(desk)
    before = desk.state.runs[run.run_id]
    desk.say("cell-1", frames.RunStarted(run.run_id), link_id)
    desk.say("cell-1", frames.Heartbeat(Resources(), fenced=()), link_id)
    assert desk.state.runs[run.run_id] == before
    assert desk.frames(frames.Welcome) == []


def test_a_revoked_cell_id_enrols_again_only_with_a_new_key_and_a_token_of_later(desk: Desk) -> None:
    join(desk)
    early = desk.mint("cell-1")
    desk.wait(1, "cell-1")
    revoke(desk)
    desk.wait(1)
    assert refused(desk.enrol, early, "new-key").code == "enrolment_refused"
    late = desk.mint("cell-1")
    assert refused(desk.enrol, late).code == "enrolment_refused"
    desk.enrol(late, "new-key")
    register(desk, "cell-1", "new-key")
    assert not desk.state.draining("cell-1")
    assert desk.state.cells["cell-1"].boot_epoch == 0
    assert refused(register, desk, "cell-1").code == "cell_revoked"


def test_a_revoked_key_is_worth_nothing_for_another_cell_either(desk: Desk) -> None:
    join(desk)
    revoke(desk)
    assert refused(desk.enrol, desk.mint("cell-2"), "key-of-cell-1").code == "enrolment_refused"


def test_one_key_is_never_two_cells(desk: Desk) -> None:
    """Else the revocation of one would leave the other with a key that is worth nothing, and a link that is open."""
    join(desk)
    assert refused(desk.enrol, desk.mint("cell-2"), "key-of-cell-1").code == "enrolment_refused"
    desk.restart()
    assert refused(desk.enrol, desk.mint("cell-2"), "key-of-cell-1").code == "enrolment_refused"


def test_nobody_enrols_as_a_cell_that_is_being_revoked(desk: Desk) -> None:
    join(desk)
    desk.start()
    revoke(desk, grace_s=60.0)
    assert refused(desk.enrol, desk.mint("cell-1"), "new-key").code == "enrolment_refused"
    assert refused(desk.enrol, desk.mint("cell-1")).code == "enrolment_refused"


def test_a_cell_that_never_enrolled_cannot_be_revoked(desk: Desk) -> None:
    assert refused(revoke, desk, "cell-9").code == "cell_unknown"


# --- providers ----------------------------------------------------------------------------------------------------


def test_a_provider_is_ready_with_one_ready_cell_and_tells_what_the_others_lack(desk: Desk) -> None:
    join(desk, "aws-1")
    desk.enrol(desk.mint("aws-2"))
    join(desk, "gcp-1", provider="gcp")
    revoke(desk, "gcp-1")
    assert providers.known(desk.state) == ["aws", "azure", "gcp"]
    aws, azure, gcp = (providers.view(desk.state, name, desk.now) for name in providers.known(desk.state))
    assert (aws.ready, aws.cells, aws.ready_cells) == (True, 2, 1)
    assert set(aws.unmet["aws-2"]) == {"healthy_cell", "inventory_reported", "outbound_registered"}
    assert (azure.ready, azure.cells, azure.unmet) == (False, 0, {})
    assert (gcp.ready, gcp.cells) == (False, 0)


def test_a_provider_that_was_disabled_is_still_shown_with_its_cells_reason(desk: Desk) -> None:
    join(desk)
    desk.settings = replace(ORCHESTRATOR, providers=frozenset({"gcp"}))
    desk.restart()
    view = providers.view(desk.state, "aws", desk.now)
    assert (view.enabled, view.ready) == (False, False)
    assert "code_enabled" in view.unmet["cell-1"]
