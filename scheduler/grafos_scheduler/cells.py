"""Cells: who they are, whether they are connected, and whether they are ready for work.

A cell is ready when all six signals are met; each one that is not says why. Three are facts that were recorded, three
hold only for the moment and are judged anew each time anybody asks, so no timer has to notice that a cell fell silent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from grafos_core.audit_chain import AuditKind
from grafos_core.errors import GrafosError
from grafos_scheduler import enrolment, frames, leases, messages, rows, runs, service_outcomes, standing

if TYPE_CHECKING:
    from grafos_scheduler.draft import Draft
    from grafos_scheduler.events import CellRegistered, DrainAsked, LinkClosed, LinkOpened
    from grafos_scheduler.state import State

SIGNALS = (
    "code_enabled",
    "durable_provider_cell_record",
    "identity_bound",
    "healthy_cell",
    "inventory_reported",
    "outbound_registered",
)

MET = messages.Signal(met=True)


def readiness(state: State, cell: rows.Cell, now: float, *, on_trial: bool = False) -> dict[str, messages.Signal]:
    """The six signals of a cell, in the order of ``SIGNALS``. On trial neither a fault nor the suite that it has not
    passed stands against it."""
    recorded = cell.cell_id in state.terms
    return {
        "code_enabled": _code(state, cell, on_trial=on_trial),
        "durable_provider_cell_record": _signal(recorded, "no price and no end were recorded with the cell"),
        "identity_bound": _identity(state, cell),
        "healthy_cell": _health(state, cell, now, on_trial=on_trial),
        "inventory_reported": _signal(cell.total.cpu_cores > 0, "the cell told of no CPU core that it could lease"),
        "outbound_registered": _signal(state.link_of(cell.cell_id) != 0, "the cell holds no link to this scheduler"),
    }


def is_ready(signals: dict[str, messages.Signal]) -> bool:
    return all(signal.met for signal in signals.values())


def unmet(signals: dict[str, messages.Signal]) -> dict[str, str]:
    """Why the cell is not ready, by signal."""
    return {name: signal.why for name, signal in signals.items() if not signal.met}


def registered(draft: Draft, event: CellRegistered) -> messages.CellRegistered:
    """Records the cell. The same id under another key is somebody else: ``certificate_refused``."""
    asked, state = event.registration, draft.state
    protocol = agree_on_protocol(asked.protocol_min, asked.protocol_max)
    enrolment.check_key(state, asked.cell_id, event.key_sha256)
    known = state.cells.get(asked.cell_id)
    if known is not None and known.key_sha256 != event.key_sha256:
        if not state.settings.enrols:
            raise _stranger(asked.cell_id)
        known = None  # the cell id was given to another key, and nothing of the one before stands any more
    identity = state.identities.get(asked.cell_id)
    cell = rows.Cell(
        cell_id=asked.cell_id,
        provider=asked.provider,
        region=(identity and identity.region) or asked.region,
        agent_version=asked.agent_version,
        total=enrolment.believed(state, asked.cell_id, asked.total),
        key_sha256=event.key_sha256,
        registered_at=known.registered_at if known else draft.now,
        boot_epoch=known.boot_epoch if known else 0,
        instance=known.instance if known else "",
        image_sha256=asked.image_sha256,
    )
    if cell != known:
        draft.put(rows.CELL, cell.cell_id, cell)
    if known is None or known.image_sha256 != cell.image_sha256:
        draft.note(
            AuditKind.CELL_REGISTERED,
            cell.cell_id,
            cell_id=cell.cell_id,
            provider=cell.provider,
            region=cell.region,
            key_sha256=cell.key_sha256,
            **({"image_sha256": cell.image_sha256} if cell.image_sha256 else {}),
        )
    enrolment.registered(draft, cell.cell_id)
    return messages.CellRegistered(protocol, state.settings.heartbeat_every_s)


def link_opened(draft: Draft, event: LinkOpened) -> None:
    """Takes the link as the cell's only one and brings both sides to one view of its runs and leases."""
    hello, state = event.hello, draft.state
    enrolment.check_key(state, hello.cell_id, event.key_sha256)
    protocol = agree_on_protocol(hello.protocol_min, hello.protocol_max)
    cell = state.cells.get(hello.cell_id)
    if cell is None:
        raise GrafosError("cell_unknown", f"cell {hello.cell_id} is not registered", next="register the cell first")
    if cell.key_sha256 != event.key_sha256:
        raise _stranger(cell.cell_id)
    _check_start(cell, hello)
    draft.open_link(cell.cell_id, event.link_id, protocol)
    restarted = hello.boot_epoch > cell.boot_epoch
    _present(draft, cell.cell_id, event.link_id, steady=not restarted)
    draft.send(cell.cell_id, frames.Welcome(protocol, state.settings.heartbeat_every_s))
    if restarted:
        draft.put(rows.CELL, cell.cell_id, replace(cell, boot_epoch=hello.boot_epoch, instance=hello.instance))
    asked_anew = _catch_up(draft, cell, hello, restarted=restarted)
    leases.reconcile(draft, cell.cell_id, hello, asked_anew)


