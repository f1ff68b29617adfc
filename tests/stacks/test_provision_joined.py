"""A registered cell on the emulated Compute Engine and the emulated Azure joins a real orchestrator, and leaves it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from agents import until
from crash_sweep import Abort
from fabrics_orchestrator import FabricsOrchestrator
from msgspec.structs import replace as replace_struct
from registered import CLOUDS
from registered_operator import CELL, QUICK, RegisteredOperator
from tasklets import tasklet

from grafos_connectors.contract import Kind
from grafos_core import trust
from grafos_core.clock import SystemClock
from grafos_core.errors import GrafosError
from grafos_core.fabric import Fabric, open_fabric
from grafos_core.receipts import TeardownReceipt, open_signed
from grafos_emulators.emulator import EmulatedClouds, Settings
from grafos_scheduler.enrolment_messages import AttestationRoots, BootstrapRequest
from grafos_scheduler.messages import CellView, RunRequest
from grafos_scheduler.orchestrator_client import enrol
from grafos_stacks.bootstrap import booted_in
from grafos_stacks.bundle import Bundles
from grafos_stacks.cell_holds import open_hold
from grafos_stacks.direct import Engine
from grafos_stacks.inviting import Patience
from grafos_stacks.journal import Life
from grafos_stacks.orchestrated import check_way
from grafos_stacks.orchestrators import OrchestratorHome, OrchestratorRecord
from grafos_stacks.provision import provision
from grafos_stacks.records import CellHome, project_cells, tenant_name
from grafos_stacks.spec import BY_TOKEN, BY_WORD, NOT_AT_ALL, CellSpec

HOUR_S = 3600


@dataclass
class Ground:
    """What the tests of this module share: two emulated clouds, a fabric, its orchestrator, the cells' software."""

    folder: Path
    clouds: EmulatedClouds
    fabric: Fabric
    orchestrator: FabricsOrchestrator
    bundles: Bundles

    def operator(self, provider: str, folder: Path, **more: object) -> RegisteredOperator:
        return RegisteredOperator(
            provider, self.clouds, self.fabric, folder / "project", joining=BY_TOKEN, bundles=self.bundles, **more
        )

    def receipt(self) -> TeardownReceipt:
        """Of the last cell of the name."""
        signed = CellHome(self.fabric, CELL).receipt()
        assert signed is not None
        return open_signed(signed, TeardownReceipt, self.fabric.key.public_key())


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    folder, fabric = tmp_path_factory.mktemp("clouds"), open_fabric(SystemClock(), "joining")
    with EmulatedClouds(folder, Settings(clouds=CLOUDS, times=QUICK)) as clouds:
        orchestrator = FabricsOrchestrator(fabric, tmp_path_factory.mktemp("orchestrator"))
        yield Ground(folder, clouds, fabric, orchestrator, Bundles(tmp_path_factory.mktemp("bundles")))
        orchestrator.discard()


@pytest.fixture
def orchestrator(ground: Ground) -> FabricsOrchestrator:
    return ground.orchestrator


@pytest.fixture
def clouds_folder(ground: Ground) -> Path:
    """The state of the emulator, with what its machines have on their disks."""
    return ground.folder


@pytest.fixture(params=CLOUDS)
def operator(request: pytest.FixtureRequest, ground: Ground, tmp_path: Path) -> Iterator[RegisteredOperator]:
    yield from operator_on(request.param, ground, tmp_path)


@pytest.fixture
def on_gcp(ground: Ground, tmp_path: Path) -> Iterator[RegisteredOperator]:
    yield from operator_on("gcp", ground, tmp_path)


@pytest.fixture
def on_azure(ground: Ground, tmp_path: Path) -> Iterator[RegisteredOperator]:
    yield from operator_on("azure", ground, tmp_path)


def operator_on(provider: str, ground: Ground, folder: Path) -> Iterator[RegisteredOperator]:
    somebody = ground.operator(provider, folder)
    yield somebody
    somebody.stop_at = None
    if somebody.machines():
        somebody.teardown()
    assert ground.clouds.world() == ()


def view(orchestrator: FabricsOrchestrator, cell_id: str = CELL) -> CellView | None:
    with orchestrator.client() as client:
        return next((cell for cell in client.cells() if cell.cell_id == cell_id), None)


