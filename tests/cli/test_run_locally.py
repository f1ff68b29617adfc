"""The "Run locally" helper: who may ask it, and what it answers those who may."""

from __future__ import annotations

import base64
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import HELLO, MODULE, UNKNOWN_IMPORT, Person, record_of
from helper_door import HelperDoor

from grafos_cli.run_locally import page
from grafos_cli.run_locally.guard import Asker, Door, check_origins
from grafos_cli.run_locally.guard import check_bearer as shows_bearer
from grafos_cli.run_locally.guard import check_place as is_meant_for_us
from grafos_cli.run_locally.work import Shown
from grafos_core.errors import GrafosError
from grafos_core.ids import sha256_of
from grafos_scheduler.messages import Cost, RunView

ALLOWED = "https://dashboard.example:8443"
PATHS = ("/", "/read", "/api/v1/runs", "/api/v1/tasklets", "/favicon.ico", "/../dev.json")


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HelperDoor]:
    somebody = Person(tmp_path_factory.mktemp("developer"))
    assert somebody("dev", "up", "--origin", ALLOWED).code == 0
    somebody.write_program(HELLO, name="private-name")
    yield HelperDoor(somebody)
    somebody("dev", "down")


def pid_of(person: Person, number: int) -> int:
    daemons = record_of(person)["daemons"]
    assert isinstance(daemons, list)
    return int(daemons[number]["pid"])


# --- who may not --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("shown", [None, "Bearer", "Bearer x", "bearer ", "Basic eDp4", "Basic ???", "Digest x"])
def test_without_the_bearer_nothing_of_the_project_is_told(path: str, shown: str | None, door: HelperDoor) -> None:
    reply = door.ask("GET", path, authorization=shown)
    assert reply.status in (401, 404)
    assert (reply.status == 401) or path in ("/favicon.ico", "/../dev.json")
    assert "private-name" not in reply.body
    assert door.bearer not in reply.body


def test_without_the_bearer_nothing_is_run(door: HelperDoor) -> None:
    before = door.ask("GET", "/api/v1/runs").document["runs"]
    for path, body in (("/api/v1/runs", "{}"), ("/run", "tasklet=private-name&input=")):
        assert door.ask("POST", path, body, authorization=None).status == 401
    assert door.ask("GET", "/api/v1/runs").document["runs"] == before


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "localhost:{port}",
        "127.0.0.1",
        "127.0.0.2:{port}",
        "[::1]:{port}",
        "",
        None,
    ],
)
@pytest.mark.parametrize("path", ["/", "/api/v1/runs"])
def test_a_request_for_another_host_is_refused_even_with_the_bearer(
    path: str, host: str | None, door: HelperDoor
) -> None:
    """DNS rebinding: a page of evil.example, whose name points here by now, is of the same origin for its browser."""
    named = host.format(port=door.port) if host else host
    reply = door.ask("GET", path, host=named)
    assert reply.status in (400, 403)
    assert "private-name" not in reply.body


def test_two_hosts_are_no_host(door: HelperDoor) -> None:
    raw = f"GET /api/v1/runs HTTP/1.1\r\nHost: {door.authority}\r\nHost: evil.example\r\n"
    reply = door.says(f"{raw}Authorization: Bearer {door.bearer}\r\n\r\n".encode())
    assert reply.status == 400


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://127.0.0.1:1",
        "http://127.0.0.1",
        "https://{authority}",
        "http://localhost:{port}",
        "https://dashboard.example",
        "https://dashboard.example:8443.evil.example",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_a_page_of_elsewhere_is_refused_even_with_the_bearer(method: str, origin: str, door: HelperDoor) -> None:
    named = origin.format(authority=door.authority, port=door.port)
    reply = door.ask(method, "/api/v1/runs", "{}" if method == "POST" else "", origin=named)
    assert (reply.status, reply.error_code) == (403, "rights_missing")
    assert "access-control-allow-origin" not in reply.headers


