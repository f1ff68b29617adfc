"""Bad days on each emulated cloud: what goes wrong in mid-provision is one clear error or none at all, the same command
again ends with one cell, and its teardown leaves nothing. Counted in the emulator's own world."""

from __future__ import annotations

import dataclasses
import resource
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from aws_ground import AwsCloud
from azure_ground import AzureCloud
from command_line import Person, ends_with
from crash_sweep import Abort, DiesWithMachine, check_gone, held, make, plan, spec, undo
from emulated_ground import EmulatedCloud, EmulatedGround
from gcp_ground import GcpCloud
from msgspec.structs import replace
from registered_operator import CELL, QUICK, RegisteredOperator
from twin_ground import TwinGround

from grafos_connectors.contract import Kind
from grafos_connectors.registry import open_connector
from grafos_connectors.twin import Effect as TwinEffect
from grafos_connectors.twin import Fault as TwinFault
from grafos_core.clock import SystemClock
from grafos_core.errors import GrafosError
from grafos_core.fabric import open_fabric
from grafos_emulators.emulator import EmulatedClouds, Settings
from grafos_emulators.faults import Effect, ErrorClass, Fault, FaultRule
from grafos_stacks.bundle import Bundles
from grafos_stacks.candidates import provide
from grafos_stacks.journal import Journal
from grafos_stacks.provision import provision

CLOUDS: dict[str, type[EmulatedCloud]] = {"aws": AwsCloud, "azure": AzureCloud, "gcp": GcpCloud}
MAKES_MACHINE = {"aws": "RunInstances", "azure": "virtualMachines.createOrUpdate", "gcp": "instances.insert"}
MACHINE = {"aws": "instance", "azure": "virtualMachine", "gcp": "instance"}
HOUR_S = 3600


@pytest.fixture(scope="module", params=sorted(CLOUDS))
def cloud(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedCloud]:
    cloud = CLOUDS[request.param](tmp_path_factory.mktemp(request.param))
    yield cloud
    cloud.close()


@pytest.fixture
def ground(cloud: EmulatedCloud) -> Iterator[EmulatedGround]:
    yield EmulatedGround(cloud)
    cloud.clouds.faults.clear()


def befall(ground: EmulatedGround, effect: Effect, error: ErrorClass = ErrorClass.INTERNAL, times: int = 1) -> None:
    """The next calls that make a machine go wrong."""
    rule = FaultRule(Fault(effect, error), operation=MAKES_MACHINE[ground.cloud.provider], times=times)
    ground.cloud.clouds.faults.add(rule)


def refusal(ground: EmulatedGround) -> GrafosError:
    with pytest.raises(GrafosError) as refused:
        make(ground.hands())
    return refused.value


def machines(ground: EmulatedGround) -> int:
    return len([line for line in ground.live() if line.split()[0] == MACHINE[ground.cloud.provider]])


def check_one_and_gone(ground: EmulatedGround) -> None:
    """The same command again makes one machine, and the teardown leaves nothing."""
    make(ground.hands())
    assert machines(ground) == 1
    check_gone(ground, 0)


# --- the cloud's bad days -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ErrorClass.AUTH, "cloud_auth"),
        (ErrorClass.DENIED, "cloud_denied"),
        (ErrorClass.QUOTA, "cloud_quota"),
        (ErrorClass.CAPACITY, "cloud_capacity"),
    ],
)
def test_a_refusal_in_mid_provision_is_told_in_our_words_and_the_same_again_goes_on(
    ground: EmulatedGround, error: ErrorClass, code: str
) -> None:
    """Credentials that expire on the way, a right that is taken away, a limit that others reached first."""
    befall(ground, Effect.REFUSE, error, times=0)
    told = refusal(ground)
    ground.cloud.clouds.faults.clear()
    assert told.code == code
    assert told.next
    assert machines(ground) == 0
    check_one_and_gone(ground)


def test_a_minute_of_throttling_is_waited_out(ground: EmulatedGround) -> None:
    began = ground.clock.now()
    fault = Fault(Effect.REFUSE, ErrorClass.THROTTLED, retry_after_s=9.0)
    rule = FaultRule(fault, operation=MAKES_MACHINE[ground.cloud.provider], times=7)
    ground.cloud.clouds.faults.add(rule)
    check_one_and_gone(ground)
    assert ground.clock.now() - began >= 60


