"""What a published image consists of on each cloud, what keeping it costs at most, and which stack it is. Pure.

An image is a stack of its own, named by cloud, region and the disk's SHA-256: so publishing the same bytes twice means
the same stack, and finds what is there. It has an end, as a cell has: money is held for keeping it until then, and any
sweep deletes it afterwards.
"""

from __future__ import annotations

from fractions import Fraction

import msgspec

from grafos_connectors.contract import Kind, Scalar
from grafos_connectors.uploads import GIB, KeepingPrice
from grafos_core.errors import GrafosError
from grafos_core.ids import FabricId
from grafos_core.money import cost_micro_cents
from grafos_stacks.bill import LEFT_BEHIND_S, MONTH_HOURS_LEAST, Bill, BillPart
from grafos_stacks.names import cloud_name, key_of
from grafos_stacks.plan import Planned
from grafos_stacks.spec import ARCHES, IMAGE_PREFIX

DIGEST_CHARACTERS = 12
"""Of the SHA-256, in a stack's name: 48 bits. The keys of what it consists of are made from all of them."""
KEEP_S_DEFAULT = 30 * 86400
KEEP_S_MIN, KEEP_S_MAX = 86400, 366 * 86400
ON_THE_WAY_S = LEFT_BEHIND_S
"""How long what the bytes go through (a bucket, an empty disk) may stay inside the bound, if a kill leaves it there."""
EXCLUDED = ("requests and transfers", "taxes")
"""What the bound of keeping an image leaves out."""


class DiskFacts(msgspec.Struct, frozen=True):
    """The disk that is published: its identity, for which machines, and its whole size. ``certificate`` (DER in
    base64) is the one for which its program is signed for Secure Boot, if it is."""

    sha256: str
    arch: str
    size_bytes: int
    certificate: str = ""

    @property
    def size_gib(self) -> int:
        """Rounded up, as every cloud has it."""
        return -(-self.size_bytes // GIB)


class Publication(msgspec.Struct, frozen=True):
    """One image at one place, with no choice left in it. ``keep_until`` in Unix seconds."""

    provider: str
    region: str
    disk: DiskFacts
    price: KeepingPrice
    made_at: float
    keep_until: int

    @property
    def stack(self) -> str:
        """``img-<cloud>-<region>-<the digest's beginning>``."""
        return stack_of(self.provider, self.region, self.disk.sha256)

    @property
    def rate_micro_cents_per_hour(self) -> int:
        """As if no byte of the disk were a zero, and in the shortest month."""
        return -(-self.price.per_gib_month * self.disk.size_gib // MONTH_HOURS_LEAST)

    @property
    def bill(self) -> Bill:
        """The bound: what is held."""
        rate, keep_s = self.rate_micro_cents_per_hour, self.keep_until - self.made_at

        def part(name: str, seconds: float, how: str) -> BillPart:
            return BillPart(name, cost_micro_cents(Fraction(1), rate, seconds), how)

        parts = (
            part("keeping", keep_s, f"{self.disk.size_gib} GiB for {keep_s / 86400:.1f} days"),
            part("on the way", ON_THE_WAY_S, "what the bytes go through, if it is left behind"),
            part(
                "keeping afterwards", LEFT_BEHIND_S, f"left behind for up to {LEFT_BEHIND_S // 3600} h, until a sweep"
            ),
        )
        return Bill(parts, EXCLUDED)


class Part(msgspec.Struct, frozen=True):
    """A resource of it. ``takes_disk``: it is filled with the bytes. ``passing``: it goes when the image is there."""

    what: Planned
    takes_disk: bool = False
    passing: bool = False


def stack_of(provider: str, region: str, sha256: str) -> str:
    """The stack of an image at one place."""
    return f"{IMAGE_PREFIX}{provider}-{region}-{sha256[:DIGEST_CHARACTERS]}"


def check_publication(asked: Publication) -> Publication:
    """The same, or ``config_invalid`` for what no cloud can keep."""
    keep_s = asked.keep_until - asked.made_at
    if not KEEP_S_MIN <= keep_s <= KEEP_S_MAX:
        days = f"{KEEP_S_MIN // 86400} to {KEEP_S_MAX // 86400} days"
        raise GrafosError("config_invalid", f"an image is kept for {days}", where="keep", next="choose another time")
    if asked.disk.arch not in ARCHES:
        raise GrafosError("config_invalid", f"no cloud has machines of the architecture {asked.disk.arch!r}")
    return asked


def parts_of(fabric: FabricId, asked: Publication) -> tuple[Part, ...]:
    """What it consists of, in the order in which it is made; the image is the last."""
    disk = asked.disk
    make = _Maker(fabric, asked)
    signed: dict[str, Scalar] = {"certificate": disk.certificate} if disk.certificate else {}
    if asked.provider == "aws":
        return (
            Part(make(Kind.SNAPSHOT, inputs={"disk_gib": disk.size_gib}), takes_disk=True),
            Part(make(Kind.IMAGE, {"snapshot": "snapshot"}, {"arch": disk.arch, **signed})),
        )
    if asked.provider == "gcp":
        return (
            Part(make(Kind.BUCKET), takes_disk=True, passing=True),
            Part(make(Kind.IMAGE, {"bucket": "bucket"}, {"arch": disk.arch, **signed})),
        )
    family: dict[str, Scalar] = {"arch": disk.arch, **({"secure_boot": True} if signed else {})}
    return (
        Part(make(Kind.GROUP)),
        Part(make(Kind.GALLERY, {"group": "group"})),
        Part(make(Kind.IMAGE_FAMILY, {"gallery": "gallery"}, family)),
        Part(
            make(Kind.DISK, {"group": "group"}, {"arch": disk.arch, "disk_bytes": disk.size_bytes}),
            takes_disk=True,
            passing=True,
        ),
        Part(make(Kind.IMAGE, {"family": "image-family", "disk": "disk"}, signed)),
    )


class _Maker:
    """Makes the planned resources of one image; each is called as its kind."""

    def __init__(self, fabric: FabricId, asked: Publication) -> None:
        self._fabric, self._asked = fabric, asked

    def __call__(
        self, kind: Kind, needs: dict[str, str] | None = None, inputs: dict[str, Scalar] | None = None
    ) -> Planned:
        asked, name = self._asked, kind.value.replace("_", "-")
        distinct: dict[str, Scalar] = {"provider": asked.provider, "region": asked.region, "sha256": asked.disk.sha256}
        key = key_of(self._fabric, asked.stack, kind, name, distinct)
        return Planned(
            name,
            asked.stack,
            kind,
            key,
            cloud_name(asked.stack, name, key),
            asked.region,
            needs=needs or {},
            inputs=inputs or {},
            expires_at=asked.keep_until,
        )
