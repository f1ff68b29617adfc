"""A scheduler's mind at a desk: tell it what happened, see what it decided. No process, no wire, no disk.

Each decision is checked on the way: it changed nothing by itself, and its batch survives the store's codec.
"""

from __future__ import annotations

import random
from typing import Any, TypeVar

import msgspec

from grafos_core.changes import RowCodec
from grafos_core.clock import VirtualClock
from grafos_core.receipts import RunReceipt, Signed
from grafos_core.resources import Resources
from grafos_core.rowfile import RowMemory
from grafos_scheduler import effects, events, frames, messages, rows, tenant_events
from grafos_scheduler.decide import decide
from grafos_scheduler.enrolment_messages import BootstrapRequest
from grafos_scheduler.state import Settings, State

MIB = 1 << 20
RATE = 3_600_000
"""Micro-cents an hour: 1,000 a second for a whole cell."""
SETTINGS = Settings("sched", frozenset({"aws", "local"}), heartbeat_every_s=5.0, healthy_after_s=0.0)
ORCHESTRATOR = Settings(
    "orchestrator", frozenset({"aws", "azure", "gcp"}), heartbeat_every_s=5.0, healthy_after_s=0.0, enrols=True
)

Frame = TypeVar("Frame", bound=msgspec.Struct)


