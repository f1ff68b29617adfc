"""A registered cell's certificate lives for an hour; it is renewed over itself, with the same key, about halfway.

Deciding is pure: a certificate is watched by both clocks, since one may be set and the other stands still while a
machine sleeps. Acting is thin: ask and write. An orchestrator that does not know better has the link dialled anew.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import NamedTuple, Protocol

from grafos_cell import enrolling
from grafos_cell.enrolling import ASK_S_MAX, Bootstrap
from grafos_cell.identity import Identity
from grafos_core import trust
from grafos_core.clock import Clock
from grafos_core.errors import GrafosError
from grafos_scheduler.orchestrator_client import OrchestratorClient

RENEW_AT_FRACTION = 0.5
"""Of its life; so another half is left for the orchestrator to come back in."""
JITTER_FRACTION = 0.1
"""Of its life, either way: cells that enrolled together do not renew together."""
PAUSE_FIRST_S, PAUSE_MOST_S = 1.0, 60.0
"""Between two tries."""
LOOK_EVERY_S = 0.5
"""How late a moment may be noticed."""
WAIT, RENEW, OVER = "wait", "renew", "over"

log = logging.getLogger("grafos.cell")


class Moment(NamedTuple):
    """One moment by the wall clock (Unix seconds) and by the one that is never set (``Clock.monotonic``)."""

    wall: float
    steady: float

    def later(self, seconds: float) -> Moment:
        return Moment(self.wall + seconds, self.steady + seconds)


class Tries(NamedTuple):
    """How asking went since the certificate was issued. ``refused``: the last answer was that it is not accepted."""

    failures: int = 0
    refused: bool = False
    again_at_steady: float = 0.0

    def failed(self, fault: GrafosError, at: Moment, chance: random.Random) -> Tries:
        """One more try went wrong."""
        pause_s = min(PAUSE_MOST_S, PAUSE_FIRST_S * 2.0 ** min(self.failures, 16)) * chance.uniform(0.5, 1.0)
        return Tries(self.failures + 1, fault.code == "certificate_refused", at.steady + pause_s)


class Watched(NamedTuple):
    """A certificate: when it is due for renewal, and when it ends."""

    due: Moment
    ends: Moment


def watch(issued_at: float, ends_at: float, now: Moment, chance: random.Random) -> Watched:
    """When to renew a certificate that was issued then and ends then (Unix seconds)."""
    due_at = issued_at + (ends_at - issued_at) * (RENEW_AT_FRACTION + chance.uniform(-JITTER_FRACTION, JITTER_FRACTION))
    return Watched(now.later(due_at - now.wall), now.later(ends_at - now.wall))


def decide(watched: Watched, tries: Tries, now: Moment) -> str:
    """``WAIT``, ``RENEW``, or ``OVER``: it ran out.

    Our own clock alone never says that it is over: somebody who knows better must have refused it, or both clocks must
    agree and nobody answer.
    """
    is_past = now.wall >= watched.ends.wall and (tries.refused or now.steady >= watched.ends.steady)
    if tries.failures and is_past:
        return OVER
    is_due = now.wall >= watched.due.wall or now.steady >= watched.due.steady
    return RENEW if is_due and now.steady >= tries.again_at_steady else WAIT


class Holder(Protocol):
    """The agent, as far as it has to do with its identity."""

    def renewed(self, *, link_goes_on: bool) -> None:
        """The identity was loaded anew; ``link_goes_on``: the link that there is counts as long as it does."""

    async def end(self, fault: GrafosError) -> None:
        """The cell cannot go on: fences it and ends the daemon."""


class Renewer:
    """Keeps ``identity`` fresh until cancelled, or until it is over."""

    def __init__(self, bootstrap: Bootstrap, identity: Identity, clock: Clock, chance: random.Random) -> None:
        self._bootstrap = bootstrap
        self._identity = identity
        self._clock = clock
        self._chance = chance

    async def keep_fresh(self, holder: Holder) -> None:
        """Returns when the identity is over; ``holder`` was told why."""
        watched, tries = self._watch(), Tries()
        while (step := decide(watched, tries, self._now())) != OVER:
            if step == RENEW:
                outcome = await self._renew()
                if not isinstance(outcome, GrafosError):
                    watched, tries = self._watch(), Tries()
                    log.info("the certificate was renewed; it ends in %.0f s", watched.ends.wall - self._clock.now())
                    holder.renewed(link_goes_on=outcome)
                elif outcome.code == "cell_revoked":
                    await holder.end(outcome)
                    return
                else:
                    tries = tries.failed(outcome, self._now(), self._chance)
                    log.warning("the certificate could not be renewed: %s (%s)", outcome, outcome.why)
            await asyncio.sleep(LOOK_EVERY_S)
        await holder.end(ran_out(self._bootstrap))

    async def _renew(self) -> GrafosError | bool:
        """Whether the link goes on, or why there is no newer certificate."""
        try:
            return await asyncio.to_thread(self._ask)
        except GrafosError as error:
            return error
        except (OSError, ValueError) as error:
            return GrafosError("store_failed", "the renewed certificate could not be kept", why=str(error))

    def _ask(self) -> bool:
        identity, wanted = self._identity, self._bootstrap
        csr_pem = trust.make_csr(identity.private_key, wanted.cell_id)
        with OrchestratorClient(
            wanted.orchestrator,
            identity.ca_pem,
            identity.certificate,
            identity.key,
            identity.api_token,
            timeout_s=ASK_S_MAX,
        ) as client:
            credentials = client.renew(csr_pem)
        enrolling.check(credentials, identity.ca_pem, identity.private_key, wanted.cell_id, wanted.provider)
        enrolling.keep(identity.certificate.parent, credentials)
        identity.load()
        return credentials.link_goes_on

    def _watch(self) -> Watched:
        issued_at = trust.issued_at(self._identity.certificate_pem)
        return watch(issued_at, self._identity.peer.not_after, self._now(), self._chance)

    def _now(self) -> Moment:
        return Moment(self._clock.now(), self._clock.monotonic())


def ran_out(bootstrap: Bootstrap) -> GrafosError:
    """The end of a cell that was cut off for too long."""
    return GrafosError(
        "certificate_expired",
        f"the certificate of cell {bootstrap.cell_id} ran out before it could be renewed",
        where=bootstrap.orchestrator,
        next=bootstrap.again,
    )
