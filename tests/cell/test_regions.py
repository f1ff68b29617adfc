"""Shared regions at the cell that holds them, and on the way there: every effect under a token that is checked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace
from tasklets import spec_of, tasklet

from grafos_cell import abi, broker
from grafos_cell.broker_events import Booted, Decision, Report, Told, Unbind
from grafos_cell.holdings import BrokerSettings, BrokerState
from grafos_cell.hostcalls import HostCalls
from grafos_cell.region_calls import RegionReply, RegionWish
from grafos_cell.region_desk import RunRegions
from grafos_cell.region_link import ANSWER_S_MAX, RegionLink
from grafos_cell.regions import Regions
from grafos_cell.run import RunOutcome
from grafos_cell.runtime import Runtime
from grafos_core.clock import SystemClock, VirtualClock
from grafos_core.lease_refs import LeaseRef
from grafos_core.receipts import Signed
from grafos_core.resources import Resources
from grafos_core.tokens import CAPABILITY_TTL_MAX_S, CapabilityClaims, Caveat, mint_capability, narrow
from grafos_scheduler import frames
from grafos_scheduler.region_frames import (
    ATTACH,
    COMPARE_EXCHANGE,
    FETCH_ADD,
    READ,
    REGION_MOVE_BYTES_MAX,
    SIZE,
    WRITE,
    RegionAnswer,
    RegionCall,
)

LEASE, OTHER = "01" + "a" * 30, "01" + "b" * 30
SIZE_BYTES = 4096
U64 = 2**64 - 1


class Owner:
    """A cell that holds regions: its broker's mind, and the bytes."""

    def __init__(self, cell_id: str = "cell-1") -> None:
        has = Resources(cpu_cores=2, mem_bytes=1 << 24)
        self.clock = VirtualClock()
        self.state = BrokerState(BrokerSettings("fab", cell_id, has, b"key", lambda _: Signed("run", b"", b"")))
        self.regions = Regions(self.state, self.clock.now)
        self.apply(broker.decide(self.state, Booted(), self.clock.now()))

    def apply(self, decision: Decision) -> list[Any]:
        self.state.apply(decision.batch)
        for effect in decision.effects:
            if isinstance(effect, Unbind):
                self.regions.remove(effect.lease_id)
        return [effect.frame for effect in decision.effects if isinstance(effect, Report)]

    def tell(self, frame: Any) -> list[Any]:
        return self.apply(broker.decide(self.state, Told(frame), self.clock.now()))

    def grant(self, lease_id: str = LEASE, generation: int = 1, *, shared: bool = True, life_s: float = 600.0) -> str:
        """Grants it; gives the token that the scheduler gets."""
        ends_at = self.clock.now() + life_s
        [said] = self.tell(frames.GrantLease(lease_id, generation, "acme", "mem", SIZE_BYTES, ends_at, shared))
        assert isinstance(said, frames.LeaseGranted), said
        return said.token

    def call(self, operation: str, run_id: str = "run-1", lease_id: str = LEASE, **more: Any) -> RegionAnswer:
        return self.regions.serve(RegionCall(7, operation, "fab", "cell-1", lease_id, 1, run_id, **more))


@pytest.fixture
def owner() -> Owner:
    made = Owner()
    made.grant()
    return made


def attached(owner: Owner, run_id: str = "run-1") -> Callable[..., RegionAnswer]:
    """Calls of a run that has attached, numbered as they come."""
    token = owner.call(ATTACH, run_id).token
    number = iter(range(1, 1000))

    def do(operation: str, **more: Any) -> RegionAnswer:
        given = {"token": token, "sequence": next(number), **more}
        return owner.call(operation, given.pop("run_id", run_id), **given)

    return do


# --- what is done ------------------------------------------------------------------------------------------------


def test_bytes_and_words_of_one_run_are_there_for_the_next(owner: Owner) -> None:
    one, two = attached(owner, "run-1"), attached(owner, "run-2")
    assert two(READ, offset=0, length=SIZE_BYTES).data == bytes(SIZE_BYTES), "a region begins all zero"
    assert one(WRITE, offset=8, data=b"hello").code == ""
    assert two(READ, offset=8, length=5).data == b"hello"
    assert one(FETCH_ADD, offset=64, value=5).found == 0
    assert two(FETCH_ADD, offset=64, value=U64).found == 5
    assert one(COMPARE_EXCHANGE, offset=64, value=3, new=9).found == 4, "it is not what was expected, and stays"
    assert two(COMPARE_EXCHANGE, offset=64, value=4, new=9).found == 4
    assert one(READ, offset=64, length=8).data == (9).to_bytes(8, "little")
    assert one(SIZE).size_bytes == SIZE_BYTES


