"""Security groups and their rules: which addresses may reach a machine's port."""

from __future__ import annotations

from typing import Any

from grafos_connectors.aws import describe, tags
from grafos_connectors.aws.client import AwsCalls
from grafos_connectors.aws.kind_calls import KindCalls
from grafos_connectors.aws.network import in_place
from grafos_connectors.contract import CloudError, Desired, Kind, Ref


def create_firewall(calls: AwsCalls, desired: Desired, _token: str) -> str:
    """Nothing may come in through a new one, everything may go out. Its name is unique in its network."""
    network = desired.needs["network"]
    try:
        answer = calls.change(
            "create_security_group",
            desired.region,
            GroupName=desired.name,
            Description=desired.inputs["description"],
            VpcId=network,
            TagSpecifications=tags.specifications(desired, "security-group"),
        )
    except CloudError as refusal:
        if refusal.cloud_code != "InvalidGroup.Duplicate":
            raise
        place = ({"Name": "vpc-id", "Values": [network]}, {"Name": "group-name", "Values": [desired.name]})
        groups = describe.search(calls, Kind.FIREWALL, desired.region, *place)
        return in_place(desired, refusal, [found for _, found in groups])
    return str(answer["GroupId"])


def create_rule(calls: AwsCalls, desired: Desired, _token: str) -> str:
    """Lets TCP from ``cidr`` in to ``port``."""
    group = desired.needs["firewall"]
    port, cidr = desired.inputs["port"], desired.inputs["cidr"]
    permission = {
        "IpProtocol": "tcp",
        "FromPort": port,
        "ToPort": port,
        "IpRanges": [{"CidrIp": cidr, "Description": desired.name}],
    }
    try:
        answer = calls.change(
            "authorize_security_group_ingress",
            desired.region,
            GroupId=group,
            IpPermissions=[permission],
            TagSpecifications=tags.specifications(desired, "security-group-rule"),
        )
    except CloudError as refusal:
        if refusal.cloud_code != "InvalidPermission.Duplicate":
            raise
        return _existing_rule(calls, desired, refusal)
    return str(answer["SecurityGroupRules"][0]["SecurityGroupRuleId"])


def _existing_rule(calls: AwsCalls, desired: Desired, refusal: CloudError) -> str:
    group = {"Name": "group-id", "Values": [desired.needs["firewall"]]}
    rules = describe.search(calls, Kind.FIREWALL_RULE, desired.region, group)
    same = [found for item, found in rules if _lets_in(item, desired)]
    return in_place(desired, refusal, same)


def _lets_in(item: describe.Item, desired: Desired) -> bool:
    wanted: tuple[Any, ...] = (False, "tcp", desired.inputs["port"], desired.inputs["cidr"])
    return (item.get("IsEgress"), item.get("IpProtocol"), item.get("FromPort"), item.get("CidrIpv4")) == wanted


def delete_firewall(calls: AwsCalls, ref: Ref) -> None:
    calls.change("delete_security_group", ref.region, GroupId=ref.id)


def delete_rule(calls: AwsCalls, ref: Ref) -> None:
    pair = describe.by_id(calls, Kind.FIREWALL_RULE, ref.id, ref.region)
    if pair is None:
        raise CloudError("cloud_not_found", f"The rule {ref.id} does not exist.", where=f"aws {ref.region}")
    calls.change("revoke_security_group_ingress", ref.region, GroupId=pair[0]["GroupId"], SecurityGroupRuleIds=[ref.id])


FIREWALL_KINDS: dict[Kind, KindCalls] = {
    Kind.FIREWALL: KindCalls(delete_firewall, create_firewall),
    Kind.FIREWALL_RULE: KindCalls(delete_rule, create_rule),
}
