"""Whether what a cell does can be relied upon: faults that it was caught at, and the conformance suite.

A cell with a *fault* sent what no cell sends that works as it should: bytes that are no frame, a receipt for another
run, a refusal for want of room that it told to have. It keeps what runs there and gets nothing new. A provider that an
operator marked as one for *production* takes only cells that passed the suite, end to end, with the key and the
software that they have now. For both the operator opens a *trial*: for a while one tenant may run on the cell all the
same, and the suite does. What the suite says is of the key and the software that the cell had when its trial was
opened; if it has others by then, nobody knows of which it is, and nothing is recorded. A suite that passed clears the
fault, unless the cell was caught again meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from grafos_core.audit_chain import AuditKind
from grafos_core.errors import GrafosError
from grafos_scheduler import audit, rows, tenants

if TYPE_CHECKING:
    from grafos_scheduler import messages
    from grafos_scheduler.draft import Draft
    from grafos_scheduler.events import ConformanceReported, ProviderMarked, TrialOpened
    from grafos_scheduler.state import State

TRIAL_S_MAX = 3600.0
"""The suite takes a minute or so on a cell that answers; cells that are slow have time, and nobody stays in."""
WRONG_TOLD_MAX = 3
"""Cases that are named in a reason; the record has them all."""


def fault_of(state: State, cell: rows.Cell) -> str:
    """What the cell was caught at with the key that it has now; empty when nothing."""
    fault = state.faults.get(cell.cell_id)
    return fault.what if fault is not None and fault.key_sha256 == cell.key_sha256 else ""


def lacks_conformance(state: State, cell: rows.Cell) -> str:
    """Why a cell of a provider for production may not be given runs; empty when it may."""
    if cell.provider not in state.productions:
        return ""
    known = state.conformed.get(cell.cell_id)
    head = f"provider {cell.provider} is marked as one for production, and the conformance suite "
    if known is None or known.key_sha256 != cell.key_sha256:
        return head + "was not run on the cell"
    if known.said.wrong:
        named = ", ".join(known.said.wrong[:WRONG_TOLD_MAX])
        return f"{head}failed in {len(known.said.wrong)} of {known.said.cases} cases ({named})"
    if known.said.agent_version != cell.agent_version:
        return f"{head}passed on version {known.said.agent_version} of its software, which is {cell.agent_version} now"
    return ""


def bars(state: State, cell: rows.Cell) -> bool:
    """Whether the cell gets no runs but those of a trial."""
    return bool(fault_of(state, cell) or lacks_conformance(state, cell))


def is_on_trial(state: State, cell_id: str, tenant: str, now: float) -> bool:
    """Whether the tenant may run there though a fault or the suite stand against it."""
    trial = state.trials.get(cell_id)
    return trial is not None and trial.tenant == tenant and now < trial.until


def faulted(draft: Draft, cell_id: str, code: str, what: str) -> None:
    """Notes what a registered cell was caught at; the first thing counts until it is cleared."""
    state = draft.state
    cell, trial = state.cells.get(cell_id), state.trials.get(cell_id)
    if not state.settings.enrols or cell is None:
        return
    if trial is not None:
        draft.remember(rows.TRIAL, cell_id, replace(trial, caught=True))
    if fault_of(state, cell):
        return
    what = what[: audit.WORDS_CHARACTERS_MAX]
    draft.put(rows.FAULT, cell_id, rows.Fault(cell_id, cell.key_sha256, code, what, draft.now))
    draft.note(AuditKind.CELL_FAULTED, cell_id, cell_id=cell_id, code=code, what=what)


def marked(draft: Draft, event: ProviderMarked) -> None:
    """Marks a provider as one for production, or takes the mark away. Asked again it changes nothing."""
    known = draft.state.productions.get(event.provider)
    if event.production == (known is not None):
        return
    row = rows.Production(event.provider, draft.now, event.operator) if event.production else None
    if row is not None:
        draft.put(rows.PRODUCTION, event.provider, row)
    else:
        draft.remove(rows.PRODUCTION, event.provider)
    draft.note(AuditKind.PROVIDER_MARKED, event.provider, production="yes" if event.production else "no")


def trial_opened(draft: Draft, event: TrialOpened) -> None:
    """Lets a tenant try a cell, for a while."""
    cell = _known(draft.state, event.cell_id)
    tenant = tenants.living(draft.state, event.tenant)
    until = draft.now + min(event.for_s, TRIAL_S_MAX)
    trial = rows.Trial(cell.cell_id, tenant.name, until, cell.key_sha256, cell.agent_version)
    draft.remember(rows.TRIAL, cell.cell_id, trial)
    draft.note(AuditKind.TRIAL_OPENED, cell.cell_id, cell_id=cell.cell_id, tenant=tenant.name)


def conformance_reported(draft: Draft, event: ConformanceReported) -> messages.Conformance:
    """Records what the suite said of the cell; a suite that passed clears its fault. Ends the trial. ``plan_stale``
    where there is none, or the cell's key or software is not that of the trial."""
    cell, said = _known(draft.state, event.cell_id), event.said
    trial = draft.state.trials.get(cell.cell_id)
    if trial is None or (trial.key_sha256, trial.agent_version) != (cell.key_sha256, cell.agent_version):
        raise GrafosError(
            "plan_stale",
            f"cell {cell.cell_id} has another key or other software than when its trial began"
            if trial
            else f"cell {cell.cell_id} is not on trial (any more), so nobody knows of what the suite speaks",
            next=f"run the suite again: grafos provider conform {cell.cell_id}",
        )
    said = replace(said, agent_version=trial.agent_version, judged_at=draft.now)
    row = rows.Conformed(cell.cell_id, cell.key_sha256, said, event.operator)
    draft.put(rows.CONFORMANCE, cell.cell_id, row)
    draft.remember(rows.TRIAL, cell.cell_id, None)
    if not said.wrong and not trial.caught and cell.cell_id in draft.state.faults:
        draft.remove(rows.FAULT, cell.cell_id)
    draft.note(
        AuditKind.CONFORMANCE_RECORDED,
        cell.cell_id,
        cell_id=cell.cell_id,
        suite=said.suite,
        cases=said.cases,
        wrong=len(said.wrong),
    )
    return said


def _known(state: State, cell_id: str) -> rows.Cell:
    cell = state.cells.get(cell_id)
    if cell is None:
        raise GrafosError("cell_unknown", f"no cell {cell_id[:80]!r} has registered here")
    return cell
