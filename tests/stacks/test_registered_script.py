"""The user data of a registered cell as a program of its own, on the metadata of both clouds."""

from __future__ import annotations

import ast
import hashlib
import http.server
import io
import json
import ssl
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bare_machine import timers, without_shutdown
from registered import CLOUDS, plan
from registered_machine import PATIENCE_S, Machine, Metadata, until

from grafos_core import trust
from grafos_core.clock import VirtualClock
from grafos_core.fabric import open_fabric
from grafos_stacks.bootstrap import USER_DATA_BYTES_MAX, Booted, Joining, booted_in, fill_in, render
from grafos_stacks.spec import REGISTERED


@pytest.fixture
def metadata() -> Iterator[Metadata]:
    server = Metadata()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(params=CLOUDS)
def machine(request: pytest.FixtureRequest, tmp_path: Path, metadata: Metadata) -> Iterator[Machine]:
    one = Machine(tmp_path, metadata, request.param)
    yield one
    one.end()


@pytest.fixture
def on_azure(tmp_path: Path, metadata: Metadata) -> Iterator[Machine]:
    one = Machine(tmp_path, metadata, "azure")
    yield one
    one.end()


# --- its text -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", CLOUDS)
def test_it_is_small_and_understood_by_python_3_9_and_the_same_bytes_for_every_attempt(provider: str) -> None:
    fabric = open_fabric(VirtualClock(), "script")
    text = render(fabric, plan(provider), 1)
    assert len(text.encode()) <= USER_DATA_BYTES_MAX
    tree = ast.parse(text, feature_version=(3, 9))
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert {name.split(".")[0] for name in imported} <= sys.stdlib_module_names
    assert render(fabric, plan(provider), 2) == text


def test_it_names_programs_and_never_their_places() -> None:
    source = fill_in({}, REGISTERED)
    for place in ("/usr/bin/python", "/sbin", "/bin/sh", "/usr/sbin"):
        assert place not in source


# --- its work -----------------------------------------------------------------------------------------------------


def test_it_sets_the_timer_and_says_once_that_it_booted(machine: Machine) -> None:
    machine.boot()
    until(lambda: booted_in(machine.console(), "one"))
    assert machine.orders() == ["shutdown -P +60"]
    place = {"gcp": "us-central1-a", "azure": "eastus"}[machine.settings["provider"]]
    booted = Booted(machine.settings["timer_at"], "grafos-one-machine-abc", place)
    assert booted_in(machine.console(), "one") == booted
    assert machine.console().count("grafos: ") == 1


def test_at_the_next_boot_it_sets_the_timer_anew(machine: Machine) -> None:
    machine.boot()
    until(lambda: machine.console().count("booted") == 1)
    machine.end()
    machine.boot()
    until(lambda: machine.console().count("booted") == 2)
    assert machine.orders() == ["shutdown -P +60"] * 2


def test_a_machine_past_its_end_is_switched_off_at_once(machine: Machine) -> None:
    machine.settings["timer_at"] = int(time.time()) - 5
    machine.boot()
    until(machine.orders)
    assert machine.orders() == ["shutdown -P now"]


def test_the_timer_is_set_before_anything_else_can_fail(machine: Machine, metadata: Metadata) -> None:
    metadata.failures = 10**9
    machine.boot()
    until(machine.orders)
    assert booted_in(machine.console(), "one") is None


def test_it_waits_for_a_network_that_comes_up_late(machine: Machine, metadata: Metadata) -> None:
    metadata.failures = 3
    machine.boot()
    until(lambda: booted_in(machine.console(), "one"))


def test_where_shutdown_does_not_take_the_order_a_timer_of_systemd_does(machine: Machine) -> None:
    without_shutdown(machine)
    at = machine.settings["timer_at"]
    for boots in (1, 2):  # on Azure it runs twice at the first boot: by itself, and as the service that it becomes
        machine.boot()
        until(lambda count=boots: machine.console().count("booted") == count)
        machine.end()
        assert timers(machine) == {f"timer-grafos-expiry-{at}.timer": f"@{at}"}
        said = booted_in(machine.console(), "one")
        assert said is not None
        assert said.timer_at == at


