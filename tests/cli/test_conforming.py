"""Providers for production: a cell that joined is tried by the whole suite, end to end, before it is given runs."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from command_line import HELLO, Person
from own_orchestrator import OwnOrchestrator


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnOrchestrator]:
    """An orchestrator with one cell of Google Cloud."""
    orchestrator = OwnOrchestrator(Person(tmp_path_factory.mktemp("ada")))
    try:
        claimed = orchestrator.person("fabric", "claim", orchestrator.url)
        assert claimed.code == 0, claimed.err
        orchestrator.start_agent(orchestrator.bootstrap("gcp", "gcp-1"))
        orchestrator.person.write_program(HELLO)
        yield orchestrator
    finally:
        orchestrator.discard()


def test_in_production_a_cell_that_was_not_tried_gets_nothing_and_says_why(joined: OwnOrchestrator) -> None:
    person = joined.person
    assert person("deploy", "run", "--provider", "gcp").code == 0
    marked = person("provider", "mark-production", "gcp")
    assert (marked.code, marked.out) == (
        0,
        "Provider gcp is one for production now; 0 of its 1 registered cells are ready.\n",
    )
    status = person("provider", "status", "gcp", "--json").document
    assert (status["production"], status["ready"]) == (True, False)
    assert status["reasons"].keys() == {"code_enabled"}
    assert "the conformance suite was not run on the cell" in status["reasons"]["code_enabled"]
    refused = person("deploy", "run", "--provider", "gcp")
    assert (refused.code, refused.error_code) == (6, "no_eligible_provider_cells")
    assert person("provider", "conform", "gcp-1", "--only", "smallest").code == 0, "its cases run all the same"
    assert person("deploy", "run", "--provider", "gcp").error_code == "no_eligible_provider_cells", "a part is no pass"
    assert person("provider", "mark-production", "gcp", "--off").code == 0
    assert person("deploy", "run", "--provider", "gcp").code == 0


@pytest.mark.deep
@pytest.mark.timeout(900)
def test_a_cell_that_passes_the_whole_suite_is_ready_for_production(joined: OwnOrchestrator) -> None:
    """Some three hundred runs, one after the other on each core."""
    person = joined.person
    assert person("provider", "mark-production", "gcp").code == 0
    out, err = person.starts("provider", "conform", "gcp-1", "--json").communicate()
    told = json.loads(out)
    said = told["conformance"]
    assert (told["recorded"], said["wrong"], said["cases"] > 250) == (True, [], True), err
    assert said["suite"].startswith("tasklet-profile-v0-")
    assert said["agent_version"]
    assert told["cost_micro_cents"] > 0

    assert person("deploy", "run", "--provider", "gcp").code == 0
    [cell] = person("fabric", "cells", "--json").document["cells"]
    assert cell["conformance"]["suite"] == said["suite"]
    status = person("provider", "status", "gcp")
    assert " yes: its registered cells must conform\n" in status.out
    assert f"ready; conforms ({said['suite']}, 20" in status.out
    assert person("provider", "mark-production", "gcp", "--off").code == 0


def test_a_part_of_the_suite_is_shown_and_not_recorded(joined: OwnOrchestrator) -> None:
    told = joined.person("provider", "conform", "gcp-1", "--only", "smallest")
    assert told.code == 0, told.err
    assert "1, all as expected" in told.out
    assert "no: it was not the whole suite" in told.out


@pytest.mark.parametrize(
    ("words", "code", "kind"),
    [
        (("conform", "gcp-9"), 2, "cell_unknown"),
        (("conform", "gcp-1", "--tenant", "nobody"), 4, "credentials_missing"),
        (("conform", "gcp-1", "--only", "no-such-case"), 2, "usage"),
        (("mark-production", "lab"), 2, "not_found"),
    ],
)
def test_what_cannot_be_tried_or_marked_is_told_in_one_error(
    joined: OwnOrchestrator, words: tuple[str, ...], code: int, kind: str
) -> None:
    answer = joined.person("provider", *words)
    assert (answer.code, answer.error_code) == (code, kind)
    assert "Traceback" not in answer.err
