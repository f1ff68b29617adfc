"""A machine asks its metadata service who it is, and becomes a cell by that word alone; or is told why not."""

from __future__ import annotations

import asyncio
import http.server
import itertools
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from clouds_word import ACCOUNTS, MACHINES, REGIONS, CloudsWord
from orchestrator import RATE, Orchestrator
from standalone import Identity

from grafos_cell import attesting
from grafos_cell.attesting import evidence
from grafos_cell.enrolling import Bootstrap, enrol
from grafos_cell.identity import Identity as CellIdentity
from grafos_core.attestation import Expectation, expectation_in
from grafos_core.clock import Clock, SystemClock, VirtualClock
from grafos_core.errors import GrafosError
from grafos_scheduler.attested import PROVIDERS
from grafos_scheduler.enrolment_messages import AttestationRoots, ExpectedCell, ExpectedCellView

_numbers = itertools.count(1)


class Metadata(http.server.ThreadingHTTPServer):
    """The metadata services of one machine on each cloud. ``machine_id`` is who it is; ``failures`` answers fail with
    ``status`` before that."""

    def __init__(self, word: CloudsWord) -> None:
        super().__init__(("127.0.0.1", 0), Questions)
        self.word, self.machine_id, self.failures, self.status = word, "", 0, 503
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Questions(http.server.BaseHTTPRequestHandler):
    server: Metadata

    def do_PUT(self) -> None:
        assert self.path == "/latest/api/token"
        assert self.headers["X-aws-ec2-metadata-token-ttl-seconds"].isdecimal()
        self.say("session")

    def do_GET(self) -> None:
        asked, word = urlsplit(self.path), self.server.word
        query = {name: values[0] for name, values in parse_qs(asked.query).items()}
        if self.server.failures:
            self.server.failures -= 1
            self.send_error(self.server.status)
        elif asked.path == "/latest/dynamic/instance-identity/rsa2048":
            assert self.headers["X-aws-ec2-metadata-token"] == "session"
            self.say(word.evidence("aws", "", "", machine_id=self.server.machine_id))
        elif asked.path == "/computeMetadata/v1/instance/service-accounts/default/identity":
            assert (self.headers["Metadata-Flavor"], query["format"]) == ("Google", "full")
            self.say(word.evidence("gcp", "", "", bound_to=query["audience"], machine_id=self.server.machine_id))
        else:
            assert (asked.path, self.headers["Metadata"]) == ("/metadata/attested/document", "true")
            signed = word.evidence("azure", "", "", bound_to=query["nonce"], machine_id=self.server.machine_id)
            self.say(json.dumps({"encoding": "pkcs7", "signature": signed}))

    def say(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def orchestrator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orchestrator]:
    started = Orchestrator(tmp_path_factory.mktemp("orchestrator"))
    try:
        yield started.start()
    finally:
        started.discard()


@pytest.fixture(scope="module")
def operator(orchestrator: Orchestrator) -> Identity:
    return orchestrator.claimed()


@pytest.fixture(scope="module")
def word(orchestrator: Orchestrator, operator: Identity) -> CloudsWord:
    made = CloudsWord(SystemClock())
    with orchestrator.client(operator) as client:
        for provider in PROVIDERS:
            roots = AttestationRoots("this test", "2026-11-21", dict(made.roots(provider).pems))
            client.set_attestation_roots(provider, roots)
    return made


@pytest.fixture
def metadata(word: CloudsWord, monkeypatch: pytest.MonkeyPatch) -> Iterator[Metadata]:
    server = Metadata(word)
    for name in (attesting.ENDPOINT, attesting.ENDPOINT_AWS):
        monkeypatch.setenv(name, f"http://127.0.0.1:{server.server_port}/")
    yield server
    server.shutdown()
    server.server_close()