@pytest.mark.parametrize(
    ("operation", "more", "code"),
    [
        (READ, {"offset": SIZE_BYTES, "length": 1}, "limit_exceeded"),
        (READ, {"offset": U64, "length": 2}, "limit_exceeded"),
        (READ, {"offset": 0, "length": U64}, "limit_exceeded"),
        (WRITE, {"offset": SIZE_BYTES - 1, "data": b"ab"}, "limit_exceeded"),
        (WRITE, {"offset": 2**64 + 1, "data": b"ab"}, "limit_exceeded"),
        (FETCH_ADD, {"offset": SIZE_BYTES - 7}, "limit_exceeded"),
        (FETCH_ADD, {"offset": U64 - 7}, "limit_exceeded"),
        (FETCH_ADD, {"offset": 4}, "request_invalid"),
        (FETCH_ADD, {"offset": 8, "value": U64 + 1}, "request_invalid"),
        (COMPARE_EXCHANGE, {"offset": 8, "value": 0, "new": U64 + 1}, "request_invalid"),
        ("erase", {}, "request_invalid"),
    ],
)
def test_what_does_not_lie_in_the_region_is_refused_and_changes_nothing(
    owner: Owner, operation: str, more: dict[str, Any], code: str
) -> None:
    do = attached(owner)
    assert do(operation, **more).code == code
    assert do(READ, offset=0, length=SIZE_BYTES).data == bytes(SIZE_BYTES)


def test_one_call_moves_a_bounded_number_of_bytes() -> None:
    owner = Owner()
    ends_at = owner.clock.now() + 60
    owner.tell(frames.GrantLease(LEASE, 1, "acme", "mem", 4 * REGION_MOVE_BYTES_MAX, ends_at, shared=True))
    do = attached(owner)
    assert len(do(READ, length=REGION_MOVE_BYTES_MAX).data) == REGION_MOVE_BYTES_MAX
    assert do(READ, length=REGION_MOVE_BYTES_MAX + 1).code == "limit_exceeded"


# --- the same call again ------------------------------------------------------------------------------------------


def test_a_call_that_is_made_again_happens_once(owner: Owner) -> None:
    do = attached(owner)
    first = do(FETCH_ADD, offset=0, value=1, sequence=1)
    assert do(FETCH_ADD, offset=0, value=1, sequence=1) == first
    assert do(FETCH_ADD, offset=0, value=1, sequence=2).found == 1


def test_a_call_that_comes_after_a_later_one_never_happens(owner: Owner) -> None:
    do = attached(owner)
    assert do(READ, length=8, sequence=2).data == bytes(8)
    assert do(FETCH_ADD, offset=0, value=1, sequence=1).code == "capability_refused"
    assert do(READ, length=8, sequence=3).data == bytes(8)
    assert do(READ, length=8, sequence=0).code == "capability_refused"


def test_attaching_again_forgets_no_number(owner: Owner) -> None:
    do = attached(owner)
    do(FETCH_ADD, offset=0, value=1, sequence=5)
    again = attached(owner)
    assert again(FETCH_ADD, offset=0, value=1, sequence=4).code == "capability_refused"


# --- tokens -------------------------------------------------------------------------------------------------------


def test_a_token_of_another_run_lease_or_cell_opens_nothing(owner: Owner) -> None:
    do, stolen = attached(owner), owner.call(ATTACH, "run-2").token
    assert do(READ, length=8, token=stolen).code == "capability_refused", "it is narrowed to the run that attached"
    assert do(READ, length=8, token=stolen, run_id="run-2").code == ""
    owner.grant(OTHER)
    assert do(READ, length=8, lease_id=OTHER).code == "capability_refused"
    elsewhere = Owner("cell-2")
    elsewhere.grant()
    assert do(READ, length=8, token=elsewhere.call(ATTACH).token).code == "capability_refused"


