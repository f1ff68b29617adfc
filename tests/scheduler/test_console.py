"""The web console: who may look, what is shown, and that nothing which is shown can do anything."""

from __future__ import annotations

import itertools
import re
import time
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest
from console_door import Visitor, refuses_the_handshake
from desk import ORCHESTRATOR, RATE, Desk
from msgspec.structs import replace
from orchestrator import Orchestrator
from standalone import Identity, Town

from grafos_core.audit_chain import AuditRecord
from grafos_core.changes import Change
from grafos_core.errors import CODES, GrafosError
from grafos_core.ledger import Hold, Meter
from grafos_scheduler import events, rows
from grafos_scheduler.audit_messages import AuditQuery
from grafos_scheduler.console import money, pages, sight
from grafos_scheduler.console.app import BEAT_EVERY_S, STREAMS_MAX
from grafos_scheduler.console.pages import CELLS_PER_PAGE, Choice
from grafos_scheduler.console.paths import SIGN_IN, SIGN_OUT, STATS, STREAM
from grafos_scheduler.console.sessions import LINK_LIFE_S, LINKS_MAX, SESSION_LIFE_S, SESSIONS_MAX, Sessions, Viewer
from grafos_scheduler.console.watching import (
    EVENTS_LOOKED_BACK,
    EVENTS_SHOWN,
    IDLE_FACTOR,
    Events,
    Sight,
)

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
EVERYTHING = Choice()
VIEWER = Viewer("op", "operator-key", 2e9)
_numbers = itertools.count(1)


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
    )


def page_of(found: Sight, choice: Choice = EVERYTHING, viewer: Viewer = VIEWER) -> str:
    return pages.stats(found, viewer, choice).decode()


