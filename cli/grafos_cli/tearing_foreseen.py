"""What a teardown takes away and what it leaves, told before anybody agrees to it. Nothing is changed here.

It is the journal's inventory, each part as the cloud has it now. Of a cell that the journal does not know it is what
the cloud's listing shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from grafos_stacks.journal import StackState
from grafos_stacks.looking import Look, Part, look, parts_of
from grafos_stacks.plan import shared_stack_of
from grafos_stacks.spec import is_cell

if TYPE_CHECKING:
    from grafos_cli.terminal import Terminal
    from grafos_stacks.direct import Hands

HOME = "Its runs come home first, and stay here with the signed receipt: grafos runs ls"
STAYING = frozenset({StackState.MAKING, StackState.MADE})
"""Cells that keep a network in use; one that is on its way out does not."""


class Foreseen(NamedTuple):
    """One cell's end. ``network`` is what the cells of its region share, and ``users`` are the others of them: without
    any it goes with the cell."""

    seen: Look
    network: tuple[Part, ...]
    users: tuple[str, ...]

    @property
    def goes(self) -> tuple[Part, ...]:
        """What is deleted."""
        return self.seen.resources + (() if self.users else self.network)

    @property
    def stays(self) -> tuple[Part, ...]:
        """What others still use."""
        return self.network if self.users else ()


def foresee(hands: Hands, cell_id: str, region: str, leaving: Sequence[str]) -> Foreseen:
    """The end of one cell when those in ``leaving`` end together; ``cell_unknown`` for one that nobody knows."""
    seen = look(hands, cell_id, region)
    provider, place = seen.record.provider, seen.record.region
    shared = shared_stack_of(provider, place)
    users = [
        row.stack
        for row in hands.journal.stacks()
        if (row.provider, row.region) == (provider, place) and row.stack not in leaving and row.state in STAYING
    ]
    others = tuple(sorted(name for name in users if is_cell(name)))
    return Foreseen(seen, tuple(parts_of(hands, shared)) if seen.resources else (), others)


def foreseen_text(ends: Sequence[Foreseen], terminal: Terminal) -> str:
    """For people."""
    return "\n".join(_text(one, terminal) for one in ends) or "There is no cell to tear down.\n"


def _text(one: Foreseen, terminal: Terminal) -> str:
    from grafos_cli.tables import short_id, table

    record = one.seen.record
    head = f"{record.cell_id} on {record.provider} {record.region}, {one.seen.state}"
    if not one.goes:
        return f"{head}: nothing of it is in the cloud.\n"
    rows = [
        [fate, part.kind, part.name, part.state, short_id(part.id)]
        for fate, parts in (("goes", one.goes), ("stays", one.stays))
        for part in parts
    ]
    text = f"{head}:\n" + table(("FATE", "RESOURCE", "NAME", "STATE", "ID"), rows, terminal, spare=("ID",))
    if one.stays:
        text += f"What stays is used by {', '.join(one.users)}.\n"
    return text + HOME + "\n"


def foreseen_document(ends: Sequence[Foreseen]) -> dict[str, Any]:
    """For programs."""
    return {"teardowns": [_document(one) for one in ends], "dry_run": True}


def _document(one: Foreseen) -> dict[str, Any]:
    record = one.seen.record
    return {
        "cell_id": record.cell_id,
        "provider": record.provider,
        "region": record.region,
        "state": one.seen.state,
        "goes": [part._asdict() for part in one.goes],
        "stays": [part._asdict() for part in one.stays],
        "used_by": list(one.users),
    }
