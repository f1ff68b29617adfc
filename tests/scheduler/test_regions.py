"""Shared regions at the scheduler: admitted, held, renewed, ended; what they cost, and which run may reach them."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest
from desk import MIB, RATE, Desk
from heard_link import HeardLink
from msgspec.structs import replace

from grafos_core.changes import Change
from grafos_core.errors import GrafosError
from grafos_core.lease_refs import read_lease_ref
from grafos_core.resources import Resources
from grafos_core.revoking import RevokeState
from grafos_core.rowstore import MemoryStore
from grafos_core.tiers import Tier
from grafos_scheduler import events, frames, leases, region_admission, regions, rows, tenant_events
from grafos_scheduler.draft import Draft
from grafos_scheduler.region_events import RegionAsked, RegionEndAsked, RegionRenewalAsked
from grafos_scheduler.region_frames import ATTACH, READ, RegionAnswer, RegionCall
from grafos_scheduler.region_messages import RegionRequest, RegionView
from grafos_scheduler.region_relay import RegionRelay
from grafos_scheduler.region_rows import REGION, Region
from grafos_scheduler.retention import KEY_KEPT_S
from grafos_scheduler.shell import Shell

HALF_SECOND_COST = RATE // 3600 // 2
"""Half of a cell's memory costs this much a second."""


def ask(desk: Desk, tenant: str = "ada", **changed: Any) -> RegionView:
    request = RegionRequest("a-key-of-the-region", "aws", MIB, 60.0)
    answer = desk.tell(RegionAsked(tenant, replace(request, **changed))).answer
    assert isinstance(answer, RegionView)
    return answer


def grant(desk: Desk, region: RegionView) -> None:
    lease = desk.state.leases[region.lease_id]
    desk.say(lease.cell_id, frames.LeaseGranted(lease.lease_id, lease.generation, "token"))


def held(desk: Desk, **changed: Any) -> RegionView:
    region = ask(desk, **changed)
    grant(desk, region)
    return region


def gone(desk: Desk, lease_id: str, *, fenced: bool = False) -> None:
    lease = desk.state.leases[lease_id]
    desk.say(lease.cell_id, frames.LeaseTornDown(lease_id, lease.generation, fenced=fenced))


def call_of(desk: Desk, run: rows.Run, region: RegionView, **changed: Any) -> RegionCall:
    ref = read_lease_ref(region.ref.encode())
    call = RegionCall(1, ATTACH, ref.fabric, ref.cell, ref.lease_id, ref.generation, run.run_id)
    return replace(call, **changed)


def refusal(desk: Desk, cell_id: str, call: RegionCall) -> str:
    with pytest.raises(GrafosError) as caught:
        regions.check_call(desk.state, cell_id, call)
    return caught.value.code


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    desk.add_cell("cell-1")
    return desk


# --- its life and its money --------------------------------------------------------------------------------------


def test_a_region_is_asked_of_its_cell_and_held_for_its_whole_time(desk: Desk) -> None:
    region = ask(desk)
    [asked] = desk.frames(frames.GrantLease)
    assert asked.shared
    assert (asked.kind, asked.amount, asked.lease_id) == ("mem", MIB, region.lease_id)
    assert region.state == regions.ASKED
    assert region.held_micro_cents == 60 * HALF_SECOND_COST == desk.state.ledger.account("slice-1").held_micro_cents
    grant(desk, region)
    assert desk.state.regions[region.lease_id].state == regions.HELD
    assert desk.state.leased_by_tenant["ada"] == Resources(mem_bytes=MIB)


def test_the_same_key_leases_once_and_another_request_under_it_is_refused(desk: Desk) -> None:
    first = ask(desk)
    assert ask(desk).lease_id == first.lease_id
    assert len(desk.state.regions) == 1
    with pytest.raises(GrafosError, match="other contents"):
        ask(desk, size_bytes=8)


