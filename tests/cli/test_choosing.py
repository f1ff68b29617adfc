"""`deploy --provider any`: of every cell the cheapest that fits, and why none of the others; tiers and tenants."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from agents import until
from command_line import FOR_EVER, HELLO, Person
from own_orchestrator import OwnOrchestrator

RATES = {"gcp-1": "5", "azure-1": "2", "aws-1": "9"}
"""Cents an hour."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnOrchestrator]:
    """An orchestrator with one cell on each of three clouds, each at another price."""
    orchestrator = OwnOrchestrator(Person(tmp_path_factory.mktemp("ada")))
    try:
        claimed = orchestrator.person("fabric", "claim", orchestrator.url)
        assert claimed.code == 0, claimed.err
        for cell_id, rate in RATES.items():
            told = orchestrator.bootstrap(cell_id.removesuffix("-1"), cell_id, "--rate", rate)
            orchestrator.start_agent(told, cores=1)
        yield orchestrator
    finally:
        orchestrator.discard()


@pytest.fixture
def person(fleet: OwnOrchestrator) -> Person:
    fleet.person.write_program(HELLO)
    return fleet.person


def test_the_cheapest_is_taken_and_each_other_one_is_told_with_the_reason(person: Person) -> None:
    told = person("deploy", "run", "--provider", "any")
    assert told.code == 0, told.err
    lines = [line for line in told.err.splitlines() if line.startswith(("using", "not "))]
    assert lines[0].startswith("using azure-1 of azure: at most ")
    assert [line.split(":")[0] for line in lines[1:]] == ["not gcp-1 of gcp", "not aws-1 of aws"]
    document = person("deploy", "run", "--provider", "any", "--json").document
    assert document["cell_id"] == "azure-1"
    assert [(one["cell_id"], one["fits"]) for one in document["considered"]] == [
        ("azure-1", True),
        ("gcp-1", True),
        ("aws-1", True),
    ]


def test_a_limit_that_no_cell_meets_is_an_error_that_names_them_all(person: Person) -> None:
    before = len(person("runs", "ls", "--json").document["runs"])
    answer = person("deploy", "run", "--provider", "any", "--max-cents", "0.000001")
    assert (answer.code, answer.error_code) == (7, "budget_exceeded")
    assert all(f"{cell_id}: may cost" in answer.err for cell_id in RATES)
    assert len(person("runs", "ls", "--json").document["runs"]) == before, "nothing was begun"


def test_a_limit_holds_for_a_provider_that_is_named_too(person: Person) -> None:
    offers = person("deploy", "plan", "--provider", "any", "--json").document["considered"]
    prices = {one["cell_id"]: one["worst_case_micro_cents"] for one in offers}
    assert prices["azure-1"] < prices["gcp-1"] < prices["aws-1"]
    between = str((prices["gcp-1"] + prices["aws-1"]) / 2e6)
    assert person("deploy", "run", "--provider", "gcp", "--max-cents", between).code == 0
    assert person("deploy", "run", "--provider", "aws", "--max-cents", between).error_code == "budget_exceeded"


def test_a_plan_for_any_begins_nothing_and_says_what_every_cell_would(person: Person) -> None:
    before = len(person("runs", "ls", "--json").document["runs"])
    told = person("deploy", "plan", "--provider", "any")
    assert told.code == 0, told.err
    assert "would be admitted on azure-1" in told.out
    assert "gcp would admit it too" in told.out
    refused = person("deploy", "plan", "--provider", "any", "--max-cents", "0.000001", "--json")
    assert (refused.code, refused.document["admitted"]) == (7, False)
    assert {one["code"] for one in refused.document["considered"]} == {"budget_exceeded"}
    assert len(person("runs", "ls", "--json").document["runs"]) == before


def test_what_does_not_fit_the_cheapest_goes_to_the_next(person: Person) -> None:
    waiting = _starts_for_ever(person, "azure-1")
    try:
        told = person("deploy", "run", "--provider", "any", "--json")
        assert told.document["cell_id"] == "gcp-1"
        why = {one["cell_id"]: one["why"] for one in told.document["considered"]}
        assert why["azure-1"] == "cpu_cores: 1 wanted, 0 of 1 free"
    finally:
        _cancel(person)
        waiting.communicate()


