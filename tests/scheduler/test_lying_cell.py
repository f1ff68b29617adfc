"""A cell that answers whatever it likes, in well-formed and signed words: the suite, end to end, sees through it."""

from __future__ import annotations

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
from grafos_core.ids import sha256_of
from grafos_core.resources import Resources
from grafos_scheduler import frames, messages
from grafos_scheduler.cells import SIGNALS

SAYS = '"all is well"'
READY_WITHIN_S = 20.0


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
