"""How the fabric's ledger moves into its orchestrator, and comes home again.

    move_ledger        here ─ close here, note it ─> moving ─ hand over ─> taken there ─ note it ─> moved
    bring_ledger_home  moved ─ note it ─> coming ─ close there, fetch ─> arrived, in one transaction ─> here

Each step may be repeated and whoever comes next goes on, so a process may be killed between any two. The ledger is
closed at one place, durably, before it is opened at the other; what was handed over is known by its generation and
digest, so that neither a repeated call nor one that comes late opens an old one again. What comes home comes to one
home: the one that drew the word by which the orchestrator knows who fetches.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import NamedTuple

from msgspec.structs import replace

from grafos_core import trust
from grafos_core.booking import LedgerCopy, digest_of
from grafos_core.clock import Clock, SystemClock
from grafos_core.errors import GrafosError
from grafos_core.fabric import Fabric
from grafos_core.ledger import Ledger
from grafos_core.ledger_place import Place, Standing
from grafos_scheduler.ledger_messages import LedgerState, LedgerView
from grafos_scheduler.orchestrator_client import OrchestratorClient
from grafos_stacks.orchestrators import OrchestratorHome, OrchestratorRecord
from grafos_stacks.progress import BEGUN, DONE, WAITING, Progress, Step, unheard
from grafos_stacks.records import OPERATOR

RUNS_PATIENCE_S = 30.0
"""What runs under way get to end, before what they hold counts as spent in full."""
ASK_EVERY_S = 0.2
FETCHES_MAX = 5
"""A tenant that is made meanwhile changes what goes home."""
FETCH_BITS = 128


class CameHome(NamedTuple):
    """``running``: so many runs under way were counted as having spent all that they held."""

    place: Place
    running: int = 0


def move_ledger(fabric: Fabric, *, clock: Clock | None = None, progress: Progress = unheard) -> Place:
    """Has the fabric's ledger kept by its orchestrator, which was claimed; where it is then. A home whose own ledger
    is as it was made takes over the one that is there.

    Repeating it changes nothing. ``ledger_elsewhere`` when another orchestrator keeps it, or this one has another;
    ``scheduler_unreachable`` and the like leave it closed here, and the next command that books goes on.
    """
    clock = clock or SystemClock()
    home = OrchestratorHome(fabric)
    record = home.known()
    _adopted(fabric, home, record, clock)
    place, copy = _closed_here(fabric, home, record, clock)
    progress(Step("close ledger here", DONE, 0.0))
    began = clock.monotonic()
    with home.client(OPERATOR) as client:
        if place.standing is not Standing.MOVING:
            seen, ledger = client.ledger_without_runs()
            if seen.generation >= place.generation or place.standing is Standing.COMING:
                return _followed(fabric, place, _copy_there(seen, ledger), home, record, clock)
        # An orchestrator that lives on from a backup of before the move has to be told again.
        progress(Step("hand ledger over", BEGUN, 0.0, f"{len(copy.holds)} holds"))
        client.take_ledger(copy, place.digest)
    progress(Step("hand ledger over", DONE, clock.monotonic() - began))
    place = _noted(fabric, place, replace(place, standing=Standing.MOVED, since=clock.now()))
    progress(Step("note where it is", DONE, 0.0))
    return place


def bring_ledger_home(
    fabric: Fabric,
    *,
    clock: Clock | None = None,
    sleep: Callable[[float], object] = time.sleep,
    progress: Progress = unheard,
    patience_s: float = RUNS_PATIENCE_S,
    chance: random.Random | None = None,
    take_over: bool = False,
) -> CameHome:
    """Closes the ledger at the orchestrator and opens it here, with what tenants spent there; nothing is admitted there
    any more. Runs under way get ``patience_s`` to end; then what they hold counts as spent in full.

    A ledger that is here stays. ``scheduler_unreachable``: nothing is lost, ask again; for an orchestrator that will
    never answer again there is ``reopen_ledger``. ``ledger_elsewhere`` when another home of the fabric has fetched it
    or is about to, unless it is to be taken over from that one, which is lost.
    """
    clock = clock or SystemClock()
    home = OrchestratorHome(fabric)
    if take_over and (record := home.record()) is not None:
        _adopted(fabric, home, record, clock, take_over=True)
    place = fabric.ledger_place()
    if not place.is_here:
        check_keeper(home, place)
    if place.standing is Standing.MOVING:
        place = move_ledger(fabric, clock=clock, progress=progress)
    if place.is_here:
        return CameHome(place)
    if take_over:
        with home.client(OPERATOR) as client:
            copy = _copy_there(*client.ledger_without_runs())
        place = _followed(fabric, place, copy, home, home.known(), clock)
    # Since when it is away stays: should it never come, what came to pass since then is booked anew.
    drawn = f"{(chance or random.SystemRandom()).getrandbits(FETCH_BITS):032x}"
    place = _noted(fabric, place, replace(place, standing=Standing.COMING, fetch=drawn))
    progress(Step("note that it comes", DONE, 0.0))
    with home.client(OPERATOR) as client:
        if take_over:
            client.close_ledger(place.generation, fetch=place.fetch, take_over=True)
        running = _close_there(client, place, clock, sleep, progress, patience_s)
        progress(Step("close ledger there", DONE, 0.0))
        copy = _fetched(client, place)
    progress(Step("fetch ledger", DONE, 0.0, f"{len(copy.holds)} holds"))
    return CameHome(_arrived(fabric, place, copy, clock), running)


def is_begun_here(fabric: Fabric) -> bool:
    """Whether the ledger is here because it never left, though the fabric has an orchestrator: another home of the
    fabric may have the one that counts."""
    return fabric.ledger_place() == Place() and OrchestratorHome(fabric).record() is not None


def check_ledger_is_here(fabric: Fabric) -> None:
    """``ledger_elsewhere`` unless the ledger is in the fabric's home, which whoever leaves an orchestrator wants."""
    place = fabric.ledger_place()
    if not place.is_here:
        raise GrafosError(
            "ledger_elsewhere",
            f"the orchestrator {place.keeper} keeps the fabric's ledger",
            where=place.url,
            next="bring it home first: grafos fabric bring-home; if that orchestrator is lost: with --lost",
        )


