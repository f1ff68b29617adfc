"""What the web console shows, for how long a link opens it, and that nothing which is shown can do anything."""

from __future__ import annotations

import itertools
import re
from html.parser import HTMLParser

import pytest
from console_door import text_of
from desk import ORCHESTRATOR, RATE, Desk
from msgspec.structs import replace
from service_desk import ServiceDesk

from grafos_core.audit_chain import AuditRecord
from grafos_core.changes import Change
from grafos_core.errors import GrafosError
from grafos_core.ledger import Hold, Meter
from grafos_scheduler import events, messages, rows
from grafos_scheduler.console import money, pages, sight
from grafos_scheduler.console.pages import CELLS_PER_PAGE, Choice
from grafos_scheduler.console.sessions import LINK_LIFE_S, SESSION_LIFE_S, SESSIONS_MAX, Sessions, Viewer
from grafos_scheduler.console.watching import (
    Events,
    Sight,
)
from grafos_scheduler.image_messages import ImagesDemanded

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
EVERYTHING = Choice()
VIEWER = Viewer("op", "operator-key", 2e9)


def seen(desk: Desk, records: tuple[AuditRecord, ...] = (), trouble: GrafosError | None = None) -> Sight:
    """What there is to see of a desk."""
    state, now = desk.state, desk.now
    lines = [sight.cell_line(state, cell_id, now) for cell_id in sight.cell_ids(state)]
    cells = sight.in_order([line for line in lines if line is not None])
    return Sight(
        now=now,
        scheduler=state.settings.scheduler,
        fabric="fab",
        mode="orchestrator",
        version="1",
        is_draining=rows.WHOLE_SCHEDULER in state.drains,
        cells=cells,
        providers=sight.provider_lines(state, cells),
        accounts=sight.account_lines(state),
        runs=sight.runs_seen(state),
        costs=money.costs(state, state.runs.values(), now),
        events=Events(records, trouble),
        replicas=sight.services_seen(state),
    )


def page_of(found: Sight, choice: Choice = EVERYTHING, viewer: Viewer = VIEWER) -> str:
    return pages.stats(found, viewer, choice).decode()


def fleet(cells: int, provider: str = "aws") -> Desk:
    desk = Desk(ORCHESTRATOR)
    for number in range(cells):
        cell_id = f"{provider}-{number:03d}"
        desk.enrol(desk.mint(cell_id, provider=provider))
        desk.add_cell(cell_id, provider=provider)
    return desk


def test_a_cells_image_stands_with_it_and_why_it_is_not_let_in() -> None:
    desk = fleet(1)
    total = desk.state.cells["aws-000"].total
    told = messages.CellRegistration("aws-000", "aws", "here", "1", total, image_sha256="b" * 64)
    desk.tell(events.CellRegistered(told, "key-of-aws-000"))
    assert f"image <code>{'b' * 12}</code>" in page_of(seen(desk))
    assert "attestation" not in page_of(seen(desk))
    desk.tell(ImagesDemanded(("a" * 64,), "op"))
    assert "attestation: it tells of image" in page_of(seen(desk))


def test_services_are_told_with_those_that_have_too_few_replicas() -> None:
    desk = ServiceDesk(2)
    assert "Replicas of services" not in page_of(seen(desk))
    first, _ = desk.serve(2)
    assert "2 of 2" in text_of(page_of(seen(desk)))
    desk.tell(events.LinkClosed(first.cell_id, desk.state.link_of(first.cell_id)))
    told = text_of(page_of(seen(desk)))
    assert "1 of 2" in told
    assert "too few of ada/web" in told


# --- links and sessions -------------------------------------------------------------------------------------------


def linked(sessions: Sessions, desk: Desk, *, ends_at: float = 2e9) -> str:
    return sessions.make_link("op", "operator-key", ends_at, desk.now)[0]


def refused(sessions: Sessions, secret: str, desk: Desk) -> str:
    with pytest.raises(GrafosError) as caught:
        sessions.redeem(secret, desk.state, desk.now)
    return f"{caught.value.code}: {caught.value.what}"


def test_a_link_opens_one_session_once() -> None:
    sessions, desk = Sessions(), Desk()
    secret = linked(sessions, desk)
    cookie, viewer = sessions.redeem(secret, desk.state, desk.now)
    assert (viewer.name, viewer.ends_at) == ("op", desk.now + SESSION_LIFE_S)
    assert sessions.viewer_of(cookie, desk.state, desk.now) == viewer
    assert refused(sessions, secret, desk) == "token_refused: this sign-in link was used already"
    assert sessions.viewer_of(secret, desk.state, desk.now) is None
    assert refused(sessions, "made up", desk) == "token_refused: this sign-in link is not known here"


def test_a_link_lapses_and_a_session_ends() -> None:
    sessions, desk = Sessions(), Desk()
    used, unused = linked(sessions, desk), linked(sessions, desk)
    cookie, viewer = sessions.redeem(used, desk.state, desk.now)
    desk.clock.advance(LINK_LIFE_S)
    assert refused(sessions, unused, desk) == "token_expired: this sign-in link lapsed"
    desk.clock.advance(viewer.ends_at - desk.now - 1)
    assert sessions.viewer_of(cookie, desk.state, desk.now)
    desk.clock.advance(1)
    assert sessions.viewer_of(cookie, desk.state, desk.now) is None


