"""Pulumi's own command line in a project, with no program of ours around it, as a person or a CI runs it.

The official language host for Python is not to be had where only registries answer; a small one of the tests stands in.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pulumi_ground import CANARY, engine_in_path
from source_tree import ROOT

SUPPORT = ROOT / "tests" / "support"
HOST = SUPPORT / "language_host"
PARTS_ONLY = SUPPORT / "pulumi_parts"
"""A program whose cells are states only: there is nothing to hand over."""
PATIENCE_S = 240.0
STACK = "dev"


class Plain:
    """A copy of the root as far as Pulumi sees it, in ``folder``; ``settings`` are those of ``grafos:``."""

    def __init__(self, folder: Path, settings: Mapping[str, str], program: Path = ROOT / "stacks") -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        shutil.copy(ROOT / "Pulumi.yaml", folder)
        for name, there in (("stacks", program), (".venv", ROOT / ".venv")):
            (folder / name).symlink_to(there)
        engine_in_path()
        self.home, self.state_folder = folder / "pulumi-home", folder / "state"
        self.state_folder.mkdir()
        self.settings = dict(settings)
        self.environment = {
            "PULUMI_BACKEND_URL": f"file://{self.state_folder}",  # by itself it goes to the home that the system knows
            "PULUMI_HOME": str(self.home),
            "PATH": f"{HOST}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(
                (str(SUPPORT), os.environ.get("PYTHONPATH", ""))
            ),  # the programs of the tests
            "PULUMI_CONFIG_PASSPHRASE": f"{CANARY} of this test",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        }
        self.done("stack", "init", STACK)
        self._salt = (folder / f"Pulumi.{STACK}.yaml").read_text()
        self.set()

    def set(self, **settings: str) -> None:
        """Settings as ``pulumi config set`` writes them; those of before stay."""
        self.settings.update(settings)
        config = {f"grafos:{name}": value for name, value in self.settings.items()}
        (self.folder / f"Pulumi.{STACK}.yaml").write_text(f"{self._salt}config: {json.dumps(config)}\n")

    def begin(self, *words: str) -> subprocess.Popen[str]:
        return self._begin(["pulumi", *words, "--non-interactive", "--color", "never"])

    def step(self, script: str) -> subprocess.Popen[str]:
        """A step of a CI's job, begun in the way of GitHub's runners; signals go to its first process alone."""
        file = self.folder / "step.sh"
        file.write_text(script)
        return self._begin(["bash", "-e", str(file)])

    def _begin(self, command: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def __call__(self, *words: str) -> tuple[int, str]:
        """The exit code and all that was said."""
        process = self.begin(*words)
        said, _ = process.communicate(timeout=PATIENCE_S)
        return process.returncode, said

    def done(self, *words: str) -> str:
        code, said = self(*words)
        assert code == 0, said
        return said

    def up(self, *more: str) -> str:
        return self.done("up", "--yes", "--skip-preview", *more)

    def destroy(self, *more: str) -> str:
        return self.done("destroy", "--yes", "--skip-preview", *more)

    def outputs(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.done("stack", "output", "--json"))
        return told

    def state(self) -> dict[str, Any]:
        """The checkpoint as it lies in the backend."""
        file = self.state_folder / ".pulumi" / "stacks" / "grafos" / f"{STACK}.json"
        told: dict[str, Any] = json.loads(file.read_bytes())["checkpoint"]["latest"]
        return told

    def resources(self, kind: str) -> list[dict[str, Any]]:
        """Those of a type, as the state has them."""
        return [one for one in self.state().get("resources", ()) if one["type"] == f"grafos:cell:{kind}"]


# --- processes ----------------------------------------------------------------------------------------------------


def comes_to(process: subprocess.Popen[str], is_it: Callable[[], bool]) -> bool:
    """Waits for that moment of a command; False if the command ended before."""
    while process.poll() is None:
        if is_it():
            return True
        time.sleep(0.01)
    return False


def providers_of(process: subprocess.Popen[str]) -> list[int]:
    """The processes of our provider below an engine."""
    with contextlib.suppress(OSError):
        below = Path(f"/proc/{process.pid}/task").glob("*/children")
        found = [int(pid) for file in below for pid in file.read_text().split()]
        return [pid for pid in found if b"resource-grafos" in command_of(pid)]
    return []


def command_of(pid: int) -> bytes:
    """What a process was started as; nothing if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def kill(who: str, engine: subprocess.Popen[str]) -> None:
    """SIGKILL to the ``engine``, its ``provider`` or ``both``, and waits until none of them is there."""
    providers = providers_of(engine)
    hit = {"engine": [engine.pid], "provider": providers, "both": [engine.pid, *providers]}
    for pid in hit[who]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    engine.communicate(timeout=PATIENCE_S)
    until = time.monotonic() + PATIENCE_S
    while any(command_of(pid) for pid in providers):
        assert time.monotonic() < until, "a provider outlived its engine"
        time.sleep(0.02)
