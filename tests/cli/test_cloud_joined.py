"""Somebody with an orchestrator of their own makes cells on Google Cloud and Azure, which join it, all by commands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import HELLO, Person
from own_orchestrator import OwnOrchestrator


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """Their shell is pointed at three emulated clouds."""
    somebody = Person(tmp_path_factory.mktemp("operator"))
    up = somebody("emulate", "up")
    assert up.code == 0, up.err
    somebody.env.update(somebody("emulate", "env", "--json").document["environment"])
    somebody.env |= {"CLOUDSDK_COMPUTE_REGION": "us-central1", "AZURE_DEFAULTS_LOCATION": "eastus"}
    somebody.write_program(HELLO)
    yield somebody
    somebody("emulate", "down")


@pytest.fixture(scope="module")
def orchestrator(operator: Person) -> Iterator[OwnOrchestrator]:
    started = OwnOrchestrator(operator)
    claimed = operator("fabric", "claim", started.url)
    assert claimed.code == 0, claimed.err
    yield started
    started.discard()


def made(operator: Person, provider: str, *flags: str) -> dict[str, Any]:
    asked = ("cloud", "provision", provider, "--cell-id", f"on-{provider}", "--ttl", "1h", "--yes", "--json")
    answer = operator(*asked, *flags)
    assert answer.code == 0, answer.err + answer.out
    found: dict[str, Any] = answer.document["cell"]
    return found


def ended(operator: Person, provider: str) -> dict[str, Any]:
    answer = operator("cloud", "teardown", provider, "--cell-id", f"on-{provider}", "--yes", "--json")
    assert answer.code == 0, answer.err
    found: dict[str, Any] = answer.document["receipt"]
    return found


def test_without_an_orchestrator_it_is_said_how_one_gets_one_and_nothing_is_made(operator: Person) -> None:
    for flags in (("--yes",), ("--dry-run",)):
        answer = operator("cloud", "provision", "gcp", "--ttl", "1h", *flags)
        assert (answer.code, answer.error_code) == (1, "scheduler_unreachable")
        assert "grafos fabric init" in answer.err
        assert "--no-join" in answer.err
    assert operator("cloud", "ls", "--json").document["cells"] == []


@pytest.mark.parametrize("provider", ["gcp", "azure"])
def test_a_cell_joins_runs_and_goes(operator: Person, orchestrator: OwnOrchestrator, provider: str) -> None:
    assert made(operator, provider)["state"] == "ready"
    listed = {cell["cell_id"]: cell["state"] for cell in operator("cloud", "ls", "--json").document["cells"]}
    assert listed[f"on-{provider}"] == "live"
    assert orchestrator.cell(f"on-{provider}")["ready"]
    run = operator("deploy", "run", "--provider", provider, "--json")
    assert run.code == 0, run.err
    assert run.document["cell_id"] == f"on-{provider}"
    verified = operator("artifacts", run.document["run_id"], "--verify")
    assert verified.code == 0, verified.err
    named = operator("deploy", "run", "--provider", provider, "--cell-id", f"on-{provider}")
    assert named.error_code == "unsupported"
    assert ended(operator, provider)["identity"] == f"revoked at {orchestrator.url}"


def test_by_the_setting_a_machine_enrols_without_a_secret_once_its_cloud_s_roots_are_set(
    operator: Person, orchestrator: OwnOrchestrator
) -> None:
    keyless = {"GRAFOS_KEYLESS": "true"}
    refused = operator("cloud", "provision", "gcp", "--cell-id", "on-gcp", "--ttl", "1h", "--yes", env=keyless)
    assert refused.error_code == "attestation_refused"
    assert "grafos admin attestation-roots set gcp" in refused.err
    [file] = Path(operator.env["XDG_STATE_HOME"]).glob("grafos/**/identity-roots/gcp.json")
    source = ("--source", "the emulator", "--dated", "2026-11-21")
    assert operator("admin", "attestation-roots", "set", "gcp", "--file", str(file), *source).code == 0
    shown = operator("cloud", "provision", "gcp", "--cell-id", "on-gcp", "--ttl", "1h", "--dry-run", env=keyless)
    assert "its cloud's word, with no secret in user data" in shown.out
    assert made(operator, "gcp", "--keyless")["state"] == "ready"
    ended(operator, "gcp")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("gcp", "--keyless", "--no-join"), "usage"),
        (("aws", "--keyless", "--region", "us-east-1"), "config_invalid"),
        (("aws", "--no-join", "--region", "us-east-1"), "config_invalid"),
    ],
)
def test_flags_that_do_not_go_together_are_told(operator: Person, words: tuple[str, ...], code: str) -> None:
    answer = operator("cloud", "provision", *words, "--ttl", "1h", "--yes")
    assert answer.error_code == code, answer.err
    assert "next:" in answer.err
