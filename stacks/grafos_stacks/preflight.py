"""Preflight: what a cloud already says about a cell, asked before anything is made, all at once and in parallel.

Besides what a plan is made of (image, offers, price) a region is asked for limits, for permissions and for obstacles: a
type that this account is not sold, a service that is switched off. What stands in the way is told together, each with
its next step, so that nobody mends one thing to meet the next. A question that may not be asked is a note: the cloud
itself has the last word.

``survey`` asks; what its answers mean is decided by pure functions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from grafos_connectors.aws.permissions import LASTING_ADDRESS
from grafos_connectors.contract import (
    ON_DEMAND,
    SPOT,
    CloudError,
    Connector,
    Identity,
    Image,
    Kind,
    Offer,
    Price,
    Quota,
)
from grafos_core.errors import GrafosError
from grafos_stacks.asking import THROTTLED, ask
from grafos_stacks.direct import Engine, Hands
from grafos_stacks.journal import Life
from grafos_stacks.layouts import check_clock
from grafos_stacks.plan import CellFacts, StackPlan
from grafos_stacks.planner import BundleFor, bundle_of, check_disk, choose_offer
from grafos_stacks.prices import PriceFor
from grafos_stacks.spec import BY_WORD, CellSpec, check_spec
from grafos_stacks.starting import start_of

AT_ONCE_MAX = 8
"""Questions of one survey that are under way at the same time; it has no more."""
UNASKED = ("cloud_denied", "cloud_not_found", "cloud_unknown", "unsupported")
"""What a question beside the point may fail with; nothing is known to be in the way then."""
MEETS_ALL = ("cloud_auth", "cloud_unreachable", "cloud_throttled", "credentials_missing", "credentials_mixed")
"""Refusals that every further question would meet as well: they are told alone."""
UNOFFERED = ("cloud_capacity", "cloud_invalid")
"""How a type is told that a region does not offer."""
PERMISSIONS_SHOWN = 8
MORE_QUOTA = {
    "aws": "ask for more: https://console.aws.amazon.com/servicequotas/",
    "gcp": "ask for more: https://console.cloud.google.com/iam-admin/quotas",
    "azure": "ask for more: https://portal.azure.com/#view/Microsoft_Azure_Capacity/QuotaMenuBlade",
}

KEYLESS_ACTIONS = {"gcp": ("iam.serviceAccounts.actAs",)}
"""What it takes beside the connector's own to make a machine for whose identity the cloud vouches. A project tells only
what is granted on all of it, and these may be granted on the one account: so one that is missing there is a note."""

ORCHESTRATOR_ACTIONS = {"aws": LASTING_ADDRESS}
"""What an orchestrator's machine takes beside what every cell does; without it none is made."""

Told = TypeVar("Told")


class Survey(NamedTuple):
    """What a region says. ``facts`` is None when no plan can be made; ``refusals`` stand in the way of one, or of
    carrying it out; ``notes`` say what could not be found out."""

    facts: CellFacts | None
    offers: tuple[Offer, ...] = ()
    quotas: tuple[Quota, ...] = ()
    refusals: tuple[GrafosError, ...] = ()
    notes: tuple[str, ...] = ()


def survey(hands: Hands, spec: CellSpec, bundle_for: BundleFor, price_for: PriceFor, zone: str = "") -> Survey:
    """Asks all that is asked before a cell is made, in threads; changes nothing.

    ``zone`` is preferred to the others if it offers the type. Raises what every question would meet (``MEETS_ALL``),
    and ``config_invalid`` or ``name_invalid`` for a spec that cannot be or a clock that is off; all else is in the
    survey.
    """
    check_spec(spec)
    asking = _Asking(hands, spec)
    with ThreadPoolExecutor(AT_ONCE_MAX, thread_name_prefix="preflight") as pool:
        who = pool.submit(asking.asked, hands.connector.identity)
        settled = pool.submit(asking.asked, lambda: start_of(hands, spec))
        rights = pool.submit(asking.rights)
        identity = _outcome(who)
        if not isinstance(identity, GrafosError):
            check_clock(identity, hands.clock.now())
        chosen = _outcome(settled)
        if isinstance(identity, GrafosError) or isinstance(chosen, GrafosError):
            ways = pool.submit(asking.obstacles, spec.machine_type)
            failed = [outcome for outcome in (identity, chosen) if isinstance(outcome, GrafosError)]
            return _without_facts(failed, rights.result(), ways.result())
        image, machine_type = chosen.image, chosen.machine_type
        ways = pool.submit(asking.obstacles, machine_type)
        limits = pool.submit(asking.quotas, machine_type)
        bundle = pool.submit(bundle_of, spec, image, bundle_for)
        priced = pool.submit(asking.priced, identity, image, machine_type, price_for, zone)
        offers, offer, price, troubles = priced.result()
        met = [*rights.result().refusals, *ways.result().refusals, *limits.result().refusals, *troubles]
        now = hands.clock.now()
        notes = (*rights.result().notes, *ways.result().notes, *limits.result().notes)
        notes += chosen.notes(now + spec.longest_s, now)
        facts = None
        if offer is not None and price is not None:
            pin, baked = bundle.result(), chosen.baked
            facts = CellFacts(identity.account, identity.emulated, offer, image, price, pin, baked, chosen.secure_boot)
    return Survey(facts, offers, limits.result().answer, distinct(met), notes)


