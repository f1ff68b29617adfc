"""The web console in a real browser: with scripts and without, light and dark, narrow, live, and cut off."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import INJECT, check_readable, chromium, fresh_tab
from orchestrator import Member, Orchestrator
from raw_link import RawLink
from standalone import Identity
from tasklets import tasklet

from grafos_core.resources import Resources
from grafos_scheduler import frames, messages
from grafos_scheduler.console.paths import SIGN_IN, STATS

PATIENCE_MS = 30_000
MOVING = """[...document.querySelectorAll("*")].map((e) => getComputedStyle(e))
  .filter((s) => s.animationName !== "none" || s.transitionDuration !== "0s" || s.scrollBehavior !== "auto").length"""
FOCUSED = """[document.activeElement.id || document.activeElement.className || document.activeElement.textContent,
  getComputedStyle(document.activeElement).outlineStyle, getComputedStyle(document.activeElement).outlineWidth]"""
_numbers = itertools.count(1)


class Place:
    """An orchestrator with a little fleet, its operator, and a way in."""

    def __init__(self, orchestrator: Orchestrator) -> None:
        self.orchestrator = orchestrator
        self.operator = orchestrator.claimed()
        self.url = orchestrator.url

    def link(self) -> str:
        with self.orchestrator.client(self.operator) as client:
            made = client.make_console_link()
        return f"{self.url}{made.path}#{made.code}"

    def joins(self, provider: str = "gcp") -> Member:
        return self.orchestrator.joined(self.operator, f"{provider}-{next(_numbers)}", provider)

    def runs_once(self, tenant: Identity) -> messages.RunView:
        """A run on a real cell, to its end."""
        with self.orchestrator.client(tenant) as client:
            module = client.put_blob(tasklet())
            key = f"a-key-of-the-console-{next(_numbers)}"
            asked = messages.RunRequest(key, "aws", "greeter", "main", module, "")
            run = client.start_run(asked)
            return client.run(run.run_id, wait_s=20.0)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    orchestrator = Orchestrator(tmp_path_factory.mktemp("console"))
    daemon = None
    try:
        there = Place(orchestrator.start())
        daemon = there.joins("aws").begin()
        daemon.wait_ready()
        there.joins("azure").register(Resources(cpu_cores=8, mem_bytes=1 << 34))
        there.joins("gcp")
        acme = orchestrator.employ(there.operator, "acme", budget_cents=50)
        assert there.runs_once(acme).state == "finished"
        yield there
    finally:
        if daemon is not None:
            daemon.discard()
        orchestrator.discard()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.fixture
def tab(browser: Any) -> Iterator[Any]:
    with fresh_tab(browser, ignore_https_errors=True) as page:
        yield page


@pytest.fixture
def console(tab: Any, place: Place) -> Any:
    """A tab that was signed in by a link, live."""
    tab.goto(place.link())
    live(tab)
    return tab


def live(tab: Any) -> None:
    tab.get_by_text("Live: changes appear by themselves.").wait_for()


def focus_walk(tab: Any) -> list[tuple[str, str, str]]:
    """Everything that the tabulator reaches, with the outline that it has then."""
    reached = []
    for _ in range(40):
        tab.keyboard.press("Tab")
        if tab.evaluate("document.activeElement === document.body"):
            break
        reached.append(tuple(tab.evaluate(FOCUSED)))
    return reached


def test_the_link_opens_the_console_and_its_secret_leaves_the_address_bar(tab: Any, place: Place) -> None:
    link = place.link()
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(f"{request.url} {request.headers}"))
    tab.goto(link, wait_until="commit")  # the page goes on by itself before it is loaded
    tab.get_by_role("heading", name="Infrastructure").wait_for()
    assert tab.url == f"{place.url}{STATS}"
    assert all(link.partition("#")[2] not in request for request in asked)
    assert all(request.startswith(place.url) for request in asked)
    tab.go_back()
    assert link.partition("#")[2] not in tab.url
    tab.route(
        f"**{SIGN_IN}", lambda route: route.fulfill(status=204) if route.request.method == "POST" else route.continue_()
    )
    tab.goto(place.link(), wait_until="commit")
    end = time.monotonic() + PATIENCE_MS / 1000
    while tab.url != f"{place.url}{SIGN_IN}":
        assert time.monotonic() < end, tab.url
        tab.wait_for_timeout(50)
    tab.unroute(f"**{SIGN_IN}")
    tab.evaluate("(link) => { setTimeout(() => { location.href = link; }); }", link)  # once the answer to this is out
    tab.get_by_text("this sign-in link was used already").wait_for()


def test_the_fleet_its_money_its_runs_and_its_security_are_there(console: Any) -> None:
    for name in ("Overview", "Infrastructure", "Money", "Runs", "Security"):
        assert console.get_by_role("region", name=name, exact=True).first.is_visible()
    cells = console.get_by_role("region", name="Cells").inner_text()
    for shown in (
        "✓ ready",
        "✗ not ready",
        "– enrolled",
        "outbound_registered: the cell holds no link",
        "8 cores, 0 B of 16 GiB",
    ):
        assert shown in cells
    assert "✓ finished" in console.get_by_role("region", name="Ended last").inner_text()
    assert "acme" in console.get_by_role("region", name="Budgets").inner_text()
    assert "ConsoleOpened" in console.locator("#security").inner_text()
    console.goto(console.url + "#infrastructure")
    assert console.locator("#infrastructure").evaluate("(e) => Math.abs(e.getBoundingClientRect().top) < 100")


def test_a_cell_that_joins_and_is_lost_shows_without_a_reload(console: Any, place: Place) -> None:
    console.evaluate("window.before = 1")
    member = place.joins()
    row = console.locator(f"#cell-{member.cell_id}")
    row.get_by_text("– enrolled").wait_for()
    member.register()
    link = RawLink(place.orchestrator, member.identity)
    try:
        assert isinstance(member.hello(link), frames.Welcome)
        link.say(frames.Heartbeat(leased=Resources()))
        row.get_by_text("✓ ready").wait_for()
    finally:
        link.close()
    row.get_by_text("outbound_registered").wait_for()
    assert console.evaluate("window.before") == 1


def test_what_comes_in_takes_neither_focus_nor_choice_away(console: Any, place: Place) -> None:
    console.get_by_label("State").focus()
    console.get_by_label("State").select_option("enrolled")
    console.locator("#runs-h").evaluate("(e) => getSelection().selectAllChildren(e)")
    member = place.joins()
    console.locator(f"#cell-{member.cell_id}").wait_for()
    assert console.evaluate("document.activeElement.id") == "state"
    assert console.get_by_label("State").input_value() == "enrolled"
    assert console.evaluate("String(getSelection())") == "Runs"
    console.get_by_role("button", name="Show").click()
    console.locator(f"#cell-{member.cell_id}").wait_for()
    assert "state=enrolled" in console.url
    assert "✓ ready" not in console.get_by_role("region", name="Cells").inner_text()


def test_it_can_be_stopped_from_moving(console: Any, place: Place) -> None:
    console.get_by_role("button", name="Pause").click()
    console.get_by_text("Paused: what stands here does not change.").wait_for()
    member = place.joins()
    time.sleep(2.5)
    assert not console.locator(f"#cell-{member.cell_id}").count()
    console.get_by_role("button", name="Go on").click()
    console.locator(f"#cell-{member.cell_id}").wait_for()


def test_a_lost_scheduler_is_told_and_one_that_comes_back_is_shown_again(browser: Any, tmp_path: Path) -> None:
    orchestrator = Orchestrator(tmp_path)
    try:
        there = Place(orchestrator.start())
        with fresh_tab(browser, ignore_https_errors=True) as tab:
            tab.goto(there.link())
            live(tab)
            assert orchestrator.scheduler is not None
            orchestrator.scheduler.popen.send_signal(signal.SIGSTOP)
            tab.get_by_text("The connection is lost; trying again.").wait_for(timeout=PATIENCE_MS)
            assert "stale" in (tab.locator("body").get_attribute("class") or "")
            orchestrator.scheduler.popen.send_signal(signal.SIGCONT)
            live(tab)
            orchestrator.scheduler.end(signal.SIGKILL)
            tab.get_by_text("The connection is lost; trying again.").wait_for()
            orchestrator.start()
            tab.get_by_text("You are signed out.").wait_for()
            tab.get_by_role("link", name="Sign in again").click()
            tab.get_by_role("heading", name="Sign in by a link").wait_for()
    finally:
        orchestrator.discard()


def test_a_replica_that_does_not_lead_any_more_is_told(console: Any) -> None:
    elsewhere = {"location": "https://127.0.0.1:1/admin/stats"}
    console.route("**/admin/stats/stream*", lambda route: route.fulfill(status=307, headers=elsewhere))
    console.route("**/admin/stats", lambda route: route.fulfill(status=307, headers=elsewhere))
    console.get_by_role("button", name="Pause").click()
    console.get_by_role("button", name="Go on").click()
    console.get_by_text("Another replica of this scheduler leads now; reload to go there.").wait_for()


def test_who_signs_out_is_told_in_every_tab(console: Any) -> None:
    other = console.context.new_page()
    other.goto(console.url)
    live(other)
    other.get_by_role("button", name="Sign out").click()
    other.get_by_role("heading", name="Sign in by a link").wait_for()
    console.get_by_text("Your session has ended.").wait_for()
    console.get_by_role("link", name="Sign in again").wait_for()


def test_without_scripts_it_can_be_read_narrowed_and_left(browser: Any, place: Place) -> None:
    with fresh_tab(browser, ignore_https_errors=True, java_script_enabled=False) as tab:
        tab.goto(place.url + STATS)
        assert tab.get_by_text("grafos fabric console").is_visible()
        tab.goto(place.url + SIGN_IN)
        tab.get_by_label("Code").fill(place.link().partition("#")[2])
        tab.get_by_role("button", name="Sign in").click()
        assert tab.url == place.url + STATS
        assert "✓ ready" in tab.content()
        tab.get_by_label("State").select_option("ready")
        tab.get_by_role("button", name="Show").click()
        assert tab.locator('tr[id^="cell-"]').count() == 1
        assert not tab.get_by_role("button", name="Pause").is_visible()
        tab.get_by_role("link", name="Reload").click()
        assert tab.locator('tr[id^="cell-"]').count() == 1
        tab.get_by_role("button", name="Sign out").click()
        tab.goto(place.url + STATS)
        assert "✓ ready" not in tab.content()


def test_a_browser_with_the_operator_s_certificate_needs_no_link(browser: Any, place: Place) -> None:
    held = {
        "origin": place.url,
        "certPath": str(place.operator.certificate),
        "keyPath": str(place.operator.key),
    }
    with fresh_tab(browser, ignore_https_errors=True, client_certificates=[held]) as tab:
        tab.goto(place.url + STATS)
        tab.get_by_text("Operator ada, by certificate").wait_for()
        live(tab)


def test_no_script_runs_but_the_page_s_own(console: Any) -> None:
    assert console.evaluate(INJECT).startswith("script-src")
    assert console.evaluate("window.ran") is None
    assert console.evaluate("document.cookie") == ""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", ["sign-in", "stats", "refused"])
def test_everybody_can_read_and_reach_it(page: str, scheme: str, browser: Any, place: Place) -> None:
    with fresh_tab(browser, ignore_https_errors=True, color_scheme=scheme, reduced_motion="reduce") as tab:
        if page == "stats":
            tab.goto(place.link())
            live(tab)
        else:
            tab.goto(place.url + (STATS if page == "sign-in" else "/admin/nowhere"))
        check_readable(tab)
        assert tab.evaluate(MOVING) == 0
        reached = focus_walk(tab)
        assert [name for name, style, width in reached if style == "none" or width == "0px"] == []
        wanted = {"stats": {"skip", "pause", "provider", "state"}, "sign-in": {"skip", "code"}, "refused": {"skip"}}
        assert wanted[page] <= {name for name, *_ in reached}
