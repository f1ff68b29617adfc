"""What the helper does for whoever may ask: the same as the commands, in the same words."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from grafos_cli import building
from grafos_cli.manifest import Program, Tasklet, load_program
from grafos_cli.reach import LOCAL, Reach, resolve
from grafos_cli.running import Asking, Ended, read_input, run_to_end
from grafos_cli.sizes import whole_blocks
from grafos_cli.terminal import Terminal, silent_terminal
from grafos_core.clock import SystemClock
from grafos_core.errors import GrafosError
from grafos_core.fabric import Fabric, open_fabric
from grafos_scheduler.messages import RunView

RUNS_SHOWN = 20


class Shown(NamedTuple):
    """A run and what it answered, if it did."""

    view: RunView
    response: str


class Project:
    """One project with its local fabric. Each method asks anew: files change, fabrics come and go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._answers: dict[str, str] = {}

    def program(self) -> Program:
        """The program as its grafos.toml is now."""
        return load_program(self.folder)

    def runs(self) -> list[Shown]:
        """The newest runs of the local fabric, the newest first."""
        known, shown = self._answers, []
        with self._reach().client() as client:
            for view in client.runs(limit=RUNS_SHOWN).runs:
                answer = known.get(view.run_id, "")
                if view.state == "finished" and view.run_id not in known:
                    answer = client.artifacts(view.run_id).response_json
                shown.append(Shown(view, answer))
        # In one piece, since several pages may ask at once.
        self._answers = {one.view.run_id: one.response for one in shown if one.view.state == "finished"}
        return shown

    def run(self, name: str, data: bytes | None) -> Ended:
        """Builds the tasklet if it changed, and runs it; ``data`` None means the input that grafos.toml names."""
        program = self.program()
        return run_once(program, program.tasklet(name), data, self._reach(), self.folder, silent_terminal())

    def cell_id(self) -> str:
        """The cell that the runs go to; ``runtime_not_ready`` when the fabric is down."""
        return self._reach().cell_id

    def _reach(self) -> Reach:
        return resolve(LOCAL, _fabric(), self.folder)


def run_once(
    program: Program, tasklet: Tasklet, data: bytes | None, reach: Reach, project: Path, terminal: Terminal
) -> Ended:
    """One run of the sources as they are now."""
    module = up_to_date_module(program, tasklet)
    if data is None and tasklet.input_file is not None:
        data = read_input(tasklet.input_file)
    asking = Asking(program.name, tasklet, module, data, tasklet.mem, whole_blocks(tasklet.block), tasklet.tier)
    return run_to_end(asking, reach, project, terminal)


def up_to_date_module(program: Program, tasklet: Tasklet) -> bytes:
    """The module of the sources as they are now, built if need be; ``build_failed`` has the compiler's words."""
    try:
        return building.built_module(program, tasklet)[1]
    except GrafosError as error:
        if error.code != "build_stale":
            raise
    building.build_tasklet(program, tasklet)
    return building.built_module(program, tasklet)[1]


def run_document(view: RunView, response: str) -> dict[str, Any]:
    """A run as `runs ls --json` shows it, with its answer."""
    answer = msgspec.json.decode(response) if response else None
    return {**msgspec.to_builtins(view), "response": answer}


def _fabric() -> Fabric:
    return open_fabric(SystemClock())
