"""Azure behind the contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from grafos_connectors.azure import (
    account,
    describe,
    images,
    network,
    permissions,
    prices,
    progress,
    skus,
    tags,
    updating,
)
from grafos_connectors.azure.client import AzureCalls
from grafos_connectors.azure.deadline import deadline_body
from grafos_connectors.azure.ids import ArmId, id_of, parse
from grafos_connectors.azure.kind_calls import KIND_CALLS, make, read_resource, remove
from grafos_connectors.azure.listing import group_is_empty, list_scope
from grafos_connectors.azure.lro import RUNNING
from grafos_connectors.azure.machine import console_text, machine_body
from grafos_connectors.azure.progress import Handle
from grafos_connectors.azure.shapes import SHAPES
from grafos_connectors.azure.transport import Watch
from grafos_connectors.contract import (
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
from grafos_connectors.shapes import check_desired, check_token
from grafos_connectors.uploads import Disk, Filled, KeepingPrice, Sent, Told
from grafos_core.clock import Clock, SystemClock

LISTING_LAG_S = 30.0  # the list by tag is kept apart from the services, and follows within seconds; not promised
EMULATED_LISTING_LAG_S = 1.0
NOTHING_THERE = 204  # how ARM answers the deletion of what does not exist
EXISTS_CODES = frozenset({"PreconditionFailed", "412"})  # If-None-Match found something

ALL_SHAPES = {**SHAPES, **images.IMAGE_SHAPES}
BODIES: dict[Kind, Callable[[Desired], dict[str, Any]]] = {
    Kind.GROUP: network.group_body,
    Kind.NETWORK: network.network_body,
    Kind.FIREWALL: network.firewall_body,
    Kind.SUBNET: network.subnet_body,
    Kind.ADDRESS: network.address_body,
    Kind.NIC: network.nic_body,
    Kind.DISK: images.disk_body,
    Kind.GALLERY: images.gallery_body,
    Kind.IMAGE_FAMILY: images.family_body,
    Kind.IMAGE: images.image_body,
}


class AzureConnector:
    """See ``contract.Connector``; ``region`` is the one that settings or caller name, each call names its own."""

    def __init__(
        self,
        region: str = "",
        *,
        environment: Mapping[str, str] | None = None,
        clock: Clock | None = None,
        listing_lag_s: float | None = None,
        watch: Watch | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._calls = AzureCalls(region, environment=environment, clock=self._clock, watch=watch)
        usual_lag_s = EMULATED_LISTING_LAG_S if self._calls.emulated else LISTING_LAG_S
        lag_s = usual_lag_s if listing_lag_s is None else listing_lag_s
        self._traits = Traits(kinds=tuple(ALL_SHAPES), once=tuple(ALL_SHAPES), listing_lag_s=lag_s)

    @property
    def provider(self) -> str:
        return "azure"

    @property
    def region(self) -> str:
        """The location that was given, or the one that the settings name."""
        return self._calls.region

    @property
    def traits(self) -> Traits:
        return self._traits

    # Facts -----------------------------------------------------------------------------------------------------------

    def identity(self) -> Identity:
        return account.identity(self._calls)

    def offers(self, region: str, machine_type: str = "", arch: str = "") -> tuple[Offer, ...]:
        return skus.offers(self._calls, region, machine_type, arch)

    def price(self, region: str, machine_type: str) -> Price:
        return prices.price(self._calls, region, machine_type, self._clock.now())

    def quotas(self, region: str, machine_type: str = "") -> tuple[Quota, ...]:
        return account.quotas(self._calls, region, machine_type)

    def missing_permissions(self, region: str, actions: Sequence[str] = ()) -> tuple[str, ...]:  # noqa: ARG002  roles know no region
        return permissions.missing(self._calls, actions or permissions.NEEDED)

    def policy_fragment(self, actions: Sequence[str]) -> str:
        return permissions.fragment(actions, self._calls.subscription)

    def obstacles(self, region: str, machine_type: str) -> tuple[CloudError, ...]:
        return account.obstacles(self._calls, region, machine_type)

    def image(self, region: str, arch: str) -> Image:
        return account.image(self._calls, region, arch)

    def keeping_price(self, region: str) -> KeepingPrice:
        return prices.keeping_price(self._calls, region, self._clock.now())

    # Reads -----------------------------------------------------------------------------------------------------------

    def find(self, desired: Desired) -> Found | None:
        """What has the name; whether it is ours its tags say."""
        check_desired(desired, ALL_SHAPES)
        return describe.observe(self._calls, id_of(desired, self._calls.subscription), desired.region)

    def observe(self, ref: Ref) -> Found:
        found = describe.observe(self._calls, _known_id(ref), ref.region)
        return Found(ref=ref, state=State.GONE) if found is None else found

    def list(self, scope: Scope) -> Iterator[tuple[Found, ...]]:
        return list_scope(self._calls, scope)

    def console(self, ref: Ref) -> str:
        return console_text(self._calls, ref)

    # Changes ---------------------------------------------------------------------------------------------------------

    def begin_create(self, desired: Desired, token: str) -> Operation:
        check_desired(desired, ALL_SHAPES)
        check_token(desired, token)
        arm_id = id_of(desired, self._calls.subscription)
        ref = Ref(key=desired.key, kind=desired.kind, id=str(arm_id), region=desired.region, zone=desired.zone)
        began_at = self._clock.now()
        adopted = Operation(verb="create", ref=ref, began_at=began_at)
        if KIND_CALLS[desired.kind].looks_first:
            there = read_resource(self._calls, arm_id, desired.region)
            if there is not None:
                _check_equal(there, arm_id, desired)
                return adopted
        try:
            begun = make(self._calls, arm_id, desired.region, self._body(desired, began_at))
        except CloudError as refusal:
            if refusal.cloud_code not in EXISTS_CODES:
                raise
            _check_equal(self._there_in_doubt(arm_id, desired.region), arm_id, desired)
            return adopted
        return Operation(verb="create", ref=ref, handle=progress.written(Handle(token=begun.token)), began_at=began_at)

    def fill(self, ref: Ref, disk: Disk, sent: Sent, told: Told) -> Filled:
        return images.fill_disk(self._calls, ref, disk, sent, told)

    def begin_update(self, ref: Ref, desired: Desired) -> Operation:
        began_at = self._clock.now()
        updating.update(self._calls, ref, desired, began_at)
        ends_at = str(desired.inputs["ends_at"]) if ref.kind is Kind.DEADLINE else ""
        given = Handle(tags=dict(desired.tags), ends_at=ends_at)
        return Operation(verb="update", ref=ref, handle=progress.written(given), began_at=began_at)

    def begin_delete(self, ref: Ref) -> Operation:
        arm_id, began_at = _known_id(ref), self._clock.now()
        try:
            if ref.kind is Kind.GROUP and not group_is_empty(self._calls, arm_id.group, ref.region):
                raise _not_empty(ref)
            begun = remove(self._calls, arm_id, ref.region)
        except CloudError as refusal:
            if refusal.code != "cloud_not_found":
                raise
            handle = Handle(unseen=True)
        else:
            handle = Handle(token=begun.token, unseen=begun.status == NOTHING_THERE)
        return Operation(verb="delete", ref=ref, handle=progress.written(handle), began_at=began_at)

    def poll(self, operation: Operation) -> Progress:
        ref, handle = operation.ref, progress.read(operation.handle)
        times = {"lag_s": self._traits.listing_lag_s, "pause_s": self._calls.pause_s}
        arm_id = _known_id(ref)
        if operation.verb == "update":
            found = describe.observe(self._calls, arm_id, ref.region)
            return progress.updated(operation, handle, found, now=self._clock.now(), **times)
        step = self._calls.step(handle.token, ref.region)
        found = None if step.state == RUNNING else describe.observe(self._calls, arm_id, ref.region)
        if operation.verb == "create":
            return progress.created(operation, step, found, now=self._clock.now(), **times)
        return progress.deleted(operation, handle, step, found, now=self._clock.now(), **times)

    def _there_in_doubt(self, arm_id: ArmId, region: str) -> Mapping[str, Any] | None:
        """What has a name that a create call met. Where no read can tell, it may be what an earlier call made."""
        try:
            return read_resource(self._calls, arm_id, region)
        except CloudError as unanswered:
            unanswered.context["ambiguous"] = unanswered.ambiguous = True
            raise

    def _body(self, desired: Desired, now: float) -> dict[str, Any]:
        if desired.kind is Kind.MACHINE:
            return machine_body(self._calls, desired)
        if desired.kind is Kind.DEADLINE:
            return deadline_body(desired, now)
        return BODIES[desired.kind](desired)


def _known_id(ref: Ref) -> ArmId:
    """The parts of a ref's id, if it is of the kind that the ref says."""
    arm_id = parse(ref.id)
    if arm_id.kind is not ref.kind:
        raise CloudError("cloud_invalid", f"{ref.id} is no {ref.kind.value} on Azure.", where=f"azure {ref.region}")
    return arm_id


