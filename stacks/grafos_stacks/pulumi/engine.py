"""Cells by Pulumi's engine from our own program, with nothing of the person's Pulumi set-up touched.

<fabric>/pulumi/home/                 Pulumi's home: its plugins and logs
passphrase            what the state's secrets are sealed with
state/                the file backend, unless another is named
work/<project>/<stack>/Pulumi.yaml   a project of our own; the library would drop half of it
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pulumi import automation
from pulumi.automation import ConfigValue, LocalWorkspaceOptions, Stack

from grafos_core.errors import GrafosError
from grafos_core.fabric import Fabric
from grafos_core.paths import private_folder, write_private_once
from grafos_stacks.journal import Journal, StackState
from grafos_stacks.owners import pulumi_owner
from grafos_stacks.pulumi.bench import PROJECT_VARIABLE, Bench
from grafos_stacks.pulumi.command import Command, find_engine
from grafos_stacks.pulumi.program import program
from grafos_stacks.teardown import teardown

PROJECT = "grafos"
SIDE_BY_SIDE = 64
"""Resources at once; the provider has more threads than that."""


@dataclass(frozen=True)
class Workplace:
    """Where the engine works for one fabric. ``backend`` is a URL; without one, files in the fabric's home."""

    fabric: Fabric
    project: Path
    backend: str = ""

    @property
    def home(self) -> Path:
        """Everything of Pulumi's."""
        return private_folder(self.fabric.home / "pulumi")

    @property
    def backend_url(self) -> str:
        """Where the state is kept."""
        return self.backend or f"file://{private_folder(self.home / 'state')}"

    def environment(self) -> dict[str, str]:
        """What the engine is told by variables."""
        passphrase = self.home / "passphrase"
        write_private_once(passphrase, secrets.token_hex(24).encode())
        return {
            "PULUMI_HOME": str(private_folder(self.home / "home")),
            "PULUMI_BACKEND_URL": self.backend_url,
            "PULUMI_CONFIG_PASSPHRASE_FILE": str(passphrase),
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            PROJECT_VARIABLE: str(self.project),
        }

    def work_folder(self, stack: str) -> Path:
        """The project file of a stack, naming the provider that lies beside our own Python."""
        folder = private_folder(self.home / "work" / stack)
        provider = {"name": "grafos", "path": str(Path(sys.executable).parent)}
        about = {"name": PROJECT, "runtime": "python", "plugins": {"providers": [provider]}}
        (folder / "Pulumi.yaml").write_text(json.dumps(about))  # JSON is YAML
        return folder


OURS = re.compile(r"\[[a-z_]+\]$")
"""How a line ends in which the provider tells what went wrong."""

Event = Callable[[Any], object]


