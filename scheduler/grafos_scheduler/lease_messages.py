"""REST bodies about leases; see ``messages`` for the others."""

from __future__ import annotations

from typing import Annotated

import msgspec

from grafos_core.revoking import GRACE_S_DEFAULT, GRACE_S_MAX


class LeaseView(msgspec.Struct, frozen=True):
    """A lease as its tenant and the operator see it. ``state`` is where it stands with the cell: asked, held, tearing,
    lapsed, fenced or clearing. ``revoke`` is how far it is on its way out, a label of ``RevokeState``; ``revoke_why``
    are the words of whoever takes it back. ``expires_at`` moves with each renewal, and so does ``generation``."""

    lease_id: str
    run_id: str
    tenant: str
    cell_id: str
    kind: str
    amount: int
    generation: int
    state: str
    revoke: str
    revoke_why: str
    expires_at: float


class LeaseList(msgspec.Struct, frozen=True):
    leases: list[LeaseView]


class LeasesQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``run_id``: only those of this run."""

    run_id: Annotated[str, msgspec.Meta(max_length=128)] = ""


class LeaseRevocation(msgspec.Struct, frozen=True):
    """``grace_s``: how long the run may go on after it was warned. ``why`` is told to the lease's tenant."""

    grace_s: Annotated[float, msgspec.Meta(ge=0, le=GRACE_S_MAX)] = GRACE_S_DEFAULT
    why: Annotated[str, msgspec.Meta(max_length=200)] = ""
