"""The emulated EC2 service: from a call to moto's answer, with the tokens kept."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any, cast

from moto.core.base_backend import AccountSpecificBackend
from moto.core.request import Request as MotoRequest
from moto.core.utils import camelcase_to_underscores, method_names_from_class
from moto.ec2.models import ec2_backends
from moto.ec2.models.availability_zones_and_regions import RegionsAndZonesBackend

from grafos_emulators.aws import hollow
from grafos_emulators.aws.account import Account
from grafos_emulators.aws.calls import AwsCall
from grafos_emulators.aws.ec2_actions import Ec2Actions, check_emulated
from grafos_emulators.aws.ec2_backend import RegionBackend
from grafos_emulators.aws.ec2_snapshots import WrittenSnapshot, written
from grafos_emulators.aws.errors import AwsRefusalError, not_emulated
from grafos_emulators.aws.faulted import Place
from grafos_emulators.aws.mishaps import befall
from grafos_emulators.http import Response
from grafos_emulators.lifecycle import MachineState

LONG_AGO = float("-inf")
_INSTANCE_IDS = re.compile(rb"<instanceId>(i-[0-9a-f]+)</instanceId>")
_REQUEST_ID = re.compile(rb"(?<=<requestId>)[^<]*(?=</requestId>)|(?<=<RequestID>)[^<]*(?=</RequestID>)")
KNOWN_ACTIONS = frozenset(method_names_from_class(Ec2Actions))


class Ec2:
    """EC2 of one account. ``regions`` are those used so far. ``answer`` is called without the world's lock."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self.regions: dict[str, RegionBackend] = {}
        self.region_names = frozenset(
            region.name for region in RegionsAndZonesBackend.regions if _is_ordinary(region.name)
        )
        ec2_backends[account.account_id] = AccountSpecificBackend(
            service_name="ec2",
            account_id=account.account_id,
            backend=cast("type", self._new_region),
            use_boto3_regions=False,  # the list comes from moto's tables: no configuration of the caller's is read
            additional_regions=sorted(self.region_names),
        )

    def _new_region(self, region_name: str, account_id: str) -> RegionBackend:
        region = self.regions[region_name] = RegionBackend(region_name, account_id, self._account)
        return region

    def close(self) -> None:
        """Forgets everything; moto keeps accounts until it is told."""
        for region in self.regions.values():
            region.close_relays()
        del ec2_backends[self._account.account_id]

    def _region(self, call: AwsCall) -> RegionBackend:
        region: RegionBackend = ec2_backends[self._account.account_id][call.region]  # type: ignore[assignment]
        return region

    def place_of(self, call: AwsCall) -> Place:
        """Where a launch is asked for; nowhere for what is no launch that could be."""
        if call.region not in self.region_names:
            return Place()
        given, backend = call.parameters, self._region(call)
        zone = str(given.get("Placement.AvailabilityZone", ""))
        subnet = given.get("SubnetId") or given.get("NetworkInterface.1.SubnetId")
        with self._account.world.lock:
            here = (subnets[subnet] for subnets in backend.subnets.values() if subnet in subnets)
            zone = next((str(found.availability_zone) for found in here), zone)
            offering = backend.zones_offering(str(given.get("InstanceType", "")))
        return Place(zone, tuple(other for other in offering if other != zone))

    def answer(self, call: AwsCall) -> Response:
        if call.region not in self.region_names:
            raise not_emulated(f"the region {call.region!r}")
        check_emulated(call.action, KNOWN_ACTIONS, camelcase_to_underscores(call.action))
        return self._account.tokens.once(call, lambda: self._ask_moto(call), self._check_still_there)

    def _ask_moto(self, call: AwsCall) -> Response:
        host = f"ec2.{call.region}.amazonaws.com"
        headers = {
            "Authorization": call.request.headers["authorization"],
            "Content-Type": call.request.headers.get("content-type", ""),
            "Host": host,
            "X-Moto-Account-Id": self._account.account_id,
        }
        request = MotoRequest.from_primitives(call.request.method, f"https://{host}/", headers, call.request.body)
        with self._account.world.lock, self._veiled(call):

            def act() -> tuple[int, str | bytes]:
                status, _, body = Ec2Actions.dispatch(request, request.raw_url, dict(request.headers))
                return int(status), body

            try:
                status, body = hollow.answer(self._region(call), call, act) if hollow.is_hollow(call) else act()
            except RuntimeError as problem:  # how moto says that it lacks a filter or an option
                raise not_emulated(f"ec2:{call.action} like this: {problem}") from problem
            if call.action == "RunInstances" and status < 400:
                launched = [found.decode() for found in _INSTANCE_IDS.findall(_bytes(body))]
                befall(self._account, launched, call.fault)
        headers = {"content-type": "text/xml;charset=UTF-8", "x-amzn-requestid": call.request_id}
        return Response(status, _REQUEST_ID.sub(call.request_id.encode(), _bytes(body)), headers)

    # For EBS direct, whose snapshots are EC2's

    def start_snapshot(self, call: AwsCall, size_gib: int, description: str, tags: dict[str, str]) -> WrittenSnapshot:
        """A new one, to be written."""
        if call.region not in self.region_names:
            raise not_emulated(f"the region {call.region!r}")
        with self._account.world.lock, self._veiled(call):
            return WrittenSnapshot(self._region(call), size_gib, description, tags)

    def written_snapshot(self, call: AwsCall) -> WrittenSnapshot:
        """The one that a call names."""
        if call.region not in self.region_names:
            raise not_emulated(f"the region {call.region!r}")
        with self._account.world.lock:
            return written(self._region(call), str(call.parameters["SnapshotId"]))

    def complete_snapshot(self, snapshot: WrittenSnapshot) -> None:
        """Nothing more is written; taking it over takes a while."""
        world = self._account.world
        with world.lock:
            snapshot.sealed = True

            def take_over() -> None:
                snapshot.status = "completed"

            world.at(world.clock.monotonic() + world.times.starting_s, take_over)

    @contextlib.contextmanager
    def _veiled(self, call: AwsCall) -> Iterator[None]:
        """What is too young is hidden from a read; a change sees everything, and what it makes is young then."""
        world = self._account.world
        backend = self._region(call)
        if not world.times.visible_after_s:
            yield
        elif call.mutating:
            backend.veil.note(backend, LONG_AGO)
            yield
            backend.veil.note(backend, world.clock.monotonic())
        else:
            with backend.veil.over(backend, world.clock.monotonic() - world.times.visible_after_s):
                yield

    def _check_still_there(self, response: Response) -> None:
        """A token whose instance was terminated is spent for ever."""
        for found in _INSTANCE_IDS.findall(response.body):
            machine = self._account.world.machine(found.decode())
            if machine is None or machine.state in {MachineState.ENDING, MachineState.GONE}:
                raise AwsRefusalError(
                    "IdempotentInstanceTerminated",
                    "The client token belongs to an instance that was terminated: use another token.",
                )


def _is_ordinary(region: str) -> bool:
    """Not one of the partitions that have accounts of their own (China, GovCloud)."""
    return not region.startswith(("cn-", "us-gov-"))


def _bytes(body: Any) -> bytes:
    return body if isinstance(body, bytes) else str(body).encode()
