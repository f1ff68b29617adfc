"""The fabric's orchestrator on each emulated cloud: its machine boots, it is claimed, keeps the ledger, and goes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import msgspec
import pytest
from crash_sweep import Abort
from orchestrator_operator import HOUR_S, QUICK, OrchestratorOperator, lose_the_machine, reachable_fabric

from grafos_connectors.contract import CloudError, Connector, Found, Kind, Ref
from grafos_core.errors import GrafosError
from grafos_core.fabric import OPERATOR_ACCOUNT
from grafos_core.ledger import set_cap
from grafos_core.ledger_place import Standing
from grafos_emulators.emulator import EmulatedClouds, Settings
from grafos_emulators.faults import Effect, ErrorClass, Fault, FaultRule
from grafos_stacks.allowing import allow
from grafos_stacks.bundle import Bundles, Installer, install_with_uv
from grafos_stacks.cell_holds import open_hold
from grafos_stacks.claiming import take
from grafos_stacks.extending import Wish, extend
from grafos_stacks.journal import Life, StackState
from grafos_stacks.lowering import bring_all_home, registered_cells, take_cells_down, take_machine_down
from grafos_stacks.orchestrator_machine import STACK
from grafos_stacks.progress import DONE, WAITING
from grafos_stacks.raising import raise_orchestrator, ran_out
from grafos_stacks.records import CellHome, project_cells
from grafos_stacks.software_change import change_software
from grafos_stacks.spec import CellSpec, check_spec
from grafos_stacks.teardown import teardown

STEPS_MAX = 100


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    return Bundles(tmp_path_factory.mktemp("bundles"))


def operator_on(provider: str, folder: Path, bundles: Bundles) -> Iterator[OrchestratorOperator]:
    with EmulatedClouds(folder / "cloud", Settings(clouds=(provider,), times=QUICK)) as clouds:
        yield OrchestratorOperator(provider, clouds, reachable_fabric(), bundles, folder / "project")


@pytest.fixture(params=["aws", "gcp", "azure"])
def operator(request: pytest.FixtureRequest, tmp_path: Path, bundles: Bundles) -> Iterator[OrchestratorOperator]:
    yield from operator_on(request.param, tmp_path, bundles)


@pytest.fixture
def on_aws(tmp_path: Path, bundles: Bundles) -> Iterator[OrchestratorOperator]:
    yield from operator_on("aws", tmp_path, bundles)


@pytest.fixture
def on_azure(tmp_path: Path, bundles: Bundles) -> Iterator[OrchestratorOperator]:
    yield from operator_on("azure", tmp_path, bundles)


def lower(operator: OrchestratorOperator) -> None:
    """What `grafos fabric down` does."""
    hands = operator.hands()
    if operator.home.record() is not None:
        bring_all_home(hands.fabric, hands.clock, time.sleep, operator.told)
    torn = take_machine_down(hands, operator.project)
    assert torn is not None
    assert torn.receipt.left == 0
    operator.home.forget()


def addresses(operator: OrchestratorOperator) -> list[str]:
    return [thing.id for thing in operator.clouds.world() if "address" in thing.kind.lower()]


def let_it_run_out(operator: OrchestratorOperator) -> None:
    """As if its time were over."""
    hands = operator.hands()
    row = hands.journal.stack(STACK)
    assert row is not None
    assert row.plan is not None
    over = msgspec.structs.replace(row.plan, expires_at=int(hands.clock.now()) - 1)
    hands.journal.write(row.moved(row.state, hands.clock.now(), plan=over))


class WithoutAddress:
    """A connector whose reads of a machine do not show the address that came to it after it was made."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connector, name)

    def observe(self, ref: Ref) -> Found:
        found = self._connector.observe(ref)
        shown = {name: value for name, value in found.attributes.items() if name != "public_ip"}
        return msgspec.structs.replace(found, attributes=shown) if ref.kind is Kind.MACHINE else found