def test_what_is_said_to_be_done_and_is_not_is_found_out(ground: EmulatedGround) -> None:
    if ground.cloud.provider == "aws":
        befall(ground, Effect.LAUNCH_THEN_DIE, ErrorClass.CAPACITY)
    else:
        befall(ground, Effect.SAYS_DONE_AND_IS_NOT)
    try:
        make(ground.hands())
    except GrafosError as error:
        assert error.code in ("cloud_not_found", "cloud_capacity", "cloud_conflict")  # noqa: PT017  it may also be mended
    check_one_and_gone(ground)


@pytest.mark.parametrize("effect", [Effect.LOST_REQUEST, Effect.LOST_ANSWER])
def test_a_lost_call_makes_one_machine(ground: EmulatedGround, effect: Effect) -> None:
    befall(ground, effect)
    check_one_and_gone(ground)


def test_no_other_market_is_tried_while_a_call_without_an_answer_may_have_made_the_machine(tmp_path: Path) -> None:
    """The call after it is told that there is no machine, which proves nothing about the first. By the key that a
    machine of the other market has it would not be found."""
    ground = TwinGround(lag_s=30.0)
    ground.faults.add(TwinFault("begin_create", TwinEffect.LOSE_ANSWER, kind=Kind.MACHINE))
    ground.faults.add(
        TwinFault("begin_create", TwinEffect.REFUSE, kind=Kind.MACHINE, code="cloud_capacity", skip=1, times=1)
    )
    asked = spec(zone="us-east-1a", spot=True)
    hands = ground.hands()
    dying: Any = DiesWithMachine(hands.connector)  # the twin's machines run nothing
    hands = dataclasses.replace(hands, connector=dying)
    with pytest.raises(Abort):
        provide({"aws": hands}, [plan(hands, asked), plan(hands, replace(asked, spot=False))], Bundles(), tmp_path)
    assert len([line for line in ground.live() if line.startswith("machine")]) == 1
    check_gone(ground, 0)


def test_a_machine_deleted_by_hand_is_made_anew_and_the_cell_without_it_is_torn_down(ground: EmulatedGround) -> None:
    for again in (True, False):
        begun = make(ground.hands())
        row = ground.hands().journal.resources(begun.stack)[begun.machine.key]
        assert row.ref is not None
        ground.connector.begin_delete(row.ref)
        ground.pass_time(120.0)
        assert machines(ground) == 0
        if again:
            make(ground.hands())
            assert machines(ground) == 1
    check_gone(ground, 0)


def test_a_security_group_in_use_is_left_and_named_and_the_hold_stays_until_it_is_free(tmp_path: Path) -> None:
    """Somebody's own group lets in whatever is in the cell's."""
    cloud = AwsCloud(tmp_path)
    ground, ec2 = EmulatedGround(cloud), boto3.client("ec2", **cloud.clouds.client_arguments())
    make(ground.hands())
    [ours] = [line.split()[1] for line in ground.live() if line.startswith("security_group ")]
    [group] = ec2.describe_security_groups(GroupIds=[ours])["SecurityGroups"]
    theirs = ec2.create_security_group(GroupName="theirs", Description="x", VpcId=group["VpcId"])["GroupId"]
    rule = {"IpProtocol": "tcp", "FromPort": 1, "ToPort": 1, "UserIdGroupPairs": [{"GroupId": ours}]}
    ec2.authorize_security_group_ingress(GroupId=theirs, IpPermissions=[rule])
    with pytest.raises(GrafosError) as refused:
        undo(ground.hands())
    assert refused.value.code == "resources_left"
    assert {left["id"] for left in refused.value.context["left"]} >= {ours}
    assert machines(ground) == 0
    assert len(held(ground)) == 1
    ec2.delete_security_group(GroupId=theirs)
    check_gone(ground, 0)
    cloud.close()


def test_a_corrupt_journal_is_told_and_without_it_the_cell_is_found_again(ground: EmulatedGround) -> None:
    make(ground.hands())
    path = ground.fabric.home / "journal.db"
    for other in ground.fabric.home.glob("journal.db-*"):
        other.unlink()
    path.write_bytes(b"not a database, " * 1000)
    with pytest.raises(GrafosError) as damaged:
        ground.hands()
    assert damaged.value.code == "journal_invalid"
    assert "move the file away" in damaged.value.next
    assert path.read_bytes().startswith(b"not a database")
    path.unlink()
    check_one_and_gone(ground)


# --- our own bad days -----------------------------------------------------------------------------------------------


def is_stopped_by_a_full_disk(ground: TwinGround, more_bytes: int) -> bool:
    """Whether a provision stops when no file can grow by more than that beyond the largest; as on a full disk."""
    hands, usual = ground.hands(), resource.getrlimit(resource.RLIMIT_FSIZE)
    largest = max(path.stat().st_size for path in ground.fabric.home.rglob("*") if path.is_file())
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest + more_bytes, usual[1]))
    try:
        make(hands)
    except GrafosError as error:
        if error.code != "store_failed" or not error.next:
            raise
        return True
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    return False


