"""Days on which much goes wrong while many deploy: no way between cells and orchestrator, a cell that sends garbage,
and an orchestrator that is put back from a backup of its database."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from crowd import Crowd, until
from orchestrator import HAS, Orchestrator
from postgresql import PASSWORD, Server

DEPLOYS = 120
BUDGET_CENTS = 100
BLOW_AFTER = 30
PARTITION_S = 4.0
"""Longer than the orchestrator waits for a heartbeat."""


class Way:
    """A way of TCP to a port that can be cut and mended."""

    def __init__(self, port: int) -> None:
        self._to = ("127.0.0.1", port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listening.getsockname()[1]}"
        self._open: list[socket.socket] = []
        self.is_cut = False
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self.is_cut = True
        for end in self._open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.cut()
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            if self.is_cut:
                near.close()
                continue
            far = socket.create_connection(self._to)
            self._open += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=_carry, args=(one, other), daemon=True).start()


def _carry(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError), one, other:
        while data := one.recv(65536):
            other.sendall(data)


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Orchestrator]:
    made = Orchestrator(tmp_path)
    try:
        yield made.start()
    finally:
        made.discard()


def test_a_partition_between_all_cells_and_the_orchestrator_loses_no_run_and_no_cent(alone: Orchestrator) -> None:
    way = Way(alone.port)
    crowd = Crowd([alone], alone.claimed(), BUDGET_CENTS, cells_dial=way.url)

    def partition() -> None:
        way.cut()
        time.sleep(PARTITION_S)
        way.is_cut = False

    try:
        crowd.wait_ready()
        crowd.deploy(DEPLOYS, partition, blow_after=BLOW_AFTER)
        crowd.check(alone)
    finally:
        crowd.close()
        way.close()
    assert {view.state for view in crowd.ends.values()} == {"finished"}, "what went on while it was cut off came home"


def test_a_cell_that_sends_garbage_gets_nothing_new_and_harms_nobody_else(alone: Orchestrator) -> None:
    operator = alone.claimed()
    crowd = Crowd([alone], operator, BUDGET_CENTS)
    crowd.gives_up_s = 3.0
    crowd.refusals |= {"runtime_not_ready", "no_eligible_provider_cells"}
    try:
        crowd.wait_ready()
        crowd.deploy(DEPLOYS, lambda: crowd.cells.babble(0, b"\x00\x00\x00\x05nonsense"), blow_after=BLOW_AFTER)
        crowd.check(alone)
        with alone.client(operator) as boss:
            said = {cell.cell_id: cell for cell in boss.cells()}
    finally:
        crowd.close()
    assert "what no cell sends" in said["aws-crowd"].fault
    assert [said[name].ready for name in ("aws-crowd", "gcp-crowd", "azure-crowd")] == [False, True, True]
    others = [view for view in crowd.ends.values() if view.provider != "aws"]
    assert {view.state for view in others} == {"finished"}


@pytest.mark.needs("postgresql")
def test_an_orchestrator_put_back_from_a_dump_of_its_database_knows_cells_tenants_and_money(
    tmp_path: Path, database_server: Server
) -> None:
    """As docs/how-to/postgresql.md has it: a dump while it runs, an empty database, the same trust folder."""
    password = PASSWORD.replace("/", "%2F")
    at = Orchestrator(tmp_path, database=database_server.url(database_server.make("before"), password=password))
    try:
        at.start()
        operator = at.claimed()
        tenant = at.employ(operator, "acme", budget_cents=7)
        member = at.joined(operator, "gcp-1", "gcp")
        member.register(HAS)
        dump = database_server.dump("before")
        at.employ(operator, "late")
        assert at.scheduler is not None
        at.scheduler.end()
        database_server.restore(database_server.make("after"), dump)
        at.flags["database"] = database_server.url("after", password=password)
        at.start()
        with at.client(operator) as boss:
            until(lambda: not boss.health().leader)  # the dump has the lease of whoever led when it was made
            assert [(one.name, one.budget_micro_cents) for one in boss.tenants()] == [("acme", 7_000_000)]
            assert [cell.cell_id for cell in boss.cells()] == ["gcp-1"]
        with at.client(tenant) as client:
            assert list(client.all_runs()) == []
        link = member.link()
        member.hello(link)
        with at.client(operator) as boss:
            until(lambda: boss.cells()[0].readiness["outbound_registered"].met)
        link.close()
    finally:
        at.discard()
