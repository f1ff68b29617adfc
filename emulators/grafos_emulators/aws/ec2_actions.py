"""EC2's actions where moto's need correction; all others are moto's."""

from __future__ import annotations

import base64
from collections import Counter
from functools import partial
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.models.instance_types import INSTANCE_TYPES

from grafos_emulators.aws import dependencies, ec2_snapshots, launch_checks
from grafos_emulators.aws.elastic import ElasticActions
from grafos_emulators.aws.errors import AwsRefusalError, not_emulated
from grafos_emulators.aws.faulted import no_capacity, no_spot_capacity
from grafos_emulators.aws.makers import is_counted
from grafos_emulators.aws.pricing import PUBLISHED, spot_price
from grafos_emulators.aws.quotas import CoreQuota, limit_of, quota_for

# moto has these, and does something else than EC2 would: better none than a wrong one.
REFUSED_ACTIONS = frozenset({"ModifySpotFleetRequest", "RebootInstances"})
DEFAULT_INSTANCE_TYPE = "m1.small"  # EC2's own default, of another age


class Ec2Actions(ElasticActions):
    """One request's actions; made for each request by moto."""

    def get_current_account(self) -> str:
        """The account that ``ec2`` names; moto would also look into the environment."""
        return str(self.headers["X-Moto-Account-Id"])

    def describe_regions(self) -> ActionResult:
        """As AWS: without ``AllRegions`` or names only those that are switched on for the account."""
        answer = super().describe_regions()
        if not self._get_bool_param("AllRegions", if_none=False) and not self._get_param("RegionNames", []):
            found: Any = answer.result
            found["Regions"] = [region for region in found["Regions"] if region.opt_in_status != "not-opted-in"]
        return answer

    def run_instances(self) -> ActionResult:
        parameters = {name: str(values[0]) for name, values in self.querystring.items()}
        launch_checks.check_emulated(parameters)
        launch_checks.read_user_data(parameters.get("UserData", ""))
        count = int(self._get_param("MaxCount", 1))
        if not 1 <= int(self._get_param("MinCount", 1)) <= count:
            raise AwsRefusalError("InvalidParameterCombination", "MinCount must be at least 1 and at most MaxCount")
        self._check_type_and_image(count, spot=launch_checks.is_spot(parameters))
        self.params["MinCount"] = count  # the number that moto launches; there is always capacity for the most
        result = super().run_instances()
        reservation: Any = result.result
        for instance in reservation.instances:
            instance.client_token = parameters.get("ClientToken", "")
            instance.disable_api_termination = bool(self._get_param("DisableApiTermination", if_none=False))
        return result

    def _check_type_and_image(self, count: int, *, spot: bool) -> None:
        backend = self.ec2_backend
        image = backend.describe_images(ami_ids=[self._image_id()])[0]
        name = self._get_param("InstanceType", DEFAULT_INSTANCE_TYPE)
        known = INSTANCE_TYPES.get(name)
        if known is None:
            raise AwsRefusalError("InvalidParameterValue", f"Invalid value '{name}' for InstanceType.")
        launch_checks.check_architecture(name, known["ProcessorInfo"]["SupportedArchitectures"], image.architecture)
        launch_checks.check_offered(name, self._zone(), backend.zones_offering(name))
        self._check_room(name, count, spot=spot)
        quota = quota_for(name, spot=spot)
        if quota is not None:
            wanted, limit = count * known["VCpuInfo"]["DefaultVCpus"], limit_of(backend.account, quota)
            check = launch_checks.check_spot_quota if spot else launch_checks.check_quota
            check(wanted, self._used_vcpus(quota), limit)

    def _check_room(self, name: str, count: int, *, spot: bool) -> None:
        """Whether the zone, or any zone if none was asked for, has room for so many."""
        backend = self.ec2_backend
        capacity = backend.account.world.capacity
        fits = [
            zone
            for zone in backend.zones_offering(name)
            if capacity.fits("aws", zone, name, partial(self._running_in, zone), count)
        ]
        asked = self._zone()
        if asked not in fits and (asked is not None or not fits):
            raise no_spot_capacity() if spot else no_capacity(name, asked or "", tuple(fits))

    def _running_in(self, zone: str) -> Counter[str]:
        """How many instances of each type hold hardware in a zone."""
        return Counter(
            instance.instance_type
            for reservation in self.ec2_backend.reservations.values()
            for instance in reservation.instances
            if instance.placement.zone == zone and instance.state not in {"stopped", "terminated"}
        )

    def _image_id(self) -> str:
        image_id = self._get_param("ImageId")
        if not image_id:
            raise AwsRefusalError("MissingParameter", "The request must contain the parameter ImageId")
        return str(image_id)

    def _zone(self) -> str | None:
        """The zone that the request asks for, by name or by subnet."""
        nics = self._get_param("NetworkInterfaces", [])
        subnet_id = self._get_param("SubnetId") or next((nic["SubnetId"] for nic in nics if "SubnetId" in nic), None)
        if subnet_id:
            return str(self.ec2_backend.get_subnet(subnet_id).availability_zone)
        zone = self._get_param("Placement.AvailabilityZone")
        return str(zone) if zone else None

    def _used_vcpus(self, quota: CoreQuota) -> int:
        return sum(
            INSTANCE_TYPES[instance.instance_type]["VCpuInfo"]["DefaultVCpus"]
            for reservation in self.ec2_backend.reservations.values()
            for instance in reservation.instances
            if instance.state in {"pending", "running", "stopping", "shutting-down"}
            and (instance.lifecycle == "spot") == quota.spot
            and quota.family.match(instance.instance_type)
        )

    def _parse_block_device_mapping(self) -> list[dict[str, Any]]:
        """The volumes to make: the image's, changed and added to by the request's."""
        image = self.ec2_backend.describe_images(ami_ids=[self._image_id()])[0]
        mappings = {each["DeviceName"]: dict(each["Ebs"]) for each in image.block_device_mappings}
        for asked in self._get_param("BlockDeviceMappings", []):
            device, ebs = asked["DeviceName"], dict(asked.get("Ebs", {}))
            known = mappings.get(device, {})
            if "NoDevice" in asked:
                mappings.pop(device, None)
                continue
            if not known and not {"VolumeSize", "SnapshotId"} & set(ebs):
                raise AwsRefusalError("MissingParameter", "The request must contain the parameter size or snapshotId")
            if ebs.get("VolumeSize") and known and int(ebs["VolumeSize"]) < known["VolumeSize"]:
                raise AwsRefusalError(
                    "InvalidBlockDeviceMapping",
                    f"Volume of size {ebs['VolumeSize']}GB is smaller than snapshot '{known['SnapshotId']}', expect "
                    f"size >= {known['VolumeSize']}GB",
                )
            mappings[device] = {"DeleteOnTermination": False, **known, **ebs}
        return [{"DeviceName": device, "NoDevice": None, "Ebs": ebs} for device, ebs in mappings.items()]

    def describe_spot_price_history(self) -> ActionResult:
        types = self._get_param("InstanceTypes", [])
        region = self.ec2_backend.region_name
        history = [
            {
                "InstanceType": name,
                "ProductDescription": "Linux/UNIX",
                "SpotPrice": price,
                "AvailabilityZone": zone,
                "Timestamp": PUBLISHED,
            }
            for name in types
            if (price := spot_price(name, region))
            for zone in self.ec2_backend.zones_offering(name)
        ]
        return ActionResult({"SpotPriceHistory": history})

    def terminate_instances(self) -> ActionResult:
        return self._ordered("TerminatingInstances", self.ec2_backend.terminate_instances)

    def stop_instances(self) -> ActionResult:
        return self._ordered("StoppingInstances", self.ec2_backend.stop_instances)

    def start_instances(self) -> ActionResult:
        return self._ordered("StartingInstances", self.ec2_backend.start_instances)

    def _ordered(self, name: str, order: Any) -> ActionResult:
        self.error_on_dryrun()
        changes = [
            {
                "InstanceId": instance.id,
                "CurrentState": {"Name": instance.instance_state.name, "Code": instance.instance_state.code},
                "PreviousState": before,
            }
            for instance, before in order(self._get_param("InstanceIds", []))
        ]
        return ActionResult({name: changes})

    def get_console_output(self) -> ActionResult:
        instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
        output = self.ec2_backend.account.world.console(instance.id)
        return ActionResult({
            "InstanceId": instance.id,
            "Timestamp": instance.launch_time,
            "Output": base64.b64encode(output).decode(),
        })  # fmt: skip

    def describe_snapshots(self) -> ActionResult:
        """Moto does not look at owners."""
        answer, found = super().describe_snapshots(), self._get_param("OwnerIds", [])
        owners = {self.ec2_backend.account_id if owner == "self" else owner for owner in found}
        if owners:
            told: Any = answer.result
            told["Snapshots"] = [each for each in told["Snapshots"] if each.owner_id in owners]
        return answer

    def register_image(self) -> ActionResult:
        self.error_on_dryrun()
        order = ec2_snapshots.order_of(lambda name, default=None: self._get_param(name, default))
        return ActionResult({"ImageId": ec2_snapshots.register(self.ec2_backend, order)})

    def delete_security_group(self) -> ActionResult:
        self.error_on_dryrun()
        name = self._get_param("GroupId") or self._get_param("GroupName") or ""
        group = self.ec2_backend.get_security_group_by_name_or_id(name)
        if group is not None:
            dependencies.check_security_group(self.ec2_backend, group)
        return super().delete_security_group()

    def delete_subnet(self) -> ActionResult:
        self.error_on_dryrun()
        dependencies.check_subnet(self.ec2_backend, self._get_param("SubnetId"))
        return super().delete_subnet()

    def delete_vpc(self) -> ActionResult:
        self.error_on_dryrun()
        dependencies.check_vpc(self.ec2_backend, self._get_param("VpcId"))
        return super().delete_vpc()

    def detach_internet_gateway(self) -> ActionResult:
        self.error_on_dryrun()
        dependencies.check_detach(self.ec2_backend, self._get_param("VpcId"))
        return super().detach_internet_gateway()

    def delete_network_interface(self) -> ActionResult:
        self.error_on_dryrun()
        dependencies.check_interface(self.ec2_backend, self._get_param("NetworkInterfaceId"))
        return super().delete_network_interface()


def check_emulated(action: str, known: frozenset[str], snake_case: str) -> None:
    """Refuses an action that is none of EC2's, that moto lacks or gets wrong, or that makes what nobody counts."""
    if action in REFUSED_ACTIONS or snake_case not in known or not is_counted(action):
        raise not_emulated(f"ec2:{action}")
