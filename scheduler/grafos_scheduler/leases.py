"""The life of a lease, as the scheduler sees it.

A lease is *asked* for when its run is admitted, and *held* once the cell's broker has granted it. It is *tearing* when
the scheduler asked the cell to tear it down. Only the cell's own word that the binding is gone removes the row and
gives the room back; a teardown that failed there leaves it *fenced*, its room out of use. When an operator clears the
fence the lease is *clearing* until the cell has taken the binding down after all (see ``fences``).
A lease whose time has run out (and a possible difference between the clocks with it) is *lapsed*: the broker ends it
by itself, so its room counts as free, but the row stays until the cell has said so, in case the teardown failed.

A lease lasts as long as a capability token at most, and is renewed under its run (see ``renewing``): each renewal is a
new generation. How a lease is taken back before its time is in ``revoking``.

When the cell's daemon restarted, its leases died with it, so their rows go without a word of their own; only what the
cell names as fenced stays, and leased blocks, which are on its disk and are torn down in the ordinary way. A run that
was still waiting for its leases asks for them anew, each with the next generation: what was granted or minted under the
one before is never honoured again.
"""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import TYPE_CHECKING

from msgspec.structs import replace

from grafos_core.audit_chain import AuditKind
from grafos_core.errors import CODES
from grafos_core.resources import KINDS_ON_DISK, Resources
from grafos_core.revoking import RevokeState
from grafos_scheduler import frames, messages, regions, rows, runs, standing

if TYPE_CHECKING:
    from grafos_scheduler.draft import Draft

ASKED, HELD, TEARING, LAPSED, GONE = "asked", "held", "tearing", "lapsed", "gone"
FENCED, CLEARING = "fenced", "clearing"

NEXT: dict[str, frozenset[str]] = {
    ASKED: frozenset({ASKED, HELD, TEARING, LAPSED, FENCED, GONE}),
    HELD: frozenset({ASKED, HELD, TEARING, LAPSED, FENCED, GONE}),
    TEARING: frozenset({LAPSED, FENCED, GONE}),
    LAPSED: frozenset({FENCED, GONE}),
    FENCED: frozenset({FENCED, CLEARING}),
    CLEARING: frozenset({GONE}),
    GONE: frozenset(),
}
"""Which state may follow which. ``asked`` again is the next generation; ``gone`` has no row."""

OUT_OF_USE = frozenset({FENCED, CLEARING})
COUNTED = frozenset({ASKED, HELD, TEARING}) | OUT_OF_USE
"""The states in which a lease takes up room."""

MARGIN_S = 30.0
"""What a lease is needed beyond its run's deadline: time to fetch module and input, to compile, and to start."""


def counts(lease: rows.Lease) -> bool:
    """Whether the lease takes up room at its cell and in its tenant's quota."""
    return lease.state in COUNTED


def needed_s(request: messages.RunRequest) -> float:
    """How long such a run may need its leases."""
    return request.deadline_s + MARGIN_S


def ttl_s(draft: Draft, cell_id: str, request: messages.RunRequest) -> float:
    """How long a lease of such a run lasts at first. A cell that cannot tell its workers of a renewal gets it whole."""
    renews = draft.protocol_of(cell_id) >= messages.REVOKING_SINCE
    return min(needed_s(request), draft.state.settings.lease_ttl_s) if renews else needed_s(request)


def first(
    draft: Draft,
    cell: rows.Cell,
    lease_id: str,
    resource: tuple[str, int],
    expires_at: float,
    *,
    tenant: str,
    run_id: str = "",
    until: float = 0.0,
) -> rows.Lease:
    """A new lease, to be asked of the cell's daemon as it runs now; ``resource`` is kind and amount."""
    kind, amount = resource
    return rows.Lease(
        lease_id=lease_id,
        run_id=run_id,
        tenant=tenant,
        cell_id=cell.cell_id,
        kind=kind,
        amount=amount,
        generation=1,
        boot_epoch=cell.boot_epoch,
        state=ASKED,
        expires_at=expires_at,
        asked_at=draft.now,
        until=until,
    )


