"""One listing for all who ask at once.

Each teardown lists all that the fabric has in a region, more than once, since a listing is what proves that nothing is
left. Of many cells that end at a time each would list all of them. Whoever asks while a listing is under way shares the
next one with all others that wait: it begins after each of them asked, so it shows each what its own would have shown.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

from grafos_connectors.contract import Found

Listed = tuple[float, tuple[Found, ...]]
"""When it was begun (Unix seconds), and what it showed."""


class Listings:
    """Those of one account; asked from many threads."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: dict[tuple[str, ...], Future[Listed]] = {}
        self._under_way: dict[tuple[str, ...], threading.Lock] = {}

    def ask(self, regions: tuple[str, ...], look: Callable[[], Listed]) -> Listed:
        """What ``look`` gives, begun after this was called, by this caller or by another one. Whom another one's
        failure meets looks for itself."""
        with self._guard:
            turn = self._waiting.get(regions)
            leads = turn is None
            if turn is None:
                turn = self._waiting[regions] = Future()
            under_way = self._under_way.setdefault(regions, threading.Lock())
        if not leads:
            return turn.result() if turn.exception() is None else look()
        try:
            with under_way:
                with self._guard:
                    del self._waiting[regions]  # who comes from now on would not see what was before
                turn.set_result(look())
        except BaseException as error:
            with self._guard:
                if self._waiting.get(regions) is turn:
                    del self._waiting[regions]
            turn.set_exception(error)
            raise
        return turn.result()
