"""Runs the real `grafos`, each time in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

import documents_held
from forked import GRAFOS, forks

GOLDEN = Path(__file__).parents[1] / "cli" / "golden"
TIMEOUT_S = 200

MODULE = """\
(module
  (import "grafos_tasklet_v0" "response_write" (func $respond (param i32 i32) (result i32)))
  (memory (export "memory") {memory})
  (data (i32.const 0) "{{\\"hello\\":1}}")
  (func (export "_grafos_tasklet_init") (param i32 i32))
  (func (export "_grafos_tasklet_run") (param i32 i32) (result i32) {run})
  (func (export "_grafos_tasklet_finalize")))
"""
HELLO = MODULE.format(memory=1, run="(drop (call $respond (i32.const 0) (i32.const 11))) i32.const 0")
FOR_EVER = MODULE.format(memory=1, run="(loop br 0) unreachable")
TOO_MUCH_MEMORY = MODULE.format(memory=1000, run="i32.const 0")
UNKNOWN_IMPORT = HELLO.replace("(memory", '(import "env" "time" (func))\n  (memory', 1)


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
        """The code of the error that people see, or that programs read; nothing when it went well."""
        if self.out.startswith("{"):
            return str(self.document.get("error", {}).get("code", ""))
        found = re.search(r"^error\[(\w+)\]:", self.err, re.MULTILINE)
        return found[1] if found else ""


def grafos(*words: str, cwd: Path, env: dict[str, str] | None = None, stdin: str = "") -> Answer:
    """Runs `grafos` with these words to its end."""
    variables = {**os.environ, "COLUMNS": "100", **(env or {})}
    done = (
        forks().run(words, cwd, variables, stdin, TIMEOUT_S)
        if forks().fits(variables)
        else subprocess.run(
            [str(GRAFOS), *words],
            cwd=cwd,
            env=variables,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    )
    documents_held.hold(words, done.stdout)
    return Answer(done.returncode, done.stdout, done.stderr)


class Person:
    """Somebody at a shell: a home of their own, a project folder, and what they exported."""

    def __init__(self, folder: Path) -> None:
        self.home, self.project = folder / "home", folder / "project"
        self.home.mkdir(parents=True)
        self.project.mkdir()
        self._program: object = None
        self.env = {"HOME": str(self.home)}
        for name in ("CONFIG", "DATA", "STATE"):
            self.env[f"XDG_{name}_HOME"] = str(self.home / name.lower())
        # What can be made again (the compiler's cache, software bundles) is shared by all persons of one test run.
        self.env["XDG_CACHE_HOME"] = str(Path(os.environ["GRAFOS_TEST_REFUSALS"]).with_name("cache"))

    def __call__(self, *words: str, **more: Any) -> Answer:
        """Runs `grafos` as this person, in their project."""
        return grafos(*words, cwd=more.pop("cwd", self.project), env={**self.env, **more.pop("env", {})}, **more)

    def starts(
        self, *words: str, cwd: Path | None = None, into: TextIO | int = subprocess.PIPE
    ) -> subprocess.Popen[str]:
        """Starts `grafos` and does not wait for it; all that it says goes ``into`` a file, or into a pipe each."""
        return subprocess.Popen(
            [str(GRAFOS), *words],
            cwd=cwd or self.project,
            env={**os.environ, **self.env},
            stdin=subprocess.DEVNULL,
            stdout=into,
            stderr=into,
            text=True,
        )

    @property
    def fabric_home(self) -> Path:
        return self.home / "data" / "grafos" / "default"

    def only_run(self) -> dict[str, Any]:
        """The newest run, as `runs ls --json` tells it."""
        found: dict[str, Any] = self("runs", "ls", "--json").document["runs"][0]
        return found

    def write_program(self, wat: str, name: str = "one", **settings: object) -> None:
        """Makes the project a program of one WAT tasklet, and builds it if it is another than before."""
        if self._program == (wat, name, settings):
            return
        self._program = (wat, name, settings)
        (self.project / "src").mkdir(exist_ok=True)
        (self.project / "src" / f"{name}.wat").write_text(wat)
        lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
        (self.project / "grafos.toml").write_text(
            f'[program]\nname = "{name}"\nlanguage = "wat"\n\n'
            f'[[tasklets]]\nname = "{name}"\nsource = "src/{name}.wat"\n' + "\n".join(lines) + "\n"
        )
        built = self("tasklet", "build")
        assert built.code == 0, built.err

    def forget_program(self) -> None:
        """Somebody else writes the project's program; ``write_program`` writes its own anew."""
        self._program = None


def record_of(person: Person) -> dict[str, object]:
    """The record of the person's local fabric."""
    record: dict[str, object] = json.loads((person.project / ".grafos" / "dev" / "dev.json").read_text())
    return record


def ends_with(process: subprocess.Popen[str], timeout_s: float = TIMEOUT_S) -> Answer:
    """What a started command did in the end. One that takes too long is interrupted, and so leaves nothing running."""
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=TIMEOUT_S)
        raise AssertionError(f"it did not end in {timeout_s} s:\n{out}\n{err}") from None
    return Answer(process.returncode, out, err)


def seconds(moment: str) -> float:
    """A moment of a document as seconds since 1970."""
    return datetime.fromisoformat(moment).timestamp()


def seen(text: str) -> str:
    """What a run printed, with what differs each time taken out."""
    text = re.sub(r"run-[0-9a-f]{6}-[0-9a-f]{6}-[a-z2-7]{16}", "{run}", text)
    text = re.sub(r"local-[a-z2-7]{6}", "{cell}", text)
    text = re.sub(r"fab-[0-9a-f]{12}", "{fabric}", text)
    text = re.sub(r"\b1/\d+ of the cell", "{share} of the cell", text)
    return re.sub(r"\b\d+\.\d+ s\b", "{time}", text)


def named(text: str, **places: object) -> str:
    """``text`` with each value of ``places`` replaced by its name in braces, the longest value first."""
    for placeholder, value in sorted(places.items(), key=lambda pair: -len(str(pair[1]))):
        text = text.replace(str(value), "{" + placeholder + "}")
    return text
