"""Recover: the journal made whole from what the cloud shows, and whatever was interrupted brought to an end.

``survey`` says for each cell what is to be done, and changes nothing; ``carry_out`` does it:

    adopt   a cell that lives and that the journal does not know: its rows are made from its signed tags
    finish  a provision that was interrupted and whose plan the journal has
    undo    a teardown that was interrupted, a provision that cannot be finished any more, a network without a cell
    settle  money that is held for a cell of which nothing is there, in no journal and in no region

It may be interrupted anywhere and repeated. What only ran out or is too many is no interruption: that is the sweep's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import msgspec

from grafos_connectors.contract import TAG_STACK, Found, Kind, State
from grafos_core import ledger as ledgers
from grafos_core.booking import Ending
from grafos_core.errors import GrafosError
from grafos_core.fabric import Fabric
from grafos_stacks.adopted_money import Held, hold_adopted
from grafos_stacks.batch import Target, teardown_batch
from grafos_stacks.cell_holds import open_hold
from grafos_stacks.costs import CELL_HOLDS
from grafos_stacks.direct import Hands
from grafos_stacks.inventory import Judged, Verdict
from grafos_stacks.journal import ResourceRow, StackRow, StackState
from grafos_stacks.making import SHARED_PATIENCE_S
from grafos_stacks.names import TAG_KIND, attempt_in, plan_name_in, token_of
from grafos_stacks.orchestrators import OrchestratorHome
from grafos_stacks.plan import StackPlan
from grafos_stacks.records import CellHome
from grafos_stacks.recovery import made_at, row_of
from grafos_stacks.side_by_side import Told
from grafos_stacks.spec import ORCHESTRATOR_ID, SHARED_PREFIX
from grafos_stacks.sweeping import Sight, look, remove_networks

Finish = Callable[[StackPlan], object]
"""Goes on with the provision of a plan that the journal has."""


class Action(StrEnum):
    """What is to be done about a cell; see the module."""

    ADOPT = "adopt"
    FINISH = "finish"
    UNDO = "undo"
    SETTLE = "settle"


class Case(NamedTuple):
    """One cell, what is to be done, and why."""

    stack: str
    region: str
    action: Action
    why: str


class Recovered(NamedTuple):
    """A case and the error that stood in its way, if one did. ``note``: what is to be told of one that went well."""

    case: Case
    error: GrafosError | None
    note: str = ""


def survey(hands: Hands, regions: tuple[str, ...] = (), *, undo: bool = False) -> tuple[Case, ...]:
    """What is to be done, by stack. ``undo``: a provision that was interrupted is undone, not finished."""
    cases = _cases(hands, look(hands, regions), regions)
    if undo:
        cases = [case._replace(action=Action.UNDO) if case.action is Action.FINISH else case for case in cases]
    return tuple(sorted(cases))


def carry_out(
    hands: Hands,
    cases: Iterable[Case],
    project: Path,
    finish: Finish,
    regions: tuple[str, ...] = (),
    told: Told | None = None,
) -> tuple[Recovered, ...]:
    """Does it, and tells of each case how it went. One that fails keeps no other. ``told`` hears of what is undone.

    A case to which another command has seen since the survey is none any more, and left out.
    """
    sight = look(hands, regions)
    still = {(now.stack, now.region) for now in _cases(hands, sight, regions)}
    cases = [case for case in cases if (case.stack, case.region) in still]
    networks = [case for case in cases if case.action is Action.UNDO and case.stack.startswith(SHARED_PREFIX)]
    undone = [case for case in cases if case.action is Action.UNDO and case not in networks]
    done = _each(cases, Action.ADOPT, lambda case: _adopt(hands, sight, case))
    done += _each(cases, Action.FINISH, lambda case: _finish(hands, case, finish))
    targets = [Target(case.stack, hands.connector.provider, case.region, seen=True) for case in undone]
    outcomes = teardown_batch(hands, targets, project, told)
    done += [Recovered(case, outcome.error) for case, outcome in zip(undone, outcomes, strict=True)]
    for case in networks:
        failures = remove_networks(hands, [case.region])
        done.append(Recovered(case, failures[0] if failures else None))
    return (*done, *_each(cases, Action.SETTLE, lambda case: _settle(hands, case)))


def _each(cases: Iterable[Case], action: Action, do: Callable[[Case], str | None]) -> list[Recovered]:
    """What came of those of one action; ``do`` gives a note, if there is one."""
    done = []
    for case in cases:
        if case.action is action:
            try:
                done.append(Recovered(case, None, do(case) or ""))
            except GrafosError as error:
                done.append(Recovered(case, error))
    return done


# --- deciding ---------------------------------------------------------------------------------------------------


def _cases(hands: Hands, sight: Sight, regions: tuple[str, ...]) -> list[Case]:
    rows = {row.stack: row for row in hands.journal.stacks()}
    cases = [*_shown(hands, sight, rows), *_not_shown(hands, sight), *_held_for_nothing(hands, sight, rows, regions)]
    cases += _empty_networks(sight, cases)
    if not OrchestratorHome(hands.fabric).is_restoring:
        return cases
    # Whoever goes on with it, from a backup, keeps its address.
    return [case for case in cases if (case.stack, case.action) != (ORCHESTRATOR_ID, Action.UNDO)]


def _shown(hands: Hands, sight: Sight, rows: dict[str, StackRow]) -> Iterable[Case]:
    cells: dict[tuple[str, str], list[Judged]] = {}
    for one in sight.judged:
        if not one.stack.startswith(SHARED_PREFIX) and one.verdict is not Verdict.UNPROVED:
            cells.setdefault((one.stack, one.region), []).append(one)
    for (stack, region), parts in cells.items():
        verdicts = {one.verdict for one in parts} - {Verdict.SURPLUS}
        row = rows.get(stack)
        known = row if row is not None and row.state is not StackState.GONE else None
        for verdict in verdicts:
            action, why = _what_to_do(hands, verdict, known, parts)
            if action is not None:
                yield Case(stack, region, action, why)


def _what_to_do(
    hands: Hands, verdict: Verdict, row: StackRow | None, parts: Iterable[Judged]
) -> tuple[Action | None, str]:
    runs = any(one.found.ref.kind is Kind.MACHINE and one.found.state is State.READY for one in parts)
    if verdict is Verdict.BUSY or (verdict is Verdict.ELSEWHERE and row is not None):
        return None, ""  # the row is of another cell of that name
    if row is not None and row.state is StackState.UNMAKING:
        return Action.UNDO, "its teardown was interrupted"
    if row is not None and row.state is StackState.MAKING:
        return _unfinished(hands, row)
    if row is None and runs and verdict in (Verdict.LIVE, Verdict.ELSEWHERE):
        return Action.ADOPT, "the journal does not know it"
    if verdict is Verdict.ORPHANED:
        return Action.UNDO, "no journal and no record knows it, so it cannot be finished"
    return None, ""


def _not_shown(hands: Hands, sight: Sight) -> Iterable[Case]:
    """Cells of the journal of which the cloud shows nothing."""
    for row in sight.forgotten:
        if row.state is StackState.MAKING:
            yield Case(row.stack, row.region, *_unfinished(hands, row))
        elif row.state is StackState.UNMAKING:
            yield Case(row.stack, row.region, Action.UNDO, "its teardown was interrupted")
        elif row.publication is not None:
            yield Case(row.stack, row.region, Action.UNDO, "the image is gone; its bill is open")
        elif row.plan is None or row.plan.expires_at < hands.clock.now():
            yield Case(row.stack, row.region, Action.UNDO, "it has ended itself; its bill is open")


def _unfinished(hands: Hands, row: StackRow) -> tuple[Action, str]:
    if row.publication is not None:
        return Action.UNDO, "its publishing was interrupted; grafos cloud image publish goes on with it instead"
    if row.plan is None or row.plan.expires_at <= hands.clock.now():
        return Action.UNDO, "its provision was interrupted and cannot be finished any more"
    return Action.FINISH, "its provision was interrupted"


def _empty_networks(sight: Sight, cases: Iterable[Case]) -> Iterable[Case]:
    """What an interrupted provision or teardown left of which the journal is lost. A cell's own end takes it along."""
    used = {case.region for case in cases}
    empty = {(one.stack, one.region) for one in sight.judged if one.verdict is Verdict.UNUSED}
    for stack, region in sorted(empty):
        if region not in used:
            yield Case(stack, region, Action.UNDO, "no cell uses it")


