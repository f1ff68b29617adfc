"""The contract on the small cloud in memory: one process's way to a ``TwinCloud``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from grafos_connectors.contract import (
    TAG_FABRIC,
    TAG_KEY,
    TAG_PREFIX,
    CloudError,
    Desired,
    Done,
    Failed,
    Found,
    Identity,
    Image,
    Kind,
    Offer,
    Operation,
    Pending,
    Price,
    Progress,
    Quota,
    Ref,
    Scope,
    State,
    Traits,
    still_unseen,
)
from grafos_connectors.shapes import SHAPES, check_desired, check_token
from grafos_connectors.twin.cloud import PLACES, TWIN_TRAITS, Thing, TwinCloud, place
from grafos_connectors.twin.faults import Effect, Fault, FaultPlan, lost_answer
from grafos_core.money import MICRO_CENTS_PER_CENT

GIB = 1 << 30
ACCEPTED, UNSEEN = "accepted", "unseen"  # a delete's handle: whether the cloud found what it was to delete
LONGEST_PAUSE_S = 5.0  # a caller that waits for a machine looks at least this often
PAGE_SIZE = 50
REGIONS = ("twin-1", "twin-2")
MACHINE_TYPES: dict[str, tuple[str, int, int, int]] = {  # name: architecture, cores, memory, micro-cents per hour
    "twin.medium": ("amd64", 2, 4 * GIB, 4_160_000),
    "twin.medium-arm": ("arm64", 2, 4 * GIB, 3_360_000),
}


class TwinConnector:
    """See ``contract.Connector``. Make one for each process that a test imagines; the cloud outlives them."""

    def __init__(
        self,
        cloud: TwinCloud,
        *,
        faults: FaultPlan | None = None,
        regions: Sequence[str] = REGIONS,
        machine_types: Mapping[str, tuple[str, int, int, int]] = MACHINE_TYPES,
    ) -> None:
        self.cloud = cloud
        self.faults = faults or FaultPlan()
        self._regions = tuple(regions)
        self._machine_types = machine_types

    @property
    def provider(self) -> str:
        return "memory"

    @property
    def traits(self) -> Traits:
        return msgspec.structs.replace(TWIN_TRAITS, listing_lag_s=self.cloud.timings.listing_lag_s)

    # Facts ----------------------------------------------------------------------------------------------------------

    def identity(self) -> Identity:
        self._ask("identity")
        return Identity(provider="memory", account="twin", principal="twin/operator", emulated=True)

    def offers(self, region: str, machine_type: str = "", arch: str = "") -> tuple[Offer, ...]:
        self._ask("offers")
        self._check_region(region)
        return tuple(
            Offer(
                region=region,
                zone=f"{region}{letter}",
                machine_type=name,
                arch=its_arch,
                cpu_cores=cores,
                mem_bytes=memory,
            )
            for name, (its_arch, cores, memory, _) in self._machine_types.items()
            for letter in "abc"
            if machine_type in {"", name} and arch in {"", its_arch}
        )

    def price(self, region: str, machine_type: str) -> Price:
        self._ask("price")
        self._check_region(region)
        if machine_type not in self._machine_types:
            raise CloudError("price_missing", f"No price of {machine_type} in {region} is known.", where="memory")
        return Price(
            region=region,
            machine_type=machine_type,
            machine_per_hour=self._machine_types[machine_type][3],
            disk_per_gib_month=8 * MICRO_CENTS_PER_CENT,
            address_per_hour=MICRO_CENTS_PER_CENT // 2,
            source="twin",
            as_of="2026-11-21",
            fictional=True,
            spot_per_hour=self._machine_types[machine_type][3] * 2 // 5,
        )

    def quotas(self, region: str, machine_type: str = "") -> tuple[Quota, ...]:
        self._ask("quotas")
        self._check_region(region)
        limits = self.cloud.limits
        with self.cloud.lock:
            machines, networks = (len(self.cloud.live(kind)) for kind in (Kind.MACHINE, Kind.NETWORK))
            return (
                Quota("machines", "machines", limits.machines, machines, each=1 if machine_type else 0),
                Quota("networks", "networks", limits.networks, networks),
            )

    def missing_permissions(self, region: str, actions: Sequence[str] = ()) -> tuple[str, ...]:  # noqa: ARG002  all is allowed here
        self._ask("missing_permissions")
        return ()

    def policy_fragment(self, actions: Sequence[str]) -> str:
        return "\n".join(f"allow {action}" for action in actions)

    def obstacles(self, region: str, machine_type: str) -> tuple[CloudError, ...]:  # noqa: ARG002  nothing is restricted
        self._ask("obstacles")
        self._check_region(region)
        return ()

    def image(self, region: str, arch: str) -> Image:
        self._ask("image")
        self._check_region(region)
        return Image(id=f"image-{arch}", name=f"debian-13-{arch}", arch=arch, python="3.13", root_device="/dev/xvda")

    # Reads ----------------------------------------------------------------------------------------------------------

    def find(self, desired: Desired) -> Found | None:
        check_desired(desired)
        self._ask("find", desired.kind)
        with self.cloud.lock:
            bearers = [thing for thing in self.cloud.all_seen() if _bears(thing, desired)]
            living = [thing for thing in bearers if self.cloud.state(thing) is not State.DELETING]
            oldest = min(living, key=lambda thing: (thing.made_at, thing.id), default=None)
            return self.cloud.found(oldest) if oldest else None

    def observe(self, ref: Ref) -> Found:
        self._ask("observe", ref.kind)
        with self.cloud.lock:
            thing = self.cloud.seen(ref.id)
            return self.cloud.found(thing) if thing else Found(ref=ref, state=State.GONE)

    def list(self, scope: Scope) -> Iterator[tuple[Found, ...]]:
        with self.cloud.lock:
            all_found = [self.cloud.found(thing) for thing in self.cloud.all_seen()]
        ours = [
            found
            for found in all_found
            if found.tags.get(TAG_FABRIC) == scope.fabric
            and found.ref.region in (scope.regions or self._regions)
            and found.ref.kind not in {Kind.ROUTE, Kind.FIREWALL_RULE}  # they go with what they are part of
        ]
        for start in range(0, len(ours), PAGE_SIZE):
            self._ask("list")
            yield tuple(ours[start : start + PAGE_SIZE])

    def console(self, ref: Ref) -> str:
        self._ask("console", ref.kind)
        with self.cloud.lock:
            thing = self.cloud.seen(ref.id)
            return thing.console if thing else ""

    # Changes --------------------------------------------------------------------------------------------------------

    def begin_create(self, desired: Desired, token: str) -> Operation:
        check_desired(desired)
        check_token(desired, token)
        self._check_region(desired.region)
        with self.cloud.lock:
            fault = self._before("begin_create", desired.kind)
            dies_of = fault.error() if fault and fault.effect is Effect.DIE_LATER else None
            thing = self.cloud.make(desired, token, dies_of=dies_of)
            self._after("begin_create", fault)
            ref = Ref(key=desired.key, kind=desired.kind, id=thing.id, region=desired.region, zone=desired.zone)
            return Operation(verb="create", ref=ref, began_at=self.cloud.clock.now())

    def begin_update(self, ref: Ref, desired: Desired) -> Operation:
        with self.cloud.lock:
            fault = self._before("begin_update", ref.kind)
            thing = self.cloud.seen(ref.id)
            if thing is None or not self.cloud.alive(thing):
                raise CloudError("cloud_not_found", f"There is no {ref.kind.value} {ref.id}.", where="memory")
            self.cloud.retag(thing, desired.tags)
            self._after("begin_update", fault)
            return Operation(verb="update", ref=ref, began_at=self.cloud.clock.now())

    def begin_delete(self, ref: Ref) -> Operation:
        with self.cloud.lock:
            fault = self._before("begin_delete", ref.kind)
            thing = self.cloud.seen(ref.id)
            if thing is not None and self.cloud.alive(thing):
                self.cloud.end(thing)
            self._after("begin_delete", fault)
            handle = UNSEEN if thing is None else ACCEPTED
            return Operation(verb="delete", ref=ref, handle=handle, began_at=self.cloud.clock.now())

    def poll(self, operation: Operation) -> Progress:
        self._ask("poll", operation.ref.kind)
        with self.cloud.lock:
            if operation.verb == "update":
                return self._updated(operation)
            return self._created(operation) if operation.verb == "create" else self._deleted(operation)

    def _updated(self, operation: Operation) -> Progress:
        thing = self.cloud.seen(operation.ref.id)
        if thing is None or not self.cloud.alive(thing):
            return Failed(error=_failed("cloud_not_found", "It ended while its tags were changed."))
        return Done(found=self.cloud.found(thing))

    def _created(self, operation: Operation) -> Progress:
        thing = self.cloud.seen(operation.ref.id)
        if thing is None:
            why = _failed("cloud_not_found", "What was made does not show up.")
            return self._unseen(operation, Failed(error=why, found=still_unseen(operation.ref)))
        found = self.cloud.found(thing)
        if found.state is State.READY:
            return Done(found=found)
        if found.state is State.PENDING:
            return self._pending(thing.ready_at, found)
        left = None if found.state is State.GONE else found
        error = thing.dies_of or CloudError("cloud_conflict", "It ended while it was being made.", why=thing.reason)
        return Failed(error=error.to_wire(), found=left)

    def _deleted(self, operation: Operation) -> Progress:
        thing = self.cloud.seen(operation.ref.id)
        if thing is None:
            return self._unseen(operation, Done())
        found = self.cloud.found(thing)
        if found.state is State.GONE:
            return Done()
        if found.state is State.DELETING and thing.ends_at is not None:
            return self._pending(thing.ends_at, found)
        return Failed(error=_failed("cloud_not_found", "The delete did not find it, and it is there."), found=found)

    def _unseen(self, operation: Operation, outcome: Done | Failed) -> Progress:
        """What reads do not show: wait out the lag, then believe it."""
        settles_at = operation.began_at + self.cloud.timings.listing_lag_s
        if self.cloud.clock.now() < settles_at:
            return self._pending(settles_at, None)
        return outcome

    def _pending(self, due_at: float, found: Found | None) -> Pending:
        return Pending(again_after_s=min(max(due_at - self.cloud.clock.now(), 0.0), LONGEST_PAUSE_S), found=found)

    # Faults ---------------------------------------------------------------------------------------------------------

    def _ask(self, operation: str, kind: Kind | None = None) -> None:
        with self.cloud.lock:
            self._after(operation, self._before(operation, kind))

    def _before(self, operation: str, kind: Kind | None) -> Fault | None:
        fault = self.faults.draw(operation, kind)
        if fault is not None and fault.effect is Effect.REFUSE:
            raise fault.error()
        if fault is not None and fault.effect is Effect.LOSE_REQUEST:
            raise lost_answer(operation)
        return fault

    def _after(self, operation: str, fault: Fault | None) -> None:
        if fault is not None and fault.effect is Effect.LOSE_ANSWER:
            raise lost_answer(operation)

    def _check_region(self, region: str) -> None:
        if region not in self._regions:
            raise CloudError(
                "cloud_invalid",
                f"There is no region {region!r}.",
                where="memory",
                next=f"Use one of: {', '.join(self._regions)}.",
            )


def _bears(thing: Thing, desired: Desired) -> bool:
    made_as = thing.desired
    if made_as.kind is not desired.kind or made_as.region != desired.region:
        return False
    if SHAPES[desired.kind].tagged:
        ours = {name: value for name, value in made_as.tags.items() if name.startswith(TAG_PREFIX)}
        return ours.get(TAG_KEY) == desired.key and ours.get(TAG_FABRIC) == desired.tags[TAG_FABRIC]
    return desired.kind in PLACES and place(made_as) == place(desired) and dict(made_as.needs) == dict(desired.needs)


def _failed(code: str, what: str, why: str = "") -> dict[str, object]:
    return CloudError(code, what, why=why).to_wire()
