"""An orchestrator on a machine of one's own, and machines of two clouds that join it and run the same module."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from agents import until
from command_line import FOR_EVER, HELLO, Person, seconds
from own_orchestrator import OwnOrchestrator

SIGNALS = {
    "code_enabled",
    "durable_provider_cell_record",
    "identity_bound",
    "healthy_cell",
    "inventory_reported",
    "outbound_registered",
}


@pytest.fixture(scope="module")
def ada(tmp_path_factory: pytest.TempPathFactory) -> Person:
    return Person(tmp_path_factory.mktemp("ada"))


@pytest.fixture(scope="module")
def begun(ada: Person) -> Iterator[OwnOrchestrator]:
    """Runs, and nobody has claimed it."""
    orchestrator = OwnOrchestrator(ada)
    yield orchestrator
    orchestrator.discard()


@pytest.fixture(scope="module")
def joined(begun: OwnOrchestrator) -> OwnOrchestrator:
    """Claimed, with a cell of Google Cloud that enrolled where it is, and one of Azure that was handed a token."""
    claimed = begun.person("fabric", "claim", begun.url)
    assert claimed.code == 0, claimed.err
    begun.start_agent(begun.bootstrap("gcp", "gcp-1"))
    elsewhere = begun.person.home / "elsewhere"
    token_file = elsewhere / "bootstrap-token"
    begun.start_agent(begun.bootstrap("azure", "azure-1", "--token-file", str(token_file)), cwd=elsewhere)
    return begun


# --- claiming -----------------------------------------------------------------------------------------------------


def test_the_secret_is_a_private_file_that_stays_however_often_one_begins(begun: OwnOrchestrator) -> None:
    assert begun.secret_file.stat().st_mode & 0o777 == 0o600
    secret = begun.secret_file.read_text()
    again = begun.person("fabric", "init", "--bind", begun.bind, "--json").document
    assert (again["command"], begun.secret_file.read_text()) == (begun.init["command"], secret)
    assert secret not in json.dumps(again)


def test_who_begins_is_told_the_next_two_commands(begun: OwnOrchestrator) -> None:
    told = begun.person("fabric", "init", "--bind", begun.bind).out
    assert f"  grafos-scheduler --mode orchestrator --auth-mode mtls+token --bind {begun.bind} --state " in told
    assert f"  grafos fabric claim {begun.url}\n" in told


def test_the_printed_command_names_what_was_asked_for(tmp_path: Path) -> None:
    somebody = Person(tmp_path)
    words = ("--bind", "203.0.113.7:8443", "--provider", "gcp", "--provider", "lab", "--folder", "/srv/grafos")
    command = somebody("fabric", "init", *words, "--json").document["command"]
    assert " --bind 203.0.113.7:8443 --provider gcp --provider lab " in " ".join(command)
    assert " --state /srv/grafos/state --trust /srv/grafos/trust " in " ".join(command)


@pytest.mark.parametrize("bind", ["8443", "here:8443", "127.0.0.1:0", "127.0.0.1:99999"])
def test_what_is_no_address_is_refused_before_anything_is_made(tmp_path: Path, bind: str) -> None:
    somebody = Person(tmp_path)
    answer = somebody("fabric", "init", "--bind", bind)
    assert (answer.code, answer.error_code) == (2, "usage")
    assert not (somebody.fabric_home / "orchestrator").exists()


def test_an_orchestrator_that_does_not_answer_is_told_and_nothing_is_kept(ada: Person) -> None:
    answer = ada("fabric", "claim", "https://127.0.0.1:1")
    assert (answer.code, answer.error_code) == (1, "scheduler_unreachable")
    assert not (ada.fabric_home / "orchestrator.json").exists()


def test_a_wrong_secret_opens_nothing(begun: OwnOrchestrator, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("00" * 32)
    answer = begun.person("fabric", "claim", begun.url, "--secret-file", str(tmp_path / "secret"))
    assert (answer.code, answer.error_code) == (4, "claim_refused")
    assert "--secret-file" in answer.err
    missing = begun.person("fabric", "claim", begun.url, "--secret-file", str(tmp_path / "none"))
    assert (missing.code, missing.error_code) == (2, "config_invalid")


def test_another_fabric_is_refused_though_it_knows_the_secret(begun: OwnOrchestrator, tmp_path: Path) -> None:
    stranger = Person(tmp_path)
    answer = stranger("fabric", "claim", begun.url, "--secret-file", str(begun.secret_file))
    assert (answer.code, answer.error_code) == (4, "claim_refused")
    assert begun.init["fabric"]["id"] in answer.err


def test_a_claim_that_is_repeated_has_the_same_outcome(joined: OwnOrchestrator) -> None:
    first = json.loads((joined.person.fabric_home / "orchestrator.json").read_text())
    again = joined.person("fabric", "claim", joined.url, "--json")
    assert (again.code, again.document["orchestrator"]["url"]) == (0, joined.url)
    assert json.loads((joined.person.fabric_home / "orchestrator.json").read_text()) == first
    assert not joined.secret_file.exists()


def test_a_claimed_orchestrator_is_nobody_else_s(joined: OwnOrchestrator, tmp_path: Path) -> None:
    stranger = Person(tmp_path)
    stranger("fabric", "init")
    answer = stranger("fabric", "claim", joined.url)
    assert (answer.code, answer.error_code) == (4, "claim_refused")
    assert "Traceback" not in answer.err


def test_one_orchestrator_is_left_for_another_only_when_that_is_asked_for(
    joined: OwnOrchestrator, tmp_path: Path
) -> None:
    somebody = Person(tmp_path)
    first = OwnOrchestrator(somebody)
    somebody("fabric", "claim", first.url)
    first.discard()
    silent = somebody("fabric", "cells")
    assert (silent.code, silent.out) == (0, "No cell.\n")
    assert f"orchestrator at {first.url} could not be asked" in silent.err
    for more in ((), ("--replace",)):
        refused = somebody("fabric", "claim", joined.url, *more, "--secret-file", str(first.process.log))
        assert refused.error_code in ("claim_refused", "config_invalid", "ledger_elsewhere")
        assert first.url in somebody("fabric", "show").out
    assert somebody("fabric", "bring-home", "--lost", "--yes").code == 0
    second = OwnOrchestrator(somebody, "--replace", "--folder", str(tmp_path / "second"))
    try:
        assert somebody("fabric", "claim", second.url).error_code == "claim_refused"
        assert somebody("fabric", "claim", second.url, "--replace").code == 0
        assert f"orchestrator at {second.url}" in somebody("fabric", "show").out
        assert somebody("admin", "list-tenants").code == 0
    finally:
        second.discard()


def test_the_fabric_shows_its_orchestrator(joined: OwnOrchestrator) -> None:
    assert f"orchestrator at {joined.url}" in joined.person("fabric", "show").out
    assert joined.person("fabric", "init", "--json").document["command"] == []


# --- joining ------------------------------------------------------------------------------------------------------


def test_both_cells_are_listed_as_their_orchestrator_sees_them(joined: OwnOrchestrator) -> None:
    cells = {cell["cell_id"]: cell for cell in joined.person("fabric", "cells", "--json").document["cells"]}
    assert set(cells) == {"gcp-1", "azure-1"}
    for name, cell in cells.items():
        assert (cell["pattern"], cell["ready"], cell["scheduler"]) == ("registered", True, joined.url)
        assert (cell["region"], cell["rate_micro_cents_per_hour"]) == (f"{name[:-2]}-here", 3_350_000)
        assert cell["inventory"]["mem_bytes"] == 16 * 1024 * 1024


def test_a_cell_that_joins_for_a_time_has_an_end(joined: OwnOrchestrator) -> None:
    told = joined.bootstrap("aws", "aws-brief", "--ttl", "8h", "--folder", str(joined.person.home / "brief"))
    words = told["command"]
    assert float(words[words.index("--expires-at") + 1]) == seconds(told["expires_at"])
    assert words[words.index("--trust") + 1] == str(joined.person.home / "brief" / "trust")
    joined.person("provider", "revoke-cell", "aws", "aws-brief", "--grace", "0s", "--yes")


def test_a_provider_that_the_orchestrator_does_not_take_is_told_before_anything_is_written(
    joined: OwnOrchestrator,
) -> None:
    answer = joined.person("cloud", "bootstrap-cell", "--provider", "lab", "--cell-id", "lab-1")
    assert (answer.code, answer.error_code) == (4, "enrolment_refused")
    assert not (joined.person.project / "lab-1").exists()


def test_the_name_of_a_standalone_cell_is_not_given_to_one_that_joins(joined: OwnOrchestrator) -> None:
    folder = joined.person.fabric_home / "cells" / "aws-old"
    folder.mkdir(parents=True)
    (folder / "ca.pem").write_text("its own")
    answer = joined.person("cloud", "bootstrap-cell", "--provider", "aws", "--cell-id", "aws-old")
    (folder / "ca.pem").unlink()
    folder.rmdir()
    assert (answer.code, answer.error_code) == (2, "config_invalid")


def test_a_key_never_leaves_the_machine_that_joins(joined: OwnOrchestrator) -> None:
    elsewhere = joined.person.home / "elsewhere"
    assert (elsewhere / "azure-1" / "trust" / "cell-key.pem").stat().st_mode & 0o777 == 0o600
    assert not (elsewhere / "bootstrap-token").exists(), "it is worth nothing once the cell has registered"
    assert not list(joined.person.fabric_home.rglob("cell-key.pem"))


def test_the_six_requirements_are_told_by_their_names(joined: OwnOrchestrator) -> None:
    told = joined.person("provider", "status", "gcp", "--json").document
    assert (told["ready"], told["readiness"], told["reasons"]) == (True, dict.fromkeys(SIGNALS, True), {})
    none = joined.person("provider", "status", "aws", "--json").document
    assert (none["ready"], none["enabled"], none["cells"]) == (False, True, [])
    assert none["reasons"].keys() == SIGNALS - {"code_enabled"}


def test_a_provider_that_nobody_knows_is_an_error(joined: OwnOrchestrator) -> None:
    answer = joined.person("provider", "status", "lab")
    assert (answer.code, answer.error_code) == (2, "not_found")


def test_a_cell_that_enrolled_and_never_came_up_says_what_it_lacks(joined: OwnOrchestrator) -> None:
    joined.bootstrap("aws", "aws-idle")
    told = joined.person("provider", "status", "aws", "--json").document
    [cell] = told["cells"]
    assert (cell["cell_id"], cell["ready"], cell["inventory"]) == ("aws-idle", False, None)
    assert cell["reasons"].keys() == {"healthy_cell", "inventory_reported", "outbound_registered"}
    assert "has not registered yet" in joined.person("provider", "status", "aws").out
    gone = joined.person("provider", "revoke-cell", "aws", "aws-idle", "--grace", "0s", "--yes")
    assert gone.code == 0, gone.err


@pytest.mark.parametrize(
    ("words", "code", "kind"),
    [
        (("--provider", "gcp", "--cell-id", "Gross"), 2, "name_invalid"),
        (("--provider", "gcp", "--cell-id", "net-x"), 2, "name_invalid"),
        (("--provider", "gcp", "--cell-id", "one", "--rate", "much"), 2, "usage"),
        (("--provider", "gcp", "--cell-id", "one", "--rate", "-1"), 2, "usage"),
        (("--provider", "gcp", "--cell-id", "one", "--ttl", "soon"), 2, "usage"),
        (("--provider", "gcp", "--cell-id", "one", "--token-file", "/proc/none/token"), 2, "config_invalid"),
    ],
)
def test_what_cannot_be_a_cell_is_told_in_one_error(
    joined: OwnOrchestrator, words: tuple[str, ...], code: int, kind: str
) -> None:
    answer = joined.person("cloud", "bootstrap-cell", *words)
    assert (answer.code, answer.error_code) == (code, kind)


def test_without_an_orchestrator_nothing_joins_and_no_tenant_is_made(tmp_path: Path) -> None:
    somebody = Person(tmp_path)
    for words in (
        ("cloud", "bootstrap-cell", "--provider", "gcp", "--cell-id", "one"),
        ("provider", "revoke-cell", "gcp", "one", "--yes"),
    ):
        answer = somebody(*words)
        assert (answer.code, answer.error_code) == (2, "not_found")
        assert "grafos fabric init" in answer.err
    assert somebody("fabric", "cells").out == "No cell.\n"


def test_the_agent_tells_its_own_errors(joined: OwnOrchestrator) -> None:
    answer = joined.person("cloud", "cell-agent", "--orchestrator", joined.url)
    assert answer.code == 2
    assert "required: --provider" in answer.err


# --- running ------------------------------------------------------------------------------------------------------


def test_one_module_runs_on_two_clouds_and_both_receipts_hold(joined: OwnOrchestrator) -> None:
    person = joined.person
    person.write_program(HELLO)
    runs = [person("deploy", "run", "--provider", name, "--json").document for name in ("gcp", "azure")]
    assert [run["cell_id"] for run in runs] == ["gcp-1", "azure-1"]
    assert len({run["run"]["module_sha256"] for run in runs}) == 1
    listed = {run["run_id"]: run for run in person("runs", "ls", "--json").document["runs"]}
    for run in runs:
        assert listed[run["run_id"]]["source"] == "live"
        checked = person("artifacts", run["run_id"], "--verify")
        assert checked.code == 0, checked.err
        assert "certificate issued by its pinned CA" in checked.out


def test_a_receipt_is_not_taken_from_a_ca_that_nobody_pinned(joined: OwnOrchestrator) -> None:
    run_id = joined.person.only_run()["run_id"]
    ca_file = joined.person.fabric_home / "orchestrator" / "ca.pem"
    kept = ca_file.read_bytes()
    other = joined.person.project / "orchestrator" / "trust" / "server.pem"
    folder = joined.person.fabric_home / "cells" / "azure-1"
    folder.mkdir(parents=True)
    (folder / "ca.pem").write_bytes(other.read_bytes())
    try:
        answer = joined.person("artifacts", run_id, "--verify")
        assert (answer.code, answer.error_code) == (4, "identity_not_pinned")
    finally:
        (folder / "ca.pem").unlink()
        folder.rmdir()
    assert ca_file.read_bytes() == kept


def test_a_plan_asks_the_orchestrator_where_the_run_would_go(joined: OwnOrchestrator) -> None:
    joined.person.write_program(HELLO)
    assert "would be admitted on gcp-1" in joined.person("deploy", "plan", "--provider", "gcp").out
    refused = joined.person("deploy", "run", "--provider", "aws")
    assert (refused.code, refused.error_code) == (6, "runtime_not_ready")


def test_which_cell_it_is_nobody_but_the_orchestrator_says(joined: OwnOrchestrator) -> None:
    joined.person.write_program(HELLO)
    answer = joined.person("deploy", "run", "--provider", "gcp", "--cell-id", "gcp-1")
    assert (answer.code, answer.error_code) == (2, "unsupported")


def test_a_run_at_an_orchestrator_is_cancelled_and_its_log_read(joined: OwnOrchestrator) -> None:
    joined.person.write_program(FOR_EVER, fuel=10**12, deadline_s=60)
    waiting = joined.person.starts("deploy", "run", "--provider", "gcp")
    until(lambda: any(run["state"] == "running" for run in joined.person("runs", "ls", "--json").document["runs"]))
    run_id = joined.person.only_run()["run_id"]
    assert joined.person("runs", "cancel", run_id, "--json").document["run"]["state"] == "cancelled"
    waiting.communicate()
    assert joined.person("runs", "logs", run_id).code == 0


# --- leaving ------------------------------------------------------------------------------------------------------


def test_a_cell_is_not_revoked_without_consent_or_under_another_provider(joined: OwnOrchestrator) -> None:
    unasked = joined.person("provider", "revoke-cell", "azure", "azure-1")
    assert (unasked.code, unasked.error_code) == (3, "confirmation_needed")
    elsewhere = joined.person("provider", "revoke-cell", "gcp", "azure-1", "--yes")
    assert (elsewhere.code, elsewhere.error_code) == (2, "cell_unknown")
    assert "azure" in elsewhere.err


def test_a_revoked_cell_is_out_and_joins_again_with_a_new_key_only(joined: OwnOrchestrator) -> None:
    revoked = joined.person("provider", "revoke-cell", "gcp", "gcp-1", "--grace", "0s", "--why", "a test", "--json")
    assert revoked.error_code == "confirmation_needed"
    revoked = joined.person("provider", "revoke-cell", "gcp", "gcp-1", "--grace", "0s", "--why", "a test", "--yes")
    assert (revoked.code, revoked.err) == (0, "")
    agent = joined.agents.pop("gcp-1")
    _, said = agent.communicate()
    assert agent.returncode == 4
    assert "cell_revoked" in said
    assert joined.cell("gcp-1") == {}
    told = joined.bootstrap("gcp", "gcp-1", "--new-key")
    joined.start_agent(told)
    assert joined.end_agent("gcp-1") == 0
