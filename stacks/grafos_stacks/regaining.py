"""How this home gets into a standalone cell that another home of the fabric made and that is lost: by the fabric's key.

Its machine is found by its signed tags, and its scheduler lets the holder of the key in and the home before out. What
was spent there until then is settled and booked here, and the tenant gets a slice of this home's ledger in place of
those before, of which this ledger may know nothing. It may be interrupted anywhere and repeated.
"""

from __future__ import annotations

import math
from pathlib import Path

import msgspec

from grafos_connectors.contract import Found, Kind, State
from grafos_core import trust
from grafos_core.errors import GrafosError
from grafos_core.ledger import Hold
from grafos_scheduler.client import SchedulerClient
from grafos_scheduler.messages import CellView
from grafos_stacks.bill import DEAD_MAN_GRACE_S
from grafos_stacks.claiming import regained
from grafos_stacks.direct import Hands
from grafos_stacks.handover import Handover, SliceWanted, hold_slice
from grafos_stacks.homecoming import settle_so_far
from grafos_stacks.looking import is_known, living_row, shown_of
from grafos_stacks.names import expiry_in
from grafos_stacks.orchestrators import DEFAULT_TENANT
from grafos_stacks.progress import BEGUN, DONE, Step
from grafos_stacks.records import OPERATOR, READY, CellHome, CellRecord, add_to_project, tenant_name
from grafos_stacks.recovery import made_at
from grafos_stacks.spec import CELL_PORT, PATTERNS, STANDALONE

REACH_PATIENCE_S = 5.0
HOUR_S = 3600
PUT_OUT = ("operator_replaced", "certificate_refused", "certificate_expired", "token_refused", "token_expired")
"""How a cell answers a home whose credentials for it are worth nothing any more."""


def regain_cell(hands: Hands, cell_id: str, project: Path, port: int = 0) -> CellRecord:
    """A cell that obeys this home, and its record; the same outcome however often it is repeated. ``port`` is where its
    scheduler answers if neither the journal nor the default tells.

    ``cell_unknown`` for one that the journal does not know, ``unsupported`` for one that is no standalone cell,
    ``cell_gone`` without a running machine, ``scheduler_unreachable``, ``claim_refused`` where the fabric's key opens
    nothing.
    """
    with hands.journal.lock(cell_id):
        home, machine, url = _place_of(hands, cell_id, port)
        began = hands.clock.monotonic()
        hands.progress(Step("claim", BEGUN, 0.0, f"at {url}"))
        _enter(hands, home, machine, url)
        hands.progress(Step("claim", DONE, hands.clock.monotonic() - began))
        with home.client(OPERATOR, url, patience_s=REACH_PATIENCE_S) as client:
            [cell] = client.cells()
            if not home.is_granted(tenant_name(DEFAULT_TENANT)):
                _register(hands, home, client, cell, machine, url)
        record = _record_of(hands, home, machine, cell, url)
        home.keep_record(record)
        add_to_project(project, record)
        return record


def _place_of(hands: Hands, cell_id: str, port: int) -> tuple[CellHome, Found, str]:
    """The cell's folder here, its machine as the cloud shows it, and where its scheduler answers."""
    home, row = CellHome(hands.fabric, cell_id), living_row(hands.journal, cell_id)
    if row is None:
        raise GrafosError(
            "cell_unknown",
            f"the journal knows no cell {cell_id!r} that lives",
            next="take what is there into it: grafos cloud recover   then this again",
        )
    if PATTERNS.get(row.provider) != STANDALONE or (row.plan is not None and row.plan.spec.pattern != STANDALONE):
        raise GrafosError(
            "unsupported",
            f"{cell_id} is no standalone cell: whoever is the operator of its orchestrator is that of the cell",
            next="grafos fabric claim URL",
        )
    machines = [one for one in shown_of(hands, cell_id, row.region) if one.ref.kind is Kind.MACHINE]
    running = [one for one in machines if one.state is State.READY]
    address = running[0].attributes.get("public_ip") or running[0].attributes.get("private_ip") if running else ""
    if not address:
        raise GrafosError(
            "cell_gone",
            f"{cell_id} has no machine that runs",
            where=f"{row.provider} {row.region}",
            next=f"grafos cloud teardown {row.provider} --cell-id {cell_id}",
        )
    return home, running[0], f"https://{address}:{port or (row.plan.spec.port if row.plan else CELL_PORT)}"


