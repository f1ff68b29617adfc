"""The connector contract: all that grafos ever asks of a cloud.

It is small, synchronous and thread-safe. Nothing in it sleeps or waits for a cloud to finish: a change is *begun* and
gives an ``Operation``, plain data that its caller makes durable before anyone asks ``poll`` how it went. Every call
has a deadline of its own inside the connector. Every failure is a ``CloudError``; no type of an SDK leaves its folder.

One ``begin_create`` is one changing call of the cloud, so that a crash can only fall before or after it. What a cloud
makes in several calls (a gateway, its attachment, the route through it) is several kinds here.

``docs/decisions/connector-contract.md`` maps each operation and each kind to the calls of the three clouds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, Literal, Protocol

import msgspec

from grafos_core.errors import CODES, GrafosError

Scalar = str | int | bool

# The tags that a resource bears from its create call on. All names have one prefix, so that a connector can tell
# grafos' tags from a person's own.
TAG_PREFIX = "grafos:"
TAG_FABRIC = "grafos:fabric"
TAG_STACK = "grafos:stack"
TAG_KEY = "grafos:key"
TAG_SIGNATURE = "grafos:signature"
TAG_EXPIRES = "grafos:expires"

# What all three clouds can hold: Compute Engine's labels are the narrowest (lower case, 63 characters), its names too.
KEY_PATTERN = re.compile(r"[0-9a-f]{32}")
NAME_PATTERN = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")
TAG_NAME_PATTERN = re.compile(r"grafos:[a-z0-9_-]{1,56}")
TAG_VALUE_PATTERN = re.compile(r"[a-z0-9_-]{0,63}")
# The input that no log and no traceback may show: a machine's user data holds a one-time secret.
PRIVATE_INPUT = "user_data"
TOKEN_MAX_CHARACTERS = 64  # EC2's ClientToken; the other clouds derive theirs from it


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
    ADDRESS_ATTACHMENT = "address_attachment"
    NIC = "nic"
    DISK = "disk"
    MACHINE = "machine"
    DEADLINE = "deadline"
    # What a published cell image consists of, and what its bytes go through on the way.
    SNAPSHOT = "snapshot"
    BUCKET = "bucket"
    OBJECT = "object"
    GALLERY = "gallery"
    IMAGE_FAMILY = "image_family"
    IMAGE = "image"


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

    ``key`` is its identity (32 hex); names and tags come from it. ``name`` matches ``NAME_PATTERN``. ``needs`` maps a
    role ("network", "subnet", "firewall", "gateway") to the cloud's id of a resource that exists already. ``inputs``
    are per kind, as the decision page lists them. ``tags`` go into the create call itself; their names and values
    match ``TAG_NAME_PATTERN`` and ``TAG_VALUE_PATTERN``. A machine's ``inputs`` hold its user data, and with it a
    one-time secret: its ``repr`` tells only how long that is.
    """

    key: str
    kind: Kind
    name: str
    region: str
    zone: str = ""
    needs: Mapping[str, str] = {}
    inputs: Mapping[str, Scalar] = {}
    tags: Mapping[str, str] = {}

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        fields = {name: getattr(self, name) for name in self.__struct_fields__}
        return list({**fields, "inputs": _told(self.inputs)}.items())

    def __repr__(self) -> str:
        return f"Desired({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"


