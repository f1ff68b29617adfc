"""Empty slots for which there is no cell now, or no money: when they are looked at again, and what is said meanwhile.

Looking asks every cell of the scheduler. So it is done a while later each time, and at once when a cell comes, another
instance leaves its room, or the service is told something new.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafos_core.errors import GrafosError
from grafos_scheduler.service_rows import SHORTAGE, Service, Shortage

if TYPE_CHECKING:
    from grafos_scheduler.draft import Draft
    from grafos_scheduler.state import State

AGAIN_FIRST_S, AGAIN_MOST_S = 1.0, 8.0
"""Until the next look: doubling. The longest is how late a cell may be noticed that has become free."""
WHY_CHARACTERS_MAX = 1000


def holds(state: State, service: Service, now: float) -> bool:
    """Whether it is too early to look again. A clock that was set back keeps nobody waiting for longer than usual."""
    short = state.shortages.get(service.key)
    return short is not None and now < short.again_at <= now + AGAIN_MOST_S


def note(draft: Draft, service: Service, refusal: GrafosError) -> None:
    """There was nothing for it."""
    before = draft.state.shortages.get(service.key)
    attempts = before.attempts + 1 if before is not None else 1
    again_at = draft.now + min(AGAIN_MOST_S, AGAIN_FIRST_S * 2.0 ** min(attempts - 1, 10))
    why = f"{refusal.code}: {refusal.what}"[:WHY_CHARACTERS_MAX]
    draft.remember(SHORTAGE, service.key, Shortage(service.key, attempts, again_at, why))


def forget(draft: Draft, service: Service) -> None:
    if service.key in draft.state.shortages:
        draft.remember(SHORTAGE, service.key, None)


def forget_all(draft: Draft) -> None:
    """There is room that there was not."""
    for key in list(draft.state.shortages):
        draft.remember(SHORTAGE, key, None)
