"""A sweep finds whatever is left of a fabric, and touches nothing else: no cell that lives, no command, no copy."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest
from crash_sweep import CELL, WHOLE, Fuse, dies, make, make_half, spec, undo
from twin_ground import TwinGround

from grafos_connectors.contract import Connector, Found, Identity, Kind, Scope, State
from grafos_connectors.twin import Effect, Fault
from grafos_core.errors import GrafosError
from grafos_core.fabric import OPERATOR_ACCOUNT
from grafos_core.receipts import Inventory, open_signed
from grafos_stacks.inventory import Known, Verdict, judge
from grafos_stacks.proof import proof_file, prove
from grafos_stacks.records import CellHome, CellRecord
from grafos_stacks.sweeping import Sight, list_only, look, sweep


@pytest.fixture
def ground() -> TwinGround:
    return TwinGround()


def verdicts(sight: Sight) -> set[Verdict]:
    return {one.verdict for one in sight.judged}


def swept(ground: TwinGround) -> list[str]:
    """What is there after a sweep that found nothing wrong with itself."""
    hands = ground.hands()
    done = sweep(hands, hands.fabric.home / "project")
    assert done.failures == ()
    assert [outcome.error for outcome in done.outcomes if outcome.error] == []
    assert done.after.condemned == ()
    return ground.live()


def machine(ground: TwinGround, stack: str = CELL) -> Found:
    [one] = [one for one in ground.found() if one.ref.kind is Kind.MACHINE and one.tags.get("grafos:stack") == stack]
    return one


def recorded(ground: TwinGround) -> None:
    now = ground.clock.now()
    record = CellRecord(CELL, ground.fabric.id, "aws", "us-east-1", "https://198.51.0.1", 1, now + 7200, now)
    CellHome(ground.fabric, CELL).keep_record(record)


def test_an_account_in_which_nothing_is_wrong_is_left_as_it_is(ground: TwinGround) -> None:
    assert look(ground.hands()).judged == ()
    make(ground.hands())
    before = ground.live()
    assert verdicts(look(ground.hands())) == {Verdict.LIVE}
    assert swept(ground) == before


def test_a_look_changes_nothing(ground: TwinGround) -> None:
    make(ground.hands(), spec(ttl_s=600))
    ground.clock.advance(700)
    calls = dict(ground.cloud.changing_calls)
    assert Verdict.OVERDUE in verdicts(look(ground.hands()))
    assert ground.cloud.changing_calls == calls


def test_a_cell_that_ran_out_goes_with_its_network_and_its_hold(ground: TwinGround) -> None:
    make(ground.hands(), spec(ttl_s=600))
    ground.clock.advance(601)
    assert verdicts(look(ground.hands())) == {Verdict.OVERDUE, Verdict.UNUSED}
    assert swept(ground) == []
    assert held(ground) == 0


def held(ground: TwinGround) -> int:
    with ground.fabric.ledger() as transaction:
        return transaction.ledger.account(OPERATOR_ACCOUNT).held_micro_cents


def test_a_cell_that_lives_keeps_the_network_of_one_that_ran_out(ground: TwinGround) -> None:
    make(ground.hands(), spec("aws-old", ttl_s=600))
    make(ground.hands(), spec(ttl_s=7200))
    ground.clock.advance(601)
    assert len(swept(ground)) == WHOLE
    assert machine(ground).ref.id


def test_a_machine_that_ended_itself_leaves_a_bill_that_the_sweep_settles(ground: TwinGround) -> None:
    make(ground.hands(), spec(ttl_s=600))
    ground.cloud.halt(machine(ground).ref.id)
    ground.clock.advance(700)
    assert swept(ground) == []
    assert held(ground) == 0


def test_a_machine_that_was_stopped_still_costs_and_is_condemned_with_its_cell(ground: TwinGround) -> None:
    make(ground.hands())
    ground.clock.advance(60)
    stopped = [
        msgspec.structs.replace(one, state=State.STOPPED) if one.ref.kind is Kind.MACHINE else one
        for one in listed(ground)
    ]
    judged = judge(ground.fabric, "aws", stopped, known(ground))
    assert {one.verdict for one in judged if one.stack == CELL} == {Verdict.STOPPED}


def listed(ground: TwinGround) -> list[Found]:
    scope = Scope(str(ground.fabric.id))
    return [one for page in ground.connector().list(scope) for one in page]


def known(ground: TwinGround) -> Known:
    journal = ground.hands().journal
    rows = {row.stack: row for row in journal.stacks()}
    resources = {stack: tuple(journal.resources(stack).values()) for stack in rows}
    return Known(ground.clock.now(), 0.0, rows, resources, frozenset())


def test_what_an_interrupted_provision_left_is_half_made(ground: TwinGround) -> None:
    assert dies(ground, make, Fuse(50))
    assert ground.live()
    assert verdicts(look(ground.hands())) <= {Verdict.HALF_MADE, Verdict.UNUSED}
    assert swept(ground) == []


def test_what_no_journal_and_no_record_knows_is_orphaned(ground: TwinGround) -> None:
    make(ground.hands())
    ground.lose_journal()
    assert Verdict.ORPHANED in verdicts(look(ground.hands()))
    assert swept(ground) == []


def test_a_cell_that_only_the_journal_forgot_lives_by_its_record(ground: TwinGround) -> None:
    make(ground.hands())
    recorded(ground)
    ground.lose_journal()
    before = ground.live()
    assert swept(ground) == before


def test_a_home_that_shares_its_key_leaves_unknown_cells_until_they_run_out(ground: TwinGround) -> None:
    """Another home of the fabric may have made them."""
    make(ground.hands(), spec(ttl_s=600))
    ground.lose_journal()
    ground.fabric.note_shared()
    before = ground.live()
    assert verdicts(look(ground.hands())) == {Verdict.ELSEWHERE, Verdict.LIVE}  # the network of one that may live
    assert swept(ground) == before
    ground.clock.advance(601)
    assert Verdict.OVERDUE in verdicts(look(ground.hands()))
    swept(ground)
    assert not [one for one in ground.live() if "machine" in one]


def test_what_another_command_works_on_is_left_to_it(ground: TwinGround) -> None:
    dies(ground, make, Fuse(50))
    before = ground.live()
    with ground.hands().journal.lock(CELL):
        assert verdicts(look(ground.hands())) == {Verdict.BUSY}
        assert swept(ground) == before


def test_what_another_command_finished_after_the_person_looked_is_no_longer_condemned(ground: TwinGround) -> None:
    """The answer to the question may take an hour."""
    dies(ground, make, Fuse(50))
    agreed = look(ground.hands())
    assert verdicts(agreed) == {Verdict.HALF_MADE, Verdict.UNUSED}
    make(ground.hands())
    there = ground.live()
    hands = ground.hands()
    assert sweep(hands, hands.fabric.home / "project", before=agreed).outcomes == ()
    assert ground.live() == there


@pytest.mark.parametrize("tag", ["grafos:attempt", "grafos:fabric"])
def test_a_cell_whose_machine_somebody_tagged_otherwise_lives_by_what_the_journal_knows(
    ground: TwinGround, tag: str
) -> None:
    """Nothing in a listing proves the machine, or shows it, any more; by its id it is there."""
    make(ground.hands())
    [thing] = [thing for thing in ground.cloud.things() if thing.id == machine(ground).ref.id]
    thing.desired = msgspec.structs.replace(thing.desired, tags={**thing.desired.tags, tag: "7"})
    ground.clock.advance(60)
    there = ground.live()
    sight = look(ground.hands())
    assert (sight.condemned, sight.forgotten) == ((), ())
    assert swept(ground) == there
    undo(ground.hands())
    assert ground.live() == []


def test_a_cell_of_the_same_name_in_another_home_s_region_is_left_to_that_home(ground: TwinGround) -> None:
    make(ground.hands(), spec(ttl_s=600))
    here = [one for one in listed(ground) if one.tags.get("grafos:stack") == CELL]
    theirs = [msgspec.structs.replace(one, ref=msgspec.structs.replace(one.ref, region="eu-west-1")) for one in here]
    shared = dataclasses.replace(known(ground), shared=True)
    judged = judge(ground.fabric, "aws", [*here, *theirs], shared)
    assert {one.verdict for one in judged if one.region == "eu-west-1"} == {Verdict.ELSEWHERE}
    late = dataclasses.replace(shared, now=ground.clock.now() + 601)
    judged = judge(ground.fabric, "aws", [*here, *theirs], late)
    assert {one.verdict for one in judged if one.region == "us-east-1"} == {Verdict.OVERDUE}
    assert {one.verdict for one in judged if one.region == "eu-west-1"} == {Verdict.SURPLUS}


def test_with_a_clock_that_is_off_nothing_is_called_overdue(ground: TwinGround) -> None:
    make(ground.hands())
    there = ground.live()
    hands = ground.hands()
    ahead: Any = RealIdentity(hands.connector, server_time=hands.clock.now() - 9 * 3600)
    with pytest.raises(GrafosError) as refused:
        look(dataclasses.replace(hands, connector=ahead))
    assert refused.value.code == "config_invalid"
    assert "clock" in refused.value.what
    assert ground.live() == there


class RealIdentity:
    """A connector to a real account, whose cloud tells its time."""

    def __init__(self, connector: Connector, server_time: float) -> None:
        self._connector, self._server_time = connector, server_time

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connector, name)

    def identity(self) -> Identity:
        return msgspec.structs.replace(self._connector.identity(), emulated=False, server_time=self._server_time)


def test_a_second_machine_of_a_cell_is_one_too_many_and_the_first_stays(ground: TwinGround) -> None:
    make(ground.hands())
    first = machine(ground)
    [thing] = [thing for thing in ground.cloud.things() if thing.id == first.ref.id]
    second = ground.cloud.plant(thing.desired)
    ground.clock.advance(60)
    condemned = look(ground.hands()).condemned
    assert second.ref.id in {one.found.ref.id for one in condemned}
    assert {one.verdict for one in condemned} == {Verdict.SURPLUS}
    swept(ground)
    ground.clock.advance(60)
    assert machine(ground).ref.id == first.ref.id


def test_a_disk_that_outlived_its_machine_is_one_too_many_and_the_cell_stays(ground: TwinGround) -> None:
    make(ground.hands())
    ground.cloud.halt(machine(ground).ref.id)
    [disk] = [one for one in listed(ground) if one.ref.kind is Kind.DISK]
    ground.clock.advance(60)
    make(ground.hands())
    ground.clock.advance(60)
    left = msgspec.structs.replace(disk, state=State.READY)
    judged = judge(ground.fabric, "aws", [*listed(ground), left], known(ground))
    assert [one.found.ref.id for one in judged if one.verdict is Verdict.SURPLUS] == [disk.ref.id]
    assert {one.verdict for one in judged} == {Verdict.SURPLUS, Verdict.LIVE}


def test_what_is_called_as_a_cell_that_lives_in_another_region_is_one_too_many(ground: TwinGround) -> None:
    """Its cell is not taken down for it."""
    make(ground.hands())
    moved = [
        msgspec.structs.replace(one, ref=msgspec.structs.replace(one.ref, region="eu-west-1")) for one in listed(ground)
    ]
    judged = judge(ground.fabric, "aws", [*listed(ground), *moved], known(ground))
    assert {one.verdict for one in judged if one.region == "us-east-1"} == {Verdict.LIVE}
    assert {one.verdict for one in judged if one.region != "us-east-1" and one.stack == CELL} == {Verdict.SURPLUS}


def test_two_fabrics_in_one_account_sweep_their_own(ground: TwinGround) -> None:
    other = TwinGround()
    other.cloud, other.clock = ground.cloud, ground.clock
    make(other.hands(), spec(ttl_s=600))
    theirs = ground.live()
    make(ground.hands(), spec(ttl_s=600))
    ground.clock.advance(601)
    assert swept(ground) == theirs
    assert swept(other) == []


def test_without_the_key_everything_is_only_listed(ground: TwinGround) -> None:
    make(ground.hands(), spec(ttl_s=600))
    ground.clock.advance(601)
    sight = list_only(ground.connector(), str(ground.fabric.id))
    assert verdicts(sight) == {Verdict.UNPROVED}
    assert len(sight.judged) >= WHOLE
    assert sight.condemned == ()


def test_what_cannot_be_deleted_is_told_and_the_rest_goes(ground: TwinGround) -> None:
    make(ground.hands(), spec("aws-one", ttl_s=600))
    make(ground.hands(), spec("aws-two", ttl_s=600))
    ground.clock.advance(601)
    ground.faults.add(Fault("begin_delete", Effect.REFUSE, kind=Kind.MACHINE, code="cloud_denied", times=1))
    hands = ground.hands()
    done = sweep(hands, hands.fabric.home)
    assert done.after.condemned == (), "the second round had it"
    make(ground.hands(), spec("aws-three", ttl_s=600))
    ground.clock.advance(601)
    ground.faults.add(Fault("begin_delete", Effect.REFUSE, kind=Kind.MACHINE, code="cloud_denied", times=99))
    hands = ground.hands()
    done = sweep(hands, hands.fabric.home)
    assert [outcome.error.code for outcome in done.outcomes if outcome.error] == ["resources_left"]
    assert Verdict.OVERDUE in {one.verdict for one in done.after.condemned}


# --- the proof ----------------------------------------------------------------------------------------------------


def test_the_proof_is_signed_names_all_regions_and_kinds_and_needs_no_journal(ground: TwinGround) -> None:
    make(ground.hands())
    undo(ground.hands())
    ground.lose_journal()
    for stack in (CELL, ""):
        hands = ground.hands()
        proof = prove(hands, stack)
        assert open_signed(proof.signed, Inventory, ground.fabric.key.public_key()) == proof.inventory
        assert (proof.inventory.left, proof.inventory.regions, proof.inventory.stack) == (0, (), stack)
        assert "machine" in proof.inventory.kinds
        assert proof_file(hands, proof.inventory).stat().st_mode & 0o777 == 0o600


def test_what_is_left_anywhere_is_no_proof(ground: TwinGround) -> None:
    elsewhere = type(spec())(provider="aws", cell_id="aws-eu", region="eu-west-1", operator_cidr="203.0.113.7/32")
    make(ground.hands(), elsewhere)
    assert prove(ground.hands(), CELL).inventory.left == 0
    for stack in ("aws-eu", ""):
        with pytest.raises(GrafosError) as refused:
            prove(ground.hands(), stack)
        assert (refused.value.code, refused.value.exit_code) == ("resources_left", 9)


def test_a_proof_waits_until_the_listing_can_be_believed() -> None:
    ground = TwinGround(lag_s=30.0)
    make(ground.hands())
    began = ground.clock.now()
    with pytest.raises(GrafosError):
        prove(ground.hands(), CELL)
    assert ground.clock.now() >= began
    undo(ground.hands())
    first, last = prove(ground.hands(), CELL).inventory.listed_at
    assert last >= first


def test_a_machine_that_is_made_while_a_proof_waits_is_in_it() -> None:
    """No listing shows it yet, and the journal knows that it was begun."""
    ground = TwinGround(lag_s=30.0)
    make(ground.hands(), spec("aws-two"))
    undo(ground.hands(), "aws-two")
    hands, almost, made = ground.hands(), ground.clock.now() + 29.0, []

    def sleep(seconds: float) -> None:
        ground.clock.advance(seconds)
        if not made and ground.clock.now() > almost:
            made.append(CELL)
            make_half(ground.hands())

    with pytest.raises(GrafosError) as refused:
        prove(dataclasses.replace(hands, sleep=sleep))
    assert "machine" in {left["kind"] for left in refused.value.context["left"]}
