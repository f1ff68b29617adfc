"""What nobody may ask for here is refused before anything is made; Pulumi's provider asks the same module."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Person

ASKED = ("cloud", "provision", "aws", "--region", "us-east-1", "--ttl", "2h", "--count", "2", "--dry-run", "--json")
INSIDE = {
    "GRAFOS_ALLOWED_REGIONS": "eu-central-1, us-east-1",
    "GRAFOS_ALLOWED_TYPES": "t3.small,t3.medium",
    "GRAFOS_LONGEST_TTL": "2h",
    "GRAFOS_MOST_CELLS": "2",
    "GRAFOS_MOST_CENTS_PER_HOUR": "1000",
}
OUTSIDE = (
    ("GRAFOS_ALLOWED_REGIONS", "eu-central-1", "us-east-1 is not among what the guard rails allow"),
    ("GRAFOS_ALLOWED_TYPES", "t3.large", "t3.medium is not among what the guard rails allow"),
    ("GRAFOS_LONGEST_TTL", "90m", "a life of 2h is more than the 90m"),
    ("GRAFOS_MOST_CELLS", "1", "2 cells are more than the 1"),
    ("GRAFOS_MOST_CENTS_PER_HOUR", "1", "at most 1.00¢"),
)


@pytest.fixture
def somebody(tmp_path: Path) -> Person:
    return Person(tmp_path)


def test_what_is_outside_of_a_guard_rail_is_not_planned(somebody: Person) -> None:
    assert somebody("emulate", "up", "--clouds", "aws").code == 0
    try:
        somebody.env.update(somebody("emulate", "env", "--json").document["environment"])
        inside = somebody(*ASKED, env=INSIDE)
        assert inside.code == 0, inside.out
        for variable, value, told in OUTSIDE:
            refused = somebody(*ASKED, env={**INSIDE, variable: value})
            assert "maxHourlyCents" not in refused.out, "that is what Pulumi calls it"
            assert (refused.code != 0, told in refused.document["error"]["what"]) == (True, True), refused.out
    finally:
        somebody("emulate", "down")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("GRAFOS_PULUMI_BACKEND", "postgres://us:secret@db/state"),
        ("GRAFOS_MOST_CELLS", "-1"),
        ("GRAFOS_LONGEST_TTL", "soon"),
        ("GRAFOS_ALLOWED_TYPES", "a;b"),
    ],
)
def test_a_bound_that_is_none_and_a_password_in_a_setting_are_refused(
    somebody: Person, variable: str, value: str
) -> None:
    answer = somebody("config", "show", env={variable: value})
    assert (answer.error_code, variable in answer.err) == ("config_invalid", True)
    assert "secret" not in answer.err
