"""Plans on the emulated clouds: several places, several cells, plans in files; and what is no plan any more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from command_line import GOLDEN, Person, seen

from grafos_cli.wishes import Wish, markets_of, priced_regions, providers_of, refuse_unmeant, regions_for, set_up, words
from grafos_connectors.pricing.table import PriceRow, PriceTable
from grafos_core.errors import GrafosError


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """Somebody with an emulated Google Cloud and Azure, whose shell is pointed at them."""
    somebody = Person(tmp_path_factory.mktemp("planner"))
    up = somebody("emulate", "up", "--clouds", "gcp,azure")
    assert up.code == 0, up.err
    somebody.env.update(somebody("emulate", "env", "--json").document["environment"])
    yield somebody
    somebody("emulate", "down")


def resources(person: Person) -> list[Any]:
    found: list[Any] = person("emulate", "status", "--json").document["resources"]
    return found


# --- what was asked for: pure -----------------------------------------------------------------------------------------


def wish(*providers: str, **asked: Any) -> Wish:
    usual: dict[str, Any] = {"regions": (), "zones": (), "machine_type": "", "ttl_s": 3600, "cell_id": ""}
    return Wish(providers=providers, port=8443, allow="", **{**usual, **asked})


def test_each_region_goes_to_the_cloud_whose_names_look_like_it() -> None:
    asked = wish("aws", "gcp", "azure", regions=("us-east-1", "us-central1", "eastus", "eu-west-1"), any_place=True)
    assert regions_for("aws", asked, ()) == ("us-east-1", "eu-west-1")
    assert regions_for("gcp", asked, ()) == ("us-central1",)
    assert regions_for("azure", asked, ()) == ("eastus",)
    refuse_unmeant(asked, asked.providers)
    assert regions_for("aws", wish("aws", regions=("anything",)), ()) == ("anything",)


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (wish("aws", regions=("us-east-1", "eu-west-1")), "usage"),
        (wish("aws", zones=("a", "b")), "usage"),
        (wish("aws", regions=("us-east-1", "eu-west-1"), zones=("a",), any_place=True), "usage"),
        (wish("aws", "gcp", regions=("Atlantis!",), any_place=True), "config_invalid"),
        (wish("aws", zones=("a",), any_place=True), "usage"),
        (wish("aws", max_hourly_cents=-1), "usage"),
    ],
)
def test_places_that_do_not_go_together_are_told(asked: Wish, code: str) -> None:
    with pytest.raises(GrafosError) as refused:
        refuse_unmeant(asked, asked.providers)
    assert refused.value.code == code


def test_only_any_means_several_clouds_or_all() -> None:
    assert providers_of("gcp,aws,gcp", any_place=True) == ("gcp", "aws")
    assert providers_of("", any_place=True) == ()
    for word in ("", "aws,gcp"):
        with pytest.raises(GrafosError) as refused:
            providers_of(word, any_place=False)
        assert refused.value.code == "usage"
    with pytest.raises(GrafosError) as unknown:
        providers_of("aws,nebula", any_place=True)
    assert unknown.value.code == "usage"
    assert words(" a, b,,a ") == ("a", "b")


def test_the_cheaper_market_is_tried_first() -> None:
    assert markets_of(spot=False, or_on_demand=False) == (False,)
    assert markets_of(spot=True, or_on_demand=False) == (True,)
    assert markets_of(spot=False, or_on_demand=True) == (True, False)
    with pytest.raises(GrafosError):
        markets_of(spot=True, or_on_demand=True)


def test_only_regions_with_a_fresh_price_can_be_any() -> None:
    today = date(2026, 11, 21)

    def row(region: str, as_of: str, name: str = "e2-medium") -> PriceRow:
        return PriceRow("gcp", "vm", name, region, "hour", 4_000_000, "test", as_of)

    rows = (
        row("us-a1", "2026-11-20"),
        row("us-b1", "2026-08-01"),
        row("us-c1", "unknown"),
        row("us-d1", "2026-11-20", "x"),
    )
    table = PriceTable(own=rows)
    assert priced_regions(table, "gcp", "", today, emulated=False) == ["us-a1"]
    assert priced_regions(table, "gcp", "x", today, emulated=False) == ["us-d1"]
    assert priced_regions(table, "gcp", "", today, emulated=True) == ["us-a1", "us-b1", "us-c1"]


def test_a_cloud_is_set_up_when_something_hints_at_it() -> None:
    assert set_up({"GRAFOS_GCP_ENDPOINT": "http://127.0.0.1:1"}) == ("gcp",)


# --- several places -------------------------------------------------------------------------------------------------


def seen_plan(text: str) -> str:
    import re

    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "{moment}", seen(text))
    text = re.sub(r"[$]?[\d.]+[¢]|[$][\d.]+", "{money}", text)
    text = re.sub(r"\b(e2-medium|t2a-standard-1|Standard_B2s|Standard_B2pls_v2)\b", "{type}", text)
    text = re.sub(r"\d+ cores?, \d+ GiB, (amd64|arm64)", "{machine}", text)
    return re.sub(r" +", " ", text)


def test_all_places_are_shown_by_price_with_why_some_are_none(operator: Person, golden: Any) -> None:
    asked = ("cloud", "provision", "--no-join", "--cell-id", "anywhere", "--ttl", "1h", "--dry-run", "--any")
    document = operator(*asked, "--json").document
    usable = [one for one in document["candidates"] if not one["refusals"]]
    prices = [one["micro_cents_per_hour"] for one in usable]
    assert prices == sorted(prices)
    assert {one["provider"] for one in usable} == {"gcp", "azure"}
    assert document["plan"]["spec"]["region"] == usable[0]["region"]
    assert document["most_micro_cents"] == max(one["worst_case_micro_cents"] for one in usable)
    assert resources(operator) == []
    one_cloud = operator(*asked, "azure", "--region", "westus,eastus", "--max-hourly", "40")
    golden(GOLDEN / "candidates.txt", seen_plan(one_cloud.out))


def test_a_full_region_is_left_for_the_next_and_that_is_told(operator: Person) -> None:
    rule = ("--provider", "gcp", "--operation", "instances.insert", "--error", "capacity", "--times", "0")
    told = operator("emulate", "fault", "add", *rule)
    assert told.code == 0, told.err
    answer = operator(
        "cloud", "provision", "gcp,azure", "--no-join", "--any", "--region", "us-central1,eastus", "--cell-id", "moved",
        "--ttl", "1h", "--yes", "--json",
    )  # fmt: skip
    operator("emulate", "fault", "clear")
    assert answer.code == 0, answer.err
    document = answer.document
    assert (document["cell"]["provider"], document["cell"]["state"]) == ("azure", "booted")
    assert {move["code"] for move in document["moves"]} == {"cloud_capacity"}
    assert document["moves"][-1]["after"].startswith("azure eastus")
    assert {one["provider"] for one in resources(operator)} == {"azure"}
    again = operator(
        "cloud", "provision", "azure", "--no-join", "--region", "eastus", "--cell-id", "moved", "--ttl", "1h", "--yes"
    )
    assert again.code == 0, again.err
    assert operator("cloud", "teardown", "azure", "--cell-id", "moved", "--yes").code == 0
    assert resources(operator) == []


def test_a_cell_that_no_zone_has_is_told_once_for_each_zone_and_stays_in_sight(operator: Person) -> None:
    rule = ("--provider", "gcp", "--operation", "instances.insert", "--error", "capacity", "--times", "0")
    assert operator("emulate", "fault", "add", *rule).code == 0
    asked = ("cloud", "provision", "gcp", "--no-join", "--cell-id", "nowhere", "--ttl", "1h", "--yes")
    answer = operator(*asked)
    operator("emulate", "fault", "clear")
    assert (answer.code, answer.error_code) == (6, "cloud_capacity")
    why = answer.err.partition("why:")[2].partition("next:")[0]
    assert len(why.split("\n")) == len(set(why.split("\n")))
    assert "nowhere was begun and its money is held" in answer.err
    assert "grafos cloud teardown gcp --cell-id nowhere" in answer.err
    (cell,) = [one for one in operator("cloud", "ls", "--json").document["cells"] if one["cell_id"] == "nowhere"]
    assert (cell["state"], cell["emulated"]) == ("making", True)
    shown = operator("cloud", "show", "--cell-id", "nowhere")
    assert (shown.code, "nowhere on gcp in us-central1-" in shown.out) == (0, True)
    assert "grafos cloud recover  finishes what was begun" in shown.out
    doctor = operator("doctor", "--json", "--within", "1s").document["findings"]
    (state,) = [one for one in doctor if (one["area"], one["name"]) == ("fabric", "state")]
    assert (state["status"], "nowhere: a provision was begun 0 min ago" in state["what"]) == ("warn", True)
    (money,) = [one for one in doctor if (one["area"], one["name"]) == ("fabric", "ledger")]
    assert "an emulator bills it" in money["what"]
    assert operator("cloud", "teardown", "gcp", "--cell-id", "nowhere", "--yes").code == 0
    assert resources(operator) == []


def test_what_costs_more_by_the_hour_is_refused(operator: Person) -> None:
    answer = operator("cloud", "provision", "gcp", "--no-join", "--ttl", "1h", "--max-hourly", "1", "--yes")
    assert (answer.code, answer.error_code) == (7, "budget_exceeded")
    assert "--max-hourly" in answer.err
    everywhere = operator(
        "cloud", "provision", "gcp", "--no-join", "--any", "--ttl", "1h", "--max-hourly", "1", "--dry-run"
    )
    assert "places can have" in everywhere.err
    assert everywhere.err.count("allow more with --max-hourly") == 1
    assert resources(operator) == []


def test_a_spot_machine_is_one_and_its_plan_says_what_that_costs_now_and_at_most(operator: Person) -> None:
    answer = operator(
        "cloud", "provision", "gcp", "--no-join", "--cell-id", "cheap", "--ttl", "1h", "--spot", "--dry-run"
    )
    assert "as a spot machine now, at most" in answer.out
    zoned = operator(
        "cloud", "provision", "gcp", "--no-join", "--zone", "us-central1-b", "--ttl", "1h", "--dry-run", "--json"
    ).document
    assert zoned["plan"]["facts"]["offer"]["zone"] == "us-central1-b"
    made = operator(
        "cloud",
        "provision",
        "gcp",
        "--no-join",
        "--cell-id",
        "cheap",
        "--ttl",
        "1h",
        "--spot-or-on-demand",
        "--yes",
        "--json",
    ).document
    assert made["plan"]["spec"]["spot"] is True
    assert operator("cloud", "teardown", "gcp", "--cell-id", "cheap", "--yes").code == 0


# --- many -----------------------------------------------------------------------------------------------------------


def test_many_cells_are_one_question_one_sum_and_one_summary(operator: Person) -> None:
    asked = ("cloud", "provision", "gcp", "--no-join", "--cell-id", "web", "--count", "3", "--ttl", "1h")
    unasked = operator(*asked)
    assert (unasked.code, unasked.error_code) == (3, "confirmation_needed")
    assert "Make 3 cells, web-1 to web-3, for at most" in unasked.err
    made = operator(*asked, "--yes", "--json")
    assert made.code == 0, made.err
    assert made.document["cell_ids"] == ["web-1", "web-2", "web-3"]
    assert (made.document["made"], made.document["failed"]) == (3, 0)
    assert {one["cell"]["state"] for one in made.document["cells"]} == {"booted"}
    again = operator(*asked, "--yes")
    assert "3 of 3 cells after" in again.out
    torn = operator("cloud", "teardown", "gcp", "--all", "--yes")
    assert torn.code == 0, torn.err
    assert resources(operator) == []


def test_more_than_the_cap_pays_for_are_none(operator: Person) -> None:
    answer = operator("cloud", "provision", "gcp", "--no-join", "--count", "60", "--ttl", "8h", "--yes")
    assert (answer.code, answer.error_code) == (7, "budget_exceeded")
    assert "60 cells may cost" in answer.err
    assert resources(operator) == []


# --- plans in files -------------------------------------------------------------------------------------------------


def kept(operator: Person, name: str, *flags: str) -> Path:
    file = operator.project / f"{name}.plan"
    answer = operator(
        "cloud", "provision", "gcp", "--no-join", "--cell-id", name, "--ttl", "1h", "--plan-out", str(file), *flags
    )
    assert answer.code == 0, answer.err
    assert "Nothing was made" in answer.out
    assert file.stat().st_mode & 0o777 == 0o600
    return file


def altered(file: Path, **changes: Any) -> Path:
    """The plan with other words at these places (dotted paths below the first place's plan)."""
    document = json.loads(file.read_text())
    for path, value in changes.items():
        *above, last = path.split("__")
        target = document["places"][0]
        for name in above:
            target = target[int(name)] if isinstance(target, list) else target[name]
        target[last] = value
    other = file.with_suffix(".altered")
    other.write_text(json.dumps(document))
    return other


def test_a_kept_plan_is_made_once_and_again_is_the_same_cell(operator: Person) -> None:
    file = kept(operator, "later")
    assert resources(operator) == []
    holds = operator("cloud", "apply", str(file), "--dry-run")
    assert holds.code == 0, holds.err
    made = operator("cloud", "apply", str(file), "--yes", "--json")
    assert made.code == 0, made.err
    assert made.document["cell"]["cell_id"] == "later"
    before = resources(operator)
    again = operator("cloud", "apply", str(file), "--yes", "--json")
    assert (again.code, again.document["resumed"]) == (0, True)
    assert resources(operator) == before
    over = operator(
        "cloud", "provision", "gcp", "--no-join", "--cell-id", "later", "--ttl", "1h", "--plan-out", str(file)
    )
    assert over.error_code == "plan_stale"
    assert operator("cloud", "teardown", "gcp", "--cell-id", "later", "--yes").code == 0


def test_a_plan_that_the_world_has_left_behind_is_refused_and_what_moved_is_named(operator: Person) -> None:
    """What may move is held in tests/stacks/test_planfile.py."""
    file = kept(operator, "stale")
    answer = operator("cloud", "apply", str(altered(file, plan__facts__price__machine_per_hour=1)), "--yes")
    assert (answer.code, answer.error_code) == (8, "plan_stale")
    assert "price of the machine" in answer.err
    other = operator("cloud", "apply", str(altered(file, plan__fabric="fab-000000000000")), "--yes")
    assert (other.error_code, "fab-000000000000" in other.err) == ("plan_stale", True)
    gone = operator("cloud", "apply", str(altered(file, plan__spec__machine_type="e2-mammoth")), "--yes")
    assert (gone.error_code, "can no longer be carried out" in gone.err) == ("plan_stale", True)
    assert resources(operator) == []


def test_a_file_that_is_missing_or_holds_no_plan_is_told(operator: Person) -> None:
    assert operator("cloud", "apply", "missing.plan").error_code == "config_invalid"