def test_a_forged_token_opens_nothing_also_once_a_good_one_is_known(owner: Owner) -> None:
    do = attached(owner)
    assert not do(READ, length=8).code
    for key in (b"another key", b""):
        claims = CapabilityClaims("cell-1", "acme", "mem", LEASE, 1, 1, owner.clock.now() + 60)
        assert do(READ, length=8, token=mint_capability(key, claims)).code == "capability_refused"
    good = owner.call(ATTACH).token
    head, claims_text, *rest = good.split(".")
    altered = ".".join((head, claims_text[:-1] + ("A" if claims_text[-1] != "A" else "Q"), *rest))
    assert do(READ, length=8, token=altered).code == "capability_refused"
    assert do(READ, length=8, token="").code == "token_refused"
    assert do(READ, length=8, token=narrow(good, Caveat("operation", "region_write"))).code == "capability_refused"
    assert not do(READ, length=8).code
    owner.clock.advance(CAPABILITY_TTL_MAX_S)
    assert do(READ, length=8).code == "token_expired"


def test_the_token_of_a_run_s_own_lease_is_none_of_a_region(owner: Owner) -> None:
    token = owner.grant(OTHER, shared=False)
    assert owner.call(ATTACH, lease_id=OTHER).code == "lease_expired"
    assert owner.call(READ, lease_id=OTHER, token=token, sequence=1, length=8).code == "capability_refused"


def test_a_region_s_token_starts_no_run(owner: Owner) -> None:
    token = owner.grant()
    start = frames.StartRun("r", "acme", "aws", "here", "t", "0" * 64, "", 1, 65536, 1.0, (token,))
    [ended] = owner.tell(start)
    assert (ended.code, "attaches" in ended.what) == ("capability_refused", True)


def test_a_token_from_before_the_daemon_s_start_opens_nothing(owner: Owner) -> None:
    do = attached(owner)
    owner.apply(broker.decide(owner.state, Booted(), owner.clock.now()))
    assert do(READ, length=8).code == "capability_refused"
    assert owner.call(ATTACH).code == "lease_expired"


def test_a_renewal_makes_older_tokens_worthless_and_keeps_the_bytes(owner: Owner) -> None:
    do = attached(owner)
    do(WRITE, data=b"kept")
    owner.grant(generation=2)
    assert do(READ, length=4).code == "generation_stale"
    assert attached(owner)(READ, length=4, sequence=9).data == b"kept"


# --- ends under a reader ------------------------------------------------------------------------------------------


def test_what_is_torn_down_revoked_or_run_out_is_never_read_again(owner: Owner) -> None:
    do = attached(owner)
    do(WRITE, data=b"secret")
    owner.tell(frames.TearDownLease(LEASE, 1))
    assert do(READ, length=6).code == "lease_expired"
    assert owner.call(ATTACH).code == "lease_expired"
    owner.grant(OTHER, life_s=5.0)
    token = owner.call(ATTACH, lease_id=OTHER).token
    owner.clock.advance(6.0)
    late = owner.call(READ, lease_id=OTHER, token=token, sequence=1, length=8)
    assert late.code in {"token_expired", "lease_expired"}


def test_a_revoked_region_goes_on_until_its_grace_is_over(owner: Owner) -> None:
    from grafos_cell.broker_events import Tick

    do = attached(owner)
    owner.tell(frames.RevokeLease(LEASE, 1, 10.0))
    assert do(READ, length=8).code == ""
    for _ in range(2):
        owner.clock.advance(11.0)
        owner.apply(broker.decide(owner.state, Tick(), owner.clock.now()))
    assert do(READ, length=8).code == "lease_revoked"


def test_a_new_region_under_the_same_room_is_all_zero(owner: Owner) -> None:
    attached(owner)(WRITE, data=b"secret")
    owner.tell(frames.TearDownLease(LEASE, 1))
    owner.grant(OTHER)
    token = owner.call(ATTACH, lease_id=OTHER).token
    assert owner.call(READ, lease_id=OTHER, token=token, sequence=1, length=16).data == bytes(16)


# --- the run's side -----------------------------------------------------------------------------------------------