def test_a_timer_of_systemd_is_replaced_when_the_end_moves(on_azure: Machine) -> None:
    """The earlier one would end the machine at its first end."""
    without_shutdown(on_azure)
    later = on_azure.settings["timer_at"] + 3600
    on_azure.metadata.tags = expires(later - 300)
    on_azure.boot()
    until(lambda: "extended" in on_azure.console())
    assert timers(on_azure) == {f"timer-grafos-expiry-{later}.timer": f"@{later}"}


def test_a_timer_of_systemd_for_a_moment_that_has_passed_is_set_for_the_next_seconds(machine: Machine) -> None:
    without_shutdown(machine)
    machine.settings["timer_at"] = int(time.time()) - 60
    machine.boot()
    until(lambda: booted_in(machine.console(), "one"))
    [moment] = timers(machine).values()
    assert 0 < int(moment[1:]) - machine.settings["timer_at"] - 60 < PATIENCE_S + 6


@pytest.mark.parametrize("kept", [b"\xff\xfe", b"", b"\0" * 10, b"9" * 5000, b"-5"])
def test_what_an_earlier_life_kept_cannot_keep_the_timer_from_being_set(kept: bytes, on_azure: Machine) -> None:
    (on_azure.folder / "timer-at").write_bytes(kept)
    on_azure.boot()
    until(lambda: booted_in(on_azure.console(), "one"))
    assert on_azure.orders() == ["shutdown -P +60"]


def test_nor_does_it_set_it_past_the_last_moment(on_azure: Machine) -> None:
    (on_azure.folder / "timer-at").write_text(str(on_azure.settings["timer_at"] + 30 * 86400))
    on_azure.boot()
    until(on_azure.orders)
    assert on_azure.orders() == ["shutdown -P +1440"]


def test_a_metadata_service_that_talks_nonsense_is_asked_again(machine: Machine, metadata: Metadata) -> None:
    metadata.nonsense = 3
    machine.boot()
    until(lambda: booted_in(machine.console(), "one"))


def test_where_the_moved_timer_cannot_be_kept_it_is_moved_all_the_same(on_azure: Machine) -> None:
    later = on_azure.settings["timer_at"] + 3600
    (on_azure.folder / "timer-at").mkdir()
    on_azure.metadata.tags = expires(later - 300)
    on_azure.boot()
    until(lambda: f"extended cell=one timer={later}" in on_azure.console())
    assert on_azure.orders() == ["shutdown -P +60", "shutdown -P +120"]
    assert "not kept" in on_azure.console()


def test_a_machine_without_any_timer_says_so(machine: Machine) -> None:
    machine.tool("shutdown", "exit 1")
    machine.boot()
    until(lambda: booted_in(machine.console(), "one"))
    said = booted_in(machine.console(), "one")
    assert said is not None
    assert said.timer_at == 0


# --- extending ----------------------------------------------------------------------------------------------------


def expires(at: object) -> list[dict[str, str]]:
    return [{"name": "owner", "value": "me"}, {"name": "grafos:expires", "value": str(at)}]


def test_a_machine_on_azure_moves_its_timer_when_its_tags_say_so(on_azure: Machine) -> None:
    on_azure.boot()
    until(lambda: booted_in(on_azure.console(), "one"))
    later = on_azure.settings["timer_at"] + 3600
    on_azure.metadata.tags = expires(later - 300)
    until(lambda: "extended" in on_azure.console())
    assert on_azure.orders() == ["shutdown -P +60", "shutdown -P +120"]
    assert f"grafos: extended cell=one timer={later}" in on_azure.console()


def test_a_machine_that_was_extended_and_starts_again_keeps_its_later_end(on_azure: Machine) -> None:
    later = on_azure.settings["timer_at"] + 3600
    on_azure.metadata.tags = expires(later - 300)
    on_azure.boot()
    until(lambda: "extended" in on_azure.console())
    on_azure.end()
    on_azure.metadata.tags = []
    on_azure.boot()
    until(lambda: on_azure.console().count("booted") == 2)
    assert on_azure.orders()[2:] == ["shutdown -P +120"]


@pytest.mark.parametrize("said", ["-60", "soon", "", "later than it may"])
def test_it_moves_its_timer_neither_back_nor_past_the_last_moment(on_azure: Machine, said: str) -> None:
    most = on_azure.settings["timer_at_most"]
    wrong = {"-60": on_azure.settings["timer_at"] - 360, "later than it may": most - 299}.get(said, said)
    on_azure.metadata.tags = expires(wrong)
    on_azure.boot()
    until(lambda: booted_in(on_azure.console(), "one"))
    time.sleep(0.2)  # ten looks
    assert on_azure.orders() == ["shutdown -P +60"]


