"""Where `grafos deploy run` asks: one provider's scheduler, or of many cells the cheapest that fits."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from grafos_cli import choosing
from grafos_cli.reach import LOCAL, recorded, resolve
from grafos_cli.run_keys import RUN_KEY_BYTES, Place
from grafos_cli.running import (
    Asking,
    Ended,
    forget_pending,
    pending_place,
    request_for,
    run_to_end,
    settle_place,
)
from grafos_cli.settings import value_of
from grafos_core.errors import GrafosError
from grafos_core.guest import open_guest

if TYPE_CHECKING:
    from grafos_cli.reach import Reach
    from grafos_cli.terminal import Terminal
    from grafos_core.fabric import Fabric
    from grafos_scheduler.messages import RunRequest


class Wish(NamedTuple):
    """What is to run, and where it may: ``most_micro_cents`` None means at any price."""

    asking: Asking
    provider: str
    cell_id: str
    most_micro_cents: int | None


def run_on_provider(wish: Wish, fabric: Fabric, project: Path, terminal: Terminal) -> Ended:
    """Runs at the provider's scheduler; the choice among several standalone cells is told."""
    reach = _as_tenant(resolve(wish.provider, fabric, project, wish.cell_id), wish.asking)
    if reach.note:
        terminal.note(reach.note)
    return run_to_end(wish.asking, reach, project, terminal)


def run_on_cheapest(wish: Wish, fabric: Fabric, project: Path, terminal: Terminal) -> Ended:
    """Runs on the cheapest cell that fits, and on the next one if that was taken meanwhile. A run whose answer was lost
    is asked for where it was asked for before, whatever is the cheapest by now and whoever answers."""
    among = " ".join((wish.provider, wish.cell_id, value_of("fabric")))
    asking = wish.asking._replace(most_micro_cents=wish.most_micro_cents, among=among)
    reaches = choosing.reaches_of(wish.provider, fabric, project, wish.cell_id, terminal)
    reaches = [_as_tenant(reach, asking) for reach in reaches]
    before = pending_place(asking, project)
    if before is not None and (there := _at(before, reaches) or _recorded(before, fabric)) is not None:
        there = _as_tenant(there, asking)
        return _run_again(asking._replace(cell_id=before.pin), there, project, terminal)
    if before is not None:
        terminal.note(f"note: {before.scheduler}, which was asked for this run before, is gone; it is asked for anew")
        forget_pending(asking, project)
    return _run_on_first(asking, reaches, wish, project, terminal)


def _run_again(asking: Asking, there: Reach, project: Path, terminal: Terminal) -> Ended:
    try:
        return run_to_end(asking, there, project, terminal)
    except GrafosError as error:
        if error.code == "scheduler_unreachable":
            error.next = (
                f"{there.cell_id} may have begun this run before: ask again when it answers, or end it "
                f"(grafos cloud teardown, grafos fabric down --lost); another --provider runs it once more"
            )
        raise


def _run_on_first(asking: Asking, reaches: Sequence[Reach], wish: Wish, project: Path, terminal: Terminal) -> Ended:
    """Asks all of them, and runs on the first that fits and takes it."""

    def request(provider: str) -> RunRequest:
        return request_for(wish.asking, provider, secrets.token_hex(RUN_KEY_BYTES))

    found = choosing.ask_each(reaches, request, wish.provider, wish.most_micro_cents)
    fit = choosing.fitting(found, wish.provider)
    for one in fit:
        settled = settle_place(asking._replace(cell_id=one.pin), one.asked_there, project)
        there = _at(settled, reaches) or one.asked_there
        for line in choosing.remarks(found, one):
            terminal.note(line)
        try:
            ended = run_to_end(asking._replace(cell_id=settled.pin), there, project, terminal)
        except GrafosError as error:
            if error.code not in choosing.TAKEN_MEANWHILE or one is fit[-1]:
                raise
            terminal.note(f"{one.offer.cell_id} was taken meanwhile: {error.what}")
            continue
        return ended._replace(considered=choosing.considered(found))
    raise AssertionError("the last one that fits has either run or raised")


def _at(place: Place, reaches: Sequence[Reach]) -> Reach | None:
    """The scheduler of that place, asked for a run as it was then."""
    for reach in reaches:
        if (str(reach.fabric.id), reach.cell_id) == (place.fabric, place.scheduler):
            return reach._replace(provider=place.provider, note="")
    return None


def _recorded(place: Place, fabric: Fabric) -> Reach | None:
    """The scheduler of that place as its record has it, though it is none of those to choose from: past the end that we
    know of, or not the newest. None only where it is known to be gone; a record that cannot be read is its own error,
    and ``credentials_missing`` is for a fabric that is no more ours."""
    if place.provider == LOCAL:
        return None
    if place.fabric == str(fabric.id):
        return recorded(fabric, place.scheduler, place.provider)
    guest = open_guest()
    if guest is not None and place.fabric == str(guest.id):
        return recorded(guest, place.scheduler, place.provider)
    raise GrafosError(
        "credentials_missing",
        f"{place.scheduler} may have begun this run before, and its fabric is none that you have here now",
        where=f"fabric {place.fabric}",
        next="sign in there again: grafos account login; another --provider runs it once more",
    )


def _as_tenant(reach: Reach, asking: Asking) -> Reach:
    return reach._replace(tenant=asking.tenant or reach.tenant)
