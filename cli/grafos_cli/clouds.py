"""The cells on clouds that the fabric knows: all of them in a list, or one to be worked on."""

from __future__ import annotations

import contextlib
import ipaddress
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from grafos_cli.accounts import hands_for, told_by
from grafos_cli.fabric import open_default
from grafos_cli.regions import region_at_hand
from grafos_cli.settings import value_of
from grafos_cli.steps import show_steps
from grafos_connectors.registry import open_connector
from grafos_core.clock import SystemClock
from grafos_core.errors import GrafosError
from grafos_stacks.direct import Hands
from grafos_stacks.journal import Journal, StackRow, StackState
from grafos_stacks.looking import state_of
from grafos_stacks.records import CellHome, CellRecord
from grafos_stacks.spec import SHARED_PREFIX

if TYPE_CHECKING:
    from grafos_cli.terminal import Terminal
    from grafos_core.fabric import Fabric

EMULATED_OPERATOR = "127.0.0.1/32"
LOCAL = "local"
FOUND_AGAIN = "found"
"""The state of a cell that was taken into the journal by its signed tags, with no record of its price and address."""
MY_IP_TIMEOUT_S = 10.0


def cells_of_fabric(terminal: Terminal) -> list[tuple[CellRecord, str]]:
    """The cells on clouds that the fabric knows, the newest first, each with where it is in its life."""
    fabric = open_default(terminal)
    homes = [CellHome(fabric, cell_id) for cell_id in fabric.cell_ids()]
    records = {home.cell_id: home.record() for home in homes if home.is_recorded}
    for row in _unmentioned(fabric, records, terminal):
        records[row.stack] = _record_of(row, fabric)
    on_clouds = [record for record in records.values() if record.provider != LOCAL]
    newest_first = sorted(on_clouds, key=lambda record: -record.provisioned_at)
    return [(record, state_of(record, time.time())) for record in newest_first]


def _unmentioned(fabric: Fabric, records: Mapping[str, CellRecord], terminal: Terminal) -> list[StackRow]:
    """Cells that the journal knows and no record does: begun and without a machine so far, or found again by tags."""
    if not (fabric.home / "journal.db").exists():
        return []
    try:
        with contextlib.closing(Journal(fabric, SystemClock())) as journal:
            rows = [row for row in journal.stacks() if row.state is not StackState.GONE]
    except GrafosError as error:
        terminal.note(f"note: {error.what} ({error.where}): what it alone knows is not listed; see: grafos doctor")
        return []
    living = {name for name, record in records.items() if not record.gone_at}
    return [row for row in rows if row.stack not in living and not row.stack.startswith(SHARED_PREFIX)]


def _record_of(row: StackRow, fabric: Fabric) -> CellRecord:
    """What there is to say of such a cell; its price is 0 when nobody here knows it any more."""
    plan = row.plan
    return CellRecord(
        cell_id=row.stack,
        fabric=str(fabric.id),
        provider=row.provider,
        region=row.region,
        url="",
        rate_micro_cents_per_hour=plan.rate_micro_cents_per_hour if plan else 0,
        expires_at=plan.expires_at if plan else 0.0,
        provisioned_at=row.created_at,
        machine_type=plan.facts.offer.machine_type if plan else "unknown",
        zone=plan.facts.offer.zone if plan else "",
        emulated=plan.facts.emulated if plan else False,
        state=FOUND_AGAIN if row.state is StackState.MADE else row.state.value,
    )


@contextlib.contextmanager
def hands_of(cell_id: str, terminal: Terminal) -> Iterator[Hands]:
    """What it takes to work on a cell that the fabric knows, with its steps drawn; ``cell_unknown`` if it does not."""
    fabric = open_default(terminal)
    record = _known(fabric, cell_id, terminal)
    if record.provider == LOCAL:
        raise GrafosError("unsupported", f"{cell_id} is the local cell, on no cloud", next="grafos dev up")
    connector = open_connector(record.provider, record.region or region_at_hand(record.provider))
    with hands_for([connector], fabric) as (quiet,), show_steps(terminal) as steps:
        yield replace(quiet, progress=told_by(steps))


def _known(fabric: Fabric, cell_id: str, terminal: Terminal) -> CellRecord:
    home = CellHome(fabric, cell_id)
    begun = [] if home.is_recorded else [row for row in _unmentioned(fabric, {}, terminal) if row.stack == cell_id]
    if not begun:
        return home.record()
    undo = f"grafos cloud teardown {begun[0].provider} --cell-id {cell_id}"
    raise GrafosError(
        "cell_unknown",
        f"of {cell_id} there is no record, and the journal has it as {begun[0].state.value}",
        where=f"{begun[0].provider} {begun[0].region}",
        next=f"grafos cloud recover  finishes what was begun; {undo}  takes it down",
    )


def public_address(*, emulated: bool) -> str:
    """The address from which we are seen, asked of somebody; loopback for an emulated cloud, which is no question."""
    if emulated:
        return EMULATED_OPERATOR.partition("/")[0]
    url = value_of("my_ip_url")
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
