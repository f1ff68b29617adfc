"""What rooms use of each other is listed in public_names.txt, so that a new tie between rooms shows in review."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from source_tree import imports_of, modules

LIST = Path(__file__).with_name("public_names.txt")


def test_the_names_that_rooms_share_are_the_listed_ones(golden: Callable[[Path, str], None]) -> None:
    users: dict[str, set[str]] = {}
    for module in modules():
        for found in imports_of(module):
            top = found.target.partition(".")[0]
            if top.startswith("grafos_") and top != f"grafos_{module.room}":
                users.setdefault(found.target, set()).add(module.room)
    lines = [f"{name} <- {', '.join(sorted(rooms))}" for name, rooms in sorted(users.items())]
    golden(LIST, "\n".join(lines) + "\n")
