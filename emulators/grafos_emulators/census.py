"""What exists in the emulated clouds: counted from the emulator's own world, never from a listing that may lag."""

from __future__ import annotations

import msgspec


class Thing(msgspec.Struct, frozen=True):
    """One thing that somebody made and nobody has removed; what a cloud itself puts into an account is left out.

    ``kind`` is the cloud's own word. ``billable``: it costs by existing in this state.
    """

    provider: str
    kind: str
    id: str
    region: str
    state: str
    billable: bool
    tags: dict[str, str]
