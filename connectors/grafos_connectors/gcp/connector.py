"""Google Cloud behind the contract."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from grafos_connectors.contract import (
    CloudError,
    Desired,
    Found,
    Identity,
    Image,
    Kind,
    Offer,
    Operation,
    Price,
    Progress,
    Quota,
    Ref,
    Scope,
    State,
    Traits,
)
from grafos_connectors.gcp import account, changes, permissions, prices, progress, storage
from grafos_connectors.gcp.catalog import Catalog
from grafos_connectors.gcp.client import GcpCalls
from grafos_connectors.gcp.describe import by_id, described, id_of
from grafos_connectors.gcp.images import IMAGE_SHAPES
from grafos_connectors.gcp.listing import list_scope
from grafos_connectors.gcp.machine import console_output
from grafos_connectors.gcp.shapes import GCP_SHAPES
from grafos_connectors.gcp.wire import Watch
from grafos_connectors.shapes import check_desired, check_token
from grafos_connectors.uploads import Disk, Filled, KeepingPrice, Sent, Told
from grafos_core.clock import Clock, SystemClock

ALL_SHAPES = {**GCP_SHAPES, **IMAGE_SHAPES}

LISTING_LAG_S = 10.0  # ``get`` by name is never behind; aggregated lists are, by seconds
EMULATED_LISTING_LAG_S = 1.0
PAUSE_S = 2.0  # an insert takes ten seconds and more; asking more often only meets the request limit
EMULATED_PAUSE_S = 0.1


class GcpConnector:
    """See ``contract.Connector``; ``region`` is only what errors name that no region comes with.

    ``watch`` hears "before" and "after" around each HTTP request.
    """

    def __init__(
        self,
        region: str = "",
        *,
        environment: Mapping[str, str] | None = None,
        clock: Clock | None = None,
        listing_lag_s: float | None = None,
        watch: Watch | None = None,
    ) -> None:
        self._calls = GcpCalls(region, environment=environment, watch=watch)
        self._catalog = Catalog(self._calls)
        self._clock = clock or SystemClock()
        emulated = self._calls.emulated
        self._pause_s = EMULATED_PAUSE_S if emulated else PAUSE_S
        usual_lag_s = EMULATED_LISTING_LAG_S if emulated else LISTING_LAG_S
        lag_s = usual_lag_s if listing_lag_s is None else listing_lag_s
        self._traits = Traits(kinds=tuple(ALL_SHAPES), once=tuple(ALL_SHAPES), listing_lag_s=lag_s)

    @property
    def provider(self) -> str:
        return "gcp"

    @property
    def region(self) -> str:
        """The region that was given, or the one that the settings name."""
        return self._calls.region

    @property
    def traits(self) -> Traits:
        return self._traits

    # Facts -----------------------------------------------------------------------------------------------------------

    def identity(self) -> Identity:
        return account.identity(self._calls)

    def offers(self, region: str, machine_type: str = "", arch: str = "") -> tuple[Offer, ...]:
        return account.offers(self._catalog, region, machine_type, arch)

    def price(self, region: str, machine_type: str) -> Price:
        return prices.price(self._catalog, region, machine_type, emulated=self._calls.emulated)

    def quotas(self, region: str, machine_type: str = "") -> tuple[Quota, ...]:
        return account.quotas(self._calls, self._catalog, region, machine_type)

    def missing_permissions(self, region: str, actions: Sequence[str] = ()) -> tuple[str, ...]:  # noqa: ARG002  a project's hold everywhere
        return permissions.missing(self._calls, actions or permissions.NEEDED)

    def policy_fragment(self, actions: Sequence[str]) -> str:
        return permissions.fragment(actions)

    def obstacles(self, region: str, machine_type: str) -> tuple[CloudError, ...]:
        return account.obstacles(self._calls, self._catalog, region, machine_type)

    def image(self, region: str, arch: str) -> Image:
        return account.image(self._calls, region, arch)

    def keeping_price(self, region: str) -> KeepingPrice:
        return prices.keeping_price(self._catalog, region, emulated=self._calls.emulated)

    # Reads -----------------------------------------------------------------------------------------------------------

    def find(self, desired: Desired) -> Found | None:
        """By name, which the cloud gives once: a stranger's resource under it is shown, with what it bears."""
        check_desired(desired, ALL_SHAPES)
        return self._read(_ref_of(desired))

    def observe(self, ref: Ref) -> Found:
        return self._read(ref) or Found(ref=ref, state=State.GONE)

    def list(self, scope: Scope) -> Iterator[tuple[Found, ...]]:
        return list_scope(self._calls, scope)

    def console(self, ref: Ref) -> str:
        try:
            return console_output(self._calls, ref)
        except CloudError as refusal:
            if refusal.code == "cloud_not_found":  # not there yet, or gone
                return ""
            raise

    # Changes ---------------------------------------------------------------------------------------------------------

    def begin_create(self, desired: Desired, token: str) -> Operation:
        check_desired(desired, ALL_SHAPES)
        check_token(desired, token)
        began_at, handle = self._clock.now(), progress.Handle()
        if desired.kind is Kind.BUCKET:
            storage.create_bucket(self._calls, desired)
        else:
            handle = changes.create(self._calls, desired, token)
        return Operation(verb="create", ref=_ref_of(desired), handle=handle.text(), began_at=began_at)

    def fill(self, ref: Ref, disk: Disk, sent: Sent, told: Told) -> Filled:
        return storage.fill_bucket(self._calls, ref, disk, sent, told)

    def begin_update(self, ref: Ref, desired: Desired) -> Operation:
        began_at = self._clock.now()
        handle = changes.retag(self._calls, ref, desired.tags)
        return Operation(verb="update", ref=ref, handle=handle.text(), began_at=began_at)

    def begin_delete(self, ref: Ref) -> Operation:
        began_at = self._clock.now()
        if ref.kind in storage.STORAGE_KINDS:
            handle = progress.Handle(unseen=not storage.delete(self._calls, ref))
        else:
            described(ref.kind)
            handle = changes.delete(self._calls, ref)
        return Operation(verb="delete", ref=ref, handle=handle.text(), began_at=began_at)

    def poll(self, operation: Operation) -> Progress:
        judge = {"create": progress.created, "update": progress.updated, "delete": progress.deleted}[operation.verb]
        paths = progress.Handle.of(operation).operations
        seen = progress.Sight(operations=[changes.operation_now(self._calls, path) for path in paths], found=None)
        if not seen.running:  # until then the resource says nothing that decides
            seen = progress.Sight(operations=seen.operations, found=self._read(operation.ref))
        lag_s = self._traits.listing_lag_s
        return judge(operation, seen, now=self._clock.now(), lag_s=lag_s, pause_s=self._pause_s)

    def _read(self, ref: Ref) -> Found | None:
        if ref.kind in storage.STORAGE_KINDS:
            return storage.observe(self._calls, ref)
        pair = by_id(self._calls, ref)
        return pair[1] if pair else None


def _ref_of(desired: Desired) -> Ref:
    """Ids are made of names that we chose."""
    path = storage.bucket_id(desired.name) if desired.kind is Kind.BUCKET else id_of(desired)
    return Ref(key=desired.key, kind=desired.kind, id=path, region=desired.region, zone=desired.zone)
