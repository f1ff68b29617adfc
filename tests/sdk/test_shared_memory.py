"""Tasklets of the SDK on a cell's calls for memory and services: what they do in the mock they do here too."""

from __future__ import annotations

from functools import partial

import call_layers
import msgspec
import pytest
from regions import OneRegion, run_on
from rust_programs import module_of, sdk_program
from tasklets import run_tasklet, spec_of

from grafos_cell import abi
from grafos_cell.run import BlockLease, LeaseAnswer, LeaseCall, MemoryLease, RunOutcome
from grafos_cell.runtime import Runtime
from grafos_cell.service_messages import Bytes, Drain, FromInstance, HalfEnd, Listen, Offer, Serve, ToInstance
from grafos_cell.svc_calls import ServiceCalls
from grafos_core.clock import SystemClock

pytestmark = [pytest.mark.needs("rust"), pytest.mark.timeout(600)]

FUEL = 50_000_000


def ran_on(region: OneRegion, tasklet: str, text: str = "") -> RunOutcome:
    """Runs the tasklet with the region's reference in its input."""
    data = f'{{"region":{region.REFERENCE},"text":"{text}"}}'.encode()
    return run_on(region, module_of(sdk_program(), tasklet), data, FUEL)


def test_builders_take_what_the_run_was_given_and_no_more() -> None:
    blocks = {}

    def desk(call: LeaseCall) -> LeaseAnswer:
        if call.operation == "block_write":
            blocks[call.lba] = call.data
        return LeaseAnswer(abi.OK, 60)

    leases = (MemoryLease(512, 60), MemoryLease(2048, 60))
    outcome = run_tasklet(
        module_of(sdk_program(), "takes"), b"", desk, fuel=FUEL, memory_leases=leases, block_leases=(BlockLease(2),)
    )
    assert outcome.response == (
        b'"[0, 5, 7] Some(CapacityExceeded) Some(Unsupported) Some(IoError(-22)) Some(Unsupported) Active"'
    ), outcome.text
    assert blocks == {1: b"\x07" * 512}


@pytest.mark.parametrize("fails", [False, True])
def test_several_runs_count_words_in_one_region(fails: bool) -> None:  # noqa: FBT001
    region = OneRegion(8192, fails=fails)
    first = ran_on(region, "counts-words", "to be or not to be")
    assert first.response == b'"1: be 2, not 1, or 1, to 2"', first.text
    assert first.output.decode() == region.REFERENCE
    second = ran_on(region, "counts-words", "not so")
    assert second.response == b'"2: be 2, not 2, or 1, so 1, to 2"', second.text


@pytest.mark.parametrize("fails", [False, True])
def test_calls_and_streams_pass_through_a_region(fails: bool) -> None:  # noqa: FBT001
    outcome = ran_on(OneRegion(128 * 1024, fails=fails), "passes-on")
    wanted = ["cba", "method_not_supported", "message_too_large", "3", "[2, 4]"]
    assert outcome.response, outcome.text
    assert msgspec.json.decode(outcome.response) == wanted


class Script:
    """The daemon's end of an instance: what its clients do, then the drain."""

    def __init__(self, *messages: ToInstance) -> None:
        self.messages = iter((*messages, Drain()))
        self.said: list[FromInstance] = []

    def send(self, message: FromInstance) -> None:
        self.said.append(message)

    def receive(self) -> ToInstance:
        return next(self.messages)

    def listen(self, listen: Listen) -> LeaseAnswer:
        self.send(listen)
        return LeaseAnswer(abi.OK)


def test_a_service_speaks_with_its_clients_by_turns() -> None:
    module = module_of(sdk_program(), "serves")
    spec = spec_of(module, fuel=FUEL)
    service = abi.ServiceContext("upper", 8080, 4, "inst-1", 1)
    spec = msgspec.structs.replace(spec, context=msgspec.structs.replace(spec.context, service=service))
    first, second = abi.FIRST_SESSION_HANDLE, abi.FIRST_SESSION_HANDLE + 1
    script = Script(
        Offer(first), Offer(second), Bytes(second, b"two"), Bytes(first, b"one"), HalfEnd(second), HalfEnd(first)
    )
    runtime = Runtime(SystemClock(), call_layers.new_engine())
    try:
        calls = partial(ServiceCalls, Serve(spec, 8080, 4, FUEL, 65_536), script)
        outcome = runtime.run(runtime.load(module), spec, host_calls=calls)
    finally:
        runtime.close()
    assert (outcome.code, outcome.response) == ("finished", b"2"), outcome.text
    sent = [(message.handle, message.data) for message in script.said if isinstance(message, Bytes)]
    assert sent == [(second, b"TWO"), (first, b"ONE"), (second, b"!"), (first, b"!")]


def test_a_tasklet_that_is_no_service_is_told_so() -> None:
    outcome = run_tasklet(module_of(sdk_program(), "serves"), b"", fuel=FUEL)
    assert (outcome.code, outcome.text) == ("program_error", "unsupported")
