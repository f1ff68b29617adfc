"""Cells that join a simulated orchestrator: they enrol, renew their certificates, are cut off, revoked, and come again.

A cell's machine holds a key, a bootstrap token and a certificate beside its disk; they outlive its process. A machine
whose identity was taken back, or whose certificate ran out while it was cut off, is torn down, and another takes its
place under the same name: an empty disk, a new key, a fresh token. The operator sees to that, and revokes and drains.
Somebody may start a copy of a machine: of two that are one cell, the one that started later is it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from grafos_cell import broker, broker_events, holdings
from grafos_core.audit_chain import AuditKind
from grafos_core.errors import GrafosError
from grafos_core.rowfile import RowMemory
from grafos_scheduler import effects, enrolment, events, frames, messages, rows
from grafos_scheduler.enrolment_messages import BootstrapRequest
from grafos_testkit.cells import CellProcess
from grafos_testkit.network import Link
from grafos_testkit.operating import CUT_OFF_S, Operator
from grafos_testkit.processes import PROVIDER
from grafos_testkit.scheduling import SchedulerProcess

if TYPE_CHECKING:
    from grafos_scheduler.state import State
    from grafos_testkit.ghost import Ghost
    from grafos_testkit.world import World

LIFE_S = 40.0
"""Of a certificate: short, so that a story sees several."""
TOKEN_S = 20.0
AGAIN_S = 2.0
HOURS_S = 3 * 3600.0
IDENTITY_LOST = frozenset(
    {"cell_revoked", "certificate_refused", "enrolment_refused", "enrolment_expired", "generation_stale"}
)
"""After these a machine can only be replaced."""


class OrchestratorProcess(SchedulerProcess):
    """The shell of an orchestrator: who links shows a certificate, and is looked at for as long as the link lasts."""

    enrols = True

    def accept(self, link: Link, hello: frames.Hello) -> None:
        link.link_id, link.opened_at = self._next_link, self.world.clock.now()
        self._next_link += 1
        link.instance = hello.instance
        self.links[link.link_id] = link
        try:
            self.handle(events.LinkOpened(link.link_id, hello, link.key))
        except GrafosError as refusal:
            self._say_goodbye(link, refusal)

    def hear(self, link: Link, frame: Any) -> None:
        if link.not_after <= self.world.clock.now():
            self._say_goodbye(link, GrafosError("token_expired", "the certificate ran out"))
        else:
            super().hear(link, frame)

    def renew(self, cell_id: str, key: str, not_after: float) -> events.Event:
        """What is decided when a cell asks for another certificate; refuses whoever is not in."""
        if not_after <= self.world.clock.now():
            raise GrafosError("certificate_refused", "the certificate ran out")
        enrolment.check_key(self.state, cell_id, key)
        return events.Witnessed(AuditKind.CREDENTIALS_RENEWED, f"cell/{cell_id}", cell_id, cell_id=cell_id)

    def _act(self, effect: effects.Effect) -> None:
        link = self.links.get(effect.link_id) if isinstance(effect, effects.SendToCell) else None
        super()._act(effect)
        if link is not None and isinstance(effect, effects.SendToCell) and isinstance(effect.frame, frames.Goodbye):
            self._end(link)

    def _say_goodbye(self, link: Link, why: GrafosError) -> None:
        link.down.send(frames.Goodbye(why.code, why.what))
        self._end(link)

    def _end(self, link: Link) -> None:
        """It closes on its side at once, and what was said may arrive."""
        if self.links.pop(link.link_id, None) is not None:
            self.later(0.0, "", lambda: self.handle(events.LinkClosed(link.cell.name, link.link_id)))
        self.world.later(0.2, "", link.cut)


class JoiningCell(CellProcess):
    """One machine after the other under one cell id."""

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, number)
        self.machines = 0
        self._new_machine()

    @property
    def instance(self) -> str:
        """Which start of which machine this is."""
        return f"{self.name}-{self.machines}-{self.life}"

    def is_watched(self, state: State) -> bool:
        """Whether the scheduler's picture of its room can be held against it: not once its identity is gone, and not
        while its clock is off by hours, where its leases end by another time than the scheduler's."""
        identity, seen = state.identities.get(self.name), state.cells.get(self.name)
        is_in = identity is not None and identity.key_sha256 == self.key and not identity.revoked_at
        is_it = seen is None or seen.instance in ("", self.instance)
        return is_in and is_it and self.is_in_time

    def boot(self) -> None:
        self._epoch = self.disk.take()
        self.state = holdings.BrokerState.load(self.settings, self.disk.load())
        self.handle(broker_events.Booted())
        self._tick()
        self._join(self.machines)  # the last, for it may end the machine

    def hear(self, link: Link, frame: Any) -> None:
        if isinstance(frame, frames.Goodbye):
            self.world.say(f"{self.name} turned away: {frame.code}")
            if link is self.link and frame.code in IDENTITY_LOST:
                self._replace(self.machines)
        else:
            super().hear(link, frame)

    # --- joining ---

    def _join(self, machine: int) -> None:
        """Until this machine holds a certificate, registered, and has a link: each step is repeated until answered."""
        if machine != self.machines or self.link is not None:
            return
        self.later(AGAIN_S, "", lambda: self._join(machine))
        if self.not_after and self.not_after <= self.world.clock.now():
            self._replace(machine)
        elif not self.reaches or self.world.happens(self.world.faults.lose):
            return
        elif self.not_after:
            said = messages.CellRegistration(self.name, PROVIDER, "here", "1", self.total)
            self._call(machine, events.CellRegistered(said, self.key), lambda _: self._dial())
        elif self.token:
            self._call(machine, events.EnrolmentAsked(self.token, self.key), self._enrolled)

    def _enrolled(self, _: effects.Decision) -> None:
        if not self.not_after:
            self.world.say(f"{self.name} is in with {self.key}")
            self._certified()

    def _certified(self) -> None:
        self.not_after = self.world.clock.now() + LIFE_S
        machine = self.machines
        self.later(LIFE_S * self.world.chance.uniform(0.4, 0.6), "", lambda: self._renew(machine))

    def _renew(self, machine: int) -> None:
        """By possession of the key, over the certificate that it has; and then the link is dialled with the new one."""
        if machine != self.machines or not self.not_after:
            return
        if not self.reaches or self.world.happens(self.world.faults.lose):
            self.later(AGAIN_S, "", lambda: self._renew(machine))
            return
        scheduler = self.world.scheduler
        assert isinstance(scheduler, OrchestratorProcess)
        try:
            event = scheduler.renew(self.name, self.key, self.not_after)
        except GrafosError as refusal:
            self.world.say(f"{self.name} is not renewed: {refusal}")
            self._replace(machine)
            return
        self._call(machine, event, lambda _: self._renewed())

    def _renewed(self) -> None:
        self.world.say(f"{self.name} is renewed")
        self._certified()
        if self.link is not None:
            self.link.cut()

    def _call(self, machine: int, event: events.Event, then: Any) -> None:
        """A call over the net, and its answer once that is durable; some refusals end the machine."""
        scheduler = self.world.scheduler

        def answer(decision: effects.Decision) -> None:
            if machine == self.machines and not self.world.happens(self.world.faults.lose):
                heard(decision)

        life = self.life

        def heard(decision: effects.Decision) -> None:
            if self.alive and self.life == life:
                then(decision)

        replace = self.guarded(lambda: self._replace(machine))

        def arrive() -> None:
            try:
                scheduler.handle(event, answer)
            except GrafosError as refusal:
                self.world.say(f"{self.name} is refused: {refusal}")
                if refusal.code in IDENTITY_LOST:
                    replace()

        scheduler.guarded(arrive)()

    def _dial(self) -> None:
        if self.link is not None or not self.not_after:
            return
        if not self.reaches:
            self.later(self.world.chance.uniform(0.1, 3.0), "", self._dial)
            return
        link = self.open_link()
        link.key, link.not_after = self.key, self.not_after
        hello = broker.hello(self.state, "1")
        link.up.send(msgspec.structs.replace(hello, instance=self.instance))

    def link_lost(self, link: Link) -> None:
        if link is self.link:
            self.link = None
            machine = self.machines
            self.later(self.world.chance.uniform(0.1, 3.0), "", lambda: self._join(machine))

    def _replace(self, machine: int) -> None:
        """The machine is torn down; the next one starts some time later."""
        if machine != self.machines:
            return
        self.world.say(f"{self.name} is torn down")
        self.ghost.machine_gone(self)
        self.alive = False
        self.lose_memory()
        self._new_machine()
        self.world.later(self.world.chance.uniform(0.5, 5.0), f"start {self.name}", self.begin)

    def _new_machine(self) -> None:
        self.machines += 1
        self.key = f"{self.name}-key-{self.machines}"
        self.token, self.not_after = "", 0.0
        self.disk = RowMemory(self.codec)
        self.world.transitions.forget(self.number)
        off_s = self.world.chance.choice([0.0, 0.0, 2.0, -2.0, HOURS_S, -HOURS_S])
        self._off_s = off_s if self.world.scene.clocks_off else 0.0


