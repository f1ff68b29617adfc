"""Cells by Pulumi's engine from our own program, with nothing of the person's Pulumi set-up touched.

Where everything lies: ``at_hand``. The project file is written by hand, for the library's own would drop where the
provider is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pulumi import automation
from pulumi.automation import ConfigValue, LocalWorkspaceOptions, Stack

from grafos_core.errors import GrafosError
from grafos_core.fabric import Fabric
from grafos_core.paths import private_folder, write_private_once
from grafos_stacks.journal import Journal, StackState
from grafos_stacks.owners import pulumi_owner
from grafos_stacks.progress import Progress, unheard
from grafos_stacks.pulumi.at_hand import BACKEND_FILE, PROJECT, pulumi_home
from grafos_stacks.pulumi.bench import PROJECT_VARIABLE, Bench
from grafos_stacks.pulumi.command import Command, find_engine, reach_loopback_directly
from grafos_stacks.pulumi.events import Heard, refusal_in
from grafos_stacks.pulumi.locks import held, holders_in
from grafos_stacks.pulumi.program import program
from grafos_stacks.pulumi.schema import PLAN
from grafos_stacks.teardown import teardown

SIDE_BY_SIDE = 64
"""Resources at once; the provider has more threads than that."""
PASSPHRASES = ("PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE")
"""A team's, for a state that the team shares."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Workplace:
    """Where the engine works for one fabric. ``backend`` is a URL; without one, files in the fabric's home. ``work`` is
    where the stacks' folders are, if it is not the fabric's home."""

    fabric: Fabric
    project: Path
    backend: str = ""
    work: Path | None = None

    @property
    def home(self) -> Path:
        """Everything of Pulumi's."""
        return private_folder(pulumi_home(self.fabric))

    def backend_of(self, stack: str) -> str:
        """Where the state of a stack is kept: where it was begun. ``config_invalid`` if another place is named now."""
        kept = self.folder_of(stack) / BACKEND_FILE
        url = kept.read_text() if kept.is_file() else ""
        if url and self.backend and url != self.backend:
            raise GrafosError(
                "config_invalid",
                f"the state of {stack} is kept elsewhere",
                where=url,
                why=f"{self.backend} is named now",
                next="name the place where it was begun, or none",
            )
        return url or self.backend or f"file://{private_folder(self.home / 'state')}"

    def environment(self, stack: str) -> dict[str, str]:
        """What the engine is told by variables. A team's backend is sealed with the team's passphrase, if there is
        one."""
        passphrase, backend = self.home / "passphrase", self.backend_of(stack)
        write_private_once(passphrase, secrets.token_hex(24).encode())
        shared = {name: os.environ[name] for name in PASSPHRASES if os.environ.get(name)}
        own = {"PULUMI_CONFIG_PASSPHRASE_FILE": str(passphrase)}
        return {
            "PULUMI_HOME": str(private_folder(self.home / "home")),
            "PULUMI_BACKEND_URL": backend,
            **(own if backend.startswith("file://") or not shared else shared),
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            PROJECT_VARIABLE: str(self.project),
        }

    def folder_of(self, stack: str) -> Path:
        """What is kept of a stack beside its state."""
        return (self.work or self.home / "work") / stack

    def prepared(self, stack: str) -> Path:
        """The same, made, with a project file that names the provider which lies beside our own Python."""
        backend = self.backend_of(stack)
        folder = private_folder(self.folder_of(stack))
        provider = {"name": "grafos", "path": str(Path(sys.executable).parent)}
        about = {"name": PROJECT, "runtime": "python", "plugins": {"providers": [provider]}}
        (folder / "Pulumi.yaml").write_text(json.dumps(about))  # JSON is YAML
        write_private_once(folder / BACKEND_FILE, backend.encode())
        return folder