def _told(inputs: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The inputs as a log may show them."""
    private = {name: f"<{len(str(inputs[name]))} characters>" for name in inputs if name == PRIVATE_INPUT}
    return {**inputs, **private}


class Ref(msgspec.Struct, frozen=True):
    """Where a resource is found again; holds no secret.

    ``id`` alone is enough to observe and delete it in its region: the cloud's own, or for a kind without one what it
    hangs on, joined by "|" ("igw-1|vpc-1"). It is known as soon as ``begin_create`` returns. ``key`` is empty when
    the resource bears none of its own, as some that ``list`` finds.
    """

    key: str
    kind: Kind
    id: str
    region: str
    zone: str = ""


class Found(msgspec.Struct, frozen=True):
    """What the cloud told about one resource at one moment.

    ``tags`` are those of ours (``TAG_PREFIX``). ``attributes`` are per kind, all strings, as the decision page lists
    them; of a machine: ``public_ip``, ``private_ip``, ``machine_type``, ``image``, ``reason`` (the cloud's words when
    it failed or stopped). The attribute ``carrier`` is the id of what a kind without an own place hangs on; a gateway's
    attachment shows the gateway's tags. ``billable``: it costs by existing.
    """

    ref: Ref
    state: State
    tags: Mapping[str, str] = {}
    attributes: Mapping[str, str] = {}
    billable: bool = False


def still_unseen(ref: Ref) -> Found:
    """What a create call named and no read shows: it may exist and cost all the same, so it is there to be deleted."""
    return Found(ref=ref, state=State.PENDING)


class Operation(msgspec.Struct, frozen=True):
    """A change under way, as data that survives the process. ``handle`` is the cloud's own token, up to 64 KiB."""

    verb: Literal["create", "update", "delete"]
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
    (with ``retry_after_s``, 0 when the cloud does not say) · ``cloud_auth`` · ``cloud_denied`` · ``cloud_conflict``
    (it exists with other properties, or the token is used up: ``find``, then a new token) · ``cloud_not_found``
    (something needed is not there, or not there yet) · ``cloud_in_use`` · ``cloud_invalid`` · ``cloud_unreachable`` ·
    ``cloud_unknown``, which fails closed and keeps the cloud's own words; and before any call ``credentials_missing``,
    ``credentials_mixed``, ``unsupported``. ``ambiguous``: the call may have had its effect (a lost answer); only a
    read can tell.
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
            "ambiguous": ambiguous,
        }
        super().__init__(code, what, where=where, why=why, next=next, context=context)
        self.cloud_code = cloud_code
        self.request_id = request_id
        self.alternatives = tuple(alternatives)
        self.retry_after_s = retry_after_s
        self.ambiguous = ambiguous

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> CloudError:
        """Reads ``to_wire``'s form back, as a journal keeps it; a code of a newer grafos becomes ``cloud_unknown``."""
        read = GrafosError.from_wire(wire)
        context = read.context
        return cls(
            read.code if wire.get("code") in CODES else "cloud_unknown",
            read.what,
            where=read.where,
            why=read.why,
            next=read.next,
            cloud_code=str(context.get("cloud_code", "")),
            request_id=str(context.get("cloud_request_id", "")),
            alternatives=[str(zone) for zone in context.get("alternatives", ())],
            retry_after_s=float(context.get("retry_after_s", 0.0)),
            ambiguous=bool(context.get("ambiguous", False)),
        )


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """Ended badly, for good; ``error`` is a ``CloudError``'s wire form, so that the outcome too is plain data.

    ``found`` is what stayed behind, or may have, and must still be deleted, if anything.
    """

    error: Mapping[str, Any]
    found: Found | None = None

    def cloud_error(self) -> CloudError:
        """The error as it can be raised."""
        return CloudError.from_wire(self.error)


Progress = Pending | Done | Failed


class Identity(msgspec.Struct, frozen=True):
    """Who the credentials are: ``account`` (or project, or subscription) and ``principal`` in the cloud's words.

    ``server_time`` is the cloud's clock when it answered (Unix seconds, whole ones), 0 when it did not tell.
    """

    provider: str
    account: str
    principal: str
    emulated: bool
    server_time: float = 0.0


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
    """Prices of one machine type in one region, in micro-cents; ``fictional`` when an emulator says them.

    ``spot_per_hour`` is 0 where there is no spot machine of the type, or the cloud does not say. It may change while a
    machine runs; ``machine_per_hour`` bounds it.
    """

    region: str
    machine_type: str
    machine_per_hour: int
    disk_per_gib_month: int
    address_per_hour: int
    source: str
    as_of: str  # when the source said so, as 2026-11-21 (UTC)
    fictional: bool
    spot_per_hour: int = 0


ON_DEMAND, SPOT = "on_demand", "spot"
MARKETS = (ON_DEMAND, SPOT)
"""How a machine is bought: at the list price, or at the one for machines that the cloud may take back."""


class Quota(msgspec.Struct, frozen=True):
    """A limit of the account. ``limit`` or ``used`` is None where the cloud does not say.

    ``each`` is how many units one more machine of the type takes that was asked about; 0 where it takes none, or where
    the type does not tell: of what a cell has besides, a limit bears the kind's name in the plural ("networks"), and of
    disks ``disk_gib``. ``market`` says which machines count: ``MARKETS``, or "" for both.
    """

    name: str
    unit: str
    limit: int | None
    used: int | None
    each: int = 0
    market: str = ""


class Image(msgspec.Struct, frozen=True):
    """A machine image to start from.

    ``python`` is the version of its system Python, "3.13"; ``disk_gib`` the smallest disk that it fits on;
    ``root_device`` the name that the machine's disk has in the create call, empty where a cloud needs none.
    """

    id: str
    name: str
    arch: str  # "amd64" | "arm64"
    python: str
    disk_gib: int = 8
    root_device: str = ""


