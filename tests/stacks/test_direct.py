"""The engine does what recovery says, and a bad day of the cloud ends in a whole stack or in one clear error."""

from __future__ import annotations

import msgspec
import pytest
from crash_sweep import CELL, WHOLE, Fuse, check_gone, dies, make, plan, spec, undo
from twin_ground import TwinGround

from grafos_connectors.contract import Desired, Kind
from grafos_connectors.twin import Effect, Fault, Limits
from grafos_core.errors import GrafosError
from grafos_stacks.journal import Life, StackState
from grafos_stacks.making import make_stack
from grafos_stacks.names import key_of
from grafos_stacks.plan import desired


def machine_life(ground: TwinGround) -> tuple[Life, int]:
    [row] = [row for row in ground.hands().journal.resources(CELL).values() if row.kind is Kind.MACHINE]
    return row.life, row.attempt


def refusal(ground: TwinGround) -> GrafosError:
    with pytest.raises(GrafosError) as refused:
        make(ground.hands())
    return refused.value


# --- answers that get lost, requests that do ----------------------------------------------------------------------


@pytest.mark.parametrize("effect", [Effect.LOSE_ANSWER, Effect.LOSE_REQUEST])
@pytest.mark.parametrize("kind", [Kind.NETWORK, Kind.GATEWAY, Kind.SUBNET, Kind.FIREWALL, Kind.ROUTE, Kind.MACHINE])
@pytest.mark.parametrize("lag_s", [0.0, 30.0])
def test_a_create_whose_answer_is_lost_makes_one_resource(effect: Effect, kind: Kind, lag_s: float) -> None:
    ground = TwinGround(lag_s=lag_s)
    ground.faults.add(Fault("begin_create", effect, kind=kind))
    make(ground.hands())
    assert len(ground.live()) == WHOLE
    check_gone(ground, 0)


@pytest.mark.parametrize("effect", [Effect.LOSE_ANSWER, Effect.LOSE_REQUEST])
@pytest.mark.parametrize("kind", [Kind.MACHINE, Kind.FIREWALL, Kind.SUBNET, Kind.NETWORK])
def test_a_delete_whose_answer_is_lost_is_asked_for_again(effect: Effect, kind: Kind) -> None:
    ground = TwinGround(lag_s=3.0)
    make(ground.hands())
    ground.faults.add(Fault("begin_delete", effect, kind=kind))
    check_gone(ground, 0)


@pytest.mark.parametrize("operation", ["find", "poll", "observe", "list"])
def test_a_question_that_does_not_get_through_is_asked_again(operation: str) -> None:
    ground = TwinGround()
    ground.faults.add(Fault(operation, Effect.REFUSE, code="cloud_unreachable", times=3))
    ground.faults.add(Fault(operation, Effect.REFUSE, code="cloud_throttled", retry_after_s=2.0, times=2))
    make(ground.hands())
    check_gone(ground, 0)


@pytest.mark.parametrize("code", ["cloud_auth", "cloud_denied", "cloud_unknown", "cloud_capacity"])
def test_a_refusal_after_a_lost_answer_does_not_make_the_machine_forgotten(code: str) -> None:
    """The first call may have had its effect, which no listing shows yet: whoever tears the cell down waits for it."""
    ground = TwinGround(lag_s=30.0)
    ground.faults.add(Fault("begin_create", Effect.LOSE_ANSWER, kind=Kind.MACHINE))
    ground.faults.add(Fault("begin_create", Effect.REFUSE, kind=Kind.MACHINE, code=code, skip=1))
    assert refusal(ground).code == code
    check_gone(ground, 0)


def test_a_refusal_after_a_lost_answer_makes_no_second_machine() -> None:
    """The next attempt has a token of its own, so it waits until what the first one made would be seen."""
    ground = TwinGround(lag_s=30.0)
    ground.faults.add(Fault("begin_create", Effect.LOSE_ANSWER, kind=Kind.MACHINE))
    ground.faults.add(Fault("begin_create", Effect.REFUSE, kind=Kind.MACHINE, code="cloud_throttled", skip=1))
    make(ground.hands())
    assert len(ground.live()) == WHOLE
    check_gone(ground, 0)


# --- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["cloud_denied", "cloud_auth", "cloud_quota", "cloud_invalid", "cloud_unknown"])
def test_a_refusal_is_told_at_once_and_nothing_half_done_is_lost(code: str) -> None:
    ground = TwinGround()
    ground.faults.add(Fault("begin_create", Effect.REFUSE, kind=Kind.MACHINE, code=code))
    assert refusal(ground).code == code
    assert machine_life(ground) == (Life.REFUSED, 1)
    make(ground.hands())
    assert machine_life(ground) == (Life.READY, 2)
    check_gone(ground, 0)


def test_no_capacity_names_the_zones_that_have_some() -> None:
    ground = TwinGround(limits=Limits(machines_per_zone={"us-east-1a": 0, "us-east-1b": 1}))
    refused = refusal(ground)
    assert (refused.code, refused.context["alternatives"]) == ("cloud_capacity", ["us-east-1b"])
    check_gone(ground, 0)