def _closed_here(
    fabric: Fabric, home: OrchestratorHome, record: OrchestratorRecord, clock: Clock
) -> tuple[Place, LedgerCopy]:
    """The ledger as it is handed over, closed here from this very transaction on."""
    with fabric.ledger() as local:
        place = local.place
        if place.is_here:
            copy = local.copy(place.generation + 1)
            place = _kept_by(Standing.MOVING, copy, home, record, clock)
            local.go(place)
            return place, copy
        check_keeper(home, place)
        if place.url != record.url:
            local.go(replace(place, url=record.url))
        return local.place, local.copy(place.generation)


def _noted(fabric: Fabric, before: Place, after: Place) -> Place:
    """Where it is now, unless it was noted already or somebody else came further meanwhile."""
    with fabric.ledger() as local:
        if local.place == before and before.standing is not after.standing:
            local.go(after)
        return local.place


def _close_there(
    client: OrchestratorClient,
    place: Place,
    clock: Clock,
    sleep: Callable[[float], object],
    progress: Progress,
    patience_s: float,
) -> int:
    """How many runs were counted as having spent all that they held."""
    began = clock.monotonic()
    while (seen := client.close_ledger(place.generation, fetch=place.fetch)).state != LedgerState.CLOSED:
        waited_s = clock.monotonic() - began
        if waited_s >= patience_s:
            client.close_ledger(place.generation, spend_running=True, fetch=place.fetch)
            return seen.running
        progress(Step("close ledger there", WAITING, waited_s, f"{seen.running} runs under way"))
        sleep(ASK_EVERY_S)
    return 0


