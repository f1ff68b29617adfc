"""The provider over gRPC, in a process of its own, as an engine would speak to it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import grpc
import pytest
from google.protobuf import empty_pb2, struct_pb2
from google.rpc import status_pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from parts_program import CELL, REGION
from pulumi.runtime.proto import provider_pb2
from pulumi_ground import PLACE, Spoken, emulated_aws, fabric, machines, open_to

from grafos_connectors.aws.connector import AwsConnector
from grafos_core import ledger as ledgers
from grafos_core.clock import SystemClock
from grafos_core.fabric import OPERATOR_ACCOUNT
from grafos_emulators.emulator import EmulatedClouds
from grafos_emulators.lifecycle import LifecycleTimes
from grafos_stacks.direct import Hands
from grafos_stacks.journal import DIRECT, Journal
from grafos_stacks.making import make_stack
from grafos_stacks.owners import hand_over_stack
from grafos_stacks.pulumi.answers import DETAILS
from grafos_stacks.pulumi.codec import UNKNOWN, Properties, decode, encode
from grafos_stacks.pulumi.schema import HANDOVER, PLAN

MACHINE = "grafos:cell:Machine"


@pytest.fixture
def aws(tmp_path: Path) -> Iterator[EmulatedClouds]:
    with emulated_aws(tmp_path) as aws:
        yield aws


@pytest.fixture
def provider(aws: EmulatedClouds) -> Iterator[Spoken]:
    with closing(Spoken()) as spoken:
        yield spoken


def cap(cents: int) -> None:
    fabric().book(lambda ledger: ledgers.set_cap(ledger, OPERATOR_ACCOUNT, cents * 1_000_000))


def holds() -> list[str]:
    return [hold.state for hold in fabric().read_ledger().holds.values()]


def refused(call: pytest.ExceptionInfo[grpc.RpcError]) -> str:
    return str(call.value.details())


# --- values -------------------------------------------------------------------------------------------------------

PLAIN = st.recursive(
    st.text(max_size=20) | st.booleans() | st.integers(-(2**53), 2**53) | st.just(UNKNOWN),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=8), PLAIN, max_size=5), st.data())
def test_values_secrets_and_what_is_unknown_survive_the_wire(values: dict[str, object], data: st.DataObject) -> None:
    secret = data.draw(st.sets(st.sampled_from(sorted(values)))) if values else set()
    wire = encode(values, secret).SerializeToString()
    assert decode(struct_pb2.Struct.FromString(wire)) == Properties(values, frozenset(secret))


# --- the process --------------------------------------------------------------------------------------------------


def test_it_ends_by_itself_when_its_engine_is_dead() -> None:
    spoken = Spoken()
    assert spoken.process.stdin
    spoken.process.stdin.close()
    assert spoken.process.wait(10) == 0
    spoken.close()


def test_sigint_ends_it_at_once_though_a_call_is_under_way(tmp_path: Path) -> None:
    with emulated_aws(tmp_path, times=LifecycleTimes(starting_s=600.0)) as aws, closing(Spoken()) as spoken:
        plan = spoken.plan()

        def make() -> None:
            with pytest.raises(grpc.RpcError):
                spoken.whole(plan)

        making = threading.Thread(target=make)
        making.start()
        wait_for_machine(aws)
        spoken.process.send_signal(signal.SIGINT)
        assert spoken.process.wait(10) == 0
        making.join()


def cancel_at_machine(aws: EmulatedClouds, spoken: Spoken) -> None:
    wait_for_machine(aws)
    spoken.call.Cancel(empty_pb2.Empty())


def wait_for_machine(aws: EmulatedClouds) -> None:
    until = time.monotonic() + 60
    while not machines(aws):
        assert time.monotonic() < until
        time.sleep(0.02)


def test_what_is_imported_to_serve_is_no_cloud_and_no_programming_side_of_pulumi() -> None:
    code = "import sys, grafos_stacks.pulumi.__main__ as it; it.new_server(); print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines())
    assert loaded & {"boto3", "azure", "google.cloud", "pulumi.automation", "pulumi.output"} == set()
    assert "grafos_stacks.pulumi.plans" in loaded


# --- who it is ----------------------------------------------------------------------------------------------------


def test_it_tells_its_schema_and_refuses_credentials_as_settings(provider: Spoken) -> None:
    told = json.loads(provider.call.GetSchema(provider_pb2.GetSchemaRequest()).schema)
    assert {PLAN, HANDOVER, MACHINE, "grafos:cell:FirewallRule"} <= told["resources"].keys()
    assert told["resources"][PLAN]["inputProperties"]["type"]["willReplaceOnChanges"]
    assert not told["resources"][PLAN]["inputProperties"]["ttl"]["willReplaceOnChanges"]
    given = encode({"provider": "aws", "secretAccessKey": "x", "version": "0.1.0"})
    answer = provider.call.CheckConfig(provider_pb2.CheckRequest(news=given))
    assert [failure.property for failure in answer.failures] == ["secretAccessKey"]
    assert provider.call.GetPluginInfo(empty_pb2.Empty()).version == "0.1.0"
    with pytest.raises(grpc.RpcError) as unknown:
        provider.create("grafos:cell:Nothing", {})
    assert "unsupported" in refused(unknown)


# --- check --------------------------------------------------------------------------------------------------------


BARRED: list[tuple[dict[str, object], str]] = [
    ({"accessKey": "x"}, "config_invalid"),
    ({"ttl": "soon"}, "usage"),
    ({"ttl": "9h", "longestTtl": "8h"}, "config_invalid"),
    ({"allowedRegions": ["eu-central-1"]}, "config_invalid"),
    ({"allowedTypes": ["t9.none"]}, "config_invalid"),
    ({"maxHourlyCents": 1}, "budget_exceeded"),
    ({"allow": "0.0.0.0/0"}, "config_invalid"),
    ({"cellId": "Not A Name"}, "name_invalid"),
]


def test_what_a_guard_rail_bars_fails_in_check(provider: Spoken) -> None:
    for inputs, code in BARRED:
        [reason] = provider.check(PLAN, {**PLACE, **inputs})
        assert f"[{code}]" in reason, (inputs, reason)


def test_cells_of_one_run_share_the_cap_already_in_check(provider: Spoken) -> None:
    one = {**PLACE, "ttl": "8h"}
    assert provider.check(PLAN, one) == []
    held = provider.plan(ttl="8h").values["heldMicroCents"]
    cap(int(held) * 5 // 2_000_000)
    assert provider.check(PLAN, {**one, "cellId": "aws-two"}) == []
    [reason] = provider.check(PLAN, {**one, "cellId": "aws-three"})
    assert "[budget_exceeded]" in reason
    with pytest.raises(grpc.RpcError) as over:
        provider.create(PLAN, {**one, "ttl": "30d", "cellId": "aws-four"})
    assert "[budget_exceeded]" in refused(over)
    assert holds() == [ledgers.OPEN]


def test_two_runners_on_one_budget_never_hold_more_than_the_cap(provider: Spoken) -> None:
    """Both were told in check that it fits; the ledger gives it to the faster one."""
    one = {**PLACE, "ttl": "8h"}
    with closing(Spoken("prod")) as other:
        held = int(provider.plan(ttl="8h").values["heldMicroCents"])
        cap(held * 5 // 2_000_000)
        runners = [(provider, "aws-two"), (other, "aws-three")]
        assert [runner.check(PLAN, {**one, "cellId": cell}) for runner, cell in runners] == [[], []]
        with ThreadPoolExecutor(len(runners)) as at_once:
            made = [at_once.submit(runner.create, PLAN, {**one, "cellId": cell}) for runner, cell in runners]
        errors = [str(error.details()) for each in made if isinstance(error := each.exception(), grpc.RpcError)]
    assert len(errors) == 1, errors
    assert "[budget_exceeded]" in errors[0]
    assert holds() == [ledgers.OPEN] * 2


def test_what_is_not_known_yet_is_no_mistake_and_stays_unknown(provider: Spoken) -> None:
    asked = {**PLACE, "role": "network", "key": UNKNOWN, "needs": {}}
    assert provider.check("grafos:cell:Network", asked) == []
    id_, previewed = provider.create("grafos:cell:Network", asked, preview=True)
    assert id_ == ""
    assert "key" in previewed.unknown
    plan = {**PLACE, "ttl": "2h", "allow": UNKNOWN}
    assert provider.check(PLAN, plan) == []
    _, previewed = provider.create(PLAN, plan, preview=True)
    assert {"allow", "keys", "expiresAt"} <= previewed.unknown
    known = provider.plan(allow="203.0.113.7/32")
    update = provider.update(PLAN, CELL, known, plan, preview=True)
    assert ({"keys"} <= update.unknown, update.values["price"]) == (True, known.values["price"])


# --- create, read, diff, delete ------------------------------------------------------------------------------------


def test_a_preview_makes_and_holds_nothing(provider: Spoken, aws: EmulatedClouds) -> None:
    _, previewed = provider.create(PLAN, {**PLACE, "ttl": "2h"}, preview=True)
    assert previewed.values["price"].endswith("/h")
    assert {"expiresAt", "document"} <= previewed.unknown
    assert (aws.world(), holds()) == ((), [])


def test_a_cell_is_made_adopted_read_and_deleted_without_a_trace(provider: Spoken, aws: EmulatedClouds) -> None:
    plan = provider.plan()
    made = provider.whole(plan)
    assert provider.plan().values["keys"] == plan.values["keys"]
    again = provider.whole(plan)
    assert {role: id_ for role, (id_, _) in again.items()} == {role: id_ for role, (id_, _) in made.items()}
    assert len(machines(aws)) == 1
    machine, state = made["machine"]
    assert provider.read(MACHINE, machine, state)[0] == machine
    listed = provider.call.List(provider_pb2.ListRequest(token=MACHINE))
    assert [(one.result.id, one.result.name) for one in listed] == [(machine, f"{CELL}/machine")]
    for _ in range(2):
        provider.delete(MACHINE, machine, state)
    assert provider.read(MACHINE, machine, state)[0] == ""
    provider.delete("grafos:cell:Network", *made["network"])
    assert [thing.kind for thing in aws.world()].count("vpc") == 1, "what cells share goes with the last of them"
    for _ in range(2):
        provider.delete(PLAN, CELL, plan)
    assert (aws.world(), holds()) == ((), [ledgers.SETTLED])
    assert provider.read(PLAN, CELL, plan)[0] == ""


def test_what_a_killed_run_left_beside_the_state_goes_with_the_plan(provider: Spoken, aws: EmulatedClouds) -> None:
    plan = provider.plan()
    provider.whole(plan)
    provider.delete(PLAN, CELL, plan)
    assert aws.world() == ()


def test_a_run_that_only_ends_things_ends_what_it_never_heard_of_before_the_part_that_it_needs(
    provider: Spoken, aws: EmulatedClouds
) -> None:
    """An engine was killed before its state had the machine. Under a program a machine that is ready is left alone."""
    plan = provider.plan()
    firewall, made = "grafos:cell:Firewall", provider.whole(plan)
    with closing(Spoken()) as under_a_program:
        assert under_a_program.check(PLAN, {**PLACE, "ttl": "2h"}) == []
        asked = {"urn": provider.urn(firewall), "type": firewall, "id": made["firewall"][0]}
        request = provider_pb2.DeleteRequest(**asked, properties=encode(made["firewall"][1].values))
        with pytest.raises(grpc.RpcError) as waited:
            under_a_program.call.Delete(request, timeout=2.0)
        assert waited.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert len(machines(aws)) == 1
    with closing(Spoken()) as ending:
        ending.delete(firewall, *made["firewall"])
    assert machines(aws) == []


def test_the_direct_engine_goes_on_with_what_pulumi_made_once_it_is_handed_over(
    provider: Spoken, aws: EmulatedClouds
) -> None:
    plan = provider.plan()
    made = provider.whole(plan)
    clock = SystemClock()
    with closing(Journal(fabric(), clock)) as journal:
        row = journal.stack(CELL)
        assert row is not None
        assert row.plan is not None
        hand_over_stack(journal, CELL, DIRECT, clock.now())
        connector = AwsConnector(REGION, environment=aws.environment())
        hands = Hands(fabric(), connector, journal, clock, time.sleep)
        found = make_stack(hands, row.plan, lambda what, attempt: {"user_data": "never sent"}).machine
    assert [found.ref.id] == machines(aws) == [made["machine"][0]]
    with pytest.raises(grpc.RpcError) as foreign:
        provider.plan()
    assert "[stack_busy]" in refused(foreign)
    assert "grafos cloud handover aws-one --to pulumi" in refused(foreign)


def test_two_pulumi_stacks_never_own_one_cell(provider: Spoken, aws: EmulatedClouds) -> None:
    plan = provider.plan()
    with closing(Spoken("prod")) as other:
        for act in (other.plan, lambda: other.part("Network", "network", plan), lambda: other.delete(PLAN, CELL, plan)):
            with pytest.raises(grpc.RpcError) as foreign:
                act()
            assert "[stack_busy]" in refused(foreign)
            assert "the Pulumi stack grafos/dev" in refused(foreign)
    assert holds() == [ledgers.OPEN]


def test_which_changes_mean_another_cell(provider: Spoken) -> None:
    old = {**PLACE, "ttl": "2h"}
    lives = Properties({**old, "expiresAt": int(time.time()) + 3600})
    gone = Properties({**old, "expiresAt": int(time.time()) - 1})
    none = provider.diff(PLAN, lives, old, old)
    assert (none.changes, list(none.diffs)) == (provider_pb2.DiffResponse.DIFF_NONE, [])
    longer = provider.diff(PLAN, lives, old, {**old, "ttl": "3h"})
    assert (list(longer.diffs), list(longer.replaces)) == (["ttl"], [])
    bigger = provider.diff(PLAN, lives, old, {**old, "type": "t3.large"})
    assert (list(bigger.replaces), bigger.deleteBeforeReplace) == (["type"], True)
    assert list(provider.diff(PLAN, gone, old, old).diffs) == []
    assert list(provider.diff(PLAN, gone, old, {**old, "renewal": 1}).replaces) == ["renewal"]


def test_a_plan_lets_another_address_in_and_its_rule_is_then_the_one_that_is_there(
    provider: Spoken, aws: EmulatedClouds
) -> None:
    home, away = {**PLACE, "ttl": "2h", "allow": "203.0.113.7/32"}, {**PLACE, "ttl": "2h", "allow": "198.51.100.9/32"}
    early = provider.create(PLAN, home)[1]
    early = provider.update(PLAN, CELL, early, away)
    plan = provider.update(PLAN, CELL, early, home)
    assert early.values["keys"] != plan.values["keys"], "of a cell that has no rule yet, only the plan changes"
    made = provider.whole(plan)
    shown = provider.update(PLAN, CELL, plan, away, preview=True)
    assert provider.read(PLAN, CELL, plan)[1].values["keys"] == plan.values["keys"], "a preview changes nothing"
    changed = provider.update(PLAN, CELL, plan, away)
    assert shown.values["keys"] == changed.values["keys"] != plan.values["keys"]
    rule, _ = provider.part("FirewallRule", "firewall-rule", changed, firewall=made["firewall"][0])
    assert rule != made["firewall-rule"][0]
    provider.delete("grafos:cell:FirewallRule", *made["firewall-rule"])
    assert open_to(aws) == ["198.51.100.9/32"]


def test_a_secret_that_was_given_stays_one(provider: Spoken) -> None:
    request = provider_pb2.CreateRequest(
        urn=provider.urn(PLAN), type=PLAN, properties=encode({**PLACE, "allow": "203.0.113.7/32"}, ["allow"])
    )
    told = decode(provider.call.Create(request).properties)
    assert {"document"} <= told.secrets
    assert "203.0.113.7" not in str({n: v for n, v in told.values.items() if n not in told.secrets}), told


def test_a_machine_that_is_not_ready_yet_keeps_its_id(tmp_path: Path) -> None:
    """The engine's word to stop ends the wait; what exists is told with its id, also by a later read."""
    with emulated_aws(tmp_path, times=LifecycleTimes(starting_s=600.0)) as aws, closing(Spoken()) as spoken:
        plan = spoken.plan()
        stopping = threading.Thread(target=lambda: cancel_at_machine(aws, spoken))
        stopping.start()
        with pytest.raises(grpc.RpcError) as stopped:
            spoken.whole(plan)
        stopping.join()
        left = unfinished(stopped)
        assert [left.id] == machines(aws)
        assert "[interrupted]" in left.reasons[0]
        spoken.call.Configure(provider_pb2.ConfigureRequest())
        with pytest.raises(grpc.RpcError) as waiting:
            spoken.read(MACHINE, left.id, decode(left.properties))
        assert unfinished(waiting).id == left.id
        spoken.delete(PLAN, CELL, plan)
        assert aws.world() == ()


