"""The frames of the cell link (msgpack, see ``framing``), checked once on entry.

The cell dials, says ``Hello`` and gets ``Welcome`` or ``Goodbye``.
Unknown fields are ignored, so that a newer peer may add some; an unknown frame type ends the link.
"""

from __future__ import annotations

import msgspec

from grafos_core.receipts import Signed
from grafos_core.resources import Resources
from grafos_scheduler.frame_parts import Id, Ids, LeaseId
from grafos_scheduler.messages import PROTOCOL_MAX, PROTOCOL_MIN, Hex256, Hex256OrNone, Name, Text
from grafos_scheduler.region_frames import RegionAnswer, RegionCall
from grafos_scheduler.service_frames import ServiceDown, ServiceUp

LINK_ALPN = "grafos-link/1"

# --- up ---------------------------------------------------------------------------------------------------------


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """``boot_epoch`` grows at every start of the cell's daemon; ``unacknowledged`` are the ended runs that it still
    keeps and reports next; ``fenced`` are the leases whose teardown failed. ``api_token`` is bound to the certificate
    of the link, as beside any REST call. ``instance`` is drawn at each start: two machines with copies of one disk
    count the same starts, and differ in it (empty: a cell that does not say)."""

    cell_id: Name
    boot_epoch: int
    agent_version: Text
    api_token: Text = ""
    unacknowledged: Ids = ()
    fenced: Ids = ()
    protocol_min: int = PROTOCOL_MIN
    protocol_max: int = PROTOCOL_MAX
    instance: Id = ""


class Heartbeat(msgspec.Struct, frozen=True, tag="heartbeat"):
    """Also carries what is leased at the cell, as the cell sees it."""

    leased: Resources
    fenced: Ids = ()


class LeaseGranted(msgspec.Struct, frozen=True, tag="lease_granted"):
    """The broker made the lease durable and minted a token for it."""

    lease_id: Id
    generation: int
    token: Text


class LeaseRefused(msgspec.Struct, frozen=True, tag="lease_refused"):
    lease_id: Id
    generation: int
    code: Id
    what: str


class LeaseTornDown(msgspec.Struct, frozen=True, tag="lease_torn_down"):
    """The binding is gone. ``fenced``: tearing down failed, nothing new may land there."""

    lease_id: Id
    generation: int
    fenced: bool = False


class LeaseRevoked(msgspec.Struct, frozen=True, tag="lease_revoked"):
    """How far a revocation has come at the cell: ``state`` is a label of ``RevokeState``. ``LeaseTornDown`` follows."""

    lease_id: Id
    generation: int
    state: Id


class RunStarted(msgspec.Struct, frozen=True, tag="run_started"):
    """The run is durable at the cell and its worker goes ahead; from here on it is not started again anywhere."""

    run_id: Id


class BlobWanted(msgspec.Struct, frozen=True, tag="blob_wanted"):
    sha256: Hex256


class RunEnded(msgspec.Struct, frozen=True, tag="run_ended"):
    """Kept by the cell, and sent again after every reconnect, until it is acknowledged."""

    run_id: Id
    code: Id  # "finished" or an error code
    what: str
    fuel_used: int
    response_json: str
    output: bytes
    log: str
    receipt: Signed  # of a RunReceipt


# --- down -------------------------------------------------------------------------------------------------------


class Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    protocol: int
    heartbeat_every_s: float


class Goodbye(msgspec.Struct, frozen=True, tag="goodbye"):
    """The scheduler ends the link, and why; with ``version_unsupported`` the cell does not dial again at once.
    ``leader``, with ``not_leader``, is the address to dial instead."""

    code: str
    what: str
    leader: str = ""


class GrantLease(msgspec.Struct, frozen=True, tag="grant_lease"):
    """Asks the broker for a lease, or in its next generation renews it. The same generation is granted once. A
    ``shared`` one is of no run: a region of memory that runs attach to."""

    lease_id: LeaseId
    generation: int
    tenant: str
    kind: str  # "cpu" | "mem" | "block" | "gpu" | "net" | "listener", whose amount is a port
    amount: int
    expires_at: float
    shared: bool = False


class StartRun(msgspec.Struct, frozen=True, tag="start_run"):
    """Starts a run under its leases' tokens. A run id that the cell has seen is not started again."""

    run_id: str
    tenant: str
    provider: str
    region: str
    tasklet: str
    module_sha256: Hex256
    input_sha256: Hex256OrNone
    fuel: int
    memory_bytes: int
    deadline_s: float
    tokens: tuple[str, ...]
    program: str = ""


class BlobData(msgspec.Struct, frozen=True, tag="blob_data"):
    """``found`` false: the scheduler has no such blob."""

    sha256: Hex256
    found: bool
    data: bytes = b""


class RunEndedNoted(msgspec.Struct, frozen=True, tag="run_ended_noted"):
    """The end of the run is durable at the scheduler; the cell may forget it."""

    run_id: str


class TearDownLease(msgspec.Struct, frozen=True, tag="tear_down_lease"):
    """Ends the lease, and with it a run that still stands on it. Answered by ``LeaseTornDown``, however often asked."""

    lease_id: str
    generation: int


class RevokeLease(msgspec.Struct, frozen=True, tag="revoke_lease"):
    """Takes the lease from its holder, after a grace of ``grace_s``. Told by ``LeaseRevoked`` at each step."""

    lease_id: str
    generation: int
    grace_s: float


class ClearFence(msgspec.Struct, frozen=True, tag="clear_fence"):
    """An operator has looked: the teardown that failed is tried again. Answered by ``LeaseTornDown``."""

    lease_id: str
    generation: int


UpFrame = (
    Hello
    | Heartbeat
    | LeaseGranted
    | LeaseRefused
    | LeaseTornDown
    | LeaseRevoked
    | RunStarted
    | BlobWanted
    | RunEnded
    | RegionCall
    | RegionAnswer
    | ServiceUp
)
DownFrame = (
    Welcome
    | Goodbye
    | GrantLease
    | StartRun
    | BlobData
    | RunEndedNoted
    | TearDownLease
    | RevokeLease
    | ClearFence
    | RegionCall
    | RegionAnswer
    | ServiceDown
)
