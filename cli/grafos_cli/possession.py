"""Takes possession of the local cell, as of any standalone cell: claim, terms, tenant, readiness.

The credentials go into the fabric's home beside the pinned CA, so what the cell signed can be verified when it is
long gone.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from grafos_cli.cancelling import UNDER_WAY
from grafos_cli.local_state import LocalFabric
from grafos_core.clock import SystemClock
from grafos_core.fabric import Fabric, tenant_account
from grafos_core.ledger import Hold
from grafos_scheduler.messages import Terms
from grafos_stacks.handover import Handover, Possession, take_over
from grafos_stacks.homecoming import bring_home
from grafos_stacks.records import OPERATOR, CellHome, CellRecord, tenant_name

SLICE_LIFE_S = 10 * 365 * 86400
"""A local fabric costs nothing, so its tenant's slice is of nothing; it must only outlast every run."""
ASK_EVERY_S_MAX = 0.01
"""Everything is on this machine: asking often costs less than waiting."""


def take_possession(fabric: Fabric, record: LocalFabric, secret: bytes, check_alive: Callable[[], str]) -> None:
    """Makes the cell ours and ready; every step asks first whether it was done before. ``check_alive`` raises when a
    daemon ended."""
    home = CellHome(fabric, record.cell_id)
    nothing = Hold(
        hold_id=f"{record.cell_id}-{record.tenant}",
        account=tenant_account(record.tenant),
        amount_micro_cents=0,
        purpose="local runs cost nothing",
        expires_at=record.started_at + SLICE_LIFE_S,
    )

    def soon(seconds: float) -> None:
        check_alive()
        time.sleep(min(seconds, ASK_EVERY_S_MAX))

    handover = Handover(fabric, home, record.scheduler_url, SystemClock(), soon, console=check_alive)
    take_over(handover, Possession(secret, OPERATOR, Terms(rate_micro_cents_per_hour=0), record.tenant, nothing))
    home.keep_record(_cell_record(record))


def bring_home_from(
    fabric: Fabric, record: LocalFabric, patience_s: float, announce: Callable[[str], object]
) -> tuple[int, tuple[str, ...]]:
    """Closes admission, waits for what runs, keeps every run in the fabric's home; how many, and none but those that
    have not ended within ``patience_s``: while there is one, nothing is settled."""
    home = CellHome(fabric, record.cell_id)
    with home.client(OPERATOR, record.scheduler_url) as client:
        until = time.monotonic() + patience_s
        if running := client.drain().running:
            announce(f"waiting up to {patience_s:g} s for {running} run{'' if running == 1 else 's'} to end")
        while client.drain().running and time.monotonic() < until:
            time.sleep(ASK_EVERY_S_MAX)
        left = tuple(view.run_id for view in client.all_runs() if view.state in UNDER_WAY)
        if left:
            return 0, left
        return bring_home(fabric, home, client, SystemClock(), time.sleep).runs, ()


def reopen(fabric: Fabric, record: LocalFabric) -> None:
    """Lets the cell admit runs again."""
    with CellHome(fabric, record.cell_id).client(OPERATOR, record.scheduler_url) as client:
        client.drain(draining=False)


def note_gone(fabric: Fabric, record: LocalFabric) -> None:
    """The cell has ended; its pinned CA stays, so that its receipts can be verified."""
    home = CellHome(fabric, record.cell_id)
    home.forget_credentials()
    home.keep_record(_cell_record(record, gone_at=time.time()))


def credential_files(fabric: Fabric, record: LocalFabric) -> dict[str, str]:
    """Where the tenant's certificate, key and token are."""
    folder, who = fabric.cell_home(record.cell_id), tenant_name(record.tenant)
    return {f"tenant_{what}": str(folder / f"{who}-{file}") for what, file in _FILES.items()}


_FILES = {"certificate": "cert.pem", "key": "key.pem", "token": "token"}


def _cell_record(record: LocalFabric, gone_at: float = 0.0) -> CellRecord:
    return CellRecord(
        cell_id=record.cell_id,
        fabric=record.fabric,
        provider="local",
        region="local",
        url=record.scheduler_url,
        rate_micro_cents_per_hour=0,
        expires_at=0.0,
        provisioned_at=record.started_at,
        tenant=record.tenant,
        gone_at=gone_at,
    )
