"""`grafos cloud prices`: the dated price table that plans on real clouds are made by."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from grafos_cli.taught import new_group, taught, terminal_of
from grafos_core.errors import GrafosError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

    from grafos_cli.steps import Steps
    from grafos_cli.terminal import Terminal
    from grafos_connectors.pricing.table import PriceRow, PriceTable
    from grafos_stacks.prices import Outcome, PriceBook

EMULATED_NOTE = "An emulated cloud is asked itself; its fictional prices are never in this table."
NOT_USED = ("credentials_missing", "unsupported")
"""Why a cloud that nobody named is passed over: this person does not use it."""

app = new_group(
    help="The price table: who said each price, on which day, and whether a plan may be made by it.",
    examples=(
        "grafos cloud prices show --provider aws",
        "grafos cloud prices refresh --provider aws --type t4g.medium",
    ),
    next="grafos cloud prices refresh",
)

ProviderFlag = Annotated[str, typer.Option(metavar="NAME", help="only this cloud: aws, azure, gcp")]
RegionFlag = Annotated[str, typer.Option(metavar="NAME", help="only this region")]
TypeFlag = Annotated[str, typer.Option("--type", metavar="NAME", help="only this machine type")]


@app.command(
    "show",
    cls=taught(
        examples=("grafos cloud prices show", "grafos cloud prices show --provider gcp --region europe-west1 --json"),
        next="grafos cloud prices refresh",
        streams="prices",
    ),
)
def show(ctx: typer.Context, provider: ProviderFlag = "", region: RegionFlag = "", machine_type: TypeFlag = "") -> None:
    """Lists the prices that are known, each with its source and day; asks no cloud.

    A price of a real cloud older than 30 days, or of an unknown day, is shown as stale: no plan is made by it.
    """
    from grafos_cli.accounts import provider_named
    from grafos_core.clock import SystemClock
    from grafos_stacks.prices import PriceBook

    terminal = terminal_of(ctx)
    provider = provider and provider_named(provider)
    book = PriceBook(SystemClock())
    table = book.table()
    rows = [
        row
        for row in table
        if provider in ("", row.provider)
        and region in ("", row.region)
        and machine_type in ("", row.name, row.name.partition(":")[2])
    ]
    documents = [_document(row, table, book.today) for row in rows]
    text = _rows_text(rows, documents, terminal) if rows else "No price is known of that.\n"
    terminal.emit({"prices": documents, "file": str(book.file)}, f"{text}\n{EMULATED_NOTE}\n")


@app.command(
    "refresh",
    cls=taught(
        examples=(
            "grafos cloud prices refresh",
            "grafos cloud prices refresh --provider aws --region us-east-1 --type t4g.medium",
        ),
        next="grafos cloud provision aws",
    ),
)
def refresh(
    ctx: typer.Context, provider: ProviderFlag = "", region: RegionFlag = "", machine_type: TypeFlag = ""
) -> None:
    """Reads prices from the clouds and keeps those that can be believed, with today's date.

    Without a flag: every machine of the table, on every cloud with credentials, all at the same time. One cloud's
    failure keeps the others' prices, and the old one where a new one was not to be had.
    """
    from concurrent.futures import ThreadPoolExecutor

    from grafos_cli.accounts import provider_named
    from grafos_cli.steps import show_steps
    from grafos_connectors.registry import PROVIDERS
    from grafos_core.clock import SystemClock
    from grafos_stacks.prices import PriceBook

    terminal = terminal_of(ctx)
    book = PriceBook(SystemClock())
    wanted = Asked(provider, region, machine_type)
    names = (provider_named(provider),) if provider else PROVIDERS
    with show_steps(terminal) as steps, ThreadPoolExecutor(len(names), thread_name_prefix="prices") as pool:
        answers = list(pool.map(lambda name: _answer(book, name, wanted, steps), names))
    kept = sum(answer.kept for answer in answers)
    document = {"kept": kept, "file": str(book.file), "clouds": [answer.document() for answer in answers]}
    failure = _failure(answers, named=bool(provider))
    if failure is None:
        terminal.emit(document, "".join(f"{answer.provider}: {answer.text()}\n" for answer in answers))
        return
    for answer in answers:
        terminal.note(f"{answer.provider}: {answer.text()}")
    failure.context = {**failure.context, **document}
    raise failure


class Asked(NamedTuple):
    """What was asked for; empty means all."""

    provider: str
    region: str
    machine_type: str


class Answer(NamedTuple):
    """What came of one cloud. ``error`` is why nothing could be asked of it at all."""

    provider: str
    emulated: bool
    outcomes: tuple[Outcome, ...]
    error: GrafosError | None = None

    @property
    def kept(self) -> int:
        """Machine types in regions whose prices are in the table now."""
        return 0 if self.emulated else sum(outcome.error is None for outcome in self.outcomes)

    @property
    def failures(self) -> list[GrafosError]:
        """Everything that was refused."""
        found = [outcome.error for outcome in self.outcomes if outcome.error is not None]
        return [self.error, *found] if self.error else found

    def text(self) -> str:
        """One line for people."""
        if self.error is not None:
            return f"not asked: {self.error.what}"
        if self.emulated:
            return "emulated: its prices are fictional, and none is kept"
        refused = f", {len(self.failures)} refused: {self.failures[0].what}" if self.failures else ""
        return f"{self.kept} machine prices kept{refused}"

    def document(self) -> dict[str, object]:
        """For programs."""
        return {
            "provider": self.provider,
            "emulated": self.emulated,
            "kept": self.kept,
            "errors": [error.to_wire() for error in self.failures],
        }


def _answer(book: PriceBook, provider: str, asked: Asked, steps: Steps) -> Answer:
    """Asks one cloud; never raises what the cloud refuses."""
    from grafos_cli.regions import region_at_hand
    from grafos_connectors.registry import open_connector
    from grafos_stacks.asking import identity_of
    from grafos_stacks.prices import refresh as refresh_prices
    from grafos_stacks.prices import wanted_of

    region, types = asked.region, (asked.machine_type,) if asked.machine_type else ()
    wanted = wanted_of(book.table(), (provider,), (region,) if region else (), types)
    try:
        connector = open_connector(provider, region or region_at_hand(provider) or (wanted[0].region if wanted else ""))
        if identity_of(connector, time.sleep).emulated:
            return Answer(provider, emulated=True, outcomes=())
        steps.began(provider, f"{len(wanted)} machine types")
        outcomes = refresh_prices(book, connector, wanted, _teller(steps, provider))
        steps.ended(provider, f"{len(outcomes)} machine types")
    except GrafosError as error:
        return Answer(provider, emulated=False, outcomes=(), error=error)
    return Answer(provider, emulated=False, outcomes=tuple(outcomes))


def _teller(steps: Steps, provider: str) -> Callable[[Outcome], None]:
    def told(outcome: Outcome) -> None:
        steps.changed(provider, f"{outcome.wanted.machine_type} in {outcome.wanted.region}")

    return told


def _failure(answers: list[Answer], *, named: bool) -> GrafosError | None:
    """What the command ends with. A cloud that nobody named and that has no credentials is no failure; no cloud is."""
    if not named:
        used = [answer for answer in answers if answer.error is None or answer.error.code not in NOT_USED]
        if not used:
            return GrafosError(
                "credentials_missing",
                "no cloud's credentials were found, so no price was read",
                why="; ".join(f"{one.provider}: {one.error.what.rstrip('.')}" for one in answers if one.error),
                next="set up one of them, or name it to see what it lacks: grafos cloud prices refresh --provider aws",
            )
        answers = used
    failures = [error for answer in answers for error in answer.failures]
    return failures[0] if failures else None


def _document(row: PriceRow, table: PriceTable, today: date) -> dict[str, object]:
    import msgspec

    found: dict[str, object] = msgspec.to_builtins(row)
    return {**found, "state": _state(row, table, today)}


def _state(row: PriceRow, table: PriceTable, today: date) -> str:
    """Whether a plan may be made by it."""
    from grafos_connectors.pricing.rules import is_stale, refuse_implausible

    try:
        refuse_implausible(row, table)
    except GrafosError:
        return "implausible"
    return "stale" if is_stale(row, today) else "good"


def _rows_text(rows: list[PriceRow], documents: list[dict[str, object]], terminal: Terminal) -> str:
    from grafos_cli.tables import table
    from grafos_core.money import format_cents

    cells = [
        [
            row.provider,
            row.kind,
            row.name,
            row.region,
            format_cents(row.price_micro_cents) + (" (fictional)" if row.fictional else ""),
            row.unit,
            format_cents(row.spot_micro_cents) if row.spot_micro_cents else "-",
            row.as_of,
            str(document["state"]),
            row.source,
        ]
        for row, document in zip(rows, documents, strict=True)
    ]
    head = ("CLOUD", "KIND", "NAME", "REGION", "PRICE", "PER", "SPOT", "AS OF", "STATE", "SOURCE")
    return table(head, cells, terminal, "    r r", ("SOURCE", "SPOT", "KIND", "PER"))
