"""One region of the emulated EC2: moto's backend, with machines that live in our world and deletions that are checked.

This and its neighbours ``ec2_*`` and ``images`` are the only modules that know moto.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from moto.ec2.models.instance_types import INSTANCE_TYPE_OFFERINGS
from moto.ec2.models.instances import Reservation
from moto.ec2.utils import EC2_PREFIX_TO_RESOURCE, filter_reservations, get_prefix

from grafos_emulators import imds
from grafos_emulators.aws import dependencies
from grafos_emulators.aws.account import Account
from grafos_emulators.aws.ec2_instance import InstanceMetadata, follow, give_address
from grafos_emulators.aws.ec2_snapshots import WrittenSnapshot
from grafos_emulators.aws.elastic import ElasticBackend
from grafos_emulators.aws.errors import AwsRefusalError
from grafos_emulators.aws.images import DEBIAN_ARCHITECTURES, StockImage
from grafos_emulators.aws.visibility import Veil
from grafos_emulators.boot.driver import AWS, RAW, MachineDisk, MachineSetup
from grafos_emulators.lifecycle import Happening, MachineState
from grafos_emulators.world import Machine

METADATA_VARIABLE = "AWS_EC2_METADATA_SERVICE_ENDPOINT"  # the SDKs' own; a real machine uses 169.254.169.254


class RegionBackend(ElasticBackend):
    """A region. ``born_with`` holds the ids of what AWS itself puts into a new account's region;
    ``reservation_of`` an instance's reservation by its id."""

    def __init__(self, region_name: str, account_id: str, account: Account) -> None:
        self.account = account
        self._zones_with_type: dict[str, list[str]] = {}
        self.reservation_of: dict[str, Any] = {}
        self.veil = Veil()
        super().__init__(region_name, account_id)
        self._connect_default_vpc()
        self.born_with = frozenset(self._everything())

    def _load_amis(self) -> None:
        """Called by moto for the images that exist from the beginning."""
        image = StockImage(self, self.account.architecture)
        self.amis[image.id] = image

    def _connect_default_vpc(self) -> None:
        """A default VPC reaches the internet; moto leaves that out."""
        gateway = self.create_internet_gateway()
        self.attach_internet_gateway(gateway.id, self.default_vpc.id)
        table = self.describe_route_tables(filters={"vpc-id": [self.default_vpc.id]})[0]
        self.create_route(table.id, "0.0.0.0/0", None, gateway_id=gateway.id)

    def _everything(self) -> list[str]:
        groups = [group_id for of_vpc in self.groups.values() for group_id in of_vpc]
        subnets = [subnet_id for of_zone in self.subnets.values() for subnet_id in of_zone]
        others = (self.vpcs, self.internet_gateways, self.route_tables, self.snapshots, self.amis, self.volumes)
        return [*groups, *subnets, *(each for collection in others for each in collection)]

    # Launching

    def run_instances(self, image_id: str, count: int, user_data: Any, security_group_names: Any, **kwargs: Any) -> Any:
        for nic in kwargs.get("nics", []):
            if "NetworkInterfaceId" not in nic:
                nic.setdefault("DeleteOnTermination", True)
        self._check_groups(security_group_names, kwargs)
        known = {*self.reservations, *self.volumes, *self.enis}
        addresses = [self.account.network.take() for _ in range(count)]
        kwargs["is_instance_type_default"] = True  # it was checked; moto would walk through all offers once more
        interface_tags = kwargs.get("tags", {}).get("network-interface", {})
        try:
            reservation = super().run_instances(image_id, count, user_data, security_group_names, **kwargs)
        except Exception:
            self._undo_launch(known)
            for address in addresses:
                self.account.network.give_back(address)
            raise
        for instance, address in zip(reservation.instances, addresses, strict=True):
            if not kwargs.get("nics"):
                instance.nics[0].delete_on_termination = True
            for nic in instance.nics.values():
                nic.add_tags(interface_tags)
            for _, device in instance.get_block_device_mapping:  # told with the volume too, which moto forgets
                attachment: Any = self.volumes[device.volume_id].attachment
                attachment.delete_on_termination = device.delete_on_termination
            self.reservation_of[instance.id] = reservation
            self._adopt(instance, address)
        return reservation

    def _undo_launch(self, known: set[str]) -> None:
        """Takes back what moto made of a launch before it refused it: EC2 launches all, or nothing."""
        for collection in (self.reservations, self.volumes):
            for each in set(collection) - known:
                del collection[each]
                self.tags.pop(each, None)
        for eni in [eni for eni in self.enis.values() if eni.id not in known]:
            eni.subnet.del_subnet_ip(eni.private_ip_address)
            del self.enis[eni.id]
            self.tags.pop(eni.id, None)

    def _check_groups(self, names: list[str], kwargs: dict[str, Any]) -> None:
        subnet_id = kwargs.get("subnet_id") or next(
            (nic["SubnetId"] for nic in kwargs.get("nics", []) if "SubnetId" in nic), None
        )
        vpc_id = self.get_subnet(subnet_id).vpc_id if subnet_id else self.default_vpc.id
        ids = [
            *kwargs.get("security_group_ids", []),
            *(i for nic in kwargs.get("nics", []) for i in nic.get("Groups", [])),
        ]
        dependencies.check_groups_exist(self, ids, vpc_id)
        for name in names:
            if self.get_security_group_from_name(name, vpc_id) is None:
                raise AwsRefusalError("InvalidGroup.NotFound", f"The security group '{name}' does not exist")

    def _adopt(self, instance: Any, address: str) -> None:
        """Gives a new instance a machine in our world."""
        give_address(instance, address)
        instance.security_groups = instance.security_groups or list(instance.nics[0].group_set)
        metadata = InstanceMetadata(instance, self.account)
        self.account.instances[instance.id] = metadata
        image: Any = self.amis.get(instance.image_id)
        disk = self._disk_of(image, metadata.user_data)
        setup = MachineSetup(
            machine_id=instance.id,
            address=address,
            user_data=metadata.user_data,
            runs_user_data=isinstance(image, StockImage),
            runs_image=AWS if disk is not None and image.architecture == self.account.architecture else "",
            environment={METADATA_VARIABLE: imds.endpoint_of(instance.id, self.account.endpoint)},
            disk=disk,
        )
        self.account.world.launch(
            Machine(
                setup,
                ends_when_off=lambda: bool(instance.instance_initiated_shutdown_behavior == "terminate"),
                changed=partial(self._changed, instance),
            )
        )

    @staticmethod
    def _disk_of(image: Any, user_data: bytes) -> MachineDisk | None:
        """The disk of an image that was written block by block and registered here; no other has content."""
        snapshot = getattr(image, "ebs_snapshot", None)
        if not isinstance(snapshot, WrittenSnapshot):
            return None
        return MachineDisk(snapshot.disk, RAW, AWS, DEBIAN_ARCHITECTURES[image.architecture], user_data)

    def _changed(self, instance: Any, machine: Machine) -> None:
        world = self.account.world
        follow(instance, machine, world.clock)
        if machine.state is MachineState.GONE:
            self.leave_addresses(instance)
            self.account.network.give_back(machine.setup.address)
            world.at(world.clock.monotonic() + world.times.gone_visible_s, partial(self._forget, instance))

    def _forget(self, instance: Any) -> None:
        reservation = self.reservation_of.pop(instance.id)
        reservation.instances.remove(instance)
        if not reservation.instances:
            del self.reservations[reservation.id]
        self.account.world.forget(instance.id)
        self.account.instances.pop(instance.id, None)
        self.account.spot_notices.pop(instance.id, None)
        self.tags.pop(instance.id, None)

    def zones_offering(self, instance_type: str) -> list[str]:
        if not self._zones_with_type:
            for offering in INSTANCE_TYPE_OFFERINGS["availability-zone"].get(self.region_name, []):
                self._zones_with_type.setdefault(offering["InstanceType"], []).append(offering["Location"])
        return sorted(self._zones_with_type.get(instance_type, []))

    # Orders to machines

    def terminate_instances(self, instance_ids: list[str]) -> Any:
        return self._order(instance_ids, Happening.END, self._check_termination)

    def stop_instances(self, instance_ids: list[str]) -> Any:
        return self._order(instance_ids, Happening.STOP, _check_state("stopped", "running", "stopping", "stopped"))

    def start_instances(self, instance_ids: list[str]) -> Any:
        return self._order(instance_ids, Happening.START, _check_state("started", "stopped", "pending", "running"))

    def _order(self, instance_ids: list[str], happening: Happening, check: Callable[[Any], None]) -> list[Any]:
        """Gives the order to all or, when one may not take it, to none; each with the state it had before."""
        if not instance_ids:
            raise AwsRefusalError("MissingParameter", "The request must contain the parameter InstanceId")
        instances = self.get_multi_instances_by_id(instance_ids)
        for instance in instances:
            check(instance)
        before = [(instance, _state(instance)) for instance in instances]
        for instance in instances:
            self.account.world.ask(instance.id, happening, reason="user")
        return before

    @staticmethod
    def _check_termination(instance: Any) -> None:
        if str(instance.disable_api_termination).lower() == "true":
            raise AwsRefusalError(
                "OperationNotPermitted",
                f"The instance '{instance.id}' may not be terminated. Modify its 'disableApiTermination' instance "
                "attribute and try again.",
            )

    # Listings; moto copies all reservations to find one instance

    def get_instance(self, instance_id: str) -> Any:
        newest = next(reversed(self.reservations.values()), None)  # where one is found that is just being launched
        for reservation in (self.reservation_of.get(instance_id), newest):
            for instance in reservation.instances if reservation else ():
                if instance.id == instance_id:
                    return instance
        return super().get_instance(instance_id)

    def get_multi_instances_by_id(self, instance_ids: list[str], filters: Any = None) -> list[Any]:
        if filters or not set(instance_ids) <= set(self.reservation_of):
            return super().get_multi_instances_by_id(instance_ids, filters)
        return [self.get_instance(instance_id) for instance_id in instance_ids]

    def describe_instances(self, filters: Any = None) -> Any:
        own, others = _split_filters(filters)
        return _having_token(super().describe_instances(others), own)

    def get_reservations_by_instance_ids(self, instance_ids: list[str], filters: Any = None) -> Any:
        if not set(instance_ids) <= set(self.reservation_of):
            return super().get_reservations_by_instance_ids(instance_ids, filters)  # which says what is unknown
        found: dict[str, Any] = {}
        for instance_id in instance_ids:
            reservation = self.reservation_of[instance_id]
            part = found.setdefault(reservation.id, Reservation(reservation.id, reservation.owner_id))
            part.instances.append(self.get_instance(instance_id))
        own, others = _split_filters(filters)
        return _having_token(filter_reservations(list(found.values()), others), own)

    def describe_tags(self, filters: Any = None) -> list[dict[str, str]]:
        """The tags of one resource are looked up; moto walks through all tags, for each resource that it lists."""
        ids = (filters or {}).get("resource-id", [])
        if len(filters or {}) == 1 and len(ids) == 1 and not set(ids[0]) & set("*?\\"):
            tags = self.tags.get(ids[0], {})
            kind = _resource_type(ids[0])
            return [{"resource_id": ids[0], "key": key, "value": tags[key], "resource_type": kind} for key in tags]
        return super().describe_tags(filters)


def _state(instance: Any) -> dict[str, Any]:
    return {"Name": instance.instance_state.name, "Code": instance.instance_state.code}


def _check_state(done: str, *allowed: str) -> Callable[[Any], None]:
    def check(instance: Any) -> None:
        state = instance.instance_state.name
        if state not in allowed:
            raise AwsRefusalError(
                "IncorrectInstanceState",
                f"The instance '{instance.id}' is not in a state from which it can be {done}: {state}.",
            )

    return check


def _split_filters(filters: Any) -> tuple[list[str] | None, Any]:
    """The values of the filter ``client-token``, which moto lacks, and the filters that it has."""
    others = {name: values for name, values in (filters or {}).items() if name != "client-token"}
    return (filters or {}).get("client-token"), others


def _having_token(reservations: list[Any], tokens: list[str] | None) -> list[Any]:
    if tokens is None:
        return reservations
    for reservation in reservations:
        reservation.instances = [each for each in reservation.instances if each.client_token in tokens]
    return [reservation for reservation in reservations if reservation.instances]


def _resource_type(resource_id: str) -> str:
    return str(EC2_PREFIX_TO_RESOURCE.get(get_prefix(resource_id), ""))