class Way:
    """A link on which answers come as ``lose`` lets them: the scheduler is left out."""

    def __init__(
        self, owner: Owner, lose: Callable[[int], str] = lambda number: "", answer_s_max: float = ANSWER_S_MAX
    ) -> None:
        self.owner, self.lose = owner, lose
        self.protocol = 3
        self.link = RegionLink(self.send, lambda: self.protocol, answer_s_max)
        self.said: list[RegionCall] = []

    def send(self, call: RegionCall) -> None:
        self.said.append(call)
        lost = self.lose(len(self.said))
        if lost == "call":
            asyncio.get_running_loop().call_soon(self.link.cut)
            return
        answer = self.owner.regions.serve(call)
        if lost == "answer":
            asyncio.get_running_loop().call_soon(self.link.cut)
        else:
            asyncio.get_running_loop().call_soon(self.link.answered, answer)


def of_run(way: Way, here: str = "cell-2", run_id: str = "run-1", slots: int = 16) -> RunRegions:
    cell = Owner(here)
    return RunRegions(cell.state, cell.regions, way.link, run_id, slots)


def ref(generation: int = 1, **other: Any) -> bytes:
    return replace(LeaseRef("fab", "cell-1", LEASE, generation), **other).to_json()


def ask(desk: RunRegions, *wishes: RegionWish) -> list[RegionReply]:
    async def all_of_them() -> list[RegionReply]:
        return [await desk.answer(wish) for wish in wishes]

    return asyncio.run(all_of_them())


ADD = RegionWish(FETCH_ADD, 0, value=1)


@pytest.mark.parametrize("lost", ["call", "answer"])
def test_what_is_lost_on_the_way_is_asked_again_and_happens_once(owner: Owner, lost: str) -> None:
    way = Way(owner, lambda number: lost if number in (2, 3) else "")
    _, first, second = ask(of_run(way), RegionWish(ATTACH, data=ref()), ADD, ADD)
    assert (first.status, first.found) == (abi.OK, 0)
    assert (second.status, second.found) == (abi.OK, 1)
    assert [call.sequence for call in way.said] == [0, 1, 1, 1, 2]


def test_when_nothing_comes_back_the_guest_is_told_that_it_is_lost(owner: Owner) -> None:
    way = Way(owner, lambda number: "answer" if 1 < number < 20 else "", answer_s_max=0.1)
    _, lost = ask(of_run(way), RegionWish(ATTACH, data=ref()), ADD)
    assert lost.status == abi.DISCONNECTED
    assert lost.note.startswith("cell_lost")


def test_a_token_that_a_renewal_made_worthless_is_replaced_unseen(owner: Owner) -> None:
    way = Way(owner, lambda number: owner.grant(generation=2) and "" if number == 3 else "")
    _, first, second = ask(of_run(way), RegionWish(ATTACH, data=ref()), ADD, ADD)
    assert [first.found, second.found] == [0, 1]
    assert [call.operation for call in way.said] == [ATTACH, FETCH_ADD, FETCH_ADD, ATTACH, FETCH_ADD]


def test_a_region_whose_cell_has_started_anew_has_ended_and_was_not_revoked(owner: Owner) -> None:
    desk = of_run(Way(owner))
    ask(desk, RegionWish(ATTACH, data=ref()), ADD)
    owner.apply(broker.decide(owner.state, Booted(), owner.clock.now()))
    assert [reply.status for reply in ask(desk, ADD)] == [abi.LEASE_EXPIRED]


@pytest.mark.parametrize(
    "wish",
    [
        RegionWish(WRITE, 0, data=bytes(REGION_MOVE_BYTES_MAX + 1)),
        RegionWish(READ, 0, offset=-8, length=8),
        RegionWish(READ, 0, length=-8),
        RegionWish(FETCH_ADD, 0, value=-1),
        RegionWish(COMPARE_EXCHANGE, 0, new=-1),
    ],
)
def test_what_fits_no_frame_is_refused_before_the_link(owner: Owner, wish: RegionWish) -> None:
    """A scheduler ends the link on which it comes, and with it the sessions of everybody on the cell."""
    way = Way(owner)
    _, refused = ask(of_run(way), RegionWish(ATTACH, data=ref()), wish)
    assert (refused.status, [call.operation for call in way.said]) == (abi.INVALID_ARGUMENT, [ATTACH])


