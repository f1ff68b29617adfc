"""`grafos fabric console`: the link that it prints signs a browser in."""

from __future__ import annotations

import hashlib
import ssl
import time
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest
from command_line import Person
from own_orchestrator import OwnOrchestrator


@pytest.fixture(scope="module")
def claimed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnOrchestrator]:
    orchestrator = OwnOrchestrator(Person(tmp_path_factory.mktemp("ada")))
    assert orchestrator.person("fabric", "claim", orchestrator.url).code == 0
    yield orchestrator
    orchestrator.discard()


def signs_in(url: str, ca_file: str) -> int:
    """What the console answers to the code of a link, from a machine that trusts the CA that was named."""
    parts = urlsplit(url)
    connection = HTTPSConnection(parts.netloc, context=ssl.create_default_context(cafile=ca_file))
    headers = {"origin": f"{parts.scheme}://{parts.netloc}"}
    connection.request("POST", parts.path, urlencode({"code": parts.fragment}), headers)
    status = connection.getresponse().status
    connection.close()
    return status


def test_the_link_signs_one_browser_in_and_the_fingerprint_is_of_what_it_will_be_shown(
    claimed: OwnOrchestrator,
) -> None:
    told = claimed.person("fabric", "console", "--json").document
    assert told["url"] == f"{claimed.url}/admin/sign-in#{told['code']}"
    host, _, port = claimed.bind.rpartition(":")
    shown = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((host, int(port))))
    assert told["certificate_sha256"] == hashlib.sha256(shown).hexdigest()
    assert [signs_in(told["url"], told["ca_file"]) for _ in range(2)] == [303, 401]


def test_a_person_is_told_for_whom_until_when_and_by_which_certificate(claimed: OwnOrchestrator) -> None:
    lines = claimed.person("fabric", "console").out.splitlines()
    assert [line.split()[0] for line in lines] == ["console", "for", "certificate", "its"]
    assert lines[0].split()[1].startswith(f"{claimed.url}/admin/sign-in#")
    assert "one browser, once, until" in lines[1]
    assert len(lines[2].split()[-1].split(":")) == 32


def test_it_can_be_opened_in_the_browser_of_the_machine(claimed: OwnOrchestrator, tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {opened}.part && mv {opened}.part {opened}\n')
    browser.chmod(0o700)
    answer = claimed.person("fabric", "console", "--open", "--json", env={"BROWSER": str(browser)})
    assert answer.code == 0, answer.err
    end = time.monotonic() + 20
    while not opened.exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    assert opened.read_text() == answer.document["url"]


def test_without_a_browser_the_link_is_printed_all_the_same(claimed: OwnOrchestrator) -> None:
    answer = claimed.person("fabric", "console", "--open", env={"BROWSER": "no-such-browser", "PATH": "/nowhere"})
    assert (answer.code != 0, "/admin/sign-in#" in answer.out) == (True, True)
    assert "error[tool_missing]: No browser could be opened here" in answer.err


def test_without_an_orchestrator_the_way_to_one_is_told(tmp_path: Path) -> None:
    answer = Person(tmp_path)("fabric", "console")
    assert "error[not_found]: this fabric has no orchestrator" in answer.err
    assert "grafos fabric init" in answer.err
