"""Network security groups and their rules, with the six default rules that each group shows."""

from __future__ import annotations

from typing import Any, ClassVar

from grafos_emulators.azure.calls import ArmCall
from grafos_emulators.azure.errors import ArmError, not_found
from grafos_emulators.azure.kind import Ask, Kind
from grafos_emulators.azure.operations import Operation
from grafos_emulators.azure.places import Place
from grafos_emulators.azure.store import Resource
from grafos_emulators.azure.type_names import SECURITY_GROUP, SECURITY_RULE
from grafos_emulators.faults import Fault

LEAST_PRIORITY, GREATEST_PRIORITY = 100, 4096
_USERS = ("Microsoft.Network/networkInterfaces", "Microsoft.Network/virtualNetworks/subnets")
_DEFAULTS = (
    ("AllowVnetInBound", "VirtualNetwork", "VirtualNetwork", "Allow", "Inbound", 65000),
    ("AllowAzureLoadBalancerInBound", "AzureLoadBalancer", "*", "Allow", "Inbound", 65001),
    ("DenyAllInBound", "*", "*", "Deny", "Inbound", 65500),
    ("AllowVnetOutBound", "VirtualNetwork", "VirtualNetwork", "Allow", "Outbound", 65000),
    ("AllowInternetOutBound", "*", "Internet", "Allow", "Outbound", 65001),
    ("DenyAllOutBound", "*", "*", "Deny", "Outbound", 65500),
)


class SecurityGroups(Kind):
    type: ClassVar[str] = SECURITY_GROUP
    model: ClassVar[str] = "network.NetworkSecurityGroup"

    def accept(self, ask: Ask) -> dict[str, Any]:
        properties = dict(ask.body.get("properties") or {})
        for rule in properties.get("securityRules") or []:
            check_rule(rule.get("properties") or {}, str(rule.get("name", "")))
        return {**ask.body, "properties": properties}

    def begin_make(self, resource: Resource, operation: Operation, fault: Fault | None) -> None:
        self._take_out_rules(resource)
        super().begin_make(resource, operation, fault)

    def settle(self, resource: Resource, operation: Operation) -> None:
        self._take_out_rules(resource)
        super().settle(resource, operation)
        for rule in self.account.store.below(resource.id):
            rule.state = "Succeeded"

    def _take_out_rules(self, group: Resource) -> None:
        """Rules that came with the group become resources of their own."""
        for rule in group.properties.pop("securityRules", None) or []:
            words = ("networkSecurityGroups", group.name, "securityRules", rule["name"])
            place = Place(group.place.subscription, group.place.group, "Microsoft.Network", words)
            known = self.account.store.get(place.id)
            if known is None:
                body = {"properties": rule["properties"]}
                self.account.new_resource(place, SECURITY_RULE, group.location, body)
            else:
                self.account.store.give(known, {"properties": rule["properties"]})

    def view(self, resource: Resource) -> dict[str, Any]:
        properties = {
            **{key: value for key, value in resource.properties.items() if key != "securityRules"},
            "resourceGuid": resource.guid,
            "securityRules": [_rule_view(rule) for rule in self.account.store.below(resource.id)],
            "defaultSecurityRules": [_default_rule(resource, *each) for each in _DEFAULTS],
        }
        for name, kind in zip(("networkInterfaces", "subnets"), _USERS, strict=True):
            users = [{"id": each.id} for each in self.account.store.who_names(resource.id, kind)]
            if users:
                properties[name] = users
        return {**resource.body, "properties": properties}

    def check_unused(self, resource: Resource) -> None:
        users = [each.id for each in self.account.store.who_names(resource.id, *_USERS)]
        if users:
            raise ArmError(
                400,
                "InUseNetworkSecurityGroupCannotBeDeleted",
                f"Network security group {resource.id} cannot be deleted because it is in use by the following "
                f"resources: {', '.join(users)}. In order to delete the Network security group, remove the association "
                "with the resource(s). To learn how to do this, see aka.ms/deletensg.",
            )


class SecurityRules(Kind):
    type: ClassVar[str] = SECURITY_RULE
    model: ClassVar[str] = "network.SecurityRule"

    def location_of(self, call: ArmCall, body: dict[str, Any]) -> str:  # noqa: ARG002  a rule is where its group is
        return self._group(call).location

    def accept(self, ask: Ask) -> dict[str, Any]:
        properties = dict(ask.body.get("properties") or {})
        check_rule(properties, ask.call.place.name)
        for other in self.account.store.below(self._group(ask.call).id):
            same = all(other.properties[key] == properties[key] for key in ("priority", "direction"))
            if other is not ask.old and same:
                raise ArmError(
                    400,
                    "SecurityRuleConflict",
                    f"Security rule {ask.call.place.name} conflicts with rule {other.name}. Rules cannot have the same "
                    "Priority and Direction.",
                )
        return {"properties": properties}

    def view(self, resource: Resource) -> dict[str, Any]:
        return {"properties": _rule_view(resource)["properties"]}

    def _group(self, call: ArmCall) -> Resource:
        group = self.account.store.get(call.place.parent.id)
        if group is None:
            raise not_found(SECURITY_GROUP, call.place.names[0], call.place.group)
        return group


def check_rule(properties: dict[str, Any], name: str) -> None:
    """Refuses a rule without what each rule needs, or with a priority that is none."""
    for field in ("protocol", "access", "direction", "priority"):
        if properties.get(field) is None:
            raise ArmError(400, "InvalidRequestFormat", f"The security rule '{name}' has no {field}.")
    if not LEAST_PRIORITY <= properties["priority"] <= GREATEST_PRIORITY:
        raise ArmError(
            400,
            "SecurityRuleInvalidPriority",
            f"Security rule has invalid Priority. Value provided: {properties['priority']} Allowed range "
            f"{LEAST_PRIORITY}-{GREATEST_PRIORITY}.",
        )


def _rule_view(rule: Resource) -> dict[str, Any]:
    properties = {**rule.properties, "provisioningState": rule.state}
    return {"id": rule.id, "name": rule.name, "type": SECURITY_RULE, "etag": rule.etag, "properties": properties}


def _default_rule(
    group: Resource, name: str, source: str, destination: str, access: str, direction: str, priority: int
) -> dict[str, Any]:
    properties = {
        "provisioningState": "Succeeded",
        "description": f"{access} {direction.lower()}: one of the default rules",
        "protocol": "*",
        "sourcePortRange": "*",
        "destinationPortRange": "*",
        "sourceAddressPrefix": source,
        "destinationAddressPrefix": destination,
        "access": access,
        "priority": priority,
        "direction": direction,
    }
    kind = "Microsoft.Network/networkSecurityGroups/defaultSecurityRules"
    place = f"{group.id}/defaultSecurityRules/{name}"
    return {"id": place, "name": name, "type": kind, "etag": group.etag, "properties": properties}
