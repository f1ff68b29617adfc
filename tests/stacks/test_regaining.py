"""What stands in the way of getting into a cell that another home made is told; and what was spent there is booked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from grafos_connectors.registry import open_connector
from grafos_core.clock import SystemClock
from grafos_core.errors import GrafosError
from grafos_core.fabric import open_fabric, tenant_account
from grafos_core.receipts import Settlement
from grafos_emulators.emulator import EmulatedClouds, Settings
from grafos_stacks.direct import Hands
from grafos_stacks.homecoming import ending_of
from grafos_stacks.journal import Journal, StackRow, StackState
from grafos_stacks.regaining import regain_cell

REGION = "us-east-1"


@pytest.fixture
def hands(tmp_path: Path) -> Iterator[Hands]:
    """At an account in which nothing is."""
    with EmulatedClouds(tmp_path / "cloud", Settings(clouds=("aws",), boots=False)) as clouds:
        clock = SystemClock()
        fabric = open_fabric(clock)
        connector = open_connector("aws", REGION, environment=clouds.environment())
        yield Hands(fabric, connector, Journal(fabric, clock), clock, lambda _: None)


def known_to(hands: Hands, cell_id: str, provider: str) -> None:
    hands.journal.write(StackRow(cell_id, provider, REGION, "x", StackState.MADE, 1.0, 1.0))


@pytest.mark.parametrize(
    ("cell_id", "code", "next_step"),
    [
        ("nobody", "cell_unknown", "grafos cloud recover"),
        ("gcp-1", "unsupported", "grafos fabric claim URL"),
        ("aws-1", "cell_gone", "grafos cloud teardown aws --cell-id aws-1"),
    ],
)
def test_what_is_no_standalone_cell_that_runs_is_refused(
    hands: Hands, tmp_path: Path, cell_id: str, code: str, next_step: str
) -> None:
    known_to(hands, "gcp-1", "gcp")
    known_to(hands, "aws-1", "aws")
    with pytest.raises(GrafosError) as refused:
        regain_cell(hands, cell_id, tmp_path)
    assert refused.value.code == code
    assert next_step in refused.value.next
    assert not (hands.fabric.cell_home(cell_id) / "operator-key.pem").exists(), "nothing was asked for"


def test_what_was_spent_of_slices_that_this_ledger_never_had_is_booked_once_whatever_is_left(hands: Hands) -> None:
    fabric = hands.fabric
    account = fabric.read_ledger().account(tenant_account("default"))
    spent = account.cap_micro_cents + 1
    for slice_id in ("slice-1", "slice-1", "slice-2"):
        fabric.end(ending_of(Settlement(str(fabric.id), slice_id, "aws-1", "default", spent, True, 5.0)))
    after = fabric.read_ledger().account(account.name)
    assert (after.spent_micro_cents, after.held_micro_cents) == (2 * spent, 0)


def test_of_a_tenant_that_this_ledger_never_had_nothing_is_booked_and_nothing_waits_for_ever(hands: Hands) -> None:
    fabric = hands.fabric
    before = fabric.read_ledger().accounts
    fabric.end(ending_of(Settlement(str(fabric.id), "slice-1", "aws-1", "acme", 5, True, 5.0)))
    assert fabric.read_ledger().accounts == before