def test_a_cell_joins_runs_a_program_and_is_put_out_with_its_machine(
    operator: RegisteredOperator, orchestrator: FabricsOrchestrator
) -> None:
    record = operator.provision(ttl_s=HOUR_S)
    assert (record.state, record.pattern, record.url) == ("ready", "registered", "")
    assert project_cells(operator.project, operator.provider) == [record]
    seen = view(orchestrator)
    assert seen is not None
    assert (seen.ready, seen.provider, seen.region) == (True, operator.provider, record.region)
    assert seen.rate_micro_cents_per_hour == record.rate_micro_cents_per_hour
    assert seen.expires_at == record.expires_at
    assert list(CellHome(operator.fabric, CELL).folder.glob("invitation-*")) == []
    plan, booted = operator.plan(ttl_s=HOUR_S), booted_in(console(operator), CELL)
    assert booted is not None
    assert booted.timer_at == plan.timer_at > plan.expires_at
    assert (Kind.DEADLINE in {what.kind for what in plan.resources}) == (operator.provider == "azure")
    with orchestrator.home.client(tenant_name("default")) as client:
        module, data = client.put_blob(tasklet()), client.put_blob(b"")
        run = client.start_run(RunRequest("k" * 16 + operator.provider, operator.provider, "t", "t", module, data))
        run = client.run(run.run_id, wait_s=20.0)
    assert (run.state, run.cell_id) == ("finished", CELL), run

    torn = operator.teardown()
    assert (torn.receipt.left, torn.receipt.identity) == (0, f"revoked at {orchestrator.url}")
    seen = view(orchestrator)
    assert seen is None or not seen.ready


# --- on the way there ----------------------------------------------------------------------------------------------


def test_stopped_at_every_step_it_goes_on_with_one_machine_and_one_invitation(operator: RegisteredOperator) -> None:
    """And the journal, which others may read, never holds what opens anything."""
    words: set[str] = set()
    for step in range(200):
        operator.stop_at = step
        try:
            operator.provision(ttl_s=HOUR_S)
        except Abort:
            assert len(operator.machines()) <= 1
            words |= {invitation["word"] for invitation in invitations(operator)}
            continue
        break
    assert step > 8
    [word] = words
    journal = b"".join(file.read_bytes() for file in operator.fabric.home.glob("journal.db*"))
    assert word.encode() not in journal
    assert invitations(operator) == []
    print(f"{operator.provider}: stopped at {step} steps, 1 machine, 1 invitation")


def test_a_token_of_user_data_opens_nothing_for_who_reads_it_afterwards(
    on_azure: RegisteredOperator, orchestrator: FabricsOrchestrator, clouds_folder: Path
) -> None:
    on_azure.provision(ttl_s=HOUR_S)
    [script] = clouds_folder.glob("machines/*/var/lib/cloud/scripts/part-001")
    [token] = re.findall(r"eyJ[\w-]+\.[\w-]+\.[\w-]+", script.read_text())
    thief = trust.make_csr(trust.new_key(), CELL)
    with pytest.raises(GrafosError) as refused:
        enrol(orchestrator.url, orchestrator.home.ca_pem, token, thief)
    assert refused.value.code == "enrolment_refused"
    assert (
        f"enrolment refused, from 127.0.0.1 with the token {claims(token)['jti']} of cell {CELL}" in orchestrator.log()
    )


@pytest.mark.parametrize("provider", CLOUDS)
def test_a_machine_that_does_not_enrol_in_time_is_torn_down_with_the_reason(
    provider: str, ground: Ground, tmp_path: Path
) -> None:
    operator = ground.operator(provider, tmp_path, patience=Patience(enrol_s=0.05))
    with pytest.raises(GrafosError) as ended:
        operator.provision(ttl_s=HOUR_S)
    assert ended.value.code == "enrolment_expired"
    assert "the machine was torn down" in ended.value.what
    assert f"grafos: booted cell={CELL}" in ended.value.why
    assert f"grafos cloud provision {provider} --cell-id {CELL}" in ended.value.next
    assert operator.clouds.world() == ()
    assert open_hold(operator.fabric, CELL) is None
    assert ground.receipt().identity == "never enrolled"


