#!/usr/bin/env python3
"""The first program of a registered cell's machine. It is sent as user data, with its settings filled in below.

It sets the machine's own timer, asks the cloud's metadata service who it is, and says on the console that it has
booted, in one line that is read from afar. It listens to nobody and holds no secret. Compute Engine runs it at every
boot, Azure at the first one only, so there it becomes a service; and there it keeps looking whether its end was moved,
because a machine on Azure can read its own tags. It needs Python 3.9 and nothing else.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from grafos_stacks.machine_script import NO_ANSWER, arm_timer, ask, hand_to_systemd, kept_moment, patiently, say

SETTINGS = "{}"

EXPIRES_TAG = "grafos:expires"


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
    if settings["provider"] == "azure":
        keep_looking(settings, timer_at, state / "timer-at")


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
