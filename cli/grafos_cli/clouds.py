"""The cells on clouds that the fabric knows: all of them in a list, or one to be worked on."""

from __future__ import annotations

import contextlib
import ipaddress
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from grafos_cli.accounts import ABSENT, ALL, hands_for, told_by
from grafos_cli.every_cloud import Question, look_around, tell_failures
from grafos_cli.fabric import open_default
from grafos_cli.regions import region_at_hand
from grafos_cli.settings import value_of
from grafos_cli.steps import show_steps
from grafos_connectors.registry import open_connector
from grafos_core.clock import SystemClock
from grafos_core.errors import GrafosError
from grafos_stacks.direct import Hands
from grafos_stacks.journal import Journal, StackRow, StackState
from grafos_stacks.looking import is_known, journal_record, shown_of, state_of, way_on
from grafos_stacks.records import CellHome, CellRecord
from grafos_stacks.spec import is_cell

if TYPE_CHECKING:
    from grafos_cli.terminal import Terminal
    from grafos_connectors.contract import Connector
    from grafos_core.fabric import Fabric
    from grafos_stacks.progress import Progress

EMULATED_OPERATOR = "127.0.0.1/32"
LOCAL = "local"
MY_IP_TIMEOUT_S = 10.0


def cells_of_fabric(terminal: Terminal) -> list[tuple[CellRecord, str]]:
    """The cells on clouds that the fabric knows, the newest first, each with where it is in its life."""
    fabric = open_default(terminal)
    homes = [CellHome(fabric, cell_id) for cell_id in fabric.cell_ids()]
    records = {home.cell_id: home.record() for home in homes if home.is_recorded}
    rows = {row.stack: row for row in _living_rows(fabric, terminal)}
    for name, row in rows.items():
        if name not in records or records[name].gone_at:
            records[name] = journal_record(row, fabric)
    on_clouds = [record for record in records.values() if record.provider != LOCAL]
    newest_first = sorted(on_clouds, key=lambda record: -record.provisioned_at)
    return [(record, state_of(record, rows.get(record.cell_id), time.time())) for record in newest_first]


def _living_rows(fabric: Fabric, terminal: Terminal) -> list[StackRow]:
    """The cells that the journal knows and that are not gone."""
    if not (fabric.home / "journal.db").exists():
        return []
    try:
        with contextlib.closing(Journal(fabric, SystemClock())) as journal:
            rows = [row for row in journal.stacks() if row.state is not StackState.GONE]
    except GrafosError as error:
        terminal.note(f"note: {error.what} ({error.where}): what it alone knows is not listed; see: grafos doctor")
        return []
    return [row for row in rows if is_cell(row.stack)]


@contextlib.contextmanager
def hands_of(cell_id: str, terminal: Terminal) -> Iterator[Hands]:
    """What it takes to change a cell that the fabric knows, with its steps drawn; ``cell_unknown`` if it does not."""
    fabric = open_default(terminal)
    row = _begun(fabric, cell_id, terminal)
    if row is not None:
        with contextlib.closing(Journal(fabric, SystemClock())) as journal:
            following = way_on(journal, cell_id, row)
        raise GrafosError(
            "cell_unknown",
            f"of {cell_id} there is no record, and the journal has it as {row.state.value}",
            where=f"{row.provider} {row.region}",
            next=following,
        )
    record = CellHome(fabric, cell_id).record()
    with _working_on(fabric, record.provider, record.region, terminal) as hands:
        yield hands


@contextlib.contextmanager
def hands_to_look(cell_id: str, terminal: Terminal) -> Iterator[tuple[Hands, str]]:
    """What it takes to look at a cell, and its region. One that nothing here knows is looked for in every cloud;
    ``cell_unknown`` if none shows it."""
    fabric = open_default(terminal)
    home = CellHome(fabric, cell_id)
    row = _begun(fabric, cell_id, terminal)
    if row is not None:
        provider, region = row.provider, row.region
    elif home.is_recorded:
        provider, region = home.record().provider, home.region()
    else:
        provider, region = _found_in_clouds(fabric, cell_id, terminal)
    with _working_on(fabric, provider, region, terminal) as hands:
        yield hands, region


def cloud_of(fabric: Fabric, cell_id: str, terminal: Terminal) -> str:
    """The cloud of a cell that lives as far as this home knows; "" for any other."""
    home, row = CellHome(fabric, cell_id), _begun(fabric, cell_id, terminal)
    if row is not None:
        return row.provider
    return home.record().provider if home.is_recorded and not home.record().gone_at else ""


@contextlib.contextmanager
def _working_on(fabric: Fabric, provider: str, region: str, terminal: Terminal) -> Iterator[Hands]:
    if provider == LOCAL:
        raise GrafosError("unsupported", "that is the local cell, on no cloud", next="see: grafos dev doctor")
    connector = open_connector(provider, region or region_at_hand(provider))
    with hands_for([connector], fabric) as (quiet,), show_steps(terminal, waiting=f"asking {provider}") as steps:
        yield replace(quiet, progress=told_by(steps))


def _begun(fabric: Fabric, cell_id: str, terminal: Terminal) -> StackRow | None:
    """The journal's row of a cell that lives and has no record: begun and without a machine so far, or found again by
    its tags."""
    row = next((row for row in _living_rows(fabric, terminal) if row.stack == cell_id), None)
    return None if is_known(CellHome(fabric, cell_id), row) else row


def _found_in_clouds(fabric: Fabric, cell_id: str, terminal: Terminal) -> tuple[str, str]:
    """The cloud and the region that show something of it."""

    def ask(connector: Connector, progress: Progress) -> list[str]:
        with hands_for([connector], fabric) as (hands,):
            return sorted({one.ref.region for one in shown_of(replace(hands, progress=progress), cell_id)})

    question = Question(ask, lambda regions: f"found in {', '.join(regions)}" if regions else "nothing of it")
    try:
        around = look_around(ALL, question, terminal)
    except GrafosError as error:
        if error.code in ABSENT:
            CellHome(fabric, cell_id).record()
        raise
    places = [(cloud.connector.provider, region) for cloud in around.clouds for region in cloud.found]
    if not places:
        tell_failures(around.failures, terminal)
        asked = ", ".join(cloud.connector.provider for cloud in around.clouds)
        raise GrafosError(
            "cell_unknown",
            f"there is no record of cell {cell_id!r}, and nothing of it in any region of {asked}",
            why=", ".join(f"{provider} could not be asked" for provider, _ in around.failures),
            next="see: grafos cloud ls",
        )
    for provider, region in places[1:]:
        terminal.note(f"note: a cell of that name is also on {provider} in {region}")
    return places[0]


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