def test_a_cell_that_enrols_and_never_gets_ready_is_torn_down_with_what_it_lacks(
    ground: Ground, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    fabric = open_fabric(SystemClock(), "patient")
    slow = FabricsOrchestrator(fabric, tmp_path_factory.mktemp("slow"), **{"healthy-after-s": HOUR_S})
    try:
        operator = replace(ground.operator("gcp", tmp_path, patience=Patience(ready_s=3.0)), fabric=fabric)
        with pytest.raises(GrafosError) as ended:
            operator.provision(ttl_s=HOUR_S)
        assert ended.value.code == "cell_not_ready"
        assert "healthy_cell: " in ended.value.what
        assert operator.clouds.world() == ()
        with slow.client() as client:
            assert client.provider("gcp").unmet == {}
    finally:
        slow.discard()


# --- what stands in the way is told before anything is billed -------------------------------------------------------


def refused_before_anything_is_made(operator: RegisteredOperator, **inputs: object) -> GrafosError:
    with pytest.raises(GrafosError) as refused:
        operator.provision(ttl_s=HOUR_S, **inputs)
    assert operator.clouds.world() == ()
    assert open_hold(operator.fabric, CELL) is None
    assert refused.value.next
    return refused.value


def test_without_an_orchestrator_a_person_is_told_how_to_get_one(ground: Ground, tmp_path: Path) -> None:
    alone = replace(ground.operator("gcp", tmp_path), fabric=open_fabric(SystemClock(), "alone"))
    told = refused_before_anything_is_made(alone)
    assert told.code == "scheduler_unreachable"
    assert "grafos fabric init" in told.next
    assert "--no-join" in told.next


def test_a_plan_of_an_orchestrator_that_is_away_meanwhile_makes_nothing(
    on_gcp: RegisteredOperator, orchestrator: FabricsOrchestrator
) -> None:
    hands, plan = on_gcp.hands(), on_gcp.plan(ttl_s=HOUR_S)
    orchestrator.end()
    try:
        assert refused_before_anything_is_made(on_gcp).code == "scheduler_unreachable"
        with pytest.raises(GrafosError) as refused:
            provision(hands, plan, on_gcp.bundles, on_gcp.project)
        assert refused.value.code == "scheduler_unreachable"
        assert on_gcp.clouds.world() == ()
    finally:
        orchestrator.start()


def test_a_cell_of_that_name_which_somebody_enrolled_by_hand_is_left_alone(
    on_gcp: RegisteredOperator, orchestrator: FabricsOrchestrator
) -> None:
    with orchestrator.client() as client:
        token = client.bootstrap(BootstrapRequest("gcp", "by-hand", "here", 1)).token
        enrol(orchestrator.url, orchestrator.home.ca_pem, token, trust.make_csr(trust.new_key(), "by-hand"))
        with pytest.raises(GrafosError) as refused:
            on_gcp.provision("by-hand", ttl_s=HOUR_S)
        assert refused.value.code == "enrolment_refused"
        assert "grafos provider revoke-cell gcp by-hand" in refused.value.next
        assert on_gcp.clouds.world() == ()
        assert "by-hand" in client.provider("gcp").unmet
        client.revoke_cell("by-hand", why="the test is over", grace_s=0.0)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://127.0.0.1:8443", "127.0.0.1 is no address of the internet"),
        ("https://10.1.2.3:8443", "10.1.2.3 is no address of the internet"),
        ("https://[fe80::1]:8443", "fe80::1 is no address of the internet"),
        ("https://localhost:8443", "is no address of the internet"),
    ],
)
def test_a_cell_on_a_real_cloud_is_not_made_for_an_address_that_it_cannot_reach(url: str, why: str) -> None:
    fabric = open_fabric(SystemClock())
    OrchestratorHome(fabric).keep_record(OrchestratorRecord(url, "orchestrator", 1.0))
    with pytest.raises(GrafosError) as refused:
        check_way(fabric, CellSpec("gcp", CELL, "us-central1", ""), emulated=False)
    assert refused.value.code == "scheduler_unreachable"
    assert why in refused.value.why
    check_way(fabric, CellSpec("gcp", CELL, "us-central1", "", joining=NOT_AT_ALL), emulated=False)


