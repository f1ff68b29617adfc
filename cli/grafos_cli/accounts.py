"""Opens the accounts that a command is to look at: one cloud, or every one that there are credentials for."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from grafos_cli.checkups.clouds import is_set_up
from grafos_cli.regions import region_at_hand
from grafos_cli.tables import short_id
from grafos_connectors.contract import Connector
from grafos_connectors.registry import PROVIDERS, open_connector
from grafos_core.clock import SystemClock
from grafos_core.errors import GrafosError
from grafos_core.fabric import Fabric
from grafos_stacks.asking import identity_of
from grafos_stacks.direct import Hands
from grafos_stacks.journal import Journal, StackState
from grafos_stacks.progress import DONE, Progress, Step
from grafos_stacks.records import CellHome

if TYPE_CHECKING:
    from grafos_cli.steps import Steps
    from grafos_cli.terminal import Terminal

ALL = "all"
ABSENT = ("credentials_missing", "unsupported")
"""Why a cloud that nobody named may be left out."""
ASKED_AT = {"aws": "us-east-1", "azure": "eastus", "gcp": "us-central1"}
"""Where questions go that are about no region, if the person's settings name none."""


def providers_in(word: str) -> tuple[str, ...]:
    """The clouds that `--provider` names; ``usage`` for another word."""
    if word == ALL:
        return PROVIDERS
    if word not in PROVIDERS:
        raise GrafosError(
            "usage", f"There is no provider {word[:40]!r}", next=f"--provider all, or one of {', '.join(PROVIDERS)}"
        )
    return (word,)


def open_account(provider: str, region: str = "") -> Connector:
    """The connector, its credentials tried."""
    connector = open_connector(provider, region or region_at_hand(provider) or ASKED_AT.get(provider, ""))
    identity_of(connector, time.sleep)
    return connector


def connectors_for(word: str, terminal: Terminal, needed: frozenset[str] = frozenset()) -> list[Connector]:
    """An open connector for each cloud that is meant. With ``all`` a cloud without credentials is left out and that is
    said, unless it is ``needed``: the fabric has cells there, so nothing could be called clean without it."""
    found: list[Connector] = []
    refusals: list[GrafosError] = []
    for provider in providers_in(word):
        if word == ALL and provider not in needed and not is_set_up(provider, os.environ, Path.home()):
            terminal.note(f"{provider} is left out: no credentials of it are in sight")
            continue
        try:
            found.append(open_account(provider))
        except GrafosError as error:
            if word != ALL or error.code not in ABSENT or provider in needed:
                raise
            refusals.append(error)
            terminal.note(f"{provider} is left out: {error.what}")
    if not found:
        raise refusals[0] if refusals else _no_account()
    return found


def _no_account() -> GrafosError:
    return GrafosError(
        "credentials_missing",
        "No credentials of any cloud are in sight",
        next='set up a cloud\'s own tool, or: grafos emulate up, then eval "$(grafos emulate env)"',
    )


@contextlib.contextmanager
def hands_for(connectors: list[Connector], fabric: Fabric) -> Iterator[list[Hands]]:
    """What it takes to work in each account; the journals are closed at the end of the block."""
    clock = SystemClock()
    with ExitStack() as closing:
        found = []
        for connector in connectors:
            journal = closing.enter_context(contextlib.closing(Journal(fabric, clock)))
            found.append(Hands(fabric, connector, journal, clock, time.sleep))
        yield found


def clouds_with_cells(fabric: Fabric) -> frozenset[str]:
    """The clouds on which the fabric has something, as its journal and its records say."""
    with contextlib.closing(Journal(fabric, SystemClock())) as journal:
        found = {row.provider for row in journal.stacks() if row.state is not StackState.GONE}
    homes = [CellHome(fabric, cell_id) for cell_id in fabric.cell_ids()]
    records = [home.record() for home in homes if home.is_recorded]
    return frozenset(found | {record.provider for record in records if not record.gone_at}) & frozenset(PROVIDERS)


def told_by(steps: Steps) -> Progress:
    """Draws what stacks tells."""
    return told_of(steps, "")


def told_of(steps: Steps, cell_id: str) -> Progress:
    """The same for one of several cells."""
    head = f"{cell_id}: " if cell_id else ""

    def hear(step: Step) -> None:
        name, note = head + short_id(step.name), short_id(step.note)
        if step.state == DONE:
            steps.ended(name, note)
        else:
            steps.changed(name, note)

    return hear