def test_ending_a_region_settles_the_time_that_it_was_there(desk: Desk) -> None:
    region = held(desk)
    desk.wait(20, "cell-1")
    ended = desk.tell(RegionEndAsked("ada", region.lease_id)).answer
    assert isinstance(ended, RegionView)
    assert (ended.state, ended.code, ended.cost_micro_cents) == (regions.ENDED, "", 20 * HALF_SECOND_COST)
    account = desk.state.ledger.account("slice-1")
    assert (account.spent_micro_cents, account.held_micro_cents) == (20 * HALF_SECOND_COST, 0)
    assert region.lease_id not in desk.state.ledger.holds
    [torn] = desk.frames(frames.TearDownLease)
    assert torn.lease_id == region.lease_id
    gone(desk, region.lease_id)
    assert not desk.state.leases
    assert desk.tell(RegionEndAsked("ada", region.lease_id)).answer == ended


def test_a_region_ends_at_its_time_and_costs_all_that_was_held(desk: Desk) -> None:
    region = held(desk)
    desk.wait(61, "cell-1")
    row = desk.state.regions[region.lease_id]
    assert (row.state, row.code, row.cost_micro_cents) == (regions.ENDED, "lease_expired", region.held_micro_cents)


def test_a_renewal_is_the_next_generation_and_holds_more_first(desk: Desk) -> None:
    region = held(desk)
    desk.wait(50, "cell-1")
    renewed = desk.tell(RegionRenewalAsked("ada", region.lease_id, 60.0)).answer
    assert isinstance(renewed, RegionView)
    [asked] = desk.frames(frames.GrantLease)
    assert (asked.generation, renewed.generation, read_lease_ref(renewed.ref.encode()).generation) == (2, 2, 2)
    assert renewed.held_micro_cents == 110 * HALF_SECOND_COST == desk.state.ledger.account("slice-1").held_micro_cents
    grant(desk, renewed)
    desk.wait(55, "cell-1")
    assert desk.state.regions[region.lease_id].state == regions.HELD
    desk.wait(10, "cell-1")
    assert desk.state.regions[region.lease_id].cost_micro_cents == 110 * HALF_SECOND_COST


def test_what_is_not_affordable_or_over_quota_is_refused_and_holds_nothing() -> None:
    desk = Desk(budget_micro_cents=1000)
    desk.add_cell("cell-1")
    with pytest.raises(GrafosError) as caught:
        ask(desk)
    assert caught.value.code == "budget_exceeded"
    desk.give_slice("slice-2", 1_000_000, quota=Resources(cpu_cores=1, mem_bytes=MIB - 1))
    with pytest.raises(GrafosError) as caught:
        ask(desk)
    assert caught.value.code == "quota_exceeded"
    assert not desk.state.regions
    assert not desk.state.ledger.holds


def test_a_renewal_that_is_not_affordable_leaves_the_region_as_it_was() -> None:
    desk = Desk(budget_micro_cents=70 * HALF_SECOND_COST)
    desk.add_cell("cell-1")
    region = held(desk)
    desk.wait(50, "cell-1")
    with pytest.raises(GrafosError) as caught:
        desk.tell(RegionRenewalAsked("ada", region.lease_id, 60.0))
    assert caught.value.code == "budget_exceeded"
    assert desk.state.leases[region.lease_id].generation == 1


def test_a_cell_of_older_software_gets_no_region(desk: Desk) -> None:
    desk.register("cell-2", provider="gcp")
    old = Desk()
    old.register()
    old.set_terms()
    old.dial(protocol_max=2)
    with pytest.raises(GrafosError) as caught:
        ask(old)
    assert caught.value.code == "placement_failed"
    assert "too old" in caught.value.what


def test_a_refused_lease_is_no_region_and_costs_nothing(desk: Desk) -> None:
    region = ask(desk)
    desk.say("cell-1", frames.LeaseRefused(region.lease_id, 1, "placement_failed", "no room"))
    row = desk.state.regions[region.lease_id]
    assert (row.state, row.code, row.cost_micro_cents) == (regions.ENDED, "placement_failed", 0)


