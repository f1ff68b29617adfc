"""What becomes of our few signs on a terminal that has no Unicode, and of strangers' signs that would drive one. The
meaning is never in the sign alone.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from typing import TextIO

STAND_INS = {
    "…": "...", "✓": "+", "✗": "x", "–": "-", "—": "-", "─": "-", "│": "|", "→": "->", "≤": "<=", "≥": ">=", "×": "x",
    "·": "-", "¢": "c", "‘": "'", "’": "'", "“": '"', "”": '"', "µ": "u",
}  # fmt: skip
UNKNOWN = "?"
_DRIVES = re.compile("\x1b(?!\\[[0-9;]*m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f]")
"""Control characters but for tab and line feed. Styles, as we write them ourselves, move nothing and hide no line."""
HANDLER = "grafos.stand_in"
LOCALE_VARIABLES = ("LC_ALL", "LC_CTYPE", "LANG")
"""The first that is set says which characters a terminal has (POSIX)."""


def harmless(text: str) -> str:
    """The text for a person's eyes: a tasklet, a compiler or a cell may have written it, and none of them moves the
    cursor, retitles the window or answers in the person's name. Documents in JSON need none of it: they escape."""
    return _DRIVES.sub("\ufffd", text)


def is_utf8(encoding: str | None) -> bool:
    """Whether that is a name of UTF-8."""
    return (encoding or "").lower().replace("-", "").replace("_", "").startswith("utf8")


def fit(stream: TextIO, environment: Mapping[str, str]) -> None:
    """Has the stream take whatever is written: what it cannot show is shown by a stand-in, and never an error.

    Python takes the locales C and POSIX for UTF-8. A file or a pipe may have that; a person who says so of a terminal
    gets ASCII. Where no variable says anything, Python's word counts.
    """
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is None:
        return
    codecs.register_error(HANDLER, _stand_in)
    said = next((environment[name] for name in LOCALE_VARIABLES if environment.get(name)), "")
    if said and stream.isatty() and not is_utf8(said.partition(".")[2].partition("@")[0]):
        reconfigure(encoding="ascii", errors=HANDLER)
    elif not is_utf8(stream.encoding) or stream.errors == "strict":
        reconfigure(errors=HANDLER)


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(STAND_INS.get(sign, UNKNOWN) for sign in error.object[error.start : error.end]), error.end