def test_the_allowed_page_may_ask_and_read_the_answers(door: HelperDoor) -> None:
    preflight = door.ask(
        "OPTIONS",
        "/api/v1/runs",
        authorization=None,
        origin=ALLOWED,
        access_control_request_method="POST",
        access_control_request_headers="authorization",
        access_control_request_private_network="true",
    )
    assert preflight.status == 204
    assert preflight.headers["access-control-allow-origin"] == ALLOWED
    assert preflight.headers["access-control-allow-headers"] == "authorization, content-type"
    assert preflight.headers["access-control-allow-private-network"] == "true"
    reply = door.ask("GET", "/api/v1/tasklets", origin=ALLOWED)
    assert (reply.status, reply.headers["access-control-allow-origin"]) == (200, ALLOWED)
    assert reply.headers["vary"] == "Origin"
    assert "access-control-allow-credentials" not in reply.headers
    assert door.ask("GET", "/api/v1/tasklets", origin=ALLOWED, authorization=None).status == 401


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_a_page_of_elsewhere_embeds_is_refused_and_a_link_from_there_only_asks_for_the_bearer(
    site: str, door: HelperDoor
) -> None:
    """Another port of this address is of the same site."""
    embedded = door.ask("GET", "/read", sec_fetch_site=site, sec_fetch_mode="no-cors")
    assert embedded.status == 403
    opened = door.ask("GET", "/", authorization=None, sec_fetch_site=site, sec_fetch_mode="navigate")
    assert opened.status == 401


def test_a_form_with_the_browser_s_own_password_must_come_from_our_page(door: HelperDoor) -> None:
    basic = "Basic " + base64.b64encode(f"any:{door.bearer}".encode()).decode()
    form = "tasklet=private-name&input="
    assert door.ask("GET", "/read", authorization=basic).status == 200
    assert door.ask("POST", "/run", form, authorization=basic).status == 403
    assert door.ask("POST", "/run", form, authorization=basic, origin=door.url).status == 303


def test_a_bearer_of_before_is_worth_nothing_and_is_gone_with_the_fabric(tmp_path: Path) -> None:
    somebody = Person(tmp_path)
    somebody("dev", "up")
    before = HelperDoor(somebody)
    somebody("dev", "down")
    assert not (somebody.project / ".grafos" / "dev" / "bearer").exists()
    with pytest.raises(ConnectionRefusedError):
        before.ask("GET", "/")
    somebody("dev", "up")
    try:
        after = HelperDoor(somebody)
        assert after.bearer != before.bearer
        assert after.ask("GET", "/api/v1/runs", authorization=f"Bearer {before.bearer}").status == 401
    finally:
        somebody("dev", "down")


def test_the_bearer_is_in_one_private_file_and_in_no_log_list_or_output(door: HelperDoor) -> None:
    dev = door.person.project / ".grafos" / "dev"
    assert (dev / "bearer").stat().st_mode & 0o777 == 0o600
    assert len(door.bearer) >= 43
    helper = record_of(door.person)["helper"]
    assert isinstance(helper, dict)
    for place in (Path(f"/proc/{helper['pid']}/cmdline"), Path(f"/proc/{helper['pid']}/environ"), dev / "helper.log"):
        assert door.bearer not in place.read_text(errors="replace")
    again = door.person("dev", "up")
    assert door.bearer not in again.out + again.err
    assert f"Developer tab: {door.url}/ with the bearer in {dev / 'bearer'}" in again.out
    assert door.url.startswith("http://127.0.0.1:")


# --- the same questions, asked purely -----------------------------------------------------------------------------


def asker(**changed: str) -> Asker:
    plain = {"host": "127.0.0.1:5000", "origin": "", "fetch_site": "", "fetch_mode": "", "authorization": "Bearer key"}
    return Asker(**{"method": "GET", **plain, **changed})


