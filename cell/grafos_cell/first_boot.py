"""The first program of a machine with a baked image: learns what the cell is, and sees to it that the machine ends.

    python3 -m grafos_cell.first_boot        as root, at each boot, before the cell's daemon

What a cell is comes as one credential of systemd, ``grafos.cell``: from whoever starts the machine (SMBIOS, fw_cfg), or
else in the machine's user data, in the form that systemd itself reads from there since version 261:

    {"systemd.credentials": [{"name": "grafos.cell", "text": "{...}"}]}

Nothing else in the image knows where it came from. The credential is laid where systemd looks for it, with the
machine's own addresses beside it where it has a port, and the timer that switches the machine off stands before the
daemon starts. A machine that nobody tells what it is, or whose clock
nobody sets, does not stay on: ``grafos-first-boot.service`` gives up after some tries and switches it off.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import ipaddress
import json
import os
import signal
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

from grafos_cell.attesting import ENDPOINT, ENDPOINT_AWS, LINK_LOCAL
from grafos_cell.baked import ADDRESSES, CREDENTIAL, Told, read_told
from grafos_cell.ending import set_timer
from grafos_cell.moving_end import KEPT, RUN, end_of, note_end
from grafos_core.errors import GrafosError
from grafos_core.paths import write_private
from grafos_core.program import say

STORE = "credstore"
"""Where systemd looks for credentials, below ``/run``."""
DMI = Path("/sys/class/dmi/id")
TIMEOUT_S = 2.0
ANSWER_S_MAX = 10.0
"""Of one answer as a whole: who sends a byte a second is not listened to for hours."""
PATIENCE_S = 120.0
"""The network may come up after us, and some metadata services after that; likewise whoever sets the clock."""
PAUSE_S_FIRST, PAUSE_S_MOST = 0.2, 5.0
ANSWER_BYTES_MAX = 64 * 1024
CREDENTIAL_NAME_START = "grafos."
AZURE_CHASSIS = "7783-7084-3265-9085-8269-3286-77"
MIB = 1 << 20
MEMORY_MIB_MIN, MEMORY_MIB_SOLD = 600, 768
"""What the kernel has to have, and how much memory a machine has whose kernel has that. The root alone takes two
hundred, and a daemon without memory fails in ways that nobody understands."""
LIFE_S_MAX = 32 * 86400
"""No cell is made for longer than thirty days: a clock by which it has more to go is wrong."""
CLOCKS_DIFFER_S = 60
"""How far the clock of whoever asked for the machine may be ahead of ours."""
NO_ANSWER = (OSError, ValueError, RecursionError, http.client.HTTPException)
UNTOLD, UNFIT = 1, 2
"""Exit codes: the first is tried again, the second would be the same again."""

AWS, GCP, AZURE = "aws", "gcp", "azure"

Answer = TypeVar("Answer")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when the cell may start, 1 if nobody told yet what it is, 2 on a machine that can be no cell.

    After either failure the unit switches the machine off, in the end: one that does no work is to cost nothing.
    """
    parser = argparse.ArgumentParser(prog="grafos_cell.first_boot", allow_abbrev=False)
    parser.add_argument("--firmware", type=Path, default=DMI, help="where the kernel shows the firmware's words")
    parser.add_argument("--run", type=Path, default=RUN, help="the folder of what runs")
    parser.add_argument("--kept", type=Path, default=KEPT, help="the folder of what outlives a reboot")
    given = parser.parse_args(arguments)
    if little := too_little(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MIB):
        say(little)
        return UNFIT
    here = Path(os.environ.get("CREDENTIALS_DIRECTORY", "/nonexistent")) / CREDENTIAL
    cloud, store = cloud_of(given.firmware), given.run / STORE
    try:
        told = told_of(here.read_bytes(), cloud) if here.is_file() else learn(cloud, store)
        begins = beginning_of(told.ca_pem) if told.serves is None else told.serves.made_at - CLOCKS_DIFFER_S
    except (GrafosError, *NO_ANSWER) as error:
        say(f"this machine was not told which cell it is: {error}")
        return UNTOLD
    arm(end_of(told, given.kept), given.run)
    if wrong := patient_with_clock(lambda: wrong_clock(begins, told.timer_at, time.time())):
        say(f"nobody sets the clock: {wrong}")
        return UNTOLD
    try:
        if told.serves is not None:
            find_out_addresses(cloud, told.serves.names, store)
    except NO_ANSWER as error:
        say(f"this machine was not told its own address: {error}")
        return UNTOLD
    say(f"booted cell={told.cell_id} timer={told.timer_at or 'none'} machine=baked place={told.region or 'unknown'}")
    return 0