def ask(draft: Draft, lease: rows.Lease, *, held_back: bool = False) -> None:
    """Makes the lease's row and asks the cell for it, unless its run waits for room: then that follows."""
    assert lease.state == ASKED
    draft.put_lease(lease)
    if lease.generation > 1:
        draft.note_lease(AuditKind.LEASE_RENEWED, lease, run_id=lease.run_id)
    if not held_back:
        send_grant(draft, lease)


def ask_now(draft: Draft, lease: rows.Lease, run: rows.Run) -> None:
    """Asks for a lease that was held back; its time begins now."""
    expires_at = draft.now + ttl_s(draft, lease.cell_id, run.request)
    until = draft.now + needed_s(run.request)
    lease = replace(lease, asked_at=draft.now, expires_at=expires_at, until=until)
    draft.put_lease(lease)
    send_grant(draft, lease)


def ask_again(draft: Draft, run: rows.Run) -> None:
    """Asks once more, in the same generation, for each lease of a run to be started; fresh tokens come back."""
    if run.waits_for:
        return
    for lease in draft.state.leases_of(run):
        if lease.state in (ASKED, HELD):
            draft.remember(rows.TOKEN, lease.lease_id, None)
            send_grant(draft, lease)


def can_be_asked_anew(draft: Draft, run: rows.Run) -> bool:
    """Whether all leases of the run are still there and none is on its way out."""
    there = [lease for lease in draft.state.leases_of(run) if lease.state in (ASKED, HELD)]
    return len(there) == len(run.lease_ids)


def ask_next_generation(draft: Draft, run: rows.Run, boot_epoch: int) -> None:
    """Asks for the leases of an admitted run anew, of a daemon that has restarted."""
    for lease in draft.state.leases_of(run):
        again = replace(
            moved(lease, ASKED),
            generation=lease.generation + 1,
            boot_epoch=boot_epoch,
            expires_at=draft.now + ttl_s(draft, run.cell_id, run.request),
            asked_at=draft.now,
            until=draft.now + needed_s(run.request),
        )
        draft.remember(rows.TOKEN, lease.lease_id, None)
        ask(draft, again, held_back=bool(run.waits_for))


def granted(draft: Draft, cell_id: str, frame: frames.LeaseGranted) -> None:
    """The broker holds the lease. With the last of its leases a run is placed, and started."""
    lease = draft.state.leases.get(frame.lease_id)
    if lease is None or lease.cell_id != cell_id:
        # Nobody here knows it any more: an operator restored an older state, say. It must not stay bound.
        draft.send(cell_id, frames.TearDownLease(frame.lease_id, frame.generation))
        return
    if frame.generation != lease.generation or lease.state not in (ASKED, HELD):
        return
    if lease.state == ASKED:
        draft.put_lease(moved(lease, HELD))
    draft.remember(rows.RENEWAL, lease.lease_id, None)
    if not lease.run_id:
        regions.granted(draft, lease)
        return
    if draft.state.runs[lease.run_id].state == runs.RUNNING:
        return  # a renewal: the cell gave the token to the run by itself
    draft.remember(rows.TOKEN, lease.lease_id, rows.LeaseToken(lease.lease_id, lease.generation, frame.token))
    run = draft.state.runs[lease.run_id]
    tokens = _tokens(draft, run, frame)
    if tokens is None or run.state not in (runs.ADMITTED, runs.PLACED):
        return
    if run.state == runs.ADMITTED:
        last = max(each.expires_at for each in draft.state.leases_of(run))
        draft.put_run(replace(runs.moved(run, runs.PLACED), give_up_at=give_up_at(draft, last)))
    draft.send(cell_id, _start(run, tokens))


def give_up_at(draft: Draft, expires_at: float) -> float:
    """When a run whose last lease ends at ``expires_at`` has had all the time to be heard of."""
    return expires_at + draft.state.settings.clock_skew_max_s + runs.REPORT_WITHIN_S