class Expected:
    """A machine that an operator expects as a cell, with a trust folder of its own."""

    def __init__(
        self, provider: str, folder: Path, orchestrator: Orchestrator, operator: Identity, *, named: bool = True
    ) -> None:
        number = next(_numbers)
        self.machine_id = f"{MACHINES[provider]}-{number}"
        self.trust = folder / f"trust-{number}"
        request = ExpectedCell(
            provider,
            f"{provider}-{number}",
            REGIONS[provider],
            RATE,
            account=ACCOUNTS[provider],
            machine_id=self.machine_id if named else "",
        )
        with orchestrator.client(operator) as client:
            self.view: ExpectedCellView = client.expect_cell(request)
        token, ca = folder / f"token-{number}", folder / f"ca-{number}.pem"
        token.write_text(Expectation(self.view.expectation_id, self.view.valid_until).text)
        ca.write_text(self.view.ca_pem)
        self.asked = Bootstrap(orchestrator.url, provider, self.view.cell_id, token, ca)

    def enrol(self, clock: Clock | None = None) -> CellIdentity:
        asyncio.run(enrol(self.trust, self.asked, clock or SystemClock(), random.Random(1)))
        return CellIdentity(self.trust)


@pytest.fixture
def expect(tmp_path: Path, orchestrator: Orchestrator, operator: Identity) -> Callable[..., Expected]:
    return lambda provider, **more: Expected(provider, tmp_path, orchestrator, operator, **more)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_machine_becomes_a_cell_by_the_word_that_it_asks_for(
    provider: str, expect: Callable[..., Expected], metadata: Metadata
) -> None:
    machine = expect(provider)
    metadata.machine_id = machine.machine_id
    metadata.failures = 1
    identity = machine.enrol()
    assert (identity.peer.name, identity.peer.provider) == (machine.view.cell_id, provider)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_clone_of_the_machine_is_another_one(
    provider: str, expect: Callable[..., Expected], metadata: Metadata
) -> None:
    metadata.machine_id = f"{MACHINES[provider]}-clone"
    with pytest.raises(GrafosError) as refused:
        expect(provider).enrol()
    assert refused.value.code == "attestation_refused"
    assert "-clone" in refused.value.why


def test_it_asks_on_until_its_operator_has_named_it(
    expect: Callable[..., Expected], metadata: Metadata, orchestrator: Orchestrator, operator: Identity
) -> None:
    machine = expect("gcp", named=False)
    metadata.machine_id = machine.machine_id

    def name() -> None:
        time.sleep(0.5)
        with orchestrator.client(operator) as client:
            client.name_machine(machine.view.expectation_id, machine.machine_id)

    naming = threading.Thread(target=name)
    naming.start()
    assert machine.enrol().peer.name == machine.view.cell_id
    naming.join()


def test_a_machine_without_an_identity_is_told_what_it_lacks(
    expect: Callable[..., Expected], metadata: Metadata
) -> None:
    metadata.failures, metadata.status = 100, 404
    with pytest.raises(GrafosError) as refused:
        expect("gcp").enrol()
    assert (refused.value.code, refused.value.retryable) == ("attestation_refused", False)
    assert "HTTP 404" in refused.value.why


def test_nobody_is_asked_for_longer_than_the_expectation_lives(
    expect: Callable[..., Expected], metadata: Metadata
) -> None:
    metadata.failures = 100
    machine = expect("azure")
    with pytest.raises(GrafosError) as lapsed:
        machine.enrol(VirtualClock(machine.view.valid_until + 1))
    assert lapsed.value.code == "enrolment_expired"


def test_a_cloud_that_signs_nothing_is_not_asked() -> None:
    with pytest.raises(GrafosError) as refused:
        evidence("home", "")
    assert refused.value.code == "unsupported"


@pytest.mark.parametrize("text", ["", "a.b.c", "expected", "expected 1", "expected one never", "expected one ٣ more"])
def test_what_is_no_expectation_is_a_token(text: str) -> None:
    assert expectation_in(text) is None
    kept = Expectation("0" * 32, 1_800_000_000.0)
    assert expectation_in(kept.text) == kept
