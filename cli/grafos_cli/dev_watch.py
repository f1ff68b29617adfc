"""What `grafos dev watch` does each time: build what changed, run it on the local fabric, show what it answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from grafos_cli.failures import error_text, with_next_step
from grafos_cli.manifest import Program, Tasklet, load_program
from grafos_cli.reach import LOCAL, resolve
from grafos_cli.run_locally.work import run_once, up_to_date_module
from grafos_cli.running import Ended, failed_run, read_input
from grafos_cli.terminal import Terminal, silent_terminal
from grafos_cli.watching import Sight, Watch, changed_names, sight_of
from grafos_core.errors import GrafosError
from grafos_core.fabric import Fabric
from grafos_core.ids import sha256_of

INTERRUPTED = "interrupted"


class Watched(NamedTuple):
    """What is watched, for whom. ``tasklet`` empty means all of them, ``input_file`` None what grafos.toml names."""

    folder: Path
    tasklet: str
    input_file: Path | None
    fabric: Fabric
    project: Path
    terminal: Terminal


class Round(NamedTuple):
    """One tasklet after one save: its run, or why there is none. Times are seconds."""

    tasklet: str
    build_s: float = 0.0
    run_s: float = 0.0
    ended: Ended | None = None
    error: GrafosError | None = None


def watch(what: Watched) -> None:
    """Until somebody stops it. A build or run that fails is shown, and the next save is waited for."""
    watcher = Watch(lambda: _look(what))
    answered: dict[str, str] = {}
    seen = watcher.look()
    while True:
        answers_stand = True
        for done in _rounds(what, answered):
            answers_stand = False
            _show(done, what.terminal)
        if answers_stand:
            what.terminal.note("the same modules and inputs as before; their answers stand")
        what.terminal.note("waiting for a save; Ctrl-C ends it")
        before, seen = seen, watcher.next_change(seen)
        what.terminal.note(f"\nchanged: {', '.join(changed_names(before, seen, what.folder)[:5])}")


def _look(what: Watched) -> Sight:
    """The program's files, and an input from elsewhere."""
    seen = sight_of(what.folder)
    if what.input_file is not None and what.input_file.exists():
        stat = what.input_file.stat()
        seen[str(what.input_file)] = (stat.st_mtime_ns, stat.st_size)
    return seen


def _rounds(what: Watched, answered: dict[str, str]) -> Iterator[Round]:
    """A round for each tasklet whose module or input is another than the one that was answered last."""
    try:
        program = load_program(what.folder)
        tasklets = [program.tasklet(what.tasklet)] if what.tasklet else list(program.tasklets)
    except GrafosError as error:
        yield Round("", error=error)
        return
    for tasklet in tasklets:
        try:
            done, asked = _one(what, program, tasklet, answered.get(tasklet.name, ""))
        except GrafosError as error:
            if error.code == INTERRUPTED:
                raise
            answered.pop(tasklet.name, None)
            yield Round(tasklet.name, error=error)
        else:
            answered[tasklet.name] = asked
            if done is not None:
                yield done


def _one(what: Watched, program: Program, tasklet: Tasklet, answered: str) -> tuple[Round | None, str]:
    """The round, and what was asked by digest; no round when that is what was answered before."""
    began = time.monotonic()
    module = up_to_date_module(program, tasklet)
    built = time.monotonic()
    path = what.input_file or tasklet.input_file
    data = None if path is None else read_input(path)
    asked = sha256_of(module + sha256_of(data or b"").encode() + repr(tasklet).encode())
    if asked == answered:
        return None, asked
    reach = resolve(LOCAL, what.fabric, what.project)
    ended = run_once(program, tasklet, data, reach, what.project, silent_terminal())
    return Round(tasklet.name, built - began, time.monotonic() - built, ended, failed_run(ended)), asked


def _show(done: Round, terminal: Terminal) -> None:
    if terminal.json:
        terminal.emit_line(_document(done))
    elif done.error is not None:
        terminal.err.write(error_text(with_next_step(done.error), terminal))
        terminal.err.flush()
    else:
        assert done.ended is not None
        answer = done.ended.artifacts.response_json if done.ended.artifacts else ""
        terminal.note(f"{done.tasklet}: built in {done.build_s:.2f} s, answered in {done.run_s:.2f} s")
        terminal.emit({}, answer or "(no response)")


def _document(done: Round) -> dict[str, Any]:
    ended = done.ended
    response = ended.artifacts.response_json if ended and ended.artifacts else ""
    return {
        "tasklet": done.tasklet,
        "build_s": round(done.build_s, 3),
        "run_s": round(done.run_s, 3),
        "run": msgspec.to_builtins(ended.view) if ended else None,
        "response": msgspec.json.decode(response) if response else None,
        "error": done.error.to_wire() if done.error else None,
    }