def too_little(memory_mib: int) -> str:
    """What is to be said of a machine with so little memory that it can be no cell; "" if it has enough."""
    if memory_mib >= MEMORY_MIB_MIN:
        return ""
    return f"this machine has too little memory, {memory_mib} MB: a cell needs a machine with {MEMORY_MIB_SOLD}"


def learn(cloud: str, store: Path) -> Told:
    """What the user data tell, and kept where systemd looks for it: only what is a cell's."""

    def question() -> tuple[Told, dict[str, bytes]]:
        found = from_user_data(cloud)
        return told_of(found[CREDENTIAL], cloud), found

    told, credentials = patiently(question)
    keep(credentials, store)
    return told


def told_of(data: bytes, cloud: str) -> Told:
    """What a cell is told. ``ValueError`` if it is nothing of the kind, or names another cloud than the firmware does:
    whoever tells that may tell something else when asked again."""
    try:
        told = read_told(data)
    except GrafosError as error:
        raise ValueError(str(error)) from error
    if cloud and told.provider != cloud:
        raise ValueError(f"it is told to be a cell of {told.provider[:20]!r}, and this is a machine of {cloud}")
    return told


# --- the clock ----------------------------------------------------------------------------------------------------


def beginning_of(ca_pem: str) -> float:
    """When the CA begins to hold, in Unix seconds; ``OSError`` if it is none."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.load_verify_locations(cadata=ca_pem)
    return max((ssl.cert_time_to_seconds(str(each["notBefore"])) for each in tls.get_ca_certs()), default=0)


def wrong_clock(begins: float, timer_at: int, now: float) -> str:
    """Why the clock cannot be right; "" if it can. What it is told is younger than the CA in it, and no cell lives for
    longer than it may: a clock that stands in the past would keep the machine for years, and trusts no certificate."""
    shown = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now))
    if now < begins:
        return f"it says {shown}, and what this machine was told is younger"
    return f"it says {shown}, too long before this machine's end" if timer_at - now > LIFE_S_MAX else ""


def patient_with_clock(look: Callable[[], str]) -> str:
    """Waits until the clock can be right; after a while why it cannot."""
    until, wrong = time.monotonic() + PATIENCE_S, look()
    if wrong:
        say(f"the clock is wrong: {wrong}; waiting until somebody sets it")
    while wrong and time.monotonic() < until:
        time.sleep(PAUSE_S_FIRST)
        wrong = look()
    return wrong


def arm(at: int, run: Path) -> None:
    """Sets the machine's own timer, where it is to have one, and tells where it stands."""
    if not at:
        return
    if set_timer(at, 0, say):
        note_end(at, run)
    else:
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


def from_user_data(cloud: str, place: Place | None = None) -> dict[str, bytes]:
    """The credentials in the machine's user data; ``OSError`` or ``ValueError`` if there are none, or not yet."""
    if cloud not in USER_DATA:
        raise GrafosError("config_invalid", "the firmware names no cloud that is known, so there is no user data")
    return credentials_in(USER_DATA[cloud](place or place_of(cloud)))


def place_of(cloud: str) -> Place:
    """Where a cloud's metadata service is."""
    return Place(os.environ.get(ENDPOINT_AWS if cloud == AWS else ENDPOINT, LINK_LOCAL))


