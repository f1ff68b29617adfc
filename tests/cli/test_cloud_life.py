"""One cell while it lives, on three emulated clouds: shown, read, extended, allowed; and one that only booted."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from command_line import HELLO, Person, seconds
from follower import Follower

from grafos_cli.clouds import public_address
from grafos_cli.following import CONSOLE_EVERY_S
from grafos_core.errors import GrafosError

HOUR_S = 3600


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """Somebody whose shell is pointed at three emulated clouds."""
    somebody = Person(tmp_path_factory.mktemp("operator"))
    up = somebody("emulate", "up")
    assert up.code == 0, up.err
    somebody.env.update(somebody("emulate", "env", "--json").document["environment"])
    somebody.env["CLOUDSDK_COMPUTE_REGION"] = "us-central1"
    somebody.write_program(HELLO)
    yield somebody
    somebody("emulate", "down")


def made(operator: Person, provider: str, cell_id: str, *flags: str) -> Iterator[dict[str, Any]]:
    alone = () if provider == "aws" else ("--no-join",)
    answer = operator("cloud", "provision", provider, "--cell-id", cell_id, "--yes", "--json", *alone, *flags)
    assert answer.code == 0, answer.err
    yield answer.document["cell"]
    gone = operator("cloud", "teardown", provider, "--cell-id", cell_id, "--yes")
    assert gone.code == 0, gone.err


@pytest.fixture(scope="module")
def on_aws(operator: Person) -> Iterator[dict[str, Any]]:
    yield from made(operator, "aws", "living", "--ttl", "1h")


@pytest.fixture(scope="module")
def on_gcp(operator: Person) -> Iterator[dict[str, Any]]:
    yield from made(operator, "gcp", "far", "--ttl", "1h", "--max-ttl", "3h")


@pytest.fixture(scope="module")
def on_azure(operator: Person) -> Iterator[dict[str, Any]]:
    yield from made(operator, "azure", "blue", "--ttl", "1h")


def shown(operator: Person, cell_id: str) -> dict[str, Any]:
    answer = operator("cloud", "show", "--cell-id", cell_id, "--json")
    assert answer.code == 0, answer.err
    found: dict[str, Any] = answer.document["cell"]
    return found


# --- a cell that has booted ---------------------------------------------------------------------------------------


def test_a_registered_cell_is_listed_as_booted_and_never_as_ready(
    operator: Person, on_gcp: dict[str, Any], on_azure: dict[str, Any]
) -> None:
    assert (on_gcp["state"], on_azure["state"]) == ("booted", "booted")
    listed = {cell["cell_id"]: cell["state"] for cell in operator("cloud", "ls", "--json").document["cells"]}
    assert (listed["far"], listed["blue"]) == ("booted", "booted")


@pytest.mark.parametrize("flags", [(), ("--cell-id", "far")])
def test_a_program_does_not_run_there_yet_and_that_is_told(
    operator: Person, on_gcp: dict[str, Any], flags: tuple[str, ...]
) -> None:
    answer = operator("deploy", "run", "--provider", "gcp", *flags)
    assert answer.error_code == "runtime_not_ready"
    assert "booted" in answer.err
    assert "orchestrator" in answer.err
    assert "next:" in answer.err


def test_the_plan_says_that_nobody_gets_in_and_until_when_it_may_live(operator: Person) -> None:
    answer = operator("cloud", "provision", "gcp", "--no-join", "--ttl", "1h", "--max-ttl", "2h", "--dry-run")
    assert answer.code == 0, answer.err
    assert "by nobody" in answer.out
    assert "it can be extended until" in answer.out
    assert "disk afterwards" in answer.out


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("gcp", "--ttl", "2h", "--max-ttl", "1h"), "config_invalid"),
        (("gcp", "--allow", "203.0.113.7"), "config_invalid"),
        (("azure", "--ttl", "1d"), "config_invalid"),
        (("azure", "--ttl", "1m"), "config_invalid"),
        (("gcp", "--type", "z9-nano"), "cloud_invalid"),
    ],
)
def test_an_input_that_cannot_be_used_there_is_told(words: tuple[str, ...], code: str, operator: Person) -> None:
    answer = operator("cloud", "provision", *words, "--no-join", "--yes")
    assert answer.error_code == code, answer.err
    assert "next:" in answer.err


# --- show and logs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "cell_id", "layers"),
    [
        ("on_aws", "living", ["the machine's timer", "a sweep"]),
        ("on_gcp", "far", ["a sweep", "the cloud", "the machine's timer"]),
        ("on_azure", "blue", ["a sweep", "the cloud", "the machine's timer"]),
    ],
)
def test_a_cell_is_shown_with_its_layers_and_its_resources(
    cell: str, cell_id: str, layers: list[str], operator: Person, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(cell)
    seen = shown(operator, cell_id)
    assert [layer["by"] for layer in seen["layers"]] == layers
    assert {part["state"] for part in seen["resources"]} == {"ready"}
    assert seen["machine_state"] == "ready"
    assert seen["held_micro_cents"] > seen["rate_micro_cents_per_hour"]
    text = operator("cloud", "show", "--cell-id", cell_id).out
    assert all(layer in text for layer in layers)
    assert operator("cloud", "show", "--cell-id", "nobody").error_code == "cell_unknown"


def test_all_clouds_are_looked_at_and_told_in_their_order(
    operator: Person, on_gcp: dict[str, Any], on_aws: dict[str, Any]
) -> None:
    answer = operator("cloud", "sweep")
    assert answer.code == 0, answer.out + answer.err
    assert all(f"look at {name}: done in " in answer.err for name in ("aws", "azure", "gcp"))
    accounts = operator("cloud", "sweep", "--json").document["accounts"]
    assert [account["provider"] for account in accounts] == ["aws", "azure", "gcp"]
    states = {one["cell_id"]: one["state"] for account in accounts for one in account["resources"]}
    assert (states["living"], states["far"]) == ("live", "live")


def test_the_console_of_a_machine_is_read_from_afar(operator: Person, on_gcp: dict[str, Any]) -> None:
    lines = operator("cloud", "logs", "--cell-id", "far", "--json").document["lines"]
    assert [line for line in lines if line.startswith("grafos: booted cell=far timer=")]
    assert len(operator("cloud", "logs", "--cell-id", "far", "--lines", "1").out.splitlines()) == 1
    assert operator("cloud", "logs", "--cell-id", "far", "--lines", "0").code == 2


def test_the_console_is_followed_and_no_line_comes_twice(operator: Person, on_gcp: dict[str, Any]) -> None:
    follower = Follower(operator, "cloud", "logs", "--cell-id", "far", "-f", "--json")
    follower.until(lambda lines: any("booted cell=far" in line for line in lines))
    before = len(follower.lines)
    time.sleep(1.5 * CONSOLE_EVERY_S)  # the cloud was asked once more
    assert sum("booted cell=far" in line for line in follower.lines[: before + 1]) == 1
    assert follower.stop() == (130, "")


# --- extend -------------------------------------------------------------------------------------------------------


def test_a_cell_is_extended_by_a_time_and_to_a_moment(operator: Person, on_aws: dict[str, Any]) -> None:
    ends_at = shown(operator, "living")["expires_at"]
    told = operator("cloud", "extend", "--cell-id", "living", "--ttl", "+2h", "--yes", "--json").document
    assert seconds(told["cell"]["expires_at"]) == seconds(ends_at) + 2 * HOUR_S
    moment = time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(seconds(ends_at) + 5 * HOUR_S))
    answer = operator("cloud", "extend", "--cell-id", "living", "--until", moment, "--yes")
    assert answer.code == 0, answer.err
    assert seconds(shown(operator, "living")["expires_at"]) // 60 == (seconds(ends_at) + 5 * HOUR_S) // 60
    run = operator("deploy", "run", "--provider", "aws", "--json")
    assert run.code == 0, run.out + run.err
    assert run.document["run"]["state"] == "finished"


def test_on_compute_engine_only_what_was_paid_for_is_given(operator: Person, on_gcp: dict[str, Any]) -> None:
    assert operator("cloud", "extend", "--cell-id", "far", "--ttl", "+1h", "--yes").code == 0
    refused = operator("cloud", "extend", "--cell-id", "far", "--ttl", "+3h", "--yes")
    assert (refused.code, refused.error_code) == (2, "unsupported")
    assert "far was made to end by 20" in refused.err
    assert "--max-ttl" in refused.err


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("--ttl", "2h"),
        ("--ttl", "+soon"),
        ("--until", "tomorrow"),
        ("--ttl", "+1h", "--until", "2030-01-01T00:00Z"),
    ],
)
def test_a_time_that_is_none_is_told(operator: Person, on_aws: dict[str, Any], flags: tuple[str, ...]) -> None:
    answer = operator("cloud", "extend", "--cell-id", "living", *flags, "--yes")
    assert (answer.code, answer.error_code) == (2, "usage")


def test_an_extension_is_asked_about_first(operator: Person, on_aws: dict[str, Any]) -> None:
    answer = operator("cloud", "extend", "--cell-id", "living", "--ttl", "+1h")
    assert (answer.code, answer.error_code) == (3, "confirmation_needed")


# --- allow --------------------------------------------------------------------------------------------------------


def test_the_port_is_opened_to_another_address(operator: Person, on_aws: dict[str, Any]) -> None:
    told = operator("cloud", "allow", "--cell-id", "living", "--cidr", "198.51.100.0/24", "--json").document
    assert told["allowed"] == "198.51.100.0/24"
    told = operator("cloud", "allow", "--cell-id", "living", "--my-ip", "--json").document
    assert told["allowed"] == "127.0.0.1/32"
    assert operator("cloud", "allow", "--cell-id", "living").error_code == "usage"
    assert operator("cloud", "allow", "--cell-id", "living", "--cidr", "0.0.0.0/0").error_code == "config_invalid"


def test_a_cell_without_a_port_cannot_be_opened(operator: Person, on_gcp: dict[str, Any]) -> None:
    answer = operator("cloud", "allow", "--cell-id", "far", "--my-ip")
    assert (answer.code, answer.error_code) == (2, "unsupported")


class Mirror(http.server.HTTPServer):
    """Tells everybody the same."""

    said = b"203.0.113.7\n"


class Visitor(http.server.BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.said)))
        self.end_headers()
        self.wfile.write(self.server.said)

    def log_message(self, *_: object) -> None: ...


def test_our_own_address_is_asked_for_and_believed_only_if_it_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Mirror(("127.0.0.1", 0), Visitor)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("GRAFOS_MY_IP_URL", f"http://127.0.0.1:{server.server_port}/")
    try:
        assert public_address(emulated=False) == "203.0.113.7"
        server.said = b"<html>log in first</html>"
        with pytest.raises(GrafosError) as refused:
            public_address(emulated=False)
    finally:
        server.shutdown()
        server.server_close()
    assert refused.value.code == "cloud_unreachable"
    assert "--cidr" in refused.value.next
