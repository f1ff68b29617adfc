"""``python -m grafos_cell.conformance``: the whole suite on a pool of workers as a cell's, and its table.

The cases of services are played in this process.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from grafos_cell.conformance.case import Case, Row
from grafos_cell.conformance.service_cases import SERVICE_CASES, ServiceCase, run_service_suite
from grafos_cell.conformance.suite import CASES, in_this_process, run_suite, table
from grafos_cell.pool import WorkerPool


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m grafos_cell.conformance", description=__doc__)
    parser.add_argument("--here", action="store_true", help="run all cases in this process, without workers")
    parser.add_argument("only", nargs="?", default="", help="only cases whose name or rule begins like this")
    arguments = parser.parse_args()
    cases = [case for case in CASES if _is_meant(case, arguments.only)]
    services = [case for case in SERVICE_CASES if _is_meant(case, arguments.only)]
    if not cases and not services:
        parser.error(f"no case has a name or rule that begins with {arguments.only!r}")
    rows = asyncio.run(run_suite(in_this_process, cases) if arguments.here else _on_a_pool(cases))
    rows += run_service_suite(services)
    sys.stdout.write(table(rows))
    wrong = [row.name for row in rows if not row.is_as_expected]
    sys.stdout.write(f"\n{len(rows)} cases, {len(wrong)} not as expected{': ' if wrong else ''}{', '.join(wrong)}\n")
    return 1 if wrong else 0


def _is_meant(case: Case | ServiceCase, beginning: str) -> bool:
    return case.name.startswith(beginning) or case.rule.startswith(beginning)


async def _on_a_pool(cases: list[Case]) -> list[Row]:
    pool = WorkerPool()
    try:
        return await run_suite(pool.run, cases)
    finally:
        await pool.close()


if __name__ == "__main__":
    sys.exit(main())
