"""Opens the accounts that a command is to look at: one cloud, or every one that there are credentials for."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

from grafos_cli.nearness import nearest
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

ALL = "all"
ABSENT = ("credentials_missing", "unsupported")
"""Why a cloud that nobody named may be left out."""
ASKED_AT = {"aws": "us-east-1", "azure": "eastus", "gcp": "us-central1"}
"""Where questions go that are about no region, if the person's settings name none."""


def provider_named(word: str) -> str:
    """The one cloud of that name, or ``usage``."""
    if word not in PROVIDERS:
        near, known = nearest(word, list(PROVIDERS)), ", ".join(PROVIDERS)
        raise GrafosError(
            "usage",
            f"There is no cloud {word[:40]!r}" + (f"; did you mean {near!r}?" if near else ""),
            next=f"name one of: {known}",
        )
    return word


def providers_in(word: str) -> tuple[str, ...]:
    """The clouds that `--provider` names: one, or ``all`` of them."""
    return PROVIDERS if word == ALL else (provider_named(word),)


def open_account(provider: str, region: str = "") -> Connector:
    """The connector, its credentials tried."""
    connector = open_connector(provider, region or region_at_hand(provider) or ASKED_AT.get(provider, ""))
    identity_of(connector, time.sleep)
    return connector


def no_account() -> GrafosError:
    """For a person who has set up none."""
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