def test_stopped_at_every_step_it_goes_on_and_there_is_one_machine_then_none(operator: OrchestratorOperator) -> None:
    raised = None
    for step in range(STEPS_MAX):
        operator.stop_at = step
        with contextlib.suppress(Abort):
            raised = operator.up()
            break
        assert len(operator.machines()) <= 1
    operator.stop_at = None
    assert raised is not None
    assert raised.orchestrator.provider == operator.provider
    assert raised.ledger.standing is Standing.MOVED
    assert (raised.machine.pattern, raised.machine.state) == ("orchestrator", "ready")
    with operator.client() as client:
        assert [one.name for one in client.tenants()] == ["default"]
        assert client.machine().software_sha256 == operator.plan().facts.bundle.sha256
    assert operator.up() == raised
    assert len(operator.machines()) == 1
    held = open_hold(operator.fabric, STACK)
    assert held is not None
    assert held.amount_micro_cents == operator.plan().bill.total_micro_cents
    assert project_cells(operator.project, operator.provider) == []

    for step in range(STEPS_MAX):
        operator.stop_at = step
        with contextlib.suppress(Abort):
            lower(operator)
            break
    operator.stop_at = None
    assert operator.clouds.world() == ()
    assert operator.fabric.ledger_place().standing is Standing.HERE
    assert open_hold(operator.fabric, STACK) is None
    assert operator.home.record() is None
    assert operator.home.ca_file.exists()
    row = operator.hands().journal.stack(STACK)
    assert row is not None
    assert row.state is StackState.GONE


def test_its_end_can_be_moved_and_its_machine_s_timer_follows(on_aws: OrchestratorOperator) -> None:
    """Also where the answer was lost by which its address came to it, and a read of it does not show that yet."""
    lost = Fault(Effect.LOST_ANSWER)
    on_aws.clouds.faults.add(FaultRule(lost, provider="aws", operation="AssociateAddress", times=1))
    hands, plan = on_aws.hands(), on_aws.plan()
    slow: Any = WithoutAddress(hands.connector)
    before = raise_orchestrator(replace(hands, connector=slow), plan, on_aws.bundles)
    extended = extend(on_aws.hands(), STACK, Wish(more_s=HOUR_S), on_aws.project)
    assert extended.record.expires_at == before.machine.expires_at + HOUR_S
    with on_aws.client() as client:
        assert client.machine().ends_at == extended.record.expires_at
    assert project_cells(on_aws.project, "aws") == []
    lower(on_aws)
    assert on_aws.clouds.world() == ()


def test_a_lost_machine_comes_back_from_a_backup_at_the_same_address(on_aws: OrchestratorOperator) -> None:
    """Stopped at every step; the orchestrator that comes back is the same, by its CA and by what it knows."""
    before = on_aws.up()
    with on_aws.client() as client:
        client.set_budget("default", 777)
        archive = client.backup()
    lose_the_machine(on_aws)
    with pytest.raises(GrafosError) as lost:
        on_aws.up()
    assert lost.value.code == "cell_gone"
    raised = None
    for step in range(STEPS_MAX):
        on_aws.stop_at = step
        with contextlib.suppress(Abort):
            raised = on_aws.up(archive)
            break
        on_aws.stop_at = None
        if on_aws.home.is_restoring:
            with pytest.raises(GrafosError) as unfinished:
                on_aws.up()
            assert unfinished.value.code == "cell_gone"
    on_aws.stop_at = None
    assert raised is not None
    assert raised.machine.machine_id != before.machine.machine_id
    assert raised.orchestrator == before.orchestrator
    assert raised.moved_from == ""
    with on_aws.client() as client:
        assert [one.budget_micro_cents for one in client.tenants()] == [777_000_000]
    assert on_aws.up() == raised._replace(filled=False)
    with pytest.raises(GrafosError) as alive:
        on_aws.up(archive)
    assert alive.value.code == "config_invalid"
    lower(on_aws)
    assert on_aws.clouds.world() == ()


def test_a_machine_that_ran_out_comes_back_at_its_address_and_the_end_takes_that_too(
    operator: OrchestratorOperator,
) -> None:
    """Stopped at every step, too; and a look at the plan takes nothing away."""
    before = operator.up()
    with operator.client() as client:
        archive = client.backup()
    lose_the_machine(operator)
    let_it_run_out(operator)
    there = addresses(operator)
    operator.plan(anew=True)
    assert addresses(operator) == there
    raised = None
    for step in range(0, STEPS_MAX, 5):
        operator.stop_at = step
        with contextlib.suppress(Abort):
            raised = operator.up(archive, anew=ran_out(operator.hands()) is not None)
            break
    operator.stop_at = None
    assert raised is not None
    assert raised.orchestrator == before.orchestrator
    assert (len(operator.machines()), addresses(operator)) == (1, there)
    held = [one for one in operator.fabric.read_ledger().holds.values() if one.hold_id.startswith("cell/")]
    assert sorted(one.state for one in held) == ["open", "settled"]
    lower(operator)
    assert operator.clouds.world() == ()


