"""The cap, what is held under it, what cells cost, and the price table, at the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_line import GOLDEN, Person, ends_with

from grafos_core import ledger as ledgers
from grafos_core.clock import SystemClock
from grafos_core.fabric import OPERATOR_ACCOUNT, open_fabric
from grafos_core.ledger import Meter

Golden = Callable[[Path, str], None]
CENT = 1_000_000
DAY = 1_767_571_200  # 2026-01-05, 00:00 UTC
NO_MACHINE_OF_A_CLOUD = {"AWS_EC2_METADATA_DISABLED": "true", "NO_GCE_CHECK": "true"}
"""Their SDKs then look for no credentials outside of this machine."""


@pytest.fixture
def person(tmp_path: Path) -> Person:
    """Somebody without any cloud."""
    somebody = Person(tmp_path)
    somebody.env |= NO_MACHINE_OF_A_CLOUD
    return somebody


@pytest.fixture
def spender(person: Person, monkeypatch: pytest.MonkeyPatch) -> Person:
    """Somebody whose ledger has a cell that ran out, one that was torn down, and an emulated one."""
    monkeypatch.setenv("XDG_DATA_HOME", person.env["XDG_DATA_HOME"])
    real = Meter("aws", 4 * CENT, since=DAY, until=DAY + 8 * 3600.0)
    emulated = Meter("gcp", 2 * CENT, since=DAY + 60, until=DAY + 3660.0, fictional=True)
    with open_fabric(SystemClock()).ledger() as transaction:
        ledger = transaction.ledger
        for name, cents, meter in (("build", 40, real), ("web", 50, real), ("try", 5, emulated)):
            hold_id, purpose = f"cell/{name}/1/{int(meter.since)}", f"cell {name}"
            transaction.write(ledgers.hold(ledger, hold_id, OPERATOR_ACCOUNT, cents * CENT, purpose, meter=meter))
        transaction.write(ledgers.settle(ledger, f"cell/web/1/{DAY}", 7 * CENT, ended_at=DAY + 6300.0))
    return person


# --- the cap -------------------------------------------------------------------------------------------------------


def test_a_new_fabric_has_twenty_dollars_and_the_cap_is_what_was_set(person: Person) -> None:
    budget = person("cloud", "budget", "show", "--json").document["budget"]
    assert (budget["cap_micro_cents"], budget["free_micro_cents"]) == (2000 * CENT, 2000 * CENT)
    for words in ("2500", "2_500", "2,500"):
        answer = person("cloud", "budget", "set", words, "--json")
        assert answer.document["budget"]["cap_micro_cents"] == 2500 * CENT
    assert "$25.00" in person("cloud", "budget", "show").out


@pytest.mark.parametrize("words", ["", "ten", "-5", "12.50", "$20", "1" * 12, "1" * 5000, "٣"])
def test_what_is_no_cap_is_told_and_changes_nothing(words: str, person: Person) -> None:
    answer = person("cloud", "budget", "set", words)
    assert (answer.code, answer.error_code) == (2, "usage")
    assert person("cloud", "budget", "show", "--json").document["budget"]["cap_micro_cents"] == 2000 * CENT


def test_budget_and_cost_look_as_reviewed(spender: Person, golden: Golden) -> None:
    text = "\n".join(spender(*words).out for words in (("cloud", "budget", "show"), ("cloud", "cost")))
    golden(GOLDEN / "money.txt", text)


def test_a_cap_below_what_is_held_is_set_and_what_that_means_is_said(spender: Person) -> None:
    answer = spender("cloud", "budget", "set", "30")
    assert answer.code == 0
    assert re.search(r"over +22\.00¢: what runs goes on, and no new cell is made", answer.out)
    budget = spender("cloud", "budget", "show", "--json").document["budget"]
    assert (budget["free_micro_cents"], budget["over_micro_cents"]) == (0, 22 * CENT)
    assert budget["held_micro_cents"] == 45 * CENT, "nothing was let go"


def test_the_budget_shows_only_what_is_held_now(spender: Person) -> None:
    cells = spender("cloud", "budget", "show", "--json").document["cells"]
    assert {cell["cell_id"] for cell in cells} == {"build", "try"}


def test_what_an_emulator_bills_is_told_apart_where_an_account_is_shown(spender: Person) -> None:
    """It counts under the same cap, and nobody pays it."""
    budget = spender("cloud", "budget", "show", "--json").document["budget"]
    assert (budget["fictional_held_micro_cents"], budget["fictional_spent_micro_cents"]) == (5 * CENT, 0)
    accounts = spender("fabric", "show", "--json").document["accounts"]
    [operator] = [account for account in accounts if account["name"] == OPERATOR_ACCOUNT]
    assert operator["fictional_held_micro_cents"] == 5 * CENT
    assert re.search(r"operator \(fictional\) +5.00¢ of what is held: an emulator", spender("fabric", "show").out)


# --- what cells cost -----------------------------------------------------------------------------------------------


def test_cost_is_settled_or_accrued_and_fictional_money_is_counted_apart(spender: Person) -> None:
    document = spender("cloud", "cost", "--json").document
    costs = {cell["cell_id"]: (cell["state"], cell["cost_micro_cents"]) for cell in document["cells"]}
    assert costs == {"build": ("open", 32 * CENT), "web": ("settled", 7 * CENT), "try": ("open", 2 * CENT)}
    assert (document["total_micro_cents"], document["fictional_micro_cents"]) == (39 * CENT, 2 * CENT)
    assert "the cloud's bill is the last word" in document["note"]
    assert "gcp (fictional)" in spender("cloud", "cost").out


def test_cost_is_narrowed_by_name_and_by_time(spender: Person) -> None:
    def named(*flags: str) -> set[str]:
        return {cell["cell_id"] for cell in spender("cloud", "cost", *flags, "--json").document["cells"]}

    assert named("--cell-id", "web") == {"web"}
    assert named("--since", "2026-01-05") == {"build", "web", "try"}
    assert named("--since", "2026-01-06") == {"build", "try"}


@pytest.mark.parametrize("flags", [("--since", "lately"), ("--since", "2026-13-40"), ("--since", "")])
def test_a_time_that_is_none_is_told(flags: tuple[str, ...], spender: Person) -> None:
    assert spender("cloud", "cost", *flags).error_code == "usage"


def test_a_cell_that_the_ledger_does_not_know_is_told(spender: Person) -> None:
    answer = spender("cloud", "cost", "--cell-id", "nobody")
    assert (answer.code, answer.error_code) == (2, "cell_unknown")


# --- prices --------------------------------------------------------------------------------------------------------


def test_every_price_is_shown_with_its_source_its_day_and_whether_a_plan_may_be_made_by_it(person: Person) -> None:
    prices = person("cloud", "prices", "show", "--json").document["prices"]
    assert {price["provider"] for price in prices} == {"aws", "azure", "gcp"}
    assert all(price["source"] and price["as_of"] for price in prices)
    assert {price["state"] for price in prices} == {"stale"}
    flags = ("--provider", "gcp", "--region", "europe-west1", "--type", "e2-micro")
    narrowed = person("cloud", "prices", "show", *flags).out.splitlines()
    assert len([line for line in narrowed if line.startswith("gcp")]) == 1


def test_without_any_cloud_a_refresh_says_what_is_missing(person: Person) -> None:
    answer = person("cloud", "prices", "refresh")
    assert (answer.code, answer.error_code) == (4, "credentials_missing")
    answer = person("cloud", "prices", "refresh", "--provider", "nebula")
    assert (answer.code, answer.error_code) == (2, "usage")
    flags = ("--provider", "aws", "--region", "us-east-1", "--type", "t4g.medium")
    answer = person("cloud", "prices", "refresh", *flags, "--json")
    assert (answer.code, answer.error_code) == (4, "credentials_missing")
    assert [cloud["provider"] for cloud in answer.document["error"]["context"]["clouds"]] == ["aws"]


def test_a_damaged_table_is_told(person: Person) -> None:
    folder = person.home / "data" / "grafos"
    folder.mkdir(parents=True)
    (folder / "prices.json").write_text("{")
    answer = person("cloud", "prices", "show")
    assert answer.error_code == "store_invalid"
    assert "grafos cloud prices refresh" in answer.err


# --- on an emulated cloud ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """Somebody with an emulated cloud."""
    somebody = Person(tmp_path_factory.mktemp("operator"))
    assert somebody("emulate", "up").code == 0
    somebody.env.update(somebody("emulate", "env", "--json").document["environment"])
    yield somebody
    somebody("emulate", "down")


def test_an_emulator_s_prices_are_never_kept(operator: Person) -> None:
    answer = operator("cloud", "prices", "refresh", "--provider", "aws", "--json")
    assert answer.code == 0
    assert (answer.document["kept"], answer.document["clouds"][0]["emulated"]) == (0, True)
    assert "fictional" in operator("cloud", "prices", "refresh", "--provider", "aws").out
    assert not (operator.home / "data" / "grafos" / "prices.json").exists()


def test_a_plan_on_an_emulated_cloud_says_that_its_prices_are_fictional(operator: Person) -> None:
    answer = operator("cloud", "provision", "aws", "--cell-id", "planned", "--dry-run")
    assert re.search(r"price .* an hour \(fictional\)", answer.out)
    assert re.search(r"worst case .*¢ \(fictional\)", answer.out)
    assert "nobody is billed by them" in answer.out


def test_a_plan_says_what_its_bound_leaves_out_and_why_a_busy_machine_is_not_dearer(operator: Person) -> None:
    answer = operator("cloud", "provision", "aws", "--cell-id", "planned", "--dry-run")
    assert re.search(r"not in it +egress traffic, taxes", answer.out)
    assert re.search(r"CPU credits +set to standard", answer.out)


def test_two_provisions_at_once_from_two_folders_never_pass_the_cap(operator: Person) -> None:
    plan = operator("cloud", "provision", "aws", "--cell-id", "one", "--ttl", "1h", "--dry-run", "--json").document
    each = plan["plan"]["worst_case_micro_cents"]
    cap = -(-each * 3 // 2 // CENT)  # one fits, two do not
    assert operator("cloud", "budget", "set", str(cap)).code == 0
    (other := operator.home / "elsewhere").mkdir()
    words = ("cloud", "provision", "aws", "--ttl", "1h", "--yes", "--json", "--cell-id")
    started = [operator.starts(*words, "one"), operator.starts(*words, "two", cwd=other)]
    answers = [ends_with(process) for process in started]
    codes = sorted(answer.code for answer in answers)
    assert codes == [0, 7], [answer.err for answer in answers]
    refused = next(answer for answer in answers if answer.code)
    assert refused.error_code == "budget_exceeded"
    assert "grafos cloud budget set" in json.dumps(refused.document)
    (held,) = operator("cloud", "budget", "show", "--json").document["cells"]
    assert (held["held_micro_cents"], held["fictional"], held["provider"]) == (each, True, "aws")
    torn = operator("cloud", "teardown", "aws", "--cell-id", held["cell_id"], "--yes", "--json")
    assert torn.code == 0, torn.err
    (settled,) = operator("cloud", "cost", "--cell-id", held["cell_id"], "--json").document["cells"]
    assert settled["state"] == "settled"
    assert settled["cost_micro_cents"] == torn.document["receipt"]["cost_micro_cents"]
