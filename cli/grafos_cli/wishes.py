"""What `grafos cloud provision` was asked for, and the places that it may mean."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from grafos_cli.accounts import provider_named
from grafos_cli.regions import REGION_VARIABLES, region_at_hand
from grafos_connectors.pricing.rules import is_stale
from grafos_connectors.pricing.table import VM, PriceTable
from grafos_connectors.registry import PROVIDERS
from grafos_core.errors import GrafosError
from grafos_stacks.layouts import layout_of
from grafos_stacks.spec import BY_WORD, NOT_AT_ALL

EXAMPLE_REGIONS = {"aws": "us-east-1", "azure": "eastus", "gcp": "us-central1"}
SHAPES = {
    "aws": re.compile(r"[a-z]{2}(?:-[a-z]+)+-\d+"),
    "gcp": re.compile(r"[a-z]+-[a-z]+\d+"),
    "azure": re.compile(r"[a-z]+\d*"),
}
"""How each cloud names its regions; no name fits two of them."""


@dataclass(frozen=True)
class Wish:
    """What was asked for on the command line; empty means open. ``markets`` are those to try, True for spot;
    ``joining`` is how a registered cell joins its orchestrator, ``image`` what its machine starts from."""

    providers: tuple[str, ...]
    regions: tuple[str, ...]
    zones: tuple[str, ...]
    machine_type: str
    ttl_s: int
    cell_id: str
    port: int
    allow: str
    max_ttl_s: int = 0
    any_place: bool = False
    markets: tuple[bool, ...] = (False,)
    max_hourly_cents: int | None = None
    count: int = 1
    joining: str = ""
    image: str = ""


def providers_of(word: str, *, any_place: bool) -> tuple[str, ...]:
    """The clouds that the argument names; none for all that are set up, which only ``--any`` may mean."""
    if not word and not any_place:
        raise GrafosError(
            "usage",
            "no cloud was named",
            next=f"grafos cloud provision PROVIDER, one of {', '.join(PROVIDERS)}; or --any for the cheapest of all",
        )
    named = words(word)
    if len(named) > 1 and not any_place:
        raise GrafosError("usage", "several clouds were named", next="add --any: one of them gets the cell")
    return tuple(map(provider_named, named))


def words(text: str) -> tuple[str, ...]:
    """The parts of a list with commas, each once."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def markets_of(*, spot: bool, or_on_demand: bool) -> tuple[bool, ...]:
    """The markets to try, the cheaper one first; ``usage`` for both flags."""
    if spot and or_on_demand:
        raise GrafosError("usage", "--spot and --spot-or-on-demand exclude each other", next="give one of both")
    return (True, False) if or_on_demand else (spot,)


def joining_of(*, keyless: bool, no_join: bool) -> str:
    """How registered cells join, as the flags say it; ``usage`` for both."""
    if keyless and no_join:
        raise GrafosError("usage", "--keyless and --no-join exclude each other", next="give one of both")
    return NOT_AT_ALL if no_join else BY_WORD if keyless else ""


def regions_for(provider: str, wish: Wish, fresh: Sequence[str]) -> tuple[str, ...]:
    """The regions of a cloud that are meant. ``fresh`` are those that a plan can be priced in.

    One name may be anything, for the cloud to judge; of several each goes to the cloud whose names look like it.
    """
    if wish.regions and len(wish.providers) == 1:
        return wish.regions
    if wish.regions:
        return tuple(region for region in wish.regions if SHAPES[provider].fullmatch(region))
    if wish.any_place:
        return tuple(fresh)
    return (_region_at_hand(provider),)


def cloud_of_region(region: str) -> str:
    """The cloud that names its regions so, or ``config_invalid``."""
    found = next((provider for provider, shape in SHAPES.items() if shape.fullmatch(region)), "")
    if not found:
        examples = ", ".join(f"{example} on {provider}" for provider, example in EXAMPLE_REGIONS.items())
        raise GrafosError(
            "config_invalid",
            f"no cloud names a region {region[:40]!r}",
            where="--region",
            next=f"write it as the cloud does: {examples}",
        )
    return found


def refuse_unmeant(wish: Wish, providers: Iterable[str]) -> None:
    """``config_invalid`` for a region that no cloud in question can mean, ``usage`` for what does not go together."""
    if (len(wish.regions) > 1 or len(wish.zones) > 1) and not wish.any_place:
        raise GrafosError("usage", "several places were named", next="add --any: one of them gets the cell")
    if wish.zones and (len(wish.regions) > 1 or (wish.any_place and not wish.regions)):
        raise GrafosError("usage", "zones go with one region", next="name one --region with --zone")
    if wish.max_hourly_cents is not None and wish.max_hourly_cents <= 0:
        raise GrafosError("usage", "nothing costs so little", where="--max-hourly", next="name whole US cents: 4")
    known = tuple(providers)
    lost = [region for region in wish.regions if not any(SHAPES[name].fullmatch(region) for name in known)]
    if len(known) > 1 and lost:
        raise GrafosError("config_invalid", f"no cloud names a region {lost[0][:40]!r}", where="--region")


def priced_regions(table: PriceTable, provider: str, machine_type: str, today: date, *, emulated: bool) -> list[str]:
    """The regions in which a plan can be priced: by a fresh row, or, of an emulator, by asking it."""
    types = {machine_type} if machine_type else set(layout_of(provider).default_types.values())
    rows = [row for row in table if (row.provider, row.kind) == (provider, VM) and row.name in types]
    return sorted({row.region for row in rows if emulated or not is_stale(row, today)})


def set_up(environment: dict[str, str] | None = None) -> tuple[str, ...]:
    """The clouds that somebody set up here, as far as one can see without asking."""
    from grafos_cli.checkups.clouds import is_set_up

    variables = dict(os.environ) if environment is None else environment
    return tuple(name for name in PROVIDERS if is_set_up(name, variables, Path.home()))


def _region_at_hand(provider: str) -> str:
    region = region_at_hand(provider)
    if not region:
        names = REGION_VARIABLES.get(provider, ())
        raise GrafosError(
            "config_invalid",
            "No region was given",
            why=f"neither {' nor '.join(('--region', *names))} names one",
            next=f"grafos cloud provision {provider} --region {EXAMPLE_REGIONS.get(provider, 'NAME')}",
        )
    return region
