"""The supervisor of an orchestrator's machine: keeps the scheduler alive, ends the machine in time, follows its orders.

The bootstrap of a cloud machine becomes this program once it has unpacked the software. What a standalone cell's
supervisor does (``standalone``) this one does too, for one program; and it looks into the folder that it shares with
the orchestrator (``grafos_scheduler.machine``) for what only root may do:

* ``restore.tar``: a backup takes the place of all there is, and the orchestrator starts anew as the one it is of;
* ``software-wanted``: another bundle is unpacked beside the one that runs, and the orchestrator is started from it. If
  that does not answer in time, rows and software are put back as they were, and the reason is left in a file.

On a baked machine the software is the image's, and another one is refused. An order that was carried out halfway when
the machine lost its power is carried out again from its beginning.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.client
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from grafos_cell import inventory, service
from grafos_cell.standalone import (
    RUN_ISOLATED,
    STOP_S_MAX,
    Program,
    Supervisor,
    add_asking,
    ending_of,
    switch_off_of,
)
from grafos_core import trust
from grafos_core.backup_archive import unpack_backup
from grafos_core.errors import GrafosError
from grafos_core.machine_files import RESTORE_FILE, SOFTWARE_FILE, SOFTWARE_REFUSED_FILE, SOFTWARE_WANTED_FILE
from grafos_core.paths import write_private

ANSWER_S_MAX = 90.0
"""What an orchestrator gets to answer after its start; migrating a large store is part of it."""
ASK_EVERY_S = 0.2
ASK_TIMEOUT_S = 3.0
SHA256 = re.compile(r"[0-9a-f]{64}")
RESTORE_S_MAX = 1800.0
"""What the largest backup may take on a slow disk; the manager would start us anew in the midst of it."""
ROWS = ("scheduler.db", "scheduler.db-wal", "scheduler.db-shm")
KEPT = 2
"""Versions of the software that stay: the one that runs, and the one before it."""


@dataclass
class OrchestratorSupervisor(Supervisor):
    """Runs the one program of ``programs``. ``state`` is the machine's folder, ``software`` the version that runs.
    ``is_baked``: it is the image's, whose digest goes for its own."""

    state: Path = field(default_factory=Path)
    software: Path = field(default_factory=Path)
    is_baked: bool = False
    bind: str = ""
    arguments: Sequence[str] = ()

    def begin(self) -> None:
        """Before the first start: what an earlier life left half done, and which software runs."""
        self._put_rows_back()
        self._restore()
        self._note(SOFTWARE_FILE, inventory.image_sha256(Path("/")) if self.is_baked else self.software.name)

    def _is_over(self) -> bool:
        if not super()._is_over():
            self._follow_orders()
        return super()._is_over()

    @property
    def _scheduler(self) -> Path:
        return self.state / "scheduler"

    def _follow_orders(self) -> None:
        if (self.state / RESTORE_FILE).exists():
            with service.unwatched(RESTORE_S_MAX):
                self._restore()
        wanted = _read(self.state / SOFTWARE_WANTED_FILE)
        refused = _read(self.state / SOFTWARE_REFUSED_FILE).partition(" ")[0]
        if not SHA256.fullmatch(wanted) or wanted in (self.software.name, refused):
            return
        if self.is_baked:
            self._note(SOFTWARE_REFUSED_FILE, f"{wanted} is not in this machine's image")
        else:
            self._change_software(wanted)

    # --- a backup takes the place of all there is -----------------------------------------------------------------

    def _restore(self) -> None:
        archive, part = self.state / RESTORE_FILE, self.state / "restore.part"
        if not archive.exists():
            return
        shutil.rmtree(part, ignore_errors=True)
        try:
            unpack_backup(archive, part)
            (part / "state").mkdir(exist_ok=True)  # without one when its rows are on a PostgreSQL
            os.sync()
        except (OSError, GrafosError) as error:
            self.say(f"the backup is not taken: {error}")
            archive.unlink()
            return
        self._stop_program()
        for name, place in (("trust", self.state / "trust"), ("state", self._scheduler)):
            shutil.rmtree(place, ignore_errors=True)
            (part / name).replace(place)
            place.chmod(0o700)
        os.sync()
        archive.unlink()
        shutil.rmtree(part, ignore_errors=True)
        self.say("a backup took the place of what was there")

    # --- another version of the software --------------------------------------------------------------------------

    def _change_software(self, wanted: str) -> None:
        before, after = self.software, self.software.parent / wanted
        try:
            self._have_software(wanted, after)
        except (OSError, tarfile.TarError, ValueError) as error:
            self._note(SOFTWARE_REFUSED_FILE, f"{wanted} {error}")
            return
        self.say(f"software {wanted[:12]} takes the place of {before.name[:12]}")
        self._stop_program()
        try:
            self._keep_rows()
        except OSError as error:
            self._note(SOFTWARE_REFUSED_FILE, f"{wanted} {error}")
            self._start(before)
            return
        self._start(after)
        why = self._answers()
        if not why:
            self._forget_rows()
            self._note(SOFTWARE_FILE, wanted)
            self._forget_old(before)
            self.say(f"software {wanted[:12]} answers")
            return
        self.say(f"software {wanted[:12]} {why}; going back to {before.name[:12]}")
        self._stop_program()
        self._put_rows_back()
        self._note(SOFTWARE_REFUSED_FILE, f"{wanted} {why}")
        self._start(before)

    @property
    def _rows_before(self) -> Path:
        """The rows as the version before left them; there from before the other one starts until it answers."""
        return self.state / "rows-before"

    def _keep_rows(self) -> None:
        part = self.state / "rows-before.part"
        shutil.rmtree(part, ignore_errors=True)
        _copy_rows(self._scheduler, part)
        os.sync()
        part.replace(self._rows_before)

    def _put_rows_back(self) -> None:
        """Where they are still there the other version never answered, or the machine went down before it did."""
        if self._rows_before.exists():
            _copy_rows(self._rows_before, self._scheduler)
            os.sync()
            self._forget_rows()

    def _forget_rows(self) -> None:
        """In one step: what is half gone must not be put back."""
        gone = self.state / "rows-gone"
        shutil.rmtree(gone, ignore_errors=True)
        self._rows_before.replace(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def _have_software(self, wanted: str, folder: Path) -> None:
        """Unpacked, all of it or nothing. Its bytes are those that the operator stored under that hash."""
        if folder.is_dir():
            return
        bundle = self._scheduler / "bundles" / wanted
        if hashlib.sha256(bundle.read_bytes()).hexdigest() != wanted:
            raise ValueError("the bundle is damaged")
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        _unpack(bundle, part)
        os.sync()
        part.replace(folder)

    def _forget_old(self, before: Path) -> None:
        stay = {self.software, before}
        for folder in before.parent.iterdir():
            if folder not in stay:
                shutil.rmtree(folder, ignore_errors=True)

    def _answers(self) -> str:
        """Waits for the orchestrator's word; why it did not come, or nothing."""
        until = time.monotonic() + ANSWER_S_MAX
        [program] = self.programs
        while time.monotonic() < until:
            if program.process is None:
                return "does not start"
            if (code := program.process.poll()) is not None:
                program.process = None
                return f"ended with {code}"
            if self._is_healthy():
                return ""
            time.sleep(ASK_EVERY_S)
        return f"did not answer within {ANSWER_S_MAX:g} s"

    def _is_healthy(self) -> bool:
        host, _, port = self.bind.rpartition(":")
        asked = http.client.HTTPSConnection(
            host.strip("[]"), int(port), timeout=ASK_TIMEOUT_S, context=trust.unverified_context()
        )
        with contextlib.closing(asked), contextlib.suppress(OSError, http.client.HTTPException):
            asked.request("GET", "/health")
            return asked.getresponse().status == http.client.OK
        return False

    # --- the one program ------------------------------------------------------------------------------------------

    def _start(self, software: Path) -> None:
        self.software = software
        [program] = self.programs
        program.command = command_of(software, self.arguments)
        program.start_at = 0.0
        self._start_due()

    def _stop_program(self) -> None:
        [program] = self.programs
        if program.process is None:
            return
        program.process.terminate()
        try:
            program.process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            program.process.kill()
            program.process.wait()
        program.process, program.start_at = None, 0.0

    def _note(self, name: str, text: str) -> None:
        """A disk that is full must not end the supervisor."""
        with contextlib.suppress(OSError):
            write_private(self.state / name, f"{text}\n".encode())


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 after SIGTERM or SIGINT."""
    given = _parser().parse_args(arguments)
    software = Path(__file__).parents[1]
    words = orchestrator_arguments(given)
    found = os.pathsep.join(sys.path) if given.end_asked else software  # an image's may be in several places
    supervisor = OrchestratorSupervisor(
        [Program("orchestrator", command_of(found, words))],
        given.expires_at,
        switch_off_of(given),
        ending=ending_of(given),
        is_baked=bool(given.end_asked),
        state=given.state,
        software=software,
        bind=given.bind,
        arguments=words,
    )
    supervisor.begin()
    supervisor.run()
    return 0


def orchestrator_arguments(given: argparse.Namespace) -> list[str]:
    """The command line of the orchestrator itself."""
    state: Path = given.state
    words = ["--mode", "orchestrator", "--auth-mode", "mtls+token", "--bind", given.bind, "--fabric", given.fabric]
    words += ["--scheduler-id", given.cell_id, "--region", given.region]
    words += ["--state", str(state / "scheduler"), "--trust", str(state / "trust")]
    words += ["--claim-secret-file", str(given.claim_secret_file), "--machine-folder", str(state)]
    words += ["--healthy-after-s", f"{given.healthy_after_s:g}", "--heartbeat-every-s", f"{given.heartbeat_every_s:g}"]
    for name in given.name:
        words += ["--name", name]
    return words


def command_of(software: Path | str, arguments: Sequence[str]) -> list[str]:
    """The scheduler of that version, in a fresh, isolated interpreter that finds nothing else."""
    return [sys.executable, "-I", "-S", "-c", RUN_ISOLATED, str(software), "grafos_scheduler", *arguments]


def _unpack(bundle: Path, target: Path) -> None:
    """What the operator brought, who may do anything here anyway; still nothing but plain files below ``target``."""
    target.mkdir(parents=True)
    with tarfile.open(bundle, "r:gz") as packed:
        for member in packed:
            if not (member.isreg() or member.isdir()) or member.name.startswith("/") or ".." in member.name.split("/"):
                raise tarfile.TarError(f"it holds {member.name[:80]!r}")
            packed.extract(member, target, set_attrs=False)


def _copy_rows(source: Path, target: Path) -> None:
    """The store's files while nobody has them open."""
    target.mkdir(mode=0o700, exist_ok=True)
    for name in ROWS:
        (target / name).unlink(missing_ok=True)
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
            (target / name).chmod(0o600)


def _read(path: Path) -> str:
    try:
        return path.read_bytes()[:200].decode("ascii", "replace").strip()
    except OSError:
        return ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="grafos-orchestrating", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--state", required=True, type=Path, metavar="DIR")
    add("--bind", required=True, metavar="ADDR:PORT")
    add("--name", action="append", default=[], metavar="IP", help="a further address that clients dial; repeatable")
    add("--fabric", required=True, metavar="ID")
    add("--cell-id", required=True, metavar="ID", help="the orchestrator's name")
    add("--region", required=True, metavar="NAME")
    add("--claim-secret-file", required=True, type=Path, metavar="FILE")
    add("--healthy-after-s", type=float, required=True, metavar="S")
    add("--heartbeat-every-s", type=float, required=True, metavar="S")
    add("--expires-at", type=float, required=True, metavar="UNIX")
    add("--ends-at-most", type=float, required=True, metavar="UNIX", help="the latest end that is taken")
    add_asking(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
