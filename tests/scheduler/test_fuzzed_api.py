"""Every route of both modes, fuzzed from the published document, by everybody who can reach it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fuzzed_api import NOBODY, Fuzzer, Who
from orchestrator import HAS, Orchestrator
from standalone import PROVIDER, Identity, Standalone

from grafos_core.ids import sha256_of
from grafos_scheduler import messages

SHARE_S = 4.0
"""What each mode may take of `make test`; on a slow machine fewer requests are made, but each kind of them once."""
EACH, DEEP_S, DEEP_EACH = 1, 600.0, 2
MODULE, BUNDLE = b"a module", b"a bundle"
VICTIM = "victim"
"""The tenant and the cell that may be lost; those who ask are not named."""


Fuzz = Callable[[Path, float, int], None]


def known(at: Standalone, run_id: str, lease_ids: list[str], **more: object) -> Mapping[str, Callable[[], Any]]:
    """Values that lead further than drawn ones, by the name of the parameter or field."""
    chance, csr_pem = random.Random(1), at.request(VICTIM)
    keys = [f"run-key-that-is-drawn-{number}" for number in range(20)]
    values: dict[str, list[object]] = {
        "csr_pem": [csr_pem],
        "name": [VICTIM],
        "tenant": [VICTIM, "acme"],
        "cell_id": [VICTIM, ""],
        "run_id": [run_id],
        "lease_id": lease_ids or ["0" * 32],
        "sha256": [sha256_of(MODULE), sha256_of(BUNDLE)],
        "module_sha256": [sha256_of(MODULE)],
        "input_sha256": ["", sha256_of(MODULE)],
        "run_key": list(keys),
        "fabric": [at.fabric.id],
        "fabric_key_pem": [at.fabric.pem],
        "provider": [PROVIDER, "aws", "gcp", "any"],
        **{name: [value] for name, value in more.items()},
    }
    return {name: lambda some=some: chance.choice(some) for name, some in values.items()}


def a_run(at: Standalone, tenant: Identity, provider: str) -> str:
    """A run that was asked for; there is no room for it."""
    with at.client(tenant) as client:
        sha256 = client.put_blob(MODULE)
        asked = messages.RunRequest("the-run-that-is-there", provider, "p", "t", sha256, "")
        try:
            client.start_run(asked)
        except Exception:  # noqa: BLE001, S110  # a refused run is a run, too
            pass
        return next(iter(client.all_runs())).run_id


def held(fuzzer: Fuzzer, at: Standalone) -> None:
    """Nothing was found, the log tells of no bug, and what was made can be loaded again."""
    print(dict(sorted(fuzzer.seen.items())))
    told = "\n".join(f"{what}\n    {how}" for what, how in sorted(fuzzer.findings.items()))
    assert not fuzzer.findings, f"{len(fuzzer.findings)} findings:\n{told}"
    assert at.scheduler is not None
    assert at.scheduler.end() == 0
    assert "Traceback" not in at.scheduler.log.read_text()
    at.start()


def fuzz_a_cell(folder: Path, for_s: float, each: int) -> None:
    at = Standalone(folder)
    try:
        at.start()
        operator = at.claimed()
        tenant, _ = at.tenant(operator, "acme"), at.tenant(operator, VICTIM)
        at.start_cell()
        callers = [Who("operator", operator), Who("tenant", tenant), Who("cell", at.cell())]
        budget = msgspec.to_builtins(at.fabric.slice(VICTIM))
        fuzzer = Fuzzer(at, "cell", callers, known(at, a_run(at, tenant, "nowhere"), [], budget_slice=budget))
        fuzzer.fuzz(0, time.monotonic() + for_s, each)
        held(fuzzer, at)
    finally:
        at.discard()


def fuzz_an_orchestrator(folder: Path, for_s: float, each: int) -> None:
    at = Orchestrator(folder)
    try:
        at.start()
        operator = at.claimed()
        tenant = at.employ(operator, "acme")
        at.employ(operator, VICTIM)
        member = at.joined(operator, "fuzzing")
        at.joined(operator, VICTIM, "gcp").register(HAS)
        callers = [Who("operator", operator), Who("tenant", tenant), Who("cell", member.identity), Who(NOBODY, None)]
        with at.client(operator) as boss:
            boss.put_bundle(BUNDLE)
        token = at.bootstrap(operator, VICTIM, "gcp")
        fuzzer = Fuzzer(at, "orchestrator", callers, known(at, a_run(at, tenant, "aws"), [], token=token))
        fuzzer.fuzz(0, time.monotonic() + for_s, each)
        held(fuzzer, at)
    finally:
        at.discard()


def test_each_route_of_a_cell_answers_whatever_is_asked_as_the_document_says(tmp_path: Path) -> None:
    fuzz_a_cell(tmp_path, SHARE_S, EACH)


def test_each_route_of_an_orchestrator_answers_whatever_is_asked_as_the_document_says(tmp_path: Path) -> None:
    fuzz_an_orchestrator(tmp_path, SHARE_S, EACH)


@pytest.mark.deep
@pytest.mark.timeout(2 * DEEP_S)
@pytest.mark.parametrize("fuzz", [fuzz_a_cell, fuzz_an_orchestrator])
def test_each_route_answers_as_the_document_says_for_long(fuzz: Fuzz, tmp_path: Path) -> None:
    fuzz(tmp_path, DEEP_S, DEEP_EACH)
