"""Where words go: data to stdout, everything else to stderr; and what the terminal can show.

``Terminal`` is made once per command by ``main`` and handed on. With ``--json`` stdout holds exactly one JSON
document with ``schema_version`` and nothing ever has colour, progress or a question.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from grafos_cli.characters import fit, harmless, is_utf8
from grafos_core.errors import GrafosError

if TYPE_CHECKING:
    from grafos_cli.flags import Flags

SCHEMA_VERSION = 1
"""Of every JSON document that the command line prints."""

WIDTH_MIN = 60
"""Columns; a narrower terminal wraps by itself."""

MOMENTS = frozenset({"at", "ended_before", "extending_to", "held_until", "now", "since"})
"""Names of moments that do not end in ``_at``."""
NOT_OURS = frozenset({"response", "details"})
"""What stands under such a name is somebody else's, or has a hash."""

STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


@dataclass(frozen=True)
class Terminal:
    """What this command may print, and where to."""

    json: bool
    color_out: bool
    color_err: bool
    debug: bool
    out: TextIO
    err: TextIO
    interactive: bool
    """A person can be asked: stdin and stderr are terminals, and nobody wants JSON."""
    live: bool
    """Lines on stderr can be redrawn."""
    stream: bool = False
    """Of a list each entry is to be a document of its own, a line each."""
    streams: str = ""
    """With ``stream`` the key of the command's list."""
    wide: bool = False
    """Tables show every column, however wide that is."""
    _noted: set[str] = field(default_factory=set, compare=False, repr=False)

    def emit(self, document: Mapping[str, Any], text: str) -> None:
        """The command's result: the JSON document with ``--json``, else the text; always on stdout. With ``--stream``
        the entries of its list are documents of their own."""
        if (entries := document.get(self.streams)) is not None:
            for entry in entries:
                self.emit_line(entry)
        elif self.json:
            self.out.write(self.rendered(document) + "\n")
        elif text:
            self.out.write(harmless(text if text.endswith("\n") else text + "\n"))
        self.out.flush()

    def emit_line(self, document: Mapping[str, Any]) -> None:
        """One of many documents, each a line of its own: for a command that goes on and on."""
        line = {"schema_version": SCHEMA_VERSION, **document} | {"schema_version": SCHEMA_VERSION}  # not a record's own
        self.out.write(json.dumps(_told(line)) + "\n")
        self.out.flush()

    def rendered(self, document: Mapping[str, Any]) -> str:
        """The JSON document as it is printed."""
        return json.dumps(_told({"schema_version": SCHEMA_VERSION, **document}), indent=None if self.stream else 2)

    def note(self, line: str) -> None:
        """A remark beside the data, on stderr; nothing with ``--json``."""
        if not self.json:
            self.err.write(harmless(line + "\n"))
            self.err.flush()

    def note_once(self, line: str) -> None:
        """As ``note``, for what several parts of a command may come to remark."""
        if line not in self._noted:
            self._noted.add(line)
            self.note(line)

    def paint(self, style: str, text: str) -> str:
        """``text`` for stdout in a style when colour is wanted; the meaning is never in the colour alone."""
        return _styled(style, text) if self.color_out else text

    def paint_note(self, style: str, text: str) -> str:
        """As ``paint``, for stderr."""
        return _styled(style, text) if self.color_err else text

    def confirm(self, question: str, flag: str) -> None:
        """Asks yes or no; without a terminal ``confirmation_needed`` names the flag that would answer."""
        if not self.interactive:
            raise GrafosError(
                "confirmation_needed",
                f"{question} Nobody can be asked here",
                next=f"repeat the command with {flag} once you agree",
            )
        if not self.asks(f"{question} [y/N]", ("y", "yes")):
            raise GrafosError(
                "confirmation_needed", "Not confirmed; nothing was changed", next="run it again and answer y"
            )

    def asks(self, question: str, agrees: Collection[str]) -> bool:
        """Asks a person, and whether the answer is one of ``agrees``; anything else, or no answer, is not."""
        assert self.interactive, "nobody is there"
        self.err.write(f"{question} ")
        self.err.flush()
        return sys.stdin.readline().strip().lower() in agrees

    @property
    def width_max(self) -> int | None:
        """Columns that a line on stdout may have: what ``COLUMNS`` says, else the terminal; None for a file, a pipe,
        a program or whoever wants all of it."""
        return None if self.wide or self.json else _width_of(self.out)

    @property
    def width_of_notes(self) -> int | None:
        """Columns that a sentence on stderr may have; None where no person sits: a log's lines are searched."""
        return _width_of(self.err) if self.err.isatty() else None

    @property
    def unicode(self) -> bool:
        """Whether stderr shows more than ASCII."""
        return is_utf8(self.err.encoding)


