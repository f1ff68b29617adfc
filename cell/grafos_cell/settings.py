"""What a cell's daemon is told when it starts: the command line of ``fabricbiosd``, checked once."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import msgspec

from grafos_cell.inventory import cores
from grafos_core.errors import GrafosError
from grafos_core.program import CommandLine
from grafos_core.resources import Resources

MEM_CAPACITY = "128k"
"""The public design's default size of the memory pool."""
BLOCK_CAPACITY = "16m"
"""Enough to try it out; room on the disk is taken only by what is leased."""
DEVICES_MAX = 1024
"""Of a kind; more than a machine has."""
EXPIRES_AT_MAX = 1e11
"""The bound of a time on the wire; some three thousand years."""
_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}


class Settings(msgspec.Struct, frozen=True):
    """``total`` is all that the cell leases out. ``expires_at`` (Unix seconds, 0 for never) is when it must be gone;
    ``on_expiry`` is the command that sees to it, run after everything was fenced. ``end_file`` tells where the end was
    moved to while the cell lives."""

    scheduler: str
    trust: Path
    state: Path
    total: Resources
    region: str = ""
    ready_fd: int | None = None
    expires_at: float = 0.0
    on_expiry: tuple[str, ...] = ()
    end_file: Path | None = None

    @property
    def database(self) -> Path:
        return self.state / "cell.db"

    @property
    def blobs(self) -> Path:
        return self.state / "blobs"

    @property
    def blocks(self) -> Path:
        return self.state / "blocks"

    @property
    def code(self) -> Path:
        return self.state / "code"


def read_settings(arguments: Sequence[str]) -> Settings:
    """The settings that a command line gives; ``usage`` or ``config_invalid``."""
    given = _parser().parse_args(arguments)
    return Settings(
        scheduler=given.scheduler,
        trust=given.trust,
        state=given.state,
        total=Resources(
            cpu_cores=cores(Path("/"), len(os.sched_getaffinity(0))),
            mem_bytes=read_size(given.mem_capacity),
            block_bytes=read_size(given.block_capacity, "--block-capacity"),
            gpu_count=_count("--gpu-count", given.gpu_count),
            nic_count=_count("--nic-count", given.nic_count),
        ),
        region=given.region,
        ready_fd=given.ready_fd,
        **read_ending(given),
    )


class Ending(TypedDict):
    """The settings that say when and how the cell ends."""

    expires_at: float
    on_expiry: tuple[str, ...]
    end_file: Path | None


def read_ending(given: argparse.Namespace) -> Ending:
    """What the flags of ``add_ending`` say; ``config_invalid``."""
    try:
        on_expiry = tuple(shlex.split(given.on_expiry))
    except ValueError as error:
        raise GrafosError("config_invalid", "the command cannot be split into words", where="--on-expiry") from error
    return Ending(expires_at=_moment("--expires-at", given.expires_at), on_expiry=on_expiry, end_file=given.end_file)


def _moment(flag: str, value: float) -> float:
    """``nan`` is before and after nothing, so a cell would end at once, or never."""
    if not 0 <= value <= EXPIRES_AT_MAX:
        raise GrafosError("config_invalid", f"{value} is no time in Unix seconds", where=flag)
    return value


def _count(flag: str, value: int) -> int:
    if not 0 <= value <= DEVICES_MAX:
        raise GrafosError("config_invalid", f"{value} is not between 0 and {DEVICES_MAX}", where=flag)
    return value


def read_size(text: str, flag: str = "--mem-capacity") -> int:
    """Bytes of ``16m``, ``128k`` or ``65536``; units are powers of 1024."""
    match = re.fullmatch(r"([0-9]{1,15})([kmgt]?)", text.strip().lower())
    if not match:
        raise GrafosError("config_invalid", f"{text!r} is no size", where=flag, next="write it like 16m")
    return int(match[1]) * _UNITS[match[2]]


def _parser() -> CommandLine:
    parser = CommandLine(prog="fabricbiosd", description="The daemon of a cell.", allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=CommandLine)
    server = commands.add_parser(
        "control-server",
        help="lease out this machine and run tasklets for a scheduler",
        epilog="example: fabricbiosd control-server --scheduler https://127.0.0.1:7443 --trust ./trust --state ./state",
        allow_abbrev=False,
    )
    add = server.add_argument
    add("--scheduler", required=True, metavar="URL", help="https://ADDR:PORT")
    add("--trust", required=True, type=Path, metavar="DIR", help="ca.pem, cell.pem, cell-key.pem and cell-token")
    add("--state", required=True, type=Path, metavar="DIR", help="durable state, made if missing")
    add("--mem-capacity", default=MEM_CAPACITY, metavar="SIZE", help="the pool of leasable memory, like 16m")
    add("--block-capacity", default=BLOCK_CAPACITY, metavar="SIZE", help="the pool of leasable blocks, like 1g")
    add("--gpu-count", type=int, default=0, metavar="N", help="how many GPUs may be leased")
    add("--nic-count", type=int, default=0, metavar="N", help="how many network cards may be leased")
    add("--region", default="", metavar="NAME", help="where this machine is, if its scheduler does not know")
    add_ending(server)
    return parser


def add_ending(parser: CommandLine) -> None:
    """The flags that every daemon of a cell has: when it ends, and whom it tells that it has begun."""
    add = parser.add_argument
    add("--expires-at", type=float, default=0.0, metavar="UNIX", help="when this cell fences itself (0: never)")
    add("--on-expiry", default="", metavar="COMMAND", help="run after fencing, like 'shutdown -P now'")
    add("--end-file", type=Path, metavar="FILE", help="holds the cell's end when it is moved (Unix seconds)")
    add("--ready-fd", type=int, metavar="N", help="where one JSON line is written when the link is up")