def test_throttling_is_waited_out_and_bounded() -> None:
    ground = TwinGround()
    ground.faults.add(Fault("begin_create", Effect.REFUSE, kind=Kind.SUBNET, code="cloud_throttled", times=4))
    make(ground.hands())
    assert any("refused" in step.note for step in ground.steps)
    check_gone(ground, 0)
    again = TwinGround()
    again.faults.add(Fault("begin_create", Effect.REFUSE, kind=Kind.SUBNET, code="cloud_throttled", times=999))
    assert refusal(again).code == "cloud_throttled"
    check_gone(again, 0)


def test_a_machine_that_launches_and_dies_is_told_and_the_next_run_makes_another() -> None:
    ground = TwinGround()
    ground.faults.add(Fault("begin_create", Effect.DIE_LATER, kind=Kind.MACHINE, code="cloud_capacity"))
    assert refusal(ground).code == "cloud_capacity"
    make(ground.hands())
    life, attempt = machine_life(ground)
    assert life is Life.READY
    assert attempt > 1
    assert len(ground.live()) == WHOLE
    check_gone(ground, 0)


def test_an_operation_that_never_ends_is_given_up_and_can_be_taken_up_again() -> None:
    ground = TwinGround()
    ground.cloud.timings = type(ground.cloud.timings)(machine_start_s=100_000.0)
    assert refusal(ground).code == "cloud_slow"
    assert machine_life(ground) == (Life.BEGUN, 1)
    ground.clock.advance(100_000.0)
    assert refusal(ground).code == "cell_gone"  # its TTL ran out meanwhile
    check_gone(ground, 0)


# --- what others did ----------------------------------------------------------------------------------------------


def test_a_machine_deleted_by_hand_is_made_anew_under_another_token() -> None:
    ground = TwinGround(lag_s=5.0)
    make(ground.hands())
    [machine] = [one for one in ground.found() if one.ref.kind is Kind.MACHINE]
    ground.connector().begin_delete(machine.ref)
    ground.clock.advance(60)
    make(ground.hands())
    assert machine_life(ground) == (Life.READY, 2)
    assert len(ground.live()) == WHOLE
    check_gone(ground, 0)


def test_a_cell_of_the_same_name_can_be_made_again() -> None:
    """The tokens of the first one are used up; the second one counts on."""
    ground = TwinGround()
    make(ground.hands())
    undo(ground.hands())
    make(ground.hands())
    assert machine_life(ground) == (Life.READY, 2)
    check_gone(ground, 0)


def test_a_cell_of_the_same_name_can_be_made_again_with_the_journal_lost() -> None:
    """Its first token is refused as one of a dead machine; that is data, and the next attempt follows."""
    ground = TwinGround(lag_s=5.0)
    make(ground.hands())
    undo(ground.hands())
    ground.lose_journal()
    make(ground.hands())
    assert machine_life(ground) == (Life.READY, 2)
    check_gone(ground, 0)


def planted(ground: TwinGround, kind: Kind, tags: dict[str, str], name: str = "") -> str:
    """A resource that bears the key of one of ours, but was not made by us."""
    [what] = [what for what in plan(ground.hands(), spec()).resources if what.kind is kind]
    call, _ = desired(ground.fabric, what, 1, {role: f"x-{role}" for role in what.needs}, {})
    copy = Desired(
        call.key, kind, name or call.name, call.region, call.zone, call.needs, call.inputs, {**call.tags, **tags}
    )
    return ground.cloud.plant(copy).ref.id


@pytest.mark.parametrize("kind", [Kind.NETWORK, Kind.FIREWALL])
def test_what_bears_our_key_without_our_signature_is_neither_adopted_nor_deleted(kind: Kind) -> None:
    ground = TwinGround()
    decoy = planted(ground, kind, {"grafos:signature": "0" * 32})
    assert refusal(ground).code == "cloud_conflict"
    undo(ground.hands())
    assert [one for one in ground.live() if decoy in one] == ground.live()


@pytest.mark.parametrize("kind", [Kind.NETWORK, Kind.MACHINE])
def test_a_copy_of_our_tags_beside_ours_is_passed_over(kind: Kind) -> None:
    """Also one that is older than ours, which a read by key shows first."""
    ground = TwinGround()
    make(ground.hands())
    ours = ground.live()
    decoy = planted(ground, kind, {}, name="theirs")
    ground.cloud._things[decoy].made_at = 0.0
    make(ground.hands())
    theirs = [one for one in ground.live() if one not in ours]
    undo(ground.hands())
    assert ground.live() == theirs


def test_what_bears_our_signature_was_made_by_us_and_is_adopted() -> None:
    ground = TwinGround()
    left = planted(ground, Kind.NETWORK, {})
    make(ground.hands())
    assert [one for one in ground.live() if left in one]
    assert len(ground.live()) == WHOLE
    check_gone(ground, 0)


# --- one after the other -------------------------------------------------------------------------------------------


