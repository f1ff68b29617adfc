"""How a cell belongs to its scheduler: where its identity comes from, what it leases out, and what ends it for good."""

from __future__ import annotations

import asyncio
import logging
import random
from pathlib import Path
from typing import Protocol

from grafos_cell import enrolling, inventory
from grafos_cell.enrolling import Bootstrap
from grafos_cell.identity import Identity, wait_for_identity
from grafos_cell.renewing_identity import Holder, Renewer
from grafos_cell.settings import Settings
from grafos_core.clock import Clock
from grafos_core.errors import GrafosError
from grafos_core.resources import Resources

NOBODY_HONOURS = frozenset({"cell_revoked", "generation_stale"})
"""The identity was revoked, or a copy of it is at work elsewhere and started later: of two, the older one is fenced."""

log = logging.getLogger("grafos.cell")


class Member(Holder, Protocol):
    """The agent, as its membership sees it."""

    linked_once: asyncio.Event


class Membership(Protocol):
    """``final_faults`` are the codes of a scheduler's goodbye after which dialling again is of no use."""

    final_faults: frozenset[str]

    async def identity(self) -> Identity:
        """Who the cell is; waits for it, or gets it."""

    def inventory(self) -> Resources:
        """What the cell leases out, told at each registration."""

    def image(self) -> str:
        """The digest that the image bears which this machine runs; "" on any other machine."""

    async def keep(self, identity: Identity, member: Member) -> None:
        """Goes on beside the agent, for as long as it serves."""


class BesideScheduler:
    """A standalone cell: its scheduler is on the same machine, and writes the identity into a folder of both."""

    final_faults: frozenset[str] = frozenset()

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def identity(self) -> Identity:
        return await wait_for_identity(self._settings.trust)

    def inventory(self) -> Resources:
        return self._settings.total

    def image(self) -> str:
        return inventory.image_sha256(Path("/"))

    async def keep(self, identity: Identity, member: Member) -> None:  # noqa: ARG002  # its scheduler sees to it
        await asyncio.Event().wait()


class Registered:
    """A cell that enrols at an orchestrator by itself, and keeps its certificate fresh."""

    final_faults = NOBODY_HONOURS

    def __init__(self, settings: Settings, bootstrap: Bootstrap, clock: Clock, chance: random.Random) -> None:
        self._settings = settings
        self._bootstrap = bootstrap
        self._clock = clock
        self._chance = chance

    async def identity(self) -> Identity:
        """The one that is kept, as long as it may still be good for something; else a new one for the token."""
        folder = self._settings.trust
        known = self._kept()
        if known is None or (known.peer.not_after <= self._clock.now() and self._bootstrap.token_file.exists()):
            await enrolling.enrol(folder, self._bootstrap, self._clock, self._chance)
            known = Identity(folder)
        return known

    def inventory(self) -> Resources:
        """What the machine has now; a flag stands over what was found."""
        found, wanted = inventory.found(Path("/"), self._settings.blocks), self._settings.total
        return Resources(*(told or seen for told, seen in zip(wanted.amounts(), found.amounts(), strict=True)))

    def image(self) -> str:
        return inventory.image_sha256(Path("/"))

    async def keep(self, identity: Identity, member: Member) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._forget_token(member))
            group.create_task(Renewer(self._bootstrap, identity, self._clock, self._chance).keep_fresh(member))

    def give_up(self) -> bool:
        """Removes an identity that nobody honours any more; whether there is a token to get another with."""
        enrolling.give_up(self._settings.trust)
        return self._bootstrap.token_file.exists()

    async def _forget_token(self, member: Member) -> None:
        """The link is up, so the cell has registered: its bootstrap token is worth nothing from here on."""
        await member.linked_once.wait()
        try:
            self._bootstrap.token_file.unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s is worthless now, but cannot be removed: %s", self._bootstrap.token_file, error)

    def _kept(self) -> Identity | None:
        try:
            identity = Identity(self._settings.trust)
        except (OSError, ValueError, GrafosError):
            return None
        peer, wanted = identity.peer, self._bootstrap
        if (peer.kind, peer.provider, peer.name) != ("cell", wanted.provider, wanted.cell_id):
            raise GrafosError(
                "config_invalid",
                f"the trust folder holds the identity of {peer.kind} {peer.name!r}, not of cell {wanted.cell_id}",
                where=str(self._settings.trust),
                next="use another folder for each cell",
            )
        return identity
