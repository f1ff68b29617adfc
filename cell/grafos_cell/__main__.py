"""``fabricbiosd``: reads the command line, then serves."""

from __future__ import annotations

from collections.abc import Sequence

from grafos_cell.settings import read_settings
from grafos_core.program import run_program


def main() -> None:
    """Exit code 0 after SIGTERM or at the cell's end, else that of the error."""
    run_program(start)


def start(arguments: Sequence[str]) -> None:
    settings = read_settings(arguments)
    # Imported only now: a wrong flag is told at once, and reading flags costs nothing.
    from grafos_cell.daemon import run
    from grafos_cell.membership import BesideScheduler

    run(settings, BesideScheduler(settings))


if __name__ == "__main__":
    main()
