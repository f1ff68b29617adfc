"""`deploy --provider any` and `--max-cents`: of every cell that could take a run, the cheapest; and why not the others.

Asked are the cells that joined the fabric's orchestrator and the standalone cells of the fabric; the local fabric costs
nothing and is never meant by `any`. Of several that cost the same the first by name is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from grafos_cli.reach import LOCAL, Reach, known_reaches, resolve
from grafos_core.errors import GrafosError
from grafos_core.money import format_cents, from_usd
from grafos_scheduler.messages import Admission, RunRequest
from grafos_scheduler.standing_messages import Offer

if TYPE_CHECKING:
    from grafos_cli.terminal import Terminal
    from grafos_core.fabric import Fabric

ANY = "any"
CENTS_PER_USD = 100
CENTS_MAX = 100_000_000
"""A million dollars: more is a slip of the finger."""
NAMED_MAX = 10
"""Cells that are named in an error's one line; its context has them all."""
TAKEN_MEANWHILE = frozenset({"placement_failed", "runtime_not_ready", "no_eligible_provider_cells", "draining"})
"""Refusals of the one cell that was chosen, after which the next one may still do."""


class Offered(NamedTuple):
    """What one cell says to the run, and the scheduler to ask."""

    reach: Reach
    offer: Offer

    @property
    def asked_there(self) -> Reach:
        """The scheduler, asked for a run of that cell's provider."""
        return self.reach._replace(provider=self.offer.provider, note="")

    @property
    def pin(self) -> str:
        """What names the cell in a request: nothing where the scheduler has no other."""
        return self.offer.cell_id if self.reach.is_orchestrator else ""


def read_cents(text: str) -> int:
    """Micro-cents of ``5`` or ``0.25``, else ``usage``."""
    try:
        amount = Decimal(text)
        if not 0 <= amount <= CENTS_MAX:
            raise InvalidOperation
    except InvalidOperation as error:
        raise GrafosError(
            "usage", f"{text[:40]!r} is no amount of cents", where="--max-cents", next="write it like 5 or 0.25"
        ) from error
    return from_usd(amount / CENTS_PER_USD)


def reaches_of(provider: str, fabric: Fabric, project: Path, cell_id: str, terminal: Terminal) -> list[Reach]:
    """The schedulers that have cells of the provider, or for ``any`` all but the local fabric."""
    if provider != ANY:
        return [resolve(provider, fabric, project, cell_id)]
    if cell_id:
        raise GrafosError("usage", "--cell-id names one cell, and any is every one", next="leave one of them out")
    found = [reach for reach in known_reaches(fabric, project, terminal) if reach.provider != LOCAL]
    if not found:
        raise GrafosError(
            "runtime_not_ready",
            "This fabric has no cell on any cloud, and no orchestrator",
            next="grafos cloud provision aws; or: grafos fabric init",
        )
    return found


def ask_each(
    reaches: Sequence[Reach], request: Callable[[str], RunRequest], provider: str, most_micro_cents: int | None
) -> list[Offered]:
    """What every cell says to the run of that provider: those that fit first, the cheapest of them before the others.
    A scheduler that does not answer is a cell that does not fit."""
    found: list[Offered] = []
    for reach in reaches:
        try:
            with reach.client() as client:
                found += [Offered(reach, offer) for offer in client.offers(request(provider)).offers]
        except GrafosError as error:
            found.append(Offered(reach, _silent(reach, error)))
    found = [one._replace(offer=_limited(one.offer, most_micro_cents)) for one in found]
    return sorted(found, key=lambda one: (not one.offer.fits, _price(one.offer), one.offer.provider, one.offer.cell_id))


def fitting(found: Sequence[Offered], provider: str) -> list[Offered]:
    """Those that fit, the cheapest first. When there are none, the error says of each why not."""
    fit = [one for one in found if one.offer.fits]
    if fit:
        return fit
    where = "any provider" if provider == ANY else provider
    codes = {one.offer.code for one in found}
    told = "; ".join(f"{one.offer.cell_id}: {one.offer.why}" for one in found[:NAMED_MAX])
    more = f"; and {len(found) - NAMED_MAX} more" if len(found) > NAMED_MAX else ""
    raise GrafosError(
        codes.pop() if len(codes) == 1 else "placement_failed" if codes else "runtime_not_ready",
        f"No cell of {where} takes the run" if found else f"There is no cell of {where}",
        why=told + more,
        next="raise --max-cents, ask for less, or get another cell: grafos provider list",
        context={"considered": considered(found)},
    )


def considered(found: Sequence[Offered]) -> list[dict[str, object]]:
    """Every cell that was asked, for programs."""
    return [msgspec.to_builtins(one.offer) for one in found]


def remarks(found: Sequence[Offered], chosen: Offered) -> list[str]:
    """Which cell it is and why, and why it is none of the others, a line each."""
    price = format_cents(chosen.offer.worst_case_micro_cents)
    lines = [f"using {chosen.offer.cell_id} of {chosen.offer.provider}: at most {price}, the cheapest that fits"]
    for one in found:
        offer = one.offer
        if one is not chosen:
            dearer = f"at most {format_cents(offer.worst_case_micro_cents)}"
            lines.append(f"not {offer.cell_id} of {offer.provider}: {dearer if offer.fits else offer.why}")
    return lines


def as_admission(offer: Offer) -> Admission:
    """The offer in the words of a plan."""
    return Admission(
        admitted=offer.fits,
        code=offer.code,
        what=offer.why,
        next="" if offer.fits else "grafos provider list",
        cell_id=offer.cell_id,
        region=offer.region,
        rate_micro_cents_per_hour=offer.rate_micro_cents_per_hour,
        share=offer.share,
        worst_case_micro_cents=offer.worst_case_micro_cents,
        giving_way=offer.giving_way,
    )


def _price(offer: Offer) -> int:
    return offer.worst_case_micro_cents if offer.fits else 0


def _limited(offer: Offer, most_micro_cents: int | None) -> Offer:
    """The same, not fitting when it may cost more than was said."""
    if most_micro_cents is None or not offer.fits or offer.worst_case_micro_cents <= most_micro_cents:
        return offer
    cost, most = format_cents(offer.worst_case_micro_cents), format_cents(most_micro_cents)
    why = f"may cost {cost}, more than the {most} of --max-cents"
    return msgspec.structs.replace(offer, fits=False, code="budget_exceeded", why=why)


def _silent(reach: Reach, error: GrafosError) -> Offer:
    why = "its scheduler is of a version that makes no offers" if error.code == "not_found" else error.what
    return Offer(reach.cell_id, reach.provider, "", False, 0, 0, "0", error.code, why)
