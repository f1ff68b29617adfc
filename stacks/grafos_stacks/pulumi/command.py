"""Pulumi's command line as a child that we can stop, and that outlives us when we are killed.

The library's own way starts it in our terminal's process group and reads its words from a pipe: a Ctrl-C then reaches
both, we die first, and it dies on the closed pipe in the middle of a create. Here it has a session of its own and
writes to a file; it gets one SIGINT from us, and ends cleanly; a second one only if the person asks twice.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pulumi.automation import CommandResult, PulumiCommand
from pulumi.automation.errors import create_command_error
from semver import VersionInfo

from grafos_core.errors import GrafosError
from grafos_core.paths import private_folder

OLDEST = VersionInfo(3, 206, 0)
"""The first that tells its events over gRPC."""
VERSION_TIMEOUT_S = 60
INSTALLER = "https://get.pulumi.com"
"""Where the library's installer fetches from."""
NO_PROXY = "no_grpc_proxy"
"""The variable by which gRPC is told which hosts no proxy leads to."""
SAID_MAX = 2000
"""Characters of what it said last."""


def find_engine(private: Path) -> Path:
    """The ``pulumi`` in PATH, else the one that was installed into a private folder; else ``unsupported``."""
    found = shutil.which("pulumi") or shutil.which("pulumi", path=str(private / "bin"))
    if found is None:
        raise GrafosError(
            "unsupported",
            "Pulumi's command line was not found",
            where="PATH",
            next="install it: https://www.pulumi.com/docs/install; cloud provision --engine pulumi fetches it too",
        )
    return Path(found)


def install_engine(private: Path, home: Path) -> Path:
    """Pulumi's command line in the version of its Python library, brought into the folder ``private`` by that library's
    own installer: whole, or not at all. ``unsupported`` when it cannot be had, or does not run here."""
    unfinished = Path(tempfile.mkdtemp(dir=private_folder(private.parent), prefix="engine."))
    try:
        PulumiCommand.install(root=str(unfinished), skip_version_check=True)
        _version_of(unfinished / "bin" / "pulumi", home)
        shutil.rmtree(private, ignore_errors=True)
        unfinished.rename(private)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "output", None)
        raise GrafosError(
            "unsupported",
            "Pulumi's command line could not be fetched",
            where=INSTALLER,
            why=said.decode(errors="replace").strip()[-SAID_MAX:] if said else str(error),
            next="run it again where there is a network; or install it (https://www.pulumi.com/docs/install) into PATH",
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return find_engine(private)


class Command(PulumiCommand):
    """See the module. ``home`` is Pulumi's own home, which no other program of the person shares."""

    def __init__(self, binary: Path, home: Path) -> None:
        self.command = str(binary)
        self._home = home
        self.child: subprocess.Popen[bytes] | None = None
        self.version = _version_of(binary, home)

    def run(
        self,
        args: list[str],
        cwd: str,
        additional_env: Mapping[str, str],
        on_output: Any = None,
        on_error: Any = None,
    ) -> CommandResult:
        """As the library's; output comes when the command has ended, and progress by events."""
        environment = {**_without_pulumi(), **additional_env, "PULUMI_AUTOMATION_API": "true"}
        environment["PATH"] = os.pathsep.join((str(Path(self.command).parent), environment.get("PATH", os.defpath)))
        with tempfile.TemporaryFile(dir=self._home) as said, tempfile.TemporaryFile(dir=self._home) as complained:
            self.child = subprocess.Popen(
                [self.command, "--non-interactive", *args],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=complained,
                cwd=cwd,
                env=environment,
                start_new_session=True,
            )
            code = _waited_for(self.child)
            result = CommandResult(stdout=_text(said), stderr=_text(complained), code=code)
        for tell, text in ((on_output, result.stdout), (on_error, result.stderr)):
            for line in text.splitlines() if tell else ():
                tell(line)
        if code != 0:
            raise create_command_error(result)
        return result


def _waited_for(child: subprocess.Popen[bytes]) -> int:
    """Its exit code. Each Ctrl-C is passed on once: the first ends it cleanly, the second at once."""
    stopped, code = False, None
    while code is None:
        try:
            code = child.wait()
        except KeyboardInterrupt:
            stopped = True
            child.send_signal(signal.SIGINT)
    if stopped:
        raise KeyboardInterrupt
    return code


def reach_loopback_directly() -> None:
    """Tells gRPC in this process and its children that no proxy leads to this machine. Program, engine and provider
    speak to each other over loopback, and the library of Python would ask a company's proxy for that."""
    direct = (os.environ.get(NO_PROXY) or os.environ.get("no_proxy") or "").split(",")
    os.environ[NO_PROXY] = ",".join(dict.fromkeys(filter(None, (*direct, "127.0.0.1", "localhost"))))


def _without_pulumi() -> dict[str, str]:
    """The environment without what the person set for their own Pulumi: one of those switches keeps no record of what
    was begun, another seals the state with a passphrase that is not there the next time."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PULUMI_")}


def _text(file: Any) -> str:
    file.seek(0)
    return str(file.read().decode(errors="replace")).rstrip()


def _version_of(binary: Path, home: Path) -> VersionInfo:
    """``unsupported`` if it is too old, or tells none."""
    environment = {**_without_pulumi(), "PULUMI_HOME": str(home), "PULUMI_SKIP_UPDATE_CHECK": "true"}
    done = subprocess.run(
        [binary, "version"], env=environment, capture_output=True, text=True, timeout=VERSION_TIMEOUT_S, check=False
    )
    told = done.stdout.strip().removeprefix("v")
    if VersionInfo.is_valid(told) and VersionInfo.parse(told) >= OLDEST:
        return VersionInfo.parse(told)
    raise GrafosError(
        "unsupported",
        f"Pulumi's command line is {told or 'of no version that it tells'}, and {OLDEST} or newer is needed",
        where=str(binary),
        next="update it: https://www.pulumi.com/docs/install",
    )
