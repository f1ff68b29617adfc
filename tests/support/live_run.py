"""`make live`: the contract's claims and one cell's whole life in a person's own account, under a cap in cents.

    python tests/support/live_run.py aws --max-cents 50 [--region NAME] [--allow CIDR] [--folder FOLDER] [--yes]

Everything is made by a fabric of the run's own, in a folder that is kept until a listing of every region shows that
nothing of it is left. Whatever happens, the run ends in taking down; what an earlier run left is taken down first.
On an emulator it is a rehearsal, by the same code and the same commands.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from live_commands import Commands, Interrupts
from live_ending import end
from live_place import RunInfo, read_info
from live_plan import Wanted, made_ready, question, with_address

from grafos_core.errors import INTERRUPTED, PARTIAL, GrafosError
from grafos_core.money import format_cents

CLAIMS = Path(__file__).parents[1] / "live" / "contract_on_a_cloud.py"
ROOT = Path(__file__).parents[2]
STOPPED_AT_THE_CAP = 77
CLAIM_LIMIT_S = 1800
TASKLET = """\
(module
  (import "grafos_tasklet_v0" "response_write" (func $respond (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "{\\"live\\":1}")
  (func (export "_grafos_tasklet_init") (param i32 i32))
  (func (export "_grafos_tasklet_run") (param i32 i32) (result i32)
    (drop (call $respond (i32.const 0) (i32.const 10))) i32.const 0)
  (func (export "_grafos_tasklet_finalize")))
"""
MANIFEST = """\
[program]
name = "live"
language = "wat"

[[tasklets]]
name = "live"
source = "src/live.wat"
"""


@dataclass
class Report:
    """What was tried, and how it went, in order."""

    steps: list[tuple[str, str, float]] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        return any(result != "ok" for _, result, _ in self.steps)

    def of(self, name: str, act: Callable[[], object]) -> None:
        """Does a step, and notes how it went; what it raises passes on."""
        print(f"== {name}", file=sys.stderr, flush=True)
        began, result = time.monotonic(), "stopped"
        try:
            act()
            result = "ok"
        except GrafosError as error:
            result = str(error)
            raise
        finally:
            self.steps.append((name, result, time.monotonic() - began))

    def text(self) -> str:
        return "".join(f"  {name:<10} {took_s:7.1f} s  {result}\n" for name, result, took_s in self.steps)


def main(words: list[str]) -> int:
    """The exit code: 0 all held and nothing is left, 9 something is left, 130 stopped, others as errors have them."""
    asked, interrupts = _read(words), Interrupts()
    try:
        with interrupts:
            _finish_earlier(asked, interrupts)
            info = made_ready(asked)
            asked = with_address(asked, info)
            if not _agreed(info, asked):
                shutil.rmtree(info.folder)
                raise GrafosError("interrupted", "Not begun: nobody agreed, and nothing was made")
            return _live(info, asked, interrupts)
    except KeyboardInterrupt:
        error = GrafosError("interrupted", "Stopped before anything was made")
    except GrafosError as refusal:
        error = refusal
    print(error.last_words(), file=sys.stderr)
    return error.exit_code


def _read(words: list[str]) -> Wanted:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cloud", choices=("aws", "azure", "gcp"))
    parser.add_argument("--max-cents", type=int, default=50)
    parser.add_argument("--region", default="")
    parser.add_argument("--allow", default="", help="who may reach the cell on AWS; default: this machine's address")
    parser.add_argument("--folder", type=Path, default=None, help="default: .grafos/live/CLOUD")
    parser.add_argument("--claims", default="", help="only claims whose names fit, as pytest's -k")
    parser.add_argument("--yes", action="store_true", default=os.environ.get("LIVE_YES") == "1")
    said = parser.parse_args(words)
    folder = said.folder or ROOT / ".grafos" / "live" / said.cloud
    return Wanted(said.cloud, said.max_cents, said.region, said.allow, folder.resolve(), said.claims, said.yes)


def _agreed(info: RunInfo, asked: Wanted) -> bool:
    print(question(info, asked), file=sys.stderr, flush=True)
    if asked.yes:
        return True
    if not sys.stdin.isatty():
        raise GrafosError(
            "confirmation_needed", "There is no terminal to ask at", next="LIVE_YES=1 make live …, if you agree"
        )
    print("Begin? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _finish_earlier(asked: Wanted, interrupts: Interrupts) -> None:
    """Takes down what an earlier run left, before anything new is made."""
    for folder in sorted(asked.folder.glob("run-*")):
        if not (folder / "run.json").exists():
            shutil.rmtree(folder)  # it had made nothing
            continue
        info = read_info(folder)
        account = info.connector().identity().account
        if account != info.account:
            raise GrafosError(
                "usage",
                f"An earlier run left things in the account {info.account}, and this is {account}",
                where=str(folder),
                next="use that account's credentials once more",
            )
        print(f"== an earlier run, {folder.name}", file=sys.stderr, flush=True)
        if remains := end(info, Commands(info, interrupts), Report().of):
            raise _left(info, remains)
        shutil.rmtree(folder)


def _live(info: RunInfo, asked: Wanted, interrupts: Interrupts) -> int:
    report, commands, code = Report(), Commands(info, interrupts), 0
    try:
        report.of("claims", lambda: _claims(info, commands, asked.claims))
    except GrafosError as error:
        code = error.exit_code
    except KeyboardInterrupt:
        code = INTERRUPTED
    if code == 0:
        code = _cell(info, asked, commands, report)
    interrupts.is_ending = True
    try:
        remains = end(info, commands, report.of)
    except (GrafosError, KeyboardInterrupt) as error:
        code = code or getattr(error, "exit_code", INTERRUPTED)
        remains = [f"what could not be looked at: {error or 'stopped'}"]
    return _close(info, report, remains, code)


def _cell(info: RunInfo, asked: Wanted, commands: Commands, report: Report) -> int:
    cell = f"live-{info.prefix.rpartition('-')[2]}"
    allow = ("--allow", asked.allow) if info.cloud == "aws" and asked.allow else ()
    try:
        if commands.needs_orchestrator:
            report.of("orchestrator", lambda: commands.grafos(*commands.raising(), "--yes"))
        report.of("provision", lambda: commands.grafos(*commands.provisioning(cell), "--yes", *allow))
        _write_program(commands.project)
        report.of("build", lambda: commands.grafos("tasklet", "build"))
        report.of("deploy", lambda: _deploy(commands, info.cloud))
    except GrafosError as error:
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _claims(info: RunInfo, commands: Commands, expression: str) -> None:
    chosen = ("-k", expression) if expression else ()
    quiet = ("-q", "-rsf", "-p", "no:cacheprovider", "-W", "default", "--timeout", str(CLAIM_LIMIT_S))
    words = ("-m", "pytest", *quiet, f"--confcutdir={CLAIMS.parent}", "-c", str(ROOT / "pyproject.toml"))
    code = commands.python(*words, *chosen, str(CLAIMS))
    if code == STOPPED_AT_THE_CAP:
        raise GrafosError("budget_exceeded", "A claim might have passed the cap", next="a larger MAX_CENTS")
    if code:
        raise GrafosError("cloud_unknown", "A claim of the contract does not hold there", why="pytest's words above")


def _write_program(project: Path) -> None:
    (project / "src").mkdir(exist_ok=True)
    (project / "src" / "live.wat").write_text(TASKLET)
    (project / "grafos.toml").write_text(MANIFEST)


def _deploy(commands: Commands, cloud: str) -> None:
    run_id = commands.asked("deploy", "run", "--provider", cloud)["run_id"]
    commands.grafos("artifacts", run_id, "--verify")


def _close(info: RunInfo, report: Report, remains: list[str], code: int) -> int:
    kind = "a rehearsal on an emulator: it proves nothing of the cloud" if info.emulated else "a real account"
    recorded = len(list(Path(info.record_to).glob("*.json")))
    print(f"{info.cloud} {info.account}, {kind}\n{report.text()}", end="")
    print(f"  counted at the worst: {format_cents(info.meter.counted_micro_cents)}")
    print(f"  {recorded} answers recorded without their content: {info.record_to}")
    if remains:
        print(_left(info, remains).last_words(), file=sys.stderr)
        return PARTIAL
    print("  nothing of the run is left in any region")
    shutil.rmtree(info.folder)
    return code or int(report.failed)


def _left(info: RunInfo, remains: list[str]) -> GrafosError:
    return GrafosError(
        "resources_left",
        f"{len(remains)} things of the run may be left in {info.cloud} {info.account}",
        where=info.folder,
        why="; ".join(remains[:20]),
        next=f"make live CLOUD={info.cloud} takes them down first; the folder holds the key that proves them ours",
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
