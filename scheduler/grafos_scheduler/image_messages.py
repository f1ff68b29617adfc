"""What is said over REST of the images that cells may be of; the row and the event of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec

from grafos_scheduler.messages import Hex256

IMAGE_DEMAND, THE_DEMAND = "image_demand", "images"
"""The kind and the key of the only row."""
DIGESTS_MAX = 32
"""A fleet of two architectures that is being rolled to a new image needs four."""

Digests = Annotated[tuple[Hex256, ...], msgspec.Meta(max_length=DIGESTS_MAX)]


class ImageDemand(msgspec.Struct, frozen=True):
    """``PUT /api/v1/admin/cell-images``: runs go only to cells that tell of one of these images, each by the
    ``contents_sha256`` of its record. Empty: to any cell."""

    digests: Digests = ()


class ImageDemandView(msgspec.Struct, frozen=True):
    """What is demanded, since when and by whom; empty where nothing is. ``vetoed`` are the cells that do not meet
    it."""

    digests: tuple[str, ...] = ()
    set_by: str = ""
    set_at: float = 0.0
    vetoed: tuple[str, ...] = ()


class ImageDemandRow(msgspec.Struct, frozen=True):
    """The demand as it is stored; there is no row where nothing is demanded."""

    digests: tuple[str, ...]
    set_by: str
    set_at: float


KINDS: dict[str, type[msgspec.Struct]] = {IMAGE_DEMAND: ImageDemandRow}


@dataclass(frozen=True, slots=True)
class ImagesDemanded:
    """An operator says which images cells may be of. Answer: ``ImageDemandView``."""

    digests: tuple[str, ...]
    operator: str
