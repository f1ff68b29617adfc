"""`grafos help TOPIC`: what is true of every command. The tables are those that the code itself uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from grafos_cli import catalog
from grafos_cli.nearness import nearest
from grafos_cli.wrapping import paragraphs
from grafos_core.errors import GrafosError

EXIT_CODES = (
    (0, "done"),
    (1, "failure"),
    (2, "usage: the command line, a file or a name cannot be used"),
    (3, "needs input: a question that nobody could be asked; next names the flag"),
    (4, "who you are: certificate, token, credentials"),
    (5, "what you may: a permission or right is missing"),
    (6, "quota, capacity or a limit of the run"),
    (7, "the budget refuses"),
    (8, "conflict, or the lease is lost"),
    (9, "partial: something is left, and listed"),
    (10, "timeout"),
    (130, "interrupted"),
)
"""The stable exit codes, each with its meaning."""

VARIABLES = (
    ("NO_COLOR", "no colour, unless --color or a setting says more"),
    ("FORCE_COLOR", "colour although the output is no terminal"),
    ("TERM=dumb", "plain lines: no colour, nothing redrawn"),
    ("COLUMNS", "how wide a table may be"),
    ("XDG_CONFIG_HOME", "your settings: grafos/config.toml in it"),
    ("XDG_DATA_HOME", "what must not be lost: the fabric's key, ledger and journal"),
    ("XDG_STATE_HOME", "crash reports, and what running programs leave for each other"),
    ("XDG_CACHE_HOME", "what can be made again"),
    ("AWS_REGION, AWS_DEFAULT_REGION", "the region on aws, as AWS's own tools read it"),
    ("AZURE_DEFAULTS_LOCATION", "the region on azure"),
    ("CLOUDSDK_COMPUTE_REGION", "the region on gcp"),
    ("GRAFOS_AZURE_ENDPOINT", "an emulated Azure; grafos emulate env prints it"),
    ("GRAFOS_GCP_ENDPOINT", "an emulated Google Cloud; grafos emulate env prints it"),
)
"""What the environment may say beside the settings."""


class Page(NamedTuple):
    """What a page begins with, its rows of two columns, and the next command."""

    head: str
    entries: Sequence[tuple[str, str]]
    next: str

    def text(self, width: int | None) -> str:
        """The page for so many columns."""
        lines = [*paragraphs(self.head, width), "", *catalog.rows(self.entries, width), "", f"Next: {self.next}"]
        return "\n".join(lines) + "\n"


def topic(words: list[str], width: int | None = None) -> str:
    """The page of a topic; nothing when a command is meant; ``usage`` for a word that is neither."""
    name, more = words[0], words[1:]
    if name == "errors" and more:
        return _error(more[0]).text(width)
    if name in TOPICS:
        return TOPICS[name]().text(width)
    if name.startswith("-") or catalog.noun(name):
        return ""
    known = [*TOPICS, *(noun.name for noun in catalog.NOUNS)]
    match = nearest(name, known)
    raise GrafosError(
        "usage",
        f"There is no help on {name[:60]!r}",
        why=f"did you mean {match!r}?" if match else f"topics are {', '.join(TOPICS)}",
        next=f"grafos help {match}" if match else "grafos --help",
    )


def _exit_codes() -> Page:
    entries = [(f"{code:>3}", meaning) for code, meaning in EXIT_CODES]
    return Page("Each command ends with one of these. They do not change.", entries, "grafos help errors")


def _environment() -> Page:
    from grafos_cli.settings import SETTINGS

    entries = [(setting.variable, setting.meaning) for setting in SETTINGS]
    return Page("What the environment may say:", [*entries, *VARIABLES], "grafos config show --origin")


def _config() -> Page:
    from grafos_cli.settings import SETTINGS

    head = (
        "A setting is what the first of these says: its flag, its GRAFOS_ variable, [settings] in the project's\n"
        "grafos.toml, your own $XDG_CONFIG_HOME/grafos/config.toml (~/.config without it), its default.\n"
        "A setting that does not exist is refused. Nothing is reported to anybody."
    )
    return Page(head, [(setting.name, setting.meaning) for setting in SETTINGS], "grafos config show --origin")


def _errors() -> Page:
    from grafos_core.errors import CODES

    head = "An error is error[code]: what, and where known the lines where, why, next and docs. The codes:"
    return Page(head, [(code, facts.meaning) for code, facts in CODES.items()], "grafos help errors CODE")


def _error(code: str) -> Page:
    """All that is fixed about one code."""
    from grafos_core.errors import CODES

    if code not in CODES:
        match = nearest(code, list(CODES))
        raise GrafosError(
            "usage",
            f"There is no error {code[:60]!r}",
            why=f"did you mean {match!r}?" if match else "",
            next=f"grafos help errors {match}".rstrip(),
        )
    facts = CODES[code]
    entries = [
        ("exit code", f"{facts.exit_code}: {dict(EXIT_CODES)[facts.exit_code]}"),
        ("HTTP", str(facts.http_status)),
        ("again", "asking again can help" if facts.retryable else "asking again alone does not help"),
    ]
    return Page(f"{code}: {facts.meaning}", entries, "what the error itself names as next")


TOPICS: dict[str, Callable[[], Page]] = {
    "exit-codes": _exit_codes,
    "environment": _environment,
    "config": _config,
    "errors": _errors,
}