def _without_facts(failed: list[GrafosError], *beside: _Beside) -> Survey:
    """Nothing can be planned; what else stands in the way is told with the reason."""
    if fatal := [error for error in failed if error.code in MEETS_ALL]:
        raise fatal[0]
    met = [*(error for part in beside for error in part.refusals), *failed]
    return Survey(None, refusals=distinct(met), notes=tuple(note for part in beside for note in part.notes))


def _outcome(work: Future[Told]) -> Told | GrafosError:
    try:
        return work.result()
    except GrafosError as error:
        return error


class _Beside(NamedTuple):
    """What a question beside the plan gave: refusals, notes, and for limits the limits."""

    refusals: tuple[GrafosError, ...] = ()
    notes: tuple[str, ...] = ()
    answer: tuple[Quota, ...] = ()


class _Priced(NamedTuple):
    offers: tuple[Offer, ...]
    offer: Offer | None
    price: Price | None
    troubles: tuple[GrafosError, ...]


class _Asking:
    """The questions about one region; each runs in a thread of its own and shares nothing but the connector."""

    def __init__(self, hands: Hands, spec: CellSpec) -> None:
        self._connector: Connector = hands.connector
        self._sleep = hands.sleep
        self._spec = spec

    def asked(self, question: Callable[[], Told]) -> Told:
        """The answer, for which a cloud that asks for fewer requests gets a minute."""
        return ask(question, self._sleep, THROTTLED)

    def rights(self) -> _Beside:
        return self._beside("permissions", lambda: _of_rights(self._connector, self._spec))

    def obstacles(self, machine_type: str) -> _Beside:
        question = self._connector.obstacles
        return self._beside("obstacles", lambda: _Beside(tuple(question(self._spec.region, machine_type))))

    def quotas(self, machine_type: str) -> _Beside:
        question = self._connector.quotas
        return self._beside("limits", lambda: _Beside(answer=question(self._spec.region, machine_type)))

    def priced(self, identity: Identity, image: Image, machine_type: str, price_for: PriceFor, zone: str) -> _Priced:
        """The zones that offer the type, the one for the plan, and its price; also what is wrong with the disk."""
        spec, troubles = self._spec, []
        price, offer = None, None
        try:
            check_disk(spec, image)
        except GrafosError as error:
            troubles.append(error)
        offers = self.asked(lambda: self._connector.offers(spec.region, machine_type))
        try:
            offer = choose_offer(spec, _preferred(offers, zone), machine_type, image.arch)
            price = self.asked(lambda: price_for(self._connector, identity, offer))
        except GrafosError as error:
            if error.code in MEETS_ALL:
                raise
            troubles.append(error)
        fitting = tuple(one for one in offers if one.arch == image.arch and spec.zone in ("", one.zone))
        return _Priced(fitting, offer, price, tuple(troubles))

    def _beside(self, what: str, question: Callable[[], _Beside]) -> _Beside:
        try:
            return self.asked(question)
        except GrafosError as error:
            if error.code in MEETS_ALL:
                raise
            if error.code not in UNASKED:
                return _Beside((error,))
            return _Beside(notes=(f"{self._spec.provider} did not tell its {what}: {error.what}",))


def _of_rights(connector: Connector, spec: CellSpec) -> _Beside:
    missing = connector.missing_permissions(spec.region)
    beside = ORCHESTRATOR_ACTIONS.get(spec.provider, ()) if spec.orchestrates else ()
    missing += connector.missing_permissions(spec.region, beside) if beside else ()
    refusals = (missing_rights(connector, spec.region, missing),) if missing else ()
    wanted = KEYLESS_ACTIONS.get(spec.provider, ()) if spec.joins and spec.joining == BY_WORD else ()
    doubtful = connector.missing_permissions(spec.region, wanted) if wanted else ()
    notes = tuple(f"{right} is not granted on the whole project: --keyless needs it" for right in doubtful)
    return _Beside(refusals, notes)


def _preferred(offers: Sequence[Offer], zone: str) -> Sequence[Offer]:
    return [one for one in offers if one.zone == zone] or offers


# --- what the answers mean ----------------------------------------------------------------------------------------


