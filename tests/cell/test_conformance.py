"""The conformance suite: it stands for every rule of the ABI page, and both call layers pass it."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import msgspec
import pytest
from call_layers import new_engine
from source_tree import ROOT

from grafos_cell.conformance.case import Case, Expected, judge
from grafos_cell.conformance.service_cases import SERVICE_CASES, run_service_case
from grafos_cell.conformance.suite import CASES, run_suite, table
from grafos_cell.conformance.wat import tasklet_text
from grafos_cell.run import LeaseDesk, RunOutcome, RunSpec
from grafos_cell.runtime import run_module
from grafos_core.clock import SystemClock
from grafos_core.errors import GrafosError

PAGE = (ROOT / "docs" / "reference" / "tasklet-abi.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^##+ (\d+(?:\.\d)?)\.? [^\n]*\n(.*?)(?=^##+ \d|\Z)", PAGE, re.MULTILINE | re.DOTALL))
NO_MODULES_DOING = {"8 placement_failed", "8 worker_lost", "10 one call on an attached region"}
"""Ends that no module comes to, and what needs a region beside it; the pool's tests have what becomes of lost workers,
those of regions the bound of a call."""


def listed(text: str) -> Iterator[str]:
    """What a sentence lists after its colon, without brackets and quotes."""
    bare = re.sub(r"\([^)]*\)|`", "", text.partition(":")[2])
    for part in re.split(r",| and ", bare):
        yield " ".join(part.strip(".").split())


def first_column(text: str) -> Iterator[str]:
    """The names in the first column of a section's tables, without heads and lines."""
    for row in re.findall(r"^\| ([^|]+) \|", text, re.MULTILINE):
        for name in row.split(", "):
            if not set(name) <= set("-"):
                yield name.strip("` ").partition("`")[0]


def rules_on_the_page() -> set[str]:
    """Every rule that has a name or a number on the page, as the suite calls it."""
    heads = {"export", "handle", "answer", "import", "module", "code", "rule", "what"}
    rules = {f"2.{number}" for number in re.findall(r"^(\d)\. ", SECTIONS["2"], re.MULTILINE)} | {"5 JSON"}
    for kind in ("Allowed", "Refused"):
        (sentence,) = re.findall(rf"{kind}: .*?\.", SECTIONS["1"], re.DOTALL)
        rules |= {f"1 {kind.lower()}: {feature.replace('-', ' ')}" for feature in listed(sentence)}
    for number in ("1", "3", "4.1", "4.2", "4.3", "4.4", "4.5", "4.6", "5", "8", "9", "10"):
        names = list(first_column(SECTIONS[number]))
        # A table's head may be the name of one of its rows, as with the limit of a module.
        rows = names[1:] if names[0] in heads or not names[0] else names
        rules |= {f"{number} {name}" for name in rows if name}
    return rules


def test_every_rule_of_the_page_has_a_case_and_every_case_a_rule() -> None:
    covered = {case.rule for case in (*CASES, *SERVICE_CASES)}
    named = {rule for rule in covered if " " in rule or rule.startswith("2.")}
    wanted = rules_on_the_page() - NO_MODULES_DOING
    assert (wanted - named, named - wanted) == (set(), set())
    assert covered - named <= set(SECTIONS)


def test_every_section_of_the_page_has_a_case() -> None:
    sections = {case.section for case in (*CASES, *SERVICE_CASES)}
    covered = sections | {section.partition(".")[0] for section in sections}
    assert set(SECTIONS) - covered == set()
    assert len([number for number in SECTIONS if "." not in number]) == 11


def test_no_two_cases_have_one_name() -> None:
    names = Counter(case.name for case in (*CASES, *SERVICE_CASES))
    assert [name for name, count in names.items() if count > 1] == []


async def on_this_layer(module: bytes, spec: RunSpec, desk: LeaseDesk) -> RunOutcome:
    return run_module(module, spec, SystemClock(), new_engine(), desk)


@pytest.mark.usefixtures("call_layer")
def test_every_case_comes_to_its_end() -> None:
    rows = asyncio.run(run_suite(on_this_layer))
    assert [row for row in rows if not row.is_as_expected] == []
    assert len(rows) == len(CASES)


@pytest.mark.usefixtures("call_layer")
def test_every_case_of_a_service_comes_to_its_end() -> None:
    rows = [run_service_case(case, new_engine()) for case in SERVICE_CASES]
    assert [row for row in rows if not row.is_as_expected] == []


# --- the suite itself -----------------------------------------------------------------------------------------------

CASE = Case("probe", "1", tasklet_text(), Expected(text="", returned=0, output=b"a\nb", log="one\ntwo"))


def seen(**changes: object) -> RunOutcome:
    """What the case expects, but for the changes."""
    right = RunOutcome("finished", returned=0, output=b"a\nb", log="one\ntwo", fuel_used=77)
    return msgspec.structs.replace(right, **changes)


def test_what_is_as_expected_is_shown_once() -> None:
    row = judge(CASE, CASE.spec(b""), seen())
    assert row.is_as_expected
    assert row.expected == row.seen == r"finished, returned 0, output a\nb, log one\ntwo"
    assert "as expected |" in table([row])


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"code": "trapped"}, "trapped"),
        ({"returned": None}, "returned None"),
        ({"output": b"a\nc"}, r"output a\nc"),
        ({"log": ""}, "log "),
    ],
)
def test_each_difference_is_found_and_shown(changes: dict[str, object], shown: str) -> None:
    row = judge(CASE, CASE.spec(b""), seen(**changes))
    assert not row.is_as_expected
    assert shown in row.seen
    assert f"**{row.seen}**" in table([row])


def test_what_the_page_does_not_fix_is_not_looked_at() -> None:
    assert judge(CASE, CASE.spec(b""), seen(fuel_used=1, hook="run", response=b"1")).is_as_expected


def test_a_run_that_is_refused_is_an_end_like_others() -> None:
    async def refuse(*_: object) -> RunOutcome:
        raise GrafosError("limit_exceeded", "too much")

    case = Case("probe", "10 fuel", tasklet_text(), Expected("limit_exceeded", "too much"))
    assert [row.is_as_expected for row in asyncio.run(run_suite(refuse, [case]))] == [True]


def test_the_command_prints_the_table_of_what_was_asked_for() -> None:
    command = [sys.executable, "-m", "grafos_cell.conformance", "returns"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "| returns-1 | 2.2 | program_error, text returned 1 without a text" in done.stdout
    assert done.stdout.endswith("\n5 cases, 0 not as expected\n")


def test_a_word_that_no_case_begins_with_is_not_taken_for_a_suite_without_faults() -> None:
    command = [sys.executable, "-m", "grafos_cell.conformance", "nosuchthing"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no case has a name or rule that begins with 'nosuchthing'" in done.stderr