def test_the_door_opens_for_its_own_page_for_programs_and_for_the_allowed() -> None:
    door = Door("127.0.0.1:5000", "key", (ALLOWED,))
    for friend in (
        asker(),
        asker(origin="http://127.0.0.1:5000", fetch_site="same-origin", method="POST"),
        asker(origin=ALLOWED, fetch_site="cross-site", fetch_mode="cors"),
        asker(fetch_site="none", fetch_mode="navigate"),
    ):
        is_meant_for_us(door, friend)
        shows_bearer(door, friend)
    with pytest.raises(GrafosError):
        shows_bearer(door, asker(authorization="Bearer kéy"))


@pytest.mark.parametrize(
    "origin",
    [
        "dashboard.example",
        "ftp://a",
        "https://",
        "https://a/b",
        "https://a?b",
        "https://me@a",
        "https://*",
        "https://A",
    ],
)
def test_what_is_no_origin_is_refused(origin: str, tmp_path: Path) -> None:
    with pytest.raises(GrafosError, match="is no origin"):
        check_origins([origin])


def test_another_origin_starts_the_helper_anew_and_is_let_in_until_down(tmp_path: Path) -> None:
    somebody = Person(tmp_path)
    assert somebody("dev", "up", "--origin", "nonsense").error_code == "usage"
    somebody("dev", "up")
    before, first = record_of(somebody), HelperDoor(somebody)
    try:
        assert somebody("dev", "up", "--origin", ALLOWED, "--json").document["how"] == "running"
        assert record_of(somebody)["daemons"] == before["daemons"]
        second = HelperDoor(somebody)
        assert (second.port, second.bearer == first.bearer) == (first.port, False)
        assert second.ask("GET", "/api/v1/tasklets", origin=ALLOWED).headers["access-control-allow-origin"] == ALLOWED
        os.kill(pid_of(somebody, 0), signal.SIGKILL)
        assert somebody("dev", "up", "--json").document["how"] == "resumed"
        third = HelperDoor(somebody)
        assert (third.port, third.bearer == second.bearer) == (first.port, False)
        assert third.ask("GET", "/api/v1/tasklets", origin=ALLOWED).headers["access-control-allow-origin"] == ALLOWED
    finally:
        somebody("dev", "down")


# --- what it does -------------------------------------------------------------------------------------------------


def test_a_run_that_a_page_asks_for_is_one_like_any_other(door: HelperDoor) -> None:
    wanted = {"tasklet": "private-name", "input_b64": base64.b64encode(b"abc").decode()}
    run = door.ask("POST", "/api/v1/runs", json.dumps(wanted)).document["run"]
    assert (run["state"], run["response"], run["input_sha256"]) == ("finished", {"hello": 1}, sha256_of(b"abc"))
    assert door.person.only_run()["run_id"] == run["run_id"]
    listed = door.ask("GET", "/api/v1/runs").document["runs"][0]
    told = door.person.only_run()
    assert listed == {**{name: value for name, value in told.items() if name in listed}, "response": {"hello": 1}}


def test_the_form_runs_a_tasklet_with_the_text_that_was_typed(door: HelperDoor) -> None:
    reply = door.ask("POST", "/run", "tasklet=private-name&input=one%0D%0Atwo", origin=door.url)
    assert reply.status == 303
    run = door.person.only_run()
    assert reply.headers["location"] == f"/?run={run['run_id']}"
    assert run["input_sha256"] == sha256_of(b"one\ntwo")
    assert 'aria-current="true"' in door.ask("GET", reply.headers["location"]).body


def test_a_source_that_changed_is_built_and_one_that_does_not_build_is_told(door: HelperDoor) -> None:
    source = door.person.project / "src" / "private-name.wat"
    try:
        source.write_text(MODULE.format(memory=1, run="i32.const 7"))
        failed = door.ask("POST", "/api/v1/runs", "{}").document["run"]
        assert (failed["state"], failed["code"]) == ("failed", "program_error")
        source.write_text("(broken")
        refused = door.ask("POST", "/api/v1/runs", "{}")
        assert (refused.status, refused.error_code) == (422, "build_failed")
        shown = door.ask("POST", "/run", "tasklet=private-name&input=", origin=door.url)
        assert (shown.status, "expected valid module field" in shown.body) == (422, True)
    finally:
        source.write_text(HELLO)
    assert door.ask("POST", "/api/v1/runs", "{}").document["run"]["state"] == "finished"


