"""What stands in the way of a cell is told before anything is made, all of it at once; what nobody tells is a note."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from twin_ground import TwinGround

from grafos_connectors.aws.permissions import LASTING_ADDRESS
from grafos_connectors.contract import CloudError, Kind, Quota
from grafos_connectors.registry import open_connector
from grafos_connectors.twin import Effect, Fault, Limits
from grafos_core.clock import SystemClock
from grafos_core.errors import GrafosError
from grafos_core.fabric import open_fabric
from grafos_emulators.emulator import EmulatedClouds, Settings
from grafos_emulators.faults import Effect as Befalls
from grafos_emulators.faults import ErrorClass, FaultRule
from grafos_emulators.faults import Fault as Mishap
from grafos_stacks.bundle import Bundles
from grafos_stacks.direct import Hands
from grafos_stacks.journal import Journal
from grafos_stacks.plan import BundlePin
from grafos_stacks.preflight import distinct, shortages, survey, together, unknown_limits
from grafos_stacks.prices import PriceBook
from grafos_stacks.provision import Prepared, judged, prepare
from grafos_stacks.spec import BY_WORD, NOT_AT_ALL, ORCHESTRATOR_ID, CellSpec

REGIONS = {"aws": "us-east-1", "gcp": "us-central1", "azure": "eastus"}
SPEC = CellSpec("gcp", "one", "us-central1", "")


def quota(name: str, limit: int | None, used: int | None = 0, each: int = 0, market: str = "") -> Quota:
    return Quota(name, "units", limit, used, each, market)


# --- limits: pure ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "used", "each", "count", "short"),
    [
        (8, 6, 2, 1, False),
        (8, 7, 2, 1, True),
        (0, 0, 1, 1, True),
        (8, 0, 2, 4, False),
        (8, 0, 2, 5, True),
        (None, 9, 2, 99, False),
        (1, None, 2, 1, True),
        (2, None, 2, 1, False),
        (0, 0, 0, 1, False),
    ],
)
def test_a_limit_is_short_when_what_is_needed_does_not_fit(
    limit: int | None, used: int | None, each: int, count: int, *, short: bool
) -> None:
    found = shortages(SPEC, [quota("machine_cores", limit, used, each)], count)
    assert [error.code for error in found] == ["cloud_quota"] * short


def test_only_the_market_that_the_machine_is_bought_on_counts() -> None:
    told = [
        quota("machine_cores", 0, each=2, market="on_demand"),
        quota("spot_machine_cores", 8, each=2, market="spot"),
    ]
    assert len(shortages(SPEC, told)) == 1
    assert shortages(CellSpec("gcp", "one", "us-central1", "", spot=True), told) == []


def test_disks_count_by_their_size_and_the_network_once() -> None:
    told = [quota("disk_gib", 25), quota("networks", 0), quota("gateways", 5)]
    assert [error.what.partition(":")[0] for error in shortages(SPEC, told, 3, [Kind.NETWORK])] == [
        "disk_gib",
        "networks",
    ]
    assert shortages(SPEC, told, 2) == []


def test_a_limit_that_is_not_told_is_a_note() -> None:
    told = [quota("machine_cores", None, each=2), quota("networks", None), quota("machines", 3, each=1)]
    assert unknown_limits(SPEC, told) == ("gcp does not tell the limit of machine_cores",)


# --- many reasons: pure ---------------------------------------------------------------------------------------------


def test_one_reason_is_told_as_it_is_and_several_together() -> None:
    one = CloudError("cloud_quota", "no cores", where="gcp us-central1", next="ask for more")
    other = GrafosError("price_stale", "an old price", next="refresh it")
    assert together([one], "one") is one
    both = together([one, other], "one")
    assert (both.code, both.exit_code) == ("cloud_quota", one.exit_code)
    assert both.why.splitlines() == ["1. cloud_quota: no cores", "2. price_stale: an old price"]
    assert both.next.splitlines() == ["1. ask for more", "2. refresh it"]
    assert [told["code"] for told in both.context["refusals"]] == ["cloud_quota", "price_stale"]


def test_one_reason_that_two_questions_gave_is_told_once() -> None:
    restricted = CloudError("cloud_capacity", "not sold to you", cloud_code="SkuNotAvailable")
    unoffered = GrafosError("cloud_capacity", "no zone offers it")
    assert distinct([unoffered, restricted, restricted]) == (restricted,)
    assert distinct([unoffered]) == (unoffered,)


# --- on the twin ----------------------------------------------------------------------------------------------------


def seen_on(ground: TwinGround, **inputs: Any) -> tuple[Prepared | None, list[GrafosError]]:
    hands = ground.hands()
    asked = CellSpec("aws", "one", "us-east-1", "127.0.0.1/32", **inputs)
    seen = survey(hands, asked, lambda *_: BundlePin("ab" * 32, 1), PriceBook(hands.clock).price)
    return judged(hands, asked, seen)


def test_nothing_in_the_way_is_a_plan() -> None:
    prepared, refusals = seen_on(TwinGround())
    assert refusals == []
    assert prepared is not None
    assert prepared.plan.facts.offer.zone == "us-east-1a"


def test_a_network_that_is_there_needs_no_room_in_its_limit_even_if_only_the_cloud_knows_it() -> None:
    from crash_sweep import make

    ground = TwinGround(limits=Limits(networks=1))
    make(ground.hands())
    assert seen_on(ground)[1] == []
    ground.lose_journal()
    assert seen_on(ground)[1] == []
    assert [error.code for error in seen_on(TwinGround(limits=Limits(networks=0)))[1]] == ["cloud_quota"]


def test_a_question_that_may_not_be_asked_is_a_note_and_one_that_is_throttled_is_asked_for_a_minute() -> None:
    ground = TwinGround()
    ground.faults.add(Fault("quotas", Effect.REFUSE, code="cloud_denied"))
    ground.faults.add(Fault("obstacles", Effect.REFUSE, code="cloud_denied"))
    ground.faults.add(Fault("offers", Effect.REFUSE, code="cloud_throttled", times=7))
    began = ground.clock.now()
    prepared, refusals = seen_on(ground)
    assert refusals == []
    assert prepared is not None
    assert sorted(note.split(":")[0] for note in prepared.notes) == [
        "aws did not tell its limits",
        "aws did not tell its obstacles",
    ]
    assert ground.clock.now() - began >= 45


def test_what_every_question_would_meet_is_told_alone() -> None:
    ground = TwinGround()
    ground.faults.add(Fault("identity", Effect.REFUSE, code="cloud_auth"))
    ground.faults.add(Fault("obstacles", Effect.REFUSE, code="cloud_auth"))
    with pytest.raises(CloudError) as refused:
        seen_on(ground)
    assert refused.value.code == "cloud_auth"


def test_a_machine_type_that_is_not_there_is_told_with_what_else_is_wrong() -> None:
    ground = TwinGround(limits=Limits(machines=0))
    ground.faults.add(Fault("obstacles", Effect.REFUSE, code="cloud_conflict"))
    prepared, refusals = seen_on(ground, machine_type="z9.nano")
    assert prepared is None
    assert {error.code for error in refusals} == {"cloud_capacity", "cloud_conflict"}


# --- on the emulated clouds -----------------------------------------------------------------------------------------


@pytest.fixture(params=sorted(REGIONS))
def cloud(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, EmulatedClouds]]:
    settings = Settings(clouds=(request.param,), boots=False)
    with EmulatedClouds(tmp_path / "cloud", settings) as clouds:
        yield request.param, clouds


def hands_at(provider: str, clouds: EmulatedClouds) -> Hands:
    clock = SystemClock()
    fabric = open_fabric(clock)
    connector = open_connector(provider, REGIONS[provider], environment=clouds.environment())
    return Hands(fabric, connector, Journal(fabric, clock), clock, lambda _: None)


def ask_for(provider: str, clouds: EmulatedClouds, **inputs: Any) -> Prepared:
    hands, region = hands_at(provider, clouds), REGIONS[provider]
    bundles = Bundles(install=lambda lock, folder, platform, python: folder.joinpath("nothing").write_text(""))
    operator = "127.0.0.1/32" if provider == "aws" else ""
    joining = {} if provider == "aws" else {"joining": NOT_AT_ALL}
    named = {"cell_id": "one", **joining, **inputs}
    return prepare(hands, CellSpec(provider, region=region, operator_cidr=operator, **named), bundles)


def no_cores_left(provider: str, clouds: EmulatedClouds) -> None:
    if provider == "aws":
        clouds.aws.vcpu_limit = 0
    elif provider == "gcp":
        clouds.gcp.quota_limits |= {("CPUS", REGIONS["gcp"]): 0.0, ("T2A_CPUS", REGIONS["gcp"]): 0.0}
    else:
        clouds.azure.limits["cores"] = 0


def right_to_make_machines(provider: str, clouds: EmulatedClouds) -> str:
    """Takes it away, and gives its name."""
    if provider == "aws":
        clouds.aws.denied.add("ec2:RunInstances")
        return "ec2:RunInstances"
    if provider == "gcp":
        clouds.gcp.denied.add("compute.instances.create")
        return "compute.instances.create"
    clouds.azure.allowed = ("*/read", "*/delete", "*/action", "Microsoft.Network/*", "Microsoft.Resources/*")
    return "Microsoft.Compute/virtualMachines/write"


def test_a_plan_without_anything_in_its_way_makes_nothing(cloud: tuple[str, EmulatedClouds]) -> None:
    provider, clouds = cloud
    prepared = ask_for(provider, clouds)
    assert {one.name for one in prepared.quotas if one.each} >= {"machine_cores"}
    assert clouds.world() == ()


def test_a_quota_of_zero_and_a_missing_right_are_told_together_with_the_policy(
    cloud: tuple[str, EmulatedClouds],
) -> None:
    provider, clouds = cloud
    no_cores_left(provider, clouds)
    right = right_to_make_machines(provider, clouds)
    with pytest.raises(GrafosError) as refused:
        ask_for(provider, clouds)
    told = refused.value
    assert {each["code"] for each in told.context["refusals"]} == {"cloud_denied", "cloud_quota"}
    [denied] = [each for each in told.context["refusals"] if each["code"] == "cloud_denied"]
    assert right in denied["context"]["policy"]
    assert right in told.next
    assert clouds.world() == ()


def test_a_spot_machine_counts_against_the_spot_limit_alone(cloud: tuple[str, EmulatedClouds]) -> None:
    provider, clouds = cloud
    no_cores_left(provider, clouds)
    spot_type = {"aws": "", "gcp": "", "azure": "Standard_D2s_v5"}[provider]
    assert ask_for(provider, clouds, spot=True, machine_type=spot_type).plan.is_spot


def test_expired_credentials_are_told_alone(cloud: tuple[str, EmulatedClouds]) -> None:
    provider, clouds = cloud
    clouds.faults.add(FaultRule(Mishap(Befalls.REFUSE, ErrorClass.AUTH), times=0))
    with pytest.raises(GrafosError) as refused:
        ask_for(provider, clouds)
    assert refused.value.code == "cloud_auth"


def test_a_service_that_is_switched_off_is_told_with_how_to_switch_it_on(tmp_path: Path) -> None:
    with EmulatedClouds(tmp_path / "cloud", Settings(clouds=("azure", "gcp"), boots=False)) as clouds:
        clouds.gcp.disabled_services.add("compute.googleapis.com")
        with pytest.raises(GrafosError) as off:
            ask_for("gcp", clouds)
        assert (off.value.code, "gcloud services enable" in off.value.next) == ("cloud_denied", True)
        clouds.azure.registered.discard("microsoft.devtestlab")
        clouds.azure.limits["cores"] = 0
        with pytest.raises(GrafosError) as both:
            ask_for("azure", clouds)
        assert "az provider register" in both.value.next
        assert [told["code"] for told in both.value.context["refusals"]] == ["cloud_denied", "cloud_quota"]


def test_a_right_that_only_keyless_cells_need_is_asked_for_with_them_and_its_lack_is_a_note(tmp_path: Path) -> None:
    """It may be granted on the one account, which asking about the project does not tell."""
    with EmulatedClouds(tmp_path / "cloud", Settings(clouds=("gcp",), boots=False)) as clouds:
        clouds.gcp.denied.add("iam.serviceAccounts.actAs")
        told = {}
        for joining in (BY_WORD, NOT_AT_ALL):
            hands, spec = hands_at("gcp", clouds), msgspec.structs.replace(SPEC, joining=joining)
            seen = survey(hands, spec, lambda *_: BundlePin("ab" * 32, 1), PriceBook(hands.clock).price)
            assert seen.refusals == ()
            told[joining] = [note for note in seen.notes if "iam.serviceAccounts.actAs" in note]
        assert [len(told[BY_WORD]), len(told[NOT_AT_ALL])] == [1, 0]


def test_rights_that_only_an_orchestrator_needs_are_asked_for_with_it_and_its_lack_is_refused(tmp_path: Path) -> None:
    """Its address outlives its machine; who makes cells alone has no use for such rights."""
    with EmulatedClouds(tmp_path / "cloud", Settings(clouds=("aws",), boots=False)) as clouds:
        clouds.aws.denied |= set(LASTING_ADDRESS)
        assert hands_at("aws", clouds).connector.missing_permissions(REGIONS["aws"]) == ()
        ask_for("aws", clouds)
        with pytest.raises(GrafosError) as refused:
            ask_for("aws", clouds, cell_id=ORCHESTRATOR_ID, orchestrates=True)
    assert refused.value.code == "cloud_denied"
    assert refused.value.context["missing"] == list(LASTING_ADDRESS)


MISTYPED = {
    "aws": ("t3.medum", "t3.medium"),
    "gcp": ("e2-medum", "e2-medium"),
    "azure": ("Standard_D2sv5", "Standard_D2s_v5"),
}


def test_a_type_that_the_cloud_has_nowhere_is_invalid_and_the_nearest_is_named(
    cloud: tuple[str, EmulatedClouds],
) -> None:
    provider, clouds = cloud
    typed, meant = MISTYPED[provider]
    with pytest.raises(GrafosError) as refused:
        ask_for(provider, clouds, machine_type=typed)
    assert (refused.value.code, refused.value.next) == ("cloud_invalid", f"Did you mean {meant!r}?")
    assert "refusals" not in refused.value.context
