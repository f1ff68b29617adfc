"""`grafos admin`: what only an operator of the fabric does."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from grafos_cli import (
    admin_accounts,
    admin_audit,
    admin_certificates,
    admin_images,
    admin_roots,
    admin_tenants,
    image_vouching,
)
from grafos_cli.taught import new_group, taught, terminal_of

if TYPE_CHECKING:
    from grafos_cli.everywhere import Everywhere
    from grafos_cli.reach import Reach
    from grafos_scheduler.client import SchedulerClient
    from grafos_scheduler.lease_messages import LeaseView

CLEARED_WITHIN_S = 5.0
"""A cell that is connected tries the teardown at once; it takes a fraction of this."""
LOOK_EVERY_S = 0.1

app = new_group(
    help="What only the operator of the fabric does: tenants with their budgets and quotas, fences, certificates.",
    examples=("grafos admin list-tenants", "grafos admin set-tenant-budget --tenant default --cents 5000"),
    next="grafos admin list-tenants",
)
for name, taught_as, act in (
    ("create-tenant", admin_tenants.CREATE, admin_tenants.create_tenant),
    ("list-tenants", admin_tenants.LIST, admin_tenants.list_tenants),
    ("set-quota", admin_tenants.QUOTA, admin_tenants.set_quota),
    ("set-tenant-budget", admin_tenants.BUDGET, admin_tenants.set_tenant_budget),
    ("set-tenant-rules", admin_tenants.RULES, admin_tenants.set_tenant_rules),
    ("delete-tenant", admin_tenants.DELETE, admin_tenants.delete_tenant),
    ("invite", admin_accounts.INVITE, admin_accounts.invite),
    ("list-accounts", admin_accounts.LIST, admin_accounts.list_accounts),
    ("revoke-account", admin_accounts.REVOKE, admin_accounts.revoke_account),
    ("audit-query", admin_audit.QUERY, admin_audit.audit_query),
    ("init-ca", admin_certificates.INIT_CA, admin_certificates.init_ca),
    ("issue-cert", admin_certificates.ISSUE_CERT, admin_certificates.issue_cert),
    ("issue-server-cert", admin_certificates.ISSUE_SERVER_CERT, admin_certificates.issue_server_cert),
    ("image-provenance", image_vouching.PROVENANCE, image_vouching.image_provenance),
):
    app.command(name, cls=taught_as)(act)
app.add_typer(admin_roots.app, name="attestation-roots")
app.add_typer(admin_images.app, name="cell-images")


class FencedLease(NamedTuple):
    """A lease whose teardown failed, the provider of its cell, and the scheduler that told of it."""

    lease: LeaseView
    provider: str
    reach: Reach


@app.command(
    "list-fenced-leases",
    cls=taught(
        examples=(
            "grafos admin list-fenced-leases",
            "grafos admin list-fenced-leases --json | jq '.leases[].lease_id'",
        ),
        next="grafos admin unfence-lease LEASE_ID",
        streams="leases",
    ),
)
def list_fenced_leases(ctx: typer.Context) -> None:
    """Lists the leases whose teardown failed on their cell.

    Nobody knows whether such a resource is still in use, so nothing new is put there until an operator has looked.
    """
    import msgspec

    from grafos_cli.everywhere import everywhere
    from grafos_cli.tables import table

    terminal = terminal_of(ctx)
    around = everywhere(terminal)
    found = _fenced(around)
    around.check_list(found)
    rows = [
        [lease.lease_id, lease.cell_id, lease.kind, str(lease.amount), lease.state, lease.tenant, lease.run_id]
        for lease, _, _ in found
    ]
    head = ("LEASE", "CELL", "KIND", "AMOUNT", "STATE", "TENANT", "RUN")
    text = table(head, rows, terminal, "   r", spare=("RUN", "TENANT")) if rows else "No lease is fenced.\n"
    document = [{**msgspec.to_builtins(each.lease), "provider": each.provider} for each in found]
    terminal.emit({"leases": document, "silent": around.documents()}, text)


@app.command(
    "unfence-lease",
    cls=taught(
        examples=("grafos admin unfence-lease LEASE_ID", "grafos admin unfence-lease LEASE_ID --json"),
        next="grafos admin list-fenced-leases",
    ),
)
def unfence_lease(
    ctx: typer.Context,
    lease_id: Annotated[str, typer.Argument(metavar="LEASE_ID", help="as list-fenced-leases prints it")],
) -> None:
    """Clears a fence, once you have looked that nothing uses the resource any more.

    The cell tries the teardown again, and what was leased is free when that goes well. Asking again is harmless.
    """
    import msgspec

    from grafos_cli.everywhere import everywhere
    from grafos_core.errors import GrafosError

    terminal = terminal_of(ctx)
    around = everywhere(terminal)
    chosen = [each for each in _fenced(around) if each.lease.lease_id == lease_id]
    if not chosen:
        unknown = GrafosError(
            "lease_unknown", f"No lease {lease_id[:80]!r} is fenced", next="grafos admin list-fenced-leases"
        )
        raise around.unless_silent(unknown)
    lease, _, reach = chosen[0]
    with reach.operator() as client:
        client.unfence_lease(lease_id)
        left = _still_fenced(client, lease_id)
    if left is not None:
        raise GrafosError(
            "fenced",
            f"Lease {lease_id} is still fenced: the teardown failed again, or cell {lease.cell_id} is not connected",
            where=reach.url,
            next=f"see to it on cell {lease.cell_id} (its log says why), then: grafos admin unfence-lease {lease_id}",
        )
    text = f"The fence is cleared: {lease.amount} of {lease.kind} on cell {lease.cell_id} are free again.\n"
    terminal.emit({"lease": msgspec.to_builtins(lease), "cleared": True}, text)


def _still_fenced(client: SchedulerClient, lease_id: str) -> LeaseView | None:
    """None as soon as the lease is listed no more, else the lease as it is after ``CLEARED_WITHIN_S``."""
    until = time.monotonic() + CLEARED_WITHIN_S
    while True:
        left = next((lease for lease in client.fenced_leases() if lease.lease_id == lease_id), None)
        if left is None or time.monotonic() > until:
            return left
        time.sleep(LOOK_EVERY_S)


def _fenced(around: Everywhere) -> list[FencedLease]:
    """What every scheduler of the fabric tells."""

    def fenced_at(reach: Reach) -> list[FencedLease]:
        with reach.operator() as client:
            fenced = client.fenced_leases()
            of = {cell.cell_id: cell.provider for cell in client.cells()} if fenced else {}
        return [FencedLease(lease, of.get(lease.cell_id, reach.provider), reach) for lease in fenced]

    return [lease for _, leases in around.ask(fenced_at) for lease in leases]
