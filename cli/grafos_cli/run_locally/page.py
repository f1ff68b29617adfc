"""The Developer tab: one page, made here, that needs nothing from anywhere else and can be read without a script.

Style and script stand in the page itself and are allowed by their hashes; nothing else may be loaded or run.
"""

from __future__ import annotations

import base64
import hashlib
import html
import time
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import msgspec

from grafos_cli.manifest import Program, Tasklet
from grafos_cli.run_locally.work import Shown
from grafos_core.errors import GrafosError
from grafos_core.money import format_cents

ANSWER_CHARACTERS_SHOWN = 600
"""Of each answer, so that the page stays small; `grafos artifacts` has all of it."""
SIZE_BYTES_MAX = 100_000


class Sight(NamedTuple):
    """What there is to show. ``program`` None: the project has none, and ``trouble`` says why; a fabric that is down
    is a trouble too. ``chosen`` is the run that was just asked for."""

    origin: str
    program: Program | None
    runs: list[Shown]
    cell_id: str = ""
    trouble: GrafosError | None = None
    chosen: str = ""


@cache
def _part(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8").strip() + "\n"


@cache
def content_security_policy() -> str:
    """Nothing but what stands in the page, and nobody may frame it."""

    def hashed(name: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(_part(name).encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; script-src {hashed('page.js')}; style-src {hashed('page.css')}; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


def sign_in(origin: str) -> bytes:
    """What whoever has not shown the bearer sees: where to find it, and nothing of the project."""
    return _page(
        "Developer tab: sign in",
        f"""<h1 tabindex="-1">Developer tab</h1>
<p id="said" role="status"></p>
<section aria-labelledby="who"><h2 id="who">Who is asking?</h2>
<form id="sign-in" hidden data-script>
<label for="url">URL of the helper</label><input id="url" size="30" value="{_text(origin)}" readonly>
<label for="bearer">Bearer</label>
<input id="bearer" name="bearer" type="password" size="50" required autocomplete="off">
<p class="quiet">It is in <code>.grafos/dev/bearer</code> of the project; <code>grafos dev up</code> names it.
This browser keeps it until <code>grafos dev down</code>.</p>
<button>Open</button></form>
<noscript><p>Without scripts the page can be read all the same: <a href="/read">open it</a>, with any name and the
bearer as the password.</p></noscript></section>""",
        signed_in=False,
    )


def developer_tab(sight: Sight, now: float | None = None) -> bytes:
    """The page of a project."""
    name = sight.program.name if sight.program else "this project"
    parts = [f'<h1 tabindex="-1">{_text(name)} on this machine</h1>', '<p id="said" role="status"></p>']
    if sight.trouble is not None:
        parts.append(_trouble(sight.trouble))
    if sight.program is not None:
        parts.append(_run_form(sight.program))
    parts += [_runs(sight, time.time() if now is None else now), _helper(sight)]
    return _page(f"{name}: Developer tab", "\n".join(parts), signed_in=True)


def _page(title: str, main: str, *, signed_in: bool) -> bytes:
    page = f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_text(title)}</title><style>{_part("page.css")}</style></head>
<body data-signed-in="{"yes" if signed_in else "no"}"><a class="skip" href="#main">Skip to the content</a>
<main id="main">
{main}
</main>
<script>{_part("page.js")}</script></body></html>
"""
    return page.encode()


def _trouble(error: GrafosError) -> str:
    lines = [f"<code>{_text(error.code)}</code> {_text(error.what)}"]
    lines += [f"{label}: {_text(text)}" for label, text in (("why", error.why), ("next", error.next)) if text]
    return f'<section role="alert"><h2 class="bad">It did not work</h2><pre>{chr(10).join(lines)}</pre></section>'


def _run_form(program: Program) -> str:
    options = "".join(f"<option>{_text(tasklet.name)}</option>" for tasklet in program.tasklets)
    inputs = "; ".join(f"{_text(one.name)}: {_text(_input_of(one, program))}" for one in program.tasklets)
    return f"""<section aria-labelledby="one"><h2 id="one">Run a tasklet</h2>
<form id="run" method="post" action="/run">
<label for="tasklet">Tasklet</label><select id="tasklet" name="tasklet">{options}</select>
<label for="input">Input</label><textarea id="input" name="input" aria-describedby="empty"></textarea>
<p id="empty" class="quiet">Left empty, it is the one of grafos.toml ({inputs}).</p>
<button>Run</button></form>
<p class="quiet">In a shell: <code>grafos tasklet build</code>, <code>grafos deploy run --provider local</code></p>
</section>"""


def _input_of(tasklet: Tasklet, program: Program) -> str:
    if tasklet.input_file is None:
        return "its context"
    path = tasklet.input_file
    return str(path.relative_to(program.folder)) if path.is_relative_to(program.folder) else path.name


def _runs(sight: Sight, now: float) -> str:
    rows = "".join(_row(one, sight.chosen, now) for one in sight.runs)
    body = f"""<div class="wide" tabindex="0" role="region" aria-label="Table of runs"><table>
<thead><tr><th scope="col">Tasklet</th><th scope="col">State</th><th scope="col">Answer</th>
<th scope="col" class="number">Cost</th><th scope="col">Cell</th><th scope="col">Run</th><th scope="col">When</th></tr>
</thead>
<tbody>{rows}</tbody></table></div>"""
    shown = body if rows else "<p>No run yet.</p>"
    return f"""<section id="runs" aria-labelledby="list"><h2 id="list">Runs</h2>
{shown}
<p class="quiet">In a shell: <code>grafos runs ls</code>, <code>grafos artifacts RUN_ID --verify</code></p></section>"""


def _row(one: Shown, chosen: str, now: float) -> str:
    view = one.view
    current = ' aria-current="true"' if view.run_id == chosen else ""
    state = _text(view.state)
    if view.code not in ("", view.state):
        state = f'<span class="bad">{state}</span> ({_text(view.code)})'
    said = _short(one.response) if one.response else view.what
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(view.created_at))
    return (
        f"<tr{current}><td>{_text(view.tasklet)}</td><td>{state}</td><td><pre>{_text(said)}</pre></td>"
        f'<td class="number">{_text(format_cents(view.cost.micro_cents))}</td><td>{_text(view.cell_id or "none")}</td>'
        f"<td><code>{_text(view.run_id)}</code></td>"
        f'<td><time datetime="{when}">{_age(now - view.created_at)}</time></td></tr>'
    )


def _short(response: str) -> str:
    text = msgspec.json.format(response, indent=2)
    return text if len(text) <= ANSWER_CHARACTERS_SHOWN else text[:ANSWER_CHARACTERS_SHOWN] + " …"


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return "just now"


def _helper(sight: Sight) -> str:
    return f"""<section aria-labelledby="helper"><h2 id="helper">This helper</h2>
<p>It answers at <code>{_text(sight.origin)}</code> for cell <code>{_text(sight.cell_id or "none")}</code>, to whoever
shows the bearer in <code>.grafos/dev/bearer</code>. A browser with scripts keeps the bearer in its local storage until
<code>grafos dev down</code>.</p>
<button type="button" id="forget" hidden data-script>Forget the bearer in this browser</button>
<p class="quiet">How the fabric is: <code>grafos dev doctor</code></p></section>"""


def _text(value: str) -> str:
    return html.escape(value)