def link_closed(draft: Draft, event: LinkClosed) -> None:
    """The link is gone; if another took its place meanwhile, this is old news."""
    presence = draft.state.presences.get(event.cell_id)
    if presence is not None and presence.link_id == event.link_id:
        draft.remember(rows.PRESENCE, event.cell_id, replace(presence, link_id=0))


def heartbeat(draft: Draft, cell_id: str, frame: frames.Heartbeat) -> None:
    """The cell is alive. A lease that it calls fenced is fenced here too."""
    _present(draft, cell_id, draft.state.link_of(cell_id), steady=True)
    for lease_id in frame.fenced:
        lease = draft.state.leases.get(lease_id)
        if lease is not None and lease.state not in leases.OUT_OF_USE:
            leases.torn_down(draft, cell_id, frames.LeaseTornDown(lease_id, lease.generation, fenced=True))


def drain(draft: Draft, event: DrainAsked) -> messages.DrainView:
    """Closes or opens admission; tells how many runs are still under way there."""
    state = draft.state
    if event.cell_id and event.cell_id not in state.cells:
        raise GrafosError("cell_unknown", f"cell {event.cell_id} is not registered")
    if event.draining and event.cell_id not in state.drains:
        draft.put(rows.DRAIN, event.cell_id, rows.Drain(draft.now))
        draft.note(AuditKind.DRAIN_SET, event.cell_id, cell_id=event.cell_id, draining="yes")
    elif not event.draining and event.cell_id in state.drains:
        draft.remove(rows.DRAIN, event.cell_id)
        draft.note(AuditKind.DRAIN_SET, event.cell_id, cell_id=event.cell_id, draining="no")
    under_way = state.runs_at(event.cell_id) if event.cell_id else list(state.runs_under_way())
    return messages.DrainView(event.draining, len(under_way))


def agree_on_protocol(lowest: int, highest: int) -> int:
    """The newest version that both sides speak, or ``version_unsupported``."""
    agreed = min(highest, messages.PROTOCOL_MAX)
    if agreed < max(lowest, messages.PROTOCOL_MIN):
        raise GrafosError(
            "version_unsupported",
            f"the cell speaks protocol {lowest} to {highest}, this scheduler {messages.PROTOCOL_MIN} to "
            f"{messages.PROTOCOL_MAX}",
            next="install the same version on both sides",
        )
    return agreed


def _catch_up(draft: Draft, cell: rows.Cell, hello: frames.Hello, *, restarted: bool) -> frozenset[str]:
    """Says again whatever the cell may have missed, and ends what died with its daemon. Gives the leases that are
    being asked for in their next generation."""
    asked_anew: set[str] = set()
    kept_ends = frozenset(hello.unacknowledged)
    for run in draft.state.runs_at(cell.cell_id):
        if run.run_id in kept_ends:
            continue  # its end is kept at the cell and will be reported over this link
        if not restarted:
            if run.state != runs.RUNNING:
                leases.ask_again(draft, run)
        elif run.state == runs.ADMITTED and leases.can_be_asked_anew(draft, run):
            leases.ask_next_generation(draft, run, hello.boot_epoch)
            asked_anew.update(run.lease_ids)
        else:
            what = f"cell {cell.cell_id} restarted while the run was on it, and kept no end of it"
            runs.end(draft, run, runs.FAILED, "cell_lost", what)
    service_outcomes.link_opened(draft, cell.cell_id, hello, restarted=restarted)
    return frozenset(asked_anew)