def text_of(html: str) -> str:
    """What a person reads of it."""
    body = re.sub(r"<(style|script)>.*?</\1>", "", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def fleet(cells: int, provider: str = "aws") -> Desk:
    desk = Desk(ORCHESTRATOR)
    for number in range(cells):
        cell_id = f"{provider}-{number:03d}"
        desk.enrol(desk.mint(cell_id, provider=provider))
        desk.add_cell(cell_id, provider=provider)
    return desk


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


# --- at the door --------------------------------------------------------------------------------------------------


@pytest.fixture
def code(orchestrator: Orchestrator, operator: Identity) -> str:
    with orchestrator.client(operator) as client:
        return client.make_console_link().code


@pytest.fixture
def guest(orchestrator: Orchestrator, code: str) -> Visitor:
    """Signed in by a link."""
    visitor = Visitor(orchestrator)
    assert visitor.sign_in(code).status == 303
    return visitor


def kinds(orchestrator: Orchestrator, operator: Identity, kind: str) -> list[AuditRecord]:
    with orchestrator.client(operator) as client:
        return client.audit(AuditQuery(kind=kind, limit=1000)).records


def test_a_stranger_learns_how_to_sign_in_and_nothing_else(orchestrator: Orchestrator, operator: Identity) -> None:
    orchestrator.joined(operator, f"aws-{next(_numbers)}")
    page = Visitor(orchestrator).look()
    assert page.status == 401
    assert "grafos fabric console" in page.text
    for secret in ("aws-", orchestrator.fabric.id, "ada"):
        assert secret not in page.text
    assert Visitor(orchestrator).ask("GET", STREAM).status == 401
    assert Visitor(orchestrator).ask("GET", "/admin/nowhere").status == 404
    assert Visitor(orchestrator).ask("PUT", STATS).status == 404


def test_an_operator_s_certificate_is_enough(orchestrator: Orchestrator, operator: Identity) -> None:
    page = Visitor(orchestrator, operator).look()
    assert page.status == 200
    assert "Operator ada, by certificate" in text_of(page.text)
    assert "Sign out" not in page.text


def test_the_certificates_of_tenants_and_cells_are_refused(orchestrator: Orchestrator, operator: Identity) -> None:
    tenant = orchestrator.employ(operator, f"acme-{next(_numbers)}")
    cell = orchestrator.joined(operator, f"aws-{next(_numbers)}").identity
    for identity in (tenant, cell):
        page = Visitor(orchestrator, identity).look()
        assert (page.status, "the console is for operators" in page.text) == (403, True)
        assert orchestrator.fabric.id not in page.text
    with orchestrator.client(tenant) as client, pytest.raises(GrafosError, match="not for a tenant"):
        client.make_console_link()


def test_a_link_signs_one_browser_in_and_its_secret_is_in_no_log(
    orchestrator: Orchestrator, operator: Identity
) -> None:
    with orchestrator.client(operator) as client:
        link = client.make_console_link()
    assert (link.path, 0 < link.valid_until - time.time() <= LINK_LIFE_S) == (SIGN_IN, True)
    visitor = Visitor(orchestrator)
    came = visitor.sign_in(link.code)
    assert (came.status, came.headers["location"]) == (303, STATS)
    name, life, *rules = came.headers["set-cookie"].split("; ")
    assert name.startswith(f"__Host-grafos-{orchestrator.fabric.id}-orchestrator=")
    assert (life[:8], int(life[8:]) <= SESSION_LIFE_S) == ("Max-Age=", True)
    assert rules == ["Path=/", "Secure", "HttpOnly", "SameSite=Strict"]
    assert visitor.look().status == 200
    again = Visitor(orchestrator).sign_in(link.code)
    assert (again.status, "was used already" in again.text, "set-cookie" in again.headers) == (401, True, False)
    assert orchestrator.scheduler is not None
    log = orchestrator.scheduler.log.read_text()
    assert "operator ada signed in to the console by link, from 127.0.0.1" in log
    assert "console sign-in refused, from 127.0.0.1: this sign-in link was used already" in log
    assert link.code not in log
    assert visitor.cookie.partition("=")[2] not in log
    assert all(link.code.encode() not in file.read_bytes() for file in orchestrator.state.rglob("*") if file.is_file())


def test_links_sessions_and_refusals_are_in_the_audit_log(
    orchestrator: Orchestrator, operator: Identity, guest: Visitor
) -> None:
    Visitor(orchestrator).sign_in("a guess")
    made, opened = kinds(orchestrator, operator, "ConsoleLinkMade"), kinds(orchestrator, operator, "ConsoleOpened")
    assert (made[-1].by, opened[-1].by, opened[-1].details) == ("operator/ada", "operator/ada", {"from": "127.0.0.1"})
    refusals = kinds(orchestrator, operator, "ConsoleRefused")
    assert (refusals[-1].subject, refusals[-1].details["why"]) == ("127.0.0.1", "this sign-in link is not known here")
    until(guest.stream(), lambda html: "<td>ConsoleOpened</td>" in html and "⚠ ConsoleRefused" in html)


def test_the_whole_link_may_be_pasted(orchestrator: Orchestrator, code: str) -> None:
    assert Visitor(orchestrator).sign_in(f" {orchestrator.url}{SIGN_IN}#{code}\n").status == 303


def test_who_signs_out_is_out_wherever_else_the_cookie_is(guest: Visitor) -> None:
    stolen = guest.cookie
    left = guest.ask("POST", SIGN_OUT, {})
    assert (left.status, left.headers["location"], "Max-Age=0" in left.headers["set-cookie"]) == (303, SIGN_IN, True)
    guest.cookie = stolen
    assert guest.look().status == 401


@pytest.mark.parametrize("origin", ["https://elsewhere.example", "null", "", "http://127.0.0.1"])
def test_a_form_of_elsewhere_is_refused(origin: str, orchestrator: Orchestrator, code: str, guest: Visitor) -> None:
    assert Visitor(orchestrator).sign_in(code, origin=origin).status == 403
    assert guest.ask("POST", SIGN_OUT, {}, origin=origin).status == 403
    assert guest.look().status == 200


def test_bad_input_is_told_and_leaves_no_trace(orchestrator: Orchestrator, guest: Visitor) -> None:
    assert guest.look("?page=-1&provider=%3Cscript%3E&state=%00").status == 200
    assert guest.look("?page=99999999999999999999").status == 200
    assert guest.look("?" + "&".join(f"a{number}=1" for number in range(20))).status == 400
    assert Visitor(orchestrator).ask("POST", SIGN_IN, {"code": "x" * 5000}).status == 413
    assert Visitor(orchestrator).ask("POST", SIGN_IN, {}).status == 401
    visitor = Visitor(orchestrator)
    for cookie in ("nonsense", "=", guest.cookie + "x", '"', guest.cookie.partition("=")[0] + "="):
        visitor.cookie = cookie
        assert visitor.look().status == 401
    assert guest.ask("HEAD", STATS).text == ""


def test_every_answer_forbids_to_be_kept_framed_or_to_load_anything(guest: Visitor, orchestrator: Orchestrator) -> None:
    for page in (guest.look(), Visitor(orchestrator).look(), guest.ask("GET", "/admin/nowhere")):
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'sha256-")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert page.headers["cache-control"] == "no-store"
        assert page.headers["x-content-type-options"] == "nosniff"
        assert re.findall(r'(?:src|href)="(?!/admin/|#)([^"]*)"', page.text) == []
        assert " style=" not in page.text


def until(stream: object, wanted: object) -> str:
    """Reads the stream up to the first section of that name that ``wanted`` agrees to."""
    for name, data in stream:  # type: ignore[attr-defined]
        if name == "section" and wanted(data["html"]):  # type: ignore[operator]
            return str(data["id"])
    raise AssertionError("the stream ended")


def test_a_cell_that_joins_reaches_an_open_page_and_so_does_its_refusal(
    orchestrator: Orchestrator, operator: Identity, guest: Visitor
) -> None:
    stream = guest.stream()
    first = [data["id"] for name, data in itertools.islice(stream, 5) if name == "section"]
    assert first == list(pages.SECTIONS)
    cell_id = f"gcp-{next(_numbers)}"
    orchestrator.joined(operator, cell_id, "gcp")
    assert until(stream, lambda html: f'id="cell-{cell_id}"' in html) == "infrastructure"
    assert until(stream, lambda html: f"<td>{cell_id}</td>" in html) == "security"


def test_an_open_page_shows_what_its_query_asks_for(guest: Visitor) -> None:
    stream = guest.stream("?provider=mars")
    assert until(stream, lambda html: "No cell is of that provider" in html) == "infrastructure"


def test_an_open_page_is_told_when_its_session_ends(guest: Visitor) -> None:
    stream = guest.stream()
    assert next(stream)[0] == "section"
    guest.ask("POST", SIGN_OUT, {})
    assert [name for name, _ in stream][-1] == "ended"


def test_only_so_many_pages_are_kept_fresh(orchestrator: Orchestrator, operator: Identity) -> None:
    visitor = Visitor(orchestrator, operator)
    streams = [visitor.stream() for _ in range(STREAMS_MAX)]
    assert all(next(stream)[0] == "section" for stream in streams)
    assert visitor.ask("GET", STREAM).status == CODES["limit_exceeded"].http_status
    for stream in streams:
        stream.close()  # type: ignore[attr-defined]
    end = time.monotonic() + 20
    while visitor.look().status != 200 or not next(visitor.stream())[0]:
        assert time.monotonic() < end


def test_a_process_that_ends_lets_open_pages_go_and_a_new_one_knows_no_session(tmp_path: Path) -> None:
    other = Orchestrator(tmp_path)
    try:
        other.start()
        operator = other.claimed()
        with other.client(operator) as client:
            code, unused = client.make_console_link().code, client.make_console_link().code
        visitor = Visitor(other)
        visitor.sign_in(code)
        assert other.scheduler is not None
        sent = visitor.stream_to_its_end(other.scheduler.popen.terminate)
        assert sent.endswith(b"\r\n0\r\n\r\n"), "the page was cut off"
        assert other.scheduler.popen.wait(20) == 0
        other.start()
        assert visitor.look().status == 401
        assert Visitor(other).sign_in(unused).status == 401
        assert Visitor(other, operator).look().status == 200
    finally:
        other.discard()


def test_a_changed_audit_log_is_an_alarm_and_the_page_goes_on() -> None:
    broken = GrafosError("audit_broken", "the audit log was changed at record 7", why="it is missing", next="look")
    told = text_of(page_of(seen(fleet(1), trouble=broken)))
    assert "✗ audit_broken the audit log was changed at record 7: it is missing" in told
    assert "aws-000" in told


def test_the_console_of_a_standalone_cell_opens_by_certificate_alone(town: Town) -> None:
    page = Visitor(town.cell, town.operator).look()
    assert (page.status, "Operator ada, by certificate" in text_of(page.text)) == (200, True)
    assert Visitor(town.cell, town.acme).look().status == 403
    assert refuses_the_handshake(Visitor(town.cell))


def test_the_reference_names_the_addresses_parts_and_limits_that_hold() -> None:
    reference = (Path(__file__).parents[2] / "docs" / "reference" / "console.md").read_text()
    told = (
        *(f"`GET {path}`" for path in (STATS, STREAM, SIGN_IN)),
        *(f"`POST {path}`" for path in (SIGN_IN, SIGN_OUT)),
        *(f"| `#{name}` |" for name in pages.SECTIONS),
        *(f"| {state} |" for state in sight.CELL_STATES),
        f"| one use, {LINK_LIFE_S:.0f} s; {LINKS_MAX} at once |",
        f"| {SESSION_LIFE_S:.0f} s, and never longer than the operator's certificate; {SESSIONS_MAX} at once |",
        f"| pages that are kept live | {STREAMS_MAX} at once |",
        f"| cells on a page | {CELLS_PER_PAGE} |",
        f"| records of the audit log that the first look reads | {EVENTS_LOOKED_BACK} |",
        f"the newest {sight.RUNS_SHOWN} under way and the last {sight.RUNS_SHOWN} that ended",
        f"the newest {EVENTS_SHOWN} events",
        f"then {IDLE_FACTOR} times as long as it takes",
        f"at least every {BEAT_EVERY_S:.0f} s; a page that hears none for {3 * BEAT_EVERY_S:.0f} s",
    )
    assert [words for words in told if words not in reference] == []
    script = files("grafos_scheduler.console").joinpath("console.js").read_text()
    assert f"LOST_AFTER_MS = {3000 * BEAT_EVERY_S:.0f};" in script
