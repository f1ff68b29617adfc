"""A standalone cell after its laptop is lost: somebody with the fabric's key and the cloud's credentials gets in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from command_line import HELLO, Person

CELL = "build-1"


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """With a cell on an emulated AWS, a run on it, and the key exported."""
    somebody = Person(tmp_path_factory.mktemp("old"))
    try:
        assert somebody("emulate", "up", "--clouds", "aws").code == 0
        somebody.env.update(somebody("emulate", "env", "--json").document["environment"])
        made = somebody("cloud", "provision", "aws", "--cell-id", CELL, "--ttl", "2h", "--yes")
        assert made.code == 0, made.err
        somebody.write_program(HELLO)
        ran = somebody("deploy", "run", "--provider", "aws")
        assert ran.code == 0, ran.err
        assert somebody("fabric", "key", "export", str(somebody.home / "key.pem"), "--yes").code == 0
        yield somebody
    finally:
        somebody("emulate", "down")


@pytest.fixture(scope="module")
def new(old: Person, tmp_path_factory: pytest.TempPathFactory) -> Person:
    """Somebody with nothing but the key and the cloud's credentials."""
    somebody = Person(tmp_path_factory.mktemp("new"))
    somebody.env = {**old.env, **somebody.env}
    assert somebody("fabric", "key", "import", str(old.home / "key.pem"), "--yes").code == 0
    return somebody


def test_it_obeys_the_new_home_and_the_old_one_no_more_and_nothing_is_lost(old: Person, new: Person) -> None:
    """One story, since each step needs all before it."""
    unknown = new("cloud", "claim", CELL, "--yes")
    assert unknown.error_code == "cell_unknown"
    assert "grafos cloud recover" in unknown.err
    assert new("cloud", "recover", "--provider", "aws", "--yes").code == 0
    assert new("cloud", "claim", CELL).error_code == "confirmation_needed"
    claimed = new("cloud", "claim", CELL, "--yes", "--json")
    assert claimed.code == 0, claimed.err
    assert claimed.document["cell"]["cell_id"] == CELL
    assert new("cloud", "claim", CELL, "--yes").code == 0, "again"

    [before] = new("runs", "ls", "--json").document["runs"]
    assert spent_by_tenant(new) == before["cost"]["micro_cents"] > 0, "which no ledger knew but the lost one"

    new.write_program(HELLO)
    ran = new("deploy", "run", "--provider", "aws")
    assert ran.code == 0, ran.err
    assert len(new("runs", "ls", "--json").document["runs"]) == 2

    for words in (("deploy", "run", "--provider", "aws"), ("runs", "ls")):
        put_out = old(*words)
        assert "another home of this fabric became the operator" in put_out.err, (words, put_out)

    gone = new("cloud", "teardown", "aws", "--cell-id", CELL, "--yes", "--json")
    assert gone.code == 0, gone.err
    receipt = gone.document["receipt"]
    assert (receipt["runs_brought_home"], receipt["settlement"], receipt["left"]) == (2, "settled", 0)
    runs = new("runs", "ls", "--json").document["runs"]
    assert len(runs) == 2
    assert spent_by_tenant(new) == sum(run["cost"]["micro_cents"] for run in runs)
    for run in runs:
        assert new("artifacts", run["run_id"], "--verify").code == 0


def spent_by_tenant(somebody: Person) -> int:
    accounts = somebody("fabric", "show", "--json").document["accounts"]
    return sum(int(one["spent_micro_cents"]) for one in accounts if one["name"].startswith("tenant/"))
