"""All cases, and what runs them: anything that takes a module and a spec and tells how the run ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from grafos_cell import abi
from grafos_cell.conformance.attack_cases import ATTACK_CASES
from grafos_cell.conformance.call_cases import CALL_CASES
from grafos_cell.conformance.case import Case, Row, judge
from grafos_cell.conformance.hook_cases import HOOK_CASES
from grafos_cell.conformance.lease_cases import LEASE_CASES
from grafos_cell.conformance.limit_cases import LIMIT_CASES
from grafos_cell.conformance.module_cases import MODULE_CASES
from grafos_cell.conformance.proposal_cases import PROPOSAL_CASES
from grafos_cell.run import LeaseDesk, RunOutcome, RunSpec
from grafos_cell.runtime import run_module
from grafos_core.clock import SystemClock
from grafos_core.errors import GrafosError
from grafos_core.ids import sha256_of

CASES: tuple[Case, ...] = (
    *MODULE_CASES,
    *PROPOSAL_CASES,
    *HOOK_CASES,
    *CALL_CASES,
    *LEASE_CASES,
    *LIMIT_CASES,
    *ATTACK_CASES,
)

Runs = Callable[[bytes, RunSpec, LeaseDesk], Awaitable[RunOutcome]]
"""Runs the module as the spec says. A run that is refused may be an outcome or a ``GrafosError``."""


async def run_suite(runs: Runs, cases: Iterable[Case] = CASES) -> list[Row]:
    """Runs the cases one after the other; one row each, in their order."""
    return [await run_case(runs, case) for case in cases]


async def run_case(runs: Runs, case: Case) -> Row:
    module = case.module()
    spec = case.spec(module)
    try:
        outcome = await runs(module, spec, case.desk())
    except GrafosError as error:
        outcome = RunOutcome(error.code, error.what)
    return judge(case, spec, outcome)


async def in_this_process(module: bytes, spec: RunSpec, desk: LeaseDesk) -> RunOutcome:
    """A way to run: no pool, no other process, and so nothing around it but the engine."""
    return run_module(module, spec, SystemClock(), desk=desk)


def version_of(cases: Iterable[Case] = CASES) -> str:
    """Which suite it is: the ABI's profile, and a digest of what the cases run and expect."""
    made = [f"{case.name} {sha256_of(case.module())} {case.expected.code}" for case in cases]
    return f"{abi.PROFILE}-{sha256_of(chr(10).join(made).encode())[:12]}"


def table(rows: Iterable[Row]) -> str:
    """The rows as a table of Markdown."""
    lines = ["| case | rule | expected | seen |", "|---|---|---|---|"]
    for row in rows:
        seen = "as expected" if row.is_as_expected else f"**{row.seen}**"
        cells = (row.name, row.rule, row.expected, seen)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
