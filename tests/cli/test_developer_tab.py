"""The Developer tab in a real browser: with scripts, without them, and beside a page that means harm."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from browser import INJECT, WAIT_MS, check_readable, chromium, fresh_tab
from command_line import HELLO, Person
from helper_door import HelperDoor


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HelperDoor]:
    somebody = Person(tmp_path_factory.mktemp("developer"))
    assert somebody("dev", "up").code == 0
    somebody.write_program(HELLO)
    assert somebody("deploy", "run").code == 0
    yield HelperDoor(somebody)
    somebody("dev", "down")


@pytest.fixture
def tab(browser: Any) -> Iterator[Any]:
    with fresh_tab(browser) as page:
        yield page


def sign_in(tab: Any, door: HelperDoor) -> None:
    tab.goto(door.url)
    tab.get_by_label("Bearer").fill(door.bearer)
    tab.get_by_role("button", name="Open").click()
    tab.get_by_role("heading", name="one on this machine").wait_for()


def kept(tab: Any) -> str | None:
    found: str | None = tab.evaluate("localStorage.getItem('grafos.bearer')")
    return found


def test_the_bearer_opens_it_once_and_stays_in_this_browser(tab: Any, door: HelperDoor) -> None:
    sign_in(tab, door)
    assert kept(tab) == door.bearer
    tab.reload()
    tab.get_by_role("heading", name="one on this machine").wait_for()
    assert door.bearer not in tab.content()


def test_a_wrong_bearer_is_told_and_not_kept(tab: Any, door: HelperDoor) -> None:
    tab.goto(door.url)
    tab.get_by_label("Bearer").fill("wrong")
    tab.get_by_role("button", name="Open").click()
    tab.get_by_text("The bearer is not the one of this dev up.").wait_for()
    assert kept(tab) is None


def test_the_link_of_dev_up_opens_it_and_leaves_no_bearer_in_the_address(tab: Any, door: HelperDoor) -> None:
    tab.goto(f"{door.url}/#bearer={door.bearer}")
    tab.get_by_role("heading", name="one on this machine").wait_for()
    assert (tab.url, kept(tab)) == (f"{door.url}/", door.bearer)


def test_the_link_of_dev_up_opens_it_also_where_it_asks_for_the_bearer_already(tab: Any, door: HelperDoor) -> None:
    tab.goto(door.url)
    tab.get_by_label("Bearer").wait_for()
    tab.goto(f"{door.url}/#bearer={door.bearer}")
    tab.get_by_role("heading", name="one on this machine").wait_for()
    assert (tab.url, kept(tab)) == (f"{door.url}/", door.bearer)


def test_a_tasklet_is_run_and_its_answer_cost_and_cell_are_in_the_list(tab: Any, door: HelperDoor) -> None:
    sign_in(tab, door)
    tab.get_by_label("Input").fill("abc")
    tab.get_by_role("button", name="Run", exact=True).click()
    row = tab.locator("tr[aria-current]")
    row.wait_for()
    run = door.person.only_run()
    for shown in ("one", "finished", '"hello": 1', "0¢", run["cell_id"], run["run_id"]):
        assert shown in row.inner_text()


def test_a_run_from_elsewhere_appears_by_itself(tab: Any, door: HelperDoor) -> None:
    sign_in(tab, door)
    run_id = door.person("deploy", "run", "--json").document["run_id"]
    tab.get_by_text(run_id).wait_for()


def test_the_bearer_can_be_forgotten(tab: Any, door: HelperDoor) -> None:
    sign_in(tab, door)
    tab.get_by_role("button", name="Forget the bearer in this browser").click()
    tab.get_by_label("Bearer").wait_for()
    assert kept(tab) is None
    assert "run-" not in tab.content()


def test_after_dev_down_the_bearer_is_forgotten_and_that_is_said(tab: Any, tmp_path: Path) -> None:
    somebody = Person(tmp_path)
    somebody("dev", "up")
    somebody.write_program(HELLO)
    sign_in(tab, HelperDoor(somebody))
    somebody("dev", "down")
    tab.get_by_text("The local fabric is down: grafos dev up").wait_for()
    assert kept(tab) is None
    assert "run-" not in tab.inner_text("main")


def test_without_scripts_it_can_be_read_and_a_tasklet_be_run(browser: Any, door: HelperDoor) -> None:
    password = {"username": "anybody", "password": door.bearer}
    context = browser.new_context(java_script_enabled=False, http_credentials=password)
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    page.goto(door.url + "/read")
    assert door.person.only_run()["run_id"] in page.content()
    page.get_by_label("Input").fill("by hand")
    page.get_by_role("button", name="Run", exact=True).click()
    page.locator("tr[aria-current]").wait_for()
    assert door.person.only_run()["run_id"] in page.locator("tr[aria-current]").inner_text()
    assert not page.get_by_role("button", name="Forget").is_visible()
    context.close()


def test_without_scripts_and_without_the_bearer_the_way_is_shown(browser: Any, door: HelperDoor) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(door.url)
    assert page.get_by_role("link", name="open it").get_attribute("href") == "/read"
    context.close()


def test_an_answer_is_text_and_nothing_but_the_page_s_own_script_runs(tab: Any, door: HelperDoor) -> None:
    evil = "{\\22a\\22:\\22<img src=x onerror=alert(1)><script>alert(2)</script>\\22}"
    length = len(evil.replace("\\22", '"'))
    wat = HELLO.replace('{\\"hello\\":1}', evil).replace("i32.const 11", f"i32.const {length}")
    person, source = door.person, door.person.project / "src" / "one.wat"
    try:
        source.write_text(wat)
        assert person("tasklet", "build").code == 0
        assert "onerror" in person("deploy", "run").out
        sign_in(tab, door)
        tab.get_by_text("<script>alert(2)</script>").first.wait_for()
        assert tab.locator("main img").count() == 0
        refused = tab.evaluate(INJECT)
        assert refused.startswith("script-src")
        assert tab.evaluate("window.ran") is None
    finally:
        source.write_text(HELLO)
        assert person("tasklet", "build").code == 0


def test_it_loads_nothing_but_itself_and_is_small(tab: Any, door: HelperDoor) -> None:
    sizes: dict[str, int] = {}
    tab.on("response", lambda answer: sizes.setdefault(answer.url, len(answer.body())))
    sign_in(tab, door)
    assert all(url.startswith(door.url + "/") for url in sizes)
    assert sum(sizes.values()) <= 100_000


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", ["closed", "open"])
def test_everybody_can_read_and_reach_it(page: str, scheme: str, tab: Any, door: HelperDoor) -> None:
    tab.emulate_media(color_scheme=scheme)
    if page == "open":
        sign_in(tab, door)
    else:
        tab.goto(door.url)
    check_readable(tab)
    reached = set()
    for _ in range(12):
        tab.keyboard.press("Tab")
        reached.add(tab.evaluate("document.activeElement.id || document.activeElement.className"))
    assert {"skip", "bearer"} <= reached or {"skip", "tasklet", "input", "forget"} <= reached


# --- a page that means harm ---------------------------------------------------------------------------------------


@pytest.fixture
def foreign() -> Iterator[str]:
    """The origin of another web server on this machine."""

    class Blank(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!DOCTYPE html><title>elsewhere</title>")

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Blank)
    serving = Thread(target=server.serve_forever)
    serving.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    serving.join()
    server.server_close()


FETCH = """async ([url, bearer]) => {
  try { const answer = await fetch(url, {headers: {Authorization: "Bearer " + bearer}}); return await answer.text(); }
  catch (error) { return String(error); }
}"""


def test_a_page_of_elsewhere_learns_nothing_even_with_the_bearer(tab: Any, foreign: str, door: HelperDoor) -> None:
    tab.goto(foreign)
    assert "TypeError" in tab.evaluate(FETCH, [door.url + "/api/v1/runs", door.bearer])
    before = door.person.only_run()["run_id"]
    tab.set_content(
        f'<form method="post" action="{door.url}/run"><input name="tasklet" value="one"><button>Go</button></form>'
    )
    tab.get_by_role("button", name="Go").click()
    tab.wait_for_url(door.url + "/**")
    assert "rights_missing" in tab.content()
    assert door.person.only_run()["run_id"] == before


def test_the_page_that_was_allowed_may_ask(tab: Any, foreign: str, door: HelperDoor) -> None:
    person = door.person
    assert person("dev", "up", "--origin", foreign).code == 0
    now = HelperDoor(person)
    try:
        tab.goto(foreign)
        answer = tab.evaluate(FETCH, [now.url + "/api/v1/tasklets", now.bearer])
        assert json.loads(answer)["tasklets"] == [{"name": "one"}]
        assert "token_refused" in tab.evaluate(FETCH, [now.url + "/api/v1/tasklets", "wrong"])
    finally:
        door.bearer = now.bearer
