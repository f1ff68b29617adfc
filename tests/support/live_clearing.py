"""Removes what bears the tag of a fabric that was made for one live run, and shows what is left of it.

No signature is asked for: nobody else has the fabric's id, which is a hash of a key made for the run.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from itertools import groupby

from grafos_connectors.contract import CloudError, Connector, Found, Operation, Pending, Scope, State
from grafos_stacks.layouts import UNMAKE_ORDER

PAUSE_S_MIN = 0.05


def left(connector: Connector, fabrics: Iterable[str], regions: Sequence[str] = ()) -> list[Found]:
    """Everything that bears the tag of one of the fabrics, in these regions or in all."""
    ended = (State.GONE, State.DELETING)
    return [
        found
        for fabric in fabrics
        for page in connector.list(Scope(fabric=fabric, regions=tuple(regions)))
        for found in page
        if found.state not in ended
    ]


def clear(connector: Connector, fabrics: Sequence[str], regions: Sequence[str], within_s: float) -> list[Found]:
    """Deletes all of it until two listings, further apart than the cloud's lag, show nothing; gives what is left when
    the time is over."""
    until, empty = time.monotonic() + within_s, 0
    while True:
        found = left(connector, fabrics, regions)
        empty = 0 if found else empty + 1
        if empty > 1 or time.monotonic() > until:
            return found
        if found:
            _delete(connector, found, until)
        else:
            time.sleep(connector.traits.listing_lag_s)


def _delete(connector: Connector, found: list[Found], until: float) -> None:
    """One round, each kind after those that hang on it; what was refused is for the next round."""

    def place(one: Found) -> int:
        return UNMAKE_ORDER.index(one.ref.kind)

    for _, group in groupby(sorted(found, key=place), place):
        begun = [operation for one in group if (operation := _begin(connector, one)) is not None]
        for operation in begun:
            _wait(connector, operation, until)


def _begin(connector: Connector, found: Found) -> Operation | None:
    try:
        return connector.begin_delete(found.ref)
    except CloudError as error:
        if error.code in ("cloud_auth", "cloud_denied"):
            raise
        return None


def _wait(connector: Connector, operation: Operation, until: float) -> None:
    while time.monotonic() < until:
        try:
            progress = connector.poll(operation)
        except CloudError:
            return  # the next listing tells
        if not isinstance(progress, Pending):
            return
        time.sleep(max(progress.again_after_s, PAUSE_S_MIN))
