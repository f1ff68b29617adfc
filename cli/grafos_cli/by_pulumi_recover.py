"""Recover, of cells that Pulumi made: a stack that was interrupted is finished or undone by the engine that owns it.

What a killed run left is adopted by `up`, since making something is finding it by its key first; Pulumi's own record of
what was pending is cleared only after that. A lock of a dead process is taken away on the way.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from grafos_core.errors import GrafosError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from grafos_cli.steps import Steps
    from grafos_cli.terminal import Terminal
    from grafos_core.fabric import Fabric
    from grafos_stacks.journal import StackRow
    from grafos_stacks.pulumi.engine import EngineStack
    from grafos_stacks.rebuilding import Action, Case, Recovered


class Interrupted(NamedTuple):
    """A stack at hand that is to be brought to an end, and the cells that it is about."""

    case: Case
    provider: str
    cells: frozenset[str]


def interrupted_stacks(terminal: Terminal, *, undo: bool) -> tuple[Interrupted, ...]:
    """Those of the stacks at hand in which something was interrupted, or which the journal does not know any more. One
    that cannot be looked at is told of, and left."""
    from grafos_cli.fabric import open_default
    from grafos_cli.steps import show_steps
    from grafos_stacks.pulumi.at_hand import stacks_at_hand

    fabric = open_default(terminal)
    names = stacks_at_hand(fabric)
    if not names:
        return ()
    with show_steps(terminal, waiting="looking at Pulumi's stacks") as steps:
        found = []
        for name in names:
            steps.began("look at pulumi", name)
            try:
                found.append(_looked_at(fabric, _opened(name, terminal), undo=undo))
            except GrafosError as error:
                steps.note(f"the Pulumi stack {name} cannot be looked at: {error.what}; next: {error.next}")
        interrupted = tuple(one for one in found if one is not None)
        steps.ended("look at pulumi", f"{len(interrupted)} to recover")
    return interrupted


def _opened(name: str, terminal: Terminal) -> EngineStack:
    from grafos_cli.by_pulumi import workplace

    place = workplace(terminal)
    from grafos_stacks.pulumi.engine import EngineStack

    return EngineStack(place, name, {})


def _looked_at(fabric: Fabric, stack: EngineStack, *, undo: bool) -> Interrupted | None:
    """What is to be done about it; None for one that is as it should be."""
    from grafos_core.clock import SystemClock
    from grafos_stacks.journal import Journal, StackState
    from grafos_stacks.rebuilding import Action, Case

    clock = SystemClock()
    with contextlib.closing(Journal(fabric, clock)) as journal:
        rows = {row.stack: row for row in journal.stacks() if row.state is not StackState.GONE}
    own = [row for row in rows.values() if row.engine == stack.owner]
    settings, declared = stack.settings(), stack.cells()
    known = {row.stack for row in own}
    lost = set(declared) - set(rows)
    wanted = _what_to_do(own, clock.now(), is_lost=bool(lost), is_interrupted=stack.is_interrupted)
    if wanted is None and own:
        return None
    action, why = wanted or (Action.UNDO, "no cell of it lives")
    made = [row for row in own if row.state is StackState.MADE]
    if undo and action is Action.FINISH and not made:
        action = Action.UNDO
    provider, region = settings.get("provider", ""), settings.get("region", "")
    return Interrupted(Case(stack.name, region, action, f"{why}; by Pulumi"), provider, frozenset(known | {*declared}))


def _what_to_do(own: list[StackRow], now: float, *, is_lost: bool, is_interrupted: bool) -> tuple[Action, str] | None:
    from grafos_stacks.journal import StackState
    from grafos_stacks.rebuilding import Action

    if any(row.state is StackState.UNMAKING for row in own):
        return Action.UNDO, "its teardown was interrupted"
    if own and all(row.plan is not None and row.plan.expires_at <= now for row in own):
        return Action.UNDO, "it has ended itself; its bill is open"
    if any(row.state is StackState.MAKING for row in own):
        return Action.FINISH, "its provision was interrupted"
    if is_lost:
        return Action.FINISH, "the journal does not know all of it"
    if is_interrupted:
        return Action.FINISH, "a run of Pulumi was interrupted"
    return None


def carry_out_by_pulumi(stacks: Iterable[Interrupted], terminal: Terminal, steps: Steps) -> list[tuple[str, Recovered]]:
    """Finishes or undoes each, one after the other; its cloud, and how it went."""
    from grafos_cli.accounts import told_by
    from grafos_stacks.rebuilding import Action, Recovered

    done = []
    for one in stacks:
        name = one.case.stack
        steps.began(f"pulumi {name}", one.case.action.value)
        try:
            stack = _opened(name, terminal)
            if one.case.action is Action.FINISH:
                stack.up(told_by(steps))
                stack.clear_pending()
            else:
                stack.destroy(told_by(steps))
                stack.forget()
        except GrafosError as error:
            steps.ended(f"pulumi {name}", error.what, failed=True)
            done.append((one.provider, Recovered(one.case, error)))
        else:
            steps.ended(f"pulumi {name}", one.case.action.value)
            done.append((one.provider, Recovered(one.case, None)))
    return done