def unfinished(call: pytest.ExceptionInfo[grpc.RpcError]) -> provider_pb2.ErrorResourceInitFailed:
    [packed] = [value for name, value in call.value.trailing_metadata() if name == DETAILS]
    left = provider_pb2.ErrorResourceInitFailed()
    [detail] = status_pb2.Status.FromString(packed).details
    assert detail.Unpack(left)
    return left


def test_a_machine_for_which_its_zone_has_no_room_is_made_in_another_and_stays_the_same_resource(
    provider: Spoken, aws: EmulatedClouds
) -> None:
    aws.capacity.fill("aws", f"{REGION}a")
    plan = provider.plan()
    made = provider.whole(plan)
    machine, state = made["machine"]
    assert ([machine], state.values["zone"]) == (machines(aws), f"{REGION}b")
    now = provider.read(PLAN, CELL, plan)[1]
    moved = {role for role, key in now.values["keys"].items() if key != plan.values["keys"][role]}
    assert (plan.values["zone"], now.values["zone"], moved) == (f"{REGION}a", f"{REGION}b", {"subnet"})
    subnet, _ = provider.part("Subnet", "subnet", now, network=made["network"][0])
    before = {**PLACE, "role": "machine", "key": now.values["keys"]["machine"]}
    after = {**before, "needs": {"subnet": subnet, "firewall": made["firewall"][0]}}
    assert list(provider.diff(MACHINE, state, {**before, "needs": {"subnet": "old"}}, after).replaces) == []
    provider.update(MACHINE, machine, state, after)
    assert machines(aws) == [machine]
    provider.delete(PLAN, CELL, now)
    assert aws.world() == ()


def test_in_another_account_nothing_is_taken_for_gone(provider: Spoken) -> None:
    plan = provider.plan()
    id_, state = provider.part("Network", "network", plan)
    elsewhere = Properties({**state.values, "account": "999999999999"})
    with pytest.raises(grpc.RpcError) as other:
        provider.read("grafos:cell:Network", id_, elsewhere)
    assert "[cloud_auth]" in refused(other)
    provider.delete(PLAN, CELL, plan)
