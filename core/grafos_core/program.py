"""What our long-running programs have in common: flags, last words, the log, and telling a parent process "ready"."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from grafos_core.errors import GrafosError


class CommandLine(argparse.ArgumentParser):
    """argparse, with our shape of errors: what does not parse is ``usage``."""

    def error(self, message: str) -> NoReturn:
        raise GrafosError("usage", message, where=self.prog, next=f"{self.prog} --help")


def run_program(start: Callable[[Sequence[str]], None]) -> None:
    """Runs ``start`` with the command line's arguments. What it cannot do is said on stderr in the one shape of
    errors, and the process exits with the error's code."""
    try:
        start(sys.argv[1:])
    except GrafosError as error:
        print(error.last_words(), file=sys.stderr)  # noqa: T201  # a program's last words
        sys.exit(error.exit_code)


def log_to_stderr() -> None:
    """Lines with time, level and subject; whoever started the program keeps them."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")


def say_ready(ready_fd: int | None, told: Mapping[str, Any]) -> None:
    """Writes ``told`` and the process id as one line of JSON to an inherited pipe, and lets go of it.

    A parent that is gone meanwhile does not matter.
    """
    if ready_fd is not None:
        with contextlib.suppress(OSError), os.fdopen(ready_fd, "w") as ready:
            ready.write(json.dumps({**told, "pid": os.getpid()}) + "\n")
