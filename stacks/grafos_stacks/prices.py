"""The person's price table, and the price that a plan is made by.

``$XDG_DATA_HOME/grafos/prices.json`` holds what was read from real clouds, over the rows that ship with grafos. A plan
on a real cloud takes its price from this table, so that what was shown, agreed to and held is one dated figure. A plan
on an emulated cloud asks the emulator, whose prices are fictional and never get into the table.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import NamedTuple

import msgspec

from grafos_connectors.contract import Connector, Identity, Offer, Price
from grafos_connectors.pricing.rules import day_of, refresh_command, refuse_implausible, refuse_stale
from grafos_connectors.pricing.table import (
    ADDRESS,
    DISK,
    PUBLIC_ADDRESS,
    VM,
    PriceRow,
    PriceTable,
    boot_disk,
    price_of,
    rows_of,
    seed_rows,
)
from grafos_core.clock import Clock, SystemClock
from grafos_core.errors import GrafosError
from grafos_core.money import format_cents, from_cents
from grafos_core.paths import data_home, locked, private_folder, write_private

SCHEMA_VERSION = 1
MEETS_ALL = ("cloud_auth", "cloud_denied", "cloud_unreachable", "credentials_missing", "credentials_mixed")
"""Refusals that the next question to the same cloud would meet as well."""
REGIONS_AT_ONCE = 4
"""Of one cloud: price lists have request limits of their own, which a region's questions one after the other keep."""

PriceFor = Callable[[Connector, Identity, Offer], Price]
"""Gives the price that a plan for an offer is made by."""


class _Kept(msgspec.Struct, frozen=True):
    """The file."""

    rows: tuple[PriceRow, ...]
    schema_version: int = SCHEMA_VERSION


class PriceBook:
    """The person's table, in its file; ``folder`` stands in for where grafos keeps its data."""

    def __init__(self, clock: Clock, folder: Path | None = None) -> None:
        self._clock = clock
        self._folder = folder or data_home()

    @property
    def file(self) -> Path:
        """Where the rows are that were read from clouds."""
        return self._folder / "prices.json"

    @property
    def today(self) -> date:
        """The day, in UTC."""
        return day_of(self._clock.now())

    def table(self) -> PriceTable:
        """All rows; ``store_invalid`` or ``schema_newer`` when the person's cannot be read."""
        return PriceTable(seed_rows(), self._own())

    def keep(self, rows: Iterable[PriceRow]) -> None:
        """Puts rows into the file: all or none, and none of another process is lost. Fictional ones are refused."""
        wanted = tuple(rows)
        assert not any(row.fictional for row in wanted), "what an emulator says is in no table of real prices"
        private_folder(self._folder)
        with locked(self._folder / "prices.lock"):
            table = PriceTable(own=self._own()).with_rows(wanted)
            kept = _Kept(tuple(sorted(table.own.values(), key=lambda row: row.key)))
            write_private(self.file, msgspec.json.format(msgspec.json.encode(kept), indent=1))

    def price(self, connector: Connector, identity: Identity, offer: Offer) -> Price:
        """The price that a plan is made by: a ``PriceFor``. Errors as of ``price_in_table`` and ``asked_price``."""
        if identity.emulated:
            return asked_price(connector, offer, self.table())
        return price_in_table(self.table(), connector.provider, offer, self.today)

    def _own(self) -> tuple[PriceRow, ...]:
        try:
            kept = msgspec.json.decode(self.file.read_bytes(), type=_Kept)
        except FileNotFoundError:
            return ()
        except (OSError, msgspec.DecodeError) as error:
            raise GrafosError(
                "store_invalid",
                "the table of prices cannot be read",
                where=str(self.file),
                why=str(error),
                next="remove the file, then: grafos cloud prices refresh",
            ) from error
        if kept.schema_version > SCHEMA_VERSION:
            raise GrafosError("schema_newer", "the table of prices is of a newer grafos", where=str(self.file))
        return kept.rows


def price_today(connector: Connector, identity: Identity, offer: Offer) -> Price:
    """The price by this person's table and this machine's clock; a ``PriceFor``."""
    return PriceBook(SystemClock()).price(connector, identity, offer)


def price_in_table(table: PriceTable, provider: str, offer: Offer, today: date) -> Price:
    """A real cloud's price. ``price_missing``, ``price_stale`` or ``price_implausible`` if none can be believed."""
    place, machine_type = offer.region, offer.machine_type
    found = []
    for kind, name in ((VM, machine_type), (DISK, boot_disk(machine_type)), (ADDRESS, PUBLIC_ADDRESS)):
        row = table.find(provider, kind, name, place)
        if row is None:
            raise GrafosError(
                "price_missing",
                f"no price is known of {name} in {place}",
                where=f"{provider} {place}",
                next=refresh_command(provider, place, machine_type),
            )
        refuse_stale(row, today, machine_type)
        refuse_implausible(row, table)
        found.append(row)
    return price_of(*found)