@pytest.mark.parametrize("size", [0, 7, 9])
def test_a_cell_that_answers_with_other_bytes_than_were_asked_for_is_not_believed(owner: Owner, size: int) -> None:
    """More of them would be written over what the guest has behind its buffer."""
    way = Way(owner)
    serve = owner.regions.serve

    class Lying(Regions):
        def serve(self, call: RegionCall) -> RegionAnswer:
            answer = serve(call)
            return answer if call.operation == ATTACH else replace(answer, data=bytes(size))

    owner.regions = Lying(owner.state, owner.clock.now)
    _, reply = ask(of_run(way), RegionWish(ATTACH, data=ref()), RegionWish(READ, 0, length=8))
    assert (reply.status, reply.data) == (abi.DISCONNECTED, b"")


def test_an_older_scheduler_is_asked_nothing_that_it_does_not_know(owner: Owner) -> None:
    way = Way(owner)
    way.protocol = 2
    [reply] = ask(of_run(way), RegionWish(ATTACH, data=ref()))
    assert (reply.status, way.said) == (abi.UNSUPPORTED, [])


def test_the_same_region_has_one_place_and_places_are_bounded(owner: Owner) -> None:
    owner.grant(OTHER)
    wishes = [RegionWish(ATTACH, data=data) for data in (ref(), ref(), ref(lease_id=OTHER))]
    replies = ask(of_run(Way(owner), slots=1), *wishes)
    assert [(reply.status, reply.place) for reply in replies] == [(0, 0), (0, 0), (abi.CAPACITY_EXCEEDED, 0)]


def test_the_same_names_in_another_fabric_are_another_region(owner: Owner) -> None:
    way = Way(owner)
    ask(of_run(way), *(RegionWish(ATTACH, data=data) for data in (ref(), ref(fabric="another"))))
    assert [call.fabric for call in way.said] == ["fab", "another"]


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b"x" * 600, b'{"fabric":"","cell":"c","lease_id":"l"}', b"[1]"])
def test_what_is_no_reference_is_an_invalid_argument(owner: Owner, data: bytes) -> None:
    way = Way(owner)
    [reply] = ask(of_run(way), RegionWish(ATTACH, data=data))
    assert (reply.status, way.said) == (abi.INVALID_ARGUMENT, [])


def test_a_worker_that_names_what_its_run_did_not_attach_to_gets_nothing(owner: Owner) -> None:
    way = Way(owner)
    wishes = [RegionWish(READ, place, length=8) for place in (0, 1, -1)] + [RegionWish("erase", 0)]
    assert {reply.status for reply in ask(of_run(way), *wishes)} == {abi.UNSUPPORTED}
    assert way.said == []


def test_a_region_of_this_very_cell_is_reached_without_the_link(owner: Owner) -> None:
    way = Way(owner)
    desk = RunRegions(owner.state, owner.regions, way.link, "run-1", 16)
    _, added = ask(desk, RegionWish(ATTACH, data=ref()), ADD)
    assert (added.status, [call.operation for call in way.said]) == (abi.OK, [ATTACH])


# --- the calls of a guest -----------------------------------------------------------------------------------------


def run_attached(owner: Owner, run: str, **changes: Any) -> RunOutcome:
    """Runs a tasklet whose input is the reference, with the desk in its own process."""
    module = tasklet(
        f"""(drop (call $buffer_read (i32.const 2) (i32.const 0) (i32.const 64) (i32.const 512)))
        (local.set $slot (call $fbmu_attach (i32.const 64) (local.get $length)))
        {run}""",
        run_locals="(local $slot i32)",
    )
    desk = of_run(Way(owner))

    def ask_regions(wish: RegionWish) -> RegionReply:
        return ask(desk, wish)[0]

    runtime = Runtime(SystemClock())
    try:
        spec = spec_of(module, ref(), **changes)
        make: Any = lambda *parts: HostCalls(*parts, ask_regions=ask_regions)  # noqa: E731
        return runtime.run(runtime.load(module), spec, host_calls=make)
    finally:
        runtime.close()


