"""Services from the command line, on the local fabric: deployed from `grafos.toml`, reached by name, taken away."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from command_line import Person, ends_with

from grafos_cell.conformance.wat import tasklet_text, text_at

ANSWER = "HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nhello\n"
PAGE_AT = 8192
SERVE = f"""
(if (i32.lt_s (call $svc_listen (i32.const 0) (i32.const 8080) (i32.const 64)) (i32.const 0))
    (then (return (i32.const 99))))
(loop $next
    (local.set $h (call $svc_accept (i32.const 1)))
    (if (i32.lt_s (local.get $h) (i32.const 0)) (then (return (i32.const 0))))
    (drop (call $svc_read (local.get $h) (i32.const 4096) (i32.const 4096)))
    (drop (call $svc_write (local.get $h) (i32.const {PAGE_AT}) (i32.const {len(ANSWER)})))
    (drop (call $svc_close (local.get $h)))
    (br $next))
(unreachable)"""
WEB = tasklet_text(SERVE, top=text_at(PAGE_AT, ANSWER), memory="1", run_locals="(local $h i32)")
SERVICE = '\n[[services]]\nname = "web"\ntasklet = "one"\nport = {port}\nmem = 4096\nreplicas = {replicas}\n'


@pytest.fixture(scope="module")
def shop(resident: Person) -> Iterator[Person]:
    """Somebody with a program that serves."""
    resident.write_program(WEB)
    yield resident
    resident("service", "rm", "web", "--now")


def declare(person: Person, *, port: int = 8080, replicas: int = 1, more: str = "") -> None:
    manifest = person.project / "grafos.toml"
    own = manifest.read_text().partition("\n[[services]]")[0]
    manifest.write_text(own + SERVICE.format(port=port, replicas=replicas) + more)


def until(holds: Callable[[], Any]) -> Any:
    ends_at = time.monotonic() + 60
    while not (found := holds()):
        assert time.monotonic() < ends_at
        time.sleep(0.1)
    return found


@pytest.mark.timeout(300)
def test_a_service_is_deployed_opened_and_taken_away(shop: Person) -> None:
    declare(shop)
    answer = shop("service", "deploy", "--json")
    assert answer.code == 0, answer.err
    [view] = answer.document["services"]
    assert (view["name"], view["healthy"]) == ("web", 1)
    assert "web" in shop("service", "ls").out
    opening = shop.starts("service", "open", "web", "--json")
    try:
        url = address_of(opening)
        assert urllib.request.urlopen(url, timeout=20).read() == b"hello\n"  # noqa: S310 - our own address
        assert curled(url) == "hello\n"
        silent = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=20)
        until(lambda: instance_of(shop)["sessions"] == 1)
    finally:
        opening.send_signal(signal.SIGINT)
        answer = ends_with(opening)
    silent.close()
    assert (answer.code, "Traceback" in answer.err) == (130, False)
    shown = shop("service", "show", "web")
    assert (shown.code, "1 of 1" in shown.out) == (0, True)
    assert shop("service", "rm", "web").code == 0
    until(lambda: not shop("service", "ls", "--json").document["services"])


def address_of(opening: subprocess.Popen[str]) -> str:
    assert opening.stdout is not None
    text = ""
    while not (found := re.search(r"http://127\.0\.0\.1:\d+", text)):
        line = opening.stdout.readline()
        assert line, f"it ended: {text}"
        text += line
    return found[0]


def curled(url: str) -> str:
    return subprocess.run(["curl", "-sS", "--max-time", "20", url], capture_output=True, text=True, check=True).stdout


@pytest.mark.timeout(300)
def test_a_service_is_cut_over_failed_over_and_scaled_within_its_cells(shop: Person) -> None:
    declare(shop)
    assert shop("service", "deploy").code == 0
    first = instance(shop)
    assert shop("service", "cutover", "web", "--instance-id", first).code == 0
    second = until(lambda: found if (found := instance(shop)) not in ("", first) else "")
    assert shop("service", "failover", "web").code == 0
    until(lambda: instance(shop) not in ("", first, second))
    refused = shop("service", "scale", "web", "2")
    assert (refused.code, refused.error_code) == (6, "placement_failed")
    assert "it has an instance of this service)" in refused.err, "the port is its own"
    assert first in shop("service", "logs", "web").out
    happened = [one["what"] for one in shop("events", "--json").document["events"] if one["name"] == "web/0"]
    steps = ["CutoverStarted", "CutoverCompleted", "FailoverStarted"]
    assert [what for what in happened if what in steps] == steps
    assert shop("service", "rm", "web", "--now").code == 0
    until(lambda: not shop("service", "ls", "--json").document["services"])


def instance(person: Person) -> str:
    """The instance that is active now."""
    view = person("service", "show", "web", "--json").document["service"]
    active = [each["instance_id"] for each in view["instances"] if each["state"] == "active"]
    return active[0] if active else ""


def instance_of(person: Person) -> dict[str, Any]:
    """The only instance there is."""
    [found] = person("service", "show", "web", "--json").document["service"]["instances"]
    return dict(found)


def test_the_refusal_of_one_says_which_were_deployed_before_it(shop: Person) -> None:
    declare(shop, more='[[services]]\nname = "far"\ntasklet = "one"\nport = 1\nprovider = "gcp"\n')
    answer = shop("service", "deploy")
    assert (answer.code, answer.error_code) == (6, "no_eligible_provider_cells")
    assert "deployed before it: web" in answer.err
    assert [each["name"] for each in shop("service", "ls", "--json").document["services"]] == ["web"]
    assert shop("service", "rm", "web", "--now").code == 0
    until(lambda: not shop("service", "ls", "--json").document["services"])
    unknown = shop("service", "deploy", "--name", "nix")
    assert (unknown.code, unknown.error_code) == (2, "usage")
    assert "it has web, far" in unknown.err
    assert "name one of these" in unknown.err


def test_a_program_that_only_serves_is_not_run(shop: Person) -> None:
    declare(shop)
    for words in (("deploy",), ("deploy", "plan")):
        answer = shop(*words)
        assert (answer.code, answer.error_code) == (2, "usage")
        assert "grafos service deploy" in answer.err


def test_more_replicas_than_cells_are_refused(shop: Person) -> None:
    declare(shop, replicas=2)
    answer = shop("service", "deploy")
    assert (answer.code, answer.error_code) == (6, "placement_failed")


@pytest.mark.parametrize(
    ("port", "replicas", "more", "said"),
    [
        (8080, 0, "", "services.replicas"),
        (0, 1, "", "services.port"),
        (8080, 1, "cpu = 0\n", "services.cpu"),
        (8080, 1, 'cell_ids = ["A B"]\n', "services.cell_ids"),
        (70000, 1, "", "it must be 1 to 65535"),
        (8080, 1, 'priority = "high"\n', "known are guaranteed, standard, scavenger"),
        (8080, 1, "repicas = 2\n", "replicas"),
        (8080, 1, '[[services]]\nname = "web"\nport = 1\ntasklet = "one"\n', "two services"),
        (8080, 1, '[[services]]\nname = "api"\nport = 1\ntasklet = "two"\n', "tasklet of a service"),
    ],
)
def test_a_wrong_table_is_told_with_its_line(shop: Person, port: int, replicas: int, more: str, said: str) -> None:
    declare(shop, port=port, replicas=replicas, more=more)
    answer = shop("validate", "--static")
    assert (answer.code, answer.error_code) == (2, "manifest_invalid")
    assert said in answer.err
    assert re.search(r"grafos\.toml:\d+", answer.err)


def test_a_service_that_there_is_not_is_unknown_to_every_verb(shop: Person) -> None:
    for words in (("show", "x"), ("scale", "x", "1"), ("cutover", "x"), ("failover", "x"), ("rm", "x"), ("logs", "x")):
        assert shop("service", *words).error_code == "service_unknown"
    assert shop("service", "open", "x").error_code == "service_unknown"


@pytest.mark.timeout(300)
def test_a_port_of_this_machine_that_another_program_has_is_told(shop: Person) -> None:
    declare(shop)
    assert shop("service", "deploy").code == 0
    with socket.create_server(("127.0.0.1", 0)) as taken:
        answer = shop("service", "open", "web", "--port", str(taken.getsockname()[1]))
    assert (answer.code, answer.error_code) == (8, "port_taken")