@pytest.mark.parametrize(
    ("method", "path", "body", "code"),
    [
        ("POST", "/api/v1/runs", "{", "request_invalid"),
        ("POST", "/api/v1/runs", '{"tasklet": 1}', "request_invalid"),
        ("POST", "/api/v1/runs", '{"command": "rm"}', "request_invalid"),
        ("POST", "/api/v1/runs", '{"input_b64": "?"}', "request_invalid"),
        ("POST", "/api/v1/runs", '{"tasklet": "another"}', "usage"),
        ("POST", "/run", "&".join("abcdef"), "request_invalid"),
        ("POST", "/run", b"\xff", "request_invalid"),
        ("DELETE", "/api/v1/runs", "", "not_found"),
        ("GET", "/api/v1/nothing", "", "not_found"),
        ("GET", "/.grafos/dev/bearer", "", "not_found"),
        ("PUT", "/", "", "not_found"),
    ],
)
def test_what_it_does_not_know_is_a_typed_refusal(
    method: str, path: str, body: str | bytes, code: str, door: HelperDoor
) -> None:
    reply = door.ask(method, path, body, origin=door.url)
    if "text/html" in reply.headers["content-type"]:
        assert f"<code>{code}</code>" in reply.body
    else:
        assert reply.error_code == code
    assert "Traceback" not in reply.body


def test_a_body_without_end_is_cut_off(door: HelperDoor) -> None:
    reply = door.ask("POST", "/api/v1/runs", b"x" * (33 << 20))
    assert (reply.status, reply.error_code) == (413, "body_too_large")


def test_a_fabric_that_is_down_is_said_on_the_page_in_the_words_of_the_commands(tmp_path: Path) -> None:
    somebody = Person(tmp_path)
    somebody("dev", "up")
    somebody.write_program(UNKNOWN_IMPORT)
    try:
        for number in (0, 1):
            os.kill(pid_of(somebody, number), signal.SIGKILL)
        reply = HelperDoor(somebody).ask("GET", "/")
        assert reply.status == 200
        assert "The local fabric has crashed" in reply.body
        assert "grafos dev up" in reply.body
    finally:
        somebody("dev", "down", "--discard")


# --- the page -----------------------------------------------------------------------------------------------------


def a_run(number: int, response: str) -> Shown:
    view = RunView(
        f"run-000000-000000-{number:016d}", "dev-tenant", "local", "local-<b>", "local", "one", "o<i>ne", "a" * 64, "",
        "finished", "", "", 1_800_000_000.0, 1_800_000_001.0, 5, Cost(0, 0.0, 0, 1.0, "1/2"),
    )  # fmt: skip
    return Shown(view, response)


def test_a_page_full_of_long_answers_stays_small_and_none_of_them_is_markup() -> None:
    answer = json.dumps({"text": "<script>alert(1)</script>" * 40_000})
    runs = [a_run(number, answer) for number in range(20)]
    shown = page.developer_tab(page.Sight("http://127.0.0.1:1", None, runs), now=1_800_000_060.0)
    assert len(shown) <= page.SIZE_BYTES_MAX == 100_000
    text = shown.decode()
    assert text.count("<script>") == 1
    assert "local-&lt;b&gt;" in text
    assert "o&lt;i&gt;ne" in text
    assert "alert(1)&lt;/script&gt;" in text


def test_every_answer_forbids_to_be_framed_stored_or_sniffed(door: HelperDoor) -> None:
    for path, authorization in (("/", f"Bearer {door.bearer}"), ("/", None), ("/api/v1/runs", None), ("/x", None)):
        headers = door.ask("GET", path, authorization=authorization).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