def test_a_refused_renewal_is_the_end_and_costs_what_was_there_before_it_was_asked_for(desk: Desk) -> None:
    region = held(desk)
    desk.wait(50, "cell-1")
    desk.tell(RegionRenewalAsked("ada", region.lease_id, 600.0))
    desk.wait(20, "cell-1")
    desk.say("cell-1", frames.LeaseRefused(region.lease_id, 2, "lease_expired", "the region is gone"))
    row = desk.state.regions[region.lease_id]
    assert (row.state, row.code, row.cost_micro_cents) == (regions.ENDED, "lease_expired", 50 * HALF_SECOND_COST)
    assert desk.state.ledger.account("slice-1").held_micro_cents == 0
    [torn] = desk.frames(frames.TearDownLease)
    assert torn.generation == 2


def test_a_cell_that_never_grants_is_given_up(desk: Desk) -> None:
    region = ask(desk)
    desk.wait(31, "cell-1")
    row = desk.state.regions[region.lease_id]
    assert (row.state, row.code, row.cost_micro_cents) == (regions.ENDED, "placement_failed", 0)


def test_a_daemon_that_restarts_has_lost_the_bytes_and_they_cost_nothing(desk: Desk) -> None:
    region = held(desk)
    desk.wait(5, "cell-1")
    desk.dial(boot_epoch=2)
    row = desk.state.regions[region.lease_id]
    assert (row.state, row.code, row.cost_micro_cents) == (regions.ENDED, "cell_lost", 0)
    assert not desk.state.leases


def test_an_operator_takes_a_region_back(desk: Desk) -> None:
    region = held(desk)
    desk.tell(events.LeaseRevokeAsked("", region.lease_id, 1.0, "enough"))
    [told] = desk.frames(frames.RevokeLease)
    assert told.lease_id == region.lease_id
    desk.say("cell-1", frames.LeaseRevoked(region.lease_id, 1, RevokeState.TORNDOWN.value))
    gone(desk, region.lease_id)
    row = desk.state.regions[region.lease_id]
    assert (row.state, row.code, row.what) == (regions.ENDED, "lease_revoked", "it was taken back: enough")


def test_a_grant_that_the_cell_may_not_have_heard_is_asked_for_again(desk: Desk) -> None:
    region = ask(desk)
    desk.dial()
    assert [frame.lease_id for frame in desk.frames(frames.GrantLease)] == [region.lease_id]


def test_a_closed_slice_ends_the_regions_that_are_held_on_it(desk: Desk) -> None:
    region = held(desk)
    desk.tell(tenant_events.SliceClosed("slice-1"))
    assert desk.state.regions[region.lease_id].code == "draining"
    assert desk.state.ledger.account("slice-1").held_micro_cents == 0


def test_a_restart_forgets_nothing_of_a_region(desk: Desk) -> None:
    region = held(desk)
    before = desk.state.regions[region.lease_id]
    desk.restart()
    assert desk.state.regions == {region.lease_id: before}
    desk.dial()
    assert desk.state.leases[region.lease_id].state == leases.HELD


def test_ended_regions_are_forgotten_in_the_end(desk: Desk) -> None:
    for number in range(regions.ENDED_KEPT_MAX + 3):
        region = held(desk, key=f"a-key-of-a-region-{number:03}")
        desk.tell(RegionEndAsked("ada", region.lease_id))
        gone(desk, region.lease_id)
    desk.wait(1, "cell-1")
    first = ask(desk, key="a-key-of-a-region-000")
    assert first.state == regions.ENDED, "a key is known for its first hour"
    desk.clock.advance(KEY_KEPT_S)
    desk.tell(events.Tick())
    assert len(desk.state.regions) == regions.ENDED_KEPT_MAX
    assert first.lease_id not in desk.state.regions, "the oldest goes first"
    desk.restart()
    desk.clock.advance(regions.ENDED_KEPT_S)
    desk.tell(events.Tick())
    assert not desk.state.regions


