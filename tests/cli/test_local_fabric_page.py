"""The reference of the local fabric names every field of its record and every route of its helper."""

from __future__ import annotations

import re
from pathlib import Path

from grafos_cli.daemons import Daemon
from grafos_cli.local_state import LocalFabric
from grafos_cli.run_locally import app

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "local-fabric.md").read_text()


def names_in(heading: str) -> set[str]:
    """What the first column of the table below a heading names."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    return {
        name for cell in re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE) for name in re.findall("`([^`]*)`", cell)
    }


def test_the_record_has_exactly_the_fields_of_the_page() -> None:
    assert names_in("`dev.json`") == set(LocalFabric.__struct_fields__)
    for field in Daemon.__struct_fields__:
        assert f"`{field}`" in PAGE


def test_the_helper_has_exactly_the_routes_of_the_page() -> None:
    assert app.__doc__
    routes = set(re.findall(r"^\s+((?:GET|POST)\s+/\S*)", app.__doc__, re.MULTILINE))
    assert names_in("The helper") == {" ".join(route.split()) for route in routes}
