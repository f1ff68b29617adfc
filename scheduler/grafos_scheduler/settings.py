"""What a scheduler process is told when it starts: its command line, checked once."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path

import msgspec

from grafos_core.errors import GrafosError
from grafos_core.ids import check_name
from grafos_core.program import CommandLine

HEALTHY_AFTER_S = 30.0
"""The public design's time of steady heartbeats before a cell counts as healthy."""
HEARTBEAT_EVERY_S = 5.0


class Settings(msgspec.Struct, frozen=True):
    """Everything a scheduler needs to know before it has any state.

    ``listen_fd`` is a socket that the parent process bound and listens on already; it takes the place of binding
    ``address`` and ``port`` (0: any free port). ``names`` are further IP addresses that the server certificate
    stands for, where clients reach the machine under another address than the one it binds to. The machine's supervisor
    reads in ``end_wanted_file`` when the cell is to end, and tells in ``end_file`` when its timer makes it end.
    """

    fabric: str
    cell_id: str
    provider: str
    region: str
    address: str
    port: int
    state: Path
    trust: Path
    names: tuple[str, ...] = ()
    listen_fd: int | None = None
    claim_secret_file: Path | None = None
    healthy_after_s: float = HEALTHY_AFTER_S
    heartbeat_every_s: float = HEARTBEAT_EVERY_S
    ready_fd: int | None = None
    end_wanted_file: Path | None = None
    end_file: Path | None = None

    @property
    def database(self) -> Path:
        return self.state / "scheduler.db"

    @property
    def blobs(self) -> Path:
        return self.state / "blobs"


def read_settings(arguments: Sequence[str]) -> Settings:
    """The settings that a command line gives; ``usage``, ``config_invalid``, ``name_invalid`` or ``unsupported``."""
    given = _parser().parse_args(arguments)
    if given.mode != "cell":
        raise GrafosError(
            "unsupported",
            "this version runs the scheduler of one standalone cell only",
            where="--mode orchestrator",
            next="use --mode cell",
        )
    address, port = _bind(given.bind)
    return Settings(
        fabric=check_name("fabric", given.fabric),
        cell_id=check_name("cell", given.cell_id),
        provider=check_name("provider", given.provider),
        region=given.region,
        address=address,
        port=port,
        names=tuple(_ip("--name", name) for name in given.name),
        state=given.state,
        trust=given.trust,
        listen_fd=given.listen_fd,
        claim_secret_file=given.claim_secret_file,
        healthy_after_s=_seconds("--healthy-after-s", given.healthy_after_s, 0.0),
        heartbeat_every_s=_seconds("--heartbeat-every-s", given.heartbeat_every_s, 0.05),
        ready_fd=given.ready_fd,
        end_wanted_file=given.end_wanted_file,
        end_file=given.end_file,
    )


def _parser() -> CommandLine:
    parser = CommandLine(
        prog="grafos-scheduler",
        description="The scheduler of one standalone cell.",
        epilog="example: grafos-scheduler --mode cell --auth-mode mtls+token --bind 127.0.0.1:7443 "
        "--state ./state --trust ./trust --fabric fab-0123456789ab --cell-id local-1 --provider local",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--mode", required=True, choices=["cell", "orchestrator"])
    add("--auth-mode", required=True, choices=["mtls+token"], help="the one way in: client certificate and API token")
    add("--bind", required=True, metavar="ADDR:PORT", help="one address of this machine; port 0 takes a free one")
    add("--state", required=True, type=Path, metavar="DIR", help="durable state, made if missing")
    add("--trust", required=True, type=Path, metavar="DIR", help="keys and certificates, made if missing")
    add("--fabric", required=True, metavar="ID", help="the fabric that may claim this cell")
    add("--cell-id", required=True, metavar="ID")
    add("--provider", required=True, metavar="NAME")
    add("--region", default="local", metavar="NAME")
    add("--name", action="append", default=[], metavar="IP", help="a further address that clients dial; repeatable")
    add("--claim-secret-file", type=Path, metavar="FILE", help="the one-time secret of the claim (hex, mode 0600)")
    add("--healthy-after-s", type=float, default=HEALTHY_AFTER_S, metavar="S", help="steady heartbeats until healthy")
    add("--heartbeat-every-s", type=float, default=HEARTBEAT_EVERY_S, metavar="S")
    add("--end-wanted-file", type=Path, metavar="FILE", help="where the end is written that the operator wants")
    add("--end-file", type=Path, metavar="FILE", help="where the supervisor writes the end that its timer has")
    add("--listen-fd", type=int, metavar="N", help="an inherited socket that listens already")
    add("--ready-fd", type=int, metavar="N", help="where one JSON line is written when the scheduler answers")
    return parser


def _bind(text: str) -> tuple[str, int]:
    """One address of one machine: all interfaces at once is never what a cell's owner means."""
    host, _, port = text.rpartition(":")
    address = _ip("--bind", host.strip("[]"))
    if ipaddress.ip_address(address).is_unspecified:
        raise GrafosError(
            "config_invalid",
            f"{address} means every interface of the machine",
            where="--bind",
            next="name the one address that clients shall reach",
        )
    if not port.isdigit() or int(port) > 65535:
        raise GrafosError("config_invalid", f"{port!r} is no port", where="--bind", next="use ADDR:PORT")
    return address, int(port)


def _ip(flag: str, text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise GrafosError("config_invalid", f"{text!r} is no IP address", where=flag) from error


def _seconds(flag: str, value: float, least: float) -> float:
    if not least <= value <= 86400:
        raise GrafosError("config_invalid", f"{value} is not from {least:g} to 86400 seconds", where=flag)
    return value
