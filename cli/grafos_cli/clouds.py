"""The cells on clouds that the fabric knows: all of them in a list, or one to be worked on."""

from __future__ import annotations

import ipaddress
import os
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from grafos_cli.accounts import hands_for, told_by
from grafos_cli.fabric import open_default
from grafos_cli.regions import region_at_hand
from grafos_cli.steps import show_steps
from grafos_connectors.registry import open_connector
from grafos_core.errors import GrafosError
from grafos_stacks.direct import Hands
from grafos_stacks.looking import state_of
from grafos_stacks.records import CellHome, CellRecord

if TYPE_CHECKING:
    from grafos_cli.terminal import Terminal

EMULATED_OPERATOR = "127.0.0.1/32"
LOCAL = "local"
MY_IP_URL = "https://checkip.amazonaws.com"
"""Answers with the address that a question came from; run by AWS, for anybody."""
MY_IP_VARIABLE = "GRAFOS_MY_IP_URL"
"""Names another service that does the same."""
MY_IP_TIMEOUT_S = 10.0


def cells_of_fabric(terminal: Terminal) -> list[tuple[CellRecord, str]]:
    """The cells on clouds that the fabric knows, the newest first, each with where it is in its life."""
    fabric = open_default(terminal)
    found: list[tuple[CellRecord, str]] = []
    for cell_id in fabric.cell_ids():
        home = CellHome(fabric, cell_id)
        if not home.is_recorded:
            continue
        record = home.record()
        if record.provider != LOCAL:
            found.append((record, state_of(record, time.time())))
    return sorted(found, key=lambda pair: -pair[0].provisioned_at)


@contextmanager
def hands_of(cell_id: str, terminal: Terminal) -> Iterator[Hands]:
    """What it takes to work on a cell that the fabric knows, with its steps drawn; ``cell_unknown`` if it does not."""
    fabric = open_default(terminal)
    record = CellHome(fabric, cell_id).record()
    if record.provider == LOCAL:
        raise GrafosError("unsupported", f"{cell_id} is the local cell, on no cloud", next="grafos dev up")
    connector = open_connector(record.provider, record.region or region_at_hand(record.provider))
    with hands_for([connector], fabric) as (quiet,), show_steps(terminal) as steps:
        yield replace(quiet, progress=told_by(steps))


def public_address(*, emulated: bool) -> str:
    """The address from which we are seen, asked of somebody; loopback for an emulated cloud, which is no question."""
    if emulated:
        return EMULATED_OPERATOR.partition("/")[0]
    url = os.environ.get(MY_IP_VARIABLE) or MY_IP_URL
    try:
        with urllib.request.urlopen(url, timeout=MY_IP_TIMEOUT_S) as answer:  # noqa: S310  the person's own choice
            return str(ipaddress.IPv4Address(answer.read(100).decode("ascii", "replace").strip()))
    except (OSError, ValueError) as error:
        raise GrafosError(
            "cloud_unreachable",
            "The public address of this machine could not be found out",
            where=url,
            why=str(error),
            next="name it yourself: --cidr 203.0.113.7/32",
        ) from error
