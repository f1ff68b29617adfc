"""What the first programs of all cells' machines have in common: the machine's timer, its service, its metadata.

``bootstrap`` puts this text into a program's in place of the line by which it imports it; so here, too, nothing but
Python 3.9 may be counted on.
"""

from __future__ import annotations

import hashlib
import http.client
import math
import os
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

COMMAND_S_MAX = 60.0  # a system bus that does not answer must not keep us from trying the next way
METADATA_PATIENCE_S = 120.0  # the network may come up after us
METADATA_TIMEOUT_S = 2.0
METADATA_BYTES_MAX = 1 << 20
UNPACKED_BYTES_MAX = 512 * 1024 * 1024
FILES_MAX = 20_000
BECOME = (
    "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); runpy.run_module(sys.argv.pop(1), run_name='__main__')"
)
NO_ANSWER = (OSError, ValueError, KeyError, TypeError, http.client.HTTPException)

SYSTEMD = Path("/run/systemd/system")
UNIT_FILE = Path("/etc/systemd/system/grafos-cell.service")
UNIT = """[Unit]
Description=grafos cell
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
ExecStart=/usr/bin/env python3 -I -S /var/lib/grafos/bootstrap.py
StateDirectory=grafos
StateDirectoryMode=0700
Restart=always
RestartSec=2
RestartPreventExitStatus=2 4 8
StandardOutput=journal+console
StandardError=journal+console
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictSUIDSGID=yes

[Install]
WantedBy=multi-user.target
"""


def say(text: str) -> None:
    """To the console, which the operator can read from afar; never a secret."""
    print(f"grafos: {text}", flush=True)  # noqa: T201  a program that talks to its console


def arm_timer(at: int, before: int = 0) -> bool:
    """Lets the operating system switch the machine off at ``at``, whatever becomes of us; no longer at ``before``."""
    now = time.time()
    minutes = max(0, math.ceil((at - now) / 60))
    order = ["shutdown", "-P", f"+{minutes}" if minutes else "now"]  # it replaces its earlier order by itself
    if keeps_orders() and runs(order):
        return True
    unit, moment = f"grafos-expiry-{at}", max(at, int(now) + 5)  # a moment that has passed would never come
    is_set = runs(["systemctl", "is-active", "--quiet", f"{unit}.timer"])  # by an earlier run of ours
    if not is_set and not runs(["systemd-run", f"--unit={unit}", f"--on-calendar=@{moment}", "shutdown", "-P", "now"]):
        return False
    if before:
        runs(["systemctl", "stop", f"grafos-expiry-{before}.timer"])
    return True


def keeps_orders(systemd: Path = SYSTEMD) -> bool:
    """Whether ``shutdown`` can be told a time: where systemd runs and nobody manages log-ins, it takes any for now."""
    return not systemd.is_dir() or runs(["systemctl", "is-active", "--quiet", "systemd-logind.service"])


def runs(command: list[str]) -> bool:
    """Whether the command did what it is for."""
    try:
        done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, timeout=COMMAND_S_MAX)
    except (OSError, subprocess.SubprocessError) as error:
        say(f"{command[0]}: {error}")
        return False
    return done.returncode == 0


def kept_moment(file: Path) -> int:
    """The Unix seconds that an earlier life of ours kept there; 0 if there are none, or if they cannot be read."""
    try:
        return max(0, int(file.read_bytes()))
    except (OSError, ValueError):
        return 0


def hand_to_systemd() -> bool:
    """On a machine of its own, become a service that survives a reboot; whoever names a state directory has one."""
    if "STATE_DIRECTORY" in os.environ or not Path("/run/systemd/system").is_dir() or not shutil.which("systemctl"):
        return False
    state = Path("/var/lib/grafos")
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    script = state / "bootstrap.py"
    script.touch(mode=0o600)
    script.write_bytes(Path(__file__).read_bytes())
    UNIT_FILE.write_text(UNIT)
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    subprocess.run(["systemctl", "enable", "--now", UNIT_FILE.name], check=True)
    return True


def patiently(question: Callable[[], Any]) -> Any:
    """What the metadata service answers, asked until it does; after a while whatever keeps it from answering."""
    until = time.monotonic() + METADATA_PATIENCE_S
    pause_s = 0.1
    while True:
        try:
            return question()
        except NO_ANSWER as error:
            if time.monotonic() > until:
                raise
            say(f"no metadata yet: {error}")
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, 5.0)


def ask(url: str, headers: dict[str, str], method: str = "GET") -> str:
    request = urllib.request.Request(url, method=method, headers=headers)  # noqa: S310  the metadata service is http
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=METADATA_TIMEOUT_S) as answer:
        return str(answer.read(METADATA_BYTES_MAX), "utf-8").strip()


# --- the software -----------------------------------------------------------------------------------------------


def is_pinned(bundle: Path, sha256: str) -> bool:
    """Whether the bundle is there, whole; it may have come in an earlier life of this program."""
    return bundle.is_file() and hashlib.sha256(bundle.read_bytes()).hexdigest() == sha256


def unpack(bundle: Path, target: Path) -> None:
    """Plain files and folders below ``target`` and nothing else; ``target`` appears when all of it is there."""
    part = target.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    files = size = 0
    with tarfile.open(bundle, "r:gz") as archive:
        for member in archive:
            name = PurePosixPath(member.name)
            files, size = files + 1, size + member.size
            if name.is_absolute() or ".." in name.parts or not (member.isreg() or member.isdir()):
                raise ValueError(f"the bundle holds {member.name!r}, which is no plain file below it")
            if files > FILES_MAX or size > UNPACKED_BYTES_MAX:
                raise ValueError("the bundle unpacks to more than a bundle may")
            if member.isdir():
                (part / name).mkdir(parents=True, exist_ok=True)
                continue
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            source = archive.extractfile(member)
            assert source is not None, "a regular file has bytes"
            with source, (part / name).open("wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
    if Path("/run/systemd/system").is_dir():
        os.sync()  # a machine of its own may lose its power; an emulated one never does
    part.replace(target)
    say(f"unpacked {files} files")


def become(software: Path, program: str, arguments: list[str]) -> None:
    """Replaces this program by one of the cell's own."""
    sys.stdout.flush()
    os.execvp("python3", ["python3", "-I", "-S", "-c", BECOME, str(software), program, *arguments])  # noqa: S606  no shell is what we want