def _held_for_nothing(
    hands: Hands, sight: Sight, rows: dict[str, StackRow], regions: tuple[str, ...]
) -> Iterable[Case]:
    """Only all regions together tell that a cell is nowhere."""
    if regions:
        return
    shown = {one.stack for one in sight.judged}
    for stack, held in open_cell_holds(hands.fabric).items():
        row = rows.get(stack)
        if stack in shown or (row is not None and row.state is not StackState.GONE):
            continue
        if held.meter is None or held.meter.provider == hands.connector.provider:
            yield Case(stack, "", Action.SETTLE, "money is held for it, and nothing of it is anywhere")


def open_cell_holds(fabric: Fabric) -> dict[str, ledgers.Hold]:
    """The open holds for cells, by the cell's name; none while the orchestrator that keeps them cannot be asked."""
    ledger = fabric.ledger_if_reached()
    holds = [held for held in ledger.holds.values() if held.state == ledgers.OPEN] if ledger is not None else []
    return {held.hold_id.split("/")[1]: held for held in holds if held.hold_id.startswith(CELL_HOLDS)}


# --- doing ------------------------------------------------------------------------------------------------------


def _finish(hands: Hands, case: Case, finish: Finish) -> None:
    row = hands.journal.stack(case.stack)
    if row is not None and row.plan is not None and row.state is StackState.MAKING:
        finish(row.plan)


