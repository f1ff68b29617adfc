"""The story that `record.py` has an older version play: run in that version's own folder, with its own code."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
from standalone import PROVIDER, Standalone
from tasklets import tasklet

from grafos_cell import broker
from grafos_cell.broker_events import Booted, LinkUp, Report, Told, Unbound, WorkerEnded
from grafos_cell.holdings import BrokerSettings, BrokerState
from grafos_core.receipts import Signed
from grafos_core.resources import Resources
from grafos_scheduler import messages

try:
    from grafos_scheduler import frames
except ImportError:  # before they had a module of their own
    frames = messages  # type: ignore[assignment]

WITHIN_S = 30.0
AGENT_VERSION = "0.1.0"
LEASE, RUN, SHA256 = "a" * 32, "run-of-a-recording", "b" * 64
MIB = 1 << 20


def main() -> None:
    mode, folder = sys.argv[1], Path(sys.argv[2])
    play(mode, folder)
    if mode == "cell":
        (folder / "frames.json").write_text(json.dumps(said_frames(), indent=1) + "\n")


# --- a database -------------------------------------------------------------------------------------------------


def play(mode: str, folder: Path) -> None:
    """Leaves a scheduler's state, and what must be found in it."""
    at, operator, tenant, daemon, provider = begin(mode, folder)
    daemon.wait_ready()
    with at.client(tenant) as client:
        module = client.put_blob(tasklet())

        def run(key: str, where: str) -> Any:
            return client.start_run(messages.RunRequest(key, where, "story", "main", module, "", deadline_s=20.0))

        until(lambda: all(cell.ready for cell in client.cells()))
        finished = run("the-run-that-finishes", provider)
        until(lambda: client.run(finished.run_id).ended_at)
        until(lambda: not client_leases(at, operator))
        try:
            run("the-run-that-is-refused", "nowhere")
        except Exception as refusal:  # noqa: BLE001  # of whatever class it was then
            print("refused:", refusal)
        daemon.popen.send_signal(signal.SIGSTOP)
        under_way = run("the-run-that-is-under-way", provider)
        runs = {view.run_id: msgspec.to_builtins(view) for view in client.runs().runs}
    with at.client(operator) as boss:
        found = {
            "runs": runs,
            "finished": finished.run_id,
            "under_way": under_way.run_id,
            "tenants": msgspec.to_builtins(boss.tenants()),
            "cells": [cell.cell_id for cell in boss.cells()],
        }
    at.scheduler.end(signal.SIGKILL)
    daemon.discard()
    (folder / "found.json").write_text(json.dumps(found, indent=1) + "\n")


def begin(mode: str, folder: Path) -> tuple[Any, Any, Any, Any, str]:
    if mode == "cell":
        at = Standalone(folder).start()
        operator = at.claimed()
        tenant = at.tenant(operator, "acme", expires_at=4e9)
        return at, operator, tenant, at.begin_cell(), PROVIDER
    from orchestrator import Orchestrator

    at = Orchestrator(folder)
    at.start()
    operator = at.claimed()
    tenant = at.employ(operator, "acme", budget_cents=500)
    return at, operator, tenant, at.joined(operator, "cell-1").begin(), "aws"


def client_leases(at: Any, operator: Any) -> list[Any]:
    """Those that stand; a version that could not tell has let them go by now."""
    with at.client(operator) as boss:
        time.sleep(1.0)
        return boss.leases() if hasattr(boss, "leases") else []


def until(look: Any) -> None:
    end = time.monotonic() + WITHIN_S
    while not look():
        assert time.monotonic() < end
        time.sleep(0.05)


# --- frames -----------------------------------------------------------------------------------------------------


def said_frames() -> dict[str, Any]:
    """What the agent says and what it is told, each frame as it goes onto the wire. Tokens and signatures are nobody's:
    whoever plays these puts valid ones in their place."""
    has = Resources(cpu_cores=2, mem_bytes=16 * MIB)
    rules = BrokerSettings("fabric", "cell-1", has, b"key", unsigned)
    state = BrokerState.load(rules, ())
    now = time.time()

    def happens(event: Any) -> list[Any]:
        decision = broker.decide(state, event, now)
        state.apply(decision.batch)
        return [plain(effect.frame) for effect in decision.effects if isinstance(effect, Report)]

    def tell(frame: Any) -> list[Any]:
        return happens(Told(frame))

    happens(Booted())
    grant = frames.GrantLease(LEASE, 1, "acme", "cpu", 1, now + 60)
    said: dict[str, Any] = {
        "registration": plain(messages.CellRegistration("cell-1", PROVIDER, "here", AGENT_VERSION, has)),
        "hello": plain(broker.hello(state, AGENT_VERSION)),
        "heartbeat": plain(broker.heartbeat(state)),
    }
    happens(LinkUp())
    [said["lease_granted"]] = tell(grant)
    token = said["lease_granted"]["token"]
    start = frames.StartRun(RUN, "acme", PROVIDER, "here", "main", SHA256, SHA256, 500_000, 1 << 20, 20.0, (token,))
    [said["run_started"]] = tell(start)
    said["blob_wanted"] = plain(frames.BlobWanted(SHA256))
    [said["run_ended"]] = happens(WorkerEnded(RUN, "finished", "", 7, '"ok"', b"", ""))
    noted = frames.RunEndedNoted(RUN)
    tell(noted)
    down = frames.TearDownLease(LEASE, 1)
    tell(down)
    [said["lease_torn_down"]] = happens(Unbound(LEASE, 1))
    told = [
        frames.Welcome(messages.PROTOCOL_MAX, 5.0),
        frames.Goodbye("interrupted", "the scheduler stops"),
        grant,
        start,
        frames.BlobData(SHA256, found=True, data=b"module"),
        noted,
        down,
    ]
    return {"says": said, "is_told": [plain(frame) for frame in told]}


def unsigned(receipt: Any) -> Signed:
    return Signed("run", msgspec.json.encode(receipt, order="sorted"), b"")


def plain(frame: Any) -> Any:
    return msgspec.to_builtins(frame)


if __name__ == "__main__":
    main()