def test_a_further_cell_shares_the_network_and_takes_three_calls() -> None:
    ground = TwinGround()
    make(ground.hands(), spec("aws-one"))
    first = sum(ground.cloud.changing_calls.values())
    make(ground.hands(), spec("aws-two"))
    further = sum(ground.cloud.changing_calls.values()) - first
    undo(ground.hands(), "aws-one")
    undone = sum(ground.cloud.changing_calls.values()) - first - further
    assert (first, further, undone) == (8, 3, 2)
    assert len(ground.live()) == WHOLE
    undo(ground.hands(), "aws-two")
    assert ground.live() == []


def test_the_network_stays_for_a_cell_that_another_machine_of_the_operator_made() -> None:
    """Its journal is elsewhere; the cloud shows the cell, and the fabric's key proves it."""
    ground = TwinGround()
    make(ground.hands(), spec("aws-one"))
    make(ground.hands(), spec("aws-two"))
    ground.lose_journal()
    make(ground.hands(), spec("aws-one"))
    undo(ground.hands(), "aws-one")
    assert len(ground.live()) == WHOLE


def test_a_cell_in_another_region_has_a_network_of_its_own() -> None:
    ground = TwinGround()
    make(ground.hands(), spec("aws-one"))
    elsewhere = type(spec())(provider="aws", cell_id="aws-eu", region="eu-west-1", operator_cidr="203.0.113.7/32")
    make(ground.hands(), elsewhere)
    assert len(ground.live()) == 2 * WHOLE
    undo(ground.hands(), "aws-eu")
    assert len(ground.live()) == WHOLE
    check_gone(ground, 0)


def test_a_run_that_continues_is_held_to_the_pinned_inputs() -> None:
    ground = TwinGround()
    dies(ground, make, Fuse(40))
    with pytest.raises(GrafosError) as refused:
        make(ground.hands(), spec(machine_type="t3.medium"))
    assert refused.value.code == "plan_stale"
    assert "machine_type" in refused.value.what
    make(ground.hands())
    check_gone(ground, 0)


def test_an_operator_who_comes_from_another_address_gets_its_door_and_the_old_one_is_closed() -> None:
    ground = TwinGround()
    made = make(ground.hands())
    moved = make(ground.hands(), msgspec.structs.replace(spec(), operator_cidr="198.51.100.9/32"))
    rules = [one.attributes["cidr"] for one in ground.found() if one.ref.kind is Kind.FIREWALL_RULE]
    assert rules == ["198.51.100.9/32"]
    assert (moved.expires_at, moved.machine) == (made.expires_at, made.machine)
    assert machine_life(ground) == (Life.READY, 1)
    make(ground.hands(), msgspec.structs.replace(spec(), operator_cidr="198.51.100.9/32"))
    check_gone(ground, 0)


def test_a_stack_that_is_being_torn_down_is_not_provisioned() -> None:
    ground = TwinGround()
    make(ground.hands())
    dies(ground, undo, Fuse(10))
    assert refusal(ground).code == "stack_busy"
    check_gone(ground, 0)


def test_a_stack_of_another_engine_is_left_to_it() -> None:
    ground = TwinGround()
    make(ground.hands())
    journal = ground.hands().journal
    row = journal.stack(CELL)
    assert row is not None
    journal.write(row.moved(StackState.MADE, 1.0, engine="pulumi"))
    assert refusal(ground).code == "stack_busy"


def test_the_journal_keeps_no_user_data() -> None:
    ground = TwinGround()
    make(ground.hands())
    kept = b"".join(path.read_bytes() for path in ground.fabric.home.glob("journal.db*"))
    assert b"claim_secret" not in kept
    assert b"bundle_sha256" not in kept


def test_progress_names_each_step_from_its_begin_to_its_end() -> None:
    ground = TwinGround()
    make(ground.hands())
    names = [step.name for step in ground.steps if step.state == "begun"]
    assert names == [what.name for what in plan(ground.hands(), spec()).resources]
    ended = [step.name for step in ground.steps if step.state == "done"]
    assert ended == names


def test_a_key_is_the_same_wherever_it_is_computed() -> None:
    """The journal of one version must find what another version made: the derivation is fixed for ever."""
    key = key_of("fab-0123456789ab", "aws-one", Kind.MACHINE, "machine", {"region": "us-east-1", "disk_gib": 8})
    assert key == "44ddd0c55b7599590aed4ea7f9b5c027"


def test_a_bigger_cell_is_not_made_under_the_hold_of_one_that_the_journal_forgot() -> None:
    ground = TwinGround()
    make(ground.hands(), spec(ttl_s=600))
    ground.lose_journal()
    before = ground.live()
    with pytest.raises(GrafosError) as refused:
        make(ground.hands(), spec(ttl_s=7200))
    assert refused.value.code == "plan_stale"
    assert ground.live() == before
    undo(ground.hands())
    assert ground.live() == []


def test_two_cells_are_never_made_for_one_hold() -> None:
    ground = TwinGround()
    hands = ground.hands()
    first = plan(hands, spec())
    with hands.journal.lock(CELL):
        make_stack(hands, first, lambda what, attempt: {"user_data": ""} if what.kind is Kind.MACHINE else {})
    with hands.fabric.ledger() as transaction:
        assert [hold.amount_micro_cents for hold in transaction.ledger.holds.values()] == [first.bill.total_micro_cents]
