"""All benchmarks, one after the other, as one table and one line of JSON on standard output.

    make bench                  all of them; some minutes
    make bench only=placement   one of them: the name of its file here
    python benchmarks/run.py [--only NAME] [--quick]

Each file runs by itself too. What a row means, and what was measured when: docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator

import table

NAMES = (
    "start_up",
    "dev_up",
    "invocation",
    "durable",
    "placement",
    "provisioning",
    "by_pulumi",
    "emulators",
    "joining",
    "shared_memory",
    "services",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=NAMES, action="append", help="measure this alone; may be given again")
    parser.add_argument("--quick", action="store_true", help="little work and few turns: to see that it runs")
    asked = parser.parse_args()
    table.show(rows(asked.only or NAMES, quick=asked.quick), as_json=True, quick=asked.quick)


def rows(names: tuple[str, ...], *, quick: bool) -> Iterator[table.Row]:
    """The rows of each; a benchmark that breaks is told and does not end the others."""
    for name in names:
        table.tell(f"{name} ...")
        try:
            yield from importlib.import_module(name).table_rows(quick=quick)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # the others are still worth their time
            yield table.Row(name, note=f"broke: {str(error).splitlines()[0] if str(error) else type(error).__name__}")


if __name__ == "__main__":
    main()