# --- its end, and the next one of its name --------------------------------------------------------------------------


def test_an_extended_cell_gets_work_until_its_new_end(
    on_azure: RegisteredOperator, orchestrator: FabricsOrchestrator
) -> None:
    record = on_azure.provision(ttl_s=HOUR_S)
    told = on_azure.extend(more_s=2 * HOUR_S)
    seen = view(orchestrator)
    assert seen is not None
    assert (told.record.state, told.record.expires_at) == ("ready", record.expires_at + 2 * HOUR_S)
    assert seen.expires_at == told.record.expires_at
    until(lambda: f"grafos: extended cell={CELL} timer=" in console(on_azure))


def test_a_lost_machine_is_made_anew_and_its_identity_is_worth_nothing_from_then_on(
    on_gcp: RegisteredOperator, orchestrator: FabricsOrchestrator
) -> None:
    on_gcp.provision(ttl_s=HOUR_S)
    before = keys(orchestrator)
    hands = on_gcp.hands()
    rows = hands.journal.resources(CELL).values()
    [row] = [row for row in rows if row.kind is Kind.MACHINE and row.life is Life.READY]
    Engine(hands).unmake(replace_struct(row, key="taken"))  # so that the journal hears nothing of it
    again = on_gcp.provision(ttl_s=HOUR_S)
    assert again.state == "ready"
    assert len(on_gcp.machines()) == 1
    assert len(keys(orchestrator) - before) == 1
    assert "its machine is made anew" in orchestrator.log()


def test_an_orchestrator_that_is_away_stops_no_teardown_and_the_next_cell_of_the_name_revokes_the_last(
    on_azure: RegisteredOperator, orchestrator: FabricsOrchestrator
) -> None:
    on_azure.provision(ttl_s=HOUR_S)
    orchestrator.end()
    try:
        torn = on_azure.teardown()
    finally:
        orchestrator.start()
    assert (torn.receipt.left, torn.receipt.identity[:13]) == (0, "not revoked: ")
    assert on_azure.provision(ttl_s=HOUR_S).state == "ready"
    assert on_azure.teardown().receipt.identity.startswith("revoked at ")


# --- without a secret -----------------------------------------------------------------------------------------------


def test_a_machine_joins_by_its_cloud_s_word_and_its_user_data_hold_no_secret(
    operator: RegisteredOperator, orchestrator: FabricsOrchestrator, clouds_folder: Path
) -> None:
    operator.joining = BY_WORD
    told = refused_before_anything_is_made(operator)
    assert told.code == "attestation_refused"
    assert f"grafos admin attestation-roots set {operator.provider}" in told.next
    pems = json.loads((clouds_folder / "identity-roots" / f"{operator.provider}.json").read_text())
    with orchestrator.client() as client:
        client.set_attestation_roots(operator.provider, AttestationRoots("this test", "2026-11-21", pems))
    assert operator.provision(ttl_s=HOUR_S).state == "ready"
    [script] = clouds_folder.glob("machines/*/var/lib/cloud/scripts/part-001")
    assert "eyJ" not in script.read_text()
    assert "expected " in script.read_text()
    assert operator.teardown().receipt.identity.startswith("revoked at ")


# --- what the tests look at -----------------------------------------------------------------------------------------


def console(operator: RegisteredOperator) -> str:
    """What the cell's machine wrote."""
    hands = operator.hands()
    rows = hands.journal.resources(CELL).values()
    [ref] = [row.ref for row in rows if row.kind is Kind.MACHINE and row.life is Life.READY]
    assert ref is not None
    return hands.connector.console(ref)


def invitations(operator: RegisteredOperator) -> list[dict[str, str]]:
    files = CellHome(operator.fabric, CELL).folder.glob("invitation-*.json")
    return [json.loads(file.read_bytes()) for file in files]


def claims(token: str) -> dict[str, str]:
    middle = token.split(".")[1]
    found: dict[str, str] = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    return found


def keys(orchestrator: FabricsOrchestrator) -> set[str]:
    """The keys with which cells of that name enrolled."""
    return set(re.findall(rf"cell {CELL} of \w+ enrolled from 127.0.0.1 with key (\w+)", orchestrator.log()))