def test_one_whose_address_was_swept_away_says_where_it_was_before(on_aws: OrchestratorOperator) -> None:
    before = on_aws.up()
    with on_aws.client() as client:
        archive = client.backup()
    lose_the_machine(on_aws)
    let_it_run_out(on_aws)
    teardown(on_aws.hands(), STACK, on_aws.project)  # as a sweep of what ran out does
    assert on_aws.clouds.world() == ()
    on_aws.stop_on = ("claim", DONE)
    with pytest.raises(Abort):
        on_aws.up(archive)
    on_aws.stop_on = None
    raised = on_aws.up(archive)
    assert raised.moved_from == before.orchestrator.url != raised.orchestrator.url
    assert on_aws.home.known().url == raised.orchestrator.url


def test_a_machine_that_gets_no_hardware_does_not_take_the_address_along(on_azure: OrchestratorOperator) -> None:
    before = on_azure.up(zone="1")
    with on_azure.client() as client:
        archive = client.backup()
    lose_the_machine(on_azure)
    full = Fault(Effect.OPERATION_ERROR, ErrorClass.CAPACITY)
    on_azure.clouds.faults.add(FaultRule(full, provider="azure", operation="virtualMachines.createOrUpdate", times=1))
    with pytest.raises(CloudError):
        on_azure.up(archive, zone="1")
    assert on_azure.up(archive, zone="1").orchestrator == before.orchestrator


def test_the_machine_that_is_filled_may_be_lost_too(on_aws: OrchestratorOperator, tmp_path: Path) -> None:
    on_aws.up()
    with on_aws.client() as client:
        archive = client.backup()
    lose_the_machine(on_aws)
    on_aws.stop_on = ("restore", WAITING)
    with pytest.raises(Abort):
        on_aws.up(archive)
    on_aws.stop_on = None
    assert list(on_aws.home.folder.glob("empty*/operator-token"))
    assert on_aws.home.is_restoring
    lose_the_machine(on_aws)
    on_aws.bundles = Bundles(tmp_path / "newer", _with(""))
    assert on_aws.up(archive).filled
    assert list(on_aws.home.folder.glob("empty*")) == []
    with on_aws.client() as client:  # the next one runs what is installed here, of which the backup may be
        image = on_aws.plan().facts.image
        assert client.machine().software_sha256 == on_aws.bundles.pin(image.arch, image.python).sha256


def test_a_home_whose_place_another_took_before_the_backup_restores_it(on_aws: OrchestratorOperator) -> None:
    on_aws.up()
    home, ours = on_aws.home, dict[Path, bytes]()
    for file in home.folder.glob("operator-*"):
        ours[file] = file.read_bytes()
        file.unlink()
    take(on_aws.fabric, home.known().url, lambda: b"used up")  # as another home of the fabric does
    with on_aws.client() as client:
        archive = client.backup()
    for file, data in ours.items():
        file.write_bytes(data)
    lose_the_machine(on_aws)
    assert on_aws.up(archive).filled
    with on_aws.client() as client:
        assert [one.name for one in client.tenants()] == ["default"]


def test_a_machine_for_a_backup_is_held_for_first_where_the_ledger_is_here(on_aws: OrchestratorOperator) -> None:
    on_aws.stop_on = ("claim", DONE)
    with pytest.raises(Abort):
        on_aws.up()
    on_aws.stop_on = None
    assert on_aws.fabric.ledger_place().is_here
    with on_aws.client() as client:
        archive = client.backup()
    teardown(on_aws.hands(), STACK, on_aws.project)
    on_aws.fabric.book(partial(set_cap, name=OPERATOR_ACCOUNT, cap_micro_cents=1))
    with pytest.raises(GrafosError) as refused:
        on_aws.up(archive)
    assert refused.value.code == "budget_exceeded"
    assert on_aws.clouds.world() == ()


def test_what_was_begun_in_another_account_is_not_made_a_second_time(
    on_aws: OrchestratorOperator, tmp_path: Path
) -> None:
    on_aws.up()
    plan = on_aws.plan()
    with EmulatedClouds(tmp_path / "other", Settings(clouds=("aws",), times=QUICK)) as others:
        on_aws.clouds, first = others, on_aws.clouds
        with pytest.raises(GrafosError) as another:
            raise_orchestrator(on_aws.hands(), plan, on_aws.bundles)
        assert another.value.code == "cloud_auth"
        assert others.world() == ()
        on_aws.clouds = first


