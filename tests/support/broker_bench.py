"""A cell's broker on a bench: tell it what happened, see what it decided. No process, no wire, no worker.

Each decision is checked on the way: it changed nothing by itself, and its batch survives the disk's codec.
"""

from __future__ import annotations

from typing import Any

import pytest

from grafos_cell import broker, broker_tokens, holdings
from grafos_cell.broker_events import Booted, Decision, Event, Report, StartServing, StartWorker, Tick, Told
from grafos_cell.holdings import BrokerSettings, BrokerState
from grafos_core.changes import RowCodec
from grafos_core.clock import VirtualClock
from grafos_core.errors import GrafosError
from grafos_core.receipts import InstanceReceipt, RunReceipt, Signed
from grafos_core.resources import Resources
from grafos_core.rowfile import RowMemory
from grafos_core.tokens import Use
from grafos_scheduler import frames
from grafos_scheduler.service_frames import StartInstance

TOTAL = Resources(cpu_cores=2, mem_bytes=1000, block_bytes=4096)
CPU, MEM, BLOCK, LISTENER = "03" + "0" * 30, "01" + "0" * 30, "02" + "0" * 30, "06" + "0" * 30
KINDS = {"03": "cpu", "01": "mem", "02": "block", "06": "listener"}
USE = Use(broker_tokens.START, "run-1", "main")


class Bench:
    """A broker and its disk. ``receipts`` are those that it had signed."""

    def __init__(self, cell_id: str = "cell-1", token_key: bytes = b"key of the cell") -> None:
        self.clock = VirtualClock()
        self.memory = RowMemory(RowCodec(holdings.STORED_KINDS))
        self.receipts: list[RunReceipt | InstanceReceipt] = []
        self.settings = BrokerSettings("fab", cell_id, TOTAL, token_key, self._sign)
        self.boot()

    def _sign(self, receipt: RunReceipt | InstanceReceipt) -> Signed:
        self.receipts.append(receipt)
        is_run = isinstance(receipt, RunReceipt)
        return Signed("run" if is_run else "instance", receipt.code.encode(), b"signature")

    def boot(self) -> Decision:
        """The daemon starts (again) from its disk."""
        self.epoch = self.memory.take()
        self.state = BrokerState.load(self.settings, self.memory.load())
        return self.tell(Booted())

    def tell(self, event: Event) -> Decision:
        rows = {**self.state.leases, **self.state.runs, **self.state.instances}
        decision = broker.decide(self.state, event, self.clock.now())
        assert {**self.state.leases, **self.state.runs, **self.state.instances} == rows, "deciding changed the state"
        self.state.apply(decision.batch)
        self.memory.commit(decision.batch, self.epoch)
        return decision

    def grant(self, lease_id: str = CPU, generation: int = 1, **changed: Any) -> Any:
        """What the broker answers to a request for a lease."""
        plain: dict[str, Any] = {
            "tenant": "ada",
            "kind": KINDS.get(lease_id[:2], ""),
            "amount": 1,
            "expires_at": self.clock.now() + 60.0,
        }
        frame = frames.GrantLease(lease_id=lease_id, generation=generation, **(plain | changed))
        effect = self.tell(Told(frame)).effects[0]
        assert isinstance(effect, Report)
        return effect.frame

    def token(self, lease_id: str = CPU, generation: int = 1, **changed: Any) -> str:
        granted = self.grant(lease_id, generation, **changed)
        assert isinstance(granted, frames.LeaseGranted), granted
        return granted.token

    def start(self, *tokens: str, run_id: str = "run-1", tenant: str = "ada", deadline_s: float = 10.0) -> Decision:
        sha256 = "a" * 64
        return self.tell(
            Told(
                frames.StartRun(
                    run_id, tenant, "aws", "here", "main", sha256, sha256, 1, 65536, deadline_s, tuple(tokens)
                )
            )
        )

    def serve(self, *tokens: str, instance_id: str = "inst-1", **changed: Any) -> Decision:
        """The scheduler starts an instance under these tokens, of a CPU and a listener lease unless it says else."""
        plain: dict[str, Any] = {
            "service": "echo",
            "generation": 1,
            "tenant": "ada",
            "program": "p",
            "module_sha256": "a" * 64,
            "listener_port": 8080,
            "max_sessions": 64,
            "memory_bytes": 65536,
            "leases": (CPU, LISTENER),
            "tokens": tokens,
            "fuel_per_session": 1000,
            "fuel_per_s_max": 0,
            "drain_deadline_s": 30.0,
        }
        return self.tell(Told(StartInstance(instance_id=instance_id, **(plain | changed))))

    def serving(self) -> None:
        """An instance, going."""
        decision = self.serve(self.token(CPU), self.token(LISTENER, amount=8080))
        assert isinstance(decision.effects[-1], StartServing)

    def going(self) -> None:
        """A run on a CPU and a memory lease, going."""
        decision = self.start(self.token(CPU), self.token(MEM, amount=600))
        assert isinstance(decision.effects[-1], StartWorker)

    def tear_down(self, lease_id: str = CPU, generation: int = 1) -> Decision:
        return self.tell(Told(frames.TearDownLease(lease_id, generation)))

    def wait(self, seconds: float) -> Decision:
        self.clock.advance(seconds)
        return self.tell(Tick())

    def refusal(self, token: str, use: Use = USE) -> str:
        with pytest.raises(GrafosError) as refusal:
            broker_tokens.check_token(self.state, token, use, self.clock.now())
        return refusal.value.code

    def lease(self, lease_id: str = CPU) -> holdings.HeldLease:
        return self.state.leases[lease_id]