class EngineStack:
    """One Pulumi stack of cells. ``settings`` are those of ``grafos:``; ``declare`` is the program.

    A Ctrl-C ends what runs cleanly and raises."""

    def __init__(
        self, place: Workplace, name: str, settings: Mapping[str, str], declare: Callable[[], None] = program
    ) -> None:
        self._place, self.name = place, name
        home = private_folder(place.home / "home")
        self.command = Command(find_engine(place.home / "engine"), home)
        options = LocalWorkspaceOptions(
            work_dir=str(place.work_folder(name)),
            pulumi_command=self.command,
            pulumi_home=str(home),
            env_vars=place.environment(),
        )
        self._stack: Stack = automation.create_or_select_stack(
            stack_name=name, project_name=PROJECT, program=declare, opts=options
        )
        self._stack.set_all_config({f"grafos:{key}": ConfigValue(value) for key, value in settings.items()})

    def up(self, event: Event | None = None, *, refresh: bool = False) -> Mapping[str, Any]:
        """Makes it so; the program's outputs."""
        with self._run("up"):
            done = self._stack.up(parallel=SIDE_BY_SIDE, on_event=event, refresh=refresh, color="never")
            return {name: value.value for name, value in done.outputs.items()}

    def preview(self, event: Event | None = None) -> Mapping[str, int]:
        """What would be done, by the engine's word for it and how often."""
        with self._run("preview"):
            done = self._stack.preview(parallel=SIDE_BY_SIDE, on_event=event, color="never")
            return {str(getattr(kind, "value", kind)): count for kind, count in done.change_summary.items()}

    def refresh(self, event: Event | None = None, *, clear_pending: bool = False) -> None:
        """Reads what is there."""
        with self._run("refresh"):
            self._stack.refresh(
                parallel=SIDE_BY_SIDE, on_event=event, color="never", clear_pending_creates=clear_pending
            )

    def destroy(self, event: Event | None = None) -> None:
        """Ends all of it, and then whatever a killed run left beside the state: the journal names its owner."""
        with self._run("destroy"):
            self._stack.destroy(parallel=SIDE_BY_SIDE, on_event=event, color="never", continue_on_error=True)
        self._end_what_is_left()
        if self.state().get("pending_operations"):
            self.refresh(clear_pending=True)

    def _end_what_is_left(self) -> None:
        bench, owner = Bench(), pulumi_owner(PROJECT, self.name)
        with contextlib.closing(Journal(self._place.fabric, bench.clock)) as journal:
            rows = [row for row in journal.stacks() if row.engine == owner and row.state is not StackState.GONE]
        for row in rows:
            with bench.hands(row.provider, row.region) as hands:
                teardown(hands, row.stack, self._place.project, row.region, row.provider, engine=owner)

    def state(self) -> Mapping[str, Any]:
        """The state as the engine exports it."""
        return dict(self._stack.export_stack().deployment or {})

    # --- locks ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _run(self, verb: str) -> Iterator[None]:
        """One command of the engine: past a lock whose owner is dead, with its refusal as ours, and no log left."""
        self.release_dead_lock()
        try:
            yield
        except automation.ConcurrentUpdateError as error:
            holder = next(iter(self.locks()), None)
            raise _held(self.name, holder) from error
        except automation.CommandError as error:
            raise _failed(self.name, verb, str(error)) from error
        finally:
            shutil.rmtree(self._place.home / "home" / "logs", ignore_errors=True)

    def locks(self) -> list[Lock]:
        """Who holds the stack, as far as files tell it."""
        folder = Path(self._place.backend_url.removeprefix("file://")) / ".pulumi" / "locks" / "organization"
        files = (folder / PROJECT / self.name).glob("*.json") if self._place.backend_url.startswith("file://") else ()
        return [lock for file in files if (lock := _read_lock(file)) is not None]

    def release_dead_lock(self) -> None:
        """A lock of a process of this machine that is dead bars nobody any more."""
        for lock in self.locks():
            if lock.is_dead:
                lock.file.unlink(missing_ok=True)


@dataclass(frozen=True)
class Lock:
    """Who holds a stack: a process, on a host, since when (Unix seconds)."""

    file: Path
    host: str
    pid: int
    since: float

    @property
    def is_dead(self) -> bool:
        """Whether it is known that its owner is."""
        if self.host != socket.gethostname():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return _is_zombie(self.pid)


def _is_zombie(pid: int) -> bool:
    """Whether only its entry is left, since nobody fetched its exit code; told where there is a /proc."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"Z"
    except (OSError, IndexError):
        return False


def _read_lock(file: Path) -> Lock | None:
    try:
        told = json.loads(file.read_bytes())
        return Lock(file, str(told["hostname"]), int(told["pid"]), file.stat().st_mtime)
    except (OSError, ValueError, KeyError):
        return None


def _held(stack: str, holder: Lock | None) -> GrafosError:
    who = "another command"
    if holder is not None:
        who = f"process {holder.pid} on {holder.host}, for {time.time() - holder.since:.0f} s"
    return GrafosError(
        "stack_busy",
        f"the Pulumi stack {stack} is held by {who}",
        next="wait until it has ended; if it is dead on another machine: pulumi cancel",
    )


def _failed(stack: str, verb: str, said: str) -> GrafosError:
    lines = [line.strip() for line in said.splitlines()]
    wrong = [line.removeprefix("* ") for line in lines if OURS.search(line)]
    return GrafosError(
        "resources_left" if verb == "destroy" else "cell_not_ready",
        f"pulumi {verb} of {stack} did not come to its end: {wrong[0] if wrong else 'see why'}",
        why="\n".join(line for line in lines if line)[-4000:],
        next="run the same command again: it goes on",
    )
