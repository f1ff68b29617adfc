"""What a scheduler process is told when it starts: its command line, checked once."""

from __future__ import annotations

import argparse
import ipaddress
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from grafos_core.errors import GrafosError
from grafos_core.ids import check_name
from grafos_core.program import CommandLine
from grafos_core.tokens import CAPABILITY_TTL_MAX_S
from grafos_scheduler.database_url import DatabaseUrl

CELL, ORCHESTRATOR = "cell", "orchestrator"
"""The two modes: the scheduler of one standalone cell, or of the cells of many providers that enrol at it."""
REGISTERING_PROVIDERS = ("aws", "azure", "gcp")
"""Whose cells an orchestrator takes when it is told of none."""
HEALTHY_AFTER_S = 30.0
"""The public design's time of steady heartbeats before a cell counts as healthy."""
HEARTBEAT_EVERY_S = 5.0
SERVICE_LEASE_S = 30.0
SERVICE_LEASE_S_LEAST = 2.0
"""Shorter leases would be renewed more often than a cell looks at them."""


class Settings(msgspec.Struct, frozen=True):
    """Everything a scheduler needs to know before it has any state.

    ``scheduler_id`` is its name; in mode ``cell`` that of its only cell, whose provider is all of ``providers``.
    ``listen_fd`` is a socket that the parent process bound and listens on already; it takes the place of binding
    ``address`` and ``port`` (0: any free port). ``names`` are further IP addresses that the server certificate
    stands for, where clients reach the machine under another address than the one it binds to; ``reached_at`` is the
    one that a replica is known by. ``database`` takes the place of a file in ``state``. The machine's supervisor
    reads in ``end_wanted_file`` when the cell is to end, and tells in ``end_file`` when its timer makes it end. Of an
    orchestrator ``machine_folder`` is what its machine's supervisor reads and writes, if grafos made that machine.
    """

    fabric: str
    scheduler_id: str
    providers: tuple[str, ...]
    region: str
    address: str
    port: int
    state: Path
    trust: Path
    mode: str = CELL
    database: DatabaseUrl | None = None
    reached_at: str = ""
    names: tuple[str, ...] = ()
    listen_fd: int | None = None
    claim_secret_file: Path | None = None
    healthy_after_s: float = HEALTHY_AFTER_S
    heartbeat_every_s: float = HEARTBEAT_EVERY_S
    service_lease_s: float = SERVICE_LEASE_S
    ready_fd: int | None = None
    end_wanted_file: Path | None = None
    end_file: Path | None = None
    machine_folder: Path | None = None

    @property
    def is_orchestrator(self) -> bool:
        return self.mode == ORCHESTRATOR

    @property
    def database_file(self) -> Path:
        return self.state / "scheduler.db"

    @property
    def blobs(self) -> Path:
        return self.state / "blobs"

    @property
    def bundles(self) -> Path:
        return self.state / "bundles"


def read_settings(arguments: Sequence[str]) -> Settings:
    """The settings that a command line gives; ``usage``, ``config_invalid`` or ``name_invalid``."""
    given = _parser().parse_args(arguments)
    scheduler_id, providers = _who(given)
    address, port = _bind(given.bind)
    return Settings(
        fabric=check_name("fabric", given.fabric),
        scheduler_id=scheduler_id,
        providers=providers,
        mode=given.mode,
        region=given.region,
        address=address,
        port=port,
        names=tuple(_ip("--name", name) for name in given.name),
        state=given.state,
        trust=given.trust,
        database=DatabaseUrl(given.database) if given.database is not None else None,
        reached_at=_reached_at(given.reached_at),
        listen_fd=given.listen_fd,
        claim_secret_file=given.claim_secret_file,
        healthy_after_s=_seconds("--healthy-after-s", given.healthy_after_s, 0.0),
        heartbeat_every_s=_seconds("--heartbeat-every-s", given.heartbeat_every_s, 0.05),
        service_lease_s=_seconds(
            "--service-lease-s", given.service_lease_s, SERVICE_LEASE_S_LEAST, CAPABILITY_TTL_MAX_S
        ),
        ready_fd=given.ready_fd,
        end_wanted_file=given.end_wanted_file,
        end_file=given.end_file,
        machine_folder=given.machine_folder,
    )


