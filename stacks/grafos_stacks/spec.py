"""What a person asks for: a cell, by its inputs.

A changed input means another machine. What follows from the inputs (zone, type, image, price, expiry) is resolved
once, when the plan is made, and stays with the cell for as long as it lives.
"""

from __future__ import annotations

import ipaddress
import random
import re

import msgspec

from grafos_connectors.contract import Scalar
from grafos_core.errors import GrafosError
from grafos_core.ids import check_name, random_text

TTL_S_DEFAULT = 8 * 3600
TTL_S_MIN = 60
"""The operating system's timer counts in minutes."""
TTL_S_MAX = 30 * 86400
"""A longer life is a decision to take anew."""
CELL_PORT = 8443
DISK_GIB_DEFAULTS = {"aws": 8, "gcp": 10, "azure": 30}
"""The disk that each cloud's own image of Debian fits on."""
DISK_GIB_MAX = 1024
CELL_ID_CHARACTERS_MAX = 30
"""So that a stack's name still fits into a cloud's name beside what the resource is."""
SHARED_PREFIX = "net-"
"""Stacks of shared networks begin with it; a cell's stack bears the cell's name."""
IMAGE_PREFIX = "img-"
"""Stacks of published images begin with it."""
ORCHESTRATOR_ID = "orchestrator"
"""The fabric's orchestrator: its name as a scheduler and as a stack, and its folder in the fabric's home; no cell's."""
STANDALONE, REGISTERED, ORCHESTRATOR = "standalone", "registered", "orchestrator"
PATTERNS = {"aws": STANDALONE, "gcp": REGISTERED, "azure": REGISTERED}
"""How cells are built on each cloud: as a fabric of their own behind one open port, or dialling out and open to nobody.
The machine of an orchestrator is built behind one open port everywhere.
"""
ARCHES = ("amd64", "arm64")
CIDR_PREFIX_MIN = 16
"""Of the network that may reach a cell."""
STOCK = "stock"
"""As the image that is wanted: the cloud's own, whatever was published."""
NAMED_IMAGE = re.compile(rf"[0-9a-f]{{6,64}}|{IMAGE_PREFIX}[a-z0-9-]{{6,80}}")
"""A published image: by the beginning of its SHA-256, or by its name."""
BY_TOKEN, BY_WORD, NOT_AT_ALL = "token", "keyless", "none"
JOININGS = (BY_TOKEN, BY_WORD, NOT_AT_ALL)
"""How a registered cell joins its orchestrator: with a bootstrap token in its user data, by its cloud's signed word, or
not at all: then its machine boots, and that is all."""


def is_cell(stack: str) -> bool:
    """Whether a stack of that name is a cell's, and not a shared network's or a published image's."""
    return not stack.startswith((SHARED_PREFIX, IMAGE_PREFIX))


def is_image(stack: str) -> bool:
    """Whether a stack of that name is a published image's."""
    return stack.startswith(IMAGE_PREFIX)


class CellSpec(msgspec.Struct, frozen=True):
    """The inputs of a cell. Empty ``zone``, ``machine_type`` and ``arch`` leave the choice to the plan.

    ``operator_cidr`` is the one address from which a standalone cell's ``port`` can be reached ("203.0.113.7/32");
    a registered cell has no open port, and none. ``disk_gib`` 0 is what the cloud's own image needs. ``max_ttl_s`` (0:
    not asked for) is how long the cell may live at most, however often it is extended; it is paid for from the start.
    ``spot`` asks for a machine that the cloud may take back, at the price for those. ``joining`` is one of
    ``JOININGS``; it says nothing of a standalone cell. ``orchestrates``: it is no cell, but the machine of the fabric's
    orchestrator, whose port is open to ``operator_cidr``, from which its cells come too. ``image`` is what the machine
    starts from: ``STOCK``, a published image (``NAMED_IMAGE``), or "" for the newest of these, and a stock image if
    there is none.
    """

    provider: str
    cell_id: str
    region: str
    operator_cidr: str
    zone: str = ""
    machine_type: str = ""
    arch: str = ""
    ttl_s: int = TTL_S_DEFAULT
    port: int = CELL_PORT
    disk_gib: int = 0
    max_ttl_s: int = 0
    spot: bool = False
    joining: str = BY_TOKEN
    orchestrates: bool = False
    image: str = ""

    def __post_init__(self) -> None:
        if not self.disk_gib:  # settled at once, so that the key of a machine never depends on who left it open
            msgspec.structs.force_setattr(self, "disk_gib", DISK_GIB_DEFAULTS.get(self.provider, 8))

    @property
    def pattern(self) -> str:
        """``orchestrator``, or ``standalone`` or ``registered`` as the provider has it."""
        return ORCHESTRATOR if self.orchestrates else PATTERNS.get(self.provider, STANDALONE)

    @property
    def joins(self) -> bool:
        """Whether it becomes a cell of an orchestrator."""
        return self.pattern == REGISTERED and self.joining != NOT_AT_ALL

    @property
    def is_told_what_it_is(self) -> bool:
        """Whether its machine becomes anything; only such a one can start from a published image."""
        return self.joining != NOT_AT_ALL

    @property
    def longest_s(self) -> int:
        """How long the cell may live at most: its TTL, or what it may be extended to."""
        return max(self.ttl_s, self.max_ttl_s)

    def replace_inputs(self) -> dict[str, Scalar]:
        """The inputs whose change means another machine. The TTL is none: it is extended, not replaced."""
        return {
            "pattern": self.pattern,
            "region": self.region,
            "zone": self.zone,
            "machine_type": self.machine_type,
            "arch": self.arch,
            "disk_gib": self.disk_gib,
            "port": self.port,
            **self.market,
            **({} if self.joining == BY_TOKEN else {"joining": self.joining}),
            **({"image": self.image} if self.image else {}),
        }

    @property
    def market(self) -> dict[str, Scalar]:
        """The machine's input that asks for a spot machine; none for an ordinary one."""
        return {"spot": True} if self.spot else {}


