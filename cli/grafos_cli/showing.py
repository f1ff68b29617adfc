"""Plays the demo: shows each command as typed, runs it, shows what it says and how long it took; cleans up."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgspec

from grafos_cli.fictional import amount_text
from grafos_cli.languages.rust_tools import find_rust
from grafos_cli.terminal import Terminal
from grafos_core.errors import GrafosError
from grafos_core.ids import RUN_ID_PATTERN
from grafos_core.paths import private_folder, project_home
from grafos_core.receipts import Signed, TeardownReceipt

CLOUDS = ("aws", "gcp", "azure")
CLEAN_UP_S_MAX = 60.0
FOREIGN = ("AWS_", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME")
"""Variables of the person that the demo neither uses nor touches; the caches stay, to be quick."""
RECIPE = "cookbook/multi-cloud-deploy"
TWIN = "zig-twin"
"""The same program for a machine without Rust, in the recipe's folder."""


class Act(NamedTuple):
    """One command as a person types it; ``{aws}``, ``{gcp}`` and ``{azure}`` stand for the ids of the runs."""

    typed: str
    why: str


BUILD = Act("grafos tasklet build", "one program becomes one WASM module")
ACTS = (
    BUILD,
    Act("grafos validate", "what can be checked without a cell, and the program's own six tests"),
    Act("grafos emulate up", "three emulated clouds start on loopback; no account is needed"),
    Act('eval "$(grafos emulate env)"', "this shell talks to the emulators from now on, and to nobody else"),
    Act("grafos fabric up --on aws --ttl 1h --yes", "an orchestrator on a machine of its own, and the budget with it"),
    Act(
        "grafos cloud provision aws --cell-id aws-demo --ttl 1h --yes",
        "a standalone cell: a plan, its price, a machine",
    ),
    Act(
        "grafos cloud provision gcp --cell-id gcp-demo --ttl 1h --yes",
        "a registered one: no port, it dials out and joins",
    ),
    Act("grafos cloud provision azure --cell-id azure-demo --ttl 1h --yes", "and one on the third cloud"),
    Act("grafos fabric cells", "one fabric"),
    *(
        Act(f"grafos deploy run --provider {cloud} --input fixtures/{cloud}.json", f"the same bytes run on {cloud}")
        for cloud in CLOUDS
    ),
    *(
        Act(f"grafos artifacts {{{cloud}}} --verify", f"the answer is signed by the cell on {cloud} that gave it")
        for cloud in CLOUDS
    ),
    Act("grafos fabric show", "one budget for all of it: held before it was spent"),
    *(
        Act(f"grafos cloud teardown {cloud} --cell-id {cloud}-demo --yes", "deleted, and proved gone by reading")
        for cloud in CLOUDS
    ),
    Act("grafos fabric down --yes", "the orchestrator's machine goes too; runs and ledger come home"),
    Act("grafos runs ls", "the runs and their prices are still here; the cells are not"),
)


@dataclass
class Closing:
    """What the demo came to."""

    language: str = ""
    module_sha256: str = ""
    answers: list[dict[str, str]] = field(default_factory=list)
    resources: int = 0
    left: int = 0
    cost_micro_cents: int = 0
    held_micro_cents: int = 0
    emulated: bool = False
    took_s: float = 0.0


