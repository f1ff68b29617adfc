#!/usr/bin/env python3
"""The first program of a registered cell's machine. It is sent as user data, with its settings filled in below.

It sets the machine's own timer, asks the cloud's metadata service who it is, and says on the console that it has
booted, in one line that is read from afar. It listens to nobody. Compute Engine runs it at every boot, Azure at the
first one only, so there it becomes a service; and there it keeps looking whether its end was moved, because a machine
on Azure can read its own tags. It needs Python 3.9 and nothing else.

Where its settings name an orchestrator, it becomes a service on both, fetches the one bundle of software whose SHA-256
it was born with from there, and becomes the cell's agent. Its one secret is a token to enrol with, for one use.
"""

from __future__ import annotations

import json
import os
import ssl
import time
import urllib.request
from pathlib import Path
from typing import Any

from grafos_stacks.machine_script import (
    NO_ANSWER,
    arm_timer,
    ask,
    become,
    hand_to_systemd,
    is_pinned,
    kept_moment,
    patiently,
    say,
    unpack,
)

SETTINGS = "{}"

EXPIRES_TAG = "grafos:expires"
AGENT = "grafos_cell.registered"
FETCH_TIMEOUT_S = 30.0  # an orchestrator that is silent for longer is asked again
FETCH_PAUSE_S_MAX = 30.0


def main() -> None:
    settings = json.loads(SETTINGS)
    state = Path(os.environ.get("STATE_DIRECTORY", "/var/lib/grafos").split(":")[0])
    kept = min(kept_moment(state / "timer-at"), settings["timer_at_most"])
    timer_at = max(settings["timer_at"], kept)
    armed = arm_timer(timer_at)
    if settings["provider"] == "azure" and hand_to_systemd():
        return
    who = who_we_are(settings["provider"])
    timer = timer_at if armed else "none"
    say(f"booted cell={settings['cell_id']} timer={timer} machine={who['name']} place={who['place']}")
    if "orchestrator" in settings:
        if not hand_to_systemd():
            join(settings, timer_at, state)
    elif settings["provider"] == "azure":
        keep_looking(settings, timer_at, state)


def keep_looking(settings: dict[str, Any], timer_at: int, state: Path, agent: int = 0) -> None:
    """Moves the timer when the tags say that the cell was extended: later only, and never past the last moment. If this
    ends for any reason, the timer that is set stays set. It ends with the ``agent`` (its process), if there is one."""
    while not agent or os.getppid() == agent:
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
            keep(state / "timer-at", timer_at)
            keep(state / "end", int(expires[0]))  # the agent reads it
            say(f"extended cell={settings['cell_id']} timer={timer_at}")


def keep(file: Path, moment: int) -> None:
    """So that a machine that is started again does not end at its first end. On a full disk it does."""
    try:
        file.write_text(str(moment))
    except OSError as error:
        say(f"the moved end is not kept over a reboot: {error}")


# --- joining ----------------------------------------------------------------------------------------------------


def join(settings: dict[str, Any], timer_at: int, state: Path) -> None:
    """Fetches the software and becomes the cell's agent; on Azure a child of it goes on looking at the tags."""
    os.umask(0o077)
    software, bundle, trust = state / "software" / settings["bundle_sha256"], state / "bundle.tar.gz", state / "trust"
    if not software.is_dir():
        fetch(bundle, settings)
        trust.mkdir(exist_ok=True)
        (trust / "orchestrator-ca.pem").write_text(settings["ca_pem"])
        (trust / "bootstrap-token").write_text(settings["bootstrap_token"])
        unpack(bundle, software)
        bundle.unlink()
    agent = os.getpid()
    if settings["provider"] == "azure" and os.fork() == 0:
        keep_looking(settings, timer_at, state, agent)
        return
    arguments = ["--trust", str(trust), "--state", str(state / "cell"), "--end-file", str(state / "end")]
    for name in ("orchestrator", "provider", "cell_id", "region", "expires_at"):
        arguments += ["--" + name.replace("_", "-"), str(settings[name])]
    become(software, AGENT, arguments)


def fetch(bundle: Path, settings: dict[str, Any]) -> None:
    """Asks the orchestrator, and nobody else, until it gave the pinned bytes."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
    tls.load_verify_locations(cadata=settings["ca_pem"])
    way = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=tls))
    url, pause_s = f"{settings['orchestrator']}/api/v1/bundles/{settings['bundle_sha256']}", 0.5
    while not is_pinned(bundle, settings["bundle_sha256"]):
        try:
            with way.open(url, timeout=FETCH_TIMEOUT_S) as answer:
                bundle.write_bytes(answer.read(settings["bundle_bytes"] + 1))
            if is_pinned(bundle, settings["bundle_sha256"]):
                break
            say(f"what {url} gave is not that bundle")
        except NO_ANSWER as error:
            say(f"no bundle from {url} yet: {error}")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, FETCH_PAUSE_S_MAX)


# --- who we are -------------------------------------------------------------------------------------------------


def who_we_are(provider: str) -> dict[str, str]:
    """The machine's name and place, as its cloud's metadata service tells them; asked until it answers."""
    try:
        return dict(patiently(named_by_azure if provider == "azure" else named_by_gce))
    except NO_ANSWER as error:
        say(f"no metadata: {error}")
        return {"name": "unknown", "place": "unknown"}


def named_by_azure() -> dict[str, str]:
    compute = ask_azure()
    return {"name": str(compute["name"]), "place": str(compute.get("zone") or compute["location"])}


def named_by_gce() -> dict[str, str]:
    zone = ask_gce("zone")  # projects/NUMBER/zones/NAME
    return {"name": ask_gce("name"), "place": zone.rpartition("/")[2]}


def ask_gce(what: str) -> str:
    return ask(f"{metadata()}/computeMetadata/v1/instance/{what}", {"Metadata-Flavor": "Google"})


def ask_azure() -> dict[str, Any]:
    path = "metadata/instance/compute?api-version=2021-02-01&format=json"
    found = json.loads(ask(f"{metadata()}/{path}", {"Metadata": "true"}))
    if not isinstance(found, dict):
        raise ValueError("the metadata are no document")
    return found


def metadata() -> str:
    return os.environ.get("GRAFOS_METADATA_ENDPOINT", "http://169.254.169.254/").rstrip("/")


if __name__ == "__main__":
    main()
