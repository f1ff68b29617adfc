"""Whether a run was ordered by a person of its tenant: what nobody of a tenant signed is not run at its cost.

From the first signing key that any of a tenant's people registers on, all that is to run at the tenant's cost is signed
by the person who asks for it. It stays so when the last of them has gone: whoever can put a person out, or has her key,
must not gain by it that runs need no key. Only an operator lifts it (``accounts.changed``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from grafos_core import trust
from grafos_core.errors import GrafosError
from grafos_core.receipts import RunOrder, open_signed
from grafos_scheduler import people, tenants
from grafos_scheduler.events import Ordered
from grafos_scheduler.ordering import order_of

if TYPE_CHECKING:
    from grafos_scheduler.messages import RunRequest
    from grafos_scheduler.state import State

ORDER_AGE_S_MAX = 900.0
"""How old an order may be when it arrives, and how far the clock of whoever signed it may be ahead. An order is worth
nothing later, when its run key may have been forgotten."""
ORDER_BYTES_MAX = 4096
"""An order has about eight hundred bytes; each is kept with its run."""
VERIFY = "register a signing key: grafos account verify"


def check_order(state: State, tenant: str, key_sha256: str, asked: RunRequest, now: float) -> Ordered | None:
    """The order that came with the request of whoever has this key, verified; None where the tenant's runs need none.

    ``order_refused`` for one that is lacking, or does not say what is asked for.
    """
    is_signed = _must_sign(state, tenant)
    if not is_signed and asked.order is None:
        return None
    person = people.signing(state, tenant).get(key_sha256)
    if person is None:
        whose = (
            f"the runs of tenant {tenant} are signed by whoever asks, and" if is_signed else "the run is signed, but"
        )
        raise _refused(f"{whose} no signing key is registered for this account", VERIFY)
    if asked.order is None:
        raise _refused(f"the run is not signed by {people.text_of(tenant, person.name)}", VERIFY)
    if len(asked.order.body) > ORDER_BYTES_MAX or asked.order.certificate_pem:
        raise _refused("the order is too long to be one, or bears a certificate", "sign the request that is sent")
    try:
        said = open_signed(asked.order, RunOrder, trust.public_key_from_pem(person.signing_key_pem))
    except GrafosError as error:
        what = f"the order is not signed with the key that {people.text_of(tenant, person.name)} registered"
        raise _refused(what, "sign with that key, or log out and sign in anew", error.what) from error
    _check_said(state, said, tenant, asked, now)
    return Ordered(people.text_of(tenant, person.name), person.signing_key_pem, asked.order)


def _must_sign(state: State, tenant: str) -> bool:
    known = state.tenants.get(tenant)
    return known is not None and tenants.must_sign(state, known)


def _check_said(state: State, said: RunOrder, tenant: str, asked: RunRequest, now: float) -> None:
    fabric = state.claim.fabric if state.claim else ""
    wanted = order_of(fabric, state.settings.scheduler, tenant, asked, said.signed_at)
    if replace(said, version=wanted.version) != wanted:
        other = [name for name in said.__struct_fields__ if getattr(said, name) != getattr(wanted, name)]
        raise _refused(f"what was signed is not what is asked for: {', '.join(other)}", "sign the request that is sent")
    off_s = now - said.signed_at
    if abs(off_s) > ORDER_AGE_S_MAX:
        when = f"{off_s:.0f} s ago" if off_s > 0 else f"{-off_s:.0f} s from now"
        raise _refused(f"the order was signed {when}, by the orchestrator's clock", "set this machine's clock")


def _refused(what: str, next: str, why: str = "") -> GrafosError:
    return GrafosError("order_refused", what, why=why, next=next)
