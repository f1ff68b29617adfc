"""Passes calls on shared regions from the cell of a run to the cell that holds the region, and the answers back.

Nothing here is stored: a scheduler that ends forgets what was under way, and whoever asked hears nothing more. Each
call is judged against the state as it is (``regions.check_call``), gets a number of this relay's own, and has an answer
within ``REGION_ANSWER_S_MAX``, if only that the cell did not answer. An answer counts only if the cell that was asked
gave it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import NamedTuple

from msgspec.structs import replace

from grafos_core.audit_chain import AuditKind
from grafos_core.errors import GrafosError
from grafos_scheduler import events, messages, regions
from grafos_scheduler.authorize import TENANT, text_of
from grafos_scheduler.region_frames import ATTACH, REGION_ANSWER_S_MAX, RegionAnswer, RegionCall
from grafos_scheduler.shell import Link, Shell

CALLS_AT_ONCE_MAX = 1024
"""Calls of one link that wait for their answers. A run has one at a time, so no cell has so many of its own accord."""

log = logging.getLogger("grafos.link")


class Asked(NamedTuple):
    """A call that was passed on: over which link and under which number it came, and whose answer counts.
    ``size_bytes`` is how large the region is that is attached to; 0 for every other call."""

    link: Link
    number: int
    owner: str
    overdue: asyncio.TimerHandle
    size_bytes: int
    owner_link_id: int


class RegionRelay:
    """The calls under way at one scheduler."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._asked: dict[int, Asked] = {}
        self._of_link: dict[Link, set[int]] = {}
        self._last = 0

    async def call(self, cell_id: str, link: Link, call: RegionCall) -> None:
        """A cell asks for one of its runs. The answer goes over that link, now or when the owner has given it."""
        try:
            self._pass_on(cell_id, link, call)
        except regions.ForeignRegionError as refusal:
            link.send(_refusal(call.number, refusal))
            await self._note(cell_id, call, refusal)
        except GrafosError as refusal:
            link.send(_refusal(call.number, refusal))

    def answered(self, cell_id: str, answer: RegionAnswer) -> None:
        """The owner has answered. Too late, or of another cell than was asked, it counts for nothing."""
        asked = self._asked.get(answer.number)
        if asked is not None and asked.owner == cell_id:
            self._forget(answer.number, asked)
            asked.link.send(_judged(answer, asked))

    def link_lost(self, cell_id: str, link: Link, link_id: int) -> None:
        """A link is gone: its own calls are forgotten, and those that went to this cell over it have their answer. What
        went over a newer one of the cell is answered there."""
        for number in list(self._of_link.get(link, ())):
            self._forget(number, self._asked[number])
        for number in [
            number for number, asked in self._asked.items() if (asked.owner, asked.owner_link_id) == (cell_id, link_id)
        ]:
            self._give_up(number)

    def _pass_on(self, cell_id: str, link: Link, call: RegionCall) -> None:
        state = self._shell.state
        lease = regions.check_call(state, cell_id, call)
        under_way = len(self._of_link.get(link, ()))
        if under_way >= CALLS_AT_ONCE_MAX:
            raise GrafosError("cell_busy", f"cell {cell_id} has {under_way} calls on regions under way")
        if state.protocol_of(lease.cell_id) < messages.REGIONS_SINCE:
            raise _no_answer(lease.cell_id)
        self._last += 1
        number = self._last
        if not self._shell.send_now(lease.cell_id, replace(call, number=number)):
            raise _no_answer(lease.cell_id)
        overdue = asyncio.get_running_loop().call_later(REGION_ANSWER_S_MAX, self._give_up, number)
        size_bytes = lease.amount if call.operation == ATTACH else 0
        link_id = state.link_of(lease.cell_id)
        self._asked[number] = Asked(link, call.number, lease.cell_id, overdue, size_bytes, link_id)
        self._of_link.setdefault(link, set()).add(number)

    def _give_up(self, number: int) -> None:
        asked = self._asked.get(number)
        if asked is not None:
            self._forget(number, asked)
            asked.link.send(_refusal(asked.number, _no_answer(asked.owner)))

    def _forget(self, number: int, asked: Asked) -> None:
        asked.overdue.cancel()
        del self._asked[number]
        mine = self._of_link[asked.link]
        mine.discard(number)
        if not mine:
            del self._of_link[asked.link]

    async def _note(self, cell_id: str, call: RegionCall, refusal: regions.ForeignRegionError) -> None:
        lease, tenant = refusal.lease, refusal.tenant
        details = (("run_id", call.run_id), ("of_tenant", lease.tenant))
        event = events.Witnessed(
            AuditKind.LEASE_REFUSED, text_of(TENANT, tenant), lease.lease_id, tenant, cell_id, details
        )
        await self._shell.handle(event, by=text_of(TENANT, tenant))


def _judged(answer: RegionAnswer, asked: Asked) -> RegionAnswer:
    """The answer for who asked. A guest counts on the size that it is told, so one that was not leased is refused."""
    if asked.size_bytes and not answer.code and answer.size_bytes != asked.size_bytes:
        what = f"cell {asked.owner} tells of {answer.size_bytes} bytes, and {asked.size_bytes} are leased there"
        log.error("%s", what)
        return _refusal(asked.number, GrafosError("answer_invalid", what))
    return replace(answer, number=asked.number)


def _refusal(number: int, error: GrafosError) -> RegionAnswer:
    return RegionAnswer(number, code=error.code, what=error.what)


def _no_answer(cell_id: str) -> GrafosError:
    return GrafosError("cell_lost", f"cell {cell_id}, which holds the region, does not answer")