def test_who_ends_regions_without_end_is_stopped_until_their_keys_are_forgotten(desk: Desk) -> None:
    for number in range(region_admission.ENDED_PER_TENANT_MAX):
        row = Region(f"{number:032x}", "ada", f"a-key-of-a-region-{number:04}", "aws", "cell-1", 8, 60.0, regions.ENDED,
                     desk.now, desk.now, 1, "0", ended_at=desk.now)  # fmt: skip
        desk.state.apply([Change(REGION, row.lease_id, row)])
    with pytest.raises(GrafosError) as caught:
        ask(desk)
    assert caught.value.code == "limit_exceeded"
    desk.clock.advance(KEY_KEPT_S)
    desk.wait(1, "cell-1")
    assert ask(desk).state == regions.ASKED


def test_who_may_ask_for_scavenger_runs_alone_gets_no_region(desk: Desk) -> None:
    desk.tell(tenant_events.TenantChanged("ada", highest_tier=Tier.SCAVENGER))
    with pytest.raises(GrafosError) as caught:
        ask(desk)
    assert caught.value.code == "quota_exceeded"


def test_a_region_goes_to_a_cell_whose_software_knows_regions_though_another_would_be_taken_first(desk: Desk) -> None:
    desk.register("aaa")
    desk.set_terms("aaa")
    desk.dial("aaa", protocol_max=2)
    desk.wait(60, "cell-1", "aaa")
    assert ask(desk).cell_id == "cell-1"


def test_a_region_that_runs_out_in_the_tick_that_ends_its_cell_ends_once(desk: Desk) -> None:
    region = held(desk)
    row, lease = desk.state.regions[region.lease_id], desk.state.leases[region.lease_id]
    desk.clock.advance(60.0)
    draft = Draft(desk.state, desk.now)
    regions.time_passed(draft)
    leases.strike(draft, replace(lease, revoke=RevokeState.GRACE_RUNNING))
    [ended] = [change.row for change in draft.decision().batch if change.kind == REGION]
    assert (ended.code, ended.cost_micro_cents) == ("lease_expired", row.ttl_s * HALF_SECOND_COST)


def test_whoever_must_sign_is_refused_in_words(desk: Desk) -> None:
    tenant = desk.state.tenants["ada"]
    desk.state.tenants["ada"] = replace(tenant, signs_since=1.0)
    with pytest.raises(GrafosError) as caught:
        ask(desk)
    assert caught.value.code == "order_refused"


# --- who may reach it ----------------------------------------------------------------------------------------------


def test_a_run_of_the_tenant_reaches_it_from_its_own_cell_alone(desk: Desk) -> None:
    desk.add_cell("cell-2")
    region = held(desk, cell_id="cell-1")
    run = desk.start(cell_id="cell-2")
    call = call_of(desk, run, region)
    assert regions.check_call(desk.state, "cell-2", call).lease_id == region.lease_id
    assert refusal(desk, "cell-1", call) == "capability_refused"
    desk.report(run)
    assert refusal(desk, "cell-2", call) == "capability_refused"


def test_a_region_of_another_tenant_is_none(desk: Desk) -> None:
    desk.give_slice("slice-of-eve", 1_000_000, "eve")
    region = held(desk)
    stranger = desk.ask("eve")
    call = call_of(desk, stranger, region)
    with pytest.raises(regions.ForeignRegionError) as caught:
        regions.check_call(desk.state, "cell-1", call)
    assert (caught.value.code, caught.value.tenant, caught.value.lease.tenant) == ("lease_unknown", "eve", "ada")


def test_another_trust_domain_is_told_apart(desk: Desk) -> None:
    region, run = held(desk), desk.start()
    assert refusal(desk, "cell-1", call_of(desk, run, region, fabric="another")) == "cross_fabric"
    assert refusal(desk, "cell-1", call_of(desk, run, region, cell_id="a-standalone-cell")) == "cross_fabric"