def _enter(hands: Hands, home: CellHome, machine: Found, url: str) -> None:
    """As its operator; whose credentials are good already stays who it is."""
    if _obeys(home, url):
        return
    if home.folder.is_dir():
        home.forget_credentials()
    fabric = hands.fabric
    try:
        context = trust.visitor_context(str(fabric.id), fabric.key, hands.clock.now())
        granted = regained(fabric, home, url, home.cell_id, context)
    except GrafosError as error:
        if error.code == "scheduler_unreachable":
            error.next = _let_in(hands, home.cell_id, machine, url)
        raise
    home.pin_ca(granted.ca_pem)
    home.keep_grant(OPERATOR, granted.certificate_pem, granted.api_token)


def _obeys(home: CellHome, url: str) -> bool:
    if not home.is_granted(OPERATOR):
        return False
    try:
        with home.client(OPERATOR, url, patience_s=REACH_PATIENCE_S) as client:
            client.cells()
    except GrafosError as error:
        if error.code not in PUT_OUT:
            raise
        return False
    return True


def _let_in(hands: Hands, cell_id: str, machine: Found, url: str) -> str:
    """Its port is open to one address, that of the home before."""
    rows = hands.journal.resources(cell_id).values()
    firewalls = ", ".join(row.ref.id for row in rows if row.kind is Kind.FIREWALL and row.ref is not None)
    return (
        f"its port is open to the address of the home before: let yours in to {url.rpartition(':')[2]} in the console "
        f"of {hands.connector.provider} (firewall {firewalls or 'of ' + machine.ref.id}), then this again; another "
        "port: --port N"
    )


def _register(hands: Hands, home: CellHome, client: SchedulerClient, cell: CellView, machine: Found, url: str) -> None:
    """The slices before are closed and booked for what was spent of them; each time the tenant gets another one."""
    settlements = settle_so_far(hands.fabric, home, client)
    budget = _slice(hands, home, cell, f"slice-{home.cell_id}-{machine.ref.id}-{len(settlements) + 1}")
    handover = Handover(hands.fabric, home, url, hands.clock, hands.sleep, console=str, progress=hands.progress)
    handover.register_tenant(client, DEFAULT_TENANT, budget)


def _slice(hands: Hands, home: CellHome, cell: CellView, slice_id: str) -> Hold:
    """For what the cell can be asked to run until it ends."""
    left_s = max(0.0, cell.expires_at - hands.clock.now())
    wanted = SliceWanted(
        slice_id=slice_id,
        scheduler=home.cell_id,
        tenant=DEFAULT_TENANT,
        most_micro_cents=math.ceil(cell.rate_micro_cents_per_hour * left_s / HOUR_S),
        expires_at=cell.expires_at + DEAD_MAN_GRACE_S,
    )
    return hold_slice(hands.fabric, hands.clock, wanted)


def _record_of(hands: Hands, home: CellHome, machine: Found, cell: CellView, url: str) -> CellRecord:
    if is_known(home, living_row(hands.journal, home.cell_id)):
        return msgspec.structs.replace(home.record(), url=url, state=READY)
    return CellRecord(
        cell_id=home.cell_id,
        fabric=str(hands.fabric.id),
        provider=hands.connector.provider,
        region=machine.ref.region,
        url=url,
        rate_micro_cents_per_hour=cell.rate_micro_cents_per_hour,
        expires_at=float(expiry_in(machine.tags)) or cell.expires_at,
        provisioned_at=made_at(machine, hands.clock.now()),
        machine_type=machine.attributes.get("machine_type", ""),
        machine_id=machine.ref.id,
        zone=machine.ref.zone,
        emulated=hands.identity().emulated,
        tenant=DEFAULT_TENANT,
    )