class CopiedCell(JoiningCell):
    """A copy of a machine, made while that ran: the same disk, key and certificate. It goes when it is turned away."""

    def __init__(self, original: JoiningCell, number: int) -> None:
        super().__init__(original.world, number)
        self.name, self.machines = original.name, original.machines
        self.settings, self.total = original.settings, original.total
        self.key, self.not_after, self._off_s = original.key, original.not_after, original.off_s
        self.disk = original.disk.copy()
        self._ghost = original.world.ghost.of_a_copy(original)

    @property
    def ghost(self) -> Ghost:
        return self._ghost

    @property
    def instance(self) -> str:
        return f"{super().instance}-copy"

    def _replace(self, machine: int) -> None:
        if machine == self.machines:
            self.world.say(f"the copy of {self.name} is gone")
            self.gone, self.alive = True, False
            self.lose_memory()
            self.machines = 0


class Landlord(Operator):
    """An operator who also lets machines in and takes their identities back."""

    def _see_to(self, cell: CellProcess) -> None:
        assert isinstance(cell, JoiningCell)
        world, chance = self.world, self.world.chance
        state = world.scheduler.state
        if not cell.gone and not cell.token and not cell.not_after:
            self._invite(cell, state.identities.get(cell.name))
        elif world.happens(world.faults.partition):
            cell.cut_off(chance.choice(CUT_OFF_S))
        elif world.happens(world.scene.revokes) and cell.name in state.identities:
            self._tell(events.CellRevokeAsked(cell.name, chance.choice([0.0, 2.0, 10.0]), "why not"))
        elif world.happens(world.scene.copies) and cell.alive and cell.not_after > world.clock.now():
            world.say(f"{cell.name} is copied")
            CopiedCell(cell, world.cells.index(cell)).begin()
        elif cell.name in state.cells and cell.name not in state.leaving:
            is_drained = cell.name in state.drains
            if (is_drained and not world.stormy) or world.happens(world.scene.drains):
                self._tell(events.DrainAsked(cell.name, draining=not is_drained))

    def _invite(self, cell: JoiningCell, known: rows.Identity | None) -> None:
        """A token for the machine; the one before it under this name is revoked first."""
        if known is not None and not known.revoked_at:
            self._tell(events.CellRevokeAsked(cell.name, 0.0, "its machine is gone"))
            return
        machine = cell.machines

        def minted(decision: effects.Decision) -> None:
            if isinstance(decision.answer, rows.Enrolment) and machine == cell.machines and not cell.token:
                cell.token = decision.answer.token_id

        rate = self.world.scene.rate_of(self.world.cells.index(cell))
        asked = BootstrapRequest(PROVIDER, cell.name, "here", rate, valid_s=TOKEN_S)
        world, scheduler = self.world, self.world.scheduler

        def arrive() -> None:
            try:
                scheduler.handle(events.BootstrapAsked(asked, "op"), minted)
            except GrafosError as refusal:
                world.say(f"operator refused: {refusal}")

        scheduler.guarded(arrive)()
