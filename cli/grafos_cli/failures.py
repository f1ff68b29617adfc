"""How an error looks: one shape for people, its twin in JSON, a stable exit code.

An exception that nobody foresaw becomes ``internal``; its traceback goes to a report file with secrets and the home
folder taken out, and to the screen only with ``--debug``.
"""

from __future__ import annotations

import os
import re
import sys
import time
import traceback
from pathlib import Path

from grafos_cli.characters import harmless
from grafos_cli.terminal import Terminal
from grafos_cli.wrapping import wrapped
from grafos_core.errors import GrafosError, general_step

INDENT = " " * 9
"""Of what stands behind a label."""
REPORTS_KEPT_MAX = 20
"""Crash reports; older ones are removed."""

_SECRETS = (
    (re.compile(r"-----BEGIN [A-Z ]+-----.*?-----END [A-Z ]+-----", re.DOTALL), "[PEM removed]"),
    (re.compile(r"(?i)\b(bearer)\s+\S+"), r"\1 [removed]"),
    (re.compile(r"\bg[ac]t\d\.[\w.-]+"), "[token removed]"),
    (re.compile(r"(?i)\b(secret|password|token|authorization|bearer)\b(\s*[=:]\s*)\S+"), r"\1\2[removed]"),
    (re.compile(r"\bAKIA[0-9A-Z]{12,}\b"), "[access key removed]"),
    (re.compile(r"[A-Za-z0-9_\-+/=]{48,}"), "[long value removed]"),
)


_NEW_CREDENTIALS = (
    "have new ones made: for a local fabric grafos dev down, then grafos dev up; for a cell on a cloud grafos cloud "
    "provision with its --cell-id"
)
NEXT_STEPS = {
    "credentials_missing": _NEW_CREDENTIALS,
    "interrupted": "run it again",
    "schema_newer": "use the grafos that wrote it, or a newer one",
    "token_expired": _NEW_CREDENTIALS,
    "token_refused": _NEW_CREDENTIALS,
}
"""What helps where the error was raised by somebody who cannot know it, such as a scheduler."""


def with_next_step(error: GrafosError) -> GrafosError:
    """The error, with a next step if there is one."""
    if error.next in ("", general_step(error.code)):
        error.next = NEXT_STEPS.get(error.code, "")
    return error


def error_text(error: GrafosError, terminal: Terminal) -> str:
    """``error[code]: what`` and, where known, the lines where, why, next and docs; each may have several lines, and on
    a terminal none is longer than it but for a command or a path."""
    width = terminal.width_of_notes
    head = f"error[{error.code}]:"
    first, *more = wrapped(f"{head} {error.what}", width)
    lines = [first.replace(head, terminal.paint_note("red", head), 1), *(f"  {line}" for line in more)]
    inner = width - len(INDENT) if width else None
    for label, text in (("where", error.where), ("why", error.why), ("next", error.next), ("docs", docs_of(error))):
        if text:
            first, *more = wrapped(text, inner, has_commands=label in ("next", "docs"))
            lines.append(f"  {label + ':':<6} {first}".rstrip())
            lines += [f"{INDENT}{line}".rstrip() for line in more]
    return harmless("\n".join(lines) + "\n")


def docs_of(error: GrafosError) -> str:
    """Where the code is explained, without network."""
    return general_step(error.code)


def show_error(error: GrafosError, terminal: Terminal) -> int:
    """Prints the error (stderr, or stdout as JSON) and gives the exit code."""
    error = with_next_step(error)
    if terminal.json:
        terminal.emit({"error": {**error.to_wire(), "docs": docs_of(error)}}, "")
    else:
        terminal.err.write(error_text(error, terminal))
        terminal.err.flush()
    return error.exit_code


def redacted(text: str) -> str:
    """``text`` without key material, long random values and the name of the home folder."""
    home = os.path.expanduser("~")  # noqa: PTH111 - a string to look for, no path to open
    if len(home) > 1:
        text = text.replace(home, "~")
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def internal_error(crash: BaseException, words: list[str], terminal: Terminal) -> GrafosError:
    """The error for a bug of ours; the report's path is in ``next``."""
    text = "".join(traceback.format_exception(crash))
    if terminal.debug:
        terminal.err.write(text)
    report = redacted(f"grafos {' '.join(words)}\nPython {sys.version}\n{sys.platform}\n\n{text}")
    summary = redacted(f"{type(crash).__name__}: {crash}").splitlines()[0][:300]
    return GrafosError(
        "internal",
        "Something happened that grafos did not foresee; this is a bug",
        why=summary,
        next=_where_it_is(report),
    )


def _where_it_is(report: str) -> str:
    try:
        path = write_report(report)
    except OSError as failed:
        return f"repeat it with --debug; the report could not be written ({failed.strerror})"
    return f"read {path}, which holds no secrets, and send it along when you report this"


def write_report(report: str) -> Path:
    """Writes the report below the user's state folder, 0600, and drops the oldest beyond the limit."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")  # noqa: PTH111
    folder = Path(state) / "grafos" / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    for old in sorted(folder.glob("crash-*.txt"))[: -REPORTS_KEPT_MAX + 1]:
        old.unlink(missing_ok=True)
    path = folder / f"crash-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.getpid()}.txt"
    path.touch(mode=0o600)
    path.write_text(report)
    return path
