"""Opens the fabric's home, with the way to its ledger wherever that is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from grafos_core.fabric import Fabric
    from grafos_stacks.far_books import FarBooks


def open_home(announce: Callable[[str], object] = str) -> Fabric:
    """The fabric `default`; made at first use, which ``announce`` is told in one line. Where there is none yet, and
    somebody is signed in to the fabric of somebody else, it is that one."""
    from grafos_core.guest import has_own_fabric, open_guest

    if not has_own_fabric() and (guest := open_guest()) is not None:
        return guest
    return open_own(announce)


def open_own(announce: Callable[[str], object] = str) -> Fabric:
    """The fabric `default`, made at first use, whoever is signed in."""
    from grafos_cli.lifetime import warn_of_end
    from grafos_core.clock import SystemClock
    from grafos_core.fabric import open_fabric

    fabric = open_fabric(SystemClock(), announce=announce, elsewhere=_far_books)
    warn_of_end(fabric, announce)
    return fabric


def _far_books(fabric: Fabric) -> FarBooks:
    """Imported by commands that book, and only once an orchestrator keeps the ledger."""
    from grafos_stacks.far_books import FarBooks

    return FarBooks(fabric)
