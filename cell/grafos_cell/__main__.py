"""``fabricbiosd``: reads the command line, then serves. What it cannot do it says in the one shape of errors."""

from __future__ import annotations

import sys

from grafos_cell.settings import read_settings
from grafos_core.errors import GrafosError


def main() -> None:
    """Exit code 0 after SIGTERM or at the cell's end, else that of the error."""
    try:
        settings = read_settings(sys.argv[1:])
        # Imported only now: a wrong flag is told at once, and reading flags costs nothing.
        from grafos_cell.daemon import run

        run(settings)
    except GrafosError as error:
        print(error.last_words(), file=sys.stderr)  # noqa: T201  # a program's last words
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