class Desk:
    """One scheduler, claimed, with tenant ``ada``. ``sent`` are the frames since ``tell`` was last called."""

    def __init__(self, settings: Settings = SETTINGS, budget_micro_cents: int = 1_000_000_000) -> None:
        self.settings = settings
        self.clock = VirtualClock()
        self.chance = random.Random(7)
        self.memory = RowMemory(RowCodec(rows.STORED_KINDS))
        self.epoch = self.memory.take()
        self.state = State(settings, self.clock.now())
        self.effects: tuple[effects.Effect, ...] = ()
        self._links = 0
        self.tell(events.ClaimAccepted("fab", "op", "operator-key"))
        self.give_slice("slice-1", budget_micro_cents)

    @property
    def now(self) -> float:
        return self.clock.now()

    @property
    def sent(self) -> list[Any]:
        """The frames that the last event sent to cells."""
        return [effect.frame for effect in self.effects if isinstance(effect, effects.SendToCell)]

    def tell(self, event: events.Event) -> effects.Decision:
        """Decides and applies; a refusal is raised, whether it left a record or not."""
        before = contents(self.state)
        try:
            decision = decide(self.state, event, self.now, self.chance)
        finally:
            assert contents(self.state) == before, "deciding changed the state"
        self.state.apply(decision.changes)
        self.memory.commit(decision.batch, self.epoch)
        self.effects = decision.effects
        if decision.refusal is not None:
            raise decision.refusal
        return decision

    def restart(self) -> None:
        """The process starts again from its disk."""
        self.state = State.load(self.settings, self.memory.load(), self.now)

    def wait(self, seconds: float, *cells: str) -> None:
        """Lets time pass, second by second; ``cells`` beat all the while."""
        for _ in range(int(seconds)):
            self.clock.advance(1.0)
            for cell_id in cells:
                self.say(cell_id, frames.Heartbeat(leased=Resources()))
            self.tell(events.Tick())

    # --- who takes part ---

    def give_slice(
        self,
        slice_id: str,
        amount: int,
        tenant: str = "ada",
        life_s: float = 86400.0,
        quota: Resources | None = None,
        key: str = "",
    ) -> Any:
        key = key or f"key-of-{tenant}"
        return self.tell(tenant_events.TenantRegistered(tenant, quota, slice_id, amount, self.now + life_s, key)).answer

    def register(self, cell_id: str = "cell-1", *, provider: str = "aws", cores: int = 2, mem: int = 2 * MIB) -> None:
        total = Resources(cpu_cores=cores, mem_bytes=mem)
        registration = messages.CellRegistration(cell_id, provider, "here", "1", total)
        self.tell(events.CellRegistered(registration, f"key-of-{cell_id}"))

    def set_terms(self, cell_id: str = "cell-1", *, rate: int = RATE, life_s: float = 0.0) -> None:
        self.tell(events.TermsSet(cell_id, rate, self.now + life_s if life_s else 0.0))

    def mint(self, cell_id: str, *, provider: str = "aws", **asked: Any) -> rows.Enrolment:
        """A bootstrap token for a cell."""
        request = BootstrapRequest(provider, cell_id, "here", RATE, **asked)
        made = self.tell(events.BootstrapAsked(request, "op")).answer
        assert isinstance(made, rows.Enrolment)
        return made

    def enrol(self, token: rows.Enrolment, key: str = "") -> rows.Identity:
        """The token is used, by the cell's usual key or another."""
        event = events.EnrolmentAsked(token.token_id, key or f"key-of-{token.cell_id}")
        identity = self.tell(event).answer
        assert isinstance(identity, rows.Identity)
        return identity

    def dial(self, cell_id: str = "cell-1", *, boot_epoch: int = 1, **said: Any) -> int:
        self._links += 1
        hello = frames.Hello(cell_id, boot_epoch, "1", **said)
        self.tell(events.LinkOpened(self._links, hello, f"key-of-{cell_id}"))
        return self._links

    def add_cell(self, cell_id: str = "cell-1", *, provider: str = "aws", cores: int = 2, mem: int = 2 * MIB) -> None:
        """A cell that is ready."""
        self.register(cell_id, provider=provider, cores=cores, mem=mem)
        self.set_terms(cell_id)
        self.dial(cell_id)

    # --- what they do ---

    def request(self, **changed: Any) -> messages.RunRequest:
        plain = messages.RunRequest(
            run_key="a-key-of-the-run",
            provider="aws",
            program="prog",
            tasklet="main",
            module_sha256="a" * 64,
            input_sha256="b" * 64,
            deadline_s=10.0,
        )
        return msgspec.structs.replace(plain, **changed)

    def ask(self, tenant: str = "ada", **changed: Any) -> rows.Run:
        """Asks for a run; gives its row."""
        answer = self.tell(events.RunRequested(tenant, self.request(**changed))).answer
        assert isinstance(answer, messages.RunView)
        return self.state.runs[answer.run_id]

    def say(self, cell_id: str, frame: Any, link_id: int = 0) -> None:
        self.tell(events.CellSaid(cell_id, link_id or self.state.link_of(cell_id), frame))

    def grant_all(self, run: rows.Run) -> None:
        for lease in self.state.leases_of(run):
            token = f"token-{lease.lease_id}-{lease.generation}"
            self.say(run.cell_id, frames.LeaseGranted(lease.lease_id, lease.generation, token))

    def start(self, **changed: Any) -> rows.Run:
        """A run that is running."""
        run = self.ask(**changed)
        self.grant_all(run)
        self.say(run.cell_id, frames.RunStarted(run.run_id))
        return self.state.runs[run.run_id]

    def report(self, run: rows.Run, code: str = "finished", /, *, seconds: float = 1.0, **changed: Any) -> None:
        """The cell says how the run ended; ``changed`` are fields of the receipt."""
        asked = run.request
        receipt = RunReceipt(
            fabric="fab",
            run_id=run.run_id,
            tenant=run.tenant,
            provider=asked.provider,
            cell_id=run.cell_id,
            region=run.region,
            tasklet=asked.tasklet,
            module_sha256=asked.module_sha256,
            input_sha256=asked.input_sha256,
            code=code,
            response_sha256="",
            output_sha256="",
            fuel_used=5,
            started_at=self.now,
            ended_at=self.now + seconds,
            boot_epoch=1,
        )
        receipt = msgspec.structs.replace(receipt, **changed)
        ended = frames.RunEnded(run.run_id, code, "words", 5, "{}", b"out", "log", Signed("run", b"", b""))
        link_id = self.state.link_of(run.cell_id)
        self.tell(events.RunReported(run.cell_id, link_id, ended, receipt))

    def tear_down(self, run: rows.Run, *, fenced: bool = False) -> None:
        """The cell says that the run's leases are gone, or are not."""
        for lease in self.state.leases_of(run):
            self.say(run.cell_id, frames.LeaseTornDown(lease.lease_id, lease.generation, fenced=fenced))

    def frames(self, kind: type[Frame]) -> list[Frame]:
        return [frame for frame in self.sent if isinstance(frame, kind)]


def contents(state: State) -> dict[str, Any]:
    """Everything that a state holds, for comparing. Empty groups of an index are no difference."""
    plain = {name: dict(value) for name, value in vars(state).items() if isinstance(value, dict) and name != "_by_kind"}
    nothing: tuple[Any, ...] = ({}, Resources())
    kept = {name: {k: v for k, v in value.items() if v not in nothing} for name, value in plain.items()}
    return kept | {"accounts": dict(state.ledger.accounts), "holds": dict(state.ledger.holds)}
