"""What was handed out for one use, soon: by one key, which may ask again while its answer may have been lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Protocol

from grafos_core.errors import GrafosError
from grafos_core.signed_claims import Form

KEPT_S = 3600.0
"""How long a lapsed one's row is kept, so that its second use is still told from a foreign one."""
COLLECTED_AT_ONCE_MAX = 100
"""Per tick; bounds the batch that a tick makes durable."""


class Ticket(Protocol):
    """The row of what was handed out. ``key_sha256`` is the key that used it, empty until one did."""

    @property
    def token_id(self) -> str: ...
    @property
    def valid_until(self) -> float: ...
    @property
    def key_sha256(self) -> str: ...


def check(ticket: Ticket | None, form: Form, whom: str, key_sha256: str, now: float) -> None:
    """Whether this key may use it: nobody did, or this very key. Else the form's code for what is refused or lapsed."""
    if ticket is None:
        raise GrafosError(form.refused, f"the {form.noun} is not known here any more", next=form.next)
    if ticket.valid_until <= now:
        raise GrafosError(form.expired, f"the {form.noun} of {form.whom} {whom} lapsed", next=form.next)
    if ticket.key_sha256 not in ("", key_sha256):
        raise used(form, whom)


def used(form: Form, whom: str) -> GrafosError:
    """The refusal of a second use."""
    return GrafosError(form.refused, f"the {form.noun} of {form.whom} {whom} was used already", next=form.next)


def lapsed(tickets: Iterable[Ticket], now: float) -> Iterator[str]:
    """The ids of those that lapsed long ago, so many as may go at once."""
    long_ago = (ticket.token_id for ticket in tickets if ticket.valid_until <= now - KEPT_S)
    return islice(long_ago, COLLECTED_AT_ONCE_MAX)
