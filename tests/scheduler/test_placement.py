"""Which cell gets a run."""

from __future__ import annotations

from typing import Any

import pytest

from grafos_core.errors import GrafosError
from grafos_core.resources import Resources
from grafos_scheduler.placement import Candidate, Demand, choose, score, vetoes

TOTAL = Resources(cpu_cores=4, mem_bytes=1000)
DEMAND = Demand("aws", Resources(cpu_cores=1, mem_bytes=100), until=500.0, purse_micro_cents=50)


def candidate(cell_id: str = "cell-1", **changed: Any) -> Candidate:
    plain: dict[str, Any] = {
        "cell_id": cell_id,
        "total": TOTAL,
        "leased": Resources(),
        "ends_at": 0.0,
        "draining": False,
        "worst_case_micro_cents": 10,
    }
    return Candidate(**(plain | changed))


@pytest.mark.parametrize(
    ("changed", "veto"),
    [
        ({"draining": True}, "draining"),
        ({"leased": Resources(cpu_cores=4)}, "cpu_cores: 1 wanted, 0 of 4 free"),
        ({"leased": Resources(mem_bytes=901)}, "mem_bytes: 100 wanted, 99 of 1000 free"),
        ({"leased": Resources(mem_bytes=1100)}, "mem_bytes: 100 wanted, 0 of 1000 free"),
        ({"ends_at": 499.0}, "the cell may end before the run does"),
        ({"worst_case_micro_cents": 51}, "may cost 0.000051¢, more than is left"),
    ],
)
def test_each_veto_says_why(changed: dict[str, Any], veto: str) -> None:
    assert vetoes(candidate(**changed), DEMAND) == [veto]


def test_a_cell_that_just_fits_has_no_veto() -> None:
    exact = candidate(leased=Resources(cpu_cores=3, mem_bytes=900), ends_at=500.0, worst_case_micro_cents=50)
    assert vetoes(exact, DEMAND) == []


def test_free_local_memory_is_preferred() -> None:
    roomy = candidate("cell-roomy", leased=Resources(cpu_cores=3))
    tight = candidate("cell-tight", leased=Resources(mem_bytes=500))
    assert score(roomy, DEMAND) > score(tight, DEMAND)
    assert choose([tight, roomy], DEMAND) is roomy


def test_free_cores_decide_between_equal_memories() -> None:
    idle, busy = candidate("cell-idle"), candidate("cell-busy", leased=Resources(cpu_cores=2))
    assert choose([busy, idle], DEMAND) is idle


def test_the_choice_does_not_depend_on_the_order_of_the_candidates() -> None:
    cells = [candidate(f"cell-{number}") for number in range(5)]
    assert choose(cells, DEMAND) is choose(cells[::-1], DEMAND)


def test_a_vetoed_cell_is_never_chosen_however_good_its_score() -> None:
    best, other = candidate("cell-best", draining=True), candidate("cell-other", leased=Resources(mem_bytes=800))
    assert choose([best, other], DEMAND) is other


def test_a_failed_placement_lists_the_vetoes_of_every_cell() -> None:
    cells = [candidate("cell-a", draining=True), candidate("cell-b", leased=TOTAL, ends_at=1.0)]
    with pytest.raises(GrafosError) as refusal:
        choose(cells, DEMAND)
    assert refusal.value.code == "placement_failed"
    assert refusal.value.retryable
    assert refusal.value.context["vetoes"] == {
        "cell-a": "draining",
        "cell-b": "cpu_cores: 1 wanted, 0 of 4 free; mem_bytes: 100 wanted, 0 of 1000 free; "
        "the cell may end before the run does",
    }


def test_a_cell_without_a_kind_of_resource_offers_none_of_it() -> None:
    gpu = Demand("aws", Resources(gpu_count=1), until=500.0, purse_micro_cents=50)
    assert vetoes(candidate(), gpu) == ["gpu_count: 1 wanted, 0 of 0 free"]
