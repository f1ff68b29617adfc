"""The door of the web console: who may look, by what, for how long, and what an open page is sent."""

from __future__ import annotations

import itertools
import re
import time
from importlib.resources import files
from pathlib import Path

import pytest
from console_door import Visitor, refuses_the_handshake, text_of
from orchestrator import Orchestrator
from standalone import Identity, Town

from grafos_core.audit_chain import AuditRecord
from grafos_core.errors import CODES, GrafosError
from grafos_scheduler.audit_messages import AuditQuery
from grafos_scheduler.console import pages, sight
from grafos_scheduler.console.app import BEAT_EVERY_S, STREAMS_MAX
from grafos_scheduler.console.pages import CELLS_PER_PAGE
from grafos_scheduler.console.paths import SIGN_IN, SIGN_OUT, STATS, STREAM
from grafos_scheduler.console.sessions import LINK_LIFE_S, LINKS_MAX, SESSION_LIFE_S, SESSIONS_MAX
from grafos_scheduler.console.watching import (
    EVENTS_LOOKED_BACK,
    EVENTS_SHOWN,
    IDLE_FACTOR,
)

_numbers = itertools.count(1)


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
    assert "console sign-in refused, from 127.0.0.1 with a link: this sign-in link was used already" in log
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
    told = refusals[-1].details
    assert (told["from"], told["why"]) == ("127.0.0.1", "this sign-in link is not known here")
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
        assert other.scheduler.popen.wait(60) == 0
        other.start()
        assert visitor.look().status == 401
        assert Visitor(other).sign_in(unused).status == 401
        assert Visitor(other, operator).look().status == 200
    finally:
        other.discard()


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