def _check_equal(there: Mapping[str, Any] | None, id: ArmId, desired: Desired) -> None:
    """Raises ``cloud_conflict`` unless what has the name is ours, was made by an equal call, and is not going away."""
    if there is None:  # it went between the two calls
        raise _taken(id, desired, "something had its name a moment ago")
    told = describe.found(there, id, desired.region)
    if told.state is State.DELETING:
        raise _taken(id, desired, "what has its name is being deleted")
    if not ALL_SHAPES[desired.kind].tagged:
        if told.attributes.get("cidr") != desired.inputs["cidr"]:
            raise _taken(id, desired, f"one with the range {told.attributes.get('cidr')} has its name")
        return
    if told.tags.get(TAG_KEY) != desired.key or not tags.asks_for(there.get("tags"), desired):
        ours = told.tags.get(TAG_KEY) == desired.key
        raise _taken(id, desired, "its name is taken by one of " + ("another make" if ours else "somebody else"))


def _taken(id: ArmId, desired: Desired, why: str) -> CloudError:
    return CloudError(
        "cloud_conflict",
        f"The {desired.kind.value} {id.name} cannot be made: {why}.",
        where=f"azure {desired.region}",
        cloud_code="PreconditionFailed",
    )


def _not_empty(ref: Ref) -> CloudError:
    return CloudError(
        "cloud_in_use",
        f"The resource group {progress.name_in(ref.id)} is not empty, and would take all that is in it along.",
        where=f"azure {ref.region}",
        next="Delete what is in it, or move it to another group.",
        cloud_code="ResourceGroupNotEmpty",
    )
