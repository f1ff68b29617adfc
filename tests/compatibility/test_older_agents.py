"""An agent of an older version at today's scheduler, and an older scheduler's words to today's agent, as recorded.

The frames are those that the older version's own code made (`record.py`): fields that came later are not in them. Only
tokens, ids and signatures are put in, since those are different each time.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from raw_link import RawLink
from standalone import CELL_ID, PROVIDER, Identity, Standalone

from grafos_cell import broker
from grafos_cell.broker_events import Booted, ForBroker, Report, StartWorker, Told
from grafos_cell.holdings import BrokerSettings, BrokerState
from grafos_core import receipts, trust
from grafos_core.receipts import Signed
from grafos_core.resources import Resources
from grafos_scheduler import frames, framing, messages

HERE = Path(__file__).parent
RECORDINGS = sorted(HERE.glob("*-frames.json"))
MODULE = b"a module"


@pytest.fixture(params=RECORDINGS, ids=lambda path: path.name.removesuffix("-frames.json"))
def recorded(request: pytest.FixtureRequest) -> dict[str, Any]:
    return json.loads(request.param.read_text())


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standalone]:
    made = Standalone(tmp_path_factory.mktemp("cell"))
    try:
        yield made.start()
    finally:
        made.discard()


@pytest.fixture(scope="module")
def operator(cell: Standalone) -> Identity:
    return cell.claimed()


@pytest.fixture(scope="module")
def tenant(cell: Standalone, operator: Identity) -> Identity:
    return cell.tenant(operator, "acme")


class OlderAgent:
    """Says what was recorded, with what is valid today in the places of tokens, ids and signatures."""

    def __init__(self, cell: Standalone, says: dict[str, Any]) -> None:
        self._says, self._cell, self._who = says, cell, cell.cell()
        with cell.client(self._who) as client:
            answer = client._exchange("POST", "/api/v1/cells/register", json.dumps(says["registration"]).encode())
        assert json.loads(answer)["protocol"] == says["registration"]["protocol_max"]
        self.link = RawLink(cell, self._who)
        self.say("hello", api_token=self._who.token, boot_epoch=time.time_ns() // 1_000_000)
        self.welcome = self.link.hear()
        self.say("heartbeat")

    def say(self, kind: str, **put_in: Any) -> None:
        body = msgspec.msgpack.encode({**self._says[kind], **put_in})
        self.link.say_bytes(len(body).to_bytes(framing.FRAME_HEAD_BYTES, "big") + body)

    def until_start(self) -> frames.StartRun:
        while True:
            frame = self.link.hear()
            if isinstance(frame, frames.StartRun):
                return frame
            if isinstance(frame, frames.GrantLease):
                self.say("lease_granted", lease_id=frame.lease_id, generation=frame.generation)

    def end(self, start: frames.StartRun) -> None:
        self.say("run_ended", run_id=start.run_id, output=b"", receipt=self._receipt(start))

    def close(self, run_id: str) -> None:
        """Until the end is noted and the lease is to be torn down, in whichever order."""
        heard: set[type[frames.DownFrame]] = set()
        while heard < {frames.RunEndedNoted, frames.TearDownLease}:
            frame = self.link.hear()
            assert frame is not None
            heard.add(type(frame))
            if isinstance(frame, frames.TearDownLease):
                self.say("lease_torn_down", lease_id=frame.lease_id, generation=frame.generation)
            elif isinstance(frame, frames.RunEndedNoted):
                assert frame.run_id == run_id
        self.link.close()

    def _receipt(self, start: frames.StartRun) -> dict[str, Any]:
        recorded = json.loads(base64.b64decode(self._says["run_ended"]["receipt"]["body"]))
        same = {name: getattr(start, name) for name in ("run_id", "tenant", "module_sha256", "input_sha256", "tasklet")}
        now = time.time()
        body = {**recorded, **same, "fabric": self._cell.fabric.id, "region": start.region}
        body |= {"started_at": now, "ended_at": now + 0.5, "provider": PROVIDER, "cell_id": CELL_ID}
        raw = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
        key = trust.key_from_pem(self._who.key.read_bytes())
        signature = trust.sign(key, receipts._message("run", raw))
        return {
            "kind": "run",
            "body": raw,
            "signature": signature,
            "certificate_pem": self._who.certificate.read_text(),
        }


def a_run(cell: Standalone, tenant: Identity, **changed: Any) -> messages.RunView:
    with cell.client(tenant) as client:
        sha256 = client.put_blob(MODULE)
        asked = messages.RunRequest(f"a-run-of-{time.time_ns()}", PROVIDER, "p", "t", sha256, "", **changed)
        return client.start_run(asked)


def test_an_older_agent_runs_what_it_is_asked_to_and_is_paid(
    cell: Standalone, operator: Identity, tenant: Identity, recorded: dict[str, Any]
) -> None:
    agent = OlderAgent(cell, recorded["says"])
    assert isinstance(agent.welcome, frames.Welcome)
    assert agent.welcome.protocol == recorded["says"]["hello"]["protocol_max"]
    view = a_run(cell, tenant)
    start = agent.until_start()
    agent.say("run_started", run_id=start.run_id)
    agent.say("blob_wanted", sha256=start.module_sha256)
    assert agent.link.hear_one(frames.BlobData).data == MODULE
    agent.end(start)
    agent.close(view.run_id)
    with cell.client(tenant) as client:
        ended = client.run(view.run_id)
        assert (ended.state, ended.cost.lease_seconds) == ("finished", 0.5)
        assert ended.cost.micro_cents > 0
        signed = client.artifacts(view.run_id).receipt
    receipts.open_signed_by_cell(signed, receipts.RunReceipt, cell.ca_pem, at_field="ended_at")


def test_an_older_agent_is_told_nothing_that_it_does_not_understand(
    cell: Standalone, operator: Identity, tenant: Identity, recorded: dict[str, Any]
) -> None:
    """A lease is taken back: of an agent of the first protocol it is torn down, for that is all it knows."""
    agent = OlderAgent(cell, recorded["says"])
    a_run(cell, tenant)
    start = agent.until_start()
    agent.say("run_started", run_id=start.run_id)
    with cell.client(operator) as boss:
        [lease] = boss.leases(start.run_id)
        boss.revoke_lease(lease.lease_id, grace_s=0.0)
    heard = agent.link.hear()
    knows = recorded["says"]["hello"]["protocol_max"] >= messages.REVOKING_SINCE
    assert isinstance(heard, frames.RevokeLease if knows else frames.TearDownLease)
    agent.end(start)
    agent.say("lease_torn_down", lease_id=lease.lease_id, generation=lease.generation)
    agent.link.hear_one(frames.RunEndedNoted)
    agent.link.close()


def test_today_s_agent_understands_an_older_scheduler(recorded: dict[str, Any]) -> None:
    told = [
        msgspec.msgpack.decode(msgspec.msgpack.encode(_with_bytes(frame)), type=frames.DownFrame)
        for frame in recorded["is_told"]
    ]
    kinds = {type(frame) for frame in told}
    assert {frames.Welcome, frames.GrantLease, frames.StartRun, frames.RunEndedNoted, frames.TearDownLease} <= kinds
    has = Resources(cpu_cores=2, mem_bytes=1 << 24)
    state = BrokerState.load(BrokerSettings("fabric", "cell-1", has, b"key", lambda _: Signed("run", b"", b"")), ())
    now = next(frame.expires_at for frame in told if isinstance(frame, frames.GrantLease)) - 60
    tokens: tuple[str, ...] = ()
    began = []
    state.apply(broker.decide(state, Booted(), now).batch)
    for frame in told:
        if not isinstance(frame, ForBroker):
            continue
        asked = msgspec.structs.replace(frame, tokens=tokens) if isinstance(frame, frames.StartRun) else frame
        decision = broker.decide(state, Told(asked), now)
        state.apply(decision.batch)
        for effect in decision.effects:
            if isinstance(effect, Report) and isinstance(effect.frame, frames.LeaseGranted):
                tokens = (effect.frame.token,)
            if isinstance(effect, StartWorker):
                began.append(effect.start.run_id)
    assert began == ["run-of-a-recording"]


def test_there_is_a_recording_of_each_protocol_that_is_still_spoken() -> None:
    spoken = {json.loads(path.read_text())["says"]["hello"]["protocol_max"] for path in RECORDINGS}
    assert spoken == set(range(messages.PROTOCOL_MIN, messages.PROTOCOL_MAX + 1))


def _with_bytes(frame: dict[str, Any]) -> dict[str, Any]:
    """JSON has no bytes."""
    return {**frame, "data": base64.b64decode(frame["data"])} if "data" in frame else frame
