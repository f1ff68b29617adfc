"""Many who ask for the same listing at once share one, and nobody gets one that began before he asked."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from grafos_stacks.listings import Listed, Listings

ASKERS = 16
WAIT_S = 10.0


class Slow:
    """A listing that lasts until it is let go; numbers each that is begun."""

    def __init__(self) -> None:
        self.begun = itertools.count()
        self.first, self.go = threading.Event(), threading.Event()

    def __call__(self) -> Listed:
        number = next(self.begun)
        self.first.set()
        assert self.go.wait(WAIT_S)
        return float(number), ()


def waiting(listings: Listings, pool: ThreadPoolExecutor, slow: Slow) -> list[float]:
    """One is under way, and then all others ask."""
    asked = [pool.submit(listings.ask, ("here",), slow)]
    assert slow.first.wait(WAIT_S)
    began = threading.Barrier(ASKERS + 1)

    def ask() -> Listed:
        began.wait(WAIT_S)
        return listings.ask(("here",), slow)

    asked += [pool.submit(ask) for _ in range(ASKERS)]
    began.wait(WAIT_S)
    time.sleep(0.3)  # until they wait, at least most of them
    slow.go.set()
    return [each.result(WAIT_S)[0] for each in asked]


def test_who_asks_while_one_is_under_way_gets_a_later_one_that_is_shared() -> None:
    slow = Slow()
    with ThreadPoolExecutor(ASKERS + 1) as pool:
        first, *others = waiting(Listings(), pool, slow)
    assert first == 0
    assert min(others) >= 1, "what was begun before he asked would not show what he did before"
    assert len(set(others)) < ASKERS


def test_a_failure_is_its_own_askers_alone_and_the_next_one_is_asked_anew() -> None:
    listings = Listings()

    def fail() -> Listed:
        raise RuntimeError("the cloud is away")

    for _ in range(2):
        with pytest.raises(RuntimeError):
            listings.ask((), fail)
    assert listings.ask((), lambda: (1.0, ())) == (1.0, ())
