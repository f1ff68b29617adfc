"""Takes possession of the local cell: claims it, sets its terms, makes its tenant.

The operator's credentials go into the fabric's home beside the pinned CA, as with any cell, so what the cell signed
can be verified when it is long gone; the tenant's go into `.grafos/dev/trust`.
"""

from __future__ import annotations

from pathlib import Path

from grafos_cli.local_state import LocalFabric
from grafos_core import trust
from grafos_core.fabric import Fabric
from grafos_core.paths import write_private
from grafos_core.receipts import BudgetSlice
from grafos_scheduler import messages
from grafos_scheduler.client import SchedulerClient, claim

OPERATOR = "operator"
SLICE_LIFE_S = 365 * 86400
"""A local fabric costs nothing, so its tenant's slice is of nothing; it must only outlast every run."""


def take_possession(fabric: Fabric, record: LocalFabric, dev: Path, secret: bytes) -> None:
    """Claims the cell with its one-time secret and registers the tenant; called once for each fresh cell."""
    home = fabric.cell_home(record.cell_id)
    key = trust.new_key()
    grant = claim(
        record.scheduler_url,
        secret,
        fabric=fabric.id,
        fabric_key_pem=fabric.public_key_pem,
        operator=OPERATOR,
        csr_pem=trust.make_csr(key, OPERATOR),
        cell_id=record.cell_id,
    )
    write_private(home / "ca.pem", grant.ca_pem.encode())
    write_private(home / "operator-key.pem", trust.key_to_pem(key))
    write_private(home / "operator.pem", grant.certificate_pem.encode())
    write_private(home / "operator-token", grant.api_token.encode())
    with operator_client(fabric, record) as client:
        client.set_terms(messages.Terms(rate_micro_cents_per_hour=0))
        _make_tenant(fabric, record, dev, client)


def operator_client(fabric: Fabric, record: LocalFabric, patience_s: float = 0.0) -> SchedulerClient:
    """The operator's way to the local scheduler."""
    home = fabric.cell_home(record.cell_id)
    return SchedulerClient(
        record.scheduler_url,
        (home / "ca.pem").read_text(),
        home / "operator.pem",
        home / "operator-key.pem",
        (home / "operator-token").read_text(),
        patience_s=patience_s,
    )


def tenant_client(dev: Path, record: LocalFabric, patience_s: float = 0.0) -> SchedulerClient:
    """The tenant's way to the local scheduler."""
    return SchedulerClient(
        record.scheduler_url,
        (dev / record.ca).read_text(),
        dev / record.tenant_certificate,
        dev / record.tenant_key,
        (dev / record.tenant_token).read_text(),
        patience_s=patience_s,
    )


def _make_tenant(fabric: Fabric, record: LocalFabric, dev: Path, client: SchedulerClient) -> None:
    key = trust.new_key()
    nothing = BudgetSlice(
        fabric=fabric.id,
        slice_id=f"{record.cell_id}-{record.tenant}",
        scheduler=record.cell_id,
        tenant=record.tenant,
        amount_micro_cents=0,
        expires_at=record.started_at + SLICE_LIFE_S,
    )
    csr = trust.make_csr(key, record.tenant)
    grant = client.register_tenant(messages.TenantRequest(record.tenant, csr, fabric.sign(nothing)))
    write_private(dev / record.tenant_key, trust.key_to_pem(key))
    write_private(dev / record.tenant_certificate, grant.certificate_pem.encode())
    write_private(dev / record.tenant_token, grant.api_token.encode())