def test_neither_outlives_the_certificate_of_the_operator_who_made_it() -> None:
    sessions, desk = Sessions(), Desk()
    secret, until = sessions.make_link("op", "operator-key", desk.now + 60, desk.now)
    assert until == desk.now + 60
    _, viewer = sessions.redeem(secret, desk.state, desk.now)
    assert viewer.ends_at == desk.now + 60


@pytest.mark.parametrize("how", ["the key was taken back", "another key claimed the scheduler"])
def test_what_a_key_opened_is_closed_with_the_key(how: str) -> None:
    sessions, desk = Sessions(), Desk()
    unused = linked(sessions, desk)
    cookie, _ = sessions.redeem(linked(sessions, desk), desk.state, desk.now)
    if how == "the key was taken back":
        gone = Change(rows.REVOKED_KEY, "operator-key", rows.RevokedKey("", desk.now, "lost"))
    else:
        assert desk.state.claim is not None
        gone = Change(rows.CLAIM, rows.THE_CLAIM, replace(desk.state.claim, key_sha256="another"))
    desk.state.apply([gone])
    assert sessions.viewer_of(cookie, desk.state, desk.now) is None
    assert refused(sessions, unused, desk) == "token_refused: the operator who made this sign-in link counts no more"


def test_however_many_sign_in_the_memory_is_bounded() -> None:
    sessions, desk = Sessions(), Desk()
    opened = [sessions.redeem(linked(sessions, desk), desk.state, desk.now)[0] for _ in range(SESSIONS_MAX + 1)]
    alive = [bool(sessions.viewer_of(cookie, desk.state, desk.now)) for cookie in opened]
    assert alive == [False, *[True] * SESSIONS_MAX]


# --- what is shown ------------------------------------------------------------------------------------------------


def test_an_empty_fleet_says_how_a_cell_joins() -> None:
    told = text_of(page_of(seen(Desk(ORCHESTRATOR))))
    assert "Cells ready 0 of 0" in told
    assert "No cell has joined yet" in told
    assert "grafos cloud bootstrap-cell" in told


def test_a_cell_is_told_with_why_it_is_not_ready_what_it_costs_and_what_it_holds() -> None:
    desk = fleet(2)
    run = desk.start(deadline_s=600.0)
    enrolled = desk.mint("gcp-1", provider="gcp")
    desk.enrol(enrolled)
    desk.tell(events.LinkClosed("aws-001", desk.state.link_of("aws-001")))
    desk.clock.advance(7)
    found = seen(desk)
    states = [(line.cell_id, line.state) for line in found.cells]
    assert states == [("aws-001", sight.NOT_READY), ("gcp-1", sight.ENROLLED), ("aws-000", sight.READY)]
    told = text_of(page_of(found))
    assert "outbound_registered : the cell holds no link to this scheduler" in told
    assert "the cell enrolled and has not registered yet" in told
    assert "1 run, 1 lease 1 of 2 cores, 0 B of 2 MiB" in told
    assert run.run_id in told
    assert "✗ 1 of 2" in told
    assert "✓ 2 of 2" in told


def test_a_cell_at_fault_is_told_with_what_it_did_and_a_provider_for_production_as_that() -> None:
    desk = fleet(1)
    desk.state.apply(
        [
            Change(
                rows.FAULT, "aws-000", rows.Fault("aws-000", "key-of-aws-000", "frame_invalid", "it lied", desk.now)
            ),
            Change(rows.PRODUCTION, "aws", rows.Production("aws", desk.now, "op")),
        ]
    )
    told = text_of(page_of(seen(desk)))
    assert "healthy_cell : it lied; it gets no runs until it conforms" in told
    assert "aws for production" in told


def test_a_cell_that_drains_or_leaves_is_told_as_that_and_one_that_was_revoked_is_gone() -> None:
    desk = fleet(3)
    desk.tell(events.DrainAsked("aws-000"))
    desk.start(deadline_s=600.0)
    [busy] = {run.cell_id for run in desk.state.runs_under_way()}
    [idle] = {"aws-001", "aws-002"} - {busy}
    desk.tell(events.CellRevokeAsked(busy, 60.0, EVIL))
    desk.tell(events.CellRevokeAsked(idle, 0.0, "gone"))
    states = {line.cell_id: line.state for line in seen(desk).cells}
    assert states == {"aws-000": sight.DRAINING, busy: sight.LEAVING}
    desk.tell(events.DrainAsked())
    assert "Admission is closed" in text_of(page_of(seen(desk)))


