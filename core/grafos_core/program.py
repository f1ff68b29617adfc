"""What our long-running programs have in common: flags, last words, the log, the console, and telling a parent process
"ready"."""

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

LOG_LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s"
JOURNAL_LEVELS = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (0, 7))
"""From a level of ours on, the number of syslog for it."""


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
    """Lines with time, level and subject; whoever started the program keeps them. The journal of systemd knows the time
    by itself, and takes the level as a number in front."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JournalLine() if _is_journal() else logging.Formatter(LOG_LINE))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


class _JournalLine(logging.Formatter):
    """A record as ``sd-daemon(3)`` describes it; each line of a traceback has the level too."""

    def format(self, record: logging.LogRecord) -> str:
        level = next(number for least, number in JOURNAL_LEVELS if record.levelno >= least)
        text = f"{record.name}: {super().format(record)}"
        return "\n".join(f"<{level}>{line}" for line in text.splitlines())


def _is_journal() -> bool:
    """Whether stderr is the very stream that the journal reads, and was not led elsewhere since."""
    try:
        there = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{there.st_dev}:{there.st_ino}"


def say(text: str) -> None:
    """A line for the machine's console, which may be a file on a disk that is full."""
    with contextlib.suppress(OSError):
        print(f"grafos: {text}", flush=True)  # noqa: T201  the console


def say_ready(ready_fd: int | None, told: Mapping[str, Any]) -> None:
    """Writes ``told`` and the process id as one line of JSON to an inherited pipe, and lets go of it.

    A parent that is gone meanwhile does not matter.
    """
    if ready_fd is not None:
        with contextlib.suppress(OSError), os.fdopen(ready_fd, "w") as ready:
            ready.write(json.dumps({**told, "pid": os.getpid()}) + "\n")
