"""Backups of an orchestrator on a machine of one's own, and leaving one there, by the command line."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Person
from own_orchestrator import QUICK, OwnOrchestrator
from standalone import Process

from grafos_cli.lifetime import warn_of_end
from grafos_core.clock import VirtualClock
from grafos_core.fabric import open_fabric


@pytest.fixture
def own(tmp_path: Path) -> Iterator[OwnOrchestrator]:
    orchestrator = OwnOrchestrator(Person(tmp_path))
    claimed = orchestrator.person("fabric", "claim", orchestrator.url)
    assert claimed.code == 0, claimed.err
    yield orchestrator
    orchestrator.discard()


def test_whoever_starts_on_what_was_restored_has_the_same_orchestrator(own: OwnOrchestrator) -> None:
    person = own.person
    person("admin", "set-tenant-budget", "--tenant", "default", "--cents", "777")
    (person.project / "kept").mkdir()
    told = person("fabric", "backup", "kept", "--json").document
    assert Path(told["file"]).parent.name == "kept"
    assert (told["orchestrator"], told["store"]) == ("orchestrator", "sqlite")
    own.process.discard()

    restored = person("fabric", "restore", told["file"], "--folder", "again", "--json")
    assert restored.document["orchestrator"] == "orchestrator", restored.err
    refused = person("fabric", "restore", told["file"], "--folder", "again")
    assert refused.error_code == "config_invalid"

    program, *words = own.init["command"]
    assert program == "grafos-scheduler"
    words[words.index("--state") + 1] = str(person.project / "again" / "state")
    words[words.index("--trust") + 1] = str(person.project / "again" / "trust")
    own.process = Process("grafos_scheduler", [*words, *QUICK], person.project / "again.log")
    own.process.wait_ready()
    assert person("fabric", "claim", own.url).code == 0
    [tenant] = person("admin", "list-tenants", "--json").document["tenants"]
    assert tenant["budget_micro_cents"] == 777_000_000


def test_a_backup_opens_with_the_fabric_s_key_alone(own: OwnOrchestrator, tmp_path: Path) -> None:
    own.person("fabric", "backup", "one.backup")
    stranger = Person(tmp_path / "stranger")
    file = str(own.person.project / "one.backup")
    assert stranger("fabric", "restore", file, "--folder", "stolen").error_code == "backup_invalid"
    assert b"PRIVATE KEY" not in Path(file).read_bytes()
    assert not (stranger.project / "stolen").exists()


def test_what_comes_home_from_a_machine_of_one_s_own_and_that_it_stays(own: OwnOrchestrator) -> None:
    person = own.person
    assert person("fabric", "upgrade", "--yes").error_code == "unsupported"
    assert person("fabric", "up", "--on", "aws", "--region", "us-east-1", "--yes").error_code == "config_invalid"
    gone = person("fabric", "down", "--yes", "--json").document
    assert (gone["receipt"], gone["cells"]) == (None, [])
    assert gone["audit_records"] > 0
    shown = person("fabric", "show", "--json").document
    assert (shown["orchestrator"], shown["ledger"]["standing"]) == (None, "here")
    assert own.process.popen.poll() is None


def test_one_that_will_never_answer_again_is_left_with_what_is_known_here(own: OwnOrchestrator) -> None:
    person = own.person
    own.process.discard()
    assert person("fabric", "down", "--yes").error_code == "scheduler_unreachable"
    gone = person("fabric", "down", "--lost", "--yes", "--json").document
    assert gone["notes"]
    assert person("fabric", "show", "--json").document["ledger"]["standing"] == "here"


def test_no_cell_is_bootstrapped_under_the_orchestrator_s_name(tmp_path: Path) -> None:
    asked = ("cloud", "bootstrap-cell", "--provider", "aws", "--cell-id", "orchestrator", "--rate", "1")
    assert Person(tmp_path)(*asked).error_code == "name_invalid"


def test_every_command_warns_from_an_hour_before_the_machine_ends(tmp_path: Path) -> None:
    fabric = open_fabric(VirtualClock(), name="warned")
    record, said = fabric.cell_home("orchestrator") / "cell.json", list[str]()
    now = time.time()

    def told(left_s: float, **more: object) -> list[str]:
        record.write_text(json.dumps({"pattern": "orchestrator", "expires_at": now + left_s, "gone_at": 0.0, **more}))
        said.clear()
        warn_of_end(fabric, said.append, now)
        return list(said)

    assert told(3601) == []
    [soon] = told(1800)
    assert "ends itself in 30 min" in soon
    [over] = told(-60)
    assert "grafos fabric up --restore" in over
    assert told(60, gone_at=1.0) == told(60, pattern="standalone") == []
