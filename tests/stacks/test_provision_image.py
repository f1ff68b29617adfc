"""A cell on the emulated Compute Engine and the emulated Azure starts from an image that was published there: nothing
is installed at its first boot, and it joins a real orchestrator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from image_ground import HOUR_S, Ground, image_ground, put_up
from msgspec.structs import replace
from registered import CLOUDS
from registered_operator import CELL, RegisteredOperator

from grafos_cell.baked import read_told
from grafos_cell.first_boot import credentials_in
from grafos_connectors.contract import Kind
from grafos_core.errors import GrafosError
from grafos_emulators.faults import Effect, ErrorClass, Fault, FaultRule
from grafos_stacks.bootstrap import Joining, booted_in, render
from grafos_stacks.journal import Life
from grafos_stacks.planner import predicted_ways
from grafos_stacks.provision import prepare
from grafos_stacks.publishing_end import unpublish
from grafos_stacks.spec import NOT_AT_ALL, STOCK


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with image_ground(tmp_path_factory.mktemp("clouds"), tmp_path_factory.mktemp("orchestrator"), "images") as made:
        yield made


@pytest.fixture(params=CLOUDS)
def operator(request: pytest.FixtureRequest, ground: Ground, tmp_path: Path) -> Iterator[RegisteredOperator]:
    somebody = ground.operator(request.param, tmp_path)
    yield somebody
    if somebody.machines():
        somebody.teardown()


def test_a_cell_starts_from_the_published_image_and_fetches_nothing(
    operator: RegisteredOperator, tmp_path: Path
) -> None:
    stack = put_up(operator, tmp_path)
    record = operator.provision(ttl_s=HOUR_S)
    assert (record.state, record.pattern) == ("ready", "registered")
    plan = operator.plan(ttl_s=HOUR_S)
    assert (plan.facts.image.name, plan.facts.baked, plan.facts.bundle.sha256) == (stack, stack[-12:], "")
    hands = operator.hands()
    rows = hands.journal.resources(CELL).values()  # also those of an earlier cell of the name
    [machine] = [row.ref for row in rows if row.kind is Kind.MACHINE and row.life is Life.READY]
    console = hands.connector.console(machine)
    booted = booted_in(console, CELL)
    assert booted is not None
    assert (booted.machine, booted.timer_at) == ("baked", plan.timer_at)
    assert "unpacked" not in console
    assert operator.teardown().receipt.left == 0
    unpublish(operator.hands(), stack)


def test_an_image_is_chosen_by_name_digest_or_not_at_all(ground: Ground, tmp_path: Path) -> None:
    operator = ground.operator("gcp", tmp_path)
    first, second, other = (
        put_up(operator, tmp_path, arch, seed) for seed, arch in ((1, "amd64"), (2, "amd64"), (3, "arm64"))
    )
    assert operator.plan().facts.image.name == second
    assert operator.plan(image=first).facts.image.name == first
    assert operator.plan(image=first[-12:]).facts.image.name == first
    with pytest.raises(GrafosError) as refused:
        operator.plan(image=first[-12:] + "0" * 52)
    assert refused.value.code == "image_unknown", "another image may begin so"
    assert operator.plan(machine_type="t2a-standard-1").facts.image.name == other
    assert operator.plan(image=other).facts.offer.arch == "arm64"
    stock = operator.plan(image=STOCK)
    assert (stock.facts.baked, bool(stock.facts.bundle.sha256)) == ("", True)
    ways = predicted_ways(operator.plan())
    assert ways.image == operator.plan().predicted_s < ways.stock == stock.predicted_s
    for stack in (first, second, other):
        unpublish(operator.hands(), stack)
    assert operator.plan().facts.baked == ""


@pytest.mark.parametrize(
    ("inputs", "code", "says"),
    [
        ({"image": "img-gcp-us-central1-000000000000"}, "image_unknown", "grafos cloud image publish gcp"),
        ({"image": "what is this"}, "config_invalid", "grafos cloud image ls"),
        ({"image": "abcdef", "joining": NOT_AT_ALL}, "unsupported", "--image stock"),
    ],
)
def test_an_image_that_is_not_there_or_not_for_such_a_cell_is_refused(
    ground: Ground, tmp_path: Path, inputs: dict[str, str], code: str, says: str
) -> None:
    with pytest.raises(GrafosError) as refused:
        ground.operator("gcp", tmp_path).plan(**inputs)
    assert refused.value.code == code
    assert says in refused.value.next


def test_an_image_for_another_architecture_or_in_another_region_is_refused(ground: Ground, tmp_path: Path) -> None:
    operator = ground.operator("gcp", tmp_path)
    stack = put_up(operator, tmp_path, "arm64", seed=4)
    with pytest.raises(GrafosError) as refused:
        operator.plan(image=stack, machine_type="e2-medium")
    assert (refused.value.code, "arm64" in refused.value.what) == ("config_invalid", True)
    assert "--type" in refused.value.next
    hands = operator.hands()
    elsewhere = replace(operator.asked(image=stack), region="europe-west1")
    with pytest.raises(GrafosError) as refused:
        prepare(hands, elsewhere, operator.bundles)
    assert refused.value.code == "image_unknown"
    assert "--region europe-west1" in refused.value.next
    unpublish(operator.hands(), stack)


def test_a_cell_that_was_begun_from_an_image_that_is_gone_since_says_so(ground: Ground, tmp_path: Path) -> None:
    operator = ground.operator("gcp", tmp_path)
    stack = put_up(operator, tmp_path, seed=6)
    full = Fault(Effect.REFUSE, ErrorClass.CAPACITY)
    ground.clouds.faults.add(FaultRule(full, operation="instances.insert", times=0))
    with pytest.raises(GrafosError) as refused:
        operator.provision(ttl_s=HOUR_S)
    assert refused.value.code == "cloud_capacity"
    ground.clouds.faults.clear()
    unpublish(operator.hands(), stack)
    with pytest.raises(GrafosError) as refused:
        operator.provision(ttl_s=HOUR_S)
    assert (refused.value.code, "grafos cloud teardown" in refused.value.next) == ("image_unknown", True)
    assert operator.teardown().receipt.left == 0


def test_what_a_machine_is_told_holds_no_secret_when_it_joins_by_its_cloud_s_word(
    operator: RegisteredOperator, tmp_path: Path
) -> None:
    stack = put_up(operator, tmp_path, seed=5)
    plan = operator.plan(ttl_s=HOUR_S, max_ttl_s=3 * HOUR_S)
    joining = Joining("https://203.0.113.7:8443", "pem", "expectation")
    told = read_told(credentials_in(render(operator.fabric, plan, 1, joining).encode())["grafos.cell"])
    assert (told.bootstrap_token, told.cell_id) == ("expectation", CELL)
    assert told.expires_at == plan.life.held_until < told.timer_at == plan.timer_at
    unpublish(operator.hands(), stack)


def test_a_machine_with_a_baked_image_can_be_extended_as_far_as_was_held_for_and_no_farther(
    ground: Ground, tmp_path: Path
) -> None:
    operator = ground.operator("azure", tmp_path)
    stack = put_up(operator, tmp_path, seed=6)
    operator.provision(ttl_s=HOUR_S, max_ttl_s=2 * HOUR_S)
    before = operator.plan(ttl_s=HOUR_S)
    assert operator.extend(more_s=HOUR_S).record.expires_at == before.life.held_until
    assert operator.plan(ttl_s=HOUR_S).timer_at == before.timer_at
    with pytest.raises(GrafosError) as refused:
        operator.extend(more_s=HOUR_S)
    assert (refused.value.code, "such a machine" in refused.value.what) == ("unsupported", True)
    operator.teardown()
    unpublish(operator.hands(), stack)
