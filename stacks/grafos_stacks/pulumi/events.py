"""What an engine tells while it works, as steps that people know; and what it refuses, as an error of ours.

The engine's own words are for Pulumi's terminal. Its events name the resource, what is done with it and how that ended,
and carry the text of each refusal as the provider wrote it.
"""

from __future__ import annotations

import re
import time
from typing import Any

from grafos_core.errors import CODES, GrafosError
from grafos_stacks.progress import BEGUN, DONE, WAITING, Progress, Step

CHANGES = {
    "create": "make",
    "create-replacement": "make anew",
    "update": "change",
    "delete": "delete",
    "delete-replaced": "delete, to be made anew",
    "import": "adopt",
}
"""What is told of a step of the engine, by its word for it; of the others (unchanged, read) nothing is."""
_OURS = re.compile(r"(?P<what>.*) \[(?P<code>[a-z_]+)\]")
"""The line in which our provider tells what went wrong."""
_HEADS = re.compile(r"^.* (?:has a problem|resource has a problem): |^.*desc = |^\W+")
"""What an engine puts before it."""


class Heard:
    """Listens to one command of the engine; its calls come in a thread of the library's."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._began: dict[str, float] = {}
        self.complaints: list[str] = []
        """Errors, in the order in which they were told."""

    def __call__(self, event: Any) -> None:
        """One event."""
        if event.resource_pre_event is not None:
            self._changed(event.resource_pre_event.metadata, BEGUN)
        elif event.res_outputs_event is not None:
            self._changed(event.res_outputs_event.metadata, DONE)
        elif event.res_op_failed_event is not None:
            self._changed(event.res_op_failed_event.metadata, WAITING, "failed")
        elif event.diagnostic_event is not None and event.diagnostic_event.severity == "error":
            self.complaints.append(event.diagnostic_event.message)

    def _changed(self, metadata: Any, state: str, note: str = "") -> None:
        word = CHANGES.get(str(getattr(metadata.op, "value", metadata.op)))
        if word is None or not str(metadata.type).startswith("grafos:"):
            return
        name, now = metadata.urn.rpartition("::")[2], time.monotonic()
        began = self._began.setdefault(metadata.urn, now)
        self._progress(Step(name, state, now - began, note or word))


def refusal_in(texts: list[str]) -> GrafosError | None:
    """The first refusal of our provider's that is among them; what else was told is its ``why``."""
    found: list[GrafosError] = []
    for text in texts:
        error: GrafosError | None = None
        for line in map(str.strip, text.splitlines()):
            told = _OURS.fullmatch(_HEADS.sub("", line))
            label, _, rest = line.partition(": ")
            if told is not None and told["code"] in CODES:
                error = GrafosError(told["code"], told["what"])
                found.append(error)
            elif error is not None and label in ("where", "why", "next"):
                setattr(error, label, rest)
    others = [f"{one.what}" for one in found[1:] if one.what != found[0].what]
    if found and others:
        found[0].why = "; ".join(filter(None, (found[0].why, *others)))
    return found[0] if found else None
