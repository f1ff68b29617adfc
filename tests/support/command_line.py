"""Runs the real `grafos` in a process of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parents[1] / "cli" / "golden"
GRAFOS = Path(sys.executable).with_name("grafos")
TIMEOUT_S = 100


@dataclass(frozen=True)
class Answer:
    """What one command did."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The JSON document on stdout."""
        found: dict[str, Any] = json.loads(self.out)
        return found

    @property
    def error_code(self) -> str:
        """The code of the error that people see, or that programs read."""
        if self.out.startswith("{"):
            return str(self.document["error"]["code"])
        found = re.search(r"^error\[(\w+)\]:", self.err, re.MULTILINE)
        return found[1] if found else ""


def grafos(*words: str, cwd: Path, env: dict[str, str] | None = None, stdin: str = "") -> Answer:
    """Runs `grafos` with these words to its end."""
    done = subprocess.run(
        [str(GRAFOS), *words],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "100", **(env or {})},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def named(text: str, **places: object) -> str:
    """``text`` with each value of ``places`` replaced by its name in braces, the longest value first."""
    for placeholder, value in sorted(places.items(), key=lambda pair: -len(str(pair[1]))):
        text = text.replace(str(value), "{" + placeholder + "}")
    return text