def typed(seconds: int) -> str:
    """A length of time as people type it, exactly: ``90s``, ``30m``, ``8h``, ``30d``."""
    for unit, factor in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds and seconds % factor == 0:
            return f"{seconds // factor}{unit}"
    return f"{seconds}s"


def new_cell_id(provider: str, chance: random.Random) -> str:
    """A fresh name for a cell: ``aws-k3f9q2``."""
    return f"{provider}-{random_text(6, chance)}"


def check_cell_id(cell_id: str) -> None:
    """``name_invalid`` for what is no name of a cell, or is the orchestrator's, a shared network's, or an image's."""
    check_name("cell", cell_id)
    if cell_id == ORCHESTRATOR_ID:
        raise GrafosError("name_invalid", f"the name {ORCHESTRATOR_ID!r} is taken by the fabric's orchestrator")
    if len(cell_id) > CELL_ID_CHARACTERS_MAX:
        raise GrafosError(
            "name_invalid", f"a cell's name has at most {CELL_ID_CHARACTERS_MAX} characters", where=cell_id
        )
    for prefix, owner in ((SHARED_PREFIX, "shared networks"), (IMAGE_PREFIX, "published images")):
        if cell_id.startswith(prefix):
            raise GrafosError("name_invalid", f"names that begin with {prefix!r} are taken by {owner}")


def check_spec(spec: CellSpec) -> CellSpec:
    """``spec`` if it can be planned, else an error that names the input: ``config_invalid`` or ``name_invalid``."""
    if not spec.orchestrates:
        check_cell_id(spec.cell_id)
    if not spec.region:
        raise _invalid("region", "no region was given", "name one with --region")
    if not TTL_S_MIN <= spec.ttl_s <= TTL_S_MAX:
        raise _invalid("ttl", f"{typed(spec.ttl_s)} is no TTL", f"choose {typed(TTL_S_MIN)} to {typed(TTL_S_MAX)}")
    if spec.max_ttl_s and not spec.ttl_s <= spec.max_ttl_s <= TTL_S_MAX:
        choice = f"choose {typed(spec.ttl_s)}, the TTL, or more, up to {typed(TTL_S_MAX)}"
        raise _invalid("max ttl", f"{typed(spec.max_ttl_s)} is no longest TTL", choice)
    _check_sizes(spec)
    _check_joining(spec)
    _check_image(spec)
    if spec.pattern != REGISTERED:
        _check_cidr(spec.operator_cidr, prefix_min=0 if spec.orchestrates else CIDR_PREFIX_MIN)
    elif spec.operator_cidr:
        why = f"a cell on {spec.provider} dials out and has no open port"
        raise _invalid("operator address", why, "leave the address out")
    return spec


def _check_sizes(spec: CellSpec) -> None:
    if not 1024 <= spec.port <= 65535:
        raise _invalid("port", f"{spec.port} is no port for a cell", "choose 1024 to 65535")
    if not 1 <= spec.disk_gib <= DISK_GIB_MAX:
        raise _invalid("disk", f"{spec.disk_gib} GiB is no size for a disk", f"choose 1 to {DISK_GIB_MAX} GiB")
    if spec.arch and spec.arch not in ARCHES:
        raise _invalid("arch", f"{spec.arch!r} is no architecture", f"choose one of {', '.join(ARCHES)}")


def _check_joining(spec: CellSpec) -> None:
    if spec.joining not in JOININGS:
        raise _invalid("joining", f"{spec.joining[:40]!r} is no way to join", f"choose one of {', '.join(JOININGS)}")
    if spec.pattern != REGISTERED and spec.joining != BY_TOKEN:
        raise _invalid("joining", f"a cell on {spec.provider} is a fabric of its own and joins nothing", "leave it out")


def _check_image(spec: CellSpec) -> None:
    if spec.image in ("", STOCK):
        return
    if not NAMED_IMAGE.fullmatch(spec.image):
        choice = f"name one as grafos cloud image ls --provider {spec.provider} does, or its SHA-256, or {STOCK}"
        raise _invalid("image", f"{spec.image[:40]!r} is no published image", choice)
    if not spec.is_told_what_it_is:
        raise GrafosError(
            "unsupported",
            f"the machine of a published image is a cell or an orchestrator, and {spec.cell_id} joins nothing",
            where="image",
            next=f"leave it out, or --image {STOCK}: the machine starts from {spec.provider}'s own image",
        )


def _check_cidr(text: str, prefix_min: int) -> None:
    """One IPv4 address, or a small network of the operator's own; never the world, but for an orchestrator."""
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise _invalid("operator address", f"{text!r} is no IPv4 network", "give one as 203.0.113.7/32") from error
    if network.prefixlen < prefix_min:
        raise _invalid("operator address", f"{text} opens the cell to too many", "give a /16 or smaller")


def _invalid(where: str, what: str, next_step: str) -> GrafosError:
    return GrafosError("config_invalid", what, where=where, next=next_step)
