"""The end of cells that Pulumi made at a command of ours: their stack is destroyed by the engine that owns it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from grafos_core.errors import GrafosError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from grafos_cli.steps import Steps
    from grafos_cli.terminal import Terminal
    from grafos_core.fabric import Fabric


class Ended(NamedTuple):
    """The cells that Pulumi ended, and what stood in the way of the others that are its own."""

    cells: frozenset[str]
    refused: Mapping[str, GrafosError]


def end_by_pulumi(named: Collection[str], provider: str, terminal: Terminal, steps: Steps) -> Ended:
    """Ends those of the cells that belong to stacks at hand; of the others nothing is said.

    A stack is destroyed as a whole: when only a part of its cells is named it stays, and that is a refusal of each.
    """
    from grafos_cli.fabric import open_default

    fabric = open_default(terminal)
    ended: set[str] = set()
    refused: dict[str, GrafosError] = {}
    for stack, living in _stacks_with(fabric, named).items():
        mine = sorted(set(living) & set(named))
        try:
            _check_whole(stack, living, mine, provider)
            _destroy(stack, len(living), terminal, steps)
        except GrafosError as error:
            refused |= dict.fromkeys(mine, error)
        else:
            ended |= set(mine)
    return Ended(frozenset(ended), refused)


def _stacks_with(fabric: Fabric, named: Collection[str]) -> dict[str, tuple[str, ...]]:
    """The stacks at hand that have one of them, each with all of its cells that live."""
    from grafos_core.clock import SystemClock
    from grafos_stacks.journal import Journal
    from grafos_stacks.pulumi.at_hand import cells_of, stacks_at_hand

    if not (stacks := stacks_at_hand(fabric)):
        return {}
    with contextlib.closing(Journal(fabric, SystemClock())) as journal:
        cells = {stack: cells_of(journal, stack) for stack in stacks}
    return {stack: living for stack, living in cells.items() if set(living) & set(named)}


def _check_whole(stack: str, living: Collection[str], mine: Collection[str], provider: str) -> None:
    if len(mine) < len(living):
        named = " ".join(f"--cell-id {cell}" for cell in sorted(living))
        raise GrafosError(
            "stack_busy",
            f"{' and '.join(mine)} of the Pulumi stack {stack} cannot end without the other cells of it",
            why="Pulumi would make again what its stack declares",
            next=f"end all of them: grafos cloud teardown {provider} {named}; or take one out of it first: "
            f"grafos cloud handover {next(iter(mine))} --to direct",
        )


def _destroy(stack: str, count: int, terminal: Terminal, steps: Steps) -> None:
    from grafos_cli.accounts import told_by
    from grafos_cli.by_pulumi import workplace

    place = workplace(terminal)
    from grafos_stacks.pulumi.engine import EngineStack

    steps.began(f"pulumi destroy {stack}", f"{count} cell{'' if count == 1 else 's'}")
    engine = EngineStack(place, stack, {})
    engine.destroy(told_by(steps))
    engine.forget()
    steps.ended(f"pulumi destroy {stack}")


def forget_empty_stack(owner: str, terminal: Terminal) -> None:
    """Takes away the stack at hand that an owner of cells names, if no cell is left to it: it would make them anew."""
    from grafos_cli.by_pulumi import workplace
    from grafos_cli.fabric import open_default
    from grafos_core.clock import SystemClock
    from grafos_stacks.journal import Journal
    from grafos_stacks.pulumi.at_hand import cells_of, stack_of

    fabric = open_default(terminal)
    if not (stack := stack_of(fabric, owner)):
        return
    with contextlib.closing(Journal(fabric, SystemClock())) as journal:
        if cells_of(journal, stack):
            return
    try:
        place = workplace(terminal)
        from grafos_stacks.pulumi.engine import EngineStack

        EngineStack(place, stack, {}).forget()
    except GrafosError as error:
        terminal.note(f"the Pulumi stack {stack} is still there: {error.what}; next: grafos cloud recover")