def test_new_software_runs_on_and_what_does_not_answer_is_taken_back(
    on_azure: OrchestratorOperator, tmp_path: Path
) -> None:
    first = on_azure.up()
    with on_azure.client() as client:
        client.set_budget("default", 777)

    newer = Bundles(tmp_path / "newer", _with(""))
    changed = change_software(on_azure.hands(), newer)
    assert changed.before != changed.after
    assert on_azure.plan().facts.bundle.sha256 == changed.after
    assert change_software(on_azure.hands(), newer) == changed._replace(before=changed.after)

    broken = Bundles(tmp_path / "broken", _with("raise ImportError('not today')\n"))
    with pytest.raises(GrafosError) as failed:
        change_software(on_azure.hands(), broken)
    assert failed.value.code == "upgrade_failed"
    assert "ended with 1" in failed.value.what
    with on_azure.client() as client:
        assert client.machine().software_sha256 == changed.after
        assert [one.budget_micro_cents for one in client.tenants()] == [777_000_000]
    assert on_azure.up() == first
    lower(on_azure)
    assert on_azure.clouds.world() == ()


def test_one_that_was_stopped_from_outside_is_not_taken_for_lost(on_aws: OrchestratorOperator) -> None:
    on_aws.up()
    [machine] = on_aws.machines()
    ec2 = boto3.client("ec2", **on_aws.clouds.client_arguments())
    ec2.stop_instances(InstanceIds=[machine])
    while on_aws.states() != ["stopped"]:
        time.sleep(0.05)
    with pytest.raises(GrafosError) as stopped:
        on_aws.up()
    assert stopped.value.code == "cloud_conflict"
    assert "start it in the cloud's console" in stopped.value.next


def test_who_may_come_to_its_port_is_changed_where_that_can_be_and_refused_elsewhere(
    operator: OrchestratorOperator,
) -> None:
    operator.up()
    with pytest.raises(GrafosError) as by_allow:
        allow(operator.hands(), STACK, "127.0.0.0/8")
    assert by_allow.value.next == "grafos fabric up --allow 127.0.0.0/8"
    if operator.provider == "azure":
        with pytest.raises(GrafosError) as fixed:
            operator.up(cidr="127.0.0.0/8")
        assert (fixed.value.code, fixed.value.where) == ("unsupported", "--allow")
        return
    operator.up(cidr="127.0.0.0/8")
    rows = operator.hands().journal.resources(STACK).values()
    [rule] = [row for row in rows if row.kind is Kind.FIREWALL_RULE and row.life is Life.READY]
    assert rule.key in {what.key for what in operator.plan(cidr="127.0.0.0/8").resources}


def test_no_cell_has_the_orchestrator_s_name() -> None:
    with pytest.raises(GrafosError) as taken:
        check_spec(CellSpec(provider="gcp", cell_id=STACK, region="us-central1", operator_cidr=""))
    assert taken.value.code == "name_invalid"


def test_it_is_not_torn_down_while_it_keeps_the_ledger_and_has_cells(on_aws: OrchestratorOperator) -> None:
    on_aws.up()
    with pytest.raises(GrafosError) as kept:
        teardown(on_aws.hands(), STACK, on_aws.project)
    assert kept.value.code == "ledger_elsewhere"
    assert registered_cells(on_aws.fabric) == ()
    on_aws.enrol("gcp-1")
    assert registered_cells(on_aws.fabric) == ("gcp-1",)
    hands = on_aws.hands()
    take_cells_down(on_aws.fabric, hands.journal, ("gcp-1",), lambda _: hands, on_aws.project)
    assert registered_cells(on_aws.fabric) == ()
    lower(on_aws)
    assert on_aws.clouds.world() == ()
    assert CellHome(on_aws.fabric, STACK).record().gone_at > 0


def _with(text: str) -> Installer:
    """What installs a bundle's packages, and then something else in one of them."""

    def install(lock: Path, folder: Path, platform: str, python: str) -> None:
        install_with_uv(lock, folder, platform, python)
        package = folder / "uvloop" / "__init__.py"
        whole = package.read_text()
        package.unlink()  # its bytes are those of the installer's cache, and of whatever else was installed from it
        package.write_text(f"{text}{whole}# newer\n")

    return install
