"""What names a leased region of memory to another tasklet: plain text, with no right in it.

A ``LeaseRef`` says where a region is. Whoever presents it is still asked who it is, so a reference may be passed on in
inputs, responses and regions.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from grafos_core.errors import GrafosError

LEASE_REF_BYTES_MAX = 512
"""The text of a reference; ours have a third of it."""
NAME_CHARACTERS_MAX = 128

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_CHARACTERS_MAX)]


class LeaseRef(msgspec.Struct, frozen=True):
    """One lease: its fabric, the cell that holds it, and the generation in which it was named. A lease that was renewed
    since is still the same region, so an older generation opens it."""

    fabric: _Name
    cell: _Name
    lease_id: _Name
    generation: Annotated[int, msgspec.Meta(ge=1, le=2**53)]

    def to_json(self) -> bytes:
        """The reference as text, at most ``LEASE_REF_BYTES_MAX`` bytes for the names that a fabric gives."""
        return msgspec.json.encode(self)


def read_lease_ref(data: bytes) -> LeaseRef:
    """The reference that ``data`` is; ``request_invalid`` for what is none."""
    if len(data) > LEASE_REF_BYTES_MAX:
        raise GrafosError("request_invalid", f"a lease reference has at most {LEASE_REF_BYTES_MAX} bytes")
    try:
        return msgspec.json.decode(data, type=LeaseRef)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise GrafosError("request_invalid", "this is no lease reference", why=str(error)) from None