def test_what_a_console_says_is_read_in_whatever_its_cloud_puts_around_it() -> None:
    console = (
        "[    3.1] systemd[1]: Started\n"
        "[   12.3] google_metadata_script_runner[500]: startup-script: "
        "grafos: booted cell=one timer=17 machine=m place=p\n"
        "grafos: booted cell=other timer=18 machine=m place=p\n"
    )
    assert booted_in(console, "one") == Booted(17, "m", "p")
    assert booted_in(console, "on") is None


# --- joining ------------------------------------------------------------------------------------------------------

AGENT = "import json, os, sys, time; print('AGENT', os.getpid(), json.dumps([sys.argv[1:], sys.path[0]]), flush=True)"


def packed(program: str) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, content in (("grafos_cell/__init__.py", ""), ("grafos_cell/registered.py", program)):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content.encode()))
    return data.getvalue()


class Orchestrator(http.server.ThreadingHTTPServer):
    """Gives out bundles over TLS, with a certificate of a CA of its own. At first it fails as often as ``failures``,
    then it gives other bytes as often as ``wrong``."""

    def __init__(self, folder: Path, bundle: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Bundles)
        self.bundle, self.failures, self.wrong = bundle, 0, 0
        self.asked: list[str] = []
        now, ca_key, key = time.time(), trust.new_key(), trust.new_key()
        self.ca_pem = trust.make_ca(ca_key, "grafos orchestrator", now)
        uri = trust.spiffe_id("fab-1", "scheduler", "orchestrator")
        pem = trust.sign_csr(self.ca_pem, ca_key, trust.make_csr(key, "x"), uri, now, 3600, ("127.0.0.1",))
        (folder / "server.pem").write_text(pem)
        (folder / "server-key.pem").write_bytes(trust.key_to_pem(key))
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(folder / "server.pem", folder / "server-key.pem")
        self.socket = tls.wrap_socket(self.socket, server_side=True)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_: object) -> None: ...

    @property
    def settings(self) -> dict[str, object]:
        return {
            "orchestrator": f"https://127.0.0.1:{self.server_port}",
            "ca_pem": self.ca_pem,
            "bootstrap_token": "header.claims.signature",
            "bundle_sha256": hashlib.sha256(self.bundle).hexdigest(),
            "bundle_bytes": len(self.bundle),
            "region": "eastus",
            "expires_at": 1_900_000_000,
        }


class Bundles(http.server.BaseHTTPRequestHandler):
    server: Orchestrator

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.server.failures:
            self.server.failures -= 1
            self.send_error(503)
            return
        data = self.server.bundle
        if self.server.wrong:
            self.server.wrong -= 1
            data = b"x" * len(data)
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def orchestrator(tmp_path: Path) -> Iterator[Orchestrator]:
    server = Orchestrator(tmp_path, packed(AGENT))
    yield server
    server.shutdown()
    server.server_close()


def agents(machine: Machine) -> list[tuple[int, list[Any]]]:
    """Process and arguments of each agent that began."""
    said = [line.split(" ", 2) for line in machine.console().splitlines() if line.startswith("AGENT ")]
    return [(int(pid), json.loads(told)) for _, pid, told in said]


def joins(machine: Machine, orchestrator: Orchestrator) -> Machine:
    (machine.tools / "python3").symlink_to(sys.executable)
    machine.settings.update(orchestrator.settings)
    return machine


