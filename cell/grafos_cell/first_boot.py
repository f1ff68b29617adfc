"""The first program of a machine with a baked image: learns what the cell is, and sees to it that the machine ends.

    python3 -m grafos_cell.first_boot        as root, at each boot, before the cell's daemon

What a cell is comes as one credential of systemd, ``grafos.cell``: from whoever starts the machine (SMBIOS, fw_cfg), or
else in the machine's user data, in the form that systemd itself reads from there since version 261:

    {"systemd.credentials": [{"name": "grafos.cell", "text": "{...}"}]}

Nothing else in the image knows where it came from. The credential is laid where systemd looks for it, and the timer
that switches the machine off stands before the daemon starts.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from grafos_cell.attesting import ENDPOINT, LINK_LOCAL
from grafos_cell.baked import CREDENTIAL, Told, read_told
from grafos_cell.ending import set_timer
from grafos_core.errors import GrafosError
from grafos_core.paths import write_private
from grafos_core.program import say

STORE = Path("/run/credstore")
DMI = Path("/sys/class/dmi/id")
TIMEOUT_S = 2.0
PATIENCE_S = 120.0
"""The network may come up after us, and some metadata services after that."""
PAUSE_S_FIRST, PAUSE_S_MOST = 0.2, 5.0
ANSWER_BYTES_MAX = 64 * 1024
CREDENTIAL_NAME_START = "grafos."
AZURE_CHASSIS = "7783-7084-3265-9085-8269-3286-77"
NO_ANSWER = (OSError, ValueError, http.client.HTTPException)

AWS, GCP, AZURE = "aws", "gcp", "azure"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when the cell may start, 1 if nobody told what it is."""
    parser = argparse.ArgumentParser(prog="grafos_cell.first_boot", allow_abbrev=False)
    parser.add_argument("--firmware", type=Path, default=DMI, help="where the kernel shows the firmware's words")
    parser.add_argument("--store", type=Path, default=STORE, help="where systemd looks for credentials")
    given = parser.parse_args(arguments)
    here = Path(os.environ.get("CREDENTIALS_DIRECTORY", "/nonexistent")) / CREDENTIAL
    try:
        if not here.is_file():
            keep(patiently(lambda: from_user_data(cloud_of(given.firmware))), given.store)
            here = given.store / CREDENTIAL
        told = read_told(here.read_bytes())
    except (GrafosError, *NO_ANSWER) as error:
        say(f"this machine was not told which cell it is: {error}")
        return 1
    arm(told)
    say(f"booted cell={told.cell_id} timer={told.timer_at or 'none'} machine=baked place={told.region or 'unknown'}")
    return 0


def arm(told: Told) -> None:
    """Sets the machine's own timer, where it is to have one."""
    if told.timer_at and not set_timer(told.timer_at, 0, say):
        say("no timer could be set: the cloud's own deadline and a sweep are left to end the machine")


def keep(credentials: Mapping[str, bytes], store: Path) -> None:
    """Lays them where systemd looks for the credentials of units."""
    store.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, data in credentials.items():
        write_private(store / name, data)


def cloud_of(dmi: Path) -> str:
    """Whose machine this is, by what its firmware says of itself; "" if it says nothing that is known."""
    # Some write the names with blanks and some without.
    vendor, product, chassis = (_word(dmi / name) for name in ("bios_vendor", "product_name", "chassis_asset_tag"))
    if vendor == "AmazonEC2":
        return AWS
    if product == "GoogleComputeEngine":
        return GCP
    return AZURE if chassis == AZURE_CHASSIS else ""


def from_user_data(cloud: str) -> dict[str, bytes]:
    """The credentials in the machine's user data; ``OSError`` or ``ValueError`` if there are none, or not yet."""
    if cloud not in USER_DATA:
        raise GrafosError("config_invalid", "the firmware names no cloud that is known, so there is no user data")
    return credentials_in(USER_DATA[cloud]())


def credentials_in(user_data: bytes) -> dict[str, bytes]:
    """What of the document is for us: by name, as text or as base64."""
    document = json.loads(user_data)
    if not isinstance(document, dict) or not isinstance(document.get("systemd.credentials"), list):
        raise ValueError("the user data are no document with credentials")
    found = {}
    for entry in document["systemd.credentials"]:
        name = entry.get("name") if isinstance(entry, dict) else None
        if isinstance(name, str) and name.startswith(CREDENTIAL_NAME_START) and "/" not in name:
            found[name] = _bytes(entry.get("text"), entry.get("data"))
    if CREDENTIAL not in found:
        raise ValueError(f"the user data hold no {CREDENTIAL}")
    return found


def _bytes(text: object, data: object) -> bytes:
    if isinstance(data, str):
        return base64.b64decode(data, validate=True)
    if isinstance(text, str) and data is None:
        return text.encode()
    raise ValueError("a credential has neither a text nor data in base64")


def patiently(question: Callable[[], dict[str, bytes]]) -> dict[str, bytes]:
    """What it answers, asked with growing pauses; after a while whatever keeps it from answering."""
    until, pause_s = time.monotonic() + PATIENCE_S, PAUSE_S_FIRST
    while True:
        try:
            return question()
        except NO_ANSWER as error:
            if time.monotonic() > until:
                raise
            say(f"no user data yet: {error}")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, PAUSE_S_MOST)


def _of_aws() -> bytes:
    token = ask("/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}, "PUT")
    return ask("/latest/user-data", {"X-aws-ec2-metadata-token": token.decode("ascii")})


def _of_gcp() -> bytes:
    return ask("/computeMetadata/v1/instance/attributes/systemd-userdata", {"Metadata-Flavor": "Google"})


def _of_azure() -> bytes:
    path = "/metadata/instance/compute/userData?api-version=2021-02-01&format=text"
    return base64.b64decode(ask(path, {"Metadata": "true"}), validate=True)


USER_DATA: Mapping[str, Callable[[], bytes]] = {AWS: _of_aws, GCP: _of_gcp, AZURE: _of_azure}


def ask(path: str, headers: Mapping[str, str], method: str = "GET") -> bytes:
    """No proxy, and no name to look up: the service is on the machine's own link."""
    place = os.environ.get(ENDPOINT, LINK_LOCAL).rstrip("/")
    request = urllib.request.Request(place + path, method=method, headers=dict(headers))  # noqa: S310  it speaks http
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=TIMEOUT_S) as answer:
        data: bytes = answer.read(ANSWER_BYTES_MAX + 1)
    if len(data) > ANSWER_BYTES_MAX:
        raise ValueError("the user data are larger than any of ours")
    return data


def _word(file: Path) -> str:
    with contextlib.suppress(OSError):
        return "".join(file.read_text("ascii", "replace").split())
    return ""


if __name__ == "__main__":
    sys.exit(main())