class Traits(msgspec.Struct, frozen=True):
    """What must be known of a cloud before acting on it.

    ``kinds``: those that ``begin_create`` makes; the others are part of another kind there, or do not exist.
    ``once``: those of which the cloud itself never makes a second for one token, name or place, however often it is
    asked. Of every other kind a second call after a lost answer makes a duplicate: wait ``listing_lag_s`` and ``find``.
    ``listing_lag_s``: how long a resource that exists may be missing from ``find``, ``list`` and ``observe``.
    """

    kinds: tuple[Kind, ...]
    once: tuple[Kind, ...]
    listing_lag_s: float


class Scope(msgspec.Struct, frozen=True):
    """What ``list`` looks at: all resources that bear the fabric's tag in these regions; empty means every region."""

    fabric: str
    regions: tuple[str, ...] = ()


class Connector(Protocol):
    """One cloud account, as grafos sees it. All methods may raise ``CloudError``; none sleeps or retries a create."""

    @property
    def provider(self) -> str:
        """``aws``, ``gcp``, ``azure``, or ``memory`` for the twin."""
        ...

    @property
    def traits(self) -> Traits:
        """What this cloud promises and what it does not; constant for the life of the connector."""
        ...

    def identity(self) -> Identity:
        """Who we are; also the check that credentials and endpoint belong together."""
        ...

    def offers(self, region: str, machine_type: str = "", arch: str = "") -> tuple[Offer, ...]:
        """What the region's zones offer, narrowed by type and architecture; empty when nothing fits."""
        ...

    def price(self, region: str, machine_type: str) -> Price:
        """The on-demand price, or ``price_missing``."""
        ...

    def quotas(self, region: str, machine_type: str = "") -> tuple[Quota, ...]:
        """The limits that a new machine counts against; with a type, also how much of each one machine takes."""
        ...

    def missing_permissions(self, region: str, actions: Sequence[str] = ()) -> tuple[str, ...]:
        """Those of ``actions`` (the cloud's own names) that the credentials are known to lack; without any, of all
        that grafos needs there."""
        ...

    def policy_fragment(self, actions: Sequence[str]) -> str:
        """What an administrator adds to grant ``actions``, in the cloud's own form; asks nobody."""
        ...

    def obstacles(self, region: str, machine_type: str) -> tuple[CloudError, ...]:
        """What the cloud already says would keep a machine of the type from being made there, as the errors that the
        create call would raise: an interface that is switched off, a namespace that is not registered, a type that is
        restricted for this account. Quotas and permissions have questions of their own."""
        ...

    def image(self, region: str, arch: str) -> Image:
        """The newest stock image that a cell starts from."""
        ...

    def find(self, desired: Desired) -> Found | None:
        """The live resource that bears the key (for a kind without tags: that hangs where ``desired`` says), or None.

        None says nothing about resources younger than the listing lag. If several bear the key, the oldest, or the
        lowest id where the cloud tells no age: every process adopts the same one, and ``list`` shows the others.
        """
        ...

    def begin_create(self, desired: Desired, token: str) -> Operation:
        """One changing call.

        The same ``token`` (1 to ``TOKEN_MAX_CHARACTERS`` ASCII characters) with the same ``desired`` never makes a
        second resource of a kind in ``traits.once``. A cloud that remembers tokens refuses one that came with another
        ``desired``, or whose resource is dead: ``cloud_conflict``.
        """
        ...

    def begin_update(self, ref: Ref, desired: Desired) -> Operation:
        """One changing call that gives a living resource the tags of ``desired``, and a ``deadline`` its ``ends_at``.

        All of ours are replaced, also on the parts that the resource's own create call made; nothing else of
        ``desired`` counts. Repeating it is harmless. ``unsupported`` for a kind whose tags or time cannot be changed.
        """
        ...

    def begin_delete(self, ref: Ref) -> Operation:
        """One changing call; a resource that is gone already is success. ``cloud_in_use``: something must go first."""
        ...

    def poll(self, operation: Operation) -> Progress:
        """How an operation stands, by reading only.

        A create is ``Done`` when the resource is usable by the next step, an update when a read shows what it gave, a
        delete when it is believed gone: a read shows it ended, or repeated reads over the listing lag do not see it.
        ``Failed`` is final. What it raises says that the question failed, not the operation: ask again. A delete whose
        call did not find the resource, and which a later read shows alive, is ``Failed`` with ``cloud_not_found``:
        delete again.
        """
        ...

    def observe(self, ref: Ref) -> Found:
        """The resource as it is now; state ``GONE`` if the cloud shows none, which it may also say of one made a
        moment ago."""
        ...

    def list(self, scope: Scope) -> Iterator[tuple[Found, ...]]:
        """Pages of everything that bears the fabric's tag, or hangs on such, billable or not, in any state but gone.

        Whether a resource is truly ours the signature says, not the tag.
        """
        ...

    def console(self, ref: Ref) -> str:
        """What the machine last wrote to its console, as far as the cloud has it; may be empty."""
        ...