def test_with_an_orchestrator_it_becomes_the_cell_s_agent(machine: Machine, orchestrator: Orchestrator) -> None:
    joins(machine, orchestrator).boot()
    until(lambda: agents(machine))
    [(pid, [arguments, path])] = agents(machine)
    assert booted_in(machine.console(), "one") is not None, "it has said so before"
    assert pid == machine.process.pid, "the agent is the process that the machine's manager knows"
    sha256, folder = orchestrator.settings["bundle_sha256"], machine.folder
    given = dict(zip(arguments[::2], arguments[1::2], strict=True))
    assert given == {
        "--orchestrator": orchestrator.settings["orchestrator"],
        "--provider": machine.settings["provider"],
        "--cell-id": "one",
        "--region": "eastus",
        "--expires-at": "1900000000",
        "--trust": f"{folder}/trust",
        "--state": f"{folder}/cell",
        "--end-file": f"{folder}/end",
    }
    assert path == f"{folder}/software/{sha256}"
    assert orchestrator.asked == [f"/api/v1/bundles/{sha256}"]
    token = folder / "trust" / "bootstrap-token"
    assert (token.read_text(), token.stat().st_mode & 0o777) == ("header.claims.signature", 0o600)
    assert (folder / "trust" / "orchestrator-ca.pem").read_text() == orchestrator.ca_pem


def test_what_is_not_the_pinned_bundle_is_not_unpacked(machine: Machine, orchestrator: Orchestrator) -> None:
    orchestrator.failures, orchestrator.wrong = 1, 1
    joins(machine, orchestrator).boot()
    until(lambda: "gave is not that bundle" in machine.console())
    assert not (machine.folder / "software").exists()
    until(lambda: agents(machine))


def test_nobody_but_the_orchestrator_whose_ca_is_pinned_is_asked(machine: Machine, orchestrator: Orchestrator) -> None:
    joins(machine, orchestrator)
    machine.settings["ca_pem"] = trust.make_ca(trust.new_key(), "somebody else", time.time())
    machine.boot()
    until(lambda: "CERTIFICATE_VERIFY_FAILED" in machine.console())
    assert orchestrator.asked == []


def test_started_again_it_restores_no_used_token(machine: Machine, orchestrator: Orchestrator) -> None:
    joins(machine, orchestrator).boot()
    until(lambda: len(agents(machine)) == 1)
    token = machine.folder / "trust" / "bootstrap-token"
    token.unlink()
    machine.end()
    machine.boot()
    until(lambda: len(agents(machine)) == 2)
    assert not token.exists()
    assert len(orchestrator.asked) == 1, "the software is there"


def test_killed_at_the_worst_moment_it_finishes_at_the_next_start(machine: Machine, orchestrator: Orchestrator) -> None:
    """The bundle came and the token was written, but the software did not appear yet."""
    (machine.folder / "bundle.tar.gz").write_bytes(orchestrator.bundle[:100])
    (machine.folder / "software" / f"{orchestrator.settings['bundle_sha256']}.part").mkdir(parents=True)
    (machine.folder / "trust").mkdir()
    (machine.folder / "trust" / "bootstrap-token").write_text("a part of")
    joins(machine, orchestrator).boot()
    until(lambda: agents(machine))
    assert (machine.folder / "trust" / "bootstrap-token").read_text() == "header.claims.signature"


def test_on_azure_the_tags_are_looked_at_for_as_long_as_the_agent_lives(on_azure: Machine, tmp_path: Path) -> None:
    server = Orchestrator(tmp_path, packed(f"{AGENT}\ntime.sleep(600)"))
    joins(on_azure, server).boot()
    until(lambda: agents(on_azure))
    later = on_azure.settings["timer_at"] + 3600
    on_azure.metadata.tags = expires(later - 300)
    until(lambda: "extended" in on_azure.console())
    assert (on_azure.folder / "end").read_text() == str(later - 300), "the agent follows that file"
    on_azure.end()
    orders = len(on_azure.orders())
    time.sleep(0.2)
    on_azure.metadata.tags = expires(later + 300)
    time.sleep(0.2)  # ten looks
    assert len(on_azure.orders()) == orders
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("provider", CLOUDS)
def test_user_data_that_join_are_small_too_and_name_the_end_that_the_machine_can_know(provider: str) -> None:
    fabric = open_fabric(VirtualClock(), "script")
    ca_pem = trust.make_ca(trust.new_key(), "grafos orchestrator orchestrator", time.time())
    joining = Joining("https://203.0.113.77:8443", ca_pem, "t" * 640)
    text = render(fabric, plan(provider), 1, joining)
    assert len(text.encode()) <= USER_DATA_BYTES_MAX
    assert text == render(fabric, plan(provider), 1, joining)
    ast.parse(text, feature_version=(3, 9))
    assert "orchestrator-ca.pem" in text
    assert "https://203.0.113.77:8443" not in render(fabric, plan(provider), 1)
