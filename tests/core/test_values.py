"""Ids, resources and money: small values with hard edges."""

from __future__ import annotations

import random
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafos_core import ids, money
from grafos_core.changes import Change, RowCodec, last_of_each
from grafos_core.clock import VirtualClock
from grafos_core.errors import GrafosError
from grafos_core.ledger import Account
from grafos_core.resources import Resources


def test_a_run_id_names_its_fabric_and_scheduler_and_comes_from_chance_alone() -> None:
    first = ids.new_run_id(ids.FabricId("fab-1"), "aws-1", random.Random(7))
    assert first == ids.new_run_id(ids.FabricId("fab-1"), "aws-1", random.Random(7))
    match = ids.RUN_ID_PATTERN.fullmatch(first)
    assert match
    assert match.groups()[:2] == (ids.short_tag("fab-1"), ids.short_tag("aws-1"))


def test_a_lease_id_has_128_bits_and_tells_its_kind() -> None:
    lease = ids.new_lease_id("mem", random.Random(1))
    assert len(bytes.fromhex(lease)) == 16
    assert bytes.fromhex(lease)[0] == 0x01


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "a" * 41, "ä", "a/b", "a\n"])
def test_a_name_with_anything_else_in_it_is_refused(name: str) -> None:
    with pytest.raises(GrafosError) as refusal:
        ids.check_name("tenant", name)
    assert refusal.value.code == "name_invalid"


def test_a_share_is_the_largest_over_the_kinds() -> None:
    total = Resources(cpu_cores=4, mem_bytes=100)
    assert Resources(cpu_cores=1, mem_bytes=75).share_of(total) == Fraction(3, 4)
    assert Resources().share_of(total) == 0


def test_a_kind_that_the_cell_lacks_is_never_free() -> None:
    assert Resources(gpu_count=1).share_of(Resources(cpu_cores=4)) == 1


def test_what_is_lacking_is_named() -> None:
    assert Resources(cpu_cores=2, mem_bytes=5).lacking(Resources(cpu_cores=1, mem_bytes=5)) == ["cpu_cores"]


def test_a_cost_is_rounded_up_and_time_that_ran_backwards_is_free() -> None:
    assert money.cost_micro_cents(Fraction(1, 2), 3600, 1) == 1
    assert money.cost_micro_cents(Fraction(1, 2), 3600, Fraction(1, 10**9)) == 1
    assert money.cost_micro_cents(Fraction(1), 3600, -5) == 0


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "0¢"), (1_200, "0.0012¢"), (12_500_000, "12.50¢"), (2_000_000_000, "$20.00")]
)
def test_money_is_written_for_people(amount: int, text: str) -> None:
    assert money.format_cents(amount) == text


@given(st.fractions(0, 1), st.integers(0, 10**9), st.integers(0, 10**6))
def test_a_part_never_costs_more_than_the_whole(share: Fraction, rate: int, seconds: int) -> None:
    assert money.cost_micro_cents(share, rate, seconds) <= money.cost_micro_cents(Fraction(1), rate, seconds)


def test_the_last_change_of_a_row_wins() -> None:
    first, second = Account("a", 1), Account("a", 2)
    changes = [Change("account", "a", first), Change("account", "b", first), Change("account", "a", second)]
    assert last_of_each(changes) == (Change("account", "a", second), Change("account", "b", first))


def test_a_row_survives_its_bytes() -> None:
    codec = RowCodec({"account": Account})
    assert codec.decode("account", codec.encode(Account("a", 5, 1, 2))) == Account("a", 5, 1, 2)


def test_a_virtual_clock_moves_only_when_told_and_a_jump_leaves_monotonic_time_alone() -> None:
    clock = VirtualClock(100.0)
    clock.advance(5)
    clock.jump(-50)
    assert (clock.now(), clock.monotonic()) == (55.0, 5.0)


@pytest.mark.parametrize(("usd", "micro_cents"), [("0.0336", 3_360_000), ("0.005", 500_000), ("0.000000001", 1)])
def test_a_price_is_rounded_up_to_whole_micro_cents(usd: str, micro_cents: int) -> None:
    assert money.from_usd(Decimal(usd)) == micro_cents