def refused(draft: Draft, cell_id: str, frame: frames.LeaseRefused) -> None:
    """The broker turned the lease down: its run, if it still waits, is refused with the broker's code. If it was a
    renewal, the lease goes on to its end there and no further."""
    lease = draft.state.leases.get(frame.lease_id)
    if lease is None or lease.cell_id != cell_id or lease.state != ASKED or frame.generation != lease.generation:
        return
    if not lease.run_id:
        regions.refused(draft, lease, frame)
        return
    run = draft.state.runs[lease.run_id]
    if run.state != runs.ADMITTED:
        draft.remember(rows.RENEWAL, lease.lease_id, None)
        draft.put_lease(replace(moved(lease, HELD), until=0.0))
        return
    code = frame.code if frame.code in CODES else "answer_invalid"
    if code == "answer_invalid":
        standing.faulted(draft, cell_id, code, f"it refused lease {lease.lease_id} with no code that there is")
    elif code == "placement_failed" and _had_room(draft, lease):
        what = f"it told of room for lease {lease.lease_id} and has none: {frame.what}"
        standing.faulted(draft, cell_id, "answer_invalid", what)
    runs.end(draft, run, runs.REFUSED, code, f"cell {cell_id} refused the {lease.kind} lease: {frame.what}")
    # The refused lease too: it may have been granted before, the word of it lost, and its time have run out since.
    tear_down_all(draft, run)


def _had_room(draft: Draft, lease: rows.Lease) -> bool:
    """Whether all that may still be bound at the cell fits into what it told of, this lease included."""
    taken = reduce(add, (each.resources for each in draft.state.leases_at(lease.cell_id)), Resources())
    return taken.fits(draft.state.cells[lease.cell_id].total)


def torn_down(draft: Draft, cell_id: str, frame: frames.LeaseTornDown) -> None:
    """The cell's word that the binding is gone, or that it could not be taken down."""
    lease = draft.state.leases.get(frame.lease_id)
    if lease is None or lease.cell_id != cell_id or frame.generation < lease.generation:
        return
    if frame.fenced:
        if lease.state != CLEARING:
            _fenced(draft, lease)
    elif lease.state != FENCED:
        _gone(draft, lease)


def tear_down_all(draft: Draft, run: rows.Run) -> None:
    """Asks the cell to tear down every lease of a run that has ended."""
    for lease in draft.state.leases_of(run):
        draft.remember(rows.TOKEN, lease.lease_id, None)
        draft.remember(rows.RENEWAL, lease.lease_id, None)
        if lease.state in (ASKED, HELD):
            draft.put_lease(moved(lease, TEARING))
        if lease.state not in OUT_OF_USE:
            draft.send(lease.cell_id, frames.TearDownLease(lease.lease_id, lease.generation))


def lapse_overdue(draft: Draft) -> None:
    """Every lease whose time is up by any clock: the broker has ended it, and says so when it is connected."""
    latest = draft.now - draft.state.settings.clock_skew_max_s
    for lease in draft.state.leases.values():
        if lease.expires_at <= latest and lease.state in (ASKED, HELD, TEARING):
            if lease.run_id in draft.state.waiting:
                continue  # its cell was not asked yet
            draft.put_lease(moved(lease, LAPSED))


def reconcile(draft: Draft, cell_id: str, hello: frames.Hello, kept: frozenset[str]) -> None:
    """A link opened: settles what became of each lease of the cell but ``kept``, which are being asked for anew."""
    fenced = frozenset(hello.fenced)
    for lease in draft.state.leases_at(cell_id):
        if lease.lease_id in kept:
            continue
        if lease.state == CLEARING:
            send_clear(draft, lease)
        elif lease.lease_id in fenced:
            _fenced(draft, lease)
        elif lease.boot_epoch < hello.boot_epoch and lease.state != FENCED:
            _died(draft, lease)
        elif lease.state in (TEARING, LAPSED):
            draft.send(cell_id, frames.TearDownLease(lease.lease_id, lease.generation))
        elif lease.revoke != RevokeState.ACTIVE and lease.state in (ASKED, HELD):
            send_revocation(draft, lease)
        elif lease.state == ASKED and not lease.run_id:
            send_grant(draft, lease)


