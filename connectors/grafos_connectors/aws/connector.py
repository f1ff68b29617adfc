"""AWS behind the contract."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from grafos_connectors.aws import account, describe, permissions, prices, progress, tags, updating
from grafos_connectors.aws.client import AwsCalls
from grafos_connectors.aws.elastic import ELASTIC_KINDS, ELASTIC_SHAPES
from grafos_connectors.aws.firewall import FIREWALL_KINDS
from grafos_connectors.aws.images import IMAGE_KINDS, IMAGE_SHAPES, fill_snapshot
from grafos_connectors.aws.kind_calls import KindCalls
from grafos_connectors.aws.listing import list_scope
from grafos_connectors.aws.machine import MACHINE_KINDS, console_output
from grafos_connectors.aws.network import NETWORK_KINDS
from grafos_connectors.contract import (
    TAG_FABRIC,
    TAG_KEY,
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
from grafos_connectors.shapes import SHAPES, check_desired, check_token
from grafos_connectors.uploads import Disk, Filled, KeepingPrice, Sent, Told
from grafos_core.clock import Clock, SystemClock

KIND_CALLS: dict[Kind, KindCalls] = {**NETWORK_KINDS, **FIREWALL_KINDS, **MACHINE_KINDS, **IMAGE_KINDS, **ELASTIC_KINDS}
AWS_SHAPES = {**SHAPES, **IMAGE_SHAPES, **ELASTIC_SHAPES}

# EC2 has no token for VPCs, internet gateways and addresses, and their places hold any number of them.
ONCE = tuple(kind for kind in AWS_SHAPES if kind not in {Kind.NETWORK, Kind.GATEWAY, Kind.ADDRESS})

LISTING_LAG_S = 30.0  # most reads are consistent within a second; AWS says that it may take minutes in bad times
EMULATED_LISTING_LAG_S = 1.0
PAUSE_S = 2.0  # a machine takes about ten seconds to run; asking more often only meets the request limit
EMULATED_PAUSE_S = 0.1

LIVING = {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]}


class AwsConnector:
    """See ``contract.Connector``; ``region`` is where identity and price questions go, each call names its own."""

    def __init__(
        self,
        region: str = "",
        *,
        environment: Mapping[str, str] | None = None,
        clock: Clock | None = None,
        listing_lag_s: float | None = None,
    ) -> None:
        self._calls = AwsCalls(region, environment=environment)
        self._clock = clock or SystemClock()
        emulated = self._calls.emulated
        self._pause_s = EMULATED_PAUSE_S if emulated else PAUSE_S
        usual_lag_s = EMULATED_LISTING_LAG_S if emulated else LISTING_LAG_S
        self._traits = Traits(
            kinds=tuple(AWS_SHAPES), once=ONCE, listing_lag_s=usual_lag_s if listing_lag_s is None else listing_lag_s
        )

    @property
    def provider(self) -> str:
        return "aws"

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
        return account.offers(self._calls, region, machine_type, arch)

    def price(self, region: str, machine_type: str) -> Price:
        return prices.price(self._calls, region, machine_type, self._clock.now())

    def quotas(self, region: str, machine_type: str = "") -> tuple[Quota, ...]:
        return account.quotas(self._calls, region, machine_type)

    def missing_permissions(self, region: str, actions: Sequence[str] = ()) -> tuple[str, ...]:  # noqa: ARG002  IAM knows no region
        return permissions.missing(self._calls, actions or permissions.NEEDED)

    def policy_fragment(self, actions: Sequence[str]) -> str:
        return permissions.fragment(actions)

    def obstacles(self, region: str, machine_type: str) -> tuple[CloudError, ...]:
        return account.obstacles(self._calls, region, machine_type)

    def image(self, region: str, arch: str) -> Image:
        return account.image(self._calls, region, arch)

    def keeping_price(self, region: str) -> KeepingPrice:
        return prices.keeping_price(self._calls, region)

    # Reads -----------------------------------------------------------------------------------------------------------

    def find(self, desired: Desired) -> Found | None:
        check_desired(desired, AWS_SHAPES)
        own_find = KIND_CALLS[desired.kind].find
        if own_find is not None:
            return own_find(self._calls, desired)
        filters = [tags.tag_filter(TAG_KEY, desired.key), tags.tag_filter(TAG_FABRIC, desired.tags[TAG_FABRIC])]
        if desired.kind is Kind.MACHINE:
            filters.append(LIVING)
        bearers = [found for _, found in describe.search(self._calls, desired.kind, desired.region, *filters)]
        return min(bearers, key=_age_then_id, default=None)

    def observe(self, ref: Ref) -> Found:
        found = self._read(ref)
        return Found(ref=ref, state=State.GONE) if found is None else found

    def list(self, scope: Scope) -> Iterator[tuple[Found, ...]]:
        return list_scope(self._calls, scope)

    def console(self, ref: Ref) -> str:
        try:
            return console_output(self._calls, ref)
        except CloudError as refusal:
            if refusal.code == "cloud_not_found":  # not shown yet, or gone
                return ""
            raise

    # Changes ---------------------------------------------------------------------------------------------------------

    def begin_create(self, desired: Desired, token: str) -> Operation:
        check_desired(desired, AWS_SHAPES)
        check_token(desired, token)
        create = KIND_CALLS[desired.kind].create
        assert create is not None, "every kind that passes the check can be made"
        began_at = self._clock.now()
        try:
            made = create(self._calls, desired, token)
        except LookupError as error:
            raise CloudError(
                "cloud_unknown",
                f"AWS accepted the {desired.kind.value} {desired.name} and did not say its id.",
                where=f"aws {desired.region}",
                why=f"the answer has no {error}",
                ambiguous=True,
            ) from error
        ref = Ref(key=desired.key, kind=desired.kind, id=made, region=desired.region, zone=desired.zone)
        return Operation(verb="create", ref=ref, began_at=began_at)

    def fill(self, ref: Ref, disk: Disk, sent: Sent, told: Told) -> Filled:
        return fill_snapshot(self._calls, ref, disk, sent, told)

    def begin_update(self, ref: Ref, desired: Desired) -> Operation:
        began_at = self._clock.now()
        updating.retag(self._calls, ref, desired)
        return Operation(verb="update", ref=ref, handle=progress.tags_handle(desired.tags), began_at=began_at)

    def begin_delete(self, ref: Ref) -> Operation:
        kind_calls = KIND_CALLS.get(ref.kind)
        if kind_calls is None:
            raise CloudError("cloud_invalid", f"AWS has no {ref.kind.value}.", where=f"aws {ref.region}")
        began_at, handle = self._clock.now(), progress.ACCEPTED
        try:
            kind_calls.delete(self._calls, ref)
        except CloudError as refusal:
            if refusal.code != "cloud_not_found":
                raise
            handle = progress.UNSEEN
        return Operation(verb="delete", ref=ref, handle=handle, began_at=began_at)

    def poll(self, operation: Operation) -> Progress:
        judge = {"create": progress.created, "update": progress.updated, "delete": progress.deleted}[operation.verb]
        found = self._read(operation.ref)
        lag_s = self._traits.listing_lag_s
        return judge(operation, found, now=self._clock.now(), lag_s=lag_s, pause_s=self._pause_s)

    def _read(self, ref: Ref) -> Found | None:
        kind_calls = KIND_CALLS.get(ref.kind)
        if kind_calls is not None and kind_calls.observe is not None:
            return kind_calls.observe(self._calls, ref)
        pair = describe.by_id(self._calls, ref.kind, ref.id, ref.region)
        return pair[1] if pair else None


def _age_then_id(found: Found) -> tuple[str, str]:
    return found.attributes.get("made_at", ""), found.ref.id
