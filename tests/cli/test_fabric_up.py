"""The fabric's orchestrator on an emulated cloud, by the command line: made, backed up, lost, back again, and gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from orchestrated_person import OrchestratedPerson


@pytest.fixture(scope="module")
def somebody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrchestratedPerson]:
    person = OrchestratedPerson(tmp_path_factory.mktemp("orchestrated"), "gcp")
    yield person
    person.discard()


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[OrchestratedPerson]:
    """Somebody whose fabric has no orchestrator."""
    person = OrchestratedPerson(tmp_path, "gcp")
    yield person
    person.discard()


@pytest.mark.timeout(300)
def test_an_orchestrator_lives_is_lost_comes_back_and_goes(somebody: OrchestratedPerson, tmp_path: Path) -> None:
    """One story, since each step needs all before it."""
    made = somebody.up("--ttl", "2h")
    assert (made["orchestrator"]["provider"], made["ledger"]["standing"], made["restored"]) == ("gcp", "moved", False)
    url = made["orchestrator"]["url"]
    check_that_the_cell_commands_know_it(somebody)

    somebody.join("azure-1")
    backup = str(tmp_path / "one.backup")
    assert somebody("fabric", "backup", backup)["store"] == "sqlite"
    assert Path(backup).stat().st_mode & 0o777 == 0o600
    assert somebody.refused("fabric", "backup", backup) == "config_invalid"

    somebody.lose_the_machine()
    back = somebody("fabric", "up", "--restore", backup, "--yes")
    assert (back["restored"], back["orchestrator"]["url"]) == (True, url)
    somebody.await_ready("azure-1")

    told = somebody("fabric", "upgrade", "--yes")
    assert told["changed"] == (told["before"] != told["after"])
    assert somebody.refused("cloud", "teardown", "gcp", "--cell-id", "orchestrator", "--yes") == "ledger_elsewhere"
    assert somebody.refused("fabric", "down", "--yes") == "cells_registered"
    gone = somebody("fabric", "down", "--force", "--prove", "--yes")
    assert (gone["cells"], gone["receipt"]["left"], gone["inventory"]["left"]) == (["azure-1"], 0, 0)
    assert gone["audit_records"] > 0
    assert len(Path(gone["audit_file"]).read_text().splitlines()) == gone["audit_records"]
    assert somebody.resources() == []
    shown = somebody("fabric", "show")
    assert (shown["orchestrator"], shown["ledger"]["standing"]) == (None, "here")
    assert {one["held_micro_cents"] for one in shown["accounts"]} == {0}
    assert somebody.refused("fabric", "down", "--yes") == "not_found"


def check_that_the_cell_commands_know_it(somebody: OrchestratedPerson) -> None:
    [listed] = somebody("cloud", "ls")["cells"]
    assert (listed["cell_id"], listed["pattern"], listed["state"]) == ("orchestrator", "orchestrator", "live")
    assert [one["cell_id"] for one in somebody("cloud", "cost")["cells"]] == ["orchestrator"]
    swept = somebody("cloud", "sweep", "--provider", "gcp")
    assert [account["condemned"] for account in swept["accounts"]] == [0], swept
    assert somebody("fabric", "show")["cells"] == []


def test_a_plan_is_shown_with_its_price_and_nothing_is_made(newcomer: OrchestratedPerson) -> None:
    planned = newcomer("fabric", "up", "--on", "gcp", "--region", "us-central1", "--dry-run")
    assert planned["dry_run"]
    kinds = {what["kind"] for what in planned["plan"]["resources"]}
    assert kinds == {"network", "subnet", "address", "firewall_rule", "machine"}
    assert planned["plan"]["worst_case_micro_cents"] > 0
    assert (planned["plan"]["installs_at_first_boot"], planned["plan"]["facts"]["baked"]) == (True, "")
    unknown = ("--image", "img-gcp-us-central1-000000000000", "--dry-run")
    assert newcomer.refused("fabric", "up", "--on", "gcp", "--region", "us-central1", *unknown) == "image_unknown"
    assert newcomer.resources() == []
    assert newcomer.refused("fabric", "up", "--yes") == "usage"
    assert newcomer.refused("fabric", "down", "--yes") == "not_found"


def test_what_is_no_backup_is_told_before_anything_is_made(newcomer: OrchestratedPerson, tmp_path: Path) -> None:
    bad = tmp_path / "bad.backup"
    bad.write_bytes(b"grafos-backup-1\nnothing of the kind at all")
    for file in (bad, tmp_path / "none.backup"):
        assert newcomer.refused("fabric", "up", "--on", "gcp", "--restore", str(file), "--yes") == "backup_invalid"
    assert newcomer.resources() == []


def test_what_was_asked_for_is_what_is_planned_and_stays(newcomer: OrchestratedPerson) -> None:
    where = ("--region", "us-central1", "--zone", "us-central1-b", "--type", "e2-standard-2")
    how = ("--ttl", "3h", "--max-ttl", "6h", "--port", "9443", "--allow", "127.0.0.1")
    plan = newcomer("fabric", "up", "--on", "gcp", *where, *how, "--dry-run")["plan"]
    spec, facts = plan["spec"], plan["facts"]
    assert (spec["ttl_s"], spec["max_ttl_s"], spec["port"], spec["operator_cidr"]) == (
        10800,
        21600,
        9443,
        "127.0.0.1/32",
    )
    assert (facts["offer"]["zone"], facts["offer"]["machine_type"]) == ("us-central1-b", "e2-standard-2")
    [rule] = [what for what in plan["resources"] if what["kind"] == "firewall_rule"]
    assert (rule["inputs"]["port"], rule["inputs"]["cidr"]) == (9443, "127.0.0.1/32")


@pytest.mark.parametrize(
    ("variable", "value", "asked", "code"),
    [
        ("GRAFOS_LONGEST_TTL", "8h", (), "config_invalid"),
        ("GRAFOS_LONGEST_TTL", "8h", ("--ttl", "1h", "--max-ttl", "9h"), "config_invalid"),
        ("GRAFOS_ALLOWED_REGIONS", "europe-west1", (), "config_invalid"),
        ("GRAFOS_ALLOWED_TYPES", "e2-small", ("--type", "e2-standard-2"), "config_invalid"),
        ("GRAFOS_MOST_CENTS_PER_HOUR", "1", (), "budget_exceeded"),
    ],
)
def test_a_guard_rail_binds_an_orchestrator_as_it_binds_a_cell(
    newcomer: OrchestratedPerson, variable: str, value: str, asked: tuple[str, ...], code: str
) -> None:
    """Else it would be made for longer than it may be extended to."""
    newcomer.person.env[variable] = value
    assert newcomer.refused("fabric", "up", "--on", "gcp", "--region", "us-central1", *asked, "--dry-run") == code