def _width_of(stream: TextIO) -> int | None:
    if not stream.isatty() and not os.environ.get("COLUMNS"):
        return None
    return max(WIDTH_MIN, shutil.get_terminal_size().columns)


def is_moment(name: str) -> bool:
    """Whether a number of that name is a moment; inside those are seconds since 1970, outside ISO 8601 in UTC."""
    return name in MOMENTS or name.endswith("_at")


def moment_text(seconds: float) -> str | None:
    """The moment in ISO 8601, to the millisecond; none for the 0 that stands for never."""
    if not seconds:
        return None
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{milliseconds:03}Z"


def is_money(name: str) -> bool:
    """Whether a number of that name is an amount of money."""
    return "cents" in name.split("_")


def _told(value: Any, name: str = "") -> Any:
    """A document as programs get it: every moment in ISO 8601, and beside each amount its currency. What a tasklet
    answered stays as it is."""
    if name in NOT_OURS:
        return value
    if isinstance(value, Mapping):
        told = {key: _told(each, str(key)) for key, each in value.items()}
        return {**told, "currency": _currency()} if any(_is_amount(key, each) for key, each in told.items()) else told
    if isinstance(value, (list, tuple)):
        return [_told(each, name) for each in value]
    if is_moment(name) and isinstance(value, (int, float)):
        return moment_text(value)
    return value


def _is_amount(name: object, value: Any) -> bool:
    """Not so of a setting that bounds one, where a schema describes it."""
    return is_money(str(name)) and not isinstance(value, Mapping)


def _currency() -> str:
    from grafos_core.money import CURRENCY

    return CURRENCY


def _styled(style: str, text: str) -> str:
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m"


def wants_color(stream: TextIO, choice: str, environment: Mapping[str, str]) -> bool:
    """What somebody chose, then NO_COLOR, then FORCE_COLOR, then a dumb or absent terminal (no-color.org)."""
    if choice in ("always", "never"):
        return choice == "always"
    if environment.get("NO_COLOR"):
        return False
    if environment.get("FORCE_COLOR"):
        return True
    return stream.isatty() and environment.get("TERM") != "dumb"


def silent_terminal() -> Terminal:
    """For work without a person: whoever asked for it is told in another way."""
    nowhere = io.StringIO()
    return Terminal(
        json=True,
        color_out=False,
        color_err=False,
        debug=False,
        out=nowhere,
        err=nowhere,
        interactive=False,
        live=False,
    )


def open_terminal(flags: Flags, settings: Mapping[str, str] | None = None) -> Terminal:
    """The terminal of this process. Until the ``settings`` are read, what the flags say stands for them."""
    settings = flags.settings if settings is None else settings
    for stream in (sys.stdout, sys.stderr):
        fit(stream, os.environ)
    person = not flags.json and sys.stderr.isatty()
    color = "never" if flags.json else settings.get("color", "auto")
    return Terminal(
        json=flags.json,
        color_out=wants_color(sys.stdout, color, os.environ),
        color_err=wants_color(sys.stderr, color, os.environ),
        debug=flags.debug,
        out=sys.stdout,
        err=sys.stderr,
        interactive=person and sys.stdin is not None and sys.stdin.isatty(),
        live=person and os.environ.get("TERM") != "dumb",
        stream=flags.stream,
        wide=settings.get("wide") == "true",
    )