def find_out_addresses(cloud: str, names: Sequence[str], store: Path) -> None:
    """Lays the machine's own addresses where systemd looks for them, the local one first. Where no cloud is known they
    are those that it was told."""
    found = patiently(lambda: OWN_ADDRESSES[cloud](place_of(cloud))) if cloud else list(names)
    if not found or not all(is_address(one) for one in found):
        raise ValueError(f"{' '.join(found)[:80]!r} is no address")
    keep({ADDRESSES: "\n".join(found).encode()}, store)


def is_address(text: str) -> bool:
    """Whether it is an address of IPv4."""
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


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


def patiently(question: Callable[[], Answer]) -> Answer:
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


class Place(NamedTuple):
    """Where the metadata service is, and how long one answer may take."""

    url: str
    answer_s: float = ANSWER_S_MAX


def _with_token(place: Place, path: str) -> bytes:
    token = ask(place, "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}, "PUT")
    return ask(place, f"/latest/{path}", {"X-aws-ec2-metadata-token": token.decode("ascii")})


def _of_gcp(place: Place, path: str) -> bytes:
    return ask(place, f"/computeMetadata/v1/instance/{path}", {"Metadata-Flavor": "Google"})


def _of_azure(place: Place, path: str) -> bytes:
    return ask(place, f"/metadata/instance/{path}?api-version=2021-02-01&format=text", {"Metadata": "true"})


USER_DATA: Mapping[str, Callable[[Place], bytes]] = {
    AWS: lambda place: _with_token(place, "user-data"),
    GCP: lambda place: _of_gcp(place, "attributes/systemd-userdata"),
    AZURE: lambda place: base64.b64decode(_of_azure(place, "compute/userData"), validate=True),
}


def _addresses_on_aws(place: Place) -> list[str]:
    local = _word_of(_with_token(place, "meta-data/local-ipv4"))
    try:
        return [local, _word_of(_with_token(place, "meta-data/public-ipv4"))]
    except UnknownThereError:
        return [local]


OWN_ADDRESSES: Mapping[str, Callable[[Place], list[str]]] = {
    AWS: _addresses_on_aws,
    GCP: lambda place: [_word_of(_of_gcp(place, "network-interfaces/0/ip"))],
    AZURE: lambda place: [_word_of(_of_azure(place, "network/interface/0/ipv4/ipAddress/0/privateIpAddress"))],
}
"""The local address, and the public one where the machine is told it. A Standard public address does not show in
Azure's metadata, and a machine with a port on Google Cloud or Azure is told those that were reserved for it."""


class UnknownThereError(OSError):
    """The metadata service answers, and has nothing of that name."""


def ask(place: Place, path: str, headers: Mapping[str, str], method: str = "GET") -> bytes:
    """No proxy, no name to look up, and nobody else to be sent to: the service is on the machine's own link."""
    url = urlsplit(place.url.rstrip("/") + path)
    connection = http.client.HTTPConnection(url.netloc, timeout=TIMEOUT_S)
    with _in_time(place.answer_s), contextlib.closing(connection):
        connection.request(method, url.path + (f"?{url.query}" if url.query else ""), headers=dict(headers))
        answer = connection.getresponse()
        if answer.status == http.client.NOT_FOUND:
            raise UnknownThereError(f"the metadata service knows no {path}")
        if answer.status != http.client.OK:
            raise OSError(f"the metadata service answers {answer.status}")
        data = answer.read(ANSWER_BYTES_MAX + 1)
    if len(data) > ANSWER_BYTES_MAX:
        raise ValueError("the user data are larger than any of ours")
    return data


@contextlib.contextmanager
def _in_time(seconds: float) -> Iterator[None]:
    """``TimeoutError`` out of whatever the block waits for then. This program has one thread."""

    def over(_: int, __: FrameType | None) -> None:
        raise TimeoutError(f"no whole answer in {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _word_of(data: bytes) -> str:
    return data.decode("ascii").strip()


def _word(file: Path) -> str:
    with contextlib.suppress(OSError):
        return "".join(file.read_text("ascii", "replace").split())
    return ""


if __name__ == "__main__":
    sys.exit(main())
