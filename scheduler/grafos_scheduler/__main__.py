"""``grafos-scheduler``: reads the command line, then serves."""

from __future__ import annotations

from collections.abc import Sequence

from grafos_core.program import run_program
from grafos_scheduler.settings import read_settings


def main() -> None:
    """Exit code 0 after SIGTERM, else that of the error."""
    run_program(start)


def start(arguments: Sequence[str]) -> None:
    settings = read_settings(arguments)
    # Imported only now: a wrong flag is told at once, and reading flags costs nothing.
    from grafos_scheduler.process import run

    run(settings)


if __name__ == "__main__":
    main()
