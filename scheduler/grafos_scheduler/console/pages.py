"""How the console looks: pages made here, that need nothing from anywhere else and can be read without a script.

Templates escape whatever they are given, so a name that is markup is shown as the text that it is. Style and script
stand in the page itself and are allowed by their hashes; nothing else may be loaded or run.
"""

from __future__ import annotations

import base64
import hashlib
import time
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from grafos_core.errors import GrafosError
from grafos_core.money import format_cents
from grafos_scheduler.console import paths
from grafos_scheduler.console.sessions import Viewer
from grafos_scheduler.console.sight import CELL_STATES, READY, CellLine, ProviderLine
from grafos_scheduler.console.watching import ALARMING_KINDS, Sight

CELLS_PER_PAGE = 50
DIGEST_SHOWN = 16
SECTIONS = ("overview", "infrastructure", "money", "runs", "security")
"""The parts of the page that are sent anew when they change, by the id of their element."""


class Choice(NamedTuple):
    """Which cells a person looks at: of one provider, in one state (empty: all), and which page of them, from 1 on."""

    provider: str = ""
    state: str = ""
    page: int = 1


class Shown(NamedTuple):
    """A page of cells. ``total`` is of all pages."""

    lines: tuple[CellLine, ...]
    total: int
    page: int
    pages: int


def stats(sight: Sight, viewer: Viewer, choice: Choice) -> bytes:
    """The whole page."""
    return _render("stats.html", viewer=viewer, sections=SECTIONS, **_seen(sight, choice))


def section(name: str, sight: Sight, choice: Choice) -> str:
    """One part of the page, as it stands in it."""
    return _environment().get_template(f"{name}.html").render(**_seen(sight, choice))


def sign_in(why: GrafosError | None = None, *, by_link: bool) -> bytes:
    """What whoever may not look sees: how to sign in, and nothing of the fleet."""
    return _render("sign_in.html", why=why, by_link=by_link)


def refusal(error: GrafosError) -> bytes:
    """An error, for somebody whom signing in would not help."""
    return _render("refusal.html", why=error)


def choose(sight: Sight, choice: Choice) -> Shown:
    """The cells that were chosen. A page behind the last one is the last one."""
    lines = [
        line for line in sight.cells if choice.provider in ("", line.provider) and choice.state in ("", line.state)
    ]
    pages = max(1, -(-len(lines) // CELLS_PER_PAGE))
    page = min(max(choice.page, 1), pages)
    start = (page - 1) * CELLS_PER_PAGE
    return Shown(tuple(lines[start : start + CELLS_PER_PAGE]), len(lines), page, pages)


@cache
def content_security_policy() -> str:
    """Nothing but what stands in the page, and nobody may frame it."""

    def hashed(name: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(_part(name).encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; script-src {hashed('console.js')}; style-src {hashed('console.css')}; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


def _seen(sight: Sight, choice: Choice) -> dict[str, Any]:
    return {"sight": sight, "choice": choice, "shown": choose(sight, choice), "cell_states": CELL_STATES}


def _render(name: str, **seen: Any) -> bytes:
    return _environment().get_template(name).render(**seen).encode()


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FunctionLoader(lambda name: _part(f"templates/{name}")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {
        "age": age,
        "bytes": _bytes,
        "clock": _clock,
        "iso": _iso,
        "money": format_cents,
        "share": _share,
        "told": _told,
    }
    made.globals |= {
        "alarming": ALARMING_KINDS,
        "css": Markup(_part("console.css")),  # noqa: S704  # our own file, and no text of anybody else
        "js": Markup(_part("console.js")),  # noqa: S704  # as above
        "paths": paths,
        "ready": READY,
        "signals_of": _signals_of,
        "query": _query,
    }
    return made


@cache
def _part(name: str) -> str:
    place = files(__package__)
    for word in name.split("/"):
        place = place.joinpath(word)
    return place.read_text(encoding="utf-8").strip() + "\n"


def age(seconds: float) -> str:
    """How long something is ago, in the largest unit that it fills."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"


def _iso(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def _clock(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(moment))


def _bytes(count: int) -> str:
    for unit, size in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.4g} {unit}"
    return f"{count} B"


def _share(part: int, whole: int) -> str:
    if not whole:
        return "no budget"
    return "under 0.1 %" if 0 < part * 1000 < whole else f"{100 * part / whole:.1f} %"


def _told(details: dict[str, str | int]) -> str:
    """What a record says further; hashes by their beginning, and quotas not at all."""
    shown = [(name, str(value)) for name, value in details.items() if not name.startswith("quota_")]
    return ", ".join(f"{name} {value[:DIGEST_SHOWN] if name.endswith('_sha256') else value}" for name, value in shown)


def _signals_of(lines: tuple[ProviderLine, ...]) -> list[tuple[str, list[tuple[int, int]]]]:
    """Each signal with how many cells of each provider meet it, and of how many."""
    if not lines:
        return []
    names = [name for name, _ in lines[0].met]
    return [(name, [(dict(line.met)[name], line.cells) for line in lines]) for name in names]


def _query(choice: Choice, page: int) -> str:
    from urllib.parse import urlencode

    chosen = {"provider": choice.provider, "state": choice.state, "page": str(page) if page > 1 else ""}
    text = urlencode({name: value for name, value in chosen.items() if value})
    return f"?{text}" if text else ""
