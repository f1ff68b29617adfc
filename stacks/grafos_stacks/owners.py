"""Which engine owns a stack: the direct one, or one of Pulumi's stacks.

What one engine made the other finds by the same keys, so either could go on with it; two that did so at once would undo
each other's work. So the journal names one owner, every change asks for it, and it is changed only by command.
"""

from __future__ import annotations

from grafos_core.errors import GrafosError
from grafos_stacks.journal import DIRECT, Journal, StackRow, StackState

PULUMI = "pulumi"
"""A stack that was handed over to Pulumi, and that none of its stacks has taken yet."""
ENGINES = (DIRECT, PULUMI)
OWN_PROJECT = "grafos-cloud"
"""The project of the Pulumi stacks that `grafos cloud provision --engine pulumi` drives; nobody else's bears it."""


def check_engine(word: str, where: str) -> str:
    """The engine that ``where`` names, or ``usage``."""
    if word not in ENGINES:
        raise GrafosError(
            "usage", f"there is no engine {word[:40]!r}", where=where, next=f"name one of {', '.join(ENGINES)}"
        )
    return word


def pulumi_owner(project: str, stack: str) -> str:
    """A Pulumi stack as an owner: ``pulumi:<project>/<stack>``."""
    return f"{PULUMI}:{project}/{stack}"


def check_owner(row: StackRow, engine: str) -> None:
    """``stack_busy`` if the stack is another engine's. One that waits to be taken is any Pulumi stack's."""
    if row.engine == engine or (row.engine == PULUMI and engine.startswith(f"{PULUMI}:")):
        return
    raise GrafosError(
        "stack_busy",
        f"{row.stack} belongs to {_called(row.engine)}, and this is {_called(engine)}",
        where=f"{row.provider} {row.region}",
        why="two engines that work on one cell undo each other's work",
        next=_way(row, engine),
    )


def hand_over_stack(journal: Journal, cell_id: str, engine: str, now: float) -> StackRow:
    """Gives a living stack to another engine: ``DIRECT`` or ``PULUMI``. Nothing of the cell changes.

    ``cell_unknown`` if the journal has none of that name that lives, ``stack_busy`` while somebody works on it.
    """
    with journal.lock(cell_id):
        row = journal.stack(cell_id)
        if row is None or row.state is StackState.GONE:
            raise GrafosError(
                "cell_unknown", f"the journal knows no cell {cell_id!r} that lives", next="grafos cloud ls"
            )
        given = row.moved(row.state, now, engine=engine)
        journal.write(given)
        return given


def _called(engine: str) -> str:
    if engine == DIRECT:
        return "grafos' own engine"
    named = engine.partition(":")[2]
    return f"the Pulumi stack {named}" if named else "Pulumi"


def _way(row: StackRow, engine: str) -> str:
    back = f"or take it back first: grafos cloud handover {row.stack} --to direct"
    project, _, stack = row.engine.partition(":")[2].partition("/")
    if engine == DIRECT and project == OWN_PROJECT:
        again = f"grafos cloud provision {row.provider} --cell-id {stack} --engine pulumi"
        return f"say it to Pulumi, with another --ttl or --allow: {again}; {back}"
    if engine == DIRECT:
        return f"use pulumi there; {back}"
    return f"hand it over first: grafos cloud handover {row.stack} --to pulumi"
