"""Where `grafos deploy run` asks: one provider's scheduler, or of many cells the cheapest that fits."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from grafos_cli import choosing
from grafos_cli.reach import resolve
from grafos_cli.run_keys import RUN_KEY_BYTES
from grafos_cli.running import Asking, Ended, is_pending, request_for, run_to_end
from grafos_core.errors import GrafosError

if TYPE_CHECKING:
    from grafos_cli.choosing import Offered
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
    is looked for where it was asked for, whatever is the cheapest by now."""
    asking = wish.asking
    reaches = choosing.reaches_of(wish.provider, fabric, project, wish.cell_id, terminal)
    reaches = [_as_tenant(reach, asking) for reach in reaches]

    def request(provider: str) -> RunRequest:
        return request_for(asking, provider, secrets.token_hex(RUN_KEY_BYTES))

    found = choosing.ask_each(reaches, request, wish.provider, wish.most_micro_cents)
    for one in found:
        if is_pending(_on(wish, one), one.asked_there, project):
            return run_to_end(_on(wish, one), one.asked_there, project, terminal)
    fit = choosing.fitting(found, wish.provider)
    for one in fit:
        for line in choosing.remarks(found, one):
            terminal.note(line)
        try:
            ended = run_to_end(_on(wish, one), one.asked_there, project, terminal)
        except GrafosError as error:
            if error.code not in choosing.TAKEN_MEANWHILE or one is fit[-1]:
                raise
            terminal.note(f"{one.offer.cell_id} was taken meanwhile: {error.what}")
            continue
        return ended._replace(considered=choosing.considered(found))
    raise AssertionError("the last one that fits has either run or raised")


def _on(wish: Wish, one: Offered) -> Asking:
    return wish.asking._replace(cell_id=one.pin, most_micro_cents=wish.most_micro_cents)


def _as_tenant(reach: Reach, asking: Asking) -> Reach:
    return reach._replace(tenant=asking.tenant or reach.tenant)