def test_what_runs_came_to_is_told_by_provider_and_against_the_budgets() -> None:
    desk = fleet(1)
    ended = desk.start(run_key="the-first-run-of-all", deadline_s=600.0)
    desk.report(ended, seconds=100.0)
    desk.tear_down(ended)
    under_way = desk.start(run_key="the-second-run-of-all", deadline_s=600.0)
    spent = desk.state.runs[ended.run_id].cost_micro_cents
    held = desk.state.ledger.holds[under_way.hold_id].amount_micro_cents
    found = seen(desk)
    assert spent > 0
    assert found.costs.of("aws") == money.ProviderCost(runs=2, spent_micro_cents=spent, held_micro_cents=held)
    assert found.costs.of("gcp") == money.NO_COST
    assert [(line.name, line.spent_micro_cents, line.held_micro_cents) for line in found.accounts] == [
        ("ada", spent, held)
    ]
    assert [line.run_id for line in found.runs.ended] == [ended.run_id]


def test_machines_on_the_ledger_s_meters_are_told_and_what_is_fictional_is_told_as_that() -> None:
    desk = Desk(ORCHESTRATOR)
    metered = Meter("gcp", RATE, desk.now - 3600, desk.now + 3600, fictional=True)
    desk.state.apply([Change("hold", "h", Hold("h", "operator", 10 * RATE, "a cell", meter=metered))])
    cost = seen(desk).costs.of("gcp")
    assert (cost.machines_micro_cents, cost.fictional_micro_cents) == (RATE, RATE)
    assert "of it fictional" in text_of(page_of(seen(desk)))


def test_five_hundred_cells_come_in_pages_and_can_be_narrowed() -> None:
    desk = fleet(500)
    lost = [f"aws-{number:03d}" for number in (7, 311)]
    for cell_id in lost:
        desk.tell(events.LinkClosed(cell_id, desk.state.link_of(cell_id)))
    found = seen(desk)
    html = page_of(found)
    assert html.count('<tr id="cell-') == CELLS_PER_PAGE
    assert len(html) < 100_000
    assert "500 cells, page 1 of 10" in text_of(html)
    assert re.findall(r'<tr id="cell-([^"]+)"', html)[:2] == lost
    everyone = [line.cell_id for page in range(1, 11) for line in pages.choose(found, Choice(page=page)).lines]
    assert len(set(everyone)) == len(everyone) == 500
    narrowed = page_of(found, Choice(state=sight.NOT_READY))
    assert re.findall(r'<tr id="cell-([^"]+)"', narrowed) == lost
    assert pages.choose(found, Choice(page=99)).page == 10
    assert "No cell is of that provider" in page_of(found, Choice(provider="mars"))


class Tags(HTMLParser):
    """Every element of a page, and those that are markup of somebody else."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


def test_names_and_words_that_are_markup_are_shown_as_text() -> None:
    desk = fleet(1)
    run = desk.start(deadline_s=600.0)
    hostile = replace(
        run,
        tenant=EVIL,
        run_id=EVIL,
        cell_id=EVIL,
        code=EVIL,
        what=EVIL,
        request=replace(run.request, provider=EVIL, program=EVIL, tasklet=EVIL),
    )
    identity, cell = desk.state.identities["aws-000"], desk.state.cells["aws-000"]
    desk.state.apply(
        [
            Change(rows.RUN, EVIL, hostile),
            Change(rows.IDENTITY, EVIL, replace(identity, cell_id=EVIL, provider=EVIL, region=EVIL)),
            Change(rows.CELL, EVIL, replace(cell, cell_id=EVIL, provider=EVIL, region=EVIL)),
            Change(rows.TENANT, EVIL, rows.Tenant(EVIL, desk.state.tenants["ada"].quota)),
        ]
    )
    record = AuditRecord(1, 0, EVIL, EVIL, EVIL, EVIL, EVIL, {EVIL: EVIL}, "")
    trouble = GrafosError("audit_broken", EVIL, why=EVIL, next=EVIL)
    found = seen(desk, (record,), trouble)._replace(scheduler=EVIL, fabric=EVIL)
    html = page_of(found, Choice(EVIL, EVIL), VIEWER._replace(name=EVIL)) + page_of(found)
    tags = Tags()
    tags.feed(html)
    assert (tags.names.count("script"), tags.names.count("img"), tags.handlers) == (2, 0, [])
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 30
    assert "<img" not in pages.refusal(trouble).decode() + pages.sign_in(trouble, by_link=True).decode()


def test_each_table_has_a_name_and_each_heading_of_one_its_scope() -> None:
    desk = fleet(1)
    desk.start()
    html = page_of(seen(desk, (AuditRecord(1, 0, "Claimed", "op", "op", "", "", {}, ""),)))
    assert html.count("<table>") == html.count('<div class="wide" tabindex="0" role="region" aria-labelledby=') == 7
    assert len(re.findall(r"<th(?=[ >])", html)) == len(re.findall(r'<th scope="(?:row|col)"', html))
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'aria-labelledby="([^"]+)"', html)) <= set(ids)
    levels = [int(level) for level in re.findall(r"<h(\d)", html)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_a_changed_audit_log_is_an_alarm_and_the_page_goes_on() -> None:
    broken = GrafosError("audit_broken", "the audit log was changed at record 7", why="it is missing", next="look")
    told = text_of(page_of(seen(fleet(1), trouble=broken)))
    assert "✗ audit_broken the audit log was changed at record 7: it is missing" in told
    assert "aws-000" in told