def missing_rights(connector: Connector, region: str, missing: Sequence[str]) -> GrafosError:
    """The refusal for permissions that the credentials lack, with the policy that grants them."""
    shown = ", ".join(missing[:PERMISSIONS_SHOWN])
    more = f" and {len(missing) - PERMISSIONS_SHOWN} more" if len(missing) > PERMISSIONS_SHOWN else ""
    fragment = connector.policy_fragment(missing)
    return GrafosError(
        "cloud_denied",
        f"the credentials lack {len(missing)} permission{'s' if len(missing) > 1 else ''}: {shown}{more}",
        where=f"{connector.provider} {region}",
        next=f"have this granted:\n{fragment}",
        context={"missing": list(missing), "policy": fragment},
    )


def shortages(
    spec: CellSpec, quotas: Iterable[Quota], count: int = 1, kinds: Collection[Kind] = ()
) -> list[GrafosError]:
    """Limits that ``count`` such cells would pass, as refusals. ``kinds`` are of the region's network, where it is
    still to be made: one of each."""
    once = {f"{kind.value}s": 1 for kind in kinds}
    found = []
    for quota in _that_count(spec, quotas):
        units = _units(spec, quota, count, once)
        if quota.limit is not None and units and (quota.used or 0) + units > quota.limit:
            found.append(_short(spec, quota, units))
    return found


def unknown_limits(spec: CellSpec, quotas: Iterable[Quota]) -> tuple[str, ...]:
    """A note about the limits that the cloud has and does not tell."""
    names = [quota.name for quota in _that_count(spec, quotas) if quota.each and quota.limit is None]
    return (f"{spec.provider} does not tell the limit of {', '.join(names)}",) if names else ()


def _that_count(spec: CellSpec, quotas: Iterable[Quota]) -> list[Quota]:
    market = SPOT if spec.spot else ON_DEMAND
    return [quota for quota in quotas if quota.market in ("", market)]


def _units(spec: CellSpec, quota: Quota, count: int, once: Mapping[str, int]) -> int:
    """What the cells take of it: by machine, by their disks, or once for a network."""
    if quota.each:
        return quota.each * count
    return spec.disk_gib * count if quota.name == "disk_gib" else once.get(quota.name, 0)


def _short(spec: CellSpec, quota: Quota, units: int) -> GrafosError:
    used = "" if quota.used is None else f", {quota.used} in use"
    return CloudError(
        "cloud_quota",
        f"{quota.name}: {units} {quota.unit} more are needed, and the limit is {quota.limit}{used}",
        where=f"{spec.provider} {spec.region}",
        next=f"end what is not needed; {MORE_QUOTA.get(spec.provider, 'ask the cloud for more')}",
    )


def distinct(refusals: Iterable[GrafosError]) -> tuple[GrafosError, ...]:
    """Each reason once: a type that nobody offers is told by the offers and by the obstacles too."""
    found: dict[object, GrafosError] = {}
    for error in refusals:
        word = error.cloud_code if isinstance(error, CloudError) and error.cloud_code else error.what
        found.setdefault((error.code, word), error)
    kept = list(found.values())
    told = any(isinstance(error, CloudError) for error in kept if error.code in UNOFFERED)
    return tuple(error for error in kept if not told or error.code not in UNOFFERED or isinstance(error, CloudError))


def together(refusals: Sequence[GrafosError], what: str) -> GrafosError:
    """One error for all of them, with the code of the first: who must be asked for it is asked first."""
    if len(refusals) == 1:
        return refusals[0]
    told = [f"{number}. {error.code}: {error.what}" for number, error in enumerate(refusals, 1)]
    steps = [f"{number}. {error.next}" for number, error in enumerate(refusals, 1) if error.next]
    return GrafosError(
        refusals[0].code,
        f"{len(refusals)} things stand in the way of {what}",
        where=refusals[0].where,
        why="\n".join(told),
        next="\n".join(steps),
        retryable=all(error.retryable for error in refusals),
        context={"refusals": [error.to_wire() for error in refusals]},
    )


# --- what needs the journal ---------------------------------------------------------------------------------------


def quota_refusals(hands: Hands, plan: StackPlan, quotas: Sequence[Quota], count: int = 1) -> list[GrafosError]:
    """Limits that the cells of such plans would pass. For the network that they share the journal is looked at, and if
    the limit is reached the cloud's listing too: it may be there, and unknown here."""
    shared = {what.kind: what.key for what in plan.resources if what.stack == plan.shared_stack}
    rows = hands.journal.resources(plan.shared_stack)
    there = {kind for kind, key in shared.items() if key in rows and rows[key].life is Life.READY}
    missing = set(shared) - there
    found = shortages(plan.spec, quotas, count, missing)
    if missing and len(found) > len(shortages(plan.spec, quotas, count)):
        _, listed = Engine(hands).listing(plan.spec.region)
        seen = {one.ref.kind for one in listed if one.ref.key in shared.values()}
        found = shortages(plan.spec, quotas, count, missing - seen)
    return found
