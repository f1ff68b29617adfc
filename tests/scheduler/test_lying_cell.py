"""Cells that do not behave: they send garbage, lie, or are two. What is noticed, and what becomes of them."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

import pytest
from orchestrator import HAS, Member, Orchestrator, key_of
from raw_link import RawLink
from standalone import Identity

from grafos_cell.conformance.end_to_end import try_each
from grafos_cell.conformance.suite import CASES
from grafos_core import receipts
from grafos_core.errors import GrafosError
from grafos_core.ids import sha256_of
from grafos_core.resources import Resources
from grafos_scheduler import frames, messages
from grafos_scheduler.cells import SIGNALS

SAYS = '"all is well"'
READY_WITHIN_S = 60.0


class LyingCell:
    """Grants what it is asked for, runs nothing, and says of every run that it finished well."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.link: RawLink = member.link()
        assert isinstance(member.hello(self.link), frames.Welcome)
        self.link.say(frames.Heartbeat(Resources()))
        self._thread = threading.Thread(target=self._play, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.link.close()
        self._thread.join()

    def _play(self) -> None:
        try:
            while (frame := self.link.hear()) is not None:
                self._answer(frame)
        except (OSError, ValueError):
            pass  # the test has closed the link

    def _answer(self, frame: frames.DownFrame) -> None:
        if isinstance(frame, frames.GrantLease):
            self.link.say(frames.LeaseGranted(frame.lease_id, frame.generation, "a-token"))
        elif isinstance(frame, frames.TearDownLease):
            self.link.say(frames.LeaseTornDown(frame.lease_id, frame.generation), frames.Heartbeat(Resources()))
        elif isinstance(frame, frames.StartRun):
            self.link.say(frames.RunStarted(frame.run_id), self._end(frame))

    def _end(self, start: frames.StartRun) -> frames.RunEnded:
        now, member = time.time(), self.member
        receipt = receipts.RunReceipt(
            fabric=str(member.at.fabric.id),
            run_id=start.run_id,
            tenant=start.tenant,
            provider=start.provider,
            cell_id=member.cell_id,
            region=start.region,
            tasklet=start.tasklet,
            module_sha256=start.module_sha256,
            input_sha256=start.input_sha256,
            code="finished",
            response_sha256=sha256_of(SAYS.encode()),
            output_sha256=sha256_of(b""),
            fuel_used=1,
            started_at=now,
            ended_at=now,
            boot_epoch=1,
        )
        signed = receipts.sign_record(receipt, key_of(member.identity), member.identity.certificate.read_text())
        return frames.RunEnded(start.run_id, "finished", "", 1, SAYS, b"", "", signed)


@pytest.fixture
def liar(orchestrator: Orchestrator, operator: Identity) -> Iterator[LyingCell]:
    member = orchestrator.joined(operator, "aws-liar")
    member.register(HAS)
    cell = LyingCell(member)
    yield cell
    cell.close()


def test_a_cell_that_lies_in_good_form_does_not_conform_and_in_production_gets_nothing(
    orchestrator: Orchestrator, operator: Identity, liar: LyingCell
) -> None:
    tenant = orchestrator.employ(operator, "acme")
    with orchestrator.client(operator) as client:
        until = time.monotonic() + READY_WITHIN_S
        while not client.provider("aws").ready:
            assert time.monotonic() < until, client.providers()
            time.sleep(0.05)
        view = client.mark_production("aws", production=True)
        assert (view.production, view.ready) == (True, False)
        cell = client.open_trial("aws-liar", "acme", 60.0)
        names = ("smallest-module", "hooks-in-order", "context")
        cases = [case for case in CASES if case.name in names]
        tried = list(try_each(cases, cell, lambda: orchestrator.client(tenant)))
        assert [each.row.is_as_expected for each in tried] == [False] * len(names)
        assert all(each.run_id for each in tried), "each was a run"
        wrong = tuple(each.row.name for each in tried)
        client.report_conformance("aws-liar", messages.Conformance("a part", len(tried), wrong))
        assert "failed in 3 of 3 cases" in client.provider("aws").unmet["aws-liar"]["code_enabled"]
        readiness = client.provider("aws").runtime_readiness
        assert [name for name, signal in readiness.items() if not signal.met] == ["code_enabled"]
        assert tuple(readiness) == SIGNALS
        client.mark_production("aws", production=False)


# --- garbage, an inventory, and two of one identity ------------------------------------------------------------------


_numbers = itertools.count(1)


@pytest.fixture
def member(orchestrator: Orchestrator, operator: Identity) -> Member:
    """A cell of its own for each test, enrolled and registered."""
    joined = orchestrator.joined(operator, f"aws-{next(_numbers)}")
    joined.register()
    return joined


@pytest.fixture
def links() -> Iterator[list[RawLink]]:
    opened: list[RawLink] = []
    yield opened
    for link in opened:
        link.close()


def dial(links: list[RawLink], member: Member) -> RawLink:
    """A link that was welcomed."""
    links.append(member.link())
    assert isinstance(member.hello(links[-1]), frames.Welcome)
    return links[-1]


def cell_of(orchestrator: Orchestrator, operator: Identity, member: Member) -> messages.CellView:
    with orchestrator.client(operator) as client:
        [view] = [cell for cell in client.cells() if cell.cell_id == member.cell_id]
        return view


@pytest.mark.parametrize(
    "data", [b"\0\0\0\4ouch", b"\xff\xff\xff\xff", frames.LINK_ALPN.encode() * 40], ids=["no-frame", "huge", "noise"]
)
def test_a_cell_that_sends_garbage_is_caught_and_its_link_ends(
    orchestrator: Orchestrator, operator: Identity, member: Member, links: list[RawLink], data: bytes
) -> None:
    link = dial(links, member)
    link.say_bytes(data)
    assert link.hear_goodbye() in ("request_invalid", "limit_exceeded")
    dial(links, member)
    view = cell_of(orchestrator, operator, member)
    assert view.fault.startswith("it sent what no cell sends: ")
    assert (view.ready, view.readiness["healthy_cell"].met) == (False, False)
    orchestrator.employ(operator, "acme")
    with orchestrator.client(operator) as client:
        client.open_trial(member.cell_id, "acme", 60.0)
        client.report_conformance(member.cell_id, messages.Conformance("a suite that passed", 1))
    assert cell_of(orchestrator, operator, member).fault == ""


def test_an_inventory_that_no_machine_has_is_refused_and_nothing_of_it_is_believed(
    orchestrator: Orchestrator, operator: Identity, member: Member
) -> None:
    with pytest.raises(GrafosError) as refusal:
        member.register(Resources(cpu_cores=1_000_000))
    assert refusal.value.code == "limit_exceeded"
    assert cell_of(orchestrator, operator, member).total == HAS


def test_of_two_machines_with_one_identity_only_one_is_linked_and_the_older_start_never_again(
    orchestrator: Orchestrator, operator: Identity, member: Member, links: list[RawLink]
) -> None:
    links.append(member.link())
    assert isinstance(member.hello(links[-1], boot_epoch=5, instance="one"), frames.Welcome)
    links.append(member.link())
    same_start = member.hello(links[-1], boot_epoch=5, instance="two")
    assert isinstance(same_start, frames.Goodbye)
    assert same_start.code == "generation_stale"
    links.append(member.link())
    assert isinstance(member.hello(links[-1], boot_epoch=6, instance="two"), frames.Welcome)
    assert links[0].hear_goodbye() == "cell_lost", "the link of the older one is closed"
    links.append(member.link())
    older = member.hello(links[-1], boot_epoch=5, instance="one")
    assert isinstance(older, frames.Goodbye)
    assert older.code == "generation_stale"
