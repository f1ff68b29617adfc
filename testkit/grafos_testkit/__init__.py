"""A whole fabric in one process, under a seed: for tests of what runs on it.

``SimFabric`` is the door, ``Faults`` how rough its world is, ``InvariantError`` what it raises when something is not as
it must be, and ``whole`` a story of everything that is drawn from one integer. They are there on their first use:
importing the package alone loads no engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grafos_testkit.fabric import SimFabric
    from grafos_testkit.scenes import Faults
    from grafos_testkit.stories import whole
    from grafos_testkit.world import InvariantError

__all__ = ["Faults", "InvariantError", "SimFabric", "whole"]

_HOMES = {"SimFabric": "fabric", "Faults": "scenes", "InvariantError": "world", "whole": "stories"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"grafos_testkit.{_HOMES[name]}"), name)