def _fetched(client: OrchestratorClient, place: Place) -> LedgerCopy:
    for _ in range(FETCHES_MAX):
        seen, ledger = client.ledger()
        copy = LedgerCopy(place.generation, tuple(ledger.accounts.values()), tuple(ledger.holds.values()))
        if seen.state == LedgerState.CLOSED and digest_of(copy) == seen.digest:
            return copy
    raise GrafosError(
        "answer_invalid",
        "the ledger that the orchestrator gives is not the one that it closed",
        where=place.url,
        next="run the command again; the ledger stays closed on both sides until it came whole",
    )


def _arrived(fabric: Fabric, place: Place, copy: LedgerCopy, clock: Clock) -> Place:
    with fabric.ledger() as local:
        if local.place == place:
            local.come_home(copy, Place(generation=place.generation, since=clock.now(), lost=place.lost))
        return local.place


def check_keeper(home: OrchestratorHome, place: Place) -> None:
    """``ledger_elsewhere`` unless the orchestrator that the fabric has is the one that keeps its ledger."""
    record = home.record()
    if record is None or _ca_sha256(home) != place.keeper_ca_sha256:
        raise GrafosError(
            "ledger_elsewhere",
            f"the fabric's ledger is with the orchestrator {place.keeper}, which this fabric has no more",
            where=place.url,
            next="if it is lost: grafos fabric bring-home --lost",
        )


def _adopted(
    fabric: Fabric, home: OrchestratorHome, record: OrchestratorRecord, clock: Clock, *, take_over: bool = False
) -> None:
    """In a home whose ledger never left it, takes over that the orchestrator keeps the fabric's, which another home
    moved there.

    ``ledger_elsewhere`` where this home's own ledger has holds already, which would be lost; and when that other home
    has fetched it or is about to, unless it is to be taken over from that one, which is lost.
    """
    if fabric.ledger_place() != Place():
        return
    with home.client(OPERATOR) as client:
        seen, ledger = client.ledger_without_runs()
    if not seen.generation:
        return
    with fabric.ledger() as local:
        if local.place != Place():
            return
        if local.ledger.holds:
            raise GrafosError(
                "ledger_elsewhere",
                f"the orchestrator {record.name} keeps the fabric's ledger, and this home's own has holds, too",
                where=record.url,
                next="tear down what was made from here (grafos cloud ls), move this home's folder away, import the "
                "key again, then claim again",
                context={"holds": sorted(local.ledger.holds)},
            )
        if seen.state != LedgerState.OPEN and not take_over:
            raise GrafosError(
                "ledger_elsewhere",
                f"another home of the fabric has fetched its ledger from the orchestrator {record.name}",
                where=record.url,
                next="work there; if that home is lost: grafos fabric bring-home --lost, then claim again",
            )
        copy = _copy_there(seen, ledger)
        local.follow(copy, _kept_by(Standing.MOVED, copy, home, record, clock))


def _followed(
    fabric: Fabric, place: Place, copy: LedgerCopy, home: OrchestratorHome, record: OrchestratorRecord, clock: Clock
) -> Place:
    """The place, of the generation that is there: another home may have fetched the ledger and moved it there again.
    Then the copy of that generation takes the place of the one here, which tells less than was spent by then."""
    with fabric.ledger() as local:
        if local.place == place and place.generation < copy.generation:
            local.follow(copy, _kept_by(Standing.MOVED, copy, home, record, clock))
        return local.place


def _copy_there(seen: LedgerView, ledger: Ledger) -> LedgerCopy:
    """What the orchestrator has, as a home's copy tells it."""
    return LedgerCopy(seen.generation, tuple(ledger.accounts.values()), tuple(ledger.holds.values()), seen.lost)


def _kept_by(
    standing: Standing, copy: LedgerCopy, home: OrchestratorHome, record: OrchestratorRecord, clock: Clock
) -> Place:
    return Place(
        standing,
        generation=copy.generation,
        keeper=record.name,
        url=record.url,
        keeper_ca_sha256=_ca_sha256(home),
        digest=digest_of(copy),
        since=clock.now(),
        lost=copy.lost,
    )


def _ca_sha256(home: OrchestratorHome) -> str:
    """Of the newest CA that was pinned: by it an orchestrator is known, whatever its address."""
    return trust.certificate_sha256(home.ca_pem)
