"""What an agent does when its certificate was renewed and its link goes on: it tells what its machine has now."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest

from grafos_cell.agent import Agent
from grafos_cell.holdings import STORED_KINDS, BrokerSettings, BrokerState
from grafos_cell.identity import CA_FILE, CERTIFICATE_FILE, KEY_FILE, TOKEN_FILE, Identity
from grafos_cell.membership import BesideScheduler
from grafos_cell.settings import Settings
from grafos_core import trust
from grafos_core.changes import RowCodec
from grafos_core.clock import SystemClock
from grafos_core.errors import GrafosError
from grafos_core.receipts import Signed
from grafos_core.resources import Resources
from grafos_core.rowstore import MemoryStore, RowMemory

TOTAL = Resources(cpu_cores=1)


class Unreadable(BesideScheduler):
    """A machine that does not say what it has."""

    def __init__(self, settings: Settings, fault: Exception) -> None:
        super().__init__(settings)
        self._fault = fault
        self.asked = 0

    def inventory(self) -> Resources:
        self.asked += 1
        raise self._fault


def identity_in(folder: Path) -> Identity:
    now, ca_key, key = time.time(), trust.new_key(), trust.new_key()
    ca_pem = trust.make_ca(ca_key, "the test", now)
    uri, csr_pem = trust.spiffe_id("fab", "cell", "cell-1", "aws"), trust.make_csr(key, "cell-1")
    (folder / CA_FILE).write_text(ca_pem)
    (folder / CERTIFICATE_FILE).write_text(trust.sign_csr(ca_pem, ca_key, csr_pem, uri, now, 600.0))
    (folder / KEY_FILE).write_bytes(trust.key_to_pem(key))
    (folder / TOKEN_FILE).write_text("a token")
    return Identity(folder)


FAULTS = {"os": OSError("the disk says nothing"), "net": GrafosError("scheduler_unreachable", "nobody answers")}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_machine_that_does_not_say_what_it_has_keeps_its_daemon(tmp_path: Path, fault: Exception) -> None:
    async def story() -> None:
        settings = Settings("https://127.0.0.1:1", tmp_path, tmp_path / "state", TOTAL)
        state = BrokerState(BrokerSettings("fab", "cell-1", TOTAL, b"key", lambda _: Signed("run", b"", b"")))
        store = MemoryStore(RowMemory(RowCodec(STORED_KINDS)))
        member, clock = Unreadable(settings, fault), SystemClock()
        agent = Agent(settings, member, identity_in(tmp_path), state, store, clock, random.Random(1))
        agent.renewed(link_goes_on=True)
        await asyncio.gather(*agent._in_work, return_exceptions=True)
        await asyncio.sleep(0)  # its end is looked at
        assert member.asked == 1
        assert not agent.stopped.done()
        await agent.close()

    asyncio.run(story())