def test_what_is_over_is_told_as_what_it_was(desk: Desk) -> None:
    region, run = held(desk), desk.start(deadline_s=300.0)
    assert refusal(desk, "cell-1", call_of(desk, run, region, generation=2)) == "lease_unknown"
    assert refusal(desk, "cell-1", call_of(desk, run, region, lease_id="0" * 32)) == "lease_unknown"
    desk.tell(RegionEndAsked("ada", region.lease_id))
    assert refusal(desk, "cell-1", call_of(desk, run, region, operation=READ)) == "lease_expired"
    gone(desk, region.lease_id)
    assert refusal(desk, "cell-1", call_of(desk, run, region)) == "lease_expired"
    taken = held(desk, key="a-key-of-another-region")
    desk.tell(events.LeaseRevokeAsked("ada", taken.lease_id, 0.0, ""))
    gone(desk, taken.lease_id)
    assert refusal(desk, "cell-1", call_of(desk, run, taken)) == "lease_revoked"
    stuck = held(desk, key="a-key-of-a-third-region")
    desk.tell(RegionEndAsked("ada", stuck.lease_id))
    gone(desk, stuck.lease_id, fenced=True)
    assert refusal(desk, "cell-1", call_of(desk, run, stuck)) == "fenced"


# --- the calls under way ---------------------------------------------------------------------------------------------


def test_nothing_is_kept_of_a_link_whose_calls_could_not_be_passed_on(desk: Desk) -> None:
    region, run = held(desk), desk.start()
    call = call_of(desk, run, region)

    async def story() -> None:
        relay = RegionRelay(Shell(desk.state, MemoryStore(desk.memory), desk.clock, desk.chance))
        link = HeardLink()
        await relay.call("cell-1", link, call)
        relay.link_lost("cell-1", link, 0)
        [answer] = link.frames
        assert isinstance(answer, RegionAnswer)
        assert answer.code == "cell_lost", "the shell has no link of the owner's"
        forgotten = weakref.ref(link)
        del link
        gc.collect()
        assert forgotten() is None

    asyncio.run(story())


class OwnersLink:
    """Of a shell what the relay needs: the state, and a link that takes what is for the owner."""

    def __init__(self, state: object) -> None:
        self.state = state
        self.asked: list[RegionCall] = []

    def send_now(self, _: str, call: RegionCall) -> bool:
        self.asked.append(call)
        return True


@pytest.mark.parametrize(
    ("told", "code"), [(MIB, ""), (MIB + 1, "answer_invalid"), (0, "answer_invalid"), (2**64, "answer_invalid")]
)
def test_who_attaches_is_told_no_other_size_than_was_leased(desk: Desk, told: int, code: str) -> None:
    region, run = held(desk), desk.start()

    async def story() -> RegionAnswer:
        shell, link = OwnersLink(desk.state), HeardLink()
        relay = RegionRelay(shell)  # type: ignore[arg-type]  # it needs of a shell what stands there
        await relay.call("cell-1", link, call_of(desk, run, region))
        relay.answered("cell-1", RegionAnswer(shell.asked[0].number, size_bytes=told, token="a token"))
        [answer] = link.frames
        assert isinstance(answer, RegionAnswer)
        return answer

    answer = asyncio.run(story())
    assert (answer.code, answer.token) == (code, "" if code else "a token")


def test_what_went_over_a_newer_link_of_a_cell_is_not_given_up_with_the_one_before(desk: Desk) -> None:
    region, run = held(desk), desk.start()

    async def story() -> None:
        shell, link = OwnersLink(desk.state), HeardLink()
        relay = RegionRelay(shell)  # type: ignore[arg-type]  # it needs of a shell what stands there
        await relay.call("cell-1", link, call_of(desk, run, region))
        current = desk.state.link_of("cell-1")
        relay.link_lost("cell-1", HeardLink(), current - 1)
        assert not link.frames
        relay.link_lost("cell-1", HeardLink(), current)
        [answer] = link.frames
        assert isinstance(answer, RegionAnswer)
        assert answer.code == "cell_lost"

    asyncio.run(story())