def test_a_disk_that_is_full_in_mid_provision_stops_before_the_call_and_room_lets_it_go_on() -> None:
    """The more room there is, the later it stops."""
    stopped_at = set()
    for more_bytes in range(0, 400_000, 9_000):
        ground = TwinGround()
        stopped = is_stopped_by_a_full_disk(ground, more_bytes)
        stopped_at |= {len(ground.live())} if stopped else set()
        make(ground.hands())
        assert len([line for line in ground.live() if line.startswith("machine")]) == 1
        check_gone(ground, more_bytes)
        if not stopped:
            break
    assert len(stopped_at) > 3
    print(f"a full disk stopped provisions with {sorted(stopped_at)} resources made; each went on with one machine")


def test_ctrl_c_twice_leaves_at_once_and_the_same_command_goes_on(tmp_path: Path) -> None:
    """The second one kills the process where it stands."""
    person = Person(tmp_path)
    with EmulatedClouds(tmp_path / "cloud", Settings(clouds=("gcp",), times=QUICK)) as clouds:
        person.env.update(clouds.environment())
        words = ("cloud", "provision", "gcp", "--no-join", "--cell-id", "cut", "--ttl", "1h", "--yes")
        process = person.starts(*words)
        deadline = time.monotonic() + 60
        while not clouds.world():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
        answer = ends_with(process)
        assert answer.code == 130
        assert "Traceback" not in answer.err
        again = person(*words)
        assert again.code == 0, again.err
        assert len([thing for thing in clouds.world() if thing.kind == "instance"]) == 1
        gone = person("cloud", "teardown", "gcp", "--cell-id", "cut", "--yes", "--json")
        assert gone.document["receipt"]["left"] == 0
        assert clouds.world() == ()


@pytest.mark.parametrize("provider", ["azure", "gcp"])
def test_two_commands_on_one_cell_at_once_make_one_machine(provider: str, tmp_path: Path) -> None:
    with EmulatedClouds(tmp_path / "cloud", Settings(clouds=(provider,), times=QUICK)) as clouds:
        operator = RegisteredOperator(provider, clouds, open_fabric(SystemClock()), tmp_path / "project")
        told: list[str] = []

        def provision() -> None:
            try:
                told.append(operator.provision(ttl_s=HOUR_S).state)
            except GrafosError as error:
                told.append(error.code)

        threads = [threading.Thread(target=provision) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(100)
        assert sorted(told) in (["booted", "stack_busy"], ["booted", "booted"])
        assert len(operator.machines()) == 1
        operator.teardown(CELL)
        assert clouds.world() == ()


@pytest.mark.parametrize(
    ("provider", "variable", "value"),
    [
        ("gcp", "GOOGLE_CLOUD_PROJECT", "somebody-s-production"),
        ("azure", "AZURE_SUBSCRIPTION_ID", "11111111-2222-3333-4444-555555555555"),
        ("aws", "AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
    ],
)
def test_a_real_project_subscription_or_key_never_meets_an_emulator(
    provider: str, variable: str, value: str, tmp_path: Path
) -> None:
    with EmulatedClouds(tmp_path / "cloud", Settings(clouds=(provider,), boots=False)) as clouds:
        with pytest.raises(GrafosError) as mixed:
            open_connector(provider, environment={**clouds.environment(), variable: value}).identity()
        assert mixed.value.code == "credentials_mixed"
        assert clouds.journal() == ()


def test_a_cell_of_another_account_is_neither_gone_on_with_nor_called_gone(
    ground: EmulatedGround, tmp_path: Path
) -> None:
    """The journal says where it was made: in another account everything would look gone, and be made once more."""
    begun = make(ground.hands())
    journal = Journal(ground.fabric, ground.clock)
    row = journal.stack(begun.stack)
    assert row is not None
    elsewhere = replace(begun, facts=replace(begun.facts, account="another-account"))
    journal.write(replace(row, account="another-account", plan=elsewhere))
    with pytest.raises(GrafosError) as other:
        provision(ground.hands(), elsewhere, Bundles(), tmp_path)
    assert other.value.code == "cloud_auth"
    with pytest.raises(GrafosError) as other:
        check_gone(ground, 0)
    assert other.value.code == "cloud_auth"
    journal.write(row)
    assert machines(ground) == 1
    check_gone(ground, 0)
