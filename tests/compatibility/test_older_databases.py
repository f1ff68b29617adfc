"""A database that an older version left, opened by today's code: everything is there, and goes on.

Made by that version's own code (`record.py`). In each: a claimed scheduler, a tenant, a run that finished, one that was
refused, and one that was under way when the process was killed.
"""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import ssl
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from orchestrator import Orchestrator
from standalone import Process, Standalone

from grafos_core.audit_chain import ChainCheck
from grafos_core.changes import Change
from grafos_core.errors import CODES
from grafos_core.rowfile import RowFile
from grafos_scheduler import claim, events, rows, runs, tenant_events, tenants, views
from grafos_scheduler.decide import decide
from grafos_scheduler.state import Settings, State
from grafos_scheduler.store import CODEC, NOUN

HERE = Path(__file__).parent
DATABASES = sorted(path.stem for path in HERE.glob("*.db"))
DAY_S = 86_400.0


class Older(NamedTuple):
    """A copy of a database, and what was seen in it over REST when it was made."""

    name: str
    path: Path
    found: dict[str, Any]

    @property
    def is_orchestrator(self) -> bool:
        return self.name.startswith("orchestrator")


@pytest.fixture(params=DATABASES)
def older(request: pytest.FixtureRequest, tmp_path: Path) -> Older:
    path = tmp_path / "scheduler.db"
    shutil.copy(HERE / f"{request.param}.db", path)
    path.chmod(0o600)
    return Older(request.param, path, json.loads((HERE / f"{request.param}.json").read_text()))


def opened(older: Older, now: float) -> tuple[RowFile, State]:
    file = RowFile(older.path, CODEC, noun=NOUN)
    name = "orchestrator" if older.is_orchestrator else "cell-1"
    settings = Settings(name, frozenset({"aws", "local"}), enrols=older.is_orchestrator)
    stored = [row for row in file.load(without=rows.COLD_KINDS) if row[0] != claim.POSSESSION]
    return file, State.load(settings, stored, now)


def test_all_that_it_holds_is_read_as_it_was(older: Older) -> None:
    now = max(run["created_at"] for run in older.found["runs"].values())
    file, state = opened(older, now)
    file.close()
    assert set(state.cells) == set(older.found["cells"])
    for run_id, seen in older.found["runs"].items():
        run = views.run_view(state, state.runs[run_id])
        assert (run.state, run.code, run.cost.micro_cents) == (seen["state"], seen["code"], seen["cost"]["micro_cents"])
    for seen in older.found["tenants"]:
        kept = tenants.view(state, state.tenants[seen["name"]])
        for field in ("budget_micro_cents", "held_micro_cents", "spent_micro_cents"):
            assert getattr(kept, field) == seen[field]
    assert state.runs[older.found["under_way"]].state in runs.UNDER_WAY


def test_it_goes_on_from_there_and_what_was_under_way_comes_to_a_typed_end(older: Older) -> None:
    now, chance = max(run["created_at"] for run in older.found["runs"].values()) + DAY_S, random.Random(1)
    file, state = opened(older, now)
    epoch, audit = file.take(), ChainCheck()
    for second in range(200):
        decision = decide(state, events.Tick(), now + second, chance)
        state.apply(decision.changes)
        file.commit(decision.batch, epoch)
    file.close()
    file, again = opened(older, now + DAY_S)
    run = again.runs[older.found["under_way"]]
    assert run.state in runs.ENDED | {runs.REFUSED}
    assert run.code in CODES
    assert all(account.held_micro_cents == 0 for account in again.ledger.accounts.values())
    for _, record in file.read_from(rows.AUDIT, "", 10_000):
        audit.take(record)
    assert audit.event_hash == again.audit_head.event_hash
    file.close()


def test_a_tenant_of_which_somebody_signs_goes_on_signing_when_she_is_put_out(older: Older) -> None:
    """No older version put down with the tenant that its runs are signed."""
    if not older.is_orchestrator:
        return  # a cell's tenants have no people
    file, state = opened(older, now := max(run["created_at"] for run in older.found["runs"].values()))
    file.close()
    [tenant] = state.tenants.values()
    [key] = tenant.keys
    state.apply((Change(rows.PERSON, key, rows.Person(key, tenant.name, "bea", now, signing_key_pem="a-signing-key")),))
    for event in (
        tenant_events.PersonRemoved(tenant.name, "bea"),
        tenant_events.TenantAdmitted(tenant.name, None, None, "another"),
    ):
        assert tenants.must_sign(state, state.tenants[tenant.name])
        state.apply(decide(state, event, now, random.Random(1)).changes)
    assert tenants.must_sign(state, state.tenants[tenant.name])


@pytest.fixture
def revived(older: Older, tmp_path: Path) -> Iterator[Standalone]:
    """Today's scheduler on the older database, with keys of its own."""
    folder = tmp_path / "revived"
    folder.mkdir()
    made = Orchestrator(folder) if older.is_orchestrator else Standalone(folder)
    made.state.mkdir(mode=0o700)
    shutil.copy(older.path, made.state / "scheduler.db")
    yield made
    made.discard()


def test_today_s_scheduler_starts_on_it_and_knows_that_it_was_claimed(revived: Standalone) -> None:
    revived.start()
    context = ssl.create_default_context(cadata=revived.ca_pem)
    if not isinstance(revived, Orchestrator):  # once claimed, it lets nobody in without a certificate
        context.load_cert_chain(revived.cell().certificate, revived.cell().key)
    connection = HTTPSConnection("127.0.0.1", revived.port, context=context)
    connection.request("GET", "/health")
    assert json.loads(connection.getresponse().read())["claimed"]
    connection.close()
    assert revived.scheduler is not None
    assert revived.scheduler.end() == 0
    assert "Traceback" not in revived.scheduler.log.read_text()


def test_a_newer_database_is_refused_by_its_version_and_left_as_it_is(revived: Standalone) -> None:
    file = revived.state / "scheduler.db"
    with sqlite3.connect(file) as database:
        database.execute("UPDATE meta SET value = 99 WHERE name = 'schema_version'")
    begun = Process("grafos_scheduler", revived.arguments(), revived.folder / "scheduler.log")
    assert begun.popen.wait(30.0) == CODES["schema_newer"].exit_code
    assert "error[schema_newer]" in begun.log.read_text()
    begun.discard()
    with sqlite3.connect(file) as database:
        assert database.execute("SELECT value FROM meta WHERE name = 'schema_version'").fetchone() == (99,)