def test_a_run_whose_answer_was_lost_is_found_again_whatever_is_the_cheapest_by_now(person: Person) -> None:
    person.write_program(FOR_EVER, fuel=10**12, deadline_s=60)
    lost = person.starts("deploy", "run", "--provider", "any")
    until(lambda: person.only_run()["state"] == "running")
    lost.kill()
    lost.communicate()
    first = person.only_run()
    assert first["cell_id"] == "azure-1"
    again = person.starts("deploy", "run", "--provider", "any")
    with pytest.raises(subprocess.TimeoutExpired):
        again.wait(3.0)
    assert person.only_run()["run_id"] == first["run_id"], "the cheapest is taken, by the very run"
    assert person("runs", "cancel", first["run_id"]).code == 0
    _, said = again.communicate()
    assert first["run_id"] in said
    person.write_program(HELLO)


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (("--provider", "any", "--max-cents", "much"), "usage"),
        (("--provider", "any", "--max-cents", "-1"), "usage"),
        (("--provider", "any", "--cell-id", "gcp-1"), "usage"),
        (("--provider", "gcp", "--tier", "gold"), "usage"),
        (("--provider", "gcp", "--tenant", "nobody"), "credentials_missing"),
    ],
)
def test_what_cannot_be_asked_for_is_told_in_one_error(person: Person, words: tuple[str, ...], kind: str) -> None:
    for command in ("run", "plan"):
        answer = person("deploy", command, *words)
        if kind == "usage":
            assert (answer.code, answer.error_code) == (2, kind)
        assert kind in answer.err + answer.out
        assert "Traceback" not in answer.err


# --- tiers --------------------------------------------------------------------------------------------------------


def test_a_scavenger_gives_way_to_a_guaranteed_run_and_pays_for_what_it_used(person: Person) -> None:
    waiting = _starts_for_ever(person, "gcp-1", "--tier", "scavenger")
    scavenger = person.only_run()["run_id"]
    assert person("deploy", "run", "--provider", "gcp", "--tier", "scavenger").error_code == "placement_failed"
    planned = person("deploy", "plan", "--provider", "gcp", "--tier", "guaranteed")
    assert "would be admitted on gcp-1; 1 of a lower tier would give way" in planned.out
    person.write_program(HELLO)
    run = person("deploy", "run", "--provider", "gcp", "--tier", "guaranteed", "--json")
    assert run.code == 0, run.err
    assert (run.document["cell_id"], run.document["run"]["tier"]) == ("gcp-1", "guaranteed")
    _, said = waiting.communicate()
    assert waiting.returncode != 0
    assert "lease_revoked" in said
    gone = person("runs", "show", scavenger, "--json").document["run"]
    assert (gone["state"], gone["code"], gone["tier"]) == ("failed", "lease_revoked", "scavenger")
    assert gone["cost"]["micro_cents"] > 0


def test_the_tier_of_the_manifest_counts_unless_another_is_named(fleet: OwnOrchestrator) -> None:
    fleet.person.write_program(HELLO, tier="scavenger")
    run = fleet.person("deploy", "run", "--provider", "azure", "--json").document["run"]
    assert run["tier"] == "scavenger"
    run = fleet.person("deploy", "run", "--provider", "azure", "--tier", "standard", "--json").document["run"]
    assert run["tier"] == "standard"


# --- tenants ------------------------------------------------------------------------------------------------------


def test_another_tenant_runs_and_pays_and_its_run_is_found(person: Person) -> None:
    made = person("admin", "create-tenant", "--tenant", "acme", "--cents", "5")
    assert made.code == 0, made.err
    run = person("deploy", "run", "--provider", "azure", "--tenant", "acme", "--json").document["run"]
    assert run["tenant"] == "acme"
    tenants = {one["name"]: one for one in person("admin", "list-tenants", "--json").document["tenants"]}
    assert tenants["acme"]["spent_micro_cents"] == run["cost"]["micro_cents"] > 0
    assert person("runs", "show", run["run_id"]).code == 0
    assert person("artifacts", run["run_id"], "--verify").code == 0
    planned = person("deploy", "plan", "--provider", "azure", "--tenant", "acme", "--json")
    assert planned.document["admitted"]
    assert person("admin", "set-tenant-budget", "--tenant", "acme", "--cents", "0").code == 0
    refused = person("deploy", "run", "--provider", "any", "--tenant", "acme")
    assert (refused.code, refused.error_code) == (7, "budget_exceeded")


def _starts_for_ever(person: Person, cell_id: str, *words: str) -> subprocess.Popen[str]:
    """A run that holds the cell's only core."""
    person.write_program(FOR_EVER, fuel=10**12, deadline_s=60)
    waiting = person.starts("deploy", "run", "--provider", cell_id.removesuffix("-1"), *words)
    until(lambda: person.only_run()["state"] == "running" and person.only_run()["cell_id"] == cell_id)
    person.write_program(HELLO)
    return waiting


def _cancel(person: Person) -> None:
    assert person("runs", "cancel", _under_way(person)).code == 0


def _under_way(person: Person) -> str:
    runs = person("runs", "ls", "--json").document["runs"]
    return next(str(run["run_id"]) for run in runs if run["state"] in ("admitted", "placed", "running"))