def _present(draft: Draft, cell_id: str, link_id: int, *, steady: bool) -> None:
    """Notes a sign of life; the steady time starts anew after a silence, or when ``steady`` is false."""
    before = draft.state.presences.get(cell_id)
    silence_max_s = draft.state.settings.silence_max_s
    steady_since = draft.now
    if steady and before is not None and draft.now - before.last_heartbeat_at <= silence_max_s:
        # A clock that was set back would else leave a start in the future, and the cell unhealthy until then.
        steady_since = min(before.steady_since, draft.now)
    presence = rows.Presence(cell_id, link_id, draft.now, steady_since, draft.protocol_of(cell_id))
    draft.remember(rows.PRESENCE, cell_id, presence)


def _code(state: State, cell: rows.Cell, *, on_trial: bool) -> messages.Signal:
    """Its provider is enabled here, and its software was shown to run code right where that is asked for."""
    if cell.provider not in state.settings.providers:
        return messages.Signal(met=False, why=f"provider {cell.provider} is not enabled at this scheduler")
    lacking = "" if on_trial else standing.lacks_conformance(state, cell)
    return _signal(not lacking, lacking)


def _health(state: State, cell: rows.Cell, now: float, *, on_trial: bool) -> messages.Signal:
    """Recent, steady heartbeats, no fault, and an end that is not yet reached."""
    terms, presence = state.terms.get(cell.cell_id), state.presences.get(cell.cell_id)
    if cell.cell_id in state.leaving:
        return messages.Signal(met=False, why="the cell is being revoked")
    if not on_trial and (fault := standing.fault_of(state, cell)):
        return messages.Signal(met=False, why=f"{fault}; it gets no runs until it conforms")
    if terms is not None and terms.expires_at and terms.expires_at <= now:
        return messages.Signal(met=False, why="the cell has outlived its end")
    if presence is None:
        return messages.Signal(met=False, why="no heartbeat was seen since the scheduler started")
    silent_s = now - presence.last_heartbeat_at
    if silent_s > state.settings.silence_max_s:
        return messages.Signal(met=False, why=f"the last heartbeat was {silent_s:.0f} s ago")
    steady_s, wanted_s = now - presence.steady_since, state.settings.healthy_after_s
    return _signal(steady_s >= wanted_s, f"heartbeats are steady for {steady_s:.0f} s of {wanted_s:g} s")


def _identity(state: State, cell: rows.Cell) -> messages.Signal:
    try:
        enrolment.check_key(state, cell.cell_id, cell.key_sha256)
    except GrafosError as error:
        return messages.Signal(met=False, why=error.what)
    return _signal(bool(cell.key_sha256), "no verified certificate is bound to the cell")


def _signal(met: bool, why: str) -> messages.Signal:  # noqa: FBT001  # reads as a sentence: met, or else why not
    return MET if met else messages.Signal(met=False, why=why)


def _check_start(cell: rows.Cell, hello: frames.Hello) -> None:
    """``generation_stale`` for an older start than was seen, or for another one that bears the same number."""
    is_copy = hello.boot_epoch == cell.boot_epoch and hello.instance != cell.instance
    if hello.boot_epoch < cell.boot_epoch or (is_copy and hello.instance and cell.instance):
        raise GrafosError(
            "generation_stale",
            f"cell {cell.cell_id} says hello from start {hello.boot_epoch}, and "
            + ("another machine did so before" if is_copy else f"start {cell.boot_epoch} was seen"),
            why="its disk was restored from an older copy, or two machines share its identity",
            next="tear the cell down and provision a new one",
        )


def _stranger(cell_id: str) -> GrafosError:
    return GrafosError(
        "certificate_refused",
        f"the certificate is not the one that cell {cell_id} registered with",
        next="give the machine a cell id of its own",
    )