@pytest.mark.parametrize(
    ("call", "status"),
    [
        ("(call $fbmu_compare_exchange (local.get $slot) (i64.const 8) (i64.const 0) (i64.const 1) (i32.const 1))", 0),
        ("(call $fbmu_fetch_add (local.get $slot) (i64.const 4) (i64.const 1) (i32.const 0))", -22),
        ("(call $fbmu_fetch_add (local.get $slot) (i64.const 8) (i64.const 1) (i32.const 65532))", -22),
        ("(call $fbmu_fetch_add (local.get $slot) (i64.const -8) (i64.const 1) (i32.const 0))", -4),
        ("(call $fbmu_fetch_add (local.get $slot) (i64.const 4092) (i64.const 1) (i32.const 0))", -4),
        ("(call $fbmu_fetch_add (i32.const 9) (i64.const 0) (i64.const 1) (i32.const 0))", -5),
        ("(call $fbmu_read (local.get $slot) (i64.const 4096) (i32.const 0) (i32.const 0))", 0),
        ("(call $fbmu_read (local.get $slot) (i64.const -1) (i32.const 0) (i32.const 2))", -4),
        ("(call $fbmu_write (local.get $slot) (i64.const 0) (i32.const -1) (i32.const 2))", -22),
        ("(i32.wrap_i64 (call $fbmu_size (local.get $slot)))", SIZE_BYTES),
        ("(call $fbmu_ref (local.get $slot) (i32.const 0) (i32.const 8))", -4),
        ("(call $fbmu_ref (local.get $slot) (i32.const 65530) (i32.const 512))", -22),
        ("(call $fbmu_ref (local.get $slot) (i32.const 65530) (i32.const 8))", -22),
        ("(call $fbmu_ref (i32.const 9) (i32.const 0) (i32.const 512))", -5),
        ("(call $fbmu_attach (i32.const 64) (i32.const 0))", -22),
        ("(call $fbmu_attach (i32.const 64) (i32.const 513))", -22),
        ("(call $fbmu_attach (i32.const 65535) (i32.const 100))", -22),
    ],
)
def test_each_call_of_a_guest_answers_what_the_page_says(owner: Owner, call: str, status: int) -> None:
    outcome = run_attached(owner, call)
    assert (outcome.returned, outcome.code) == (status, "finished" if status == 0 else "program_error")


def test_each_call_on_a_region_has_its_price_wherever_it_is(owner: Owner) -> None:
    idle = run_attached(owner, "(i32.const 0)")
    added = run_attached(
        owner, "(call $fbmu_fetch_add (local.get $slot) (i64.const 0) (i64.const 1) (i32.const 0))"
    ).fuel_used
    assert abi.REGION_CALL_FUEL + 8 <= added - idle.fuel_used < abi.REGION_CALL_FUEL + 20
    poor = run_attached(
        owner, "(call $fbmu_read (local.get $slot) (i64.const 0) (i32.const 0) (i32.const 4096))", fuel=2000
    )
    assert poor.code == "fuel_exhausted"


def test_a_refused_attach_says_why_in_the_log(owner: Owner) -> None:
    owner.tell(frames.TearDownLease(LEASE, 1))
    outcome = run_attached(owner, "(local.get $slot)")
    assert outcome.returned == abi.LEASE_EXPIRED
    assert outcome.log.startswith("grafos: fbmu_attach: lease_expired: ")


def test_words_of_a_run_s_own_memory_work_alike_and_have_no_reference() -> None:
    from tasklets import run_tasklet

    from grafos_cell.run import MemoryLease

    module = tasklet(
        """(drop (call $fbmu_fetch_add (i32.const 0) (i64.const 8) (i64.const 5) (i32.const 0)))
        (drop (call $fbmu_compare_exchange (i32.const 0) (i64.const 8) (i64.const 5) (i64.const 7) (i32.const 8)))
        (drop (call $fbmu_read (i32.const 0) (i64.const 8) (i32.const 16) (i32.const 8)))
        (drop (call $output_write (i32.const 0) (i32.const 24)))
        (i32.add (call $fbmu_ref (i32.const 0) (i32.const 0) (i32.const 512)) (i32.const 5))"""
    )
    outcome = run_tasklet(module, memory_leases=(MemoryLease(64, 60.0),))
    words = [int.from_bytes(outcome.output[at : at + 8], "little") for at in (0, 8, 16)]
    assert (outcome.code, words) == ("finished", [0, 5, 7])