def _died(draft: Draft, lease: rows.Lease) -> None:
    """The daemon that held the lease is gone, and its binding with it, unless that is on the disk."""
    if lease.kind not in KINDS_ON_DISK:
        _gone(draft, lease)
        return
    if lease.state in (ASKED, HELD):
        draft.put_lease(moved(lease, TEARING))
    draft.send(lease.cell_id, frames.TearDownLease(lease.lease_id, lease.generation))


def _gone(draft: Draft, lease: rows.Lease) -> None:
    assert GONE in NEXT[lease.state]
    if lease.state == CLEARING:
        draft.note_lease(AuditKind.LEASE_UNFENCED, lease)
    strike(draft, lease)


def strike(draft: Draft, lease: rows.Lease) -> None:
    """Takes the row away, in whatever state: the cell has said that the binding is gone, or its word counts no more."""
    draft.remember(rows.TOKEN, lease.lease_id, None)
    draft.remember(rows.RENEWAL, lease.lease_id, None)
    draft.remove(rows.LEASE, lease.lease_id)
    if not lease.run_id:
        regions.binding_gone(draft, lease)


def _fenced(draft: Draft, lease: rows.Lease) -> None:
    draft.remember(rows.TOKEN, lease.lease_id, None)
    draft.remember(rows.RENEWAL, lease.lease_id, None)
    if lease.state != FENCED:
        draft.note_lease(AuditKind.LEASE_FENCED, lease, run_id=lease.run_id)
    draft.put_lease(moved(lease, FENCED))
    if not lease.run_id:
        regions.binding_gone(draft, lease)


def moved(lease: rows.Lease, state: str) -> rows.Lease:
    """The lease in its next state; a step that is not in the table is a bug."""
    assert state in NEXT[lease.state], f"a lease does not go from {lease.state} to {state}"
    return replace(lease, state=state)


def _tokens(draft: Draft, run: rows.Run, frame: frames.LeaseGranted) -> tuple[str, ...] | None:
    """The tokens of all leases of a run, or None while one is missing. ``frame`` brings the newest."""
    tokens = []
    for lease_id in run.lease_ids:
        known = draft.state.tokens.get(lease_id)
        if lease_id == frame.lease_id:
            tokens.append(frame.token)
        elif known is not None and known.generation == draft.state.leases[lease_id].generation:
            tokens.append(known.token)
        else:
            return None
    return tuple(tokens)


def send_grant(draft: Draft, lease: rows.Lease) -> None:
    """Asks the cell for the lease in its generation, if it is connected."""
    frame = frames.GrantLease(
        lease_id=lease.lease_id,
        generation=lease.generation,
        tenant=lease.tenant,
        kind=lease.kind,
        amount=lease.amount,
        expires_at=lease.expires_at,
        shared=not lease.run_id,
    )
    draft.send(lease.cell_id, frame)


def send_revocation(draft: Draft, lease: rows.Lease) -> None:
    """Tells the cell to take the lease back. One that knows of no grace is told to tear down at once."""
    if draft.protocol_of(lease.cell_id) >= messages.REVOKING_SINCE:
        draft.send(lease.cell_id, frames.RevokeLease(lease.lease_id, lease.generation, lease.grace_s))
    else:
        draft.send(lease.cell_id, frames.TearDownLease(lease.lease_id, lease.generation))


def send_clear(draft: Draft, lease: rows.Lease) -> None:
    """Tells the cell to try the teardown that failed again, if it knows how."""
    if draft.protocol_of(lease.cell_id) >= messages.REVOKING_SINCE:
        draft.send(lease.cell_id, frames.ClearFence(lease.lease_id, lease.generation))


def _start(run: rows.Run, tokens: tuple[str, ...]) -> frames.StartRun:
    asked = run.request
    return frames.StartRun(
        run_id=run.run_id,
        tenant=run.tenant,
        provider=asked.provider,
        region=run.region,
        tasklet=asked.tasklet,
        module_sha256=asked.module_sha256,
        input_sha256=asked.input_sha256,
        fuel=asked.fuel,
        memory_bytes=asked.memory_bytes,
        deadline_s=asked.deadline_s,
        tokens=tokens,
        program=asked.program,
    )