def _settle(hands: Hands, case: Case) -> None:
    """Of a machine that was recorded nobody can tell any more how long it ran: all that was held counts."""
    home = CellHome(hands.fabric, case.stack)
    with hands.journal.lock(case.stack):
        held = open_hold(hands.fabric, case.stack)
        if held is None or not _is_unknown(hands, case.stack):
            return
        now, ran = hands.clock.now(), home.is_recorded and not home.record().gone_at
        cost = held.amount_micro_cents if ran else 0
        hands.fabric.end(Ending(held.hold_id, actual_micro_cents=cost, ended_at=now))
        if ran:
            home.keep_record(msgspec.structs.replace(home.record(), gone_at=now))


def _adopt(hands: Hands, sight: Sight, case: Case) -> str:
    """Rows for the cell and for the network that it uses, as if the journal had never been lost, and the money that it
    may cost; what is to be told of that."""
    groups: dict[str, list[Found]] = {}
    for one in sight.judged:
        wanted = one.stack == case.stack or one.stack.startswith(SHARED_PREFIX)
        if wanted and one.region == case.region and one.verdict is not Verdict.UNPROVED:
            groups.setdefault(one.stack, []).append(one.found)
    held = Held("", "")
    for stack, parts in groups.items():
        patience_s = SHARED_PATIENCE_S if stack.startswith(SHARED_PREFIX) else 0.0
        with hands.journal.lock(stack, patience_s=patience_s, sleep=hands.sleep):
            if _is_unknown(hands, stack):
                held = hold_adopted(hands, stack, parts) if stack == case.stack else held
                hold_id = held.hold_id if stack == case.stack else ""
                row = _stack_row(hands, sight, stack, case.region, parts, hold_id)
                hands.journal.write(row, *_resource_rows(hands, stack, parts))
    return held.note


def _is_unknown(hands: Hands, stack: str) -> bool:
    """Whether the journal has nothing of it that lives; another command may have begun it."""
    row = hands.journal.stack(stack)
    return row is None or row.state is StackState.GONE


def _stack_row(hands: Hands, sight: Sight, stack: str, region: str, parts: Iterable[Found], hold_id: str) -> StackRow:
    now = hands.clock.now()
    return StackRow(
        stack=stack,
        provider=sight.provider,
        region=region,
        account=sight.account,
        state=StackState.MADE,
        created_at=min(made_at(found, now) for found in parts),
        changed_at=now,
        hold_id=hold_id,
    )


def _resource_rows(hands: Hands, stack: str, parts: Iterable[Found]) -> list[ResourceRow]:
    now = hands.clock.now()
    rows = []
    for found in parts:
        if found.tags.get(TAG_KIND) != found.ref.kind.value or found.tags.get(TAG_STACK) != stack or not found.ref.key:
            continue  # a part goes with its machine, and what bears no key is found when it is looked for
        attempt = attempt_in(found.tags)
        row = row_of(found, stack, plan_name_in(found), attempt, now)
        token = token_of(found.ref.key, attempt)
        rows.append(msgspec.structs.replace(row, token=token, first_at=made_at(found, now)))
    return rows
