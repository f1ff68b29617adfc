#!/usr/bin/env python3
"""The first program of a registered cell's machine. It is sent as user data, with its settings filled in below.

It sets the machine's own timer, asks the cloud's metadata service who it is, and says on the console that it has
booted, in one line that is read from afar. It listens to nobody and holds no secret. Compute Engine runs it at every
boot, Azure at the first one only, so there it becomes a service; and there it keeps looking whether its end was moved,
because a machine on Azure can read its own tags. It needs Python 3.9 and nothing else.
"""

from __future__ import annotations

import http.client
import json
import math
import os
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

SETTINGS = "{}"

METADATA_PATIENCE_S = 120.0  # the network may come up after us
METADATA_TIMEOUT_S = 2.0
METADATA_BYTES_MAX = 1 << 20
NO_ANSWER = (OSError, ValueError, KeyError, TypeError, http.client.HTTPException)
COMMAND_S_MAX = 60.0  # a system bus that does not answer must not keep us from trying the next way
EXPIRES_TAG = "grafos:expires"

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
Restart=on-failure
RestartSec=10
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


def main() -> None:
    settings = json.loads(SETTINGS)
    state = Path(os.environ.get("STATE_DIRECTORY", "/var/lib/grafos").split(":")[0])
    kept = min(kept_timer(state / "timer-at"), settings["timer_at_most"])
    timer_at = max(settings["timer_at"], kept)
    armed = arm_timer(timer_at)
    if hand_to_systemd(settings["provider"]):
        return
    who = who_we_are(settings["provider"])
    timer = timer_at if armed else "none"
    say(f"booted cell={settings['cell_id']} timer={timer} machine={who['name']} place={who['place']}")
    if settings["provider"] == "azure":
        keep_looking(settings, timer_at, state / "timer-at")


def say(text: str) -> None:
    """To the console, which the operator can read from afar; never a secret."""
    print(f"grafos: {text}", flush=True)  # noqa: T201  a program that talks to its console


# --- the machine's end, before anything else --------------------------------------------------------------------


def arm_timer(at: int, before: int = 0) -> bool:
    """Lets the operating system switch the machine off at ``at``, whatever becomes of us; no longer at ``before``."""
    now = time.time()
    minutes = max(0, math.ceil((at - now) / 60))
    if runs(["shutdown", "-P", f"+{minutes}" if minutes else "now"]):  # replaces its earlier order by itself
        return True
    unit, moment = f"grafos-expiry-{at}", max(at, int(now) + 5)  # a moment that has passed would never come
    is_set = runs(["systemctl", "is-active", "--quiet", f"{unit}.timer"])  # by an earlier run of ours
    if not is_set and not runs(["systemd-run", f"--unit={unit}", f"--on-calendar=@{moment}", "shutdown", "-P", "now"]):
        return False
    if before:
        runs(["systemctl", "stop", f"grafos-expiry-{before}.timer"])
    return True


def kept_timer(file: Path) -> int:
    """What an earlier life of this program moved the timer to; 0 if it did not, or if that cannot be read."""
    try:
        return max(0, int(file.read_bytes()))
    except (OSError, ValueError):
        return 0


def runs(command: list[str]) -> bool:
    """Whether the command did what it is for."""
    try:
        done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, timeout=COMMAND_S_MAX)
    except (OSError, subprocess.SubprocessError) as error:
        say(f"{command[0]}: {error}")
        return False
    return done.returncode == 0


def hand_to_systemd(provider: str) -> bool:
    """On Azure, become a service that runs at every boot; whoever names a state directory is one."""
    if provider != "azure" or "STATE_DIRECTORY" in os.environ:
        return False
    if not Path("/run/systemd/system").is_dir() or not shutil.which("systemctl"):
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


def keep_looking(settings: dict[str, Any], timer_at: int, kept: Path) -> None:
    """Moves the timer when the tags say that the cell was extended: later only, and never past the last moment. If this
    ends for any reason, the timer that is set stays set."""
    while True:
        time.sleep(settings["look_every_s"])
        try:
            tags = ask_azure()["tagsList"]
            expires = [str(tag["value"]) for tag in tags if tag["name"] == EXPIRES_TAG]
        except NO_ANSWER:
            continue  # asked again soon; a metadata service that is away changes nothing
        if len(expires) != 1 or not expires[0].isdecimal():
            continue
        moved_to = int(expires[0]) + settings["timer_after_s"]
        if timer_at < moved_to <= settings["timer_at_most"] and arm_timer(moved_to, timer_at):
            timer_at = moved_to
            keep(kept, timer_at)
            say(f"extended cell={settings['cell_id']} timer={timer_at}")


def keep(file: Path, timer_at: int) -> None:
    """So that a machine that is started again does not end at its first end. On a full disk it does."""
    try:
        file.write_text(str(timer_at))
    except OSError as error:
        say(f"the moved timer is not kept over a reboot: {error}")


# --- who we are -------------------------------------------------------------------------------------------------


def who_we_are(provider: str) -> dict[str, str]:
    """The machine's name and place, as its cloud's metadata service tells them; asked until it answers."""
    until = time.monotonic() + METADATA_PATIENCE_S
    pause_s = 0.1
    while True:
        try:
            if provider == "azure":
                compute = ask_azure()
                return {"name": str(compute["name"]), "place": str(compute.get("zone") or compute["location"])}
            zone = ask_gce("zone")  # projects/NUMBER/zones/NAME
            return {"name": ask_gce("name"), "place": zone.rpartition("/")[2]}
        except NO_ANSWER as error:
            if time.monotonic() > until:
                say(f"no metadata: {error}")
                return {"name": "unknown", "place": "unknown"}
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, 5.0)


def ask_gce(what: str) -> str:
    return ask(f"computeMetadata/v1/instance/{what}", {"Metadata-Flavor": "Google"}).strip()


def ask_azure() -> dict[str, Any]:
    found = json.loads(ask("metadata/instance/compute?api-version=2021-02-01&format=json", {"Metadata": "true"}))
    if not isinstance(found, dict):
        raise ValueError("the metadata are no document")
    return found


def ask(path: str, headers: dict[str, str]) -> str:
    base = os.environ.get("GRAFOS_METADATA_ENDPOINT", "http://169.254.169.254/").rstrip("/")
    request = urllib.request.Request(f"{base}/{path}", headers=headers)  # noqa: S310  the metadata service is http
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=METADATA_TIMEOUT_S) as answer:
        return str(answer.read(METADATA_BYTES_MAX), "utf-8")


if __name__ == "__main__":
    main()
