"""Which amounts are an emulator's, and the label that such an amount always bears where a person reads it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from grafos_core.ledger import OPEN
from grafos_core.money import format_cents

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from grafos_core.fabric import Fabric
    from grafos_core.ledger import Hold

LABEL = " (fictional)"


def amount_text(micro_cents: int, *, fictional: bool) -> str:
    """An amount for people. Nothing is nothing, whoever says it."""
    return format_cents(micro_cents) + (LABEL if fictional and micro_cents else "")


def emulated_cells(fabric: Fabric) -> frozenset[str]:
    """The cells of the fabric, also those that are gone, whose latest record says that an emulator made them."""
    return frozenset(cell_id for cell_id in fabric.cell_ids() if _is_emulated(fabric, cell_id))


def _is_emulated(fabric: Fabric, cell_id: str) -> bool:
    try:
        record = json.loads((fabric.home / "cells" / cell_id / "cell.json").read_bytes())
    except (OSError, ValueError):
        return False  # a name that was only asked for
    return bool(record.get("emulated"))


def fictional_of(holds: Iterable[Hold], account: str, emulated: Collection[str]) -> tuple[int, int]:
    """What an account has held and has spent, in micro-cents, for what emulators bill; they count under its cap too.

    ``emulated`` are the cells of emulators: a slice that one may spend has no meter of its own.
    """
    theirs = [one for one in holds if one.account == account and _is_fictional(one, emulated)]
    held = sum(one.amount_micro_cents for one in theirs if one.state == OPEN)
    return held, sum(one.actual_micro_cents for one in theirs)


def _is_fictional(held: Hold, emulated: Collection[str]) -> bool:
    return held.meter.fictional if held.meter is not None else held.slice_for in emulated


def fictional_text(held_micro_cents: int, spent_micro_cents: int) -> str:
    """That part of an account's money in words; empty when there is none."""
    parts = ((held_micro_cents, "held"), (spent_micro_cents, "spent"))
    told = [f"{format_cents(amount)} of what is {word}" for amount, word in parts if amount]
    return f"{' and '.join(told)}: an emulator bills it, and nobody pays" if told else ""
