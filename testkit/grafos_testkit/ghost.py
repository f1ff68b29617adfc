"""What must be true in a simulated fabric at each step, kept by a ghost that sees everything and is seen by nobody.

What is true of money stands in ``ghost_money``, and of services in ``ghost_services``. Beside that:

* Leases: one worker or instance holds one, a generation only grows, no cell has more bound than it has, no memory is
  given back under a worker, and the scheduler never takes room for free that a broker still has bound.
* Tokens: one of an older generation, an earlier start, or an ended lease opens nothing.
* Fences: nothing but an operator clears one, and only that gives its room back.
* Audit: what is on the disk is one whole chain, at each commit.
* Tiers: a lease is taken back for a run of a higher tier only.
* Cells: of two machines with one identity, the older one is told nothing any more.
* Runs: started once at most; acknowledged ones are never lost, and an end that somebody saw stays that end.
  An end that the cell made durable is not replaced by ``cell_lost``, and no run is given up while its cell listens.
* Regions and reservations that somebody was told of are not lost, nor how long a region lasts, nor that one was closed.
* In the end: every run, region, instance and reservation has ended, nothing is held, nothing is bound but what is
  fenced or on a cell that is gone.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterable
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

from grafos_cell import broker_events, broker_tokens, holdings
from grafos_core import tokens
from grafos_core.audit_chain import AuditRecord, ChainCheck
from grafos_core.changes import Batch
from grafos_core.errors import GrafosError
from grafos_core.money import cost_micro_cents
from grafos_core.resources import LISTENER, Resources
from grafos_core.revoking import RevokeState
from grafos_core.tiers import Tier
from grafos_scheduler import effects, frames, leases, messages, regions, reservations, rows, runs
from grafos_scheduler.region_rows import REGION, Region
from grafos_scheduler.state import State
from grafos_testkit.ghost_money import ABOUT_MONEY, MoneyWatch
from grafos_testkit.ghost_services import OVERDUE_S, ServiceWatch
from grafos_testkit.receipts import open_receipt

if TYPE_CHECKING:
    from grafos_scheduler.region_messages import RegionView
    from grafos_scheduler.reservation_messages import ReservationView
    from grafos_scheduler.service_frames import StartInstance
    from grafos_testkit.cells import CellProcess
    from grafos_testkit.people import RunClient
    from grafos_testkit.world import World

PROBES_PER_STEP = 0.05
"""How often an old token is tried, per step."""
ATTENTIVE_S = 25.0
"""A cell that was connected this long before a run was due had its leases still, and was asked all there was to ask."""


class Minted(NamedTuple):
    cell: str
    lease_id: str
    generation: int
    epoch: int
    expires_at: float
    text: str


class Ghost:
    """Remembers what was promised, and holds the world to it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._chance = random.Random(world.seed + 2)
        self._acknowledged: dict[tuple[str, str], str] = {}
        self._ended: dict[str, tuple[str, str, int]] = {}
        self._regions: dict[str, Region] = {}
        self._reservations: dict[str, rows.Reservation] = {}
        self.money = MoneyWatch(world)
        self.services = ServiceWatch(world)
        self._asked_generation: defaultdict[str, int] = defaultdict(int)
        self._held_generation: defaultdict[str, int] = defaultdict(int)
        self._leases: dict[str, holdings.HeldLease] = {}
        self._epochs: defaultdict[str, int] = defaultdict(int)
        self._bound: defaultdict[str, dict[str, Resources]] = defaultdict(dict)
        self._workers: defaultdict[str, dict[str, frozenset[str]]] = defaultdict(dict)
        self._started: set[str] = set()
        self._starts: dict[str, frames.StartRun] = {}
        self._to_clear: set[str] = set()
        self._minted: list[Minted] = []
        self._cell_ends: dict[str, str] = {}
        self._seconds_shown: dict[str, float] = {}
        self._due: dict[str, float] = {}
        self._probes = 0
        self.refused_for_room = 0
        self._gave_way: set[str] = set()
        self._copied: set[str] = set()
        self._of_copies: list[Ghost] = []
        self._struck: set[str] = set()
        self._audit = ChainCheck()

    def of_a_copy(self, cell: CellProcess) -> Ghost:
        """Who watches a copy of a cell's machine. Of a run that both machines had, each may keep an end, and its price
        is what the one showed that was heard first."""
        self._copied.add(cell.name)
        ghost = Ghost(self.world)
        ghost._leases, ghost._held_generation = dict(self._leases), self._held_generation.copy()
        ghost._epochs = self._epochs.copy()
        ghost._bound[cell.name] = dict(self._bound[cell.name])
        ghost._to_clear = self._to_clear
        self._of_copies.append(ghost)
        ghost.services = self.services.of_a_copy()
        ghost.cell_died(cell)  # what the machine had in memory is not on the copy
        return ghost

    # --- what the scheduler does ---

    def scheduler_loaded(self, state: State) -> None:
        """It came back from its disk: all that was promised must be there."""
        for (tenant, key), run_id in self._acknowledged.items():
            assert state.run_by_key.get((tenant, key)) == run_id, f"acknowledged run {run_id} is lost"
        for run_id, end in self._ended.items():
            assert end_of(state.runs[run_id]) == end, f"run {run_id} ended as {end}, and now {state.runs[run_id]}"
        for lease_id, region in self._regions.items():
            assert state.regions.get(lease_id) == region, f"{region} is lost: {state.regions.get(lease_id)}"
        for name, reservation in self._reservations.items():
            assert state.reservations.get(name) == reservation, f"{reservation} is lost"
        self.money.loaded(state)
        self.services.loaded(state)

    def decided(self, state: State, decision: effects.Decision) -> None:
        for effect in decision.effects:
            if isinstance(effect, effects.SendToCell):
                self._check_instance(state, effect)
        if any(change.kind in ABOUT_MONEY for change in decision.batch):
            self.money.check(state)
        for change in decision.batch:
            if isinstance(change.row, rows.Run):
                self._check_patience(state, change.row)

    def scheduler_committed(self, batch: Batch) -> None:
        self._check_audit(batch)
        self.money.committed(batch)
        self.services.committed(batch, self._copied)
        changed: Iterable[tuple[str, str, Any]] = batch
        for kind, key, row in changed:
            if kind == rows.RUN and row is not None and row.state not in runs.UNDER_WAY:
                self._check_cost(row)
            if kind == rows.RUN and row is not None and row.state in runs.ENDED:
                assert self._ended.setdefault(key, end_of(row)) == end_of(row), f"run {key} ended twice: {row}"
                kept = self._cell_ends.get(key, "cell_lost") if row.cell_id not in self._copied else "cell_lost"
                assert row.code != "cell_lost" or kept == "cell_lost", f"run {key} is lost, but its cell keeps: {kept}"
            elif kind == rows.LEASE and row is None:
                self._struck.add(key)
            elif kind == rows.LEASE:
                self._check_gives_way(row)
                assert row.generation >= self._asked_generation[key], f"lease {key} went back to {row.generation}"
                self._asked_generation[key] = row.generation
            elif kind == REGION and row is not None:
                before = self._regions.get(key, row)
                assert before.state != regions.ENDED or row.state == before.state, f"region {key} was {before}: {row}"
                assert row.expires_at >= before.expires_at, f"region {key} was {before} and has less time: {row}"
                self._regions[key] = row
            elif kind == rows.RESERVATION and row is not None:
                self._reservations[key] = row

    def _check_instance(self, state: State, effect: effects.SendToCell) -> None:
        """Of two machines that are one cell, only the one that started later is spoken to."""
        link = self.world.scheduler.links.get(effect.link_id)
        if link is not None and link.instance:
            instance = state.cells[link.cell.name].instance
            assert link.instance == instance, f"{link.instance} is told {effect.frame}, and {instance} is the cell"

    def _check_gives_way(self, lease: rows.Lease) -> None:
        """Who gives way does so for a run of a higher tier."""
        found = re.search("a run of the tier ([a-z]+) needs the room", lease.revoke_why)
        if found is not None and lease.lease_id not in self._gave_way:
            self._gave_way.add(lease.lease_id)
            tier = self.world.scheduler.state.runs[lease.run_id].request.tier
            assert tier.yields_to(Tier(found[1])), f"{lease} of a run of the tier {tier}"

    def _check_audit(self, batch: Batch) -> None:
        """What is on the disk is one chain, whose end is the head, whatever died before; each new lease is in it."""
        records = [change.row for change in batch if isinstance(change.row, AuditRecord)]
        heads = [change.row for change in batch if isinstance(change.row, rows.AuditHead)]
        for record in records:
            self._audit.take(record)
        assert not records or heads[-1].event_hash == self._audit.event_hash, "the head is not the last record"
        said = [record.subject for record in records]
        said += [str(detail) for record in records for detail in record.details.values()]
        noted = {word for text in said for word in text.split()}
        new = {key for kind, key, row in batch if kind == rows.LEASE and row and key not in self._asked_generation}
        assert new <= noted, f"leases {sorted(new - noted)} came without a record"

    def sent_down(self, effect: effects.SendToCell) -> None:
        """Nothing leaves the scheduler that a crash could take back."""
        frame = effect.frame
        if isinstance(frame, frames.GrantLease):
            is_durable = self._asked_generation[frame.lease_id] >= frame.generation
            assert is_durable or frame.lease_id in self._struck, f"{frame} is not durable"
        elif isinstance(frame, frames.ClearFence):
            self._to_clear.add(frame.lease_id)
        elif isinstance(frame, frames.RunEndedNoted):
            known = frame.run_id in self.world.scheduler.state.runs
            assert frame.run_id in self._ended or not known, f"{frame} is not durable"

    def region_shown(self, view: RegionView) -> None:
        """Somebody was told of a region, and until when: it is durable by then."""
        durable = self._regions.get(view.lease_id)
        is_kept = durable is not None and durable.expires_at >= view.expires_at
        assert is_kept, f"{view} was shown, and durable is {durable}"

    def reservation_shown(self, tenant: str, view: ReservationView) -> None:
        durable = self._reservations.get(reservations.account_of(tenant, view.reservation_key))
        is_kept = durable is not None and durable.closed >= view.closed
        assert is_kept, f"{view} was shown, and durable is {durable}"

    def client_saw(self, client: RunClient, view: messages.RunView) -> None:
        key = (client.tenant, client.request.run_key)
        assert self._acknowledged.setdefault(key, view.run_id) == view.run_id, "one run key, two runs"
        if view.state in runs.ENDED:
            seen = (view.state, view.code, view.cost.micro_cents)
            assert self._ended[view.run_id] == seen, f"{view.run_id} was shown as {seen}"

    # --- what a cell does ---

    def cell_committed(self, cell: CellProcess, batch: Batch) -> None:
        changed: Iterable[tuple[str, str, Any]] = batch
        for kind, key, row in changed:
            if kind == holdings.BOOT:
                assert row.epoch > self._epochs[cell.name], "the boot epoch did not grow"
                self._epochs[cell.name] = row.epoch
            elif kind == holdings.LEASE:
                self._lease_committed(cell, key, row)
                self.services.lease_committed(cell, key, row)
            elif kind == holdings.INSTANCE:
                self.services.instance_committed(cell, key, row)
            elif kind == holdings.RUN and row is not None and row.ended is not None:
                assert self._cell_ends.setdefault(key, row.ended.code) == row.ended.code, f"{key} ended anew"
                receipt = open_receipt(row.ended.receipt)
                seconds = self._seconds_shown[key] = receipt.ended_at - receipt.started_at
                assert receipt.code != "cell_lost" or not seconds, f"nobody saw {key}, which shows {seconds} s"

    def cell_died(self, cell: CellProcess) -> None:
        """Its bindings and its workers are gone with it, but for what lies on its disk."""
        bound = self._bound[cell.name]
        for lease_id in [lease_id for lease_id, taken in bound.items() if not taken.block_bytes]:
            del bound[lease_id]
        self._workers[cell.name].clear()
        self.services.cell_died(cell)

    def machine_gone(self, cell: CellProcess) -> None:
        """The machine was torn down with its disk; another may come under the same name."""
        self.cell_died(cell)
        self.services.machine_gone(cell)
        self._bound[cell.name].clear()
        self._epochs[cell.name] = 0
        for lease_id in cell.state.leases:
            self._leases.pop(lease_id, None)

    def reported(self, cell: CellProcess, frame: broker_events.Reportable) -> None:
        if isinstance(frame, frames.LeaseGranted):
            claims = tokens.check_capability(cell.settings.token_key, frame.token, tokens.Use(""), 0.0)
            self._minted.append(
                Minted(cell.name, frame.lease_id, claims.generation, claims.boot_epoch, claims.expires_at, frame.token)
            )
        elif isinstance(frame, frames.LeaseRefused):
            self.refused_for_room += frame.code == "placement_failed"

    def worker_started(self, cell: CellProcess, run_id: str, presented: tuple[str, ...]) -> None:
        """A worker, or an instance's process, starts on these tokens."""
        assert run_id not in self._started, f"{run_id} started twice"
        self._started.add(run_id)
        used = [minted for minted in self._minted if minted.cell == cell.name and minted.text in presented]
        assert len({minted.text for minted in used}) == len(presented), "a worker started on a foreign token"
        assert all(self._opens(minted, cell.now) for minted in used), f"{run_id} started on a dead token"
        mine = frozenset(minted.lease_id for minted in used)
        for other, theirs in self._workers[cell.name].items():
            assert not mine & theirs, f"{run_id} and {other} hold the same lease"
        self._workers[cell.name][run_id] = mine

    def run_started(self, cell: CellProcess, start: frames.StartRun) -> None:
        self._starts[start.run_id] = start
        self.worker_started(cell, start.run_id, start.tokens)

    def instance_started(self, cell: CellProcess, start: StartInstance) -> None:
        self.worker_started(cell, start.instance_id, start.tokens)

    def serves(self, cell: CellProcess, start: StartInstance) -> None:
        self.services.serves(cell, start, self._copied)

    def answers(self, cell: CellProcess, start: StartInstance) -> None:
        self.services.answers(cell, start.instance_id)

    def serves_no_more(self, instance_id: str) -> None:
        self.services.serves_no_more(instance_id)

    def worker_gone(self, cell: CellProcess, run_id: str) -> None:
        self._workers[cell.name].pop(run_id, None)

    @property
    def gave_way(self) -> int:
        """Leases that were taken back for a run of a higher tier."""
        return len(self._gave_way)

    def is_used(self, cell_name: str, lease_id: str) -> bool:
        """Whether a worker has it still, as somebody sees who looks at the machine."""
        is_here = any(lease_id in held for held in self._workers[cell_name].values())
        return is_here or any(ghost.is_used(cell_name, lease_id) for ghost in self._of_copies)

    def unbound(self, cell: CellProcess, lease_id: str) -> None:
        users = [run_id for run_id, held in self._workers[cell.name].items() if lease_id in held]
        assert not users, f"lease {lease_id} was taken down under {users}"
        self._bound[cell.name].pop(lease_id, None)

    # --- at each step, and at the end ---

    def check_step(self) -> None:
        scheduler = self.world.scheduler
        if scheduler.alive:
            for cell in self.world.cells:
                if cell.alive:
                    self._check_room(scheduler.state, cell)
        self.services.check_step()
        if self._minted and self._chance.random() < PROBES_PER_STEP:
            minted = self._chance.choice(self._minted)
            self._probe(minted)
            self._probe_again(minted.cell)

    def check_all_is_over(self) -> None:
        """The storm is long over: nothing may be left of it."""
        state = self.world.scheduler.state
        assert not list(state.runs_under_way()), "a run never ended"
        assert not list(state.all_instances()), "an instance never ended"
        assert not state.services, f"services were never removed: {list(state.services)}"
        left_over = [region for region in state.regions.values() if region.state != regions.ENDED]
        assert not left_over, f"regions never ended: {left_over}"
        assert all(each.settled_at for each in state.reservations.values()), "a reservation was never settled"
        assert not state.tokens, "tokens are left in memory"
        assert all(account.held_micro_cents == 0 for account in state.ledger.accounts.values()), "money is still held"
        there = [cell for cell in self.world.cells if not cell.gone]
        names = {cell.name for cell in there}
        left = [lease for lease in state.leases.values() if lease.cell_id in names]
        fenced = {lease.lease_id for lease in left if lease.cell_id not in self._copied}
        of_cells = {lease_id for cell in there if cell.name not in self._copied for lease_id in cell.state.fenced}
        lost = [lease for lease in state.leases.values() if lease.cell_id not in names and leases.counts(lease)]
        assert all(lease.state in leases.OUT_OF_USE for lease in lost), f"room of a lost cell is still taken: {lost}"
        assert all(lease.state == leases.FENCED for lease in left), f"a lease was never released: {left}"
        assert fenced == of_cells, "fences differ"
        for cell in there:
            held = [lease for lease in cell.state.leases.values() if lease.state != holdings.FENCED]
            assert not held, f"{cell.name} still has {held}"
            assert not cell.state.runs, f"{cell.name} still keeps {list(cell.state.runs)}"
            assert not cell.state.instances, f"{cell.name} still keeps {list(cell.state.instances)}"
        for person in self.world.people:
            assert person.over, f"{person.name} was never told how it ended"

    def _lease_committed(self, cell: CellProcess, lease_id: str, row: holdings.HeldLease | None) -> None:
        if row is None:
            assert self._leases.pop(lease_id).state == holdings.CLOSED, "a lease was forgotten that is not closed"
            return
        assert row.generation >= self._held_generation[lease_id], f"{lease_id} went back to {row.generation}"
        self._check_way_out(lease_id, self._leases.get(lease_id), row)
        self._held_generation[lease_id] = row.generation
        self._leases[lease_id] = row
        is_bound = lease_id in self._bound[cell.name]
        assert row.state != holdings.CLOSED or not is_bound, f"{lease_id} is closed, and nobody took it down"
        if row.state == holdings.BOUND:
            self._bound[cell.name][lease_id] = row.resources
            total = sum(self._bound[cell.name].values(), Resources())
            assert total.fits(cell.total), f"{cell.name} has {total} bound of {cell.total}"

    def _check_way_out(self, lease_id: str, before: holdings.HeldLease | None, row: holdings.HeldLease) -> None:
        """Each step is in the table, a revocation is not taken back, and a fence stays until somebody clears it."""
        if before is None:
            return
        was, now = RevokeState(before.revoke), RevokeState(row.revoke)
        anew = row.generation > before.generation and not before.is_revoked
        assert was == now or was.leads_to(now) or anew, f"{lease_id} went from {was} to {now}"
        assert row.is_revoked or not before.is_revoked, f"{lease_id} is not revoked any more"
        if before.state == holdings.FENCED and row.state != holdings.FENCED:
            assert lease_id in self._to_clear, f"the fence of {lease_id} was cleared by nobody"

    def _opens(self, minted: Minted, now: float) -> bool:
        """Whether the token should open its lease now, by all that was ever made durable at its cell."""
        lease = self._leases.get(minted.lease_id)
        return (
            lease is not None
            and lease.state == holdings.BOUND
            and lease.generation == minted.generation
            and self._epochs[minted.cell] == minted.epoch
            and now < min(lease.expires_at, minted.expires_at)
        )

    def _probe(self, minted: Minted) -> None:
        """Somebody uses a token that was minted at some time, and forges a start with one that is dead or in use."""
        cell = next(cell for cell in self.world.cells if cell.name == minted.cell)
        if not cell.alive:
            return
        use = tokens.Use(broker_tokens.START, "run-forged", "main")
        taken = False
        try:
            taken = bool(broker_tokens.check_token(cell.state, minted.text, use, cell.now).run_id)
            opened = True
        except GrafosError:
            opened = False
        assert opened == self._opens(minted, cell.now), f"{cell.name} {'honoured' if opened else 'refused'} {minted}"
        if (taken or not opened) and self.world.stormy:
            self._probes += 1
            run_id, sha256 = f"run-forged-{self._probes}", "0" * 64
            forged = frames.StartRun(run_id, "ada", "aws", "", "main", sha256, sha256, 1, 65536, 1.0, (minted.text,))
            cell.guarded(lambda: cell.handle(broker_events.Told(forged)))()

    def _probe_again(self, cell_name: str) -> None:
        """A scheduler that was restored from an older state, say, tells a run that has ended there to start, and asks
        for a port that the cell has leased."""
        cell = next(cell for cell in self.world.cells if cell.name == cell_name)
        if not (cell.alive and self.world.stormy):
            return
        ended = [
            self._starts[run.run_id] for run in cell.state.runs.values() if run.ended and run.run_id in self._starts
        ]
        if ended:
            cell.guarded(lambda: cell.handle(broker_events.Told(ended[0])))()
        taken = [each for each in cell.state.leases.values() if each.kind == LISTENER and each.state != holdings.CLOSED]
        if taken:
            port, until = taken[0].amount, cell.now + 30.0
            forged = frames.GrantLease("lease-forged", 1, "ada", LISTENER, port, until)
            cell.guarded(lambda: cell.handle(broker_events.Told(forged)))()

    def _check_room(self, state: State, cell: CellProcess) -> None:
        """What a broker has bound takes room at the scheduler too, or its time is up by any clock."""
        latest = self.world.clock.now() - state.settings.clock_skew_max_s
        assert cell.state.leased.fits(cell.total), f"{cell.name} leases out {cell.state.leased} of {cell.total}"
        if not cell.is_watched(state) or cell.name in self._copied:
            return  # what one of two copies said is gone, the other may still have
        for held in cell.state.leases.values():
            if held.state == holdings.CLOSED:
                continue
            assert held.state != holdings.BOUND or held.expires_at > cell.now - OVERDUE_S, f"{held} outlived its time"
            lease = state.leases.get(held.lease_id)
            assert lease is not None, f"{cell.name} has {held.lease_id} {held.state}, the scheduler knows nothing of it"
            assert leases.counts(lease) or lease.expires_at <= latest, f"{lease} is taken for free, but is {held.state}"

    def _check_patience(self, state: State, run: rows.Run) -> None:
        """No run is given up on a cell that has been listening all the while."""
        if "reported no end" in run.what or "did not grant" in run.what:
            link = self.world.scheduler.links.get(state.link_of(run.cell_id))
            listened_s = self._due[run.run_id] - link.opened_at if link is not None and link.open else 0.0
            assert listened_s < ATTENTIVE_S, f"{run.run_id} was given up, but its cell listened for {listened_s} s"
        self._due[run.run_id] = run.give_up_at

    def _check_cost(self, run: rows.Run) -> None:
        """Nobody pays for more than was seen, nor for a run whose end came to nobody."""
        if run.cell_id in self._copied:
            return
        is_unseen = "reported no end" in run.what or run.code == "cell_revoked"
        seconds = 0.0 if is_unseen else self._seconds_shown.get(run.run_id, 0.0)
        paid_s = min(seconds, run.request.deadline_s)
        due = cost_micro_cents(Fraction(run.share), run.rate_micro_cents_per_hour, paid_s)
        assert run.cost_micro_cents == due, f"{run.run_id} costs {run.cost_micro_cents} where {due} is due"


def end_of(run: rows.Run) -> tuple[str, str, int]:
    return run.state, run.code, run.cost_micro_cents
