"""What a language gives: it finds its compiler, turns a tasklet into a module, runs a program's own tests.

Each language is one module beside this one, named as in ``grafos.toml``, with the four functions of ``Language``.
What they share is here: how a compiler is started and ended, and the three errors that a person can meet.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from grafos_cli.manifest import Program, Tasklet
from grafos_core.errors import GrafosError

ENDED_S = 1.0
"""From a tool being killed to the end of its output."""
COMPILER_LINES_SHOWN = 40
"""Of a failed build; the first errors are the ones that help."""

Note = Callable[[str], None]
"""Takes a line for the person who waits."""


def no_note(_: str) -> None:
    """For where nobody waits."""


@dataclass(frozen=True)
class Toolchain:
    """A compiler that was found. ``version`` is its own word for itself; ``command`` starts it; ``environment`` is set
    for it besides the caller's own."""

    language: str
    version: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TestsRun:
    """What a program's own tests said. ``text`` is the tool's output; a language without tests has none of either."""

    passed: int
    failed: int
    seconds: float
    text: str = ""


class Language(Protocol):
    """The functions of a language's module."""

    def find(self, folder: Path) -> Toolchain:
        """The compiler for a program in ``folder``, which may name one; else ``tool_missing``, whose next step is the
        one command that installs it."""

    def compile(self, program: Program, tasklet: Tasklet, toolchain: Toolchain, note: Note = no_note) -> bytes:
        """The tasklet's module, the same bytes in any folder; ``build_failed`` has the compiler's words. ``note`` is
        told of a wait that nobody expects."""

    def run_tests(self, program: Program, toolchain: Toolchain) -> TestsRun:
        """The program's own tests, on this machine; tests that do not compile are ``build_failed``."""

    def digest_inputs(self, program: Program, tasklet: Tasklet) -> Mapping[str, Path]:
        """The files that the module depends on, each under a name that is the same wherever the program lies."""


def language_of(program: Program) -> Language:
    """The language of a program; the manifest let only those pass that exist."""
    return cast(Language, import_module(f"grafos_cli.languages.{program.language}"))


def files_below(folder: Path, *, besides: tuple[str, ...] = ()) -> Iterator[Path]:
    """Every file in ``folder`` and below, in order, but hidden ones and those in folders of the names ``besides``.

    Links to folders are not followed, so that no ring of them keeps anybody busy.
    """
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if entry.name not in besides and not entry.is_symlink():
                yield from files_below(entry, besides=besides)
        elif entry.is_file():
            yield entry


def files_read(rule: str) -> list[str]:
    """The files in a rule for make, as compilers write it: `module: file file`, spaces escaped."""
    _, _, files = rule.partition(": ")
    return [name.replace("\\ ", " ") for name in re.split(r"(?<!\\)\s+", files.strip()) if name]


@dataclass(frozen=True)
class Ended:
    """How a tool ended; ``code`` is None when it was stopped because its time was over."""

    code: int | None
    out: str
    err: str


def run_tool(
    command: list[str], folder: Path, environment: Mapping[str, str], timeout_s: float, *, hidden: tuple[str, ...] = ()
) -> Ended:
    """Runs a tool in ``folder`` to its end, with all that it starts; none of it outlives its time or a Ctrl-C.

    The caller's variables that begin with one of ``hidden`` do not reach it.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**inherited, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # so that what the tool starts can be ended with it
    )
    with process:
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            _end_group(process)
            return Ended(None, *_what_it_said(process))
        except BaseException:
            _end_group(process)
            raise
    return Ended(process.returncode, out, err)


def _what_it_said(process: subprocess.Popen[str]) -> tuple[str, str]:
    """The output of a process that was ended. What left its session before may hold on to the pipes for ever."""
    try:
        return process.communicate(timeout=ENDED_S)
    except subprocess.TimeoutExpired as held:
        out, err = (said or b"" for said in (held.output, held.stderr))  # bytes, whatever the process was opened for
        return out.decode(errors="replace"), err.decode(errors="replace")


def _end_group(process: subprocess.Popen[str]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def build_failed(tasklet: Tasklet, words: str) -> GrafosError:
    """The error for a tasklet that does not compile, with the first lines of what the compiler said."""
    return GrafosError(
        "build_failed",
        f"The tasklet {tasklet.name} does not compile",
        where=str(tasklet.source),
        why=first_lines(words),
        next="mend the source, then: grafos tasklet build",
    )


def first_lines(words: str) -> str:
    """As many lines as a person reads, and how many more there were."""
    lines = words.strip().splitlines() or ["the compiler said nothing"]
    more = len(lines) - COMPILER_LINES_SHOWN
    return "\n".join(lines[:COMPILER_LINES_SHOWN] + ([f"… {more} lines more"] if more > 0 else []))


def tool_missing(what: str, why: str, command: str) -> GrafosError:
    """The error for a compiler that was not found; ``command`` is the one that installs it."""
    return GrafosError("tool_missing", what, why=why, next=command)
