"""Demanded images: a cell of another image, or of none, keeps what it runs and is given nothing new."""

from __future__ import annotations

import pytest
from desk import ORCHESTRATOR, Desk
from msgspec.structs import replace
from service_desk import SPEC

from grafos_core.audit_chain import AuditKind, AuditRecord
from grafos_core.errors import GrafosError
from grafos_core.resources import Resources
from grafos_scheduler import events, messages, views
from grafos_scheduler.console import sight
from grafos_scheduler.image_messages import ImageDemandView, ImagesDemanded
from grafos_scheduler.service_events import ServiceDeployed
from grafos_scheduler.service_messages import ActiveActive

OURS, OTHERS = "a" * 64, "b" * 64


def a_desk(**images: str) -> Desk:
    """An orchestrator whose ready cells tell of these images."""
    desk = Desk(ORCHESTRATOR)
    for cell_id, image in images.items():
        desk.enrol(desk.mint(cell_id))
        desk.add_cell(cell_id)
        tell_image(desk, cell_id, image)
    return desk


def tell_image(desk: Desk, cell_id: str, image: str) -> None:
    total = Resources(cpu_cores=2, mem_bytes=2 << 20)
    said = messages.CellRegistration(cell_id, "aws", "here", "1", total, image_sha256=image)
    desk.tell(events.CellRegistered(said, f"key-of-{cell_id}"))


def demand(desk: Desk, *digests: str) -> ImageDemandView:
    answer = desk.tell(ImagesDemanded(digests, "op")).answer
    assert isinstance(answer, ImageDemandView)
    return answer


def refusal(desk: Desk, **asked: str) -> GrafosError:
    with pytest.raises(GrafosError) as refused:
        desk.ask(run_key=f"key-of-refused-run-{len(desk.state.runs)}", **asked)
    return refused.value


def noted(desk: Desk, kind: AuditKind) -> list[AuditRecord]:
    return [row for _, _, row in desk.memory.load() if isinstance(row, AuditRecord) and row.kind == kind]


def test_where_nothing_is_demanded_any_image_does() -> None:
    assert a_desk(cell1="").ask().cell_id == "cell1"


def test_a_cell_of_another_image_is_vetoed_by_attestation() -> None:
    desk = a_desk(cell1=OTHERS)
    demand(desk, OURS)
    refused = refusal(desk)
    assert refused.code == "placement_failed"
    why = f"attestation: it tells of image {OTHERS[:12]}, which is not among those that are demanded"
    assert refused.context["vetoes"] == {"cell1": why}
    assert f"cell1 ({why})" in refused.what


def test_a_cell_of_a_stock_image_tells_of_none_and_is_vetoed() -> None:
    desk = a_desk(cell1="")
    demand(desk, OURS)
    assert "attestation: it tells of no image" in refusal(desk).what


def test_a_run_goes_to_the_cell_whose_image_is_demanded_though_it_is_fuller() -> None:
    desk = a_desk(first=OTHERS, second=OURS, third="")
    demand(desk, OURS)
    assert [desk.ask(run_key=f"a-run-key-of-its-own-{n}").cell_id for n in range(2)] == ["second", "second"]


def test_naming_the_cell_does_not_outweigh_the_veto() -> None:
    desk = a_desk(first=OTHERS, second=OURS)
    demand(desk, OURS)
    assert "attestation" in refusal(desk, cell_id="first").what


def test_services_keep_off_such_a_cell_too() -> None:
    desk = a_desk(first=OTHERS, second=OURS)
    demand(desk, OURS)
    desk.tell(ServiceDeployed("ada", SPEC))
    assert [instance.cell_id for instance in desk.state.all_instances()] == ["second"]
    with pytest.raises(GrafosError) as refused:
        desk.tell(ServiceDeployed("ada", replace(SPEC, name="another", listener_port=81, replication=ActiveActive(2))))
    assert "first (attestation: it tells of image" in refused.value.what


def test_a_cell_that_comes_back_with_the_image_is_let_in() -> None:
    desk = a_desk(cell1=OTHERS)
    demand(desk, OURS)
    refusal(desk)
    tell_image(desk, "cell1", OURS)
    assert desk.ask(run_key="a-run-key-of-its-own").cell_id == "cell1"


def test_the_demand_outlives_a_restart_and_ends_when_it_is_lifted() -> None:
    desk = a_desk(cell1=OTHERS)
    told = demand(desk, OURS)
    assert (told.digests, told.set_by, told.vetoed) == ((OURS,), "op", ("cell1",))
    desk.restart()
    desk.dial("cell1", boot_epoch=2)
    assert refusal(desk).code == "placement_failed"
    assert demand(desk) == ImageDemandView()
    assert desk.ask(run_key="a-run-key-of-its-own").cell_id == "cell1"


def test_what_runs_there_goes_on() -> None:
    desk = a_desk(cell1=OTHERS)
    run = desk.ask()
    demand(desk, OURS)
    assert desk.state.runs[run.run_id].state == run.state


def test_it_is_audited_once_with_the_digests_and_who_set_it() -> None:
    desk = a_desk(cell1=OTHERS)
    for _ in range(2):
        demand(desk, OTHERS, OURS)
    [record] = noted(desk, AuditKind.IMAGES_DEMANDED)
    assert (record.by, record.details) == ("operator/op", {"images": 2, "image_1": OURS, "image_2": OTHERS})
    assert noted(desk, AuditKind.CELL_REGISTERED)[-1].details["image_sha256"] == OTHERS


def test_the_cell_is_shown_with_its_image_and_the_veto() -> None:
    desk = a_desk(cell1=OTHERS)
    demand(desk, OURS)
    shown = views.cell_view(desk.state, desk.state.cells["cell1"], desk.now)
    assert (shown.image_sha256, shown.ready, shown.image_veto[:12]) == (OTHERS, True, "attestation:")


def test_the_console_shows_a_cells_image_and_that_it_is_vetoed() -> None:
    desk = a_desk(cell1=OTHERS, cell2="")
    demand(desk, OURS)
    lines = {cell_id: sight.cell_line(desk.state, cell_id, desk.now) for cell_id in ("cell1", "cell2")}
    assert [line and line.image_sha256 for line in lines.values()] == [OTHERS, ""]
    assert all(line is not None and line.image_veto.startswith("attestation: ") for line in lines.values())
