"""A cell's way to the regions of other cells: calls over its link, each with its answer, if there is one in time.

What an answer was lost of is asked again under the same sequence number, for as long as ``ANSWER_S_MAX``: the cell that
holds the region does it once. Only when that time is over is the run told that nothing is known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from msgspec.structs import replace

from grafos_scheduler.frames import UpFrame
from grafos_scheduler.messages import REGIONS_SINCE
from grafos_scheduler.region_frames import REGION_ANSWER_S_MAX, RegionAnswer, RegionCall

ANSWER_S_MAX = 10.0
"""From a call to the word that its answer is lost: a link that breaks is mostly up again by then."""
ASK_AGAIN_S = REGION_ANSWER_S_MAX + 1.0
"""The scheduler answers sooner than that; when it does not, its answer is lost."""
PAUSE_FIRST_S, PAUSE_MOST_S = 0.02, 0.5
"""Between two askings of a call that the other side could not answer."""
LOST = "cell_lost"
"""The code of what was not answered: asked again, it may be."""


class RegionLink:
    """The calls of one daemon that wait for answers. ``send`` puts a frame on the link, or drops it; ``protocol`` is
    what the newest link speaks."""

    def __init__(
        self, send: Callable[[UpFrame], None], protocol: Callable[[], int], answer_s_max: float = ANSWER_S_MAX
    ) -> None:
        self._send = send
        self._protocol = protocol
        self._answer_s_max = answer_s_max
        self._waiting: dict[int, asyncio.Future[RegionAnswer]] = {}
        self._last = 0

    async def ask(self, call: RegionCall) -> RegionAnswer:
        """The answer, or after ``answer_s_max`` one with the code ``cell_lost``."""
        if self._protocol() < REGIONS_SINCE:  # a frame that it does not know would cost us the link
            return RegionAnswer(0, code="unsupported", what="the scheduler of this cell knows no shared regions")
        loop = asyncio.get_running_loop()
        until, pause_s = loop.time() + self._answer_s_max, PAUSE_FIRST_S
        while True:
            answer = await self._ask_once(call, until - loop.time())
            if answer.code != LOST or loop.time() + pause_s >= until:
                return answer
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_MOST_S)

    def answered(self, answer: RegionAnswer) -> None:
        """An answer came. To what nobody waits for any more, it is passed over."""
        waiting = self._waiting.get(answer.number)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def cut(self) -> None:
        """The link has ended, or another has begun: what was asked over it is not answered any more."""
        for number in self._waiting:
            self.answered(RegionAnswer(number, code=LOST, what="the link to the scheduler broke"))

    async def _ask_once(self, call: RegionCall, left_s: float) -> RegionAnswer:
        self._last += 1
        number = self._last
        self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self._send(replace(call, number=number))
            async with asyncio.timeout(min(left_s, ASK_AGAIN_S)):
                return await self._waiting[number]
        except TimeoutError:
            return RegionAnswer(number, code=LOST, what="no answer came")
        finally:
            del self._waiting[number]
