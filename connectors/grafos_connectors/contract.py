"""The connector contract: all that grafos ever asks of a cloud.

It is small, synchronous and thread-safe. Nothing in it sleeps or waits for a cloud to finish: a change is *begun* and
gives an ``Operation``, plain data that its caller makes durable before anyone asks ``poll`` how it went. Every call
has a deadline of its own inside the connector. Every failure is a ``CloudError``; no type of an SDK leaves its folder.

One ``begin_create`` is one changing call of the cloud, so that a crash can only fall before or after it. What a cloud
makes in several calls (a gateway, its attachment, the route through it) is several kinds here.

``docs/decisions/connector-contract.md`` maps each operation and each kind to the calls of the three clouds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec
from grafos_core.errors import GrafosError

Scalar = str | int | bool


class Kind(StrEnum):
    """The kinds of cloud resources that a stack consists of."""

    GROUP = "group"
    NETWORK = "network"
    SUBNET = "subnet"
    GATEWAY = "gateway"
    GATEWAY_ATTACHMENT = "gateway_attachment"
    ROUTE = "route"
    FIREWALL = "firewall"
    FIREWALL_RULE = "firewall_rule"
    ADDRESS = "address"
    NIC = "nic"
    DISK = "disk"
    MACHINE = "machine"
    DEADLINE = "deadline"


class State(StrEnum):
    """What a cloud says of a resource, in our words. ``GONE`` also for one that the cloud never had."""

    PENDING = "pending"
    READY = "ready"
    STOPPED = "stopped"
    DELETING = "deleting"
    FAILED = "failed"
    GONE = "gone"


class Desired(msgspec.Struct, frozen=True):
    """One resource to be made, with no choice left in it.

    ``key`` is its identity (32 hex); names and tags come from it. ``needs`` maps a role ("network", "subnet",
    "firewall", "gateway") to the cloud's id of a resource that exists already. ``inputs`` are per kind, as the
    decision page lists them. ``tags`` go into the create call itself.
    """

    key: str
    kind: Kind
    name: str
    region: str
    zone: str = ""
    needs: Mapping[str, str] = {}
    inputs: Mapping[str, Scalar] = {}
    tags: Mapping[str, str] = {}


class Ref(msgspec.Struct, frozen=True):
    """Where a resource is found again: the cloud's id, and for kinds without an id of their own what they hang on.

    ``needs`` and ``inputs`` are those of the ``Desired`` that made it; only kinds without own id read them.
    """

    key: str
    kind: Kind
    id: str
    region: str
    zone: str = ""
    needs: Mapping[str, str] = {}
    inputs: Mapping[str, Scalar] = {}


class Found(msgspec.Struct, frozen=True):
    """What the cloud told about one resource at one moment.

    ``attributes`` are per kind, all strings; of a machine: ``public_ip``, ``private_ip``, ``machine_type``,
    ``image_id``, ``reason`` (the cloud's words when it failed or stopped). ``billable``: it costs by existing.
    """

    ref: Ref
    state: State
    tags: Mapping[str, str] = {}
    attributes: Mapping[str, str] = {}
    billable: bool = False


class Operation(msgspec.Struct, frozen=True):
    """A change under way, as data that survives the process. ``handle`` is the cloud's own token, up to 64 KiB."""

    verb: str  # "create" | "delete"
    ref: Ref
    handle: str = ""
    began_at: float = 0.0


class Pending(msgspec.Struct, frozen=True, tag="pending"):
    """Not finished; asking again before ``again_after_s`` seconds is of no use."""

    again_after_s: float
    found: Found | None = None


class Done(msgspec.Struct, frozen=True, tag="done"):
    """Finished. ``found`` is what exists now; after a delete it is ``None``, seen gone by a read."""

    found: Found | None = None


class CloudError(GrafosError):
    """A cloud's refusal in our words. The code's class decides what is tried next.

    ``cloud_capacity`` (with ``alternatives``: zones that the cloud offers) · ``cloud_quota`` · ``cloud_throttled``
    (with ``retry_after_s``) · ``cloud_auth`` · ``cloud_denied`` · ``cloud_conflict`` · ``cloud_not_found`` ·
    ``cloud_in_use`` · ``cloud_invalid`` · ``cloud_unreachable`` · ``cloud_unknown``, which fails closed and keeps the
    cloud's own words. ``ambiguous``: the call may have had its effect (a lost answer); only a read can tell.
    """

    def __init__(
        self,
        code: str,
        what: str,
        *,
        where: str = "",
        why: str = "",
        next: str = "",
        cloud_code: str = "",
        request_id: str = "",
        alternatives: Sequence[str] = (),
        retry_after_s: float = 0.0,
        ambiguous: bool = False,
    ) -> None:
        context = {
            "cloud_code": cloud_code,
            "cloud_request_id": request_id,
            "alternatives": list(alternatives),
            "retry_after_s": retry_after_s,
        }
        super().__init__(code, what, where=where, why=why, next=next, context=context)
        self.cloud_code = cloud_code
        self.request_id = request_id
        self.alternatives = tuple(alternatives)
        self.retry_after_s = retry_after_s
        self.ambiguous = ambiguous


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """Ended badly; ``error`` is a ``CloudError``'s wire form, so that the outcome too is plain data."""

    error: Mapping[str, object]
    found: Found | None = None


Progress = Pending | Done | Failed


class Identity(msgspec.Struct, frozen=True):
    """Who the credentials are: ``account`` (account, project or subscription id) and ``principal`` in the cloud's words."""

    provider: str
    account: str
    principal: str
    emulated: bool


class Offer(msgspec.Struct, frozen=True):
    """A machine type that a zone offers."""

    region: str
    zone: str
    machine_type: str
    arch: str  # "amd64" | "arm64"
    cpu_cores: int
    mem_bytes: int
    gpu_count: int = 0


class Price(msgspec.Struct, frozen=True):
    """Prices of one machine type in one region, in micro-cents; ``fictional`` when an emulator says them."""

    region: str
    machine_type: str
    machine_per_hour: int
    disk_per_gib_month: int
    address_per_hour: int
    source: str
    as_of: str
    fictional: bool


class Quota(msgspec.Struct, frozen=True):
    """A limit of the account. ``limit`` or ``used`` is None where the cloud does not say."""

    name: str
    unit: str
    limit: int | None
    used: int | None


class Image(msgspec.Struct, frozen=True):
    """A machine image to start from. ``python`` is the version of its system Python, "3.13"."""

    id: str
    name: str
    arch: str
    python: str


class Scope(msgspec.Struct, frozen=True):
    """What ``list`` looks at: all resources that bear the fabric's tag in these regions; empty means every region."""

    fabric: str
    regions: tuple[str, ...] = ()


class Connector(Protocol):
    """One cloud account, as grafos sees it. All methods may raise ``CloudError``; none sleeps or retries a create."""

    provider: str

    def identity(self) -> Identity:
        """Who we are; also the check that credentials and endpoint belong together."""
        ...

    def offers(self, region: str, machine_type: str = "", arch: str = "") -> tuple[Offer, ...]:
        """What the region's zones offer, narrowed by type and architecture; empty when nothing fits."""
        ...

    def price(self, region: str, machine_type: str) -> Price:
        """The on-demand price, or ``price_missing``."""
        ...

    def quotas(self, region: str) -> tuple[Quota, ...]:
        """The limits that a new machine counts against."""
        ...

    def missing_permissions(self, region: str, actions: Sequence[str]) -> tuple[str, ...]:
        """Those of ``actions`` (the cloud's own names) that the credentials are known to lack."""
        ...

    def image(self, region: str, arch: str) -> Image:
        """The newest stock image that a cell starts from."""
        ...

    def find(self, desired: Desired) -> Found | None:
        """The live resource that bears the key, or None. It says nothing about resources younger than the cloud's listing lag."""
        ...

    def begin_create(self, desired: Desired, token: str) -> Operation:
        """One changing call. The same ``token`` (at most 64 ASCII characters) with the same ``desired`` never makes a second resource
        where the cloud can promise that; where it cannot, ``find`` before it does."""
        ...

    def begin_delete(self, ref: Ref) -> Operation:
        """One changing call; a resource that is gone already is success."""
        ...

    def poll(self, operation: Operation) -> Progress:
        """How an operation stands, by reading. A create is ``Done`` when the resource is usable by the next step, a
        delete when a read no longer sees it."""
        ...

    def observe(self, ref: Ref) -> Found:
        """The resource as it is now; state ``GONE`` if the cloud has none. A cloud may say GONE of one made a moment ago."""
        ...

    def list(self, scope: Scope) -> Iterator[tuple[Found, ...]]:
        """Pages of everything that bears the fabric's tag, billable or not, in any state but gone."""
        ...

    def console(self, ref: Ref) -> str:
        """What the machine last wrote to its console, as far as the cloud has it; may be empty."""
        ...