def asked_price(connector: Connector, offer: Offer, table: PriceTable) -> Price:
    """What an emulated cloud says, if it is plausible; the price is fictional, and no table keeps it."""
    price = connector.price(offer.region, offer.machine_type)
    if not price.fictional:
        price = msgspec.structs.replace(price, fictional=True)
    for row in rows_of(price, connector.provider, offer, price.as_of):
        refuse_implausible(row, table)
    return price


# --- refreshing -------------------------------------------------------------------------------------------------


class Wanted(NamedTuple):
    """A machine type in a region, whose prices are to be read."""

    provider: str
    region: str
    machine_type: str


class Outcome(NamedTuple):
    """What came of one wanted price: the rows that it gave, or why there are none."""

    wanted: Wanted
    rows: tuple[PriceRow, ...]
    error: GrafosError | None = None


def wanted_of(
    table: PriceTable,
    providers: Collection[str],
    regions: Collection[str] = (),
    machine_types: Collection[str] = (),
) -> tuple[Wanted, ...]:
    """What a refresh asks for: the machines of the table, narrowed by region and type.

    A type and a region that are named are asked for whether the table has them or not.
    """
    known = {
        Wanted(row.provider, row.region, row.name)
        for row in table
        if row.kind == VM
        and row.provider in providers
        and (not regions or row.region in regions)
        and (not machine_types or row.name in machine_types)
    }
    if len(providers) == 1:
        known |= {Wanted(name, region, one) for name in providers for region in regions for one in machine_types}
    return tuple(sorted(known))


def read_price(connector: Connector, wanted: Wanted, table: PriceTable, today: date) -> Outcome:
    """Asks the cloud for one machine's prices; what it refuses, or what cannot be believed, is in the outcome."""
    try:
        offers = connector.offers(wanted.region, wanted.machine_type)
        if not offers:
            raise GrafosError(
                "cloud_capacity",
                f"{wanted.region} does not offer {wanted.machine_type}",
                where=f"{wanted.provider} {wanted.region}",
                next="choose another machine type or region",
                retryable=False,
            )
        price = connector.price(wanted.region, wanted.machine_type)
        rows = rows_of(price, wanted.provider, offers[0], today.isoformat())
        for row in rows:
            refuse_implausible(row, table)
    except GrafosError as error:
        return Outcome(wanted, (), error)
    return Outcome(wanted, rows)


def refresh(
    book: PriceBook, connector: Connector, wanted: Iterable[Wanted], told: Callable[[Outcome], object]
) -> list[Outcome]:
    """Reads the wanted prices of one cloud and keeps those that can be believed, all at once at the end.

    What fails leaves its old row. A refusal that would meet every further question too ends the asking; what came
    before it is kept. An emulated cloud's prices are read and not kept. ``told`` hears of each as it comes, on the
    thread that asked: regions are asked at the same time, since each question is mostly waiting.
    """
    by_region: dict[str, list[Wanted]] = {}
    for one in wanted:
        by_region.setdefault(one.region, []).append(one)
    table, ended = book.table(), threading.Event()

    def of_region(wanted_there: Sequence[Wanted]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for one in wanted_there:
            if ended.is_set():
                break
            outcomes.append(read_price(connector, one, table, book.today))
            told(outcomes[-1])
            if (error := outcomes[-1].error) is not None and error.code in MEETS_ALL:
                ended.set()
        return outcomes

    with ThreadPoolExecutor(max_workers=REGIONS_AT_ONCE, thread_name_prefix="prices") as pool:
        try:
            outcomes = [outcome for several in pool.map(of_region, by_region.values()) for outcome in several]
        except BaseException:
            ended.set()  # Ctrl-C waits for the questions under way and asks no further
            raise
    real = [row for outcome in outcomes for row in outcome.rows if not row.fictional]
    if real:
        book.keep(real)
    return outcomes


# --- a bound by the hour ----------------------------------------------------------------------------------------


def refuse_over(
    rate_micro_cents_per_hour: int, max_hourly_cents: int | None, what: str, *, fictional: bool = False
) -> None:
    """``budget_exceeded`` if ``what`` costs more by the hour than was allowed; None allows any price."""
    if max_hourly_cents is None or rate_micro_cents_per_hour <= from_cents(max_hourly_cents):
        return
    rate = format_cents(rate_micro_cents_per_hour) + (" (fictional)" if fictional else "")
    raise GrafosError(
        "budget_exceeded",
        f"{what} costs {rate} an hour, disk and address included, and at most "
        f"{format_cents(from_cents(max_hourly_cents))} was allowed",
        next="choose a smaller machine or a cheaper region, or allow more with --max-hourly",
        context={
            "rate_micro_cents_per_hour": rate_micro_cents_per_hour,
            "max_hourly_micro_cents": from_cents(max_hourly_cents),
        },
    )