def _who(given: argparse.Namespace) -> tuple[str, tuple[str, ...]]:
    """The scheduler's name and its providers; each mode has a flag of its own for the name."""
    is_cell = given.mode == CELL
    mine, other = ("--cell-id", "--scheduler-id") if is_cell else ("--scheduler-id", "--cell-id")
    names = {"--cell-id": given.cell_id, "--scheduler-id": given.scheduler_id}
    if names[other] is not None:
        raise GrafosError("usage", f"{other} is not for --mode {given.mode}", next=f"use {mine}")
    if is_cell and (names[mine] is None or len(given.provider) != 1):
        what = "--mode cell needs --cell-id and one --provider"
        raise GrafosError("usage", what, next="name the one cell of this scheduler, and its provider")
    name = check_name("cell" if is_cell else "scheduler", names[mine] or ORCHESTRATOR)
    providers = given.provider or REGISTERING_PROVIDERS
    return name, tuple(dict.fromkeys(check_name("provider", provider) for provider in providers))


def _parser() -> CommandLine:
    parser = CommandLine(
        prog="grafos-scheduler",
        description="The scheduler of one standalone cell, or of all cells that enrol at it.",
        epilog="example: grafos-scheduler --mode cell --auth-mode mtls+token --bind 127.0.0.1:7443 "
        "--state ./state --trust ./trust --fabric fab-0123456789ab --cell-id local-1 --provider local",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--mode", required=True, choices=[CELL, ORCHESTRATOR], help="one standalone cell, or many that enrol")
    add("--auth-mode", required=True, choices=["mtls+token"], help="the one way in: client certificate and API token")
    add("--bind", required=True, metavar="ADDR:PORT", help="one address of this machine; port 0 takes a free one")
    add("--state", required=True, type=Path, metavar="DIR", help="durable state, made if missing")
    add("--database", metavar="URL", help="a PostgreSQL database that replicas share, in place of a file in --state")
    add("--reached-at", metavar="URL", help="where clients and cells reach this replica (https://ADDR:PORT of --bind)")
    add("--trust", required=True, type=Path, metavar="DIR", help="keys and certificates, made if missing")
    add("--fabric", required=True, metavar="ID", help="the fabric that may claim this scheduler")
    add("--cell-id", metavar="ID", help="the standalone cell's name, and its scheduler's")
    add("--scheduler-id", metavar="ID", help="the orchestrator's name (orchestrator)")
    add("--provider", action="append", default=[], metavar="NAME", help="whose runs come here; repeatable when many")
    add("--region", default="local", metavar="NAME")
    add("--name", action="append", default=[], metavar="IP", help="a further address that clients dial; repeatable")
    add("--claim-secret-file", type=Path, metavar="FILE", help="the one-time secret of the claim (hex, mode 0600)")
    add("--healthy-after-s", type=float, default=HEALTHY_AFTER_S, metavar="S", help="steady heartbeats until healthy")
    add("--heartbeat-every-s", type=float, default=HEARTBEAT_EVERY_S, metavar="S")
    add("--service-lease-s", type=float, default=SERVICE_LEASE_S, metavar="S", help="how long leases of services last")
    add("--end-wanted-file", type=Path, metavar="FILE", help="where the end is written that the operator wants")
    add("--end-file", type=Path, metavar="FILE", help="where the supervisor writes the end that its timer has")
    add("--machine-folder", type=Path, metavar="DIR", help="where the supervisor of an orchestrator's machine looks")
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


def _reached_at(url: str | None) -> str:
    try:
        parts = urlsplit(url or "")
        is_one = not url or (parts.scheme, parts.path, bool(parts.hostname and parts.port)) == ("https", "", True)
    except ValueError:
        is_one = False
    if not is_one:
        raise GrafosError("config_invalid", f"{url!r} is no https://ADDRESS:PORT", where="--reached-at")
    return url or ""


def _ip(flag: str, text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise GrafosError("config_invalid", f"{text!r} is no IP address", where=flag) from error


def _seconds(flag: str, value: float, least: float, most: float = 86400) -> float:
    if not least <= value <= most:
        raise GrafosError("config_invalid", f"{value} is not from {least:g} to {most:g} seconds", where=flag)
    return value
