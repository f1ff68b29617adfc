"""Real processes, real SIGKILLs: whatever was acknowledged is there afterwards, and is counted once.

The simulator kills at every commit and every effect, in one process and from one seed. Here the same promises are held
by the programs themselves, their disks and their sockets, under a stream of small runs.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from standalone import Identity, Standalone
from tasklets import tasklet

from grafos_core.errors import GrafosError
from grafos_core.receipts import RunReceipt, Settlement, open_signed_by_cell
from grafos_scheduler import messages

SEED = 20261121
KILLS = 20
CLIENTS = 3
PAUSE_S_MAX = 0.1
"""Before each kill: a run takes a part of this, a recovery a few times as long."""
FROM_FULL_WORK = 0.7
"""The share of kills that wait until runs end again; the others meet the recovery from the kill before."""
RECOVERY_S = 40.0
"""For whatever the last kill left under way to come to its end."""
ENDED = {"finished", "failed", "expired"}

SPIN = tasklet(
    run_locals="(local $left i32)",
    run="""(local.set $left (i32.const 3000000))
           (loop $again
             (local.set $left (i32.sub (local.get $left) (i32.const 1)))
             (br_if $again (local.get $left)))
           i32.const 0""",
)
"""Takes some milliseconds, so that kills meet it under way."""


class Customer(threading.Thread):
    """Asks for runs, one after another, and repeats each question until it is answered."""

    def __init__(self, cell: Standalone, tenant: Identity, name: str, module: str) -> None:
        super().__init__(daemon=True)
        self.client = cell.client(tenant, patience_s=RECOVERY_S, timeout_s=RECOVERY_S)
        self.name = name
        self.module = module
        self.is_told_to_stop = threading.Event()
        self.acknowledged: dict[str, str] = {}
        self.ended: dict[str, messages.RunView] = {}
        self.trouble: list[BaseException] = []

    def run(self) -> None:
        number = 0
        try:
            while not self.is_told_to_stop.is_set():
                number += 1
                self.one_run(f"{self.name}-{number:010d}")
        except BaseException as error:  # noqa: BLE001  # the test's own thread shows it
            self.trouble.append(error)

    def one_run(self, run_key: str) -> None:
        view = self.ask(run_key)
        if view is None:
            return
        self.acknowledged[run_key] = view.run_id
        while view.state not in ENDED:
            view = self.client.run(view.run_id, wait_s=2.0)
        self.ended[run_key] = view

    def ask(self, run_key: str) -> messages.RunView | None:
        """The admitted run; None if it was told to stop before there was one."""
        request = messages.RunRequest(run_key, "local", "sigkill", "spin", self.module, "", fuel=10**9, deadline_s=20.0)
        while True:
            try:
                return self.client.start_run(request)
            except GrafosError as error:
                if not error.retryable:
                    raise
            if self.is_told_to_stop.wait(0.02):
                return None


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[Standalone]:
    made = Standalone(tmp_path)
    yield made
    made.discard()


def kill_and_restart(cell: Standalone, victim: str) -> None:
    if victim == "scheduler":
        cell.scheduler.end(signal.SIGKILL)
        cell.start()
    else:
        cell.daemon.end(signal.SIGKILL)
        cell.begin_cell()


def wait_for_progress(customers: list[Customer]) -> None:
    """Returns once another run has ended; a test failure if none does."""
    before, deadline = sum(len(customer.ended) for customer in customers), time.monotonic() + RECOVERY_S
    while sum(len(customer.ended) for customer in customers) <= before:
        assert time.monotonic() < deadline, [customer.trouble for customer in customers]
        time.sleep(0.005)


def everything_ended(cell: Standalone, operator: Identity) -> list[messages.RunView]:
    """All runs, once none is under way and no lease is left; a test failure if that takes too long."""
    deadline = time.monotonic() + RECOVERY_S
    with cell.client(operator, patience_s=RECOVERY_S) as client:
        while True:
            runs = list(client.all_runs())
            leased = [view.leased.amounts() for view in client.cells()]
            if all(run.state in ENDED | {"refused"} for run in runs) and not any(map(any, leased)):
                return runs
            assert time.monotonic() < deadline, (leased, [run for run in runs if run.state not in ENDED])
            time.sleep(0.1)


@pytest.mark.timeout(300)
def test_twenty_kills_lose_no_acknowledged_run_or_cent_and_charge_none_twice(cell: Standalone) -> None:
    chance = random.Random(SEED)
    cell.start().start_cell()
    operator = cell.claimed()
    tenant = cell.tenant(operator, "acme")
    with cell.client(tenant) as client:
        module = client.put_blob(SPIN)
    customers = [Customer(cell, tenant, f"customer-{number}", module) for number in range(CLIENTS)]
    for customer in customers:
        customer.start()

    for _ in range(KILLS):
        if chance.random() < FROM_FULL_WORK:
            wait_for_progress(customers)
        time.sleep(chance.uniform(0.0, PAUSE_S_MAX))
        kill_and_restart(cell, chance.choice(["scheduler", "cell"]))
    for customer in customers:
        customer.is_told_to_stop.set()
        customer.join(RECOVERY_S)
        assert not customer.is_alive()
        customer.client.close()
        assert customer.trouble == []

    final = {run.run_id: run for run in everything_ended(cell, operator)}
    check_runs(customers, final)
    check_money(cell, operator, final)
    check_receipts(cell, tenant, final)


def check_runs(customers: list[Customer], final: dict[str, messages.RunView]) -> None:
    """Each acknowledged run is there under one id, and what was seen of its end never changed."""
    acknowledged = [run_id for customer in customers for run_id in customer.acknowledged.values()]
    ended = [view for customer in customers for view in customer.ended.values()]
    print(f"{KILLS} kills, {len(final)} runs, {sum(run.state == 'finished' for run in final.values())} finished")
    assert len(acknowledged) == len(set(acknowledged)) >= KILLS
    assert set(acknowledged) <= set(final)
    assert [view for view in ended if final[view.run_id] != view] == []
    assert {run.code for run in final.values() if run.state == "failed"} <= {"cell_lost"}


def check_money(cell: Standalone, operator: Identity, final: dict[str, messages.RunView]) -> None:
    """What was spent is the sum of what the runs cost, and nothing is held any more."""
    with cell.client(operator) as client:
        [view] = client.tenants()
        [signed] = client.settle()
    settlement = open_signed_by_cell(signed, Settlement, cell.ca_pem, at_field="settled_at")
    cost = sum(run.cost.micro_cents for run in final.values())
    assert (view.spent_micro_cents, view.held_micro_cents) == (cost, 0)
    assert (settlement.spent_micro_cents, settlement.final) == (cost, True)


def check_receipts(cell: Standalone, tenant: Identity, final: dict[str, messages.RunView]) -> None:
    """Every finished run has a receipt that its cell signed for that very run."""
    with cell.client(tenant) as client:
        for run in final.values():
            if run.state == "finished":
                receipt = open_signed_by_cell(
                    client.artifacts(run.run_id).receipt, RunReceipt, cell.ca_pem, at_field="ended_at"
                )
                assert (receipt.run_id, receipt.code) == (run.run_id, "finished")


def test_a_killed_scheduler_finds_its_operator_and_a_closed_claim_again(cell: Standalone) -> None:
    cell.start()
    operator = cell.claimed()
    cell.scheduler.end(signal.SIGKILL)
    cell.start()
    with cell.client(operator) as client:
        assert client.health().claimed
    with pytest.raises(GrafosError) as caught:
        cell.claim(cell.request("another"))
    assert caught.value.code == "claim_refused"


def test_a_claim_whose_answer_was_lost_in_a_kill_is_repeated_with_the_same_request(cell: Standalone) -> None:
    cell.start()
    csr_pem = cell.request("operator")
    first = cell.claim(csr_pem)
    cell.scheduler.end(signal.SIGKILL)
    cell.start()
    again = cell.claim(csr_pem)
    assert msgspec.structs.replace(again, certificate_pem="", api_token="") == msgspec.structs.replace(
        first, certificate_pem="", api_token=""
    )
    operator = cell.identity("operator", again.certificate_pem, again.api_token)
    with cell.client(operator) as client:
        assert client.tenants() == []
