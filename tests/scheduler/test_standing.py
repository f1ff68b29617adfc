"""Conformance where a provider is in production, faults that a cell was caught at, and trials."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from desk import ORCHESTRATOR, Desk

from grafos_core.audit_chain import AuditKind, AuditRecord
from grafos_core.errors import GrafosError
from grafos_core.resources import Resources
from grafos_scheduler import cells, events, frames, messages, providers, rows, runs, standing, views

PASSED = messages.Conformance("7", 100)
FAILED = messages.Conformance("7", 100, ("a", "b", "c", "d"))
NOT_RUN = "provider aws is marked as one for production, and the conformance suite was not run on the cell"


def a_desk() -> Desk:
    """An orchestrator with one cell that enrolled and is ready."""
    desk = Desk(ORCHESTRATOR)
    desk.enrol(desk.mint("cell-1"))
    desk.add_cell()
    return desk


def mark(desk: Desk, *, production: bool = True) -> None:
    desk.tell(events.ProviderMarked("aws", production, "op"))


def report(desk: Desk, said: messages.Conformance) -> None:
    """The suite is run on the cell as it is, and says this."""
    desk.tell(events.TrialOpened("cell-1", "ada", 60.0))
    report_of_trial(desk, said)


def report_of_trial(desk: Desk, said: messages.Conformance) -> None:
    desk.tell(events.ConformanceReported("cell-1", said, "op"))


def unmet(desk: Desk) -> dict[str, str]:
    return cells.unmet(cells.readiness(desk.state, desk.state.cells["cell-1"], desk.now))


def noted(desk: Desk, kind: AuditKind) -> list[AuditRecord]:
    return [row for _, _, row in desk.memory.load() if isinstance(row, AuditRecord) and row.kind == kind]


def refused(desk: Desk, **asked: Any) -> str:
    with pytest.raises(GrafosError) as refusal:
        desk.ask(run_key=f"key-of-refused-run-{len(desk.state.runs)}", **asked)
    return refusal.value.code


# --- conformance --------------------------------------------------------------------------------------------------


def test_without_the_mark_nobody_asks_for_the_suite() -> None:
    desk = a_desk()
    assert unmet(desk) == {}
    assert desk.ask().cell_id == "cell-1"


def test_in_production_a_cell_is_ready_once_it_conforms_and_not_before() -> None:
    desk = a_desk()
    mark(desk)
    assert unmet(desk) == {"code_enabled": NOT_RUN}
    assert refused(desk) == "no_eligible_provider_cells"
    assert providers.view(desk.state, "aws", desk.now).production
    report(desk, FAILED)
    assert unmet(desk)["code_enabled"].endswith("the conformance suite failed in 4 of 100 cases (a, b, c)")
    report(desk, PASSED)
    assert unmet(desk) == {}
    assert desk.ask().cell_id == "cell-1"


def test_what_was_recorded_has_its_day_its_version_and_that_of_the_cell() -> None:
    desk = a_desk()
    report(desk, PASSED)
    shown = views.cell_view(desk.state, desk.state.cells["cell-1"], desk.now).conformance
    assert shown == messages.Conformance("7", 100, (), "1", desk.now)
    desk.restart()
    assert views.cell_view(desk.state, desk.state.cells["cell-1"], desk.now).conformance == shown
    [record] = noted(desk, AuditKind.CONFORMANCE_RECORDED)
    assert (record.by, record.details) == ("operator/op", {"suite": "7", "cases": 100, "wrong": 0})


def test_it_holds_of_that_software_alone() -> None:
    desk = a_desk()
    mark(desk)
    report(desk, PASSED)
    total = Resources(cpu_cores=2, mem_bytes=2 << 20)
    updated = messages.CellRegistration("cell-1", "aws", "here", "2", total)
    desk.tell(events.CellRegistered(updated, "key-of-cell-1"))
    assert unmet(desk)["code_enabled"].endswith("passed on version 1 of its software, which is 2 now")
    assert refused(desk) == "no_eligible_provider_cells"


def test_it_holds_of_that_key_alone() -> None:
    desk = a_desk()
    mark(desk)
    report(desk, PASSED)
    desk.tell(events.CellRevokeAsked("cell-1", 0.0, "a test"))
    desk.clock.advance(1.0)
    desk.enrol(desk.mint("cell-1"), "another-key")
    registration = messages.CellRegistration("cell-1", "aws", "here", "1", Resources(cpu_cores=2))
    desk.tell(events.CellRegistered(registration, "another-key"))
    assert unmet(desk)["code_enabled"] == NOT_RUN


def test_marking_twice_is_marking_once_and_the_mark_can_be_taken_away() -> None:
    desk = a_desk()
    for production in (True, True, False, False):
        mark(desk, production=production)
    assert [record.details["production"] for record in noted(desk, AuditKind.PROVIDER_MARKED)] == ["yes", "no"]
    assert unmet(desk) == {}
    assert desk.ask().cell_id == "cell-1"


def test_of_a_cell_that_never_registered_nothing_is_recorded() -> None:
    desk = a_desk()
    for event in (
        events.ConformanceReported("cell-9", PASSED, "op"),
        events.TrialOpened("cell-9", "ada", 60.0),
    ):
        with pytest.raises(GrafosError) as refusal:
            desk.tell(event)
        assert refusal.value.code == "cell_unknown"


# --- trials -------------------------------------------------------------------------------------------------------


def test_on_trial_one_tenant_runs_on_the_cell_that_it_names_and_nobody_else_does() -> None:
    desk = a_desk()
    mark(desk)
    desk.give_slice("slice-eve", 1_000_000_000, tenant="eve")
    desk.tell(events.TrialOpened("cell-1", "ada", 60.0))
    assert refused(desk) == "no_eligible_provider_cells", "which names no cell"
    assert refused(desk, tenant="eve", cell_id="cell-1") == "no_eligible_provider_cells"
    assert desk.ask(cell_id="cell-1").cell_id == "cell-1"
    desk.wait(61, "cell-1")
    assert refused(desk, cell_id="cell-1") == "no_eligible_provider_cells"


def test_a_trial_ends_with_its_report_and_is_of_a_tenant_that_there_is() -> None:
    desk = a_desk()
    mark(desk)
    with pytest.raises(GrafosError) as refusal:
        desk.tell(events.TrialOpened("cell-1", "nobody", 60.0))
    assert refusal.value.code == "tenant_unknown"
    desk.tell(events.TrialOpened("cell-1", "ada", 60.0))
    report_of_trial(desk, FAILED)
    assert refused(desk, cell_id="cell-1") == "no_eligible_provider_cells"


def updated(desk: Desk) -> None:
    registration = messages.CellRegistration("cell-1", "aws", "here", "2", desk.state.cells["cell-1"].total)
    desk.tell(events.CellRegistered(registration, "key-of-cell-1"))


@pytest.mark.parametrize(
    "happens", [updated, Desk.restart], ids=["the cell is updated", "the orchestrator starts anew"]
)
def test_what_the_suite_says_is_of_the_software_that_it_was_begun_on_or_of_none(
    happens: Callable[[Desk], None],
) -> None:
    desk = a_desk()
    mark(desk)
    desk.tell(events.TrialOpened("cell-1", "ada", 60.0))
    happens(desk)
    with pytest.raises(GrafosError) as refusal:
        report_of_trial(desk, PASSED)
    assert (refusal.value.code, "grafos provider conform cell-1" in refusal.value.next) == ("plan_stale", True)
    assert unmet(desk)["code_enabled"] == NOT_RUN


def test_a_suite_that_passed_clears_no_fault_that_came_while_it_ran() -> None:
    desk = a_desk()
    bytes_that_are_no_frame(desk)
    desk.tell(events.TrialOpened("cell-1", "ada", 60.0))
    bytes_that_are_no_frame(desk)
    report_of_trial(desk, PASSED)
    assert "it sent no frame" in unmet(desk)["healthy_cell"]
    report(desk, PASSED)
    assert unmet(desk) == {}


def test_a_cell_that_is_not_healthy_is_not_tried() -> None:
    desk = a_desk()
    desk.tell(events.TrialOpened("cell-1", "ada", 600.0))
    desk.clock.advance(60.0)
    assert refused(desk, cell_id="cell-1") == "runtime_not_ready"


# --- naming a cell ------------------------------------------------------------------------------------------------


def test_a_run_that_names_a_cell_goes_there_or_nowhere() -> None:
    desk = a_desk()
    desk.enrol(desk.mint("cell-2"))
    desk.add_cell("cell-2", cores=1, mem=1 << 30)
    assert desk.ask(cell_id="cell-1").cell_id == "cell-1"
    assert desk.ask(run_key="key-of-the-second-run", cell_id="cell-2").cell_id == "cell-2"
    assert refused(desk, cell_id="cell-2") == "placement_failed"
    with pytest.raises(GrafosError) as refusal:
        desk.ask(run_key="key-of-the-third-run", cell_id="cell-9")
    assert (refusal.value.code, refusal.value.what) == ("runtime_not_ready", "there is no cell cell-9 of aws here")


# --- faults -------------------------------------------------------------------------------------------------------


def a_receipt_for_another_run(desk: Desk) -> None:
    run = desk.start()
    desk.report(run, run_id="run-of-somebody-else")
    assert desk.state.runs[run.run_id].code == "receipt_invalid"


def an_end_without_a_code(desk: Desk) -> None:
    run = desk.start()
    desk.report(run, "all-is-well")
    assert desk.state.runs[run.run_id].code == "answer_invalid"


def a_refusal_without_a_code(desk: Desk) -> None:
    run = desk.ask()
    desk.say("cell-1", frames.LeaseRefused(run.lease_ids[0], 1, "no-code", "for no reason"))
    assert desk.state.runs[run.run_id].code == "answer_invalid"


def no_room_where_it_told_of_room(desk: Desk) -> None:
    run = desk.ask()
    desk.say("cell-1", frames.LeaseRefused(run.lease_ids[0], 1, "placement_failed", "no room for cpu_cores"))
    assert desk.state.runs[run.run_id].code == "placement_failed"


def bytes_that_are_no_frame(desk: Desk) -> None:
    desk.tell(events.CellFaulted("cell-1", desk.state.link_of("cell-1"), "request_invalid", "it sent no frame"))


FAULTS: list[tuple[Callable[[Desk], None], str]] = [
    (a_receipt_for_another_run, "signed a receipt that is not for this run"),
    (an_end_without_a_code, "with no code that there is"),
    (a_refusal_without_a_code, "with no code that there is"),
    (no_room_where_it_told_of_room, "it told of room for lease"),
    (bytes_that_are_no_frame, "it sent no frame"),
]


@pytest.mark.parametrize(("story", "words"), FAULTS, ids=[story.__name__ for story, _ in FAULTS])
def test_a_cell_that_is_caught_gets_nothing_new_until_it_conforms(story: Callable[[Desk], None], words: str) -> None:
    desk = a_desk()
    story(desk)
    assert words in unmet(desk)["healthy_cell"]
    assert words in views.cell_view(desk.state, desk.state.cells["cell-1"], desk.now).fault
    assert refused(desk) == "runtime_not_ready"
    desk.restart()
    desk.dial()
    assert words in unmet(desk)["healthy_cell"], "it is durable"
    report(desk, FAILED)
    assert words in unmet(desk)["healthy_cell"]
    desk.tell(events.TrialOpened("cell-1", "ada", 60.0))
    assert desk.ask(run_key="key-of-the-trial", cell_id="cell-1").cell_id == "cell-1"
    report(desk, PASSED)
    assert unmet(desk) == {}
    assert len(noted(desk, AuditKind.CELL_FAULTED)) == 1


def test_what_runs_on_a_cell_that_is_caught_goes_on() -> None:
    desk = a_desk()
    run = desk.start()
    bytes_that_are_no_frame(desk)
    assert desk.state.runs[run.run_id].state == runs.RUNNING
    desk.report(run)
    assert desk.state.runs[run.run_id].state == runs.FINISHED


def test_a_cell_that_is_really_full_does_not_lie() -> None:
    desk = a_desk()
    desk.start()
    full = desk.ask(run_key="key-of-the-second-run")
    lease = desk.state.leases[full.lease_ids[0]]
    desk.state.cells["cell-1"] = _with_cores(desk.state.cells["cell-1"], 1)
    desk.say("cell-1", frames.LeaseRefused(lease.lease_id, 1, "placement_failed", "no room for cpu_cores"))
    assert unmet(desk) == {}


def test_an_older_link_catches_nobody_and_a_standalone_cell_is_its_scheduler_s_own() -> None:
    desk = a_desk()
    desk.tell(events.CellFaulted("cell-1", 99, "request_invalid", "it sent no frame"))
    assert unmet(desk) == {}
    own = Desk()
    own.add_cell()
    standing_before = dict(own.state.faults)
    own.tell(events.CellFaulted("cell-1", own.state.link_of("cell-1"), "request_invalid", "it sent no frame"))
    assert own.state.faults == standing_before == {}


def test_another_key_has_not_done_it() -> None:
    desk = a_desk()
    bytes_that_are_no_frame(desk)
    cell = desk.state.cells["cell-1"]
    assert standing.fault_of(desk.state, cell)
    other = rows.Cell("cell-1", "aws", "here", "1", cell.total, "another-key", 0.0)
    assert not standing.fault_of(desk.state, other)


def test_a_cell_that_is_being_revoked_is_not_healthy() -> None:
    desk = a_desk()
    desk.start()
    desk.tell(events.CellRevokeAsked("cell-1", 30.0, "a test"))
    assert unmet(desk) == {"healthy_cell": "the cell is being revoked"}


# --- draining before revoking -------------------------------------------------------------------------------------


def test_while_a_cell_drains_nobody_is_warned_and_then_there_is_the_grace() -> None:
    desk = a_desk()
    run = desk.start(deadline_s=600.0)
    desk.tell(events.CellRevokeAsked("cell-1", 10.0, "a test", drain_s=20.0))
    assert not desk.frames(frames.RevokeLease)
    desk.wait(19, "cell-1")
    assert desk.state.leases[run.lease_ids[0]].revoke == "active"
    desk.wait(1, "cell-1")
    assert [frame.grace_s for frame in desk.frames(frames.RevokeLease)] == [10.0]
    desk.wait(1, "cell-1")
    assert not desk.frames(frames.RevokeLease), "once"
    desk.wait(9, "cell-1")
    assert desk.state.identities["cell-1"].revoked_at
    assert desk.state.runs[run.run_id].code == "cell_revoked"


def test_a_drain_ends_with_the_last_run() -> None:
    desk = a_desk()
    run = desk.start()
    desk.tell(events.CellRevokeAsked("cell-1", 10.0, "a test", drain_s=3600.0))
    desk.report(run)
    desk.tear_down(run)
    desk.wait(1, "cell-1")
    assert desk.state.identities["cell-1"].revoked_at
    assert desk.state.runs[run.run_id].state == runs.FINISHED


def _with_cores(cell: rows.Cell, cores: int) -> rows.Cell:
    return rows.Cell(
        cell.cell_id, cell.provider, cell.region, cell.agent_version, Resources(cores, cell.total.mem_bytes),
        cell.key_sha256, cell.registered_at, cell.boot_epoch, cell.instance,
    )  # fmt: skip


def test_a_provider_has_the_readiness_of_its_nearest_cell_or_says_that_it_has_none() -> None:
    desk = a_desk()
    desk.enrol(desk.mint("cell-2"))
    desk.tell(events.LinkClosed("cell-1", desk.state.link_of("cell-1")))
    readiness = providers.view(desk.state, "aws", desk.now).runtime_readiness
    assert {name: signal.why for name, signal in readiness.items() if not signal.met} == {
        "outbound_registered": "the cell holds no link to this scheduler"
    }
    none = providers.view(desk.state, "gcp", desk.now).runtime_readiness
    assert none["code_enabled"].met
    assert {signal.why for signal in none.values() if not signal.met} == {"no cell of gcp has joined"}
    assert not providers.view(desk.state, "lab", desk.now).runtime_readiness["code_enabled"].met
