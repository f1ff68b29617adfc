"""Whether a run was asked for by who pays for it: the order that a person of its tenant signed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from grafos_core import trust
from grafos_core.errors import GrafosError
from grafos_core.receipts import RunOrder, RunReceipt, open_signed
from grafos_stacks.orchestrators import OrchestratorHome
from grafos_stacks.records import tenant_name

if TYPE_CHECKING:
    from grafos_core.fabric import Fabric
    from grafos_scheduler.account_messages import AccountView
    from grafos_scheduler.messages import Artifacts

KEY_DIGITS = 16
"""Of a signing key's fingerprint, as people see it."""


class Check(NamedTuple):
    """One thing that was verified, and how."""

    name: str
    how: str


def order_checks(left: Artifacts, receipt: RunReceipt, fabric: Fabric) -> list[Check]:
    """What the order of a run at an orchestrator proves, if there is one. ``order_refused`` for one that does not hold,
    and for none where this home registered a signing key before: then nobody of the tenant asked for the run."""
    ours = OrchestratorHome(fabric).verified(tenant_name(left.run.tenant))
    if left.order is None:
        if ours is not None and left.run.created_at > ours.verified_at:
            raise _refused(f"Run {left.run.run_id} bears no order of anybody of tenant {left.run.tenant}")
        return []
    key = trust.public_key_from_pem(left.signing_key_pem)
    try:
        order = open_signed(left.order, RunOrder, key)
    except GrafosError as error:
        raise _refused("The order of the run is not signed by the key that it came with") from error
    signed = (order.fabric, order.tenant, order.provider, order.module_sha256, order.input_sha256, order.tasklet)
    seen = (
        receipt.fabric,
        receipt.tenant,
        receipt.provider,
        receipt.module_sha256,
        receipt.input_sha256,
        receipt.tasklet,
    )
    if signed != seen:
        raise _refused("The order is for another run than the one that the cell signed for")
    return [Check("order", f"signed by {_whose(left, ours)}, under run key {order.run_key[:KEY_DIGITS]}…")]


def _whose(left: Artifacts, ours: AccountView | None) -> str:
    shown = trust.key_sha256(trust.public_key_from_pem(left.signing_key_pem))[:KEY_DIGITS]
    if ours is not None and ours.signing_key_pem == left.signing_key_pem:
        return f"you (key {shown}…)"
    if ours is not None and left.run.signed_by == f"{ours.tenant}/{ours.name}":
        raise _refused("The order is said to be yours, and is signed by another key than the one that you registered")
    return f"{left.run.signed_by} (key {shown}…, by the orchestrator's word)"


def _refused(what: str) -> GrafosError:
    return GrafosError("order_refused", what, next="do not pay for it; ask the orchestrator's operator")