class Show:
    """One performance, in a folder of its own."""

    def __init__(self, repository: Path, terminal: Terminal) -> None:
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        self.folder = private_folder(project_home(repository) / "demo" / f"{stamp}-{os.getpid()}")
        self._recipe = repository / RECIPE
        self._project = self.folder / "multi-cloud-deploy"
        self._terminal = terminal
        self._environment = _environment(self.folder / "home", terminal)
        self._runs: dict[str, str] = {}
        self._began = time.monotonic()

    def play(self) -> Closing:
        """All acts, the closing, and the cleaning up, which comes whatever happened before."""
        finished = False
        language = self._choose_language()
        try:
            for number, act in enumerate(ACTS, 1):
                try:
                    self._perform(number, act)
                except GrafosError as failed:
                    if act is not BUILD or language != "rust":
                        raise
                    language = self._take_twin(failed.what)
                    self._perform(number, act)
            closing = self._closing(language)
            finished = True
        finally:
            self._clean_up(quiet=finished)
        closing.took_s = time.monotonic() - self._began
        return closing

    def _choose_language(self) -> str:
        """Lays out the recipe, in Rust where a Rust can be had."""
        try:
            find_rust(self._recipe)
        except GrafosError as missing:
            return self._take_twin(missing.what)
        shutil.copytree(self._recipe, self._project, ignore=shutil.ignore_patterns(".grafos", TWIN))
        return "rust"

    def _take_twin(self, why: str) -> str:
        """Lays out the twin in Zig in its place."""
        self._terminal.note(f"{why}: the demo goes on with the same program in Zig.")
        shutil.rmtree(self._project, ignore_errors=True)
        shutil.copytree(self._recipe / TWIN, self._project, ignore=shutil.ignore_patterns(".grafos"))
        shutil.copytree(self._recipe / "fixtures", self._project / "fixtures")
        return "zig"

    def remove_folder(self) -> None:
        """Takes away what the demo wrote; nothing in it is needed."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _perform(self, number: int, act: Act) -> None:
        typed = act.typed.format(**self._runs) if "{" in act.typed else act.typed
        terminal = self._terminal
        head = terminal.paint("dim", f"{number}/{len(ACTS)}  {act.why}")
        self._say(f"\n{head}\n{terminal.paint('bold', '$ ' + typed)}\n")
        began = time.monotonic()
        if typed.startswith("eval"):
            self._take_environment()
        else:
            out = self._run(shlex.split(typed)[1:], typed)
            self._note_run(typed, out)
        self._say(terminal.paint("dim", f"── {time.monotonic() - began:.1f} s") + "\n")

    def _say(self, text: str) -> None:
        """The show is this command's data, but for programs, who get its figures only."""
        if not self._terminal.json:
            self._terminal.out.write(text)
            self._terminal.out.flush()

    def _run(self, words: list[str], typed: str) -> str:
        """Runs the command; what it prints is shown as it comes, and given back."""
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "grafos_cli", *words],
            cwd=self._project,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if self._terminal.json else None,
            text=True,
        )
        assert process.stdout is not None
        lines = []
        try:
            for line in process.stdout:
                lines.append(line)
                self._say(line)
            code = process.wait()
        except BaseException:
            # Ctrl-C reaches the command too; it stops by itself, and is waited for before the cleaning up.
            process.wait(CLEAN_UP_S_MAX)
            raise
        if code:
            raise GrafosError(
                "demo_failed",
                f"The demo stopped: `{typed}` ended with exit code {code}",
                where=str(self.folder),
                why="what it says stands above",
                next="mend that and run: make demo",
            )
        return "".join(lines)

    def _take_environment(self) -> None:
        """What `eval "$(grafos emulate env)"` does in a shell."""
        document = json.loads(self._quietly("emulate", "env", "--json").stdout)
        self._environment.update(document["environment"])
        for name in sorted(document["environment"]):
            if "SECRET" not in name:
                self._say(f"{name}={document['environment'][name]}\n")

    def _note_run(self, typed: str, out: str) -> None:
        found = RUN_ID_PATTERN.search(re.sub(r"\x1b\[[0-9;]*m", "", out))
        if "deploy run" in typed and found:
            words = typed.split()
            self._runs[words[words.index("--provider") + 1]] = found[0]

    def _quietly(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-m", "grafos_cli", *words],
            cwd=self._project,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CLEAN_UP_S_MAX,
            check=False,
        )

    def _closing(self, language: str) -> Closing:
        """The figures, from what the commands left; anything but the promised outcome is an error."""
        runs = json.loads(self._quietly("runs", "ls", "--json").stdout)["runs"]
        modules = {run["module_sha256"] for run in runs}
        signed = [msgspec.json.decode(file.read_bytes(), type=Signed) for file in self._receipt_files()]
        receipts = [msgspec.json.decode(one.body, type=TeardownReceipt) for one in signed]
        machines = len(CLOUDS) + 1  # the cells', and the orchestrator's
        kept = {run["provider"] for run in runs} == set(CLOUDS) and len(modules) == 1 and len(receipts) == machines
        if not kept or any(receipt.left for receipt in receipts):
            raise GrafosError(
                "internal", "The demo ran, and its outcome is not the promised one", where=str(self.folder)
            )
        answers = [
            {
                "provider": run["provider"],
                "cell_id": run["cell_id"],
                "cost": amount_text(run["cost"]["micro_cents"], fictional=run["fictional"]),
            }
            for run in reversed(runs)
        ]
        return Closing(
            language=language,
            module_sha256=modules.pop(),
            answers=answers,
            resources=sum(len(receipt.resources) for receipt in receipts),
            left=sum(receipt.left for receipt in receipts),
            cost_micro_cents=sum(receipt.cost_micro_cents for receipt in receipts),
            held_micro_cents=sum(receipt.held_micro_cents for receipt in receipts),
            emulated=all(receipt.emulated for receipt in receipts),
        )

    def _receipt_files(self) -> list[Path]:
        return sorted(
            (Path(self._environment["XDG_DATA_HOME"]) / "grafos" / "default" / "cells").glob("*/teardown.json")
        )

    def _clean_up(self, *, quiet: bool) -> None:
        """Ends the emulators, and with them every machine that was not taken down."""
        if not quiet:
            self._terminal.note("\ncleaning up …")
        ended = self._quietly("emulate", "down")
        if ended.returncode:
            self._terminal.note(f"grafos emulate down failed:\n{ended.stderr}")


def _environment(home: Path, terminal: Terminal) -> dict[str, str]:
    """The person's environment without clouds, and with data and state in the demo's own folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    for variable in ("XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        kept[variable] = str(private_folder(home / variable.removeprefix("XDG_").lower()))
    if terminal.color_out:
        kept["FORCE_COLOR"] = "1"
    if terminal.width_max:
        kept["COLUMNS"] = str(terminal.width_max)
    return kept


def closing_text(closing: Closing, terminal: Terminal) -> str:
    """The last lines of the show."""
    from grafos_cli.tables import facts

    signed = ", ".join(f"{answer['cell_id']} ({answer['provider']})" for answer in closing.answers)
    prices = ", ".join(f"{answer['cost']} on {answer['provider']}" for answer in closing.answers)
    cost, held = (
        amount_text(amount, fictional=closing.emulated)
        for amount in (closing.cost_micro_cents, closing.held_micro_cents)
    )
    left = f"{closing.left} of {closing.resources} cloud resources"
    lines = [
        ("one module", f"{closing.module_sha256}, in {closing.language.capitalize()}"),
        ("three answers", f"each signed by its own cell: {signed}"),
        ("three prices", prices),
        ("one budget", f"the machines cost {cost} of the {held} that was held for them"),
        ("left behind", left),
        ("took", f"{closing.took_s:.1f} s, and nothing keeps running"),
    ]
    return "\n" + terminal.paint("green", "That was the whole path.") + "\n" + facts(lines, terminal)


def closing_document(closing: Closing) -> dict[str, object]:
    """The figures for programs."""
    return {"demo": vars(closing)}