class EngineStack:
    """One Pulumi stack of cells. ``settings`` are those of ``grafos:``, beside the ones that it has; ``declare`` is the
    program. One that does not exist is begun, unless ``begins`` says otherwise: then ``StackNotFoundError``.

    A Ctrl-C ends what runs cleanly and raises."""

    def __init__(
        self,
        place: Workplace,
        name: str,
        settings: Mapping[str, str],
        declare: Callable[[], None] = program,
        *,
        begins: bool = True,
    ) -> None:
        self._place, self.name = place, name
        reach_loopback_directly()
        home = private_folder(place.home / "home")
        self.command = Command(find_engine(place.home / "engine"), home)
        options = LocalWorkspaceOptions(
            work_dir=str(place.prepared(name)),
            pulumi_command=self.command,
            pulumi_home=str(home),
            env_vars=place.environment(name),
        )
        opened = automation.create_or_select_stack if begins else automation.select_stack
        with self._told("open", Heard(unheard)):
            self._stack: Stack = opened(stack_name=name, project_name=PROJECT, program=declare, opts=options)
        if settings:
            self._stack.set_all_config({f"grafos:{key}": ConfigValue(value) for key, value in settings.items()})

    @property
    def owner(self) -> str:
        """As an owner of cells."""
        return pulumi_owner(PROJECT, self.name)

    def up(self, progress: Progress = unheard, *, refresh: bool = False) -> Mapping[str, Any]:
        """Makes it so; the program's outputs."""
        heard = Heard(progress)
        done = self._run(
            "up",
            heard,
            lambda: self._stack.up(parallel=SIDE_BY_SIDE, on_event=heard, refresh=refresh, color="never"),
        )
        return {name: value.value for name, value in done.outputs.items()}

    def preview(self) -> Mapping[str, int]:
        """What would be done, by the engine's word for it and how often."""
        heard = Heard(unheard)
        done = self._run(
            "preview", heard, lambda: self._stack.preview(parallel=SIDE_BY_SIDE, on_event=heard, color="never")
        )
        return {str(getattr(kind, "value", kind)): count for kind, count in done.change_summary.items()}

    def refresh(self, progress: Progress = unheard, *, clear_pending: bool = False) -> None:
        """Reads what is there."""
        heard = Heard(progress)
        self._run(
            "refresh",
            heard,
            lambda: self._stack.refresh(
                parallel=SIDE_BY_SIDE, on_event=heard, color="never", clear_pending_creates=clear_pending
            ),
        )

    def destroy(self, progress: Progress = unheard) -> None:
        """Ends all of it, and then whatever a killed run left beside the state: the journal names its owner."""
        heard = Heard(progress)
        self._run(
            "destroy",
            heard,
            lambda: self._stack.destroy(parallel=SIDE_BY_SIDE, on_event=heard, color="never", continue_on_error=True),
        )
        self._end_what_is_left()
        self.clear_pending()

    def _end_what_is_left(self) -> None:
        bench = Bench()
        with contextlib.closing(Journal(self._place.fabric, bench.clock)) as journal:
            rows = [row for row in journal.stacks() if row.engine == self.owner and row.state is not StackState.GONE]
        for row in rows:
            with bench.hands(row.provider, row.region) as hands:
                teardown(hands, row.stack, self._place.project, row.region, row.provider, engine=self.owner)

    # --- the state ------------------------------------------------------------------------------------------------

    def state(self) -> Mapping[str, Any]:
        """The state as the engine exports it."""
        return dict(self._stack.export_stack().deployment or {})

    @property
    def is_interrupted(self) -> bool:
        """Whether a run was killed in the middle of something, or left something that is not finished."""
        state = self.state()
        unfinished = any(one.get("initErrors") for one in state.get("resources", ()))
        return bool(state.get("pending_operations")) or unfinished

    def clear_pending(self) -> None:
        """Takes back the engine's record of what a killed run had begun, once that was adopted or ended."""
        if self.state().get("pending_operations"):
            self.refresh(clear_pending=True)

    def settings(self) -> Mapping[str, str]:
        """Those of ``grafos:`` that were given to it."""
        every = self._stack.get_all_config()
        return {key.removeprefix("grafos:"): one.value for key, one in every.items() if key.startswith("grafos:")}

    def cells(self) -> tuple[str, ...]:
        """The cells whose plans are in the state."""
        return tuple(str(one["id"]) for one in self.state().get("resources", ()) if one["type"] == PLAN)

    def forget(self) -> None:
        """Takes the stack away, with its state: its cells are gone, or another owner's."""
        with self._told("stack rm", Heard(unheard)):
            self._stack.workspace.remove_stack(self.name, force=True)
        shutil.rmtree(self._place.folder_of(self.name), ignore_errors=True)

    # --- one command of the engine ----------------------------------------------------------------------------------

    def _run(self, verb: str, heard: Heard, act: Callable[[], Result]) -> Result:
        """One command, past a lock whose owner is dead: nobody else of this home works on the stack meanwhile, so what
        is there is what a killed run left."""
        with (
            self._told(verb, heard),
            contextlib.closing(Journal(self._place.fabric, Bench().clock)) as journal,
            journal.lock(f"pulumi-{self.name}"),
        ):
            try:
                return act()
            except automation.ConcurrentUpdateError as error:
                holders = holders_in(str(error))
                if not holders or not all(one.is_dead for one in holders):
                    raise
                self._stack.cancel()
                heard.complaints.clear()
                return act()

    @contextlib.contextmanager
    def _told(self, verb: str, heard: Heard) -> Iterator[None]:
        """With the engine's refusal as ours, and no log left."""
        try:
            yield
        except automation.StackNotFoundError:
            raise
        except automation.ConcurrentUpdateError as error:
            raise held(self.name, holders_in(str(error)), time.time()) from error
        except automation.CommandError as error:
            raise _failed(self.name, verb, heard.complaints, str(error)) from error
        finally:
            shutil.rmtree(self._place.home / "home" / "logs", ignore_errors=True)


@contextlib.contextmanager
def on_trial(
    place: Workplace, name: str, settings: Mapping[str, str], declare: Callable[[], None] = program
) -> Iterator[EngineStack]:
    """The stack to look at: with these settings, which are not kept; one that does not exist is none afterwards."""
    with tempfile.TemporaryDirectory(prefix="grafos-pulumi-") as folder:
        trial = dataclasses.replace(place, work=Path(folder) / "work", backend=place.backend_of(name))
        kept = place.folder_of(name) / f"Pulumi.{name}.yaml"
        if kept.is_file():
            shutil.copy(kept, private_folder(trial.folder_of(name)))
        try:
            stack = EngineStack(trial, name, settings, declare, begins=False)
        except automation.StackNotFoundError:
            shutil.rmtree(trial.folder_of(name))
            nowhere = dataclasses.replace(trial, backend=f"file://{private_folder(Path(folder) / 'state')}")
            stack = EngineStack(nowhere, name, settings, declare)
        yield stack


def _failed(stack: str, verb: str, complaints: list[str], said: str) -> GrafosError:
    """A refusal of our provider is itself; any other failure is told in the engine's words."""
    refusal = refusal_in([*complaints, said])
    if refusal is not None:
        refusal.next = refusal.next or "run the same command again: it goes on"
        return refusal
    lines = [line.strip() for line in "\n".join(complaints or [said]).splitlines()]
    return GrafosError(
        "resources_left" if verb == "destroy" else "cell_not_ready",
        f"pulumi {verb} of {stack} did not come to its end",
        why="\n".join(line for line in lines if line)[-4000:],
        next="run the same command again: it goes on",
    )
